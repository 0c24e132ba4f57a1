"""How well corrections close: the largest deviation of the median response from one, over fine bins and by flavour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..bootstrap import Bootstrap
from ..config import PhysicsSettings
from .binning import ETA_BINS, FLAVOURS, PT_EDGES_ABOVE_CUT, filled_bins
from .predictions import response

__all__ = ["closure_summary"]

COLUMNS = ("correction", "jets of", "bins", "largest [%]", "error [%]", "beyond 1 %", "|η|", "gen pt [GeV]")


def closure_summary(
    predictions: pd.DataFrame,
    corrections: Sequence[str],
    settings: PhysicsSettings | None = None,
    *,
    min_jets: int = 1000,
) -> pd.DataFrame:
    """The worst bin of each correction, for all jets and for each flavour.

    Bins are fine ones in gen pt, in the barrel and the endcap; those with fewer than `min_jets` jets are left out.

    Returns
    -------
    DataFrame with a row for each correction and for all jets or a flavour (``jets of``): how many ``bins`` there are,
    the ``largest [%]`` deviation of the median response from one with its ``error [%]`` and its bin, and how many bins
    lie ``beyond 1 %``.
    """
    bootstrap = Bootstrap.of(predictions, settings)
    pt, eta = predictions["genJetPt"].to_numpy(dtype=np.float64), predictions["genJetEta"].abs().to_numpy()
    flavour, rows = predictions["flavour"].to_numpy(), []
    for correction in corrections:
        values = response(predictions, correction)
        for code, name in ({None: "all flavours"} | FLAVOURS).items():
            known = np.ones(len(pt), dtype=bool) if code is None else flavour == code
            found = []
            for eta_bin in ETA_BINS[:2]:
                for low, high, rows_in in filled_bins(pt, PT_EDGES_ABOVE_CUT, min_jets, known & eta_bin.contains(eta)):
                    median = bootstrap.median(values, rows_in)
                    error = np.std(median[1:], ddof=1)
                    found.append((100 * (median[0] - 1), 100 * error, eta_bin.name, f"{low:.0f}-{high:.0f}"))
            if found:
                largest = max(found, key=lambda entry: abs(entry[0]))
                beyond = sum(abs(entry[0]) > 1 for entry in found)
                rows.append((correction, name, len(found), *largest[:2], beyond, *largest[2:]))
    return pd.DataFrame(rows, columns=list(COLUMNS))
