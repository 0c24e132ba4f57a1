"""Quick figures of a trial on the validation jets: no bins and no errors, but enough to compare trials.

The full measurement, in bins and with bootstrap errors, is made of the chosen model by `jetcorr_utils.physics`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..bootstrap import Bootstrap
from ..data.dataset import CloudDataset
from ..data.features import start_pt
from ..jets.flavours import FLAVOURS, paper_flavour
from ..metrics import METRICS, Jets, trial_metrics

__all__ = ["constant_error", "response_metrics"]

MIN_JETS = 20  # of a flavour, for its median to count


def constant_error(training: CloudDataset, validation: CloudDataset) -> float:
    """Mean absolute error on `validation` of the best constant, which is the median target of `training`."""
    constant = np.nanmedian(training.target)
    return float(np.nanmean(np.abs(validation.target - constant)))


def response_metrics(table: Mapping[str, NDArray], log_factor: NDArray) -> dict[str, float]:
    """The metrics of a correction that a trial is compared by, in all jets at once.

    Parameters
    ----------
    table
        Columns of the jets, each (B,): jetPt and genJetPt in GeV, hadronFlav, partonFlav.
    log_factor
        (B,) the correction log(pt_gen/pt) that the network gives.

    Returns
    -------
    dict
        By the names in `metrics.METRICS`; of the flavours, those that have enough jets. NaN where none has.
    """
    matched = np.asarray(table["genJetPt"]) > 0
    standard = np.asarray(table["jetPt"], dtype=float)[matched] / np.asarray(table["genJetPt"], dtype=float)[matched]
    start = np.asarray(start_pt(table), dtype=float)[matched] / np.asarray(table["genJetPt"], dtype=float)[matched]
    response = start * np.exp(np.asarray(log_factor, dtype=float)[matched])
    flavour = paper_flavour(np.asarray(table["hadronFlav"])[matched], np.asarray(table["partonFlav"])[matched])
    groups = [rows for code in FLAVOURS if len(rows := np.flatnonzero(flavour == code)) >= MIN_JETS]
    data, rows = Bootstrap.of_data(len(response)), np.arange(len(response))
    jets = Jets(data, response, rows, groups, Jets(data, standard, rows, groups))
    found = {name: metric.function(jets) for name in trial_metrics() if (metric := METRICS[name]).function}
    return {name: float("nan") if values is None else float(values[0]) for name, values in found.items()}
