"""The package's modules import each other in one direction, and their names are told apart."""

from __future__ import annotations

import ast
import graphlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from jetcorr_utils.config import project_root

PACKAGE = project_root() / "jetcorr_utils"
TELL_NOTHING = {
    "several",
    "steps",
    "opening",
    "families",
    "site",
    "silence",
    "plots",
    "utils",
    "common",
    "misc",
    "helpers",
}
"""Names of files that tell a newcomer nothing."""


def modules() -> dict[tuple[str, ...], Path]:
    """The package's modules by their path in it; a folder stands for its ``__init__``."""
    files = {path.relative_to(PACKAGE).with_suffix("").parts: path for path in PACKAGE.rglob("*.py")}
    return {parts[:-1] if parts[-1] == "__init__" else parts: path for parts, path in files.items()}


def imports(path: Path, lazy: bool) -> Iterator[tuple[str, ...]]:
    """What a module imports from the package, but for types: also in its functions, or not."""
    package = path.relative_to(PACKAGE).parent.parts
    known = modules()

    def visit(node: ast.AST) -> Iterator[tuple[str, ...]]:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not lazy:
            return
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*package[: len(package) + 1 - node.level], *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                yield (*base, alias.name) if (*base, alias.name) in known else base
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    return visit(ast.parse(path.read_text(encoding="utf-8")))


def test_modules_import_each_other_in_one_direction():
    graph = {name: set(imports(path, lazy=False)) - {name} for name, path in modules().items()}
    assert sum(map(len, graph.values())) > 500
    graphlib.TopologicalSorter(graph).prepare()  # a circle is an error, which names it


def test_folders_import_each_other_in_one_direction_also_when_they_are_used():
    graph: dict[str, set[str]] = {}
    for name, path in modules().items():
        if name and name not in (("cli",), ("__init__",)):
            graph.setdefault(name[0], set()).update(other[0] for other in imports(path, lazy=True) if other)
    graphlib.TopologicalSorter({name: others - {name} for name, others in graph.items()}).prepare()


def test_a_file_has_a_name_that_says_what_is_inside():
    names = [path.stem for path in PACKAGE.rglob("*.py") if not path.stem.startswith("__")]
    assert not TELL_NOTHING & set(names)
    assert {name for name, number in Counter(names).items() if number > 1} == set()
