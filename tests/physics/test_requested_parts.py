"""The parts of notebook 06 that a study asks for: there if it does, absent if it does not."""

import pytest
import uproot

from jetcorr_utils import physics
from jetcorr_utils.config import DataSettings, Study, TuningSettings
from jetcorr_utils.errors import MissingStageError
from jetcorr_utils.files import read_json
from jetcorr_utils.physics.predictions import check_predictions
from jetcorr_utils.run import RunFolder


def study(models=("pfn",), **settings):
    networks = {
        name: {"architecture": "pfn", "training": {"flavour_balance": weight}} for weight, name in enumerate(models)
    }
    return Study.model_validate(
        {"name": "test", "models": networks, "physics": {"replicas": 5} | settings, "tuning": {"model": models[0]}}
    )


@pytest.fixture
def run(toy, tmp_path):
    """A run folder with the predictions for validation jets that notebook 05 leaves."""
    run = RunFolder(tmp_path)
    write(run.validation, toy(8_000, seed=3))
    return run


def write(path, table):
    with uproot.recreate(path) as file:
        file.mktree("jets", {name: column.dtype for name, column in table.items()})
        file["jets"].extend({name: column.to_numpy() for name, column in table.items()})


def test_the_residual_correction_is_kept_and_applied_from_there(predictions, run):
    closed = physics.add_closed(predictions, ["standard", "pfn"], study(closure=True), run)
    assert physics.closed(closed, ["standard", "pfn", "particlenet"]) == ["standard_closed", "pfn_closed"]
    assert {entry["name"] for entry in read_json(run.closure)["corrections"]} == {"standard", "pfn", "pfn_sigma"}
    again = physics.apply_closure(predictions, physics.load_closure(run.closure))
    assert (again["pfn_closed_pt"] == closed["pfn_closed_pt"]).all()
    names = [name for name, _ in physics.closure_figures(closed, ["standard", "pfn"], study(closure=True))]
    assert names == ["06_closure_residual_0-1.3", "06_closure_residual_1.3-2.5"]


def test_l1_alone_where_it_is_known(predictions):
    jets = predictions.assign(jetArea=0.5)
    offset = physics.add_offset_correction(jets, "jetcorr simulation", DataSettings())
    assert physics.first_corrections(offset) == ["raw", "l1"]
    central = offset[offset["jetEta"].abs() < 0.2]  # the slope depends on eta
    taken_off = central["jetRawPt"] - central["l1_pt"]
    assert (taken_off > 0).all()
    assert taken_off.corr(central["rhoAll"]) > 0.99  # what L1 takes off is what pileup has added
    for nothing in (physics.add_offset_correction(jets, "CMS open simulation", DataSettings()),
                    physics.add_offset_correction(predictions, "jetcorr simulation", DataSettings())):  # fmt: skip
        assert physics.first_corrections(nothing) == ["raw"]


def test_nothing_is_done_that_the_study_does_not_ask_for(predictions, tmp_path):
    run = RunFolder(tmp_path)
    assert physics.add_closed(predictions, ["pfn"], study(), run) is predictions
    assert physics.add_reference_corrections(predictions, study()) is predictions
    assert not list(physics.closure_figures(predictions, ["pfn"], study()))
    assert not list(physics.prior_figures(predictions, ["pfn"], study()))
    assert not list(physics.limit_figures(predictions, {}, ["pfn"]))
    assert not list(physics.training_figures({"pfn": {}}, study()))
    assert physics.weights_on_validation(study(), run) is None


def test_the_notebook_that_makes_the_validation_jets_is_named(predictions, tmp_path):
    with pytest.raises(MissingStageError, match=r"validation\.root .* 05_triton_query"):
        physics.add_closed(predictions, ["pfn"], study(closure=True), RunFolder(tmp_path))


def test_models_that_differ_in_the_flavour_weight_make_a_frontier(toy):
    names = ("pfn", "pfn_balanced", "pfn_lambda_2")
    metrics = physics.measure(check_predictions(toy(6_000, models=names)), names, study().physics, progress=False)
    ((name, figure),) = physics.training_figures(metrics, study(names))
    assert name == "06_frontier"
    labels = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert {rf"$\lambda = {weight}$" for weight in range(3)} <= set(labels)


def test_the_model_that_the_search_may_replace_is_no_point_of_a_frontier(toy):
    names = ("pfn", "pfn_balanced", "pfn_lambda_2")
    metrics = physics.measure(check_predictions(toy(6_000, models=names)), names, study().physics, progress=False)
    searched = study(names).model_copy(update={"tuning": TuningSettings(space={"conv_dim": {"choices": [32]}})})
    assert list(physics.training_figures(metrics, study(names)))
    assert not list(physics.training_figures(metrics, searched))  # two weights are left


def test_the_weight_is_chosen_on_the_validation_jets(toy, tmp_path):
    run, names = RunFolder(tmp_path), ("pfn", "pfn_balanced", "pfn_lambda_2")
    write(run.validation, toy(8_000, models=names))
    weights = physics.weights_on_validation(study(names), run)
    assert weights["λ"].tolist() == [0, 1, 2]
    assert weights["chosen"].sum() == 1


def test_other_spectra(predictions):
    ((name, figure),) = physics.prior_figures(predictions, ["standard", "pfn"], study(prior=(5.0,)))
    assert name == "06_prior"
    assert len(figure.axes) == 2


def test_the_worst_bin_of_a_correction(toy):
    table = toy(40_000, sigma=0.05, flavour_shift=0.0)
    table = check_predictions(table)
    low, high = physics.PT_EDGES[7:9]
    inside = (table["genJetPt"] >= low) & (table["genJetPt"] < high) & (table["genJetEta"].abs() < 1.3)
    table["pfn_pt"] = table["jetPt"] * inside.map({True: 1.05, False: 1.0})
    summary = physics.closure_summary(table, ["standard", "pfn"], study().physics, min_jets=400)
    everything = summary[summary["jets of"] == "all flavours"].set_index("correction")
    assert everything.loc["standard", "beyond 1 %"] == 0
    assert everything.loc["pfn", "beyond 1 %"] >= 1
    assert everything.loc["pfn", "largest [%]"] == pytest.approx(5, abs=1)
    assert everything.loc["pfn", "|η|"] == "0-1.3"
    assert everything.loc["pfn", "gen pt [GeV]"] == f"{low:.0f}-{high:.0f}"
