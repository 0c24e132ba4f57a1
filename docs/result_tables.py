"""Tables of what stands in results/reference: each number of them is read from a file there.

Pages of the site include them; README.md and data/README.md, which are read without a build, hold some themselves, and
``python docs/result_tables.py`` renews those.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jetcorr_utils.config import project_root
from jetcorr_utils.physics import PT_BINS
from jetcorr_utils.physics.cms import CLASS_BINS, cms_published
from jetcorr_utils.physics.gains_table import results_markdown
from jetcorr_utils.physics.published import published_text
from jetcorr_utils.simulation import parameter_table

__all__ = ["HOLDERS", "RESULT_TABLES", "renewed", "table"]

#: pages that hold tables themselves, between the marks `<!-- table NAME -->` and `<!-- end of table -->`
HOLDERS = ("README.md", "data/README.md")
_HELD = re.compile(r"(<!-- table ([a-z-]+) -->\n)(?:(?!<!-- table ).)*?(<!-- end of table -->)", re.DOTALL)

#: by model of metrics.json, the rows of the table in README.md
MODELS = {
    "pfn": "PFN",
    "particlenet": "ParticleNet",
    "pfn_tuned": "PFN, tuned",
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

REGIONS = {"0-1.3": "barrel", "1.3-2.5": "endcap"}
GROUPS = {"all": "all jets", "uds": "u, d and s", "g": "gluons"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def renewed(page: str) -> str:
    """The text of a page with the tables that it holds as the files in results/reference have them now."""
    text = (project_root() / page).read_text(encoding="utf-8")
    held = [name for _, name, _ in _HELD.findall(text)]
    if len(held) != text.count("<!-- table ") or not set(held) <= set(RESULT_TABLES):
        raise SystemExit(f"{page}: a table's mark is mistyped or has no end; there are {', '.join(RESULT_TABLES)}")
    return _HELD.sub(lambda mark: f"{mark[1]}\n{RESULT_TABLES[mark[2]]()}\n\n{mark[3]}", text)


def _reference(name: str) -> Any:
    return json.loads((project_root() / "results" / "reference" / name).read_text(encoding="utf-8"))


def _measured(value: float, error: float, digits: int = 1, scale: float = 100) -> str:
    return f"{scale * value:.{digits}f} ± {scale * error:.{digits}f}"


def results_overview() -> str:
    """The gains of the reference study for jets above 30 GeV, in per cent."""
    metrics = _reference("metrics.json")
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
        rows.append([title, *(f"{_measured(cell['value'], cell['error'])} %" for cell in cells)])
    rows.append(["*published for CMS jets*", *(f"*{published_text(gain, eta, '30-inf')}*" for gain, eta in shown)])
    return table(head, rows)


def results_in_bins() -> str:
    """The table of `jetcorr results` for the main models."""
    metrics = _reference("metrics.json")
    return results_markdown(metrics, [name for name in MAIN if name in metrics])


def coverage_table() -> str:
    """How many jets lie within multiples of their predicted resolution."""
    metrics = _reference("metrics.json")
    rows = []
    for model, title in MODELS.items():
        entry = metrics.get(model, {})
        if "coverage68" in entry:
            shares = (f"coverage{share}" for share in (68, 95, 99))
            shown = (_measured(entry[share], entry[f"{share}_error"], 2) for share in shares)
            rows.append([title, _measured(entry["pull_width"], entry["pull_width_error"], 3, 1), *shown])
    rows.append(["*a normal distribution*", "*1*", "*68.27*", "*95.00*", "*99.00*"])
    return table(["", "width of the pull", "within 1 σ / %", "within 1.96 σ / %", "within 2.576 σ / %"], rows)


def neutrality_table() -> str:
    """What the weight of the flavour term costs the PFN."""
    metrics = _reference("metrics.json")
    entries = [
        entry
        for name, entry in metrics.items()
        if "pfn" in (name, entry.get("variant_of"))
        and entry.get("scan") in (None, "training.flavour_balance")
        and entry["inputs"] == metrics["pfn"]["inputs"]
        and metrics["export"].get(name, {}).get("from") != "tuning/best"  # of other settings
    ]
    rows = []
    for entry in sorted(entries, key=lambda entry: entry["flavour_balance"]):
        gains = (entry[gain]["0-2.5"]["30-inf"] for gain in ("resolution_gain", "flavour_gain"))
        rows.append([f"{entry['flavour_balance']:g}", *(_measured(gain["value"], gain["error"]) for gain in gains)])
    return table(["λ", "resolution gain / %", "flavour gain / %"], rows)


def reproduction_in_bins() -> str:
    """What `jetcorr compare-published` measured, in per cent."""

    def percent(entry: dict[str, float | None] | None) -> list[str]:
        if entry is None or entry["ours"] is None:
            return ["", ""]
        return [_measured(entry["ours"], entry["error"] or 0), f"{100 * (entry['published'] or 0):.1f}"]

    rows = []
    for source, gains in _reference("reproduction.json").items():
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


def cms_resolution_table() -> str:
    """The width of the response beside CMS's, in bins of pt."""
    rows: dict[float, list[str]] = {}
    deviations: dict[str, list[float]] = {region: [] for region in REGIONS}
    for row in _reference("cms_comparison.json")["resolution"]:  # by region first
        if row["flavour"] == "all":
            shown = [f"{row['ours']:.3f}", f"{row['cms']:.3f}", _measured(*_ratio(row), 2, 1)]
            rows.setdefault(row["pt"], []).extend(shown)
            deviations[row["abs_eta"]].append(abs(_ratio(row)[0] - 1))
    last = ["*median deviation*"]
    for found in deviations.values():
        last += ["", "", f"*{statistics.median(found):.3f}*"]
    head = ["gen pt / GeV", *(f"{eta}: {what}" for eta in REGIONS.values() for what in ("ours", "CMS", "ratio"))]
    return table(head, [*([f"{pt:.0f}", *shown] for pt, shown in rows.items()), last])


