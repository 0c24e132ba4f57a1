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
from ..data.split import require_unseen
from ..files import atomic_path
from ..inference.predictor import Predictor, taken_by

__all__ = ["PredictionsWriter", "corrected_columns", "predictions_file", "write_predictions"]

TREE = "jets"
IDENTIFIERS = (
    "run", "lumi", "event", "jetPtOrder", "jetPt", "jetEta", "jetRawPt", "genJetPt", "genJetEta", "hadronFlav",
    "partonFlav", "rhoAll", "PV_npvsGood", "eventWeight",
)  # fmt: skip
ALSO = ("jetArea", "QG_mult", "jetPhi")
"""Further columns of a data set's jets: for L1 alone, as a measure of the multiplicity, and for the mass of dijets."""
CHUNK = 20_000
"""Jets in memory at a time."""

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
        If a model takes features that the data set does not have, or may have been trained on its events: jets of a
        study are compared with the split that is recorded in the model, see `require_unseen`.
    """
    for predictor in predictors.values():  # errors before anything is written
        taken_by(predictor, dataset)
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
            pt, mass = chunk.jet("jetPt"), chunk.jet("jetMass")
            for name, predictor in predictors.items():
                inputs = taken_by(predictor, chunk)
                columns |= corrected_columns(name, pt, mass, *predictor.predict(inputs, batch_size=batch_size))
            writer.append(columns)
            bar.update(len(chunk))
        return writer.jets
