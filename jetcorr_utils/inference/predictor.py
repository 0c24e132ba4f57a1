"""What every predictor has in common: jets are sent in batches, in the order of their multiplicity.

`onnx_predictor` has the one that computes in this process, `triton_predictor` the one that asks a Triton server.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..data.dataset import Clouds
from ..errors import InputError
from ..jets.columns import features_of
from .padding import batches_by_multiplicity, pad

__all__ = ["BatchPredictor", "Inputs", "Predictions", "Predictor", "check_batch_size", "in_order", "taken_by"]

Predictions = tuple[NDArray[np.float32], NDArray[np.float32]]
Inputs = dict[str, NDArray[np.float32]]
T = TypeVar("T")
R = TypeVar("R")


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

    def predict(self, clouds: Clouds, *, batch_size: int = 1024, progress: bool = False) -> Predictions:
        """Log of the correction factor and resolution, each `(B,)`, in the order of the clouds."""

    def close(self) -> None:
        """Release what the predictor holds."""


def taken_by(predictor: Predictor, clouds: Clouds) -> Clouds:
    """The clouds with the columns that a model takes.

    Raises
    ------
    InputError
        If the clouds do not have them.
    """
    try:
        return clouds.with_features(features_of(predictor.metadata)) if "features" in predictor.metadata else clouds
    except InputError as error:
        raise InputError(f"model {predictor.name}: {error}") from None


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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release threads and connections."""
        self._pool.shutdown()

    def infer(self, inputs: Inputs) -> Predictions:
        raise NotImplementedError

    def predict(self, clouds: Clouds, *, batch_size: int = 1024, progress: bool = False) -> Predictions:
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

        def infer(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], Predictions]:
            return rows, self.infer(self._finite(pad(clouds, rows)))

        with tqdm(total=len(ptr) - 1, unit="jet", desc=self.name, disable=not progress) as bar:
            for rows, answer in in_order(self._pool, infer, batches, self.in_flight):
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


def in_order(pool: Executor, function: Callable[[T], R], values: Iterable[T], ahead: int) -> Iterator[R]:
    """The results in the order of the values, with at most `ahead` under way; the rest is not even prepared."""
    waiting: deque[Future[R]] = deque()
    try:
        for value in values:
            waiting.append(pool.submit(function, value))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