def _ratio(row: Mapping[str, float]) -> tuple[float, float]:
    """Ours over CMS's, and its error."""
    ratio = row["ours"] / row["cms"]
    return ratio, ratio * math.hypot(row["error"] / row["ours"], row["cms_error"] / row["cms"])


def cms_flavour_table() -> str:
    """The median response of each flavour above 30 GeV beside CMS's."""
    rows: dict[str, list[str]] = {}
    for row in _reference("cms_comparison.json")["flavour"]:  # by region first
        if row["pt"] == "30-inf":
            shown = (_measured(row[key], row[error], 4, 1) for key, error in (("ours", "error"), ("cms", "cms_error")))
            rows.setdefault(row["flavour"], []).extend(shown)
    head = ["flavour", *(f"{eta}: {what}" for eta in REGIONS.values() for what in ("ours", "CMS"))]
    return table(head, ([flavour, *shown] for flavour, shown in rows.items()))


def cms_shapes_table() -> str:
    """Shapes, candidates and energy fractions beside CMS's."""
    comparison = _reference("cms_comparison.json")
    shapes: dict[str, list[dict[str, Any]]] = {}
    for row in comparison["shapes"]:
        if row["cms"] is not None:
            shapes.setdefault(row["name"], []).append(row)
    rows = []
    for name, found in shapes.items():
        chosen = found[::2] if name == "jetArea" else found[1:4]
        quantiles = ", ".join(f"{100 * row['quantile']:.0f}" for row in chosen)
        values = (", ".join(f"{row[whose]:#.3g}" for row in chosen) for whose in ("ours", "cms"))
        rows.append([f"`{name}`: quantiles at {quantiles} %", *values])
    for row in comparison["rings"]:
        where = "candidates a jet, {:g} to {:g} from its axis".format(*row["dR"])
        rows.append([where, f"{row['ours']:.1f}", f"{row['cms']:.1f}"])
    for row in comparison["classes"][-1:]:
        for kind in comparison["energy_fractions"]:
            rows.append([f"candidates of a jet {_in_words(row['pt'])}, {kind}", f"{row[kind]:.1f}", ""])
    for kind, share in comparison["energy_fractions"].items():
        rows.append([f"energy fraction, {kind}", f"{share:.3f}", f"{cms_published()['energy_fractions'][kind]:.2f}"])
    return table(["", "ours", "CMS"], rows)


def _in_words(pt: str) -> str:
    """A bin in pt, in words."""
    pt_bin = next(pt_bin for pt_bin in (*PT_BINS, *CLASS_BINS) if pt_bin.name == pt)
    return f"{pt_bin.low:g}–{pt_bin.high:g} GeV" if math.isfinite(pt_bin.high) else f"above {pt_bin.low:g} GeV"


class _Figure(NamedTuple):
    """A figure beside CMS's: how far it is off, and how that is said."""

    off: float
    said: str


def cms_goals_table() -> str:
    """How many figures were compared with CMS's, and which of them miss the goals."""
    comparison = _reference("cms_comparison.json")
    rows = []
    for what, said, goal, figures in _cms_goals(comparison):
        missed = [figure.said for figure in figures if figure.off > goal]
        rows.append([what, said, str(len(figures)), "; ".join(missed) or "none"])
    return table(["", "goal", "figures", "beyond the goal"], rows)


