"""Reading predictions.root: the test jets with what each model made of them.

The table is a pandas DataFrame with one row a jet. A *correction* is one way to state a jet's pt: ``raw`` (before any
correction), ``l1`` (after L1 alone, see `steps`), ``standard`` (L1 + L2L3), ``file`` (that of the file, where the
standard one was made anew) and each model by its name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import uproot
from numpy.typing import ArrayLike, NDArray

from ..data.features import start_pt
from ..data.remote import is_remote
from ..errors import InputError
from ..files import refuse_special
from ..jets.flavours import paper_flavour

__all__ = [
    "JETS", "REQUIRED", "corrected_pt", "load_predictions", "model_names", "predictions_table", "predictions_tree",
    "pt_branch", "response",
]  # fmt: skip

#: the tree of a predictions file
JETS = "jets"

#: branches that every predictions file has
REQUIRED = (
    "run", "lumi", "event", "jetPtOrder", "jetPt", "jetEta", "jetRawPt", "genJetPt", "genJetEta", "hadronFlav",
    "partonFlav", "rhoAll",
)  # fmt: skip


def predictions_table(
    table: Mapping[str, ArrayLike], models: Mapping[str, tuple[ArrayLike, ArrayLike]]
) -> pd.DataFrame:
    """Predictions in memory, as `load_predictions` would read them from a file.

    Parameters
    ----------
    table
        The jets' identifiers and labels by branch name, for example ``CloudDataset.table``.
    models
        For each model its log(correction factor) (N,) and sigma (N,).
    """
    columns = {name: np.asarray(values) for name, values in table.items()}
    for model, (log_factor, sigma) in models.items():
        factor = np.exp(np.asarray(log_factor, dtype=np.float64))
        pt = factor * start_pt(columns)
        columns |= {f"{model}_pt": pt, f"{model}_factor": pt / columns["jetPt"]}
        columns[f"{model}_sigma"] = np.asarray(sigma, dtype=np.float64)
    return check_predictions(pd.DataFrame(columns))


def load_predictions(path: str | Path) -> pd.DataFrame:
    """Read the test jets and their predictions.

    Parameters
    ----------
    path
        A predictions.root file as the correction of files writes it.

    Returns
    -------
    DataFrame with the tree's branches, those of `REQUIRED` and ``<model>_pt``, ``<model>_factor``, ``<model>_sigma``
    for each model (pt in GeV), and ``flavour``, the paper's label. Jets without a generator jet are left out.

    Raises
    ------
    InputError
        If the file cannot be read, lacks the tree or a branch, or has no jet with a generator jet.
    """
    with predictions_tree(path) as tree:
        table = pd.DataFrame(tree.arrays(library="np"))
    return check_predictions(table, str(path))


@contextlib.contextmanager
def predictions_tree(path: str | Path) -> Iterator[uproot.TTree]:
    """The tree of a predictions file, which may be at a distance, to be read within the block.

    Raises
    ------
    InputError
        If the file cannot be read, or lacks the tree.
    """
    if not is_remote(path):
        refuse_special(Path(path))  # at a pipe one would wait for ever
    try:
        with uproot.open({str(path): None}) as file:  # a colon belongs to the name
            if JETS not in file:
                found = ", ".join(file.keys(cycle=False)) or "nothing"
                raise InputError(f"{path}: no tree {JETS!r} in it, found {found}")
            yield file[JETS]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable ROOT file: {' '.join(str(error).split())[:120]}") from None


def check_predictions(table: pd.DataFrame, where: str = "predictions") -> pd.DataFrame:
    """The table with its ``flavour`` and without jets that have no generator jet; raises InputError if unusable."""
    missing = [name for name in REQUIRED if name not in table]
    if missing:
        raise InputError(f"{where}: branch {missing[0]} is missing; predictions have {', '.join(REQUIRED)}")
    matched = (table["genJetPt"] > 0).to_numpy()
    if not matched.any():
        raise InputError(f"{where}: no jet has a generator jet (genJetPt > 0), so no response can be measured")
    table = table[matched].reset_index(drop=True)
    return table.assign(flavour=paper_flavour(table["hadronFlav"], table["partonFlav"]))


def model_names(predictions: pd.DataFrame) -> list[str]:
    """The models, which have a ``_pt`` and a ``_sigma`` branch, in the order of the table."""
    names = [name.removesuffix("_pt") for name in predictions.columns if name.endswith("_pt")]
    return [name for name in names if f"{name}_sigma" in predictions]


def pt_branch(correction: str) -> str:
    """The branch that has the jet pt after a correction.

    >>> pt_branch("standard"), pt_branch("pfn")
    ('jetPt', 'pfn_pt')
    """
    return {"raw": "jetRawPt", "standard": "jetPt"}.get(correction, f"{correction}_pt")


def corrected_pt(predictions: pd.DataFrame, correction: str) -> NDArray[np.float64]:
    """Jet pt, GeV (N,), after the correction named ``raw``, ``standard`` or by a model.

    Raises
    ------
    InputError
        If the predictions have no such correction.
    """
    column = pt_branch(correction)
    if column not in predictions:
        known = ", ".join(["raw", "standard", *model_names(predictions)])
        raise InputError(f"predictions: no correction {correction!r}, there are {known}")
    return predictions[column].to_numpy(dtype=np.float64)


def response(predictions: pd.DataFrame, correction: str) -> NDArray[np.float64]:
    """Corrected pt over generator pt (N,)."""
    return corrected_pt(predictions, correction) / predictions["genJetPt"].to_numpy(dtype=np.float64)
