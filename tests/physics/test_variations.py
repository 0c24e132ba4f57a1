"""Networks on other simulations."""

import pytest

from jetcorr_utils import physics
from jetcorr_utils.config import Study, load_study, project_root
from jetcorr_utils.data import load_clouds
from jetcorr_utils.errors import InputError
from jetcorr_utils.physics.variations import _simulated
from jetcorr_utils.run import RunFolder
from jetcorr_utils.simulation import Parameters
from jetcorr_utils.training import train_models


def test_parameters_by_dotted_name():
    changes = {"generator.tune": 21, "detector.hadron_response": (1.0, 0.4, 0.6)}
    varied = Parameters().varied(changes, "physics.variations")
    assert (varied.generator.tune, varied.detector.hadron_response) == (21, (1.0, 0.4, 0.6))
    assert varied.pileup == Parameters().pileup
    for wrong in ("generator.tunes", "generator", "tune", "key.tune", "varied"):
        with pytest.raises(InputError, match=rf"^physics\.variations: the simulation has no parameter '{wrong}'"):
            Parameters().varied({wrong: 21}, "physics.variations")
    for value in ((21, 14), [21]):
        with pytest.raises(InputError, match=r"generator\.tune is .*, where the simulation has 18"):
            Parameters().varied({"generator.tune": value}, "physics.variations")
    for name, value in (("generator.events_per_block", 0), ("pileup.pool_events", 2.5), ("pileup.mean", float("nan")),
                        ("detector.hadron_constant", (0.1, -0.1)), ("detector.field", float("inf"))):  # fmt: skip
        with pytest.raises(InputError, match=rf"^physics\.variations: {name} is .*, must be"):
            Parameters().varied({name: value}, "physics.variations")


@pytest.mark.parametrize(
    "path", sorted((project_root() / "pipelines" / "studies").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_studies_vary_what_the_simulation_has(path):
    for changes in load_study(path).physics.variations.values():
        assert Parameters().varied(changes, "physics.variations") != Parameters()


def test_a_network_is_measured_on_the_jets_of_another_simulation(sample, tmp_path):
    study = Study.model_validate(
        {
            "name": "test",
            "data": {"files": [str(sample)], "directory": str(tmp_path / "data"), "simulation": {"workers": 1}},
            "models": {
                "pfn": {"architecture": "pfn", "conv_dim": 8, "fc_dim": 8, "training": {"epochs": 1}},
            },
            "physics": {"variations": {"No pileup": {"pileup.mean": 0.1}}, "variation_jets": 400, "replicas": 5},
        }
    )
    run, clouds = RunFolder(tmp_path / "run"), {"pfn": load_clouds(study.data, progress=False)}
    train_models(study.models, clouds, run, progress=False)
    variations = physics.measure_variations(["pfn"], study, run, progress=False)
    assert list(variations) == ["No pileup"]
    assert 350 < variations["No pileup"]["pfn"]["jets"] <= 400
    table = physics.variations_table(variations["No pileup"], variations, ["pfn"])
    assert list(table["correction"]) == ["standard", "pfn"] * 2
    assert list(table.columns[2:]) == ["30-100", "100-300", "300-1000", "1000-inf"]  # not all, of another spectrum
    names = [name for name, _ in physics.variation_figures(variations["No pileup"], variations, ["pfn"])]
    assert names == ["06_variations_resolution_gain", "06_variations_flavour_gain"]
    # a network of the raw pt is given the raw pt there, too; the jets are found again
    raw = study.model_copy(update={"data": study.data.model_copy(update={"target": "raw"})})
    targets = [_simulated({"pileup.mean": 0.1}, one, progress=False).target for one in (study, raw)]
    assert targets == ["corrected", "raw"]
    nothing = study.model_copy(update={"physics": study.physics.model_copy(update={"variations": {}})})
    assert physics.measure_variations(["pfn"], nothing, run) == {}