def _cms_goals(comparison: Mapping[str, Any]) -> Iterator[tuple[str, str, float, list[_Figure]]]:
    for group, title in GROUPS.items():
        for eta, region in REGIONS.items():
            rows = [row for row in comparison["resolution"] if (row["flavour"], row["abs_eta"]) == (group, eta)]
            ratios = [(row, *_ratio(row)) for row in rows]
            yield f"width of the response, {title}, {region}", "10 %, errors taken off", 0.1, [
                _Figure(abs(ratio - 1) - error, f"{row['pt']:.0f} GeV: {_measured(ratio, error, 2, 1)}")
                for row, ratio, error in ratios
            ]  # fmt: skip
    for eta, region in REGIONS.items():
        rows = [row for row in comparison["flavour"] if row["abs_eta"] == eta and row["error"] < 0.005]
        yield f"medians of flavours in bins of pt, {region}", "0.01", 0.01, [
            _difference(row, f"{row['flavour']} {_in_words(row['pt'])}") for row in rows
        ]  # fmt: skip
    shapes = [row | {"at": f"{100 * row['quantile']:.0f} %"} for row in comparison["shapes"] if row["cms"] is not None]
    yield "quartiles of `QG_ptD`, `QG_axis2` and `jetMass`", "7 %", 0.07, [
        _relative(row, f"{row['name']} at {row['at']}")
        for row in shapes
        if row["name"] != "jetArea" and 0.25 <= row["quantile"] <= 0.75
    ]  # fmt: skip
    areas = [row for row in shapes if row["name"] == "jetArea"]
    yield "quantiles of `jetArea`", "0.02", 0.02, [_difference(row, f"at {row['at']}") for row in areas]
    rings = comparison["rings"]
    yield "candidates in rings", "7 %", 0.07, [_relative(row, "{:g} to {:g}".format(*row["dR"])) for row in rings]
    fractions, published = comparison["energy_fractions"], cms_published()["energy_fractions"]
    yield "energy fractions", "0.03", 0.03, [
        _difference({"ours": fractions[kind], "cms": published[kind]}, kind) for kind in fractions
    ]  # fmt: skip


def _difference(row: Mapping[str, Any], where: str) -> _Figure:
    off = row["ours"] - row["cms"]
    error = f" ± {row['error']:.3f}" if "error" in row else ""
    return _Figure(abs(off), f"{where}: {off:+.3f}{error}")


def _relative(row: Mapping[str, Any], where: str) -> _Figure:
    off = row["ours"] / row["cms"] - 1
    return _Figure(abs(off), f"{where}: {100 * off:+.1f} %")


def _bench() -> list[dict[str, Any]]:
    path = project_root() / "results" / "reference" / "bench.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def load_times_table() -> str:
    """How long the clouds of many jets take, from the rates of `make bench`."""
    jets_per_s = {line["name"]: line["ours"] for line in _bench()}
    first, later = jets_per_s["load/first_epoch"], jets_per_s["load/later_epochs"]
    rows = [
        ["first epoch: files → cache → batches, one core", *(_duration(jets / first) for jets in _MANY)],
        ["the same, n processes on n files", *(_duration(jets / first, "/n") for jets in _MANY)],
        ["later epochs: shuffled batches from the cache, one core", *(_duration(jets / later) for jets in _MANY)],
    ]
    return table(["", "a jet", "14 million jets", "1 billion jets"], rows)


_MANY = (1, 14_000_000, 1_000_000_000)


def _duration(seconds: float, suffix: str = "") -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= size:
            return f"{seconds / size:.2g}{suffix} {unit}"
    return f"{1e6 * seconds:.2g}{suffix} µs"


def bench_table() -> str:
    """What `make bench` measured."""
    rows = []
    for line in _bench():
        numbers = [_number(line["ours"]), _number(line["peer"]), f"{line['ratio']:.2f}"]
        rows.append([f"`{line['name']}`", f"{line['mean_multiplicity']:.0f}", *numbers, line["unit"], line["peer_is"]])
    machines = "; ".join(sorted({line["machine"] for line in _bench()}))
    head = ["name", "particles", "ours", "peer", "ours / peer", "unit", "what the peer is"]
    return f"{table(head, rows)}\n\nMeasured on {machines}."


def products_sentence() -> str:
    """What the exported PFN's matrix products leave to be gained."""
    line = next(line for line in _bench() if line["name"] == "onnx/pfn")
    share = sum(part for name, part in line["operators"]["ours"].items() if name in ("FusedGemm", "Gemm", "MatMul"))
    limit = line["products"] / line["peer"]
    return (
        f"Of the exported PFN's time {100 * share:.0f} % are matrix products; "
        f"by themselves they allow a ratio of {limit:.1f}."
    )


def gpu_table() -> str:
    """What `python -m tests.benchmarks gpu` measured."""
    rows = [
        [f"`{line['name']}`", line.get("precision", ""), str(line.get("batch", "")), _number(line["jets_per_s"])]
        for line in _reference("gpu.json")
        if "jets_per_s" in line and not line.get("compiled")
    ]
    return table(["name", "precision", "batch", "jets/s"], rows)


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.3g}"


#: by the name of their file in tables/, and of their mark in a page
RESULT_TABLES: dict[str, Callable[[], str]] = {
    "results": results_overview, "results-in-bins": results_in_bins, "coverage": coverage_table,
    "neutrality": neutrality_table, "reproduction": reproduction_in_bins, "cms-resolution": cms_resolution_table,
    "cms-flavour": cms_flavour_table, "cms-shapes": cms_shapes_table, "cms-goals": cms_goals_table,
    "load-times": load_times_table, "bench": bench_table, "products": products_sentence,
    "gpu": gpu_table, "simulation": parameter_table,
}  # fmt: skip


if __name__ == "__main__":
    pages = {holder: renewed(holder) for holder in HOLDERS}  # all, before one is written
    for holder, content in pages.items():
        (project_root() / holder).write_text(content, encoding="utf-8")
        sys.stdout.write(f"{holder}: its tables are those of results/reference\n")
