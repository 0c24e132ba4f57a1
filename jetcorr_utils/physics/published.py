"""Figures that others have published for the same task, to put ours beside, and what each of them is of.

`SOURCES` says for each where it is from. All but one are relative to the standard correction of the experiment on its
own full simulation, the last to ATLAS's earlier calibration; ours are relative to the standard correction of the jets
that they are measured on. Those of ``NanoAODv15`` nobody has published: `jetcorr results` has measured CMS's
regressions in 200 public events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pandas as pd

__all__ = ["PUBLISHED", "SOURCES", "Published", "Source", "published_table", "published_text", "source_table"]


@dataclass(frozen=True)
class Source:
    """Where figures are from: whose jets, what the network was given, and what it was trained for."""

    experiment: str
    jets: str
    inputs: str
    target: str
    year: int
    reference: str


_CANDIDATES = "100 candidates: pt, direction, in the jet; jet: pt, eta, phi, mass, area, ptD, axis2, multiplicity"
_TRACKS = "64 charged, 64 neutral candidates, 16 secondary vertices: pt, eta, phi; jet: pt, eta, phi"
SOURCES = {
    "paper": Source(
        "CMS", "AK4 chs, 2016 simulation, open data record 12100, 0.85 M for training", _CANDIDATES,
        "gen pt without neutrinos / standard-corrected pt", 2023, "arXiv:2308.12724, github.com/deinal/jec-inference",
    ),
    "thesis": Source(
        "CMS", "AK4 chs, 2016 simulation, 14 M", _TRACKS,
        "gen pt without neutrinos / standard-corrected pt", 2022, "github.com/deinal/jec-gnn",
    ),
    "NanoAODv15": Source(
        "CMS", "AK4 PUPPI, 13.6 TeV, 200 tt events, leptons left out", "candidates, secondary vertices",
        "gen pt without neutrinos / raw pt", 2026, "nano_tt_v15.root of CoffeaTeam/coffea, measured by jetcorr",
    ),
    "ATLAS": Source(
        "ATLAS", "large radius, simulation, pt > 500 GeV", "features of the jet", "energy and mass at once",
        2024, "doi:10.1088/2632-2153/ad611e",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    """A gain over the standard correction, in %, in a bin of abs(eta) and gen pt (GeV); `error` where it is known."""

    source: str
    model: str
    quantity: str
    eta: str
    pt: str
    percent: float
    error: float | None = None

    @property
    def gain(self) -> str:
        """As text, with its error."""
        return f"{self.percent:g}" if self.error is None else f"{self.percent:g} ± {self.error:g}"


def _in_bins(
    source: str, model: str, quantity: str, eta: str, percent: Sequence[float], bins: Sequence[str]
) -> list[Published]:
    return [Published(source, model, quantity, eta, pt, value) for pt, value in zip(bins, percent, strict=True)]


_PAPER_BINS = ("30-inf", "30-100", "100-300", "300-1000", "1000-inf")
_THESIS_BINS = ("30-inf", "30-50", "50-100", "100-300", "300-1000", "1000-inf")

#: every figure
PUBLISHED: tuple[Published, ...] = (
    *_in_bins("paper", "PFN", "resolution_gain", "0-1.3", (2.2, 0.2, 1.4, 4.5, 8.0), _PAPER_BINS),
    *_in_bins("paper", "ParticleNet", "resolution_gain", "0-1.3", (2.5, 0.6, 1.6, 4.8, 7.8), _PAPER_BINS),
    *_in_bins("paper", "PFN", "resolution_gain", "1.3-2.5", (5.9, 1.0, 6.9, 12.9, 5.0), _PAPER_BINS),
    *_in_bins("paper", "ParticleNet", "resolution_gain", "1.3-2.5", (5.9, 1.3, 7.1, 11.9, 9.4), _PAPER_BINS),
    *_in_bins("thesis", "ParticleNet", "resolution_gain", "0-2.5", (12.2, 8.4, 10.3, 11.0, 13.2, 14.1), _THESIS_BINS),
    *_in_bins("paper", "PFN", "flavour_gain", "0-1.3", (36, 8, 23, 58, 69), _PAPER_BINS),
    *_in_bins("paper", "ParticleNet", "flavour_gain", "0-1.3", (36, 7, 25, 56, 68), _PAPER_BINS),
    *_in_bins("paper", "PFN", "flavour_gain", "1.3-2.5", (41, 12, 50, 68, 38), _PAPER_BINS),
    *_in_bins("paper", "ParticleNet", "flavour_gain", "1.3-2.5", (39, 18, 45, 70, 38), _PAPER_BINS),
    Published("thesis", "ParticleNet", "flavour_gain", "0-2.5", "30-inf", 68),
    Published("NanoAODv15", "ParticleNet of CMS", "resolution_gain", "0-2.5", "30-inf", 19, 4),
    Published("NanoAODv15", "UParT of CMS", "resolution_gain", "0-2.5", "30-inf", 21, 4),
    Published("ATLAS", "deep network", "resolution_gain", "", "500-inf", 30),
)


def published_text(quantity: str, eta: str, pt: str) -> str:
    """The published gains of a bin as text, for example ``2.2 (paper, PFN), 2.5 (paper, ParticleNet)``."""
    return ", ".join(
        f"{figure.gain} ({figure.source}, {figure.model})"
        for figure in PUBLISHED
        if (figure.quantity, figure.eta, figure.pt) == (quantity, eta, pt)
    )


def published_table() -> pd.DataFrame:
    """All figures, in %: a row for each gain, range of abs(eta), network and source (`source_table` says what that is),
    a column for each bin of gen pt in GeV.
    """
    titles = {"resolution_gain": "resolution", "flavour_gain": "flavour"}
    bins = sorted({figure.pt for figure in PUBLISHED}, key=_edges)
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for figure in PUBLISHED:
        key = (titles[figure.quantity], figure.eta, figure.model, figure.source)
        rows.setdefault(key, dict.fromkeys(bins, ""))[figure.pt] = figure.gain
    names = ("gain of", "abs(eta)", "model", "source")
    table = pd.DataFrame([dict(zip(names, key, strict=True)) | gains for key, gains in rows.items()])
    return table.rename(columns=lambda name: name.replace("-inf", "+"))


def _edges(pt: str) -> tuple[float, float]:
    """By which bins are sorted: the wider one of two that begin at the same pt comes first."""
    low, high = map(float, pt.split("-"))
    return low, -high


def source_table() -> pd.DataFrame:
    """What the sources of the figures are: a column for each; experiment, jets, inputs, target, year and reference."""
    table = pd.DataFrame({name: asdict(source) for name, source in SOURCES.items()})
    return table.rename_axis("source").reset_index()
