"""The formats of files with jets: how a file is recognised, and which reader opens it.

One more is a subclass of `JetReader` and one call from an extension of the study::

    class Toy(JetReader):
        format = "Toy"

        def __init__(self, path, tree):
            self.path, self.tree, self.entries = path, tree, tree.num_entries
            self.columns = frozenset(tree.keys())

        def read(self, start, stop, names):
            return {name: self.tree[name].array(entry_start=start, entry_stop=stop) for name in names}

    add_format(Format("Toy", Toy, tree="toys"))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import InputError
from ..jets.columns import TREE
from . import delphes, nanoaod
from .delphes import Delphes
from .jetntuple import JetNTuple
from .nanoaod import NanoAOD
from .reader import JetReader

__all__ = ["FORMATS", "ROOT", "Format", "add_format", "format_of"]

ROOT = b"root"
"""What a ROOT file begins with."""


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes
    ----------
    name
        What users call it.
    reader
        Opens a file: from its path, and its tree, or the open (binary) file where it is not a ROOT file.
    tree
        The tree that a ROOT file of this kind has.
    magic
        What files of this kind begin with.
    collections
        Whether a file may have several collections of jets; the reader is given the name of one, too.
    """

    name: str
    reader: Callable[..., JetReader]
    tree: str = ""
    magic: bytes = ROOT
    collections: bool = False


FORMATS = {
    "JetNTuple": Format("JetNTuple", JetNTuple, TREE),
    "NanoAOD": Format("NanoAOD", NanoAOD, nanoaod.TREE, collections=True),
    "Delphes": Format("Delphes", Delphes, delphes.TREE, collections=True),
}
"""The formats by name; a file is of the first whose tree it has, or whose magic it begins with."""


def add_format(new: Format) -> None:
    """Make a format known, from an extension of a study.

    Raises
    ------
    InputError
        If there is one of this name, or one that the same files belong to.
    """
    if new.name in FORMATS:
        raise InputError(f"format {new.name}: there is one of this name; choose another")
    if same := [known.name for known in FORMATS.values() if (known.magic, known.tree) == (new.magic, new.tree)]:
        raise InputError(f"format {new.name}: its files are recognised like those of {same[0]}; name another tree")
    if not (new.tree if new.magic == ROOT else new.magic):
        raise InputError(f"format {new.name}: say by which tree, or else by which magic, its files are recognised")
    FORMATS[new.name] = new


def format_of(path: str, trees: list[str]) -> Format:
    """The format of a ROOT file with these trees.

    Raises
    ------
    InputError
        If it is none of the known ones.
    """
    known = [each for each in FORMATS.values() if each.magic == ROOT]
    for each in known:
        if each.tree in trees:
            return each
    first, *others = (f"the tree {each.tree} of {each.name}" for each in known)
    raise InputError(f"{path}: has neither {first} nor {' nor '.join(others)}; its trees: {', '.join(trees) or 'none'}")
