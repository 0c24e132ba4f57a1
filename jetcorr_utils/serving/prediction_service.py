"""Where predictions come from in notebook 05: a server of one's own, one that runs already, or this process.

The notebook must give its results on every machine, so the choice is made here and said in one line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd

from ..errors import InputError, ServerError
from ..inference.open_predictors import open_predictors
from ..inference.predictor import Predictor
from ..inference.repository_layout import repository_models
from ..inference.triton_predictor import MemoryChoice, TritonPredictor
from .inference_cost import TITLES, prometheus_metrics, usage
from .server import TritonServer
from .server_environment import server_available

__all__ = ["Service", "open_service"]

COUNTERS = {
    "nv_inference_request_success": "requests", "nv_inference_request_failure": "failed", "nv_inference_count": "jets",
    "nv_inference_exec_count": "executions", "nv_inference_request_duration_us": "requests [µs]",
    "nv_inference_queue_duration_us": "queue [µs]", "nv_inference_compute_infer_duration_us": "model [µs]",
}  # fmt: skip
"""Triton's counters for Prometheus (its metrics.md), and what they count here."""


@dataclass
class Service:
    """Predictors by model, and what stands behind them.

    Attributes
    ----------
    predictors
        One for each model.
    text
        Where they run, in one line.
    server
        The local server, if one was started.
    """

    predictors: Mapping[str, Predictor]
    text: str
    server: TritonServer | None = None

    def usage(self) -> pd.DataFrame:
        """What the server counted, one row a model: requests, jets, executions, and microseconds a jet by part.

        Models that run in this process have no server that counts, and no row.
        """
        rows = {}
        for name, predictor in self.predictors.items():
            if isinstance(predictor, TritonPredictor):
                counts = usage(predictor)
                parts = ("queue", "compute_input", "compute_infer", "compute_output")
                times = {TITLES[part]: 1e-3 * counts[part] / max(counts["jets"], 1) for part in parts}
                rows[name] = {key: counts[key] for key in ("requests", "failed", "executions", "jets")} | times
        return pd.DataFrame.from_dict(rows, orient="index")

    def metrics(self) -> pd.DataFrame:
        """What a server started here tells Prometheus: one row a model, the counters that its monitoring would plot.

        Empty without such a server: that of a cluster is watched by the cluster's Prometheus.

        Raises
        ------
        ServerError
            If the server does not answer.
        """
        if self.server is None:
            return pd.DataFrame()
        try:
            found = prometheus_metrics(self.server.metrics_url)
        except ServerError as error:
            raise ServerError(f"{error}; its log: {self.server.log}") from None
        found = found[found["model"].isin(list(self.predictors)) & found["metric"].isin(COUNTERS)]
        table = found.groupby(["model", "metric"])["value"].sum().unstack("metric")
        return table.reindex(columns=COUNTERS).rename(columns=COUNTERS)

    def close(self) -> None:
        """Close the connections and stop the server, if it is ours."""
        for predictor in self.predictors.values():
            predictor.close()
        if self.server is not None:
            self.server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_service(
    repository: str | Path,
    *,
    url: str | None = None,
    protocol: str = "http",
    shared_memory: MemoryChoice = "auto",
    log: str | Path | None = None,
) -> Service:
    """Predictors for the models of a repository.

    Parameters
    ----------
    repository
        The model repository.
    url
        ``http://host:port`` or ``grpc://host:port`` of a server that runs already; default: start one on this machine,
        or compute in this process where none can run.
    protocol
        ``http`` or ``grpc``, for a server started here.
    shared_memory
        Whether tensors go to the server through shared memory, see `TritonPredictor`.
    log
        File for what a server started here says.

    Raises
    ------
    InputError
        If the server at `url` lacks a model of the repository.
    ServerError
        If the server does not answer.
    """
    names = list(repository_models(Path(repository)))
    if url is not None:
        served = open_predictors(url, shared_memory=shared_memory)
        missing = [name for name in names if name not in served]
        if missing:
            raise InputError(f"{url}: the server has {', '.join(served)}, but not {', '.join(missing)}")
        return Service({name: served[name] for name in names}, f"Triton server at {url}")
    try:
        server = _start(repository, log)
    except ServerError as error:
        reason = str(error).splitlines()[0]
        return Service(open_predictors(repository), f"ONNX Runtime in this process, since {reason}")
    address = server.http_url if protocol == "http" else server.grpc_url
    predictors: dict[str, TritonPredictor] = {}
    try:
        for name in names:
            predictors[name] = TritonPredictor(address, name, protocol, shared_memory=shared_memory, server=server)
    except BaseException:
        Service(predictors, "", server).close()
        raise
    way = f"{protocol}{' and shared memory' if all(p.memory_shared for p in predictors.values()) else ''}"
    return Service(predictors, f"{server.describe()}, by {way}", server)


def _start(repository: str | Path, log: str | Path | None) -> TritonServer:
    """A server on this machine; ServerError where none can run or start."""
    if reason := server_available():
        raise ServerError(reason)
    return TritonServer(repository, log=log, poll_seconds=None, private=True).start()
