"""Pages and tables of the site that the code itself says: never edited, made anew by each build, ignored by git.

`tutorials/` gets the notebooks, as a run has executed them or, without one, as they are committed; `api/` a page for
each package; `tables/` what pages include: settings, columns, metrics, notebooks, the numbers of results/reference.

``python docs/generated.py`` prints the table of results that README.md has.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pydantic

from jetcorr_utils.config import Study, project_root
from jetcorr_utils.jets.columns import FEATURE_SETS, JETS, PARTICLES, Column
from jetcorr_utils.metrics import METRICS
from jetcorr_utils.notebooks import NOTEBOOKS
from jetcorr_utils.physics.gains_table import results_markdown
from jetcorr_utils.physics.published import published_text
from jetcorr_utils.settings_help import known_settings
from jetcorr_utils.simulation import parameter_table

__all__ = ["TABLES", "results_overview", "write"]

#: whose public names have a page; what stands in several is described in the first
MODULES = (
    "jetcorr_utils", "jetcorr_utils.correct", "jetcorr_utils.jerc", "jetcorr_utils.config", "jetcorr_utils.jets",
    "jetcorr_utils.data", "jetcorr_utils.simulation", "jetcorr_utils.baseline", "jetcorr_utils.architectures",
    "jetcorr_utils.models", "jetcorr_utils.training", "jetcorr_utils.tuning", "jetcorr_utils.export",
    "jetcorr_utils.inference", "jetcorr_utils.serving", "jetcorr_utils.metrics", "jetcorr_utils.physics",
    "jetcorr_utils.notebooks", "jetcorr_utils.run", "jetcorr_utils.batch", "jetcorr_utils.report",
    "jetcorr_utils.tensorboard", "jetcorr_utils.errors",
)  # fmt: skip

#: by model of results/reference/metrics.json, the rows of the table in README.md
MODELS = {
    "pfn": "PFN",
    "particlenet": "ParticleNet",
    "pfn_balanced": "PFN, flavour-neutral loss",
    "particlenet_balanced": "ParticleNet, flavour-neutral loss",
    "pfn_full": "PFN, full inputs",
    "particlenet_full": "ParticleNet, full inputs",
    "pfn_full_balanced": "PFN, full inputs, flavour-neutral loss",
    "particlenet_full_balanced": "ParticleNet, full inputs, flavour-neutral loss",
    "trees": "boosted trees on the composition",
    "oracle_fractions": "oracle: true energy fractions",
}
MAIN = ("pfn", "particlenet", "pfn_full_balanced", "particlenet_full_balanced")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def _metrics() -> dict[str, Any]:
    path = project_root() / "results" / "reference" / "metrics.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def results_overview() -> str:
    """The gains of the reference study for jets above 30 GeV, in per cent."""
    metrics = _metrics()
    shown = [("resolution_gain", "0-1.3"), ("resolution_gain", "1.3-2.5"), ("flavour_gain", "0-2.5")]
    head = [
        "gain, gen pt > 30 GeV",
        "resolution, abs(eta) < 1.3",
        "resolution, 1.3–2.5",
        "flavour dependence, < 2.5",
    ]
    rows = []
    for model, title in MODELS.items():
        if model not in metrics:
            continue  # of a study that had no such model
        cells = (metrics[model][gain][eta]["30-inf"] for gain, eta in shown)
        rows.append([title, *(f"{100 * cell['value']:.1f} ± {100 * cell['error']:.1f} %" for cell in cells)])
    rows.append(["*published for CMS jets*", *(f"*{published_text(gain, eta, '30-inf')}*" for gain, eta in shown)])
    return table(head, rows)


def results_in_bins() -> str:
    """The table of `jetcorr results` for the main models."""
    metrics = _metrics()
    return results_markdown(metrics, [name for name in MAIN if name in metrics])


def reproduction_in_bins() -> str:
    """What `jetcorr compare-published` measured, in per cent."""
    path = project_root() / "results" / "reference" / "reproduction.json"

    def percent(entry: dict[str, float | None] | None) -> list[str]:
        if entry is None or entry["ours"] is None:
            return ["", ""]
        ours, error, published = (100 * float(entry[name] or 0) for name in ("ours", "error", "published"))
        return [f"{ours:.1f} ± {error:.1f}", f"{published:.1f}"]

    rows = []
    for source, gains in json.loads(path.read_text(encoding="utf-8")).items():
        for eta, bins in gains["resolution_gain"].items():
            for pt, entry in bins.items():
                flavour = gains["flavour_gain"].get(eta, {}).get(pt)
                rows.append([f"`{source}`", eta, pt, *percent(entry), *percent(flavour)])
    head = [
        "inputs of",
        "abs(eta)",
        "gen pt / GeV",
        "resolution gain / %",
        "published",
        "flavour gain / %",
        "published",
    ]
    return table(head, rows)


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


def bench_table() -> str:
    """What `make bench` measured."""
    path = project_root() / "results" / "reference" / "bench.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = []
    for line in lines:
        numbers = [_number(line["ours"]), _number(line["peer"]), f"{line['ratio']:.2f}"]
        rows.append([f"`{line['name']}`", f"{line['mean_multiplicity']:.0f}", *numbers, line["unit"], line["peer_is"]])
    return table(["name", "particles", "ours", "peer", "ours / peer", "unit", "what the peer is"], rows)


def gpu_table() -> str:
    """What `python -m tests.benchmarks gpu` measured."""
    path = project_root() / "results" / "reference" / "gpu.json"
    lines = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        [f"`{line['name']}`", line.get("precision", ""), str(line.get("batch", "")), _number(line["jets_per_s"])]
        for line in lines
        if "jets_per_s" in line and not line.get("compiled")
    ]
    return table(["name", "precision", "batch", "jets/s"], rows)


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.3g}"


#: by the name of their file in tables/
TABLES: dict[str, Callable[[], str]] = {
    "results": results_overview, "results-in-bins": results_in_bins, "reproduction": reproduction_in_bins,
    "settings": settings_table, "columns": columns_table, "metrics": metrics_table, "notebooks": notebooks_table,
    "bench": bench_table, "gpu": gpu_table, "simulation": parameter_table,
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


if __name__ == "__main__":
    sys.stdout.write(results_overview() + "\n")
