"""The physics: response, resolution, flavour dependence and uncertainty of the corrected jets, as numbers and figures.

The response histograms filled by coffea are in `jetcorr_utils.physics.response`, not imported here because coffea takes
seconds to import.
"""

from .binning import ETA_BINS, FLAVOURS, PT_BINS, PT_EDGES, Bin
from .flavour_plots import plot_flavour_difference, plot_flavour_response
from .learning import plot_history, plot_prediction
from .metrics import measure
from .plots import plot_gain, plot_median_against, plot_median_response, plot_resolution, plot_response_distribution
from .predictions import load_predictions, model_names, response
from .profiles import flavour_medians, flavour_profile, profile
from .published import PUBLISHED
from .results import results_markdown, results_table
from .style import save_figure
from .uncertainty import coverage_profile, plot_coverage, plot_predicted_resolution, plot_pull

__all__ = [
    "ETA_BINS",
    "FLAVOURS",
    "PT_BINS",
    "PT_EDGES",
    "PUBLISHED",
    "Bin",
    "coverage_profile",
    "flavour_medians",
    "flavour_profile",
    "load_predictions",
    "measure",
    "model_names",
    "plot_coverage",
    "plot_flavour_difference",
    "plot_flavour_response",
    "plot_gain",
    "plot_history",
    "plot_median_against",
    "plot_median_response",
    "plot_predicted_resolution",
    "plot_prediction",
    "plot_pull",
    "plot_resolution",
    "plot_response_distribution",
    "profile",
    "response",
    "results_markdown",
    "results_table",
    "save_figure",
]
