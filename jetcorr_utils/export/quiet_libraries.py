"""The tools that write ONNX files warn about their own internals and recommend themselves; here they are kept quiet."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

__all__ = ["quiet"]


@contextlib.contextmanager
def quiet(logger_name: str | None = None) -> Iterator[None]:
    """Without warnings, and without messages below errors of a logger (default: of all)."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
