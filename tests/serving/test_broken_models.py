"""A broken or foreign model corrects nothing, here or through a server; what it never saw in training is flagged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jetcorr_utils.correct import correct_files
from jetcorr_utils.correct.jet_arrays import correct_jets
from jetcorr_utils.data import read_jets
from jetcorr_utils.errors import InputError
from jetcorr_utils.export import add_model, export_model
from jetcorr_utils.inference import OnnxPredictor, TritonPredictor
from jetcorr_utils.jets.columns import jet_columns
from jetcorr_utils.serving import TritonServer, served_repository, server_available
from tests.networks import METADATA, network, some_clouds


@pytest.fixture(scope="module")
def overflow(tmp_path_factory):
    """A model whose weights are finite and whose answers are not."""
    model = network("pfn")
    model.head.scale.fill_(3e38)
    return export_model(model, tmp_path_factory.mktemp("model") / "pfn.onnx", metadata={"name": "pfn", **METADATA})


def test_a_broken_model_writes_no_file(overflow, sample, tmp_path):
    with pytest.raises(InputError, match=r"model pfn: its answer for \d+ of \d+ jets is not a finite factor"):
        correct_files([sample], overflow, tmp_path / "out.root", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_servers_with_broken_and_foreign_models(overflow, files, tmp_path, monkeypatch):
    if reason := server_available():
        pytest.skip(reason)
    ours, theirs = (json.dumps(json.dumps(names)) for names in (jet_columns("open"), jet_columns("open")[::-1]))

    def add_foreign(folder, name, *arguments, **options):
        """Our server's configurations are ours: one of another program, that says something else."""
        version = add_model(folder, name, *arguments, **options)
        config = Path(folder) / name / "configs" / "local.pbtxt"
        assert ours in config.read_text(encoding="utf-8")
        if name == "reversed":
            config.write_text(config.read_text(encoding="utf-8").replace(ours, theirs), encoding="utf-8")
        return version

    add_model(tmp_path / "repository", "broken", overflow)
    add_model(tmp_path / "repository", "reversed", files["pfn"])
    monkeypatch.setattr(served_repository, "add_model", add_foreign)
    with TritonServer(tmp_path / "repository") as server:
        for protocol, url in (("http", server.http_url), ("grpc", server.grpc_url)):
            with (
                TritonPredictor(url, "broken", protocol) as predictor,
                pytest.raises(InputError, match=r"model broken: its answer for \d+ of 20 jets is not a finite factor"),
            ):
                predictor.predict(some_clouds(20))
            with pytest.raises(InputError, match=r'model reversed of the server at .* says jet_features \["QG_mult"'):
                TritonPredictor(url, "reversed", protocol)


@pytest.mark.parametrize(
    "notes",
    [{"training_range": {"rhoAll": [2.0, 40.0]}}, {"factor_range": [0.5, 2.0]}, {"factor_range": [1.0, 1.0]}],
    ids=["rho beyond the range", "a factor beyond the range", "every factor beyond the range"],
)
def test_a_jet_that_training_never_saw_is_flagged(tmp_path, sample, notes):
    model = network("pfn")
    path = export_model(model, tmp_path / "pfn.onnx", metadata={"name": "pfn", **METADATA, **notes})
    jets = read_jets(sample, max_jets=50)
    jets["rhoAll"] = np.where(np.arange(50) == 3, 300.0, jets.rhoAll)
    with OnnxPredictor(path) as predictor:
        found = correct_jets(jets, {"pfn": predictor})
        kept = correct_jets(jets, {"pfn": predictor}, outside="keep")
    outside = ~np.asarray(found.pfn_in_range)
    factor = np.asarray(found.pfn_factor)
    if "training_range" in notes:
        assert outside[3]
    else:
        low, high = notes["factor_range"]
        assert outside[(factor < low) | (factor > high)].all()
    assert (np.asarray(kept.pfn_factor)[outside] == 1).all()


@pytest.mark.parametrize("value", [1e30, -1e30])
def test_a_jet_with_a_value_that_cannot_be_is_not_corrected(files, sample, value):
    jets = read_jets(sample, max_jets=20)
    jets["rhoAll"] = np.where(np.arange(20) == 3, value, jets.rhoAll)
    corrected = correct_jets(jets, {"pfn": OnnxPredictor(files["pfn"])})
    assert corrected.pfn_factor[3] == 1
    assert not corrected.pfn_in_range[3]
    assert np.isfinite(np.delete(np.asarray(corrected.pfn_sigma), 3)).all()
