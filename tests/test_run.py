"""The run folder: its record of metrics, and what it says when a stage is missing."""

from __future__ import annotations

import pytest

from jetcorr_utils.errors import MissingStageError
from jetcorr_utils.files import read_json, write_json
from jetcorr_utils.run import RunFolder


def test_each_notebook_records_its_own_part_of_the_metrics(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.record("06", {"pfn": {"mae": 0.1}})
    merged = run.record("05", {"pfn": {"jets": 3}, "inference": {}})
    assert merged == read_json(run.metrics) == {"pfn": {"mae": 0.1, "jets": 3}, "inference": {}}


def test_a_rerun_replaces_its_own_part_only(tmp_path):
    run = RunFolder(tmp_path)
    run.record("03", {"tuning": {"trials": 12}})
    run.record("06", {"pfn": {"mae": 0.1, "old": 1}})
    assert run.record("06", {"pfn": {"mae": 0.2}}) == {"tuning": {"trials": 12}, "pfn": {"mae": 0.2}}


def test_the_source_of_the_figures_is_what_made_the_data(tmp_path):
    run = RunFolder(tmp_path)
    assert run.source == ""
    write_json(run.data, {"made_by": "jetcorr simulation", "files": []})
    assert run.source == "jetcorr simulation"


def test_a_missing_stage_is_named(tmp_path):
    run = RunFolder(tmp_path)
    with pytest.raises(MissingStageError, match=r"model/pfn is not in .* run notebook 02_gnn_training first"):
        run.require(run.model("pfn"), "02")
