"""What the jets of a file are like at a first look: how many events, which ranges, how many a study would take."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import awkward as ak
import numpy as np

from ..config import SelectionSettings
from .features import TABLE_COLUMNS
from .reading import open_jets
from .selection import own_particles, reasons

__all__ = ["look_through"]

MOST = 100_000
"""Jets that are looked at: more would take longer than somebody waits for an answer."""
_STEP = 10_000


def look_through(path: str | Path, collection: str) -> str:
    """Events, ranges of pt (GeV), abs(eta) and multiplicity, and how many jets pass the default selection of a study.

    Parameters
    ----------
    path
        A file whose jets can be used, see `describe`.
    collection
        Which of its jets, see `open_jets`.

    Returns
    -------
    str
        A few lines for the terminal.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    events: set[tuple[int, int, int]] = set()
    ranges: dict[str, list[float]] = {"pt": [], "eta": [], "particles": []}
    left_out: Counter[str] = Counter()
    jets = 0
    with open_jets(path, collection) as source:
        cuts = SelectionSettings() if source.has_generator else SelectionSettings(min_gen_pt=0.0, max_abs_gen_eta=1e9)
        stop = min(source.entries, source.entries_of(MOST))
        columns = list(dict.fromkeys([*TABLE_COLUMNS, "jetPt", "jetRawPt", "jetEta"]))
        for chunk in source.iterate(_STEP, columns, ["PF_pT", "PF_fromAK4Jet"], "window", stop=stop):
            chunk = own_particles(chunk)
            jets += len(chunk)
            names = (ak.to_numpy(chunk[name]).tolist() for name in ("run", "lumi", "event"))
            events.update(zip(*names, strict=True))
            seen = {
                "pt": chunk["jetPt"],
                "eta": np.abs(chunk["jetEta"]),
                "particles": ak.num(chunk["particles"]),
            }
            for name, values in seen.items():
                ranges[name] += [float(ak.min(values)), float(ak.max(values))] if len(chunk) else []
            left_out += Counter({reason: int(mask.sum()) for reason, mask in reasons(chunk, cuts).items()})
        all_of_them = stop >= source.entries
    low, high = ({name: limit(values) for name, values in ranges.items()} for limit in (min, max))
    passed = jets - left_out.total()
    spectrum = (
        f"{len(events)} events; pt {low['pt']:.4g} to {high['pt']:.4g} GeV, abs(eta) up to {high['eta']:.3g}, "
        f"{low['particles']:.0f} to {high['particles']:.0f} particles a jet"
    )
    lines = [
        spectrum,
        f"{passed} of {jets} jets pass the default selection ({passed / jets:.0%})",
        *(f"  {count}: {reason}" for reason, count in left_out.items() if count),
    ]
    return "\n".join(lines if all_of_them else [f"of the first {jets} jets:", *lines])
