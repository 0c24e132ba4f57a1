"""The figures: labelled axes, legends and texts that cover no data, the project's style wherever they are drawn."""

import io

import awkward as ak
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.patches import StepPatch
from scipy.stats import spearmanr

from jetcorr_utils import physics
from jetcorr_utils.config import PhysicsSettings, load_study
from jetcorr_utils.errors import InputError
from jetcorr_utils.physics import explore
from jetcorr_utils.physics.binning import ETA_BINS, PT_BINS, Bin, selection_text
from jetcorr_utils.style import color_of, marker_of, save_figure, title_of

FEW = PhysicsSettings(replicas=5)
ALL = ["raw", "standard", "pfn", "particlenet"]
MODELS = ["pfn", "particlenet"]


def resolution_terms(predictions):
    tables = physics.resolution_profiles(predictions, ALL[1:], FEW)
    terms = {selection: physics.resolution_terms(table, ALL[1:]) for selection, table in tables.items()}
    return physics.plot_resolution_terms(tables, terms, ALL[1:])


FIGURES = {
    "distribution": lambda p: physics.plot_response_distribution(p, ALL, PT_BINS[2], ETA_BINS[0]),
    "median": lambda p: physics.plot_median_response(p, ALL, ETA_BINS[0], FEW),
    "residual_closure": lambda p: physics.plot_residual_closure(p, {"standard": "pfn"}, settings=FEW),
    "resolution": lambda p: physics.plot_resolution(p, ALL[1:], ETA_BINS[1], FEW),
    "checks": lambda p: physics.plot_response_checks(p, ALL[1:], settings=FEW),
    "width": lambda p: physics.plot_width_and_tails(p, ALL[1:], ETA_BINS[2], FEW),
    "rho": lambda p: physics.plot_median_against(p, ALL[1:], "rhoAll", [5, 10, 20, 40], r"$\rho$ [GeV]", settings=FEW),
    "resolution_gain": lambda p: physics.plot_gain(physics.measure(p, MODELS, FEW, progress=False)),
    "flavour_gain": lambda p: physics.plot_gain(physics.measure(p, MODELS, FEW, progress=False), "flavour_gain"),
    "flavour_response": lambda p: physics.plot_flavour_response(p, ALL[1:], PT_BINS[3], ETA_BINS[0], FEW),
    "flavour_difference": lambda p: physics.plot_flavour_difference(p, ALL[1:], settings=FEW),
    "pull": lambda p: physics.plot_pull(p, MODELS),
    "coverage": lambda p: physics.plot_coverage(p, MODELS, FEW),
    "predicted_resolution": lambda p: physics.plot_predicted_resolution(p, MODELS, FEW),
    "dependence": lambda p: physics.plot_dependence(physics.dependence(p, ALL[1:], FEW), ALL[1:]),
    "fine_eta": lambda p: physics.plot_fine_eta(physics.eta_profile(p, ALL[1:], FEW), ALL[1:]),
    "closure_map": lambda p: physics.plot_closure_map(physics.closure_map(p, ALL[1:], FEW), ALL[1:]),
    "flavours": lambda p: physics.plot_flavour_profiles(physics.flavour_profiles(p, ALL[1:], FEW), ALL[1:]),
    "resolution_terms": resolution_terms,
    "factor": lambda p: physics.plot_factor(physics.factor_profile(p, MODELS, FEW), MODELS),
    "dijets": lambda p: physics.plot_dijet_mass(physics.dijets(p, ALL[1:]), ALL[1:], FEW),
    "sigma": lambda p: physics.plot_sigma_calibration(physics.sigma_calibration(p, MODELS, FEW), MODELS),
}
DATA_FIGURES = [
    "plot_spectrum", "plot_pt_eta", "plot_flavour_fractions", "plot_target", "plot_pileup", "plot_substructure",
    "plot_correlations", "plot_particle_multiplicities", "plot_energy_fractions", "plot_particle_cloud",
    "plot_jet_images",
]  # fmt: skip


