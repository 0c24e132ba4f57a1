"""What a run has exported, outside of its folder: as a pipeline's artefact, and in Kubeflow's Model Registry."""

from __future__ import annotations

import asyncio
import shutil
import warnings
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..config import ClusterSettings, Study
from ..errors import InputError
from ..files import checksum, read_json
from ..metrics import gains_in
from ..run import RunFolder

__all__ = ["figures_of", "keep_models", "register_models"]

T = TypeVar("T")
AUTHOR = "jetcorr"
FORMAT = "onnx"


class Artefact(Protocol):
    """An artefact of Kubeflow Pipelines that is written."""

    path: str
    metadata: dict[str, Any]


def keep_models(run_dir: str, artefact: Artefact) -> None:
    """Hand the run's model repository to Pipelines as the content of a `system.Model`."""
    repository = RunFolder(run_dir).model_repository
    shutil.copytree(repository, artefact.path, dirs_exist_ok=True)
    artefact.metadata.update(framework=FORMAT, models=", ".join(exported_models(repository)))


def exported_models(repository: Path) -> dict[str, Path]:
    """The ONNX files of a model repository, by the model's name."""
    return {path.parent.parent.name: path for path in sorted(repository.glob(f"*/1/model.{FORMAT}"))}


def figures_of(entry: Mapping[str, Any]) -> dict[str, float]:
    """What is said of a model in few numbers, from its entry in metrics.json; nothing if it was not measured.

    Resolution gain and flavour gain above 30 GeV and abs(eta) < 2.5, mean absolute error, and number of test jets.
    """
    if not gains_in(entry):
        return {}
    gains = {name: entry[name]["0-2.5"]["30-inf"]["value"] for name in ("resolution_gain", "flavour_gain")}
    return {**{name: float(value or 0.0) for name, value in gains.items()}, "mae": float(entry["mae"]),
            "jets": int(entry["jets"])}  # fmt: skip


def register_models(study: Study, run: RunFolder) -> list[str]:
    """Register the run's exported models where the study names a registry (`cluster.model_registry`).

    Each is a version of the registered model ``jetcorr-STUDY-MODEL``, named by its content, with the figures of
    `figures_of`. A version that is there is left, so that a step that is tried again changes nothing.

    Returns
    -------
    list of str
        ``MODEL VERSION`` of each that is new.

    Raises
    ------
    InputError
        If the registry does not answer, or refuses what it is given.
    """
    address = study.cluster.model_registry
    if address is None:
        return []
    metrics, new = read_json(run.metrics), []
    try:
        registry = _client(address)
        for model, path in exported_models(run.model_repository).items():
            name, version = f"jetcorr-{study.name}-{model}", checksum(path)[:12]
            if registry.get_registered_model(name) and registry.get_model_version(name, version):
                continue
            registry.register_model(
                name, _address(path.parent.parent, study.cluster), version=version, model_format_name=FORMAT,
                model_format_version=str(study.export.opset), metadata=figures_of(metrics.get(model, {})),
                version_description=f"study {study.name}, run {run.path}",
            )  # fmt: skip
            new.append(f"{name} {version}")
    except Exception as error:  # whatever aiohttp, the client's own checks and the server's answers raise
        said = " ".join(str(getattr(error, "body", None) or error).split())[:300]
        raise InputError(
            f"the Model Registry at {address} (cluster.model_registry) did not take the models: "
            f"{type(error).__name__}: {said}; it must know the API of version v1"
        ) from None
    return new


def _address(folder: Path, cluster: ClusterSettings) -> str:
    """Where a server of the cluster finds a model: on the volume, else as a path."""
    mount = Path(cluster.mount).resolve()
    if folder.is_relative_to(mount):
        return f"pvc://{cluster.volume}/{folder.relative_to(mount)}"
    return folder.as_uri()


def _client(address: str) -> Any:
    """A client of the registry, which gets the token of this pod or of Pipelines over TLS only.

    Without, the client would send it in clear to whatever address the study names.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no token, outside of a cluster
        from model_registry import ModelRegistry

        class WithoutToken(ModelRegistry):
            _get_user_token = staticmethod(lambda _=None: None)

        made = ModelRegistry if address.startswith("https://") else WithoutToken
        return made(address, author=AUTHOR, async_runner=_run)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, also in a notebook, whose own loop runs already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
