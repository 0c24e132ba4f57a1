"""How much CMS's own regressions improve the resolution in files that have them: the figures that others compare with.

The gain is that of all tables here, 1 - (IQR/median)/(IQR/median of the standard correction). Regressions whose target
has the energy of neutrinos are measured against generator jets with these, where the files have generator particles;
all else against generator jets as NanoAOD has them, without. Jets that are mostly one lepton are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pandas as pd

from ..bootstrap import Bootstrap, estimate
from ..data import iterate_jets
from ..data.locations import each_once
from ..data.reading import open_jets
from ..errors import InputError
from ..jets.columns import WITH_NEUTRINOS
from ..jets.regressions import REGRESSIONS, regressed, regressions_in

__all__ = ["peer_gains", "peers_markdown"]

PT_BINS = {"30-inf": (30.0, np.inf), "30-100": (30.0, 100.0), "100-300": (100.0, 300.0)}
"""In gen pt, GeV."""
FLAVOURS = {"all": (0, 4, 5), "light": (0,), "b": (5,)}
"""By hadron flavour."""
MAX_ABS_ETA = 2.5
MAX_LEPTONS = 0.5
"""Share of a jet's energy in electrons and muons; above, it is one of these."""
_LEPTONS = ("chEmEF", "muEF")
_ALWAYS = ("run", "lumi", "event", "jetPt", "jetRawPt", "genJetPt", "genJetEta", "hadronFlav")


def peer_gains(files: Sequence[str | Path], replicas: int = 200) -> pd.DataFrame:
    """Gains of the regressions that all of some files have.

    Parameters
    ----------
    files
        NanoAOD files of simulation, or patterns of them.
    replicas
        Of the bootstrap over events that gives the errors.

    Returns
    -------
    One row for each model, target (without or with ``neutrinos``), range of gen pt (without neutrinos) and flavour:
    ``jets``, ``median`` and ``gain``, each of the two with its error (``median_error``, ``gain_error``), and whether
    the generator jets are ``against`` which the response is measured without or with neutrinos. The model ``standard``
    has no gain.

    Raises
    ------
    InputError
        If a file has no regression, or no generator jets, or none of the jets can be compared.
    """
    files = each_once(files)
    names, whole = _common(files)
    known = [column for name in names for column in REGRESSIONS[name].columns]
    known += [WITH_NEUTRINOS] if whole else []
    chunks = [
        pd.DataFrame({column: ak.to_numpy(jets[column]) for column in jets.fields if column != "particles"})
        for jets in iterate_jets(files, scalars=[*_ALWAYS, *_LEPTONS, *known], particles=["PF_pT"])
    ]
    table = pd.concat(chunks, ignore_index=True)
    leptons = table[_LEPTONS[0]] + table[_LEPTONS[1]]
    used = (table.genJetPt > 0) & (table.genJetEta.abs() < MAX_ABS_ETA) & (leptons < MAX_LEPTONS)
    table = table[used & (table.jetPt > 0)].reset_index(drop=True)
    if table.empty:
        what = f"has a generator jet with abs(eta) < {MAX_ABS_ETA:g} and is no lepton"
        raise InputError(f"{', '.join(files)}: none of {len(used)} jets {what}")
    bootstrap = Bootstrap(table, replicas)
    columns = {name: table[name].to_numpy() for name in table}
    truth = {False: columns["genJetPt"], True: columns[WITH_NEUTRINOS if whole else "genJetPt"]}
    standard = {neutrinos: columns["jetPt"].astype(np.float64) / truth[neutrinos] for neutrinos in truth}
    models = {("standard", neutrinos): standard[neutrinos] for neutrinos in ((False, True) if whole else (False,))} | {
        (name, neutrinos): standard[neutrinos] * regressed(columns, name, neutrinos=neutrinos)[0]
        for name in names
        for neutrinos in truth
    }
    rows = []
    for pt_bin, (low, high) in PT_BINS.items():
        inside = (table.genJetPt > low) & (table.genJetPt <= high)
        for flavour, codes in FLAVOURS.items():
            which = np.flatnonzero(inside & table.hadronFlav.isin(codes))
            if not len(which):
                continue
            baseline = {neutrinos: bootstrap.resolution(values, which) for neutrinos, values in standard.items()}
            for (name, neutrinos), values in models.items():
                median = estimate(bootstrap.median(values, which), len(which))
                gain = estimate(1 - bootstrap.resolution(values, which) / baseline[neutrinos], len(which))
                against = "with" if neutrinos and whole else "without"
                rows.append(
                    {"model": name, "neutrinos": "" if name == "standard" else "with" if neutrinos else "without"}
                    | {"against": against, "gen_pt": pt_bin, "flavour": flavour, "jets": len(which)}
                    | {"median": median["value"], "median_error": median["error"]}
                    | ({"gain": gain["value"], "gain_error": gain["error"]} if name != "standard" else {})
                )
    return pd.DataFrame(rows)


def peers_markdown(gains: pd.DataFrame) -> str:
    """The table for the terminal, and what it compares."""

    def text(row: Any, name: str, scale: float, digits: int) -> str:
        value, error = row[name], row[f"{name}_error"]
        return "" if value is None or np.isnan(value) else f"{scale * value:.{digits}f} ± {scale * error:.{digits}f}"

    lines = [
        "Response to generator jets, with or without the neutrinos in them; errors by bootstrap over events;",
        f"abs(gen eta) < {MAX_ABS_ETA:g}; jets with more than {MAX_LEPTONS:.0%} of leptons left out.", "",
        "| model | neutrinos in target | in generator jets | gen pt | flavour | jets | median | resolution gain, % |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for _, row in gains.iterrows():
        title = REGRESSIONS[row.model].title if row.model in REGRESSIONS else "standard correction"
        cells = [title, row.neutrinos, row.against, row.gen_pt, row.flavour, str(row.jets), text(row, "median", 1, 3)]
        lines.append(f"| {' | '.join([*cells, text(row, 'gain', 100, 1)])} |")
    return "\n".join(lines)


def _common(files: Sequence[str | Path]) -> tuple[tuple[str, ...], bool]:
    """The regressions that all files have, and whether all tell the neutrinos in their generator jets."""
    names, whole = tuple(REGRESSIONS), True
    for file in files:
        with open_jets(file) as source:
            if not source.has_generator:
                raise InputError(f"{file}: has no generator jets to compare with")
            here = regressions_in(source.columns)
            names = tuple(name for name in names if name in here)
            if not names:
                columns = ", ".join(f"Jet_{known.columns[0]}" for known in REGRESSIONS.values())
                raise InputError(
                    f"{file}: has none of CMS's regressions ({columns}), as NanoAOD has from version 12 on"
                )
            if missing := [name for name in _LEPTONS if name not in source.columns]:
                raise InputError(f"{file}: lacks {' and '.join(missing)}, which tell leptons from jets")
            whole &= WITH_NEUTRINOS in source.columns
    return names, whole
