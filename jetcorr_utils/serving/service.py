"""Where predictions come from in notebook 05: a server of one's own, one that runs already, or this process.

The notebook must give its results on every machine, so the choice is made here and said in one line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..errors import InputError
from ..export.predictor import Predictor
from ..export.repository import repository_models
from .client import TritonPredictor
from .opening import open_predictors
from .server import TritonServer, server_available
from .statistics import usage

__all__ = ["Service", "open_service"]


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

    predictors: dict[str, Predictor]
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
                times = {f"{part} [µs/jet]": 1e-3 * counts[part] / max(counts["jets"], 1) for part in parts}
                rows[name] = {key: counts[key] for key in ("requests", "failed", "executions", "jets")} | times
        return pd.DataFrame.from_dict(rows, orient="index")

    def close(self) -> None:
        """Close the connections and stop the server, if it is ours."""
        for predictor in self.predictors.values():
            predictor.close()
        if self.server is not None:
            self.server.stop()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_service(
    repository: str | Path, *, url: str | None = None, protocol: str = "http", log: str | Path | None = None
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
    log
        File for what a server started here says.

    Raises
    ------
    InputError
        If the server at `url` lacks a model of the repository.
    ServerError
        If the server does not start or does not answer.
    """
    names = list(repository_models(Path(repository)))
    if url is not None:
        served = open_predictors(url)
        missing = [name for name in names if name not in served]
        if missing:
            raise InputError(f"{url}: the server has {', '.join(served)}, but not {', '.join(missing)}")
        return Service({name: served[name] for name in names}, f"Triton server at {url}")
    reason = server_available()
    if reason is not None:
        return Service(open_predictors(repository), f"ONNX Runtime in this process, since {reason}")
    server = TritonServer(repository, log=log, poll_seconds=None).start()
    address = server.http_url if protocol == "http" else server.grpc_url
    predictors = {name: TritonPredictor(address, name, protocol, server=server) for name in names}
    return Service(predictors, server.describe(), server)
