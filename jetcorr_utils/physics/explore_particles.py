"""Figures of what is inside the jets: particle classes, energy fractions, the particle cloud, average jet images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import awkward as ak
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray

from ..errors import InputError
from ..jets.flavours import paper_flavour
from ..jets.particle_classes import CLASSES, FORWARD
from ..style import (
    COLOURS,
    StyledFigure,
    density_steps,
    experiment_label,
    label_row,
    legend,
    log_pt_axis,
    room_on_top,
    selection_label,
    styled,
    subplots,
)
from .binning import PT_BINS, Bin, flavour_name, selection_text
from .explore import FLAVOUR_GROUPS, flavour_groups

__all__ = [
    "PARTICLE_CLASSES", "draw_particle_cloud", "energy_fractions", "has_candidates", "if_candidates", "is_one_of",
    "jet_image", "plot_energy_fractions", "plot_jet_images", "plot_particle_cloud", "plot_particle_multiplicities",
]  # fmt: skip

#: classes of particle-flow candidates: name → (abs(PF_id) values, colour, marker)
PARTICLE_CLASSES = {
    name: (CLASSES[name] + FORWARD.get(name, ()), COLOURS[number], marker)
    for name, number, marker in (
        ("charged hadrons", 1, "o"), ("photons", 2, "s"), ("neutral hadrons", 0, "D"), ("electrons", 3, "^"),
        ("muons", 4, "v"),
    )
}  # fmt: skip

#: radius of the jets
RADIUS = 0.4


def energy_fractions(jets: ak.Array) -> dict[str, NDArray[np.float64]]:
    """Share of each class of `PARTICLE_CLASSES` in the energy of the particles clustered in each jet (N,)."""
    inside = jets["particles"][jets["particles", "PF_fromAK4Jet"] == 1]
    eta = inside["PF_dEta"] + jets["jetEta"]
    energy = np.sqrt((inside["PF_pT"] * np.cosh(eta)) ** 2 + inside["PF_mass"] ** 2)
    total = ak.to_numpy(ak.sum(energy, axis=1)).astype(np.float64)
    shares = {}
    for name, (codes, _, _) in PARTICLE_CLASSES.items():
        part = ak.to_numpy(ak.sum(energy[is_one_of(inside["PF_id"], codes)], axis=1)).astype(np.float64)
        shares[name] = np.divide(part, total, out=np.zeros_like(part), where=total > 0)
    return shares


def jet_image(jets: ak.Array, bins: int = 41, half: float = 0.5) -> NDArray[np.float64]:
    """The average image (bins, bins): mean share of the jet's pt in cells of (dEta, dPhi), cells from -half to half."""
    particles = jets["particles"]
    weight = particles["PF_pT"] / jets["jetRawPt"]
    edges = np.linspace(-half, half, bins + 1)
    flat = [ak.to_numpy(ak.flatten(values)) for values in (particles["PF_dEta"], particles["PF_dPhi"], weight)]
    image = np.histogram2d(flat[0], flat[1], bins=(edges, edges), weights=flat[2])[0]
    return image / max(len(jets), 1)


def if_candidates(
    jets: ak.Array, name: str, draw: Callable[..., StyledFigure], *args: Any
) -> Iterator[tuple[str, StyledFigure]]:
    """A figure of what is inside the jets, with its `name`, as `draw` makes it; none where all jets are without."""
    if has_candidates(jets):
        yield name, draw(jets, *args)


def has_candidates(jets: ak.Array) -> bool:
    """Whether any of the jets has particles."""
    return bool(ak.any(ak.num(jets["particles"]) > 0))


