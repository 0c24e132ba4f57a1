"""Pages and tables of the site that the code itself says: never edited, made anew by each build, ignored by git.

`tutorials/` gets the notebooks, as a run has executed them or, without one, as they are committed; `api/` a page for
each package; `tables/` what pages include: settings, columns, metrics, notebooks, and those of `result_tables`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pydantic
from result_tables import RESULT_TABLES, table

from jetcorr_utils.config import Study
from jetcorr_utils.jets.columns import FEATURE_SETS, JETS, PARTICLES, Column
from jetcorr_utils.metrics import METRICS
from jetcorr_utils.notebooks import NOTEBOOKS
from jetcorr_utils.settings_help import known_settings

__all__ = ["TABLES", "write"]

#: whose public names have a page; what stands in several is described in the first
MODULES = (
    "jetcorr_utils", "jetcorr_utils.correct", "jetcorr_utils.jerc", "jetcorr_utils.config", "jetcorr_utils.jets",
    "jetcorr_utils.data", "jetcorr_utils.simulation", "jetcorr_utils.baseline", "jetcorr_utils.architectures",
    "jetcorr_utils.models", "jetcorr_utils.training", "jetcorr_utils.tuning", "jetcorr_utils.export",
    "jetcorr_utils.inference", "jetcorr_utils.serving", "jetcorr_utils.metrics", "jetcorr_utils.physics",
    "jetcorr_utils.notebooks", "jetcorr_utils.run", "jetcorr_utils.batch", "jetcorr_utils.report",
    "jetcorr_utils.tensorboard", "jetcorr_utils.errors",
)  # fmt: skip


def settings_table() -> str:
    """Every setting of a study, one table for each section."""
    sections: dict[str, list[list[str]]] = {}
    for name, default, meaning in known_settings(Study):
        sections.setdefault(name.partition(".")[0], []).append([f"`{name}`", f"`{default}`", _cell(meaning)])
    return "\n\n".join(
        f"## {section}\n\n{table(['setting', 'default', 'meaning'], rows)}" for section, rows in sections.items()
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def columns_table() -> str:
    """The columns of jets and of particles."""
    sets = "\n".join(f"- `{name}`: {', '.join(groups)}" for name, groups in FEATURE_SETS.items())
    parts = [f"Sets of groups that `features` may name:\n\n{sets}"]
    for title, columns in (("Columns of a jet", JETS), ("Columns of a particle", PARTICLES)):
        rows = [_column(column) for column in columns.values()]
        parts.append(f"## {title}\n\n{table(['column', 'unit', 'what it is', 'group', 'where a file lacks it'], rows)}")
    return "\n\n".join(parts)


def _column(column: Column) -> list[str]:
    lacking = "the file is refused" if column.necessary else column.fill.rule if column.fill else ""
    return [f"`{column.name}`", column.unit, _cell(column.title), column.group, _cell(lacking)]


def metrics_table() -> str:
    """What is measured of a model."""
    rows = [
        [f"`{metric.name}`", metric.title, metric.unit, {"more": "higher", "less": "lower"}.get(metric.better, "")]
        for metric in METRICS.values()
    ]
    return table(["metric", "what it is", "unit", "better"], rows)


def notebooks_table() -> str:
    """The notebooks, for the page of tutorials."""
    return table(
        ["notebook", "what it does"],
        ([f"[{notebook.name}]({notebook.name}.ipynb)", notebook.about] for notebook in NOTEBOOKS.values()),
    )


#: by the name of their file in tables/
TABLES: dict[str, Callable[[], str]] = {
    **RESULT_TABLES, "settings": settings_table, "columns": columns_table, "metrics": metrics_table,
    "notebooks": notebooks_table,
}  # fmt: skip


def write(root: Path, docs: Path, run: Path | None) -> None:
    """Make all of it.

    Parameters
    ----------
    root, docs
        The repository and the folder of the pages.
    run
        A run's folder, whose executed notebooks are shown. None: the notebooks as they are committed.
    """
    for name, make in TABLES.items():
        _write(docs / "tables" / f"{name}.md", make() + "\n")
    for name in MODULES:
        _write(docs / "api" / f"{name}.rst", "\n".join(_api(name)))
    _write(docs / "api" / "index.md", _api_index())
    _notebooks(root, docs / "tutorials", run)


def _write(path: Path, text: str) -> None:
    """Write what has changed only, so that a second build is quick."""
    path.parent.mkdir(exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _notebooks(root: Path, folder: Path, run: Path | None) -> None:
    said = (
        "These pages are the notebooks as a run of study `quick` has executed them."
        if run
        else "This site was built without a run: the notebooks are shown as they are committed, without their outputs. "
        "`make docs` executes them."
    )
    _write(folder.parent / "tables" / "executed.md", f":::{{note}}\n{said}\n:::\n")
    for notebook in NOTEBOOKS.values():
        source = (run / "notebooks" if run else root / "notebooks") / notebook.path.name
        content = nbformat.read(source, as_version=4)
        content.metadata.pop("widgets", None)
        injected = "injected-parameters"  # by papermill: paths of the machine that ran it
        content.cells = [cell for cell in content.cells if injected not in cell.metadata.get("tags", [])]
        _write(folder / notebook.path.name, nbformat.writes(content) + "\n")


def _summary(module: Any) -> str:
    return (inspect.getdoc(module) or "").partition("\n\n")[0].replace("\n", " ")


def _api_index() -> str:
    rows = [[f"[`{name}`]({name}.rst)", _cell(_summary(importlib.import_module(name)))] for name in MODULES]
    names = "\n".join(MODULES)
    return (
        "# Python API\n\nThe public names of each package, with shapes, units and the errors that they raise.\n\n"
        f"{table(['package', 'what stands in it'], rows)}\n\n```{{toctree}}\n:hidden:\n\n{names}\n```\n"
    )


_described: dict[tuple[str, int], str] = {}


def _api(name: str) -> Iterator[str]:
    """The page of a package, in reStructuredText, as its docstrings are."""
    module = importlib.import_module(name)
    yield from (name, "=" * len(name), "", f".. automodule:: {name}", "   :no-index:", "")
    for public in sorted(module.__all__, key=lambda public: (public[0].islower(), public.lower())):
        value = getattr(module, public)
        if public.startswith("__"):
            continue
        home = _described.setdefault((public, id(value)), name)
        if home != name:
            yield from (f"`{public}` is described in :doc:`{home}`.", "")
        elif inspect.isclass(value):
            members = [] if issubclass(value, pydantic.BaseModel) else ["   :members:", "   :special-members: __call__"]
            bases = [] if value.__bases__ == (object,) else ["   :show-inheritance:"]
            yield from (f".. autoclass:: {name}.{public}", *members, *bases, "")
        elif inspect.isfunction(value):
            yield from (f".. autofunction:: {name}.{public}", "")
        else:
            yield from (f".. py:data:: {name}.{public}", "")
