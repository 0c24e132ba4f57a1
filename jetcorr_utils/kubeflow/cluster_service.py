"""The server of notebook 05, here or on a cluster, see `backends`; there it is an InferenceService."""

from __future__ import annotations

import contextlib
import weakref
from pathlib import Path
from typing import Any

from ..config import Study
from ..errors import ClusterError
from ..files import write_text
from ..inference.predictor import Predictor
from ..run import RunFolder
from ..serving.prediction_service import Service, open_service
from .backends import on_cluster

__all__ = ["ClusterService", "address", "serve_on", "serve_on_cluster", "write_gpu_configs"]


def serve_on(backend: str, study: Study, run: RunFolder, url: str | None = None) -> Service:
    """The run's models served where `backend` says, or at a given `url`."""
    if on_cluster(backend):
        return serve_on_cluster(study, run)
    options = study.serving
    return open_service(
        run.model_repository, url=url or options.url, protocol=options.protocol, shared_memory=options.shared_memory,
        log=run.path / "triton.log",
    )  # fmt: skip


def serve_on_cluster(study: Study, run: RunFolder) -> Service:
    """The run's models behind a KServe InferenceService, which lives until the service is closed.

    Raises
    ------
    InputError, ClusterError
        See `cluster_training.train_on_cluster`; the limit is `cluster.start_timeout`.
    """
    from ..inference.open_predictors import open_predictors
    from .cluster import exit_when_terminated
    from .manifests.inference import inference_service, serving_runtime
    from .study_on_cluster import StudyOnCluster

    site = StudyOnCluster(study, run)
    name = site.name("server")
    if site.cluster.gpus:
        write_gpu_configs(run.model_repository)
    manifest = inference_service(name, str(run.model_repository), site.cluster, runtime=name)
    with contextlib.ExitStack() as stack:
        stack.enter_context(exit_when_terminated())
        stack.enter_context(site.resource(serving_runtime(site.cluster, name)))
        server = stack.enter_context(site.resource(manifest)).wait(study.cluster.start_timeout)
        predictors, text = open_predictors(address(server)), f"KServe InferenceService {name} at {address(server)}"
        return ClusterService(predictors, text, stack.pop_all())


def write_gpu_configs(repository: Path) -> list[Path]:
    """Beside each model's configuration one that runs it on GPUs, for a server that is told to use it."""
    from .manifests.inference import GPU_CONFIG

    return [
        write_text(
            config.parent / "configs" / f"{GPU_CONFIG}.pbtxt",
            config.read_text(encoding="utf-8").replace("KIND_CPU", "KIND_GPU"),
        )
        for config in sorted(repository.glob("*/config.pbtxt"))
    ]


class ClusterService(Service):
    """A service whose resources on the cluster go when it is closed, or with the process."""

    def __init__(self, predictors: dict[str, Predictor], text: str, resources: contextlib.ExitStack) -> None:
        super().__init__(predictors, text)
        self._remove = weakref.finalize(self, resources.close)

    def close(self) -> None:
        """Close the connections and remove the resources."""
        super().close()
        self._remove()


def address(server: dict[str, Any]) -> str:
    """``http://host:port`` of an InferenceService inside the cluster."""
    status = server["status"]
    url = (status.get("address") or {}).get("url") or status.get("url") or ""
    host = url.removeprefix("http://").rstrip("/")
    if "://" in host or not host:
        raise ClusterError(f"InferenceService {server['metadata']['name']} has no http address: {url or 'none'}")
    return f"http://{host}" if ":" in host else f"http://{host}:80"
