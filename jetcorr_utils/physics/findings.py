"""What the tables of `fine_bins` show, as sentences: each is computed, and true of the jets at hand only.

Numbers come with their statistical errors; each sentence is a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from ..config import PhysicsSettings
from ..style import title_of
from .binning import FLAVOUR_GROUPS
from .fine_bins import TERMS, VARIABLES
from .profiles import profile

__all__ = [
    "say_calibration", "say_closure_map", "say_dependence", "say_dijets", "say_eta", "say_factor", "say_flavours",
    "say_terms", "terms_table",
]  # fmt: skip

TOO_FEW = "Too few jets for a statement."


def say_dependence(tables: Mapping[str, pd.DataFrame], corrections: Sequence[str]) -> str:
    """How the resolution changes from the first to the last bin of each variable of `fine_bins.dependence`."""
    said = []
    for name, table in tables.items():
        changes = []
        for correction, rows in _by_correction(table, corrections):
            if len(rows) > 1:
                first, last = rows.iloc[0], rows.iloc[-1]
                ratio = last["resolution"] / first["resolution"]
                error = ratio * np.hypot(*(row["resolution_error"] / row["resolution"] for row in (first, last)))
                changes.append(f"by {_percent(ratio - 1, error)} with {title_of(correction)}")
        if changes:
            said.append(f"{VARIABLES[name].said}, IQR / median changes {_and(changes)}")
    return _sentences(said)


def say_eta(table: pd.DataFrame, corrections: Sequence[str]) -> str:
    """Where the median response is furthest from one, and in how many bins that is more than noise."""
    said = []
    for correction, rows in _by_correction(table, corrections):
        worst = rows.loc[(rows["median"] - 1).abs().idxmax()]
        said.append(
            f"{title_of(correction)} is furthest from one at {worst['low']:.2f} < η < {worst['high']:.2f} "
            f"({_percent(worst['median'] - 1, worst['median_error'])}) and more than 1 % and two errors away in "
            f"{_off(rows)} of {len(rows)} bins"
        )
    return _sentences(said)


def say_closure_map(table: pd.DataFrame, corrections: Sequence[str]) -> str:
    """How many bins of the map close, and the worst one."""
    said = []
    for correction, rows in _by_correction(table, corrections):
        worst = rows.loc[(rows["median"] - 1).abs().idxmax()]
        said.append(
            f"{title_of(correction)} closes to 1 % or two errors in {len(rows) - _off(rows)} of {len(rows)} bins; "
            f"its largest deviation is {_percent(worst['median'] - 1, worst['median_error'])}, at "
            f"{worst['pt_low']:g} to {worst['pt_high']:g} GeV and {worst['low']:.2f} < |η| < {worst['high']:.2f}"
        )
    return _sentences(said)


def say_flavours(table: pd.DataFrame, corrections: Sequence[str]) -> str:
    """How much resolution each correction gains for each group of flavours, averaged over the bins of gen pt."""
    said = []
    for correction in (name for name in corrections if name != "standard"):
        gains = []
        for flavour in FLAVOUR_GROUPS:
            rows = table[(table["correction"] == correction) & (table["flavour"] == flavour)]
            if len(rows):
                gain, error = _mean(1 - rows["ratio"], rows["ratio_error"])
                gains.append(f"{_percent(gain, error, sign=False)} for {'gluon' if flavour == 'g' else flavour} jets")
        if gains:
            said.append(f"averaged over momentum, {title_of(correction)} improves the resolution by {_and(gains)}")
    return _sentences(said)


def say_terms(terms: Mapping[str, pd.DataFrame], corrections: Sequence[str]) -> str:
    """How the terms of the resolution change from the standard correction to the others, in each selection."""
    said = []
    for selection, table in terms.items():
        rows = table.set_index("correction")
        if "standard" not in rows.index:
            continue
        for correction in (name for name in corrections if name != "standard" and name in rows.index):
            changes = []
            for term, unit in TERMS.items():
                before, after = ((rows.loc[name, term], rows.loc[name, f"{term}_error"]) for name in
                                 ("standard", correction))  # fmt: skip
                changes.append(f"{term} from {_with_error(*before)} to {_with_error(*after)} {unit}".rstrip())
            said.append(f"at {_plain(selection)}, {title_of(correction)} changes {_and(changes)}")
    return _sentences(said)


def terms_table(terms: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The terms as a table to read: a row for each selection and correction, numbers with their errors."""
    rows = [
        {"jets": _plain(selection), "correction": title_of(row["correction"])}
        | {
            f"{term} [{unit}]" if unit else term: _with_error(row[term], row[f"{term}_error"])
            for term, unit in TERMS.items()
        }
        | {"χ² / degrees of freedom": f"{row['chi2']:.1f} / {row['ndf']:.0f}"}
        for selection, table in terms.items()
        for _, row in table.iterrows()
    ]
    return pd.DataFrame(rows)


