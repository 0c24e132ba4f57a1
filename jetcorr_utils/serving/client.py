"""Ask a Triton server for corrections, over HTTP or gRPC; and open whatever predictor a path or URL means.

A server's predictor has the interface of the one in this process, `export.predictor.OnnxPredictor`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import InputError, ServerError
from ..export.padding import INPUT_NAMES, OUTPUT_NAMES
from ..export.predictor import BatchPredictor, Inputs, OnnxPredictor, Predictions, Predictor
from ..export.repository import latest_version, repository_models

if TYPE_CHECKING:
    from .server import TritonServer

__all__ = ["TritonPredictor", "open_predictor", "open_predictors"]

T = TypeVar("T")


class TritonPredictor(BatchPredictor):
    """A Triton server, on this machine or elsewhere.

    Parameters
    ----------
    url
        ``host:port``.
    model
        Name of the model.
    protocol
        ``"http"`` or ``"grpc"``.
    version
        Version of the model; default: the newest that the server has.
    in_flight
        Requests under way at the same time.
    patience
        Seconds to go on trying, at growing intervals, when the connection is lost or the server is overloaded.
    timeout
        Seconds that one request may take.
    server
        The server itself, if it was started here: when it dies, errors come at once and name its log.
    """

    def __init__(
        self,
        url: str,
        model: str,
        protocol: str = "http",
        *,
        version: str | int = "",
        in_flight: int = 3,
        patience: float = 30.0,
        timeout: float = 120.0,
        server: TritonServer | None = None,
    ) -> None:
        if protocol not in ("http", "grpc"):
            raise InputError(f"protocol {protocol!r}: must be http or grpc")
        self.url, self.name, self.protocol, self.version = url, model, protocol, str(version)
        self.in_flight, self.patience, self.timeout, self.server = in_flight, patience, timeout, server
        self._pool = ThreadPoolExecutor(in_flight, thread_name_prefix=f"triton-{model}")
        self._api = _api(protocol)
        self._clients: list[Any] = []
        self._own = threading.local()
        self.metadata = self._retry(self._read_metadata)

    def __repr__(self) -> str:
        return f"TritonPredictor({self.url!r}, {self.name!r}, {self.protocol!r})"

    def close(self) -> None:
        """Close the connections."""
        super().close()
        for client in self._clients:
            client.close()

    def infer(self, inputs: Inputs) -> Predictions:
        """Log of the correction factor and resolution, each `(b,)`, for one padded batch."""
        tensors = []
        for name in INPUT_NAMES:
            tensor = self._api.InferInput(name, list(inputs[name].shape), "FP32")
            tensor.set_data_from_numpy(inputs[name])
            tensors.append(tensor)
        outputs = [self._api.InferRequestedOutput(name) for name in OUTPUT_NAMES]
        options = {"client_timeout": self.timeout} if self.protocol == "grpc" else {}
        result = self._retry(
            lambda: self._client.infer(self.name, tensors, model_version=self.version, outputs=outputs, **options)
        )
        return tuple(result.as_numpy(name)[:, 0].copy() for name in OUTPUT_NAMES)

    def statistics(self) -> dict[str, Any]:
        """The server's inference statistics of this model, as Triton's statistics extension gives them."""
        options = {"as_json": True} if self.protocol == "grpc" else {}
        return self._retry(lambda: self._client.get_inference_statistics(self.name, self.version, **options))

    @property
    def _client(self) -> Any:
        """This thread's connection: the HTTP client is made of greenlets, which threads must not share."""
        if not hasattr(self._own, "client"):
            limits = {"connection_timeout": self.timeout, "network_timeout": self.timeout}
            self._own.client = self._api.InferenceServerClient(self.url, **limits if self.protocol == "http" else {})
            self._clients.append(self._own.client)
        return self._own.client

    def _read_metadata(self) -> dict[str, str]:
        options = {"as_json": True} if self.protocol == "grpc" else {}
        config = self._client.get_model_config(self.name, self.version, **options)
        config = config.get("config", config)
        return {key: value["string_value"] for key, value in config.get("parameters", {}).items()}

    def _retry(self, call: Callable[[], T]) -> T:
        """Call until it succeeds; give up at once if the request is at fault, or when patience is at its end."""
        deadline, pause = time.monotonic() + self.patience, 0.05
        while True:
            try:
                return call()
            except Exception as error:
                reason = _reason(error)
                if not _passes(error):
                    raise InputError(f"Triton server at {self.url}, model {self.name}: {reason}") from None
                if self.server is not None and not self.server.running:
                    raise ServerError(f"{self.server.describe()} died; its log: {self.server.log}") from None
                if time.monotonic() + pause > deadline:
                    log = f"; its log: {self.server.log}" if self.server else ""
                    raise ServerError(
                        f"Triton server at {self.url} does not answer for model {self.name} "
                        f"({self.patience:g} s of trying): {reason}{log}"
                    ) from None
            time.sleep(pause)
            pause = min(2 * pause, 2.0)


