"""What the server of this machine serves: a folder of its own, made of a repository's .onnx files and nothing else.

Whoever sends a repository sends data. But Triton runs the model.py that it finds beside a model, a configuration can
name programs and libraries to load, and the Python backend hands paths and names to a shell. So code and configuration
here are this package's, and of a configuration three numbers are taken over.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import InputError
from ..export.triton_repository import VERSIONS, add_model, read_settings
from ..files import scratch_folder
from ..inference.repository_layout import repository_models, versions

__all__ = ["ServedRepository"]

State = tuple[tuple[int, int, int], ...]


class ServedRepository:
    """A folder that follows a repository.

    Parameters
    ----------
    source
        The repository.
    folder
        An existing folder, empty; its name and place are plain ones.
    """

    def __init__(self, source: Path, folder: Path) -> None:
        self.source, self.folder = source, folder
        self._known: dict[tuple[str, int], State] = {}

    def update(self) -> list[str]:
        """Take over the newest versions of each model, and take away what the repository has no more.

        Returns
        -------
        list of str
            One line for each file that is no model of ours, and is looked at again when it has changed.
        """
        found, problems = self._find(), []
        for (name, version), state in found.items():
            if self._known.get((name, version)) != state:
                try:
                    model = self.source / name
                    path = model / str(version) / "model.onnx"
                    add_model(self.folder, name, path, version=version, **read_settings(model))
                except InputError as error:
                    problems.append(str(error))
        for name, version in self._known.keys() - found.keys():
            left = any(other == name for other, _ in found)
            self._remove(self.folder / name / str(version) if left else self.folder / name)
        self._known = found
        return problems

    def _find(self) -> dict[tuple[str, int], State]:
        """The versions that are to be served, and what tells whether their files have changed."""
        found: dict[tuple[str, int], State] = {}
        for name, model in repository_models(self.source).items():
            for version in versions(model)[-VERSIONS:]:
                path = model / str(version) / "model.onnx"
                if path.is_file():
                    parts = [file.stat() for file in (path, model / "config.pbtxt")]
                    found[name, version] = tuple((part.st_ino, part.st_mtime_ns, part.st_size) for part in parts)
        return found

    def _remove(self, path: Path) -> None:
        """Take a folder away at once: a server that looks at it never sees a half of it."""
        if path.is_dir():
            with scratch_folder(self.folder.parent) as temporary:
                path.rename(temporary / "old")
                shutil.rmtree(temporary / "old")
