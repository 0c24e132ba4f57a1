"""A metric of one's own: noted of each trial of a search, and in metrics.json, the results table and the figures."""

from __future__ import annotations

from jetcorr_utils.metrics import Jets, Metric, add_metric


def far_off(jets: Jets):
    """The share of jets whose corrected pt is more than 30 % off."""
    return jets.mean(abs(jets.response - 1) > 0.3)


add_metric(Metric("far_off", "jets far off", better="less", unit="%", function=far_off))