def say_factor(tables: Mapping[str, pd.DataFrame], models: Sequence[str]) -> str:
    """Over which range the median factor of each model goes, against each variable."""
    said = []
    for name, table in tables.items():
        what, unit = VARIABLES[name].said, f" {VARIABLES[name].unit}".rstrip()
        for model, rows in _by_correction(table, models):
            if len(rows) > 1:
                first, last = rows.iloc[0], rows.iloc[-1]
                said.append(
                    f"the median factor of {title_of(model)} goes with the {what} from {first['median']:.3f} (at "
                    f"{first['center']:.0f}{unit}) to {last['median']:.3f} (at {last['center']:.0f}{unit})"
                )
    return _sentences(said)


def say_dijets(pairs: pd.DataFrame, corrections: Sequence[str], settings: PhysicsSettings | None = None) -> str:
    """Median and resolution of the dijet mass, all events in one bin, and the gain over the standard correction."""
    edges = np.array([0.0, np.inf])
    table = profile(pairs, corrections, settings, edges=edges)
    said = []
    for _, row in table.iterrows():
        gain = "" if row["correction"] == "standard" else (
            f", {_percent(1 - row['ratio'], row['ratio_error'], sign=False)} better than {title_of('standard')}"
        )  # fmt: skip
        said.append(
            f"with {title_of(row['correction'])} the mass has a median of "
            f"{_with_error(row['median'], row['median_error'])} and a resolution (IQR / median) of "
            f"{_with_error(row['resolution'], row['resolution_error'])}{gain}"
        )
    return _sentences(said)


def say_calibration(table: pd.DataFrame, models: Sequence[str]) -> str:
    """Between which widths the pulls lie, and where the predicted resolution is furthest from right."""
    said = []
    for model, rows in _by_correction(table, models):
        worst = rows.loc[((rows["pull_width"] - 1) / rows["pull_width_error"]).abs().idxmax()]
        flavour = "gluon" if worst["flavour"] == "g" else worst["flavour"]
        wrong = "small" if worst["pull_width"] > 1 else "large"
        said.append(
            f"the pulls of {title_of(model)} have widths between {rows['pull_width'].min():.2f} and "
            f"{rows['pull_width'].max():.2f}; its σ is most clearly wrong, too {wrong}, for {flavour} jets of "
            f"{worst['low']:g} to {worst['high']:g} GeV (width "
            f"{_with_error(worst['pull_width'], worst['pull_width_error'])})"
        )
    return _sentences(said)


def _by_correction(table: pd.DataFrame, corrections: Sequence[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each correction that has some."""
    for correction in corrections:
        if len(rows := table[table["correction"] == correction]):
            yield correction, rows


def _off(rows: pd.DataFrame) -> int:
    """In how many bins the median is further from one than 1 % and than two errors."""
    away = (rows["median"] - 1).abs()
    return int(((away > 0.01) & (away > 2 * rows["median_error"])).sum())


def _mean(values: pd.Series, errors: pd.Series) -> tuple[float, float]:
    """The mean of independent values weighted by their errors, and its error."""
    weights = 1 / np.maximum(errors, 1e-9) ** 2
    return float((weights * values).sum() / weights.sum()), float(weights.sum() ** -0.5)


def _with_error(value: float, error: float) -> str:
    """A number and its error, rounded as the Particle Data Group does: two digits of an error up to 0.354, else one.

    >>> _with_error(0.98765, 0.0123), _with_error(-12.34, 4.6), _with_error(1.0034, 0.00096)
    ('0.988 ± 0.012', '−12 ± 5', '1.0034 ± 0.0010')
    """
    if not (np.isfinite(error) and error > 0):
        return f"{value:.3g}".replace("-", "−")
    power = int(np.floor(np.log10(error)))
    digits = max(0, (error / 10**power < 3.55) - power)
    return f"{value:.{digits}f} ± {error:.{digits}f}".replace("-", "−")


def _percent(value: float, error: float, *, sign: bool = True) -> str:
    """A share in per cent.

    >>> _percent(0.0234, 0.004), _percent(0.101, 0.012, sign=False), _percent(-0.34, 0.218)
    ('+2.3 ± 0.4 %', '10.1 ± 1.2 %', '−34 ± 22 %')
    """
    return f"{'+' if sign and value > 0 else ''}{_with_error(100 * value, 100 * error)} %"


def _plain(selection: str) -> str:
    """A selection without its mathtext."""
    for old, new in ((r"\eta^\mathrm{gen}", "η"), ("$", "")):
        selection = selection.replace(old, new)
    return selection


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _sentences(parts: Sequence[str]) -> str:
    """What is said, a sentence on a line."""
    lines = [f"{text[0].upper()}{text[1:]}." for text in parts]
    return re.sub(r"-(?=\d)", "−", "\n".join(lines)) or TOO_FEW
