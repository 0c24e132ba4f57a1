"""Ask a Triton server for corrections, over HTTP or gRPC, with tensors in shared memory where it runs on this machine.

A server's predictor has the interface of the one in this process, `onnx_predictor.OnnxPredictor`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from ..data.dataset import Clouds
from ..errors import InputError, ServerError
from .model_notes import check_notes
from .padding import INPUT_NAMES, OUTPUT_NAMES
from .predictor import BatchPredictor, Inputs, Predictions
from .shared_memory import Region, bytes_needed, remove_leftovers, unregister
from .triton_connection import Connection, LocalServer, may_pass

__all__ = ["MemoryChoice", "TritonPredictor"]

MemoryChoice = Literal["auto", "on", "off"]


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
        Version of the model; default: the newest that the server has now. A newer one that it gets is not asked.
    in_flight
        Requests under way at the same time.
    patience
        Seconds to go on trying, at growing intervals, when the connection is lost or the server is overloaded.
    timeout
        Seconds that one request may take.
    shared_memory
        Whether tensors go through memory shared with the server: ``"auto"`` where it can map ours, which takes a server
        on the same machine; ``"on"``: or else it is an error; ``"off"``: they go through the socket.
    server
        The server itself, if it was started here: when it dies, errors come at once and name its log.

    Attributes
    ----------
    memory_shared
        Whether shared memory is used.

    Raises
    ------
    InputError
        If the server has no such model, or cannot share memory and should.
    ServerError
        If the server does not answer.
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
        shared_memory: MemoryChoice = "auto",
        server: LocalServer | None = None,
    ) -> None:
        if shared_memory not in ("auto", "on", "off"):
            raise InputError(f"shared_memory {shared_memory!r}: must be auto, on or off")
        self._connection = Connection(url, protocol, patience=patience, timeout=timeout, server=server)
        self.name, self.version, self.in_flight = model, str(version), in_flight
        self._pool = ThreadPoolExecutor(in_flight, thread_name_prefix=f"triton-{model}")
        self._own = threading.local()
        self._clock, self._clock_lock = dict.fromkeys(("requests", "jets", "packing", "waiting"), 0), threading.Lock()
        self._regions: list[str] = []  # names of the memory that the server has mapped
        try:
            newest, self.metadata = self._connection.call(self._state, f"model {self.name}")
            self.version = self.version or newest
            self._must_share = shared_memory == "on"
            self.memory_shared = shared_memory != "off" and self._can_share()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        way = ", shared memory" if self.memory_shared else ""
        return f"TritonPredictor({self._connection.url!r}, {self.name!r}, {self._connection.protocol!r}{way})"

    def close(self) -> None:
        """Close the connections, and have the server let go of shared memory."""
        super().close()
        if self._regions:
            # A client with little patience: a server that does not answer must not hold up the end
            client = self._connection.new_client(timeout=5.0)
            key = self._connection.key
            unregister(client, key, self._regions)
            with contextlib.suppress(Exception):
                remove_leftovers(client, key)  # worker processes have ended without a word
            client.close()
        self._connection.close()

    def infer(self, inputs: Inputs) -> Predictions:
        """Log of the correction factor and resolution, each `(b,)`, for one padded batch."""
        return self._connection.call(lambda: self._ask(inputs), f"model {self.name}")

    def predict(self, clouds: Clouds, *, batch_size: int = 1024, progress: bool = False) -> Predictions:
        """See `BatchPredictor.predict`.

        Raises
        ------
        ServerError
            Also if the server has another network by now under the same name and version.
        """
        answers = super().predict(clouds, batch_size=batch_size, progress=progress)
        newest, metadata = self._connection.call(self._state, f"model {self.name}")
        # Notes are the model's, not the version's: with a newer version beside ours they are that one's
        if metadata != self.metadata and newest == self.version:
            raise ServerError(
                f"Triton server at {self._connection.url}: model {self.name}, version {self.version}, was replaced by "
                "another network while jets were corrected; run this again, so that one network corrects them all"
            )
        return answers

    def statistics(self) -> dict[str, Any]:
        """The server's inference statistics of this model, as Triton's statistics extension gives them."""
        connection = self._connection
        return connection.call(
            lambda: connection.client.get_inference_statistics(self.name, self.version, **connection.as_json),
            f"model {self.name}",
        )

    def clock(self) -> dict[str, int]:
        """This client's totals: requests that were answered, their jets, and nanoseconds summed over requests.

        ``packing`` is the time in which tensors are made from arrays and arrays from tensors, ``waiting`` that between
        the call that sends a request and its answer.
        """
        with self._clock_lock:
            return dict(self._clock)

    def _count(self, **amounts: int) -> None:
        with self._clock_lock:
            for name, amount in amounts.items():
                self._clock[name] += amount

    def _ask(self, inputs: Inputs) -> Predictions:
        """One request."""
        begin = time.perf_counter_ns()
        connection = self._connection
        tensors = {name: connection.api.InferInput(name, list(inputs[name].shape), "FP32") for name in INPUT_NAMES}
        outputs = {name: connection.api.InferRequestedOutput(name) for name in OUTPUT_NAMES}
        region = self._region(inputs) if self.memory_shared else None
        if region is None:
            for name, tensor in tensors.items():
                tensor.set_data_from_numpy(inputs[name])
        else:
            answers = region.lend(tensors, inputs, outputs)
        options = {"client_timeout": connection.timeout} if connection.protocol == "grpc" else {}
        sent = time.perf_counter_ns()
        try:
            result = connection.client.infer(
                self.name, list(tensors.values()), self.version, list(outputs.values()), **options
            )
        except Exception as error:
            if may_pass(error):
                # An answer that is late after all must not get into memory that another request uses
                self._own.region = None
            raise
        answered = time.perf_counter_ns()
        if region is None:
            jets = len(inputs["jet_features"])
            try:
                answers = {name: result.as_numpy(name).reshape(jets) for name in OUTPUT_NAMES}
            except (ValueError, AttributeError):
                raise InputError(f"model {self.name}: the server's answer has not one number for each jet") from None
        log_factor, sigma = (answers[name].copy() for name in OUTPUT_NAMES)
        waiting, end = answered - sent, time.perf_counter_ns()
        self._count(requests=1, jets=len(log_factor), waiting=waiting, packing=end - begin - waiting)
        return log_factor, sigma

    def _region(self, inputs: Inputs) -> Region | None:
        """This thread's memory, large enough for a request; None if there is no memory left, and there need not be."""
        region, size = getattr(self._own, "region", None), bytes_needed(inputs, len(OUTPUT_NAMES))
        if region is not None and region.size >= size:
            return region
        client = self._connection.client
        if region is not None:
            self._own.region = None
            self._regions.remove(region.name)
            unregister(client, self._connection.key, [region.name])
        try:
            self._own.region = region = Region(client, self._connection.key, size)
        except InputError:
            if self._must_share:
                raise
            self.memory_shared = False
            return None
        self._regions.append(region.name)
        return region

    def _can_share(self) -> bool:
        """Whether the server can map memory of this process."""

        def attempt() -> None:
            client, key = self._connection.client, self._connection.key
            self._own.region = Region(client, key, 1)
            self._regions.append(self._own.region.name)
            remove_leftovers(client, key)

        try:
            self._connection.call(attempt, "shared memory")
        except InputError as error:
            if self._must_share:
                raise InputError(f"{error}; does it run on this machine, as the same user?") from None
            return False
        return True

    def _newest(self) -> str:
        """The highest number of the versions that are ready; empty where the server gives no numbers."""
        found = self._connection.client.get_model_metadata(self.name, **self._connection.as_json)
        return max(
            (str(version) for version in found.get("versions", ()) if str(version).isdecimal()), key=int, default=""
        )

    def _state(self) -> tuple[str, dict[str, str]]:
        """The newest version and the notes, of the same moment."""
        while True:
            newest, metadata = self._newest(), self._read_metadata()
            if newest == self._newest():
                return newest, metadata

    def _read_metadata(self) -> dict[str, str]:
        config = self._connection.client.get_model_config(self.name, self.version, **self._connection.as_json)
        config = config.get("config", config)
        metadata = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        check_notes(metadata, f"model {self.name} of the server at {self._connection.url}", complete=False)
        return metadata
