"""Quick figures of a trial on the validation jets: no bins and no errors, but enough to compare trials.

The full measurement, in bins and with bootstrap errors, is made of the chosen model by `jetcorr_utils.physics`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import CloudDataset
from ..jets.flavours import FLAVOURS, paper_flavour

__all__ = ["constant_error", "response_metrics"]

MIN_JETS = 20  # of a flavour, for its median to count


def constant_error(training: CloudDataset, validation: CloudDataset) -> float:
    """Mean absolute error on `validation` of the best constant, which is the median target of `training`."""
    constant = np.nanmedian(training.target)
    return float(np.nanmean(np.abs(validation.target - constant)))


def response_metrics(table: Mapping[str, NDArray], log_factor: NDArray) -> dict[str, float]:
    """Resolution gain, flavour spread and closure of a correction.

    Parameters
    ----------
    table
        Columns of the jets, each (B,): jetPt and genJetPt in GeV, hadronFlav, partonFlav.
    log_factor
        (B,) the correction log(pt_gen/pt) that the network gives.

    Returns
    -------
    dict
        `resolution_gain` = 1 - r/r0 with r = IQR/median of the response and r0 that of the standard correction;
        `flavour_spread` = sum over u, d, s, c, b, g of abs(median - mean of the medians), over the flavours that
        have enough jets; `closure` = median response - 1.
    """
    matched = np.asarray(table["genJetPt"]) > 0
    standard = np.asarray(table["jetPt"], dtype=float)[matched] / np.asarray(table["genJetPt"], dtype=float)[matched]
    response = standard * np.exp(np.asarray(log_factor, dtype=float)[matched])
    flavour = paper_flavour(np.asarray(table["hadronFlav"])[matched], np.asarray(table["partonFlav"])[matched])
    medians = [np.median(response[flavour == f]) for f in FLAVOURS if np.count_nonzero(flavour == f) >= MIN_JETS]
    return {
        "resolution_gain": float(1 - _relative_width(response) / _relative_width(standard)),
        "flavour_spread": float(np.sum(np.abs(np.array(medians) - np.mean(medians)))) if medians else float("nan"),
        "closure": float(np.median(response) - 1),
    }


def _relative_width(response: NDArray) -> float:
    """Interquartile range over median."""
    low, median, high = np.percentile(response, [25, 50, 75])
    return float((high - low) / median)
