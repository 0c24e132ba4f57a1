"""Figures that others have published for the same task, to put ours beside.

- ``paper``: CMS open data record 12100, 0.85 M training jets; from the figures' data, github.com/deinal/jec-inference.
- ``thesis``: 14 M jets of the CMS simulation with richer inputs; from github.com/deinal/jec-gnn.

All are relative to CMS's standard correction on CMS's full simulation; ours are relative to our standard correction on
our own simulation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["PUBLISHED", "Published", "published_text"]


@dataclass(frozen=True)
class Published:
    """A published gain over the standard correction, in %, in a bin of abs(eta) and gen pt (GeV)."""

    source: str
    model: str
    quantity: str
    eta: str
    pt: str
    percent: float


def _paper(quantity: str, percent: Mapping[tuple[str, str], Sequence[float]]) -> list[Published]:
    pt_bins = ("30-inf", "30-100", "100-300", "300-1000", "1000-inf")
    return [
        Published("paper", model, quantity, eta, pt, value)
        for (model, eta), values in percent.items()
        for pt, value in zip(pt_bins, values, strict=True)
    ]


def _paper_resolution() -> list[Published]:
    percent = {
        ("PFN", "0-1.3"): (2.2, 0.2, 1.4, 4.5, 8.0), ("ParticleNet", "0-1.3"): (2.5, 0.6, 1.6, 4.8, 7.8),
        ("PFN", "1.3-2.5"): (5.9, 1.0, 6.9, 12.9, 5.0), ("ParticleNet", "1.3-2.5"): (5.9, 1.3, 7.1, 11.9, 9.4),
    }  # fmt: skip
    return _paper("resolution_gain", percent)


def _thesis_resolution() -> list[Published]:
    percent = {"30-inf": 12.2, "30-50": 8.4, "50-100": 10.3, "100-300": 11.0, "300-1000": 13.2, "1000-inf": 14.1}
    return [Published("thesis", "ParticleNet", "resolution_gain", "0-2.5", pt, value) for pt, value in percent.items()]


def _paper_flavour() -> list[Published]:
    percent = {
        ("PFN", "0-1.3"): (36, 8, 23, 58, 69), ("ParticleNet", "0-1.3"): (36, 7, 25, 56, 68),
        ("PFN", "1.3-2.5"): (41, 12, 50, 68, 38), ("ParticleNet", "1.3-2.5"): (39, 18, 45, 70, 38),
    }  # fmt: skip
    return _paper("flavour_gain", percent)


def _thesis_flavour() -> list[Published]:
    return [Published("thesis", "ParticleNet", "flavour_gain", "0-2.5", "30-inf", 68)]


#: every published figure
PUBLISHED: tuple[Published, ...] = (
    *_paper_resolution(), *_thesis_resolution(), *_paper_flavour(), *_thesis_flavour()
)  # fmt: skip


def published_text(quantity: str, eta: str, pt: str) -> str:
    """The published gains of a bin as text, for example ``2.2 (paper, PFN), 2.5 (paper, ParticleNet)``."""
    return ", ".join(
        f"{figure.percent:g} ({figure.source}, {figure.model})"
        for figure in PUBLISHED
        if (figure.quantity, figure.eta, figure.pt) == (quantity, eta, pt)
    )
