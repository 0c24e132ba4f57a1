"""The tree `jets` of a predictions file: identifiers of the jets, and what each model makes of them.

Written chunk by chunk, so that memory stays constant; the file appears when it is complete, or not at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import uproot
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..config import SplitSettings
from ..data.dataset import CloudDataset
from ..data.features import FILE_PT
from ..data.split import require_unseen
from ..errors import InputError
from ..files import atomic_path
from ..inference.predictor import Predictor, taken_by
from ..jets.regressions import regressed, regressions_in

__all__ = [
    "FILE_COLUMN", "PredictionsWriter", "corrected_columns", "model_columns", "predictions_file", "regression_columns",
    "write_predictions",
]  # fmt: skip

TREE = "jets"
IDENTIFIERS = (
    "run", "lumi", "event", "jetPtOrder", "jetPt", "jetEta", "jetRawPt", "genJetPt", "genJetEta", "hadronFlav",
    "partonFlav", "rhoAll", "PV_npvsGood", "eventWeight",
)  # fmt: skip
ALSO = ("jetArea", "QG_mult", "jetPhi")
"""Further columns of a data set's jets: for L1 alone, as a measure of the multiplicity, and for the mass of dijets."""
CHUNK = 20_000
"""Jets in memory at a time."""
FILE_COLUMN = "file_pt"
"""The pt that jets have in their file, GeV, where they were corrected anew."""

Columns = dict[str, NDArray[Any]]


class PredictionsWriter:
    """Appends chunks of jets to the tree `jets` of an open ROOT file."""

    def __init__(self, file: uproot.WritableDirectory) -> None:
        self._file = file
        self._tree: Any = None
        self.jets = 0

    def append(self, columns: Columns) -> None:
        """Add jets; every chunk has the same columns, `(B,)` each."""
        if self._tree is None:
            self._tree = self._file.mktree(TREE, {name: values.dtype for name, values in columns.items()})
        self._tree.extend(columns)
        self.jets += len(next(iter(columns.values())))


@contextlib.contextmanager
def predictions_file(out: str | Path) -> Iterator[PredictionsWriter]:
    """A writer for the file `out`, which appears when the block ends without an error."""
    with atomic_path(out) as temporary, uproot.recreate(temporary) as file:
        yield PredictionsWriter(file)


def corrected_columns(
    name: str, pt: NDArray, mass: NDArray, log_factor: NDArray, sigma: NDArray, valid: NDArray | None = None
) -> Columns:
    """The columns of one model.

    Parameters
    ----------
    name
        The model.
    pt, mass
        `(B,)`, standard-corrected pt and mass of the jets, GeV.
    log_factor, sigma
        `(B,)`, the model's predictions.
    valid
        `(B,)`, where to use them; elsewhere the factor is 1 and the resolution is not a number.

    Returns
    -------
    dict
        ``<name>_pt``, ``<name>_mass`` (GeV), ``<name>_factor`` and ``<name>_sigma`` (relative), float32.
    """
    factor = np.exp(log_factor.astype(np.float64))
    if valid is not None:
        factor, sigma = np.where(valid, factor, 1.0), np.where(valid, sigma, np.nan)
    columns = {"pt": pt * factor, "mass": mass * factor, "factor": factor, "sigma": sigma}
    return {f"{name}_{key}": np.asarray(values, dtype=np.float32) for key, values in columns.items()}


