"""Which code a notebook or a module really uses, found from its imports and from theirs, and a key of that code.

Imports are read, not run: those inside functions count, those for type checkers only do not. A name that a package's
`__init__` hands on stands for the module that it comes from, so that who takes one name of `physics` does not depend on
all of it. A class that a table names as ``module:Class`` is used by those who use anything else of its folder. A file
that lies beside a module and whose name stands in it is read by it. Comments, docstrings and the descriptions of
settings are no code.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["code_digests", "code_key", "imported_files"]

PACKAGE = Path(__file__).parent


def code_key(*roots: Path, package: Path = PACKAGE) -> str:
    """A text that changes with the code of these files, or of any that they import; not with where they lie."""
    known = code_digests(*roots, package=package)
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def code_digests(*roots: Path, package: Path = PACKAGE) -> dict[str, str]:
    """For each of these files, and of those that they import, a text that changes with its code; by short names."""
    known = {}
    for file in imported_files(*roots, package=package):
        inside = file.is_relative_to(package)
        known[str(file.relative_to(package)) if inside else file.name] = _digest(file)
    return known


def imported_files(*roots: Path, package: Path = PACKAGE) -> set[Path]:
    """These files (Python or notebooks), and all files of `package` and beside them that they need."""
    found: set[Path] = set()
    named: set[Path] = set()
    waiting = set(roots)
    while waiting:
        found |= waiting
        modules = [_Module(file, package) for file in waiting if _is_code(file)]
        named |= {file for module in modules for file in module.names()}
        # What a table names is used by those who use other things of its folder
        waiting = {file for module in modules for file in module.needs()}
        waiting |= {file for file in named if file.parent in {known.parent for known in found}}
        waiting -= found
    return found


@dataclass(frozen=True)
class _Code:
    """What a source says.

    Attributes
    ----------
    imports
        Level, module, name in it (None for ``import module``), and by what name the code knows it.
    texts
        Its constants that could be names of files, or of what is in modules.
    defined
        Its own names.
    used
        The attributes that are taken of a name; None for a name that is used in any other way.
    digest
        Of all but comments, docstrings and descriptions.
    """

    imports: tuple[tuple[int, str, str | None, str], ...]
    texts: frozenset[str]
    defined: frozenset[str]
    used: dict[str, set[str] | None]
    digest: str


@functools.cache
def _read(source: str) -> _Code:
    tree = ast.parse(source)
    imports: list[tuple[int, str, str | None, str]] = []
    texts, defined = set(), set()
    used: dict[str, list[str | None]] = {}
    for node in _run_nodes(tree):
        match node:
            case ast.Import():
                imports += [(0, alias.name, None, alias.asname or alias.name) for alias in node.names]
            case ast.ImportFrom():
                imports += [(node.level, node.module or "", a.name, a.asname or a.name) for a in node.names]
            case ast.Constant(value=str(text)) if re.fullmatch(r"[\w-]+(\.\w+)+(:\w+)?", text):
                texts.add(text)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                defined.add(name)
            case ast.Attribute(value=ast.Name() | ast.Attribute(), attr=attribute):
                used.setdefault(ast.unparse(node.value), []).append(attribute)
            case ast.Name(id=name):
                used.setdefault(name, []).append(None)
    # Each attribute of a name is followed by the name itself
    taken = {name: None if 2 * found.count(None) > len(found) else set(found) - {None} for name, found in used.items()}
    digest = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
    return _Code(tuple(imports), frozenset(texts), frozenset(defined), taken, digest)


def _run_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but docstrings and descriptions, which are taken out, and what only a type checker sees."""
    if isinstance(tree, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        tree.body = tree.body[ast.get_docstring(tree, clean=False) is not None :]
    if isinstance(tree, ast.Call):
        tree.keywords = [keyword for keyword in tree.keywords if keyword.arg != "description"]
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            yield node
            yield from _run_nodes(node)


class _Module:
    """The imports of one file, and where they lead."""

    def __init__(self, file: Path, package: Path) -> None:
        self.file, self.package, self.code = file, package, _read(_source(file))

    def needs(self) -> set[Path]:
        """The files behind its imports, and those whose names stand in it."""
        found = {path for text in self.code.texts if (path := self.file.parent / text).is_file()}
        for level, module, name, known_as in self.code.imports:
            base, used = self._path(level, module), self.code.used.get(known_as, set())
            found |= self._module(base, used) if name is None else self._name(base, name, used)
        return found

    def names(self) -> set[Path]:
        """The files of what stands in it as ``module:Class``."""
        places = [text.split(":") for text in self.code.texts if ":" in text]
        return set().union(*(self._name(self._path(0, module), name, None) for module, name in places))

    def _path(self, level: int, dotted: str) -> Path:
        """Where a module lies if it is of the package, or beside this file; without its suffix."""
        names = dotted.split(".") if dotted else []
        if level:
            return self.file.parents[level - 1].joinpath(*names)
        return (self.package.parent if names[0] == self.package.name else self.file.parent).joinpath(*names)

    def _name(self, base: Path, name: str, used: set[str] | None) -> set[Path]:
        """The files behind ``from base import name``, of which the attributes `used` are taken."""
        init = _init(base)
        if not init.is_file():
            return self._module(base, None)
        inside = _Module(init, self.package)
        for level, module, original, known_as in inside.code.imports:
            if known_as == name and original is not None and level:
                return inside._name(inside._path(level, module), original, used)
        if found := self._module(base / name, used):
            return found
        return {init} if name in inside.code.defined else set(base.glob("*.py"))  # where it comes from is not known

    def _module(self, path: Path, used: set[str] | None) -> set[Path]:
        """The files of a module, or those behind the attributes of a package that are used; all if that is unknown."""
        if _init(path).is_file():
            return set(path.rglob("*.py")) if used is None else set().union(*(self._name(path, n, None) for n in used))
        return {file} if (file := path.with_suffix(".py")).is_file() else set()


def _init(folder: Path) -> Path:
    return (folder / "__init__").with_suffix(".py")  # not by its whole name, which would stand for a file that is read


def _is_code(file: Path) -> bool:
    return file.suffix in (".py", ".ipynb")


def _digest(file: Path) -> str:
    return _read(_source(file)).digest if _is_code(file) else hashlib.sha256(file.read_bytes()).hexdigest()


def _source(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        return text
    cells = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    return "\n".join(line for cell in cells for line in cell.splitlines() if not line.startswith(("%", "!")))
