"""Caches, models, checkpoints and saved states of trainings in which a file is broken.

Whoever reads them must refuse them in one line, make them anew, or come to the same numbers.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from jetcorr_utils.export import add_model
from jetcorr_utils.training import train
from tests.clouds import random_clouds
from tests.networks import exported
from tests.training.test_training import VALIDATION, settings

from . import reader
from .fuzz import fuzz
from .processes import Sandbox
from .report import Row

__all__ = ["ORIGINALS", "broken", "resume"]


class _Stop(Exception):
    """Ends a training in its midst."""


def resume(folder: Path, **options: Any) -> None:
    """A training of four epochs, which goes on from what it finds in the folder."""
    train(settings(epochs=4), random_clouds(150), VALIDATION, folder, progress=False, **options)


def _interrupted(folder: Path) -> None:
    def stop(epoch: int, row: dict[str, float]) -> None:
        if epoch == 2:
            raise _Stop

    with contextlib.suppress(_Stop):
        resume(folder, callback=stop)


def _cache(folder: Path) -> None:
    reader.cache(str(folder))


def _model(folder: Path) -> None:
    """The two files of a repository that are read of one that was received."""
    add_model(folder, "pfn", exported("pfn"))
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in ("model.onnx", "config.pbtxt"):
            path.unlink()


ORIGINALS = {"cache": _cache, "model": _model, "checkpoint": resume, "state": _interrupted}
"""What makes a good folder of each kind that is broken here."""


def broken(kind: str, tries: int, seed: int, sandbox: Sandbox) -> Row:
    """Break files of a kind, so many times."""
    original = sandbox.work / kind
    ORIGINALS[kind](original)
    return fuzz(kind, original, tries, seed, sandbox.folder, read_before=kind == "cache")[0]
