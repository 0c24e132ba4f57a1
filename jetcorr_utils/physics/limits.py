"""What limits the gain: boosted trees on jet-level variables, and oracles that are told what no detector knows.

- ``trees``: gradient-boosted trees (scikit-learn) on the jet's kinematics and composition. What a network gains beyond
  them is what the particle cloud knows and jet-level variables do not.
- ``trees_kinematics``: the same without the composition; it shows how much is owed to a better parametrisation alone.
- ``oracle_flavour``: the standard correction with a residual correction of its own for each true flavour.
- ``oracle_fractions``: the trees, told also the true shares of charged, electromagnetic and neutral hadronic energy.

All have the same target as the networks, log(gen pt / pt), and the same split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pandas as pd
import uproot
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..data.dataset import CloudDataset
from ..data.features import start_pt
from ..errors import InputError
from ..jets.columns import TREE
from .binning import FLAVOURS
from .closure import apply_closure, derive_closure
from .explore_particles import PARTICLE_CLASSES
from .predictions import predictions_table

__all__ = [
    "LIMITS", "add_corrections", "add_limits", "composition", "flavour_oracle", "generator_fractions", "train_trees",
]  # fmt: skip

#: what `add_limits` adds, in the order in which figures show it
LIMITS = ("trees_kinematics", "trees", "oracle_flavour", "oracle_fractions")

#: what identifies a jet
IDENTIFIERS = ["run", "lumi", "event", "jetPtOrder", "jetRawPt"]

#: edges in gen pt (GeV) of the flavour oracle, above what the cut on the reconstructed pt distorts
FLAVOUR_EDGES = np.geomspace(45.0, 3500.0, 14)

#: fewest jets in a bin of the flavour oracle
MIN_JETS = 300

#: variables of a jet that say nothing of what is inside it
KINEMATICS = ("jetPt", "jetEta", "jetArea", "rhoAll", "PV_npvsGood")


def add_limits(
    predictions: pd.DataFrame,
    dataset: CloudDataset,
    *,
    files: Sequence[str | Path] = (),
    max_jets: int | None = 200_000,
    progress: bool = True,
) -> pd.DataFrame:
    """Add trees and oracles to the predictions for the test jets.

    Parameters
    ----------
    predictions
        Test jets, see `load_predictions`.
    dataset
        All jets of the study; its splits are those of the networks.
    files
        The JetNTuple files of the study, for the true energy fractions; without them that oracle is left out.
    max_jets
        Train the trees on at most this many jets.

    Returns
    -------
    The predictions with ``<name>_pt`` and ``<name>_factor`` for the names in `LIMITS`.
    """
    train, test = dataset.split("train"), dataset.split("test")
    if max_jets is not None and len(train) > max_jets:
        train = train.slice(0, max_jets)
    kinematics = [_kinematics(part) for part in (train, test)]
    inside = [composition(part) for part in (train, test)]
    inputs = {
        "trees_kinematics": kinematics,
        "trees": [np.hstack(pair) for pair in zip(kinematics, inside, strict=True)],
    }
    if files:
        fractions = generator_fractions(files, progress=progress)
        told = [_aligned(fractions, part) for part in (train, test)]
        inputs["oracle_fractions"] = [np.hstack(parts) for parts in zip(kinematics, told, strict=True)]
    corrections = {}
    for name, (columns, test_columns) in tqdm(inputs.items(), desc="trees", disable=not progress):
        trees = train_trees(columns, train.target)
        corrections[name] = np.exp(trees.predict(test_columns)) * start_pt(test.table) / test.table["jetPt"]
    result = add_corrections(predictions, test.table, corrections)
    return flavour_oracle(result, predictions_table(train.table, {}))


def train_trees(columns: NDArray[np.float64], target: NDArray[np.float32]) -> Any:
    """Gradient-boosted trees that minimise the absolute error of the target, stopped on a tenth of the jets.

    Parameters
    ----------
    columns
        (N, F) variables.
    target
        (N,) log(gen pt / pt); jets where it is not finite are left out.

    Returns
    -------
    A fitted ``sklearn.ensemble.HistGradientBoostingRegressor``.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    known = np.isfinite(target)
    trees = HistGradientBoostingRegressor(
        loss="absolute_error", learning_rate=0.08, max_iter=400, max_leaf_nodes=48, min_samples_leaf=60,
        early_stopping=True, validation_fraction=0.1, n_iter_no_change=20, random_state=1,
    )  # fmt: skip
    return trees.fit(columns[known], target[known])


def composition(dataset: CloudDataset) -> NDArray[np.float64]:
    """What is inside the jets, at jet level (B, 19).

    The jet columns beyond kinematics; for each particle class its share of the clustered pt, its number, and the pt of
    its leading particle over the jet's; the share of charged particles that come from pileup vertices.
    """
    column = {name: dataset.particle(name).astype(np.float64) for name in dataset.columns}
    inside = column["PF_fromAK4Jet"] == 1
    pt, jets = np.where(inside, column["PF_pT"], 0.0), len(dataset)
    jet = np.repeat(np.arange(jets), dataset.multiplicity)
    total = np.maximum(np.bincount(jet, pt, jets), 1e-6)
    result: list[NDArray] = [_column(dataset, name) for name in dataset.jet_columns if name not in KINEMATICS]
    for codes, _, _ in PARTICLE_CLASSES.values():
        chosen = np.isin(np.abs(column["PF_id"]), codes)
        result.append(np.bincount(jet, np.where(chosen, pt, 0), jets) / total)
        if codes[0] in (211, 22, 130):
            result.append(np.bincount(jet, chosen & inside, jets))
            result.append(_largest(np.where(chosen, pt, 0), dataset.ptr) / total)
    pileup = np.isin(np.abs(column["PF_id"]), (11, 13, 211)) & (column["PF_fromPV"] < 2)
    result.append(np.bincount(jet, np.where(pileup, pt, 0), jets) / total)
    return np.stack(result, axis=1)