def data_points(ax):
    """Pixels (N, 2) of all that shows data in the axes: markers, error bars, histogram steps, scattered particles."""
    points = [ax.transData.transform(line.get_xydata()) for line in ax.lines if line.get_transform() == ax.transData]
    for container in ax.containers:
        if hasattr(container, "has_yerr"):
            for bars in container.lines[2]:
                points += [ax.transData.transform(segment) for segment in bars.get_segments()]
    for patch in ax.patches:
        if isinstance(patch, StepPatch):
            points.append(ax.transData.transform(patch.get_path().vertices))
    for collection in ax.collections:
        if isinstance(collection, PathCollection) and len(collection.get_offsets()):
            points.append(ax.transData.transform(collection.get_offsets()))
    points = np.concatenate(points) if points else np.empty((0, 2))
    inside = (
        ax.bbox.x0 <= points[:, 0],
        points[:, 0] <= ax.bbox.x1,
        ax.bbox.y0 <= points[:, 1],
        points[:, 1] <= ax.bbox.y1,
    )
    return points[np.logical_and.reduce(inside)]


def check(figure):
    """Draw the figure and check what can be checked without eyes."""
    figure.draw_without_rendering()
    for ax in figure.axes:
        points = data_points(ax)
        boxes = [text.get_window_extent() for text in ax.texts if text.get_transform() == ax.transAxes]
        if ax.get_legend():
            boxes.append(ax.get_legend().get_window_extent())
            titles = [text.get_text() for text in ax.get_legend().get_texts()]
            assert len(titles) == len(set(titles)), "each entry once"
        for box in boxes:
            covered = [point for point in points if box.contains(*point)]
            assert not covered, f"text or legend covers {len(covered)} data points"
    assert any(ax.get_xlabel() or ax.get_ylabel() for ax in figure.axes)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_of_the_predictions(predictions, name):
    check(FIGURES[name](predictions))


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:An input array is constant")
@pytest.mark.parametrize("jets", [3, 300])
@pytest.mark.parametrize("name", FIGURES)
def test_figures_of_few_jets(predictions, name, jets):
    """A study for tests has a few hundred test jets: a figure says that these are too few, and does not fail."""
    check(FIGURES[name](predictions.iloc[-jets:].reset_index(drop=True)))


@pytest.mark.parametrize("jets", [40])
@pytest.mark.parametrize("name", DATA_FIGURES)
def test_figures_of_the_data_of_few_jets(toy_jets, name, jets):
    check(getattr(physics, name)(toy_jets[:jets]))


@pytest.mark.parametrize("name", DATA_FIGURES)
def test_figures_of_the_data(toy_jets, name):
    check(getattr(physics, name)(toy_jets))


@pytest.fixture(scope="module")
def variants(predictions):
    """Metrics of several variants, of which one has a bin without a value."""
    jets = predictions
    for name, scale in {"pfn_balanced": 1.02, "particlenet_full": 0.97, "trees": 1.05, "oracle_flavour": 1.1}.items():
        shift = (jets["pfn_pt"] / jets["genJetPt"]) ** scale
        jets = jets.assign(**{f"{name}_pt": jets["genJetPt"] * shift})
    names = ["pfn", "pfn_balanced", "particlenet", "particlenet_full", "trees", "oracle_flavour"]
    return physics.measure(jets, names, FEW, progress=False)


def test_figures_that_compare_trainings(variants, predictions):
    check(physics.plot_limits(variants, list(variants)[1:]))
    too_few = physics.measure(predictions.iloc[:50], ["pfn"], FEW, progress=False)
    check(physics.plot_limits(variants | too_few, ["trees", "pfn"]))
    weights = {"pfn": 0, "pfn_balanced": 0.3, "particlenet": 0, "particlenet_full": 0.3}
    models = load_study("default").models
    check(physics.plot_frontier(physics.with_settings(variants, models), weights))
    check(
        physics.plot_variations(
            {"nominal": variants, "calorimeter +3 %": variants}, ["pfn", "trees"], "resolution_gain"
        )
    )
    curve = pd.DataFrame({"model": ["pfn"] * 3 + ["trees"] * 2, "jets": [1e3, 1e4, 1e5, 1e3, 1e4]})
    check(physics.plot_learning_curve(curve.assign(resolution_gain=0.05, resolution_gain_error=0.01)))