def _api(protocol: str) -> Any:
    if protocol == "grpc":
        from tritonclient import grpc as api
    else:
        from tritonclient import http as api
    return api


_TRANSIENT_GRPC = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED")
_TRANSIENT_TEXT = ("unavailable", "not ready", "exceeds maximum queue size", "no available versions", "shutting down")


def _passes(error: Exception) -> bool:
    """Whether a request may succeed later: the connection was lost, or the server is starting or overloaded."""
    from tritonclient.utils import InferenceServerException

    if not isinstance(error, InferenceServerException):
        return True
    status = str(error.status() or "")
    if status.removeprefix("StatusCode.") in _TRANSIENT_GRPC or status in ("429", "502", "503", "504"):
        return True
    return any(text in str(error.message()).lower() for text in _TRANSIENT_TEXT)


def _reason(error: Exception) -> str:
    message = getattr(error, "message", lambda: str(error))()
    return " ".join(str(message).split())[:300] or type(error).__name__


def open_predictors(model: str | Path, *, batch_size: int = 1024) -> dict[str, Predictor]:
    """Predictors for all models that `model` means, by name.

    Parameters
    ----------
    model
        ``http://host:port/name`` or ``grpc://host:port/name`` for a server (without the name: all that it has), or the
        path of a run's folder, a model repository, one model in it, or an ONNX file.

    Raises
    ------
    InputError
        If there is no model there.
    """
    text = str(model)
    if "://" in text:
        return _open_url(text)
    path = Path(model)
    if path.is_file():
        predictor = OnnxPredictor(path)
        return {predictor.name: predictor}
    for repository in (path / "model_repository", path):
        models = repository_models(repository)
        if models:
            return {name: _open_folder(folder) for name, folder in models.items()}
    if (path / "config.pbtxt").is_file():
        return {path.name: _open_folder(path)}
    raise InputError(f"{text}: no model there; give a run's folder, a model repository, an ONNX file, or a Triton URL")


def open_predictor(model: str | Path) -> Predictor:
    """The predictor for the only model that `model` means, see `open_predictors`.

    Raises
    ------
    InputError
        If there is none, or more than one.
    """
    predictors = open_predictors(model)
    if len(predictors) > 1:
        raise InputError(f"{model}: has the models {', '.join(predictors)}; name one of them")
    return next(iter(predictors.values()))


def _open_folder(folder: Path) -> OnnxPredictor:
    path = folder / str(latest_version(folder)) / "model.onnx"
    if not path.is_file():
        raise InputError(f"{folder}: the model has no version with a model.onnx")
    return OnnxPredictor(path, name=folder.name)


def _open_url(text: str) -> dict[str, Predictor]:
    protocol, _, rest = text.partition("://")
    url, _, name = rest.partition("/")
    if protocol not in ("http", "grpc") or ":" not in url:
        raise InputError(f"{text}: expected http://host:port/model or grpc://host:port/model")
    names = [name] if name else _served(url, protocol)
    return {name: TritonPredictor(url, name, protocol) for name in names}


def _served(url: str, protocol: str) -> list[str]:
    """Names of the models that a server has ready."""
    options = {"as_json": True} if protocol == "grpc" else {}
    client = _api(protocol).InferenceServerClient(url)
    try:
        index = client.get_model_repository_index(**options)
    except Exception as error:
        raise ServerError(f"Triton server at {url} does not answer: {_reason(error)}") from None
    finally:
        client.close()
    models = index.get("models", []) if isinstance(index, dict) else index
    names = sorted({entry["name"] for entry in models if entry.get("state") == "READY"})
    if not names:
        raise InputError(f"Triton server at {url}: it has no model that is ready")
    return names
