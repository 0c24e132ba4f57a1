"""Ask an exported model for corrections, by ONNX Runtime in this process.

What every predictor has in common stands here, too: `serving.client` has one that asks a Triton server. All send jets
in the order of their multiplicity.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..data.dataset import CloudLike
from ..data.features import PARTICLE_COLUMNS, POINT_COLUMNS
from ..errors import InputError
from ..processes import cores
from .inspection import model_metadata
from .padding import OUTPUT_NAMES, Clouds, batches_by_multiplicity, pad

__all__ = ["BatchPredictor", "Inputs", "OnnxPredictor", "Predictions", "Predictor", "check_batch_size", "taken_by"]

Predictions = tuple[NDArray[np.float32], NDArray[np.float32]]
Inputs = dict[str, NDArray[np.float32]]
T = TypeVar("T")


class Predictor(Protocol):
    """What the two kinds of predictor have in common.

    Attributes
    ----------
    name
        Name of the model.
    metadata
        What the export noted in the model: ``features``, ``training_range`` …
    """

    name: str
    metadata: dict[str, str]

    def infer(self, inputs: Inputs) -> Predictions:
        """Log of the correction factor and resolution, each `(b,)`, for one padded batch."""

    def predict(self, clouds: CloudLike, *, batch_size: int = 1024, progress: bool = False) -> Predictions:
        """Log of the correction factor and resolution, each `(B,)`, in the order of the clouds."""

    def close(self) -> None:
        """Release what the predictor holds."""


def taken_by(predictor: Predictor, clouds: CloudLike) -> CloudLike:
    """The clouds with the columns that a model takes: the features `rich` begin with those of `open`.

    Raises
    ------
    InputError
        If the model takes features that the clouds do not have.
    """
    features = predictor.metadata.get("features")
    if features is None:
        return clouds
    needed, found = len(POINT_COLUMNS + PARTICLE_COLUMNS[features]), clouds.particles.shape[1]
    if found < needed:
        raise InputError(
            f"model {predictor.name}: takes features {features!r}, {needed} columns of a particle; there are {found}"
        )
    return Clouds(clouds.particles[:, :needed], clouds.ptr, clouds.jets)


def check_batch_size(batch_size: int) -> None:
    """Raise InputError unless it is a whole number above 0."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise InputError(f"batch_size {batch_size!r}: must be a whole number, 1 or more")


class BatchPredictor:
    """Several batches at a time, the answers put back into the order of the jets; a subclass says how to infer one.

    Attributes
    ----------
    name
        Name of the model.
    in_flight
        Batches under way at the same time.
    """

    name: str
    in_flight: int
    _pool: ThreadPoolExecutor

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release threads and connections."""
        self._pool.shutdown()

    def infer(self, inputs: Inputs) -> Predictions:
        raise NotImplementedError

    def predict(self, clouds: CloudLike, *, batch_size: int = 1024, progress: bool = False) -> Predictions:
        """Log of the correction factor and its resolution for each cloud.

        Parameters
        ----------
        clouds
            A `CloudDataset` or `Clouds`.
        batch_size
            Jets in a batch.
        progress
            Whether to show a progress bar.

        Returns
        -------
        log_factor, sigma
            `(B,)` float32, in the order of the clouds: corrected pt = jetPt · exp(log_factor); relative resolution.

        Raises
        ------
        InputError
            If a jet has no particles or values that are not finite, the server says that a request is wrong, or an
            answer is not finite.
        ServerError
            If the server does not answer.
        """
        check_batch_size(batch_size)
        ptr = np.asarray(clouds.ptr)
        log_factor, sigma = np.full((2, len(ptr) - 1), np.nan, np.float32)
        batches = batches_by_multiplicity(ptr, batch_size)
        with tqdm(total=len(ptr) - 1, unit="jet", desc=self.name, disable=not progress) as bar:
            for rows, answer in _in_order(
                self._pool, lambda rows: self.infer(self._finite(pad(clouds, rows))), batches, self.in_flight
            ):
                log_factor[rows], sigma[rows] = answer
                bar.update(len(rows))
        self._check_answers(log_factor, sigma)
        return log_factor, sigma

    def _finite(self, inputs: Inputs) -> Inputs:
        """The inputs, all of whose values are finite: a network may well make a number of one that is not."""
        for name, values in inputs.items():
            if not np.isfinite(values).all():
                raise InputError(f"model {self.name}: {name} has values that are not finite; leave those jets out")
        return inputs

    def _check_answers(self, log_factor: NDArray[np.float32], sigma: NDArray[np.float32]) -> None:
        """A factor must be a number that pt can be multiplied by: the model is broken where it is not."""
        with np.errstate(over="ignore", under="ignore"):
            factor = np.exp(log_factor)
        bad = int((~(np.isfinite(factor) & (factor > 0) & np.isfinite(sigma) & (sigma >= 0))).sum())
        if bad:
            raise InputError(
                f"model {self.name}: its answer for {bad} of {len(factor)} jets is not a finite factor and resolution: "
                "a broken model; train and export it again"
            )


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[T], Any], values: Iterable[T], in_flight: int
) -> Iterator[tuple[T, Any]]:
    """Each value with its result, in order, with at most `in_flight` under way; the rest is not even prepared."""
    waiting: deque[tuple[T, Future]] = deque()
    try:
        for value in values:
            waiting.append((value, pool.submit(function, value)))
            if len(waiting) > in_flight:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


class OnnxPredictor(BatchPredictor):
    """ONNX Runtime in this process.

    Parameters
    ----------
    path
        An ONNX file that `export_model` wrote.
    name
        Name of the model; default: the one in its metadata, else the file's.
    threads
        Batches computed at the same time, one thread each; default: one a core.
    """

    def __init__(self, path: str | Path, name: str | None = None, threads: int | None = None) -> None:
        import onnxruntime

        self._path, self.metadata = path, model_metadata(path)
        self.name = name or self.metadata.get("name") or Path(path).stem
        self.in_flight = threads or cores()
        options = onnxruntime.SessionOptions()
        # One thread a run: two runs beside each other keep two cores busier than one run split between them
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        with self._in_one_line():
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._pool = ThreadPoolExecutor(self.in_flight, thread_name_prefix=f"onnx-{self.name}")

    def infer(self, inputs: Inputs) -> Predictions:
        """Log of the correction factor and resolution, each `(b,)`, for one padded batch."""
        with self._in_one_line():
            output, sigma = self._session.run(OUTPUT_NAMES, inputs)
        return output[:, 0], sigma[:, 0]

    @contextlib.contextmanager
    def _in_one_line(self) -> Iterator[None]:
        """ONNX Runtime's errors, which have no class in common, as ours."""
        try:
            yield
        except Exception as error:
            if not type(error).__module__.startswith("onnxruntime."):
                raise
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"model {self.name} ({self._path}): ONNX Runtime cannot run it: {reason}") from None
