"""The committed results: whole, and of use to somebody who has trained nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jetcorr_utils.config import load_study, project_root
from jetcorr_utils.correct import correct_files
from jetcorr_utils.data import read_jets
from jetcorr_utils.files import read_json
from jetcorr_utils.physics import ETA_BINS, PT_BINS, load_predictions
from jetcorr_utils.physics.measurement import absolute_log_error
from tests.benchmarks.__main__ import EXPECTED

REFERENCE = project_root() / "results" / "reference"
NETWORKS = ("pfn", "particlenet")


def test_the_committed_networks_correct_jets(sample, tmp_path):
    jets = read_jets(sample)
    report = correct_files([sample], REFERENCE / "model_repository", tmp_path / "out.root", progress=False)
    assert report.corrected == len(jets)
    predictions = load_predictions(tmp_path / "out.root")
    hard = predictions[predictions["genJetPt"] > 50].reset_index(drop=True)
    standard = np.median(absolute_log_error(hard, "standard"))
    for name in NETWORKS:
        assert np.median(absolute_log_error(hard, name)) < 0.97 * standard


def test_the_server_of_this_machine_runs_them_as_the_package_does():
    """A model repository holds its code: a copy, which must not stay behind."""
    original = (project_root() / "jetcorr_utils" / "export" / "triton_model.py").read_text()
    for name in NETWORKS:
        copy = (REFERENCE / "model_repository" / name / "1" / "model.py").read_text()
        assert copy == original


def test_they_are_small():
    assert sum(path.stat().st_size for path in (REFERENCE / "model_repository").rglob("model.onnx")) < 3e6


def test_the_metrics_are_those_of_the_study():
    metrics, study = read_json(REFERENCE / "metrics.json"), load_study("default")
    known = {name for name in study.models if "_seed" not in name}
    assert known <= set(metrics)
    assert set(metrics["inference"]) >= set(NETWORKS)
    for name in NETWORKS:
        assert metrics[name]["jets"] > 100_000
        for quantity in ("resolution_gain", "flavour_gain", "closure"):
            assert {eta: set(bins) for eta, bins in metrics[name][quantity].items()} == {
                eta.name: {pt.name for pt in PT_BINS} for eta in ETA_BINS
            }


@pytest.mark.parametrize("figure", ["06_resolution_0-1.3", "06_flavour_30-inf", "cms_resolution"])
def test_the_figures_of_the_guide_are_there(figure):
    assert (REFERENCE / "figures" / f"{figure}.png").is_file()


def test_each_benchmark_says_what_it_was_measured_with():
    lines = [json.loads(line) for line in (REFERENCE / "bench.jsonl").read_text(encoding="utf-8").splitlines()]
    assert set(EXPECTED) <= {line["name"] for line in lines}
    for line in lines:
        assert line["threads"] >= 1
        assert line["isa"]
        assert line["mean_multiplicity"] > 10
        assert set(line["spread"]) == {"ours", "peer"}, line["name"]
        assert line["ratio"] == pytest.approx(line["ours"] / line["peer"], rel=2e-3)
