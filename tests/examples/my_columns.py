"""Columns of one's own: one of particles, made from others where a file lacks it, and one of jets."""

from __future__ import annotations

import numpy as np

from jetcorr_utils.jets import Column, Fill, add_column, log


def energy(columns):
    """The energy of each particle, GeV, from its pt, its direction and its mass."""
    momentum = columns["PF_pT"] * np.cosh(columns["PF_dEta"] + columns["jetEta"])
    return {"PF_energy": np.sqrt(momentum**2 + columns["PF_mass"] ** 2)}


add_column(
    "particle",
    Column(
        "PF_energy",
        group="energy",
        title="energy",
        unit="GeV",
        fill=Fill("from pt, eta and mass", energy, needs=("PF_pT", "PF_dEta", "PF_mass", "jetEta")),
        features={"log_energy": lambda columns: log(columns["PF_energy"])},
    ),
)
add_column(
    "jet",
    Column("charged", "int32", group="charge", title="charged particles", sources={"JetNTuple": "jetChargedMult"}),
)
