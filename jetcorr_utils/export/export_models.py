"""Export all models of a run into its model repository."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import onnx
import pandas as pd

from ..config import Study
from ..data import load_clouds
from ..data.dataset import CloudDataset
from ..data.drift import summarise
from ..data.ranges import factor_range, training_range
from ..errors import MissingStageError
from ..files import fingerprint, scratch_folder
from ..jets.columns import Features, candidates_of
from ..run import RunFolder
from ..training import load_model, load_result
from ..training.checkpoint import CHECKPOINT, require_same_data
from .torch_to_onnx import check_parity, export_model, operators
from .triton_releases import first_release
from .triton_repository import add_model

__all__ = ["best_checkpoint", "export_run"]

PARITY_JETS = 1000


def best_checkpoint(study: Study, run: RunFolder, name: str, *, tuned: bool = True) -> Path:
    """The folder of the better network of a model's name, by validation error: the trained one, or the tuned one.

    Not `tuned`: the trained one, with the settings that the study has.
    """
    folders = [run.model(name)]
    if tuned and study.tuning.model == name:
        folders.append(run.tuning / "best")
    trained = {folder: load_result(folder).validation_mae for folder in folders if (folder / CHECKPOINT).is_file()}
    if not trained:
        raise MissingStageError(f"model/{name}/checkpoint.pt is not in {run.path}: run notebook 02_gnn_training first")
    return min(trained, key=trained.__getitem__)


def export_run(study: Study, run: RunFolder) -> pd.DataFrame:
    """Write the best network of each of the study's models as version 1 of a model in the run's repository.

    Returns
    -------
    DataFrame
        One row a model: ``model``, ``from`` (folder of its checkpoint), ``parameters``, ``kilobytes``, ``nodes`` of
        the graph, ``opset``, ``triton`` (the oldest release of the server that is sure to run it),
        largest relative differences ``factor`` and ``sigma`` from PyTorch, ``ties`` (see `check_parity`), ``jets``
        compared, ``file``.

    Raises
    ------
    MissingStageError
        If a model has not been trained.
    InputError
        If the study asks for an opset that cannot be written, or that its release of Triton does not run; if a model
        was trained on other data than the study's, which the notes in it would be of.
    ParityError
        If an exported model does not give PyTorch's numbers; nothing is written then.
    """
    jets_of = cache(partial(_notes_and_jets, study))  # once for all models of the same features
    return pd.DataFrame([_export(study, run, name, jets_of) for name in study.models])


def _notes_and_jets(study: Study, features: Features) -> tuple[dict[str, Any], CloudDataset]:
    """What a model notes of the jets that it was trained on, and jets to compare it with PyTorch on."""
    clouds = load_clouds(study.data, features)
    train, validation = clouds.split("train"), clouds.split("validation")
    notes = {
        "candidates": candidates_of(features, study.data.candidates)[0], "target": study.data.target,
        "neutrinos": "with" if study.data.neutrinos else "without", "training_range": training_range(train),
        "factor_range": factor_range(train), "selection": study.data.selection.model_dump(mode="json"),
        "training_summary": summarise(train),
        "split": study.data.split.model_dump(mode="json"),
    }  # fmt: skip
    return notes, validation.slice(0, min(PARITY_JETS, len(validation)))


def _export(
    study: Study, run: RunFolder, name: str, jets_of: Callable[[Features], tuple[dict[str, Any], CloudDataset]]
) -> dict[str, Any]:
    folder = best_checkpoint(study, run, name)
    model = load_model(folder)
    notes, jets = jets_of(model.settings.features)
    require_same_data(folder, jets)
    metadata = {"name": name, "study": study.name, "checkpoint": fingerprint(folder / "checkpoint.pt")} | notes
    with scratch_folder() as temporary:
        path = export_model(
            model, temporary / "model.onnx", opset=study.export.opset, metadata=metadata,
            triton_release=study.export.triton_release,
        )  # fmt: skip
        parity = check_parity(model, path, jets, study.export.tolerance)
        version = add_model(run.model_repository, name, path, version=1, max_batch_size=study.export.max_batch_size)
        return {
            "model": name, "from": str(folder.relative_to(run.path)),
            "parameters": sum(p.numel() for p in model.parameters()), "kilobytes": path.stat().st_size / 1000,
            "nodes": int(operators(path).sum()), "opset": study.export.opset, "triton": first_release(onnx.load(path)),
            **parity, "jets": len(jets),
            "file": str(run.model_repository / name / str(version) / "model.onnx"),
        }  # fmt: skip
