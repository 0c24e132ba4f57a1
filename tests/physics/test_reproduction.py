"""The published gains beside ours: a toy with known gains gives them back; the command's layout is the contract's."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jetcorr_utils.config import PhysicsSettings, load_study
from jetcorr_utils.data import load_clouds
from jetcorr_utils.errors import InputError, MissingStageError
from jetcorr_utils.files import read_json
from jetcorr_utils.physics.predictions import predictions_table
from jetcorr_utils.physics.published import PUBLISHED
from jetcorr_utils.physics.reproduction import (
    gains_beside_published,
    plot_reproduction,
    published_model,
    reproduce,
    reproduction_table,
)
from jetcorr_utils.run import RunFolder
from jetcorr_utils.training import train

FAST = PhysicsSettings(replicas=20)
PERCENT = {
    (figure.source, figure.model, figure.quantity, figure.eta, figure.pt): figure.percent for figure in PUBLISHED
}
PAPER_PT = ["30-inf", "30-100", "100-300", "300-1000", "1000-inf"]


@pytest.fixture(scope="module")
def predictions():
    """Jets of a resolution of 10 %, which a model makes 8 %, and halves the spread between gluons and quarks."""
    rng = np.random.default_rng(3)
    n = 60_000
    gen = np.exp(rng.uniform(np.log(30), np.log(3000), n))
    flavour = rng.choice([1, 2, 3, 4, 5, 21], n)
    shift, noise = np.where(flavour == 21, -0.03, 0.02), rng.normal(size=n)
    table = {
        "run": np.ones(n, int), "lumi": np.ones(n, int), "event": np.arange(n), "jetPtOrder": np.zeros(n, int),
        "jetPt": gen * np.exp(shift + 0.1 * noise), "jetEta": rng.uniform(-2.5, 2.5, n), "genJetPt": gen,
        "hadronFlav": np.where((flavour == 4) | (flavour == 5), flavour, 0), "partonFlav": flavour,
        "rhoAll": np.ones(n), "jetRawPt": gen,
    }  # fmt: skip
    table["genJetEta"] = table["jetEta"]
    wanted = shift / 2 + 0.08 * noise - (shift + 0.1 * noise)
    return predictions_table(table, {"mine": (wanted, np.full(n, 0.1))})


@pytest.mark.parametrize(("source", "network", "etas", "bins"), [
    ("paper", "PFN", ["0-1.3", "1.3-2.5"], PAPER_PT),
    ("thesis", "ParticleNet", ["0-2.5"], ["30-inf", "30-50", "50-100", "100-300", "300-1000", "1000-inf"]),
])  # fmt: skip
def test_known_gains_stand_beside_the_published_ones(predictions, source, network, etas, bins):
    found = gains_beside_published(predictions, "mine", source, network, FAST)
    assert list(found["resolution_gain"]) == etas
    for eta in etas:
        assert list(found["resolution_gain"][eta]) == bins
        for pt, entry in found["resolution_gain"][eta].items():
            assert entry["ours"] == pytest.approx(0.2, abs=5 * entry["error"] + 0.01)
            place = (source, network, "resolution_gain", eta, pt)
            assert 100 * entry["published"] == pytest.approx(PERCENT[place])
    gain = found["flavour_gain"][etas[0]]["30-inf"]
    assert gain["ours"] == pytest.approx(0.5, abs=5 * gain["error"])
    table = reproduction_table({source: found})
    assert len(table) == sum(map(len, found["resolution_gain"].values())) + sum(
        map(len, found["flavour_gain"].values())
    )
    np.testing.assert_allclose(table["difference"], table["ours"] - table["published"])
    plot_reproduction({source: found}).canvas.draw()


def test_a_bin_with_too_few_jets_has_no_gain(predictions):
    few = predictions[predictions["genJetPt"] < 1000].reset_index(drop=True)
    found = gains_beside_published(few, "mine", "paper", "PFN", FAST)["resolution_gain"]["0-1.3"]
    assert found["1000-inf"]["ours"] is None
    assert found["1000-inf"]["published"] == pytest.approx(0.08)
    assert found["300-1000"]["ours"] is not None


def test_the_published_gains_are_the_original_ones(real_data):
    original = {
        "resolution_gain": {
            (eta, pt): gains
            for key, eta in (("all_eta1", "0-1.3"), ("all_eta2", "1.3-2.5"))
            for pt, gains in zip(PAPER_PT, json.loads((real_data / "published" / "resolution.json").read_text())[key][
                "improvement"].values(), strict=True)
        },
        "flavour_gain": {
            (eta, pt): json.loads((real_data / "published" / "flavours.json").read_text())[f"pt{n}{key}"]["improvement"]
            for key, eta in (("eta1", "0-1.3"), ("eta2", "1.3-2.5")) for n, pt in enumerate(PAPER_PT, 1)
        },
    }  # fmt: skip
    paper = [figure for figure in PUBLISHED if figure.source == "paper"]
    assert len(paper) == 2 * 2 * 2 * 5
    for figure in paper:
        tolerance = 0.06 if figure.quantity == "resolution_gain" else 0.51
        assert figure.percent == pytest.approx(
            original[figure.quantity][figure.eta, figure.pt][figure.model], abs=tolerance
        )


@pytest.mark.parametrize(("study", "expected"), [
    ("paper", ("pfn", "paper", "PFN")), ("thesis", ("particlenet", "thesis", "ParticleNet")),
])  # fmt: skip
def test_the_studies_train_on_the_published_inputs(study, expected):
    settings = load_study(study)
    assert published_model(settings) == expected
    simulation = settings.data.simulation
    jets = simulation.jets + sum(part.jets for part in simulation.slices)
    assert jets * (1 - settings.data.split.test - settings.data.split.validation) >= 150_000


def test_the_command_writes_what_the_contract_asks_for(cli, tmp_path):
    study = load_study("smoke", {"models.pfn.features": "paper", "models.pfn.training.epochs": 1,
                                 "data.directory": str(tmp_path / "data"), "physics.min_jets": 10})  # fmt: skip
    run = RunFolder(tmp_path / "runs" / "smoke")
    with pytest.raises(MissingStageError, match="run notebook 02"):
        reproduce(study, run)
    clouds = load_clouds(study.data, "paper", progress=False)
    train(study.models["pfn"], clouds.split("train"), clouds.split("validation"), run.model("pfn"), progress=False)
    settings = ["-p", "models.pfn.features", "paper", "-p", "models.pfn.training.epochs", "1", "-p", "data.directory",
                tmp_path / "data", "-p", "physics.min_jets", "10"]  # fmt: skip
    text = cli("compare-published", "--study", "smoke", "--runs", tmp_path / "runs", "--out", tmp_path / "out",
               "--rounds", "2", *settings).stdout  # fmt: skip
    assert "resolution gain" in text
    found = read_json(tmp_path / "out" / "reproduction.json")
    assert list(found) == ["paper"]
    assert found["paper"]["rounds"] == 2
    assert {*found["paper"]} == {"commit", "rounds", "resolution_gain", "flavour_gain"}
    entry = found["paper"]["resolution_gain"]["0-1.3"]["100-300"]
    assert {*entry} == {"ours", "error", "published"}
    assert (tmp_path / "out" / "figures" / "reproduction.png").exists()


def test_a_study_without_published_inputs_is_refused():
    with pytest.raises(InputError, match="no model has the features paper or thesis"):
        published_model(load_study("smoke"))