@styled
def plot_particle_multiplicities(jets: ak.Array, pt_bin: Bin = PT_BINS[2]) -> Figure:
    """Number of clustered particles of each class in a jet, and of all of them by flavour in a bin of gen pt."""
    figure, (left, right) = subplots(1, 2, figsize=(13.0, 5.8))
    inside = jets["particles"][jets["particles", "PF_fromAK4Jet"] == 1]
    total = ak.to_numpy(ak.num(inside))
    edge = int(np.quantile(total, 0.998)) + 2
    for name, (codes, color, _) in PARTICLE_CLASSES.items():
        count = ak.to_numpy(ak.sum(is_one_of(inside["PF_id"], codes), axis=1))
        density_steps(left, count, -0.5, edge - 0.5, edge, color=color, label=name)
    left.set_yscale("log")
    left.set_ylim(1e-4, 2)
    left.set(xlabel="Clustered particles of a class", ylabel="Share of jets", xlim=(-0.5, min(edge, 70) - 0.5))
    chosen = pt_bin.contains(ak.to_numpy(jets["genJetPt"]))
    most = int(np.quantile(total[chosen], 0.998)) + 1 if chosen.any() else 1
    # Bins of a whole number of particles: others would be filled unevenly.
    width = max(1, round(most / (2 * np.cbrt(chosen.sum() / 4) + 1)))
    most = width * (most // width + 1)
    for group, mask in flavour_groups(jets).items():
        if (mask & chosen).any():
            color = FLAVOUR_GROUPS[group][1]
            density_steps(right, total[mask & chosen], -0.5, most - 0.5, most // width, color=color, label=group)
    right.set(xlabel="Clustered particles", ylabel="Probability density", xlim=(-0.5, most - 0.5))
    right.set_ylim(bottom=0)
    room_on_top(left, 0.2)
    room_on_top(right, 0.1)
    legend(left)
    legend(right)
    selection_label(right, selection_text(pt_bin))
    label_row((left, right))
    return figure


@styled
def plot_energy_fractions(jets: ak.Array) -> Figure:
    """Mean share of each particle class in the jets' energy against gen pt, stacked."""
    figure, ax = subplots()
    pt = ak.to_numpy(jets["genJetPt"])
    edges = np.geomspace(20, 3000, 15)
    bins = np.digitize(pt, edges) - 1
    known = [number for number in range(len(edges) - 1) if np.count_nonzero(bins == number) >= 10]
    base = np.zeros(len(known))
    lows, widths = edges[known], np.diff(edges)[known]
    for name, shares in energy_fractions(jets).items():
        means = np.array([shares[bins == number].mean() for number in known])
        errors = np.array([shares[bins == number].std() / np.sqrt((bins == number).sum()) for number in known])
        color = PARTICLE_CLASSES[name][1]
        ax.bar(lows, means, widths, base, align="edge", color=color, label=name, linewidth=0)
        if name in ("charged hadrons", "photons", "neutral hadrons"):
            centers = np.sqrt(lows * (lows + widths))
            ax.errorbar(centers, base + means, yerr=errors, fmt="none", ecolor="black", elinewidth=1.2)
        base = base + means
    ax.set_ylim(0, 1.0)
    ax.set_ylabel("Mean share of the jet's energy")
    if known:
        log_pt_axis(ax, edges[known[0]], edges[known[-1] + 1])
    room_on_top(ax, 0.2)
    ax.set_yticks(np.linspace(0, 1, 6))
    legend(ax, columns=3, columnspacing=0.9, fontsize=13)
    experiment_label(ax)
    return figure


@styled
def plot_particle_cloud(jets: ak.Array, index: int = 0) -> Figure:
    """The particles of one jet around its axis: area by pt, colour by class; open ones are not clustered in it."""
    if not 0 <= index < len(jets):
        raise InputError(f"jet {index} is not one of the {len(jets)} jets")
    figure, ax = subplots(figsize=(10.2, 7.4))
    draw_particle_cloud(ax, jets[index])
    experiment_label(ax)
    return figure


def draw_particle_cloud(ax: Axes, jet: ak.Record) -> None:
    """Draw one jet's particle cloud into `ax`, with its pt, eta and flavour."""
    particles = jet["particles"]
    for name, (codes, color, marker) in PARTICLE_CLASSES.items():
        chosen = particles[is_one_of(particles["PF_id"], codes)]
        clustered = ak.to_numpy(chosen["PF_fromAK4Jet"]) == 1
        area = 14 * np.sqrt(ak.to_numpy(chosen["PF_pT"]) / 0.5)
        x, y = ak.to_numpy(chosen["PF_dEta"]), ak.to_numpy(chosen["PF_dPhi"])
        ax.scatter(x[clustered], y[clustered], s=area[clustered], color=color, marker=marker, alpha=0.75, linewidths=0)
        ax.scatter(x[~clustered], y[~clustered], s=area[~clustered], edgecolors=color, facecolors="none", marker=marker)
        ax.scatter([], [], s=60, color=color, marker=marker, label=name)
    ax.add_patch(Circle((0, 0), RADIUS, fill=False, color="0.4", linestyle="--"))
    far = max([0.0, *(float(np.abs(ak.to_numpy(particles[name])).max(initial=0)) for name in ("PF_dEta", "PF_dPhi"))])
    edge = min(max(1.1 * RADIUS, 1.1 * far), 0.75)  # no wider than what there is to be seen
    ax.set(xlim=(-edge, edge), ylim=(-edge, edge), xlabel=r"$\Delta\eta$", ylabel=r"$\Delta\phi$")
    ax.set_aspect("equal", adjustable="box")
    flavour = flavour_name(int(paper_flavour(jet["hadronFlav"], jet["partonFlav"])))
    facts = {
        r"p_\mathrm{T}": f"{jet['jetPt']:.0f}$ GeV",
        r"p_\mathrm{T}^\mathrm{gen}": f"{jet['genJetPt']:.0f}$ GeV",
        r"\eta": f"{jet['jetEta']:.2f}$",
    }
    lines = [f"${symbol} = {value}" for symbol, value in facts.items()]
    lines += [f"flavour: {flavour}", f"{len(particles)} particles"]
    if ak.any(particles["PF_fromAK4Jet"] != 1):
        lines += ["filled: in the jet", "open: around it"]
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)
    selection_label(ax, "\n".join(lines), x=1.04, y=0.55)


@styled
def plot_jet_images(jets: ak.Array, pt_bin: Bin = PT_BINS[2]) -> Figure:
    """Average images of light-quark and gluon jets, and the difference of the two."""
    chosen = pt_bin.contains(ak.to_numpy(jets["genJetPt"]))
    masks = flavour_groups(jets)
    images = {name: jet_image(jets[masks[name] & chosen]) for name in ("u, d, s", "gluon")}
    figure, axes = subplots(1, 3, figsize=(15.0, 5.4))
    extent = (-0.5, 0.5, -0.5, 0.5)
    top = max(1e-9, *(image.max() for image in images.values()))
    scale = LogNorm(top * 1e-4, top)
    for ax, (name, image) in zip(axes, images.items(), strict=False):
        shown = ax.imshow(image.T, origin="lower", extent=extent, cmap="cividis", norm=scale)
        ax.set_facecolor(shown.cmap(0.0))
        ax.text(0.04, 0.96, name, transform=ax.transAxes, va="top", fontsize=15, color="white")
    figure.colorbar(shown, ax=axes[:2], label=r"Mean share of the jet's $p_\mathrm{T}$", pad=0.01, shrink=0.72)
    difference = 1e3 * (images["gluon"] - images["u, d, s"])
    limit = max(np.quantile(np.abs(difference), 0.995), 1e-9)
    shown = axes[2].imshow(
        difference.T, origin="lower", extent=extent, cmap="RdBu_r", norm=SymLogNorm(limit / 30, vmin=-limit, vmax=limit)
    )
    axes[2].text(0.04, 0.96, "gluon − (u, d, s)", transform=axes[2].transAxes, va="top", fontsize=15)
    figure.colorbar(shown, ax=axes[2], label=r"Difference [$10^{-3}$]", pad=0.01, shrink=0.72)
    for ax in axes:
        ax.set_xlabel(r"$\Delta\eta$")
        ax.grid(False)
    axes[0].set_ylabel(r"$\Delta\phi$")
    label_row(axes)
    axes[1].set_title(selection_text(pt_bin), loc="right", fontsize=15)
    return figure


def is_one_of(pdg_id: ak.Array, codes: Sequence[int]) -> ak.Array:
    """Which particles have abs(PDG id) in `codes`."""
    found = abs(pdg_id) == codes[0]
    for code in codes[1:]:
        found = found | (abs(pdg_id) == code)
    return found
