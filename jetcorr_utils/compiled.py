"""Compilation of kernels: `numba.njit`, with its cache where there is a place for it."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any

import numba
from numba.core.caching import FunctionCache

__all__ = ["compiled"]


class _Cache(FunctionCache):
    """Numba's cache of a function, without which work goes on where it is damaged, or its disk full or read-only."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with contextlib.suppress(Exception):  # whatever a damaged file gives
            return super().load_overload(sig, target_context)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(Exception):  # whatever a damaged file gives
            super().save_overload(sig, data)


def compiled(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """`numba.njit` with these options, as a decorator.

    Compiled code is cached beside the source, or else in the user's folder of caches. Where neither can be written, as
    in a read-only image, each process compiles anew: seconds, not an error.
    """
    if function is None:
        return functools.partial(compiled, **options)
    dispatcher = numba.njit(**options)(function)
    # Without a home, its ~ would be a folder below the current one, whose code anybody may have put there
    if os.path.isabs(os.path.expanduser("~")):
        with contextlib.suppress(RuntimeError):  # "no locator available"
            dispatcher._cache = _Cache(function)
    return dispatcher
