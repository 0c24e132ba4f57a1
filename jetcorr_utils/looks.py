"""How corrections look in figures: colour, marker and label, the same in all of them.

A model of a study looks as its architecture says, whatever its name is, and the standard correction is called as what
the study has in its place: `load_study` tells (`show_study`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .architectures import ARCHITECTURES, Look, NetworkSettings
from .jets.regressions import REGRESSIONS

__all__ = ["COLOURS", "look_of", "show_study"]

#: the ten colours of M. Petroff, arXiv:2107.02270, which CMS recommends
COLOURS = ("#3f90da", "#bd1f01", "#ffa90e", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd", "#94a4a2")
_MORE_COLOURS, _MORE_MARKERS = COLOURS[2:], "DPX*<>hp"

_STANDARD = "L1 + L2L3"
_LOOKS = {
    "raw": Look("#94a4a2", "v", "Raw"),
    "l1": Look("#717581", "d", "L1"),
    "file": Look("#717581", "d", "The file's own"),
    "standard": Look("#000000", "s", _STANDARD),
    # corrections that are no networks, see physics.limits
    "trees": Look(None, None, "Boosted trees (composition)"),
    "trees_kinematics": Look(None, None, "Boosted trees (kinematics)"),
    "oracle_flavour": Look(None, None, "Oracle: true flavour"),
    "oracle_fractions": Look(None, None, "Oracle: true energy fractions"),
    **{name: Look(None, None, known.title) for name, known in REGRESSIONS.items()},
} | {name: architecture.look for name, architecture in ARCHITECTURES.items() if architecture.look}


def show_study(models: Mapping[str, NetworkSettings], official: str | None = None) -> None:
    """Have the models of a study drawn as their architectures say, and named after what they are variants of.

    `official` is what the standard correction is called where the jets of the study are corrected anew.
    """
    _LOOKS["standard"] = _LOOKS["standard"]._replace(label=official or _STANDARD)
    _LOOKS.update({name: _look(name, models) for name in models})


def _look(name: str, models: Mapping[str, NetworkSettings]) -> Look:
    settings = models[name]
    if (whole := settings.variant_of or settings.seed_of) is not None:
        what = name.removeprefix(f"{whole}_").replace("_", " ")
        return Look(None, None, f"{_look(whole, models).label} ({what})")
    look = ARCHITECTURES[settings.architecture].look
    if look is None:
        return Look(None, None, name)
    mains = [n for n, m in models.items() if m.architecture == settings.architecture and not m.variant_of]
    return look if name == mains[0] else Look(None, None, f"{look.label} ({name})")


def look_of(correction: str, among: Sequence[str] = ()) -> Look:
    """The look of a correction; those without a colour of their own get the next free ones of the figure."""
    look = _known(correction)
    if look.colour is not None:
        return look
    others = [name for name in among if _known(name).colour is None]
    number = others.index(correction) if correction in others else 0
    return Look(_MORE_COLOURS[number % 8], _MORE_MARKERS[number % 8], look.label)


def _known(correction: str) -> Look:
    """What was made from a correction that is known, such as ``pfn_closed``, is labelled after it."""
    if correction in _LOOKS:
        return _LOOKS[correction]
    starts = [name for name in _LOOKS if correction.startswith(f"{name}_")]
    if not starts:
        return Look(None, None, correction)
    start = max(starts, key=len)
    label, what = _LOOKS[start].label, correction.removeprefix(f"{start}_").replace("_", " ")
    return Look(None, None, f"{label[:-1]} {what})" if label.endswith(")") else f"{label} ({what})")