def generator_fractions(files: Sequence[str | Path], *, progress: bool = True) -> pd.DataFrame:
    """True shares of charged, electromagnetic and neutral hadronic pt of the generator jets.

    Returns
    -------
    DataFrame with a jet's identifiers and ``charged, electromagnetic, neutral``.

    Raises
    ------
    InputError
        If a file has no generator particles.
    """
    tables = []
    for path in tqdm(list(files), desc="generator particles", disable=not progress):
        with uproot.open(path) as file:
            names = [*IDENTIFIERS, "genJetPF_pT", "genJetPF_id"]
            tree = file.get(TREE)
            if tree is None or any(name not in tree for name in names):
                raise InputError(f"{path}: no generator particles ({TREE} with genJetPF_pT and genJetPF_id)")
            for chunk in tree.iterate(names, step_size="50 MB"):
                tables.append(_generator_table(chunk))
    return pd.concat(tables, ignore_index=True)


def flavour_oracle(predictions: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """The predictions with ``oracle_flavour``: the standard correction closed for each true flavour by itself.

    The closure is derived on `others`, any jets but the test jets. Flavours with fewer than `MIN_JETS` of them in the
    barrel or the endcap, and jets without a label, keep the standard correction.
    """
    pt = predictions["jetPt"].to_numpy(dtype=np.float64).copy()
    for code in FLAVOURS:
        jets, known = predictions[predictions["flavour"] == code], others[others["flavour"] == code]
        try:
            corrections = derive_closure(known, ["standard"], gen_pt_edges=FLAVOUR_EDGES, min_jets=MIN_JETS)
        except InputError:
            continue
        pt[jets.index] = apply_closure(jets, corrections)["standard_closed_pt"]
    return predictions.assign(oracle_flavour_pt=pt, oracle_flavour_factor=pt / predictions["jetPt"])


def add_corrections(
    predictions: pd.DataFrame, table: Mapping[str, NDArray], factors: Mapping[str, NDArray[np.float64]]
) -> pd.DataFrame:
    """The predictions with further corrections, matched by the jets' identifiers.

    Parameters
    ----------
    predictions
        Test jets.
    table
        Identifiers of the jets (B,) that the factors belong to, in any order.
    factors
        For each name the factor on the standard-corrected pt (B,).

    Raises
    ------
    InputError
        If a jet of the predictions is not in the table.
    """
    other = pd.DataFrame(_identities(table) | {f"{name}_factor": values for name, values in factors.items()})
    keys = pd.DataFrame(_identities(predictions))
    matched = keys.merge(other.drop_duplicates(IDENTIFIERS), on=IDENTIFIERS, how="left", validate="many_to_one")
    added: dict[str, NDArray[np.float64]] = {}
    for name in factors:
        factor = matched[f"{name}_factor"].to_numpy()
        if np.isnan(factor).any():
            raise InputError(f"{name}: {int(np.isnan(factor).sum())} jets of the predictions are not among its jets")
        added |= {f"{name}_pt": factor * predictions["jetPt"].to_numpy(dtype=np.float64), f"{name}_factor": factor}
    return predictions.assign(**added)


def _identities(jets: Any) -> dict[str, NDArray]:
    """The columns that tell jets apart; copies of a collision (``data.simulation.reuse``) differ in raw pt alone."""
    kinds = {name: np.float32 if name == "jetRawPt" else np.int64 for name in IDENTIFIERS}
    return {name: np.asarray(jets[name]).astype(kind) for name, kind in kinds.items()}


def _generator_table(chunk: ak.Array) -> pd.DataFrame:
    pt, pdg = chunk["genJetPF_pT"], abs(chunk["genJetPF_id"])
    electromagnetic = (pdg == 22) | (pdg == 11)
    neutral = (pdg == 130) | (pdg == 310) | (pdg == 2112) | (pdg == 3122) | (pdg == 3322) | (pdg == 3212)
    total = np.maximum(ak.to_numpy(ak.sum(pt, axis=1)).astype(np.float64), 1e-6)
    table = _identities(chunk)
    table["electromagnetic"] = ak.to_numpy(ak.sum(pt[electromagnetic], axis=1)) / total
    table["neutral"] = ak.to_numpy(ak.sum(pt[neutral], axis=1)) / total
    table["charged"] = 1 - table["electromagnetic"] - table["neutral"]
    return pd.DataFrame(table)


def _aligned(fractions: pd.DataFrame, dataset: CloudDataset) -> NDArray[np.float64]:
    """The fractions (B, 3) of the jets of a dataset."""
    keys = pd.DataFrame(_identities(dataset.table))
    matched = keys.merge(fractions.drop_duplicates(IDENTIFIERS), on=IDENTIFIERS, how="left")
    return matched[["charged", "electromagnetic", "neutral"]].to_numpy()


def _kinematics(dataset: CloudDataset) -> NDArray[np.float64]:
    return np.stack([_column(dataset, name) for name in KINEMATICS], axis=1)


def _column(dataset: CloudDataset, name: str) -> NDArray[np.float64]:
    return dataset.jet(name).astype(np.float64)


def _largest(values: NDArray[np.float64], ptr: NDArray[np.int64]) -> NDArray[np.float64]:
    """The largest value (B,) of each jet, 0 for a jet without particles."""
    result = np.zeros(len(ptr) - 1)
    filled = np.diff(ptr) > 0
    if filled.any():
        result[filled] = np.maximum.reduceat(values, ptr[:-1][filled])
    return result
