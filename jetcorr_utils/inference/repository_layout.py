"""Where a model repository of Triton's keeps its models: ``<repository>/<model>/<version>/model.onnx``.

`export.triton_repository` writes such folders.
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["latest_version", "repository_models", "versions"]


def repository_models(repository: str | Path) -> dict[str, Path]:
    """Name and folder of each model in a repository."""
    return {path.parent.name: path.parent for path in sorted(Path(repository).glob("*/config.pbtxt"))}


def versions(model: str | Path) -> list[int]:
    """The version numbers in a model's folder, the highest last; none if there is no such folder."""
    folder = Path(model)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if re.fullmatch("[1-9][0-9]*", name))


def latest_version(model: str | Path) -> int:
    """The highest version number in a model's folder; 0 if there is none."""
    return max(versions(model), default=0)
