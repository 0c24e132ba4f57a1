"""Code of one's own: modules that the owner of a study names, and that add to the tables of this package.

A study says ``extensions: [my_columns.py, my_package.networks]``: files beside it, or modules that can be imported. A
module adds what it has by calling the functions of the tables: `add_architecture`, `add_column`, `add_metric`,
`add_format`. An installed package does so by an entry point of the group ``jetcorr.extensions``, which names such a
module. Nothing else runs code: no data file, checkpoint, exported model or server is ever asked what to import.

Each module is imported once in a process. The worker processes that it starts import the same, before anything else.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import InputError

__all__ = ["Loaded", "absolute", "load", "load_installed", "load_module", "repeat_in_workers", "source_files"]

GROUP = "jetcorr.extensions"

_loaded: dict[str, ModuleType] = {}
"""The modules by what names them for every process: the path of a file, or the name of a module."""

_calls: dict[tuple[Callable[..., object], tuple[Any, ...]], None] = {}
"""What is called in worker processes once they have loaded the same."""


def load(names: Sequence[str], folder: str | Path = ".") -> list[str]:
    """Import each extension once; returns their names as another folder, or another process, can load them.

    Parameters
    ----------
    names
        Paths of Python files, relative to `folder`, or names of modules that can be imported.
    folder
        That of the study's file.

    Raises
    ------
    InputError
        If there is no such file or module, its name is taken, or it stops with an error.
    """
    load_installed()
    for name in names:
        load_module(name, folder)
    return [absolute(name, folder) for name in names]


def load_module(name: str, folder: str | Path = ".") -> ModuleType:
    """The module of an extension, imported if it was not yet; arguments and errors as in `load`."""
    place = absolute(name, folder)
    if place not in _loaded:
        _loaded[place] = _from_file(Path(place)) if place.endswith(".py") else _imported(place)
    return _loaded[place]


def absolute(name: str, folder: str | Path = ".") -> str:
    """What names an extension whatever the current folder is: the path of its file, or the name of its module.

    A name without ``.py`` is that of a file, too, where there is one of it beside the study or among those loaded.
    """
    path = Path(folder).resolve() / (name if name.endswith(".py") else f"{name}.py")
    if name.endswith(".py") or os.path.isfile(path):  # a longer name than the system has is one of no file
        return str(path)
    return next((place for place in _loaded if place.endswith(".py") and Path(place).stem == name), name)


@functools.cache
def load_installed() -> None:
    """Import the extensions of installed packages."""
    for entry in importlib.metadata.entry_points(group=GROUP):
        load_module(entry.value.partition(":")[0], Path(__file__).parent / "no folder")


def source_files() -> list[Path]:
    """The files of the extensions that are loaded, whose content decides what a study gives."""
    return sorted(Path(file) for module in _loaded.values() if (file := getattr(module, "__file__", None)))


def repeat_in_workers(function: Callable[..., object], *arguments: Any) -> None:
    """Have worker processes make the same call after they have loaded the extensions: what a study takes from them."""
    _calls[function, arguments] = None


class Loaded:
    """The extensions of this process: put before other arguments of a process, it loads them there first.

    What comes after it may then be of classes that an extension has defined.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """Loads them where it is unpickled."""
        return _load_again, (list(_loaded), list(_calls))


def _load_again(names: Sequence[str], calls: Sequence[tuple[Callable[..., object], tuple[Any, ...]]]) -> Loaded:
    for name in names:
        load_module(name)
    for function, arguments in calls:
        function(*arguments)
    return Loaded()


def _imported(name: str) -> ModuleType:
    try:
        found = importlib.util.find_spec(name) if all(map(str.isidentifier, name.split("."))) else None
    except (ModuleNotFoundError, RecursionError):  # of the package that it is in; of thousands within each other
        found = None
    if found is None:
        raise InputError(f"extension {name!r}: neither a Python file beside the study nor a module that is installed")
    return _run(name, lambda: importlib.import_module(name))


def _from_file(path: Path) -> ModuleType:
    """Known by the name of the file, so that what it defines can be sent to worker processes."""
    name = path.stem
    if not os.path.isfile(path):
        raise InputError(f"extension {path}: there is no such file")
    if not name.isidentifier():
        raise InputError(f"extension {path}: a Python file's name has letters, digits and underscores only")
    known = sys.modules.get(name)
    other = known.__spec__ if known is not None else importlib.util.find_spec(name)
    if other is not None and (other.origin is None or Path(other.origin).resolve() != path):
        raise InputError(f"extension {path}: another module is called {name!r}; give the file another name")
    if known is not None:
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        return _run(str(path), lambda: spec.loader.exec_module(module) or module)
    except BaseException:
        del sys.modules[name]
        raise


def _run(what: str, run: Any) -> ModuleType:
    """The module that `run` gives; what stops it is said in one line."""
    try:
        return run()
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a script's exit would end the command without a word
        raise InputError(f"extension {what}: {type(error).__name__}: {' '.join(str(error).split())}") from error
