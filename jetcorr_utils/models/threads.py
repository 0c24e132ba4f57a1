"""How the compiled kernels are run: where they can be, on which jets, and in how many threads."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import numpy as np
import scipy.linalg  # noqa: F401 (its BLAS is the one that compiled code calls, and must be there to be limited)
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch import Tensor, nn

from ..compiled import compiled

__all__ = ["is_fast", "jet_parts", "kernel", "numpy_of", "one_blas_thread", "one_thread", "over", "run"]

T = TypeVar("T")

kernel = compiled(fastmath={"reassoc", "contract", "arcp", "afn", "nsz"}, nogil=True, error_model="numpy")
"""Sums may be made in another order; but NaN and infinity mean what they mean (no `nnan`, no `ninf`): what is not a
number must come out as such, as in plain PyTorch. A ReLU is therefore ``0 if x < 0 else x``, which lets NaN through."""


def is_fast(module: nn.Module, x: Tensor) -> bool:
    """Whether the kernels can do what is asked: on a CPU, in float32, training or inference without gradients."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return False
    return module.training or not torch.is_grad_enabled()


def numpy_of(x: Tensor) -> NDArray[Any]:
    """The values of a tensor on the CPU, row after row, without a copy if they lie so."""
    return x.detach().contiguous().numpy()


def jet_parts(ptr: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Ranges of jets with about the same number of particles, as many as torch has threads."""
    threads = torch.get_num_threads()
    cuts = np.searchsorted(ptr, np.linspace(0, ptr[-1], threads + 1)[1:-1])
    bounds = np.unique([0, *cuts, len(ptr) - 1])
    return list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))


def over(ranges: Sequence[tuple[int, int]], kernel: Callable[..., T], *arguments: Any) -> list[T]:
    """The results of `kernel(first, last, *arguments)` for each range."""
    return run([functools.partial(kernel, first, last, *arguments) for first, last in ranges])


def run(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """Results of the tasks, in their order, each in a thread of its own."""
    if len(tasks) == 1:
        return [tasks[0]()]
    return list(_pool(len(tasks)).map(lambda task: task(), tasks))


def one_blas_thread() -> AbstractContextManager[Any]:
    """BLAS must not start threads of its own below ours: the products of a chunk are too small for that."""
    return _blas().limit(limits=1, user_api="blas")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch and our kernels compute on one thread.

    The order of a sum depends on the number of threads. With one for each training the networks are the same, bit for
    bit, for any number of processes, and several cores are used by several processes, without overhead.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="jetcorr")


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()
