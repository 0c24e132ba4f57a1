"""The two pictures of the start page and of the page on networks: ``python docs/pictures.py`` draws them into images/.

The way from files to corrected jets is drawn from the table of notebooks, the jet from the committed sample, with what
the two committed networks say of it.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import awkward as ak
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from numpy.typing import NDArray

import jetcorr_utils
from jetcorr_utils.config import DataSettings, project_root
from jetcorr_utils.correct import correct_jets
from jetcorr_utils.data import read_jets
from jetcorr_utils.inference import open_predictors
from jetcorr_utils.notebooks import NOTEBOOKS, Notebook
from jetcorr_utils.physics.explore_particles import PARTICLE_CLASSES, draw_particle_cloud

__all__ = ["draw_cloud", "draw_path"]

IMAGES = Path(__file__).resolve().parent / "images"
COLOURS = ("#3f90da", "#bd1f01", "#e76300", "#94a4a2", "#832db6", "#2f7d55")
FONT = 'font-family="DejaVu Sans, Segoe UI, Arial, sans-serif"'
INK, PALE = "#1d2733", "#5b6b7c"

#: by notebook, what it hands on, in the words of the package's docstring
HANDS_ON = {
    "01": "jets", "02": "model", "03": "model", "04": "ONNX", "05": "corrected jets", "06": "figures",
}  # fmt: skip


def _dots(*places: tuple[float, float, float], opacity: float = 1.0) -> str:
    return "".join(f'<circle cx="{x}" cy="{y}" r="{r}" fill="COLOUR" opacity="{opacity}"/>' for x, y, r in places)


def _line(path: str, width: float = 2.2, colour: str = "COLOUR") -> str:
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"/>'


_NODES = ((24, 30, 5), (44, 14, 5), (66, 20, 5), (58, 42, 5), (84, 34, 5))
_TRIALS = ((22, 14, 3.4), (34, 30, 3.4), (46, 20, 3.4), (80, 16, 3.4), (70, 40, 3.4), (28, 46, 3.4), (86, 34, 3.4))
_CLOUD = ((50, 28, 9), (38, 20, 5), (64, 36, 6), (58, 14, 3), (34, 38, 4), (74, 22, 2.5), (46, 46, 2.5), (24, 26, 2))
_RACK = " ".join(f"M34 {y} h40 v12 h-40 z M39 {y + 6} h6" for y in (8, 23, 38))

#: by notebook, what is drawn on its card, 100 wide and 56 high
SIGNS = {
    "01": _dots(*_CLOUD, opacity=0.75),
    "02": _line("M24 30 L44 14 L66 20 L58 42 L24 30 M44 14 L58 42 M66 20 L84 34", 1.6) + _dots(*_NODES),
    "03": _dots(*_TRIALS, opacity=0.5) + _dots((57, 34, 4)) + _line("M67 34 a10 10 0 1 1 -20 0 a10 10 0 1 1 20 0"),
    "04": _line("M50 8 L74 20 L74 42 L50 54 L26 42 L26 20 Z M26 20 L50 32 L74 20 M50 32 L50 54"),
    "05": _line(_RACK) + _line("M14 29 H30 M25 24 L31 29 L25 34 M78 29 H92 M87 24 L93 29 L87 34"),
    "06": _line("M12 50 C34 50 36 22 50 22 C64 22 66 50 88 50", 2.4, "#94a4a2")
    + _line("M28 50 C42 50 43 8 50 8 C57 8 58 50 72 50", 2.6) + _line("M10 50 H90", 1.4, "#5b6b7c"),
}  # fmt: skip


def draw_path() -> str:
    """The way from files to corrected jets as SVG: a card for each notebook, and what goes from one to the next."""
    flow = re.search(r"way: (.+)\.", jetcorr_utils.__doc__ or "")
    stages = flow[1].split(" → ") if flow else []
    width, pitch = 184, 212
    total = 20 + pitch * len(NOTEBOOKS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} 330" role="img" {FONT}>',
        f"<title>{html.escape(' → '.join(stages))}</title>",
        f'<rect width="{total}" height="330" rx="14" fill="#fff"/>',
        *_stages(stages, total),
    ]
    for index, notebook in enumerate(NOTEBOOKS.values()):
        x = 24 + pitch * index
        parts += _card(notebook, COLOURS[index % len(COLOURS)], x, width)
        if index < len(NOTEBOOKS) - 1:
            parts.append(_arrow(x + width + 4, 190, x + pitch - 4, 190))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _stages(stages: list[str], total: float) -> Iterator[str]:
    """The line of what flows, above the cards: each word with room for its letters, and arrows of one length."""
    letters = sum(map(len, stages))
    gap = (total - 60 - 9.6 * letters) / max(len(stages) - 1, 1)
    x = 30.0
    for index, stage in enumerate(stages):
        if index:
            yield _arrow(x - gap + 12, 36, x - 12, 36)
        wide = 9.6 * len(stage)
        style = f'font-size="16" font-weight="600" fill="{INK}" text-anchor="middle"'
        yield f'<text x="{x + wide / 2:.0f}" y="42" {style}>{stage}</text>'
        x += wide + gap


def _card(notebook: Notebook, colour: str, x: float, width: float) -> Iterator[str]:
    name = notebook.title.replace("_", " ")
    yield f'<rect x="{x}" y="74" width="{width}" height="232" rx="10" fill="#f7f9fb" stroke="#d4dce5"/>'
    yield f'<path d="M{x} 108 v-24 a10 10 0 0 1 10 -10 h{width - 20} a10 10 0 0 1 10 10 v24 z" fill="{colour}"/>'
    yield f'<text x="{x + 12}" y="97" font-size="15" font-weight="700" fill="#fff">{notebook.number}  {name}</text>'
    sign = SIGNS.get(notebook.number, "").replace("COLOUR", colour)
    yield f'<g transform="translate({x + (width - 110) / 2:.0f},118) scale(1.1)">{sign}</g>'
    about = html.unescape(notebook.about).replace("**", "").partition(". ")[2]
    for number, line in enumerate(textwrap.wrap(about, 25)[:5]):
        yield f'<text x="{x + 12}" y="{206 + 17 * number}" font-size="12.5" fill="{INK}">{html.escape(line)}</text>'
    handed = HANDS_ON.get(notebook.number, "")
    yield f'<text x="{x + 12}" y="297" font-size="12.5" font-weight="600" fill="{colour}">→ {handed}</text>'


def _arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    head = f"M{to_x - 6:.0f} {to_y - 5} L{to_x:.0f} {to_y} L{to_x - 6:.0f} {to_y + 5}"
    return f'<path d="M{x:.0f} {y} L{to_x:.0f} {to_y} {head}" fill="none" stroke="{PALE}" stroke-width="2"/>'


NEIGHBOURS = 4
"""Of each particle in the picture; the network takes more."""


def draw_cloud() -> Figure:
    """A jet of the sample as a cloud, and what each network does with it."""
    jet = _example()
    fonts = {"font.family": "DejaVu Sans", "font.size": 11, "axes.titlesize": 12.5, "axes.titleweight": "bold"}
    with plt.style.context(["default", fonts]):
        figure = plt.figure(figsize=(10.5, 9.2), layout="constrained")
        parts = figure.subplot_mosaic([["cloud", "cloud"], ["pfn", "particlenet"]], height_ratios=[1.05, 1])
        draw_particle_cloud(parts["cloud"], jet)
        title = f"A jet is a cloud of particles: factor to learn {jet['genJetPt'] / jet['jetPt']:.3f}"
        parts["cloud"].set_title(title, loc="left")
        cloud = _Cloud.of(jet)
        _draw_pfn(parts["pfn"], cloud, _said(jet, "pfn"))
        _draw_particlenet(parts["particlenet"], cloud, _said(jet, "particlenet"))
    plt.close(figure)
    return figure


class _Cloud(NamedTuple):
    """The particles of a jet: their places `(N, 2)`, pt `(N,)` in GeV, and colours, those of the first panel."""

    points: NDArray[np.float32]
    pt: NDArray[np.float32]
    colours: list[str]

    @classmethod
    def of(cls, jet: ak.Record) -> _Cloud:
        """The particles of one jet, the hardest first."""
        particles = jet["particles"]
        order = np.argsort(-ak.to_numpy(particles["PF_pT"]))
        columns = {name: ak.to_numpy(particles[name])[order] for name in ("PF_dEta", "PF_dPhi", "PF_pT", "PF_id")}
        of_code = {code: colour for codes, colour, _ in PARTICLE_CLASSES.values() for code in codes}
        colours = [of_code.get(abs(code), "0.6") for code in columns["PF_id"].tolist()]
        return cls(np.stack([columns["PF_dEta"], columns["PF_dPhi"]], axis=1), columns["PF_pT"], colours)


def _example() -> ak.Record:
    """A jet of middling size that the standard correction gets wrong, and both committed networks get less wrong."""
    jets = read_jets(project_root() / "data" / "sample" / "jets.root", DataSettings())
    number, truth = ak.num(jets["particles"]), jets["genJetPt"] / jets["jetPt"]
    right = (number >= 20) & (number <= 30) & (abs(jets["jetPt"] - 150) < 70) & (abs(abs(truth - 1) - 0.09) < 0.03)
    predictors = open_predictors(project_root() / "results" / "reference" / "model_repository")
    jets = correct_jets(ak.to_packed(jets[right]), predictors)
    truth = jets["genJetPt"] / jets["jetPt"]
    better = [abs(jets[f"{name}_factor"] - truth) < 0.6 * abs(truth - 1) for name in predictors]
    return jets[int(np.flatnonzero(np.all(better, axis=0))[0])]


def _said(jet: ak.Record, name: str) -> str:
    """The factor and the resolution that a network gives to a jet."""
    return f"× {jet[f'{name}_factor']:.3f} ± {100 * jet[f'{name}_sigma']:.0f} %"


def _box(ax: Axes, x: float, y: float, text: str, colour: str, size: tuple[float, float] = (0.1, 0.07)) -> None:
    ax.add_patch(
        FancyBboxPatch((x - size[0] / 2, y - size[1] / 2), *size, boxstyle="round,pad=0.012", color=colour, zorder=3)
    )
    ax.text(x, y, text, ha="center", va="center", color="white", fontweight="bold", zorder=4)


def _link(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = PALE) -> None:
    ax.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "shrinkA": 0, "shrinkB": 0, "lw": 1.2}
    )


def _draw_pfn(ax: Axes, cloud: _Cloud, said: str) -> None:
    """Each particle by itself, through the same network, into a sum."""
    ax.set_title("Particle Flow Network: each by itself, then a sum", loc="left")
    for row in range(6):
        y = 0.9 - 0.125 * row
        ax.scatter(0.06, y, s=20 + 30 * cloud.pt[row] ** 0.5, color=cloud.colours[row], alpha=0.75)
        ax.text(0.12, y, f"{cloud.pt[row]:.1f} GeV", va="center", fontsize=9, color=PALE)
        _link(ax, (0.26, y), (0.32, y))
        _box(ax, 0.38, y, "Φ", COLOURS[0])
        _link(ax, (0.445, y), (0.585, 0.55))
    for x in (0.06, 0.38):
        ax.text(x, 0.13, "⋮", ha="center", va="center", fontsize=16, color=PALE)
    _box(ax, 0.64, 0.55, "Σ", INK, (0.08, 0.11))
    _ending(ax, said)


def _draw_particlenet(ax: Axes, cloud: _Cloud, said: str) -> None:
    """Each particle with its nearest neighbours, then a mean."""
    ax.set_title("ParticleNet: each with its neighbours, then a mean", loc="left")
    places = (0.26, 0.56) + cloud.points / np.abs(cloud.points).max() * (0.23, 0.36)
    distance = np.linalg.norm(cloud.points[:, None] - cloud.points[None], axis=2)
    near = np.argsort(distance, axis=1)[:, 1 : NEIGHBOURS + 1]
    for index, others in enumerate(near):
        for other in others:
            ax.plot(*places[[index, other]].T, color="#93a5b7", linewidth=0.9, zorder=1)
    width = np.take_along_axis(distance, near, axis=1).mean(axis=1)
    looked_at = int(np.argmax(width[:8]))  # of the hard ones the one where the most is to be seen
    for other in near[looked_at]:
        _link(ax, tuple(places[other]), tuple(places[looked_at]), COLOURS[1])
    sizes = 12 + 22 * cloud.pt**0.5
    ax.scatter(*places.T, s=sizes, c=cloud.colours, alpha=0.75, edgecolors="white", linewidths=0.8, zorder=3)
    told = f"edges to the {NEIGHBOURS} nearest (the network takes 16);\nred: the pairs of one particle"
    ax.text(0.27, 0.06, told, ha="center", va="center", fontsize=9, color=PALE)
    _link(ax, (0.53, 0.55), (0.575, 0.55))
    _box(ax, 0.645, 0.55, "mean", INK, (0.1, 0.11))
    _ending(ax, said)


def _ending(ax: Axes, said: str) -> None:
    """From the jet's vector to its correction."""
    x = 0.83
    ax.text(x, 0.79, "the jet's own columns", ha="center", fontsize=9, color=PALE)
    _link(ax, (x, 0.77), (x, 0.62))
    _link(ax, (0.715, 0.55), (x - 0.065, 0.55))
    _box(ax, x, 0.55, "F", COLOURS[2], (0.08, 0.08))
    _link(ax, (x, 0.48), (x, 0.38))
    ax.text(x, 0.31, said, ha="center", fontsize=13, fontweight="bold", color=INK)
    ax.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / "path.svg").write_text(draw_path(), encoding="utf-8")
    draw_cloud().savefig(IMAGES / "cloud.png", dpi=110, metadata={"Software": None})