def test_figures_are_closed_and_saved_whole(predictions, tmp_path):
    before = plt.get_fignums()
    figure = FIGURES["pull"](predictions)
    assert plt.get_fignums() == before
    paths = save_figure(figure, tmp_path / "figures", "pull")
    assert [path.name for path in paths] == ["pull.png", "pull.pdf"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert paths[1].read_bytes().startswith(b"%PDF")
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["pull.pdf", "pull.png"]


def test_the_same_figure_gives_the_same_files(predictions, tmp_path):
    first, second = (save_figure(FIGURES["pull"](predictions), tmp_path / folder, "pull") for folder in "ab")
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_the_style_survives_the_change_of_settings(predictions):
    """A notebook draws a figure after the function has returned, with settings of its own."""
    figure = FIGURES["distribution"](predictions)
    inside = io.BytesIO()
    figure.savefig(inside, format="raw", dpi=120)
    outside = io.BytesIO()
    with plt.style.context({"font.family": "serif", "xtick.major.size": 1, "axes.labelsize": 40}):
        figure.savefig(outside, format="raw", dpi=120)
    assert np.array_equal(np.frombuffer(inside.getvalue(), np.uint8), np.frombuffer(outside.getvalue(), np.uint8))


@pytest.mark.parametrize("source", ["jetcorr simulation", ""])
def test_a_figure_says_what_made_its_jets_and_nothing_where_it_is_not_told(predictions, source):
    figure = physics.plot_pull(predictions, MODELS).complete(source)
    texts = [text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]
    assert [text for text in texts if "simulation" in text] == ([source] if source else [])
    assert any("13 TeV" in text for text in texts)
    assert not any("CMS" in text for text in texts)


def test_every_model_has_a_look_of_its_own():
    load_study("default")
    shown = ["raw", "standard", "pfn", "particlenet", "particlenet_full", "particlenet_balanced", "pfn_full", "trees"]
    assert len({color_of(name, shown) for name in shown}) == len(shown)
    assert len({marker_of(name, shown) for name in shown}) == len(shown)
    assert title_of("particlenet_full_balanced") == "ParticleNet (full balanced)"
    assert title_of("particlenet_full_closed") == "ParticleNet (full closed)"


@pytest.fixture
def official():
    """A study whose jets are corrected anew; the others have the label of the simulation again."""
    load_study("smoke", {"data.corrections": "jet_jerc.json.gz", "data.compound": "X_V1_MC_L1L2L3Res_AK4PFPuppi"})
    yield
    load_study("smoke")


@pytest.mark.parametrize("draw", [*FIGURES.values(), lambda p: explore.plot_spectrum(ak.Array(dict(p)))])
def test_figures_call_the_standard_correction_what_it_is(predictions, official, draw):
    figure = draw(predictions.iloc[:2000])
    texts = [text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]
    assert not any("L2L3" in text.replace("L1L2L3Res", "") for text in texts)


def test_sentences_and_tables_call_the_standard_correction_what_it_is(predictions, official):
    dijets = physics.dijets(predictions, ALL[1:])
    assert "better than L1L2L3Res" in physics.say_dijets(dijets, ALL[1:], FEW)
    tables = physics.resolution_profiles(predictions, ALL[1:], FEW)
    terms = {selection: physics.resolution_terms(table, ALL[1:]) for selection, table in tables.items()}
    assert "L1L2L3Res" in set(physics.terms_table(terms)["correction"])
    load_study("smoke")
    assert "better than L1 + L2L3" in physics.say_dijets(dijets, ALL[1:], FEW)


def test_a_model_looks_as_its_architecture_says_whatever_its_name_is(tmp_path):
    models = {"first": {}, "deep_sets": {}, "wide": {"variant_of": "first"}, "again": {"seed_of": "first"}}
    settings = {name: {"architecture": "pfn"} | more for name, more in models.items()}
    load_study("smoke", {"models": settings, "tuning.model": "wide"})
    titles = ["PFN", "PFN (deep_sets)", "PFN (wide)", "PFN (again)"]
    assert [title_of(name) for name in models] == titles
    load_study("smoke")
    assert color_of("first") == color_of("pfn")
    assert len({color_of(name, list(models)) for name in models}) == len(models)


def test_selections_are_written_as_inequalities():
    assert selection_text(Bin(30, np.inf), Bin(0, 1.3)) == (
        "$p_\\mathrm{T}^\\mathrm{gen} > 30\\ \\mathrm{GeV}$\n$|\\eta^\\mathrm{gen}| < 1.3$"
    )


def test_a_jet_that_is_not_there_is_refused(toy_jets):
    with pytest.raises(InputError, match="jet 3000 is not one of the 3000 jets"):
        physics.plot_particle_cloud(toy_jets, 3000)


def test_energy_fractions_add_up(toy_jets):
    shares = physics.energy_fractions(toy_jets)
    np.testing.assert_allclose(sum(shares.values()), 1, rtol=1e-5)
    assert all((share >= 0).all() for share in shares.values())


def test_the_data_quality_table_finds_what_is_missing(toy_jets):
    import awkward as ak

    rho = ak.to_numpy(toy_jets["rhoAll"]).copy()
    rho[:7] = np.nan
    table = physics.data_quality(ak.with_field(toy_jets, rho, "rhoAll"))
    assert table.loc["rhoAll", "missing"] == 7
    assert table.loc["jetPt", "missing"] == 0
    assert table.loc["run", "distinct"] == 1
    assert "particles" not in table.index


def test_the_results_table_shows_ours_beside_the_published(predictions):
    metrics = physics.measure(predictions, MODELS, FEW, progress=False)
    table = physics.results_table(metrics)
    assert len(table) == 2 * 3 * 5
    row = table[(table["gain"] == "resolution gain") & (table["|η|"] == "0-1.3") & (table["gen pt [GeV]"] == "30+")]
    entry = metrics["pfn"]["resolution_gain"]["0-1.3"]["30-inf"]
    assert row["pfn"].item() == f"{100 * entry['value']:.1f} ± {100 * entry['error']:.1f}"
    assert row["published"].item() == "2.2 (paper, PFN), 2.5 (paper, ParticleNet)"
    markdown = physics.results_markdown(metrics, etas=("0-2.5",)).splitlines()
    assert len(markdown) == 2 + 10
    assert len({len(line) for line in markdown}) == 1, "columns are aligned"
    with pytest.raises(InputError, match="no model 'gnn'"):
        physics.results_table(metrics, ["gnn"])
    with pytest.raises(InputError, match=r"'0-3': there are 0-1\.3"):
        physics.results_markdown(metrics, etas=("0-3",))


def test_a_bin_without_a_value_is_a_dash(predictions):
    low = predictions[predictions["genJetPt"] < 200].reset_index(drop=True)
    metrics = physics.measure(low, ["pfn"], FEW, progress=False)
    table = physics.results_table(metrics)
    assert set(table[table["gen pt [GeV]"] == "1000+"]["pfn"]) == {"-"}
    check(physics.plot_gain(metrics))


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize(
    "name", ["rhoAll", "PV_npvsGood", "QG_mult", "QG_ptD", "QG_axis2", "jetMass", "jetEta", "genJetPt"]
)
def test_a_column_that_is_the_same_for_all_jets_stops_no_figure(make_jets, name, value):
    jets = make_jets(300)
    jets = ak.with_field(jets, np.full(len(jets), value, ak.to_numpy(jets[name]).dtype), name)
    for figure in ("plot_pt_eta", "plot_pileup", "plot_substructure", "plot_correlations", "plot_target"):
        getattr(explore, figure)(jets).savefig(io.BytesIO())


def test_a_constant_column_has_no_rank_correlation_and_leaves_the_others_theirs():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(50, 3))
    expected = spearmanr(values[:, [0, 2]]).statistic
    values[:, 1] = 0
    matrix = explore.rank_correlations(values)
    assert matrix[0, 2] == pytest.approx(expected)
    assert np.isnan(matrix[1]).all()
    assert np.isnan(explore.rank_correlations(values[:0])).all()


@pytest.mark.parametrize("name", ["rhoAll", "PV_npvsGood"])
def test_the_response_against_a_variable_without_a_spread_is_one_point(predictions, name):
    table = predictions.assign(**{name: 0.0})
    figure = physics.plot_median_against(table, ["standard"], name, [0, 0, 0], "x", settings=FEW)
    assert len(data_points(figure.axes[0])) > 0
    physics.plot_response_checks(table, ["standard"], settings=FEW).savefig(io.BytesIO())
