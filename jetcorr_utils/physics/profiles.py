"""The response in fine bins of any variable: the numbers behind the figures, as a tidy table."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..bootstrap import Bootstrap, value_and_error
from ..config import PhysicsSettings
from ..errors import InputError
from .binning import FLAVOURS, PT_BINS, PT_EDGES, Bin, filled_bins
from .predictions import response

__all__ = ["flavour_medians", "flavour_profile", "profile"]


#: what tells where a row of a profile belongs
BIN_COLUMNS = ("correction", "low", "high", "center", "jets")

#: widths of the standard correction beyond which a response is in the tails
TAIL = 2.5

#: what a profile measures, see `profile`
SHAPES = ("median", "resolution", "ratio", "effective_sigma", "tail")


def with_errors(names: Sequence[str]) -> list[str]:
    """Each name, and after it the name of the column with its error."""
    return [column for name in names for column in (name, f"{name}_error")]


def profile(
    predictions: pd.DataFrame,
    corrections: Sequence[str],
    settings: PhysicsSettings | None = None,
    *,
    by: str = "genJetPt",
    edges: NDArray[np.float64] = PT_EDGES,
    eta_bin: Bin | None = None,
    pt_bin: Bin | None = None,
    min_jets: int = 30,
) -> pd.DataFrame:
    """Median response and resolution of each correction in bins of a variable.

    Parameters
    ----------
    predictions
        Test jets.
    corrections
        ``raw``, ``standard`` or names of models.
    settings
        Bootstrap replicas and seed.
    by, edges
        The column to bin in and the edges of the bins; default: fine bins of gen pt in GeV.
    eta_bin, pt_bin
        Only jets in this bin of abs(gen eta) and of gen pt.
    min_jets
        A bin with fewer jets is left out.

    Returns
    -------
    DataFrame with a row for each correction and bin: ``correction, low, high, center`` (the median of the variable),
    ``jets`` and, each with its ``_error``, ``median``, ``resolution`` (IQR / median), ``ratio`` (to the standard
    correction's resolution, paired), ``effective_sigma`` (half the shortest interval with 68 % of the jets, over the
    median) and ``tail``: the share of jets whose response is further from one than 2.5 Gaussian widths of the
    *standard* correction (IQR / 1.349 over its median). It is the same distance for all: a narrower core
    has no larger tails.
    """
    if by not in predictions:
        raise InputError(f"predictions: no branch {by!r} to bin the response in")
    bootstrap, variable = Bootstrap.of(predictions, settings), predictions[by].to_numpy(dtype=np.float64)
    bins = list(filled_bins(variable, edges, min_jets, _inside(predictions, eta_bin, pt_bin)))
    standard = response(predictions, "standard")
    references = [bootstrap.resolution(standard, rows) for _, _, rows in bins]
    result = []
    for correction in corrections:
        values = response(predictions, correction)
        for (low, high, rows), reference in zip(bins, references, strict=True):
            row = {"correction": correction, "low": low, "high": high}
            row |= {"center": np.median(variable[rows]), "jets": len(rows)}
            for name, numbers in _shape(bootstrap, values, rows, reference).items():
                row |= value_and_error(name, numbers)
            result.append(row)
    return pd.DataFrame(result, columns=[*BIN_COLUMNS, *with_errors(SHAPES)])


def flavour_medians(
    predictions: pd.DataFrame,
    corrections: Sequence[str],
    settings: PhysicsSettings | None = None,
    *,
    pt_bin: Bin = PT_BINS[0],
    eta_bin: Bin | None = None,
    min_jets: int = 20,
) -> pd.DataFrame:
    """Median response by flavour.

    Returns a row for each correction and flavour: ``correction, flavour, jets, median, median_error``.
    """
    bootstrap = Bootstrap.of(predictions, settings)
    inside, flavour = _inside(predictions, eta_bin, pt_bin), predictions["flavour"].to_numpy()
    result = []
    for correction in corrections:
        values = response(predictions, correction)
        for code, name in FLAVOURS.items():
            rows = np.flatnonzero(inside & (flavour == code))
            if len(rows) >= min_jets:
                row = {"correction": correction, "flavour": name, "jets": len(rows)}
                result.append(row | value_and_error("median", bootstrap.median(values, rows)))
    return pd.DataFrame(result, columns=["correction", "flavour", "jets", "median", "median_error"])


def flavour_profile(
    predictions: pd.DataFrame,
    corrections: Sequence[str],
    settings: PhysicsSettings | None = None,
    *,
    first: Sequence[str],
    second: Sequence[str],
    edges: NDArray[np.float64],
    eta_bin: Bin | None = None,
    min_jets: int = 30,
) -> pd.DataFrame:
    """Difference of the median responses of two groups of flavours in bins of gen pt, with paired errors.

    Returns a row for each correction and bin: ``correction, low, high, center, difference, difference_error``.
    """
    bootstrap = Bootstrap.of(predictions, settings)
    pt, inside = predictions["genJetPt"].to_numpy(dtype=np.float64), _inside(predictions, eta_bin, None)
    groups = [has_flavour(predictions, first), has_flavour(predictions, second)]
    result = []
    for correction in corrections:
        values = response(predictions, correction)
        for low, high in pairwise(edges):
            here = inside & (pt >= low) & (pt < high)
            rows = [np.flatnonzero(here & group) for group in groups]
            if min(map(len, rows)) < min_jets:
                continue
            difference = bootstrap.median(values, rows[0]) - bootstrap.median(values, rows[1])
            row = {"correction": correction, "low": low, "high": high, "center": np.median(pt[np.concatenate(rows)])}
            result.append(row | value_and_error("difference", difference))
    return pd.DataFrame(result, columns=["correction", "low", "high", "center", "difference", "difference_error"])


def _shape(
    bootstrap: Bootstrap, values: NDArray[np.float64], rows: NDArray[np.int64], reference: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Bootstrapped numbers (1 + R,) that describe the distribution of ``values[rows]``."""
    low, median, high = bootstrap.quantiles(values, rows, (0.25, 0.5, 0.75)).T
    resolution = (high - low) / median
    far = np.abs(values - 1) > TAIL * reference[0] / 1.349
    return {
        "median": median, "resolution": resolution, "ratio": resolution / reference,
        "effective_sigma": bootstrap.effective_sigma(values, rows) / median, "tail": bootstrap.mean(far, rows),
    }  # fmt: skip


def _inside(predictions: pd.DataFrame, eta_bin: Bin | None, pt_bin: Bin | None) -> NDArray[np.bool_]:
    inside = np.ones(len(predictions), dtype=bool)
    if eta_bin is not None:
        inside &= eta_bin.contains(predictions["genJetEta"].abs())
    if pt_bin is not None:
        inside &= pt_bin.contains(predictions["genJetPt"])
    return inside


def has_flavour(predictions: pd.DataFrame, names: Sequence[str]) -> NDArray[np.bool_]:
    codes = {name: code for code, name in FLAVOURS.items()}
    unknown = [name for name in names if name not in codes]
    if unknown:
        raise InputError(f"flavour {unknown[0]!r} is not one of {', '.join(codes)}")
    return predictions["flavour"].isin([codes[name] for name in names]).to_numpy()
