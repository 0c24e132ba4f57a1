"""Names of files and folders are names, not patterns, formats, addresses or YAML. (`smoke_run` has such names, too.)"""

from __future__ import annotations

import os
import shutil

import nbformat
import pytest

from jetcorr_utils.config import load_study
from jetcorr_utils.correct import correct_files
from jetcorr_utils.data import describe, ensure_files
from jetcorr_utils.notebooks import literal
from tests.planted import AWKWARD
from tests.test_environment import ROOT


@pytest.fixture
def folder(sample, tmp_path, monkeypatch):
    """A folder of an awkward name with one file of such a name; and beside it what it would match as a pattern."""
    folder = tmp_path / AWKWARD
    for place in (folder, tmp_path / AWKWARD.replace("[x]", "x").replace("?", "y")):
        place.mkdir()
        shutil.copy(sample, place / f"{AWKWARD}.root")
    monkeypatch.chdir(tmp_path)
    return folder


def test_files_are_found_by_name_and_by_pattern_in_a_folder_of_any_name(folder):
    file = str(folder / f"{AWKWARD}.root")
    for entry in (file, f"{folder}/*.root", f"{AWKWARD}/*.root"):
        settings = load_study("smoke", {"data.files": [entry], "data.directory": str(folder)}).data
        assert str(settings.directory) == str(folder)
        found = [os.path.abspath(path) for path in ensure_files(settings)]
        assert found == [file]


def test_files_of_any_name_are_read_and_written(folder, tmp_path):
    file, out = folder / f"{AWKWARD}.root", folder / f"out {AWKWARD}.root"
    assert describe(str(file)).usable
    correct_files([file], ROOT / "results" / "reference" / "model_repository" / "pfn", out, progress=False)
    assert out.is_file()
    assert not list(tmp_path.rglob("HIT"))


def test_papermill_takes_braces_in_a_path_for_what_they_are(folder):
    import papermill

    path = folder / "notebook.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), path)
    assert papermill.inspect_notebook(literal(path)) == {}
