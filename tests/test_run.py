"""The run folder: its record of metrics, and what it says when a stage is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from jetcorr_utils.errors import InputError, MissingStageError
from jetcorr_utils.files import read_json, write_json
from jetcorr_utils.report import write_report
from jetcorr_utils.run import RunFolder, default_folder, four_digits, open_run
from jetcorr_utils.style import save_figure


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


@pytest.mark.parametrize("name", ["report.html", "notebooks", "model/pfn", "tuning/journal.jsonl"])
def test_a_link_out_of_the_folder_is_refused_one_inside_it_is_not(tmp_path, name):
    run, elsewhere = RunFolder(tmp_path / "run"), tmp_path / "elsewhere"
    link = run.path / name
    link.parent.mkdir(exist_ok=True)
    (run.path / "inside").mkdir()
    (run.path / "latest").symlink_to("inside")
    RunFolder(run.path)
    link.symlink_to(elsewhere)
    with pytest.raises(InputError, match=rf"run/{name}: a link to .*elsewhere, and what is written must stay"):
        RunFolder(run.path)


@pytest.mark.parametrize("name", ["metrics.json", "metrics/06.json", "figures/06_closure.png", "report.html"])
def test_what_is_written_takes_the_place_of_a_link_and_leaves_what_it_led_to(tmp_path, name):
    run, victim = RunFolder(tmp_path / "run"), tmp_path / "victim"
    victim.write_text("of another", encoding="utf-8")
    place = run.path / name
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(victim)
    run.record("06", {"pfn": {}})
    save_figure(Figure(), run.figures, "06_closure")
    write_report(run, title="test")
    assert victim.read_text(encoding="utf-8") == "of another"
    assert not place.is_symlink()


def test_the_run_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "large").mkdir()
    (tmp_path / "run").symlink_to("large")
    run = RunFolder(tmp_path / "run")
    run.record("06", {})


def test_a_section_without_content_says_what_it_needs(tmp_path, capsys):
    _, run = open_run("smoke", tmp_path)
    run.show_all(iter(()), "physics.limits: true")
    run.show_table(None, "physics.variations")
    RunFolder(tmp_path).show_all([], "more")
    assert capsys.readouterr().out.splitlines() == [
        "not in study smoke; needs physics.limits: true", "not in study smoke; needs physics.variations",
        "not in this study; needs more",
    ]  # fmt: skip


def test_sentences_are_paragraphs(tmp_path):
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    InteractiveShell.instance()
    with capture_output() as captured:
        RunFolder(tmp_path).say("One.\nAt 1 < |η| < 2, two.")
    InteractiveShell.clear_instance()
    (output,) = captured.outputs
    assert output.data == {
        "text/markdown": "One.\n\nAt 1 < |η| < 2, two.", "text/plain": "One.\nAt 1 < |η| < 2, two.",
    }  # fmt: skip


def test_numbers_of_tables_have_four_digits():
    assert [four_digits(value) for value in (149704.8, 0.064628, 4.7683e-7, 2.0, -12345.6, 2e12)] == [
        "149705", "0.06463", "4.768e-07", "2", "-12346", "2e+12",
    ]  # fmt: skip


@pytest.mark.parametrize("study", ["quick", "a/my.study.yaml", "...yaml", "....yaml", ".yaml", "..", "a/...yml"])
def test_the_folder_of_a_run_lies_in_results_whatever_the_name_of_the_study(study):
    """Not beside it: `results/..` is the project's own folder, with its notebooks."""
    assert Path(os.path.normpath(default_folder(study))).parent == Path("results")
