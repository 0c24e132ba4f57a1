"""The physics: response, resolution, flavour dependence and uncertainty of the corrected jets, as numbers and figures.

Numbers: `predictions` (reading), `measurement` (metrics.json), `profiles` (against any variable), `gains_table` (beside
the `published` figures), `closure` (residual correction) and `closure_checks`, `fine_bins` (where a jet expert looks)
and `findings` (what is seen there, as sentences), `limits` (trees and oracles), `prior` (other spectra), `seeds`,
`model_groups` (several trainings), `cms` (our simulation beside CMS's, drawn by `cms_plots`), `variations` (other
simulations), `requested_parts` (what a study asks for beyond). Figures of the data: `explore`, `explore_particles`,
`browse`; of a training: `learning`, `attention`; of the corrected jets: `response_plots`, `flavour_plots`,
`check_plots`, `fine_plots`, `uncertainty`; of several trainings: `study_plots`. Each ``plot_…`` function returns a
figure, and `save_figure` writes it.

The response histograms filled by coffea are in `jetcorr_utils.physics.response`, not imported here because coffea takes
seconds to import.
"""

from ..style import save_figure
from .attention import class_shares, input_importance, plot_class_dependence, plot_input_importance
from .binning import ETA_BINS, FLAVOURS, PT_BINS, PT_EDGES, Bin
from .browse import browse_jets
from .check_plots import plot_median_against, plot_response_checks
from .closure import apply_closure, derive_closure, load_closure, save_closure
from .closure_checks import closure_summary
from .cms import cms_comparison, cms_summary, cms_table
from .cms_plots import plot_cms_candidates, plot_cms_flavour, plot_cms_resolution, plot_cms_rings, plot_cms_shapes
from .explore import (
    data_quality,
    plot_correlations,
    plot_flavour_fractions,
    plot_pileup,
    plot_pt_eta,
    plot_spectrum,
    plot_substructure,
    plot_target,
)
from .explore_particles import (
    energy_fractions,
    plot_energy_fractions,
    plot_jet_images,
    plot_particle_cloud,
    plot_particle_multiplicities,
)
from .findings import (
    say_calibration,
    say_closure_map,
    say_dependence,
    say_dijets,
    say_eta,
    say_factor,
    say_flavours,
    say_terms,
    terms_table,
)
from .fine_bins import (
    closure_map,
    dependence,
    dijets,
    eta_profile,
    factor_profile,
    flavour_profiles,
    resolution_profiles,
    resolution_terms,
    sigma_calibration,
)
from .fine_plots import (
    plot_closure_map,
    plot_dependence,
    plot_dijet_mass,
    plot_factor,
    plot_fine_eta,
    plot_flavour_profiles,
    plot_resolution_terms,
    plot_sigma_calibration,
)
from .flavour_plots import plot_flavour_difference, plot_flavour_response
from .gains_table import results_markdown, results_table
from .learning import compare_parts, overfitting, plot_history, plot_learning_rate, plot_overfitting, plot_prediction
from .limits import LIMITS, add_limits
from .measurement import measure
from .model_groups import (
    choose_weights,
    first_trainings,
    frontier_weights,
    learning_curve,
    main_models,
    seed_groups,
    variants,
    with_settings,
)
from .precision import plot_precision_cost, precision_cost
from .predictions import load_predictions, model_names, predictions_table
from .prior import plot_prior_dependence, prior_profile
from .profiles import flavour_medians, flavour_profile, profile
from .published import PUBLISHED, published_table, source_table
from .requested_parts import (
    add_closed,
    add_offset_correction,
    add_reference_corrections,
    closed,
    closure_figures,
    compare_with_file,
    find_predictions,
    first_corrections,
    further_figures,
    limit_figures,
    prior_figures,
    references,
    training_figures,
    variation_figures,
    weights_on_validation,
)
from .response_plots import (
    plot_gain,
    plot_median_response,
    plot_residual_closure,
    plot_resolution,
    plot_response_distribution,
    plot_width_and_tails,
)
from .seeds import with_seed_spread
from .study_plots import plot_frontier, plot_learning_curve, plot_limits, plot_variations
from .uncertainty import coverage_profile, plot_coverage, plot_predicted_resolution, plot_pull
from .variations import measure_variations, variations_table

__all__ = [
    "ETA_BINS",
    "FLAVOURS",
    "LIMITS",
    "PT_BINS",
    "PT_EDGES",
    "PUBLISHED",
    "Bin",
    "add_closed",
    "add_limits",
    "add_offset_correction",
    "add_reference_corrections",
    "apply_closure",
    "browse_jets",
    "choose_weights",
    "class_shares",
    "closed",
    "closure_figures",
    "closure_map",
    "closure_summary",
    "cms_comparison",
    "cms_summary",
    "cms_table",
    "compare_parts",
    "compare_with_file",
    "coverage_profile",
    "data_quality",
    "dependence",
    "derive_closure",
    "dijets",
    "energy_fractions",
    "eta_profile",
    "factor_profile",
    "find_predictions",
    "first_corrections",
    "first_trainings",
    "flavour_medians",
    "flavour_profile",
    "flavour_profiles",
    "frontier_weights",
    "further_figures",
    "input_importance",
    "learning_curve",
    "limit_figures",
    "load_closure",
    "load_predictions",
    "main_models",
    "measure",
    "measure_variations",
    "model_names",
    "overfitting",
    "plot_class_dependence",
    "plot_closure_map",
    "plot_cms_candidates",
    "plot_cms_flavour",
    "plot_cms_resolution",
    "plot_cms_rings",
    "plot_cms_shapes",
    "plot_correlations",
    "plot_coverage",
    "plot_dependence",
    "plot_dijet_mass",
    "plot_energy_fractions",
    "plot_factor",
    "plot_fine_eta",
    "plot_flavour_difference",
    "plot_flavour_fractions",
    "plot_flavour_profiles",
    "plot_flavour_response",
    "plot_frontier",
    "plot_gain",
    "plot_history",
    "plot_input_importance",
    "plot_jet_images",
    "plot_learning_curve",
    "plot_learning_rate",
    "plot_limits",
    "plot_median_against",
    "plot_median_response",
    "plot_overfitting",
    "plot_particle_cloud",
    "plot_particle_multiplicities",
    "plot_pileup",
    "plot_precision_cost",
    "plot_predicted_resolution",
    "plot_prediction",
    "plot_prior_dependence",
    "plot_pt_eta",
    "plot_pull",
    "plot_residual_closure",
    "plot_resolution",
    "plot_resolution_terms",
    "plot_response_checks",
    "plot_response_distribution",
    "plot_sigma_calibration",
    "plot_spectrum",
    "plot_substructure",
    "plot_target",
    "plot_variations",
    "plot_width_and_tails",
    "precision_cost",
    "predictions_table",
    "prior_figures",
    "prior_profile",
    "profile",
    "published_table",
    "references",
    "resolution_profiles",
    "resolution_terms",
    "results_markdown",
    "results_table",
    "save_closure",
    "save_figure",
    "say_calibration",
    "say_closure_map",
    "say_dependence",
    "say_dijets",
    "say_eta",
    "say_factor",
    "say_flavours",
    "say_terms",
    "seed_groups",
    "sigma_calibration",
    "source_table",
    "terms_table",
    "training_figures",
    "variants",
    "variation_figures",
    "variations_table",
    "weights_on_validation",
    "with_seed_spread",
    "with_settings",
]  # fmt: skip