def model_columns(
    name: str,
    jets: Mapping[str, Any],
    mass: NDArray,
    log_factor: NDArray,
    sigma: NDArray,
    metadata: Mapping[str, str],
    valid: NDArray | None = None,
) -> Columns:
    """The columns of a network, which may correct the standard pt or the raw one.

    Parameters
    ----------
    name
        The model.
    jets
        Columns ``jetPt`` and ``jetRawPt``, GeV, `(B,)`.
    mass
        `(B,)`, standard-corrected, GeV.
    log_factor, sigma
        `(B,)`, the model's predictions.
    metadata
        What it notes of itself.
    valid
        As of `corrected_columns`.

    Returns
    -------
    dict
        Those of `corrected_columns`. Of a model that corrects the raw pt also, by the names that NanoAOD has for such,
        ``<name>RegPtRawCorr``, its factor on the raw pt, or ``<name>RegPtRawCorrNeutrino`` where its target includes
        neutrinos (the whole factor, as of UParT), and ``<name>RegPtRawRes``, the resolution over the raw pt.
    """
    pt, raw = (np.asarray(jets[column], dtype=np.float64) for column in ("jetPt", "jetRawPt"))
    if metadata.get("target") != "raw":
        return corrected_columns(name, pt, mass, log_factor, sigma, valid)
    corr = np.exp(log_factor.astype(np.float64))
    what = "CorrNeutrino" if metadata.get("neutrinos") == "with" else "Corr"
    nano = {f"{name}RegPtRaw{what}": corr, f"{name}RegPtRawRes": sigma * corr}
    columns = corrected_columns(name, pt, mass, np.log(corr * raw / pt), sigma, valid)
    return columns | {column: np.asarray(values, dtype=np.float32) for column, values in nano.items()}


def regression_columns(jets: Any, mass: NDArray, *, neutrinos: bool = False) -> Columns:
    """The columns of CMS's own regressions, as of models, where the jets have them; arguments as of `regressed`."""
    names = getattr(jets, "fields", None) or list(jets)
    columns: Columns = {}
    for name in regressions_in(names):
        factor, sigma = regressed(jets, name, neutrinos=neutrinos)
        columns |= corrected_columns(name, np.asarray(jets["jetPt"]), mass, np.log(factor), sigma)
    return columns


def write_predictions(
    dataset: CloudDataset,
    predictors: Mapping[str, Predictor],
    out: str | Path,
    *,
    batch_size: int = 1024,
    progress: bool = True,
) -> int:
    """Write what the models make of a data set's jets, in its order.

    Parameters
    ----------
    dataset
        The jets, for example ``clouds.split("test")``.
    predictors
        By the name that their columns get.
    out
        The ROOT file to write.
    batch_size
        Jets in a request.
    progress
        Whether to show a progress bar.

    Returns
    -------
    int
        The number of jets written.

    Raises
    ------
    InputError
        If a model takes features that the data set does not have, corrects another pt than these jets are meant for, or
        may have been trained on its events: jets of a study are compared with the split that is recorded in the model,
        see `require_unseen`.
    """
    origin = dataset.origin or {}
    neutrinos = bool(origin.get("neutrinos"))
    for predictor in predictors.values():  # errors before anything is written
        taken_by(predictor, dataset)
        if origin and predictor.metadata.get("target", "corrected") != origin.get("target", "corrected"):
            raise InputError(f"model {predictor.name}: corrects another pt than data.target says; train it again")
        if dataset.origin is not None:
            known = predictor.metadata.get("split")
            trained = SplitSettings.model_validate_json(known) if known else None
            require_unseen(predictor.name, trained, SplitSettings.model_validate(dataset.origin["split"]))
    with (
        predictions_file(out) as writer,
        tqdm(total=len(dataset), unit="jet", desc="predictions", disable=not progress) as bar,
    ):
        for start in range(0, len(dataset), CHUNK):
            chunk = dataset.slice(start, min(start + CHUNK, len(dataset)))
            kept = (*IDENTIFIERS, *ALSO)
            columns = {key: np.asarray(chunk.table[key]) for key in kept if key in chunk.table}
            mass = np.asarray(chunk.table["jetMass"])
            columns |= {FILE_COLUMN: np.asarray(chunk.table[FILE_PT])} if FILE_PT in chunk.table else {}
            columns |= regression_columns(chunk.table, mass, neutrinos=neutrinos)
            for name, predictor in predictors.items():
                answers = predictor.predict(taken_by(predictor, chunk), batch_size=batch_size)
                columns |= model_columns(name, chunk.table, mass, *answers, predictor.metadata)
            writer.append(columns)
            bar.update(len(chunk))
        return writer.jets
