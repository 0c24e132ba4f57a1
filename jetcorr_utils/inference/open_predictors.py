"""The predictors that a path or a URL means: ONNX Runtime in this process, or a Triton server."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ..addresses import refuse_secrets
from ..data.ranges import unnoted
from ..errors import InputError
from ..files import NO_NAME, at_home
from ..processes import in_worker
from .onnx_predictor import OnnxPredictor
from .predictor import Predictor
from .repository_layout import latest_version, repository_models
from .triton_connection import Connection
from .triton_predictor import MemoryChoice, TritonPredictor

__all__ = ["open_predictor", "open_predictors", "served_models"]

log = logging.getLogger(__name__)


def open_predictors(
    model: str | Path, *, threads: int | None = None, shared_memory: MemoryChoice = "auto"
) -> dict[str, Predictor]:
    """Predictors for all models that `model` means, by name.

    Parameters
    ----------
    model
        ``http://host:port/name`` or ``grpc://host:port/name`` for a server (without the name: all that it has), or the
        path of a run's folder, a model repository, one model in it, or an ONNX file.
    threads
        Batches computed at the same time in this process; default: one a core.
    shared_memory
        Of a server's predictors, see `TritonPredictor`.

    Raises
    ------
    InputError
        If there is no model there.
    ServerError
        If the server does not answer.
    """
    predictors = _open(model, threads, shared_memory)
    for name, predictor in predictors.items():
        if (missing := unnoted(predictor.metadata)) and not in_worker():
            log.warning(
                "%s: does not note which values its training jets had of %s: jets beyond them are not flagged; "
                "export it again", name, ", ".join(missing),
            )  # fmt: skip
    return predictors


def _open(model: str | Path, threads: int | None, shared_memory: MemoryChoice) -> dict[str, Predictor]:
    text = str(model)
    if "://" in text:
        return _open_url(text, shared_memory)
    if not text:  # which would be the current folder
        raise InputError(f"model: {NO_NAME}")
    path = at_home(model)
    if path.is_file():
        predictor = OnnxPredictor(path, threads=threads)
        return {predictor.name: predictor}
    for repository in (path / "model_repository", path):
        models = repository_models(repository)
        if models:
            return {name: _open_folder(folder, threads) for name, folder in models.items()}
    if (path / "config.pbtxt").is_file():
        return {path.name: _open_folder(path, threads)}
    raise InputError(f"{text}: no model there; give a run's folder, a model repository, an ONNX file, or a Triton URL")


def open_predictor(model: str | Path, **options: Any) -> Predictor:
    """The predictor for the only model that `model` means; options as in `open_predictors`.

    Raises
    ------
    InputError
        If there is none, or more than one.
    """
    predictors = open_predictors(model, **options)
    if len(predictors) > 1:
        raise InputError(f"{model}: has the models {', '.join(predictors)}; name one of them")
    return next(iter(predictors.values()))


def _open_folder(folder: Path, threads: int | None) -> OnnxPredictor:
    path = folder / str(latest_version(folder)) / "model.onnx"
    if not path.is_file():
        raise InputError(f"{folder}: the model has no version with a model.onnx")
    return OnnxPredictor(path, name=folder.name, threads=threads)


def _open_url(text: str, shared_memory: MemoryChoice) -> dict[str, Predictor]:
    refuse_secrets(text)
    protocol, _, rest = text.partition("://")
    url, _, name = rest.partition("/")
    if protocol not in ("http", "grpc") or ":" not in url:
        raise InputError(f"{text}: expected http://host:port/model or grpc://host:port/model")
    names = [name] if name else served_models(url, protocol)
    return {name: TritonPredictor(url, name, protocol, shared_memory=shared_memory) for name in names}


def served_models(url: str, protocol: str) -> list[str]:
    """Names of the models that a server has ready."""
    connection = Connection(url, protocol)
    try:
        index = connection.call(
            lambda: connection.client.get_model_repository_index(**connection.as_json), "its list of models"
        )
    finally:
        connection.close()
    models = index.get("models", []) if isinstance(index, dict) else index
    names = sorted({entry["name"] for entry in models if entry.get("state") == "READY"})
    if not names:
        raise InputError(f"Triton server at {url}: it has no model that is ready")
    return names
