"""Which code a notebook depends on: a changed line of any file makes those out of date that import it, and no other."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from jetcorr_utils.imported_code import PACKAGE, code_key, imported_files
from jetcorr_utils.notebooks import NOTEBOOKS

#: files, and the notebooks that depend on them; by hand, for what a reader of the notebooks would say
EXPECTED = {
    "config.py": "01 02 03 04 05 06",
    "run.py": "01 02 03 04 05 06",
    "style.py": "01 02 03 04 05 06",
    "data/jetntuple.py": "01 02 03 04 05 06",
    "simulation/detector.py": "01 02 03 04 05 06",
    "simulation/corrections.json.gz": "01 02 03 04 05 06",
    "models/particlenet.py": "02 03 04 05 06",
    "training/side_by_side.py": "02",
    "physics/learning.py": "02 03",
    "physics/attention.py": "02",
    "physics/browse.py": "01",
    "physics/closure.py": "06",
    "physics/variations.py": "06",
    "tuning/queue.py": "03",
    "kubeflow/cluster_training.py": "02",
    "kubeflow/cluster_search.py": "03",
    "kubeflow/cluster_service.py": "05",
    "serving/server.py": "05",
    "physics/cms_plots.py": "",
    "physics/cms_published.json": "",
    "kubeflow/pipeline.py": "",
    "batch.py": "",
    "cli.py": "",
}


@pytest.fixture(scope="module")
def needed() -> dict[str, set[Path]]:
    """The files that each notebook needs."""
    return {number: imported_files(notebook.path) for number, notebook in NOTEBOOKS.items()}


def _who_needs(needed: dict[str, set[Path]], name: str) -> str:
    return " ".join(number for number, files in needed.items() if PACKAGE / name in files)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_notebook_needs_what_a_reader_would_say(needed, name):
    assert (PACKAGE / name).is_file()
    assert _who_needs(needed, name) == EXPECTED[name]


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_each_file_is_named_by_another_one_that_is_needed(needed, number):
    inits = list(PACKAGE.rglob("__init__.py"))
    texts = {path: path.read_text(encoding="utf-8") for path in [*needed[number], *inits] if path.suffix != ".gz"}
    for file in needed[number] - {NOTEBOOKS[number].path, *inits}:
        name = file.stem if file.suffix == ".py" else file.name
        assert any(re.search(rf"\b{name}\b", text) for path, text in texts.items() if path != file), file


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_functions_and_classes_that_its_modules_hold_come_from_files_that_it_needs(needed, number):
    for file in needed[number]:
        if file.suffix != ".py" or file.name in ("__init__.py", "triton_model.py"):
            continue
        module = importlib.import_module(".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts))
        for name, value in vars(module).items():
            if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__.startswith("jetcorr_utils."):
                origin = Path(inspect.getfile(inspect.unwrap(value)))
                assert origin in needed[number] | {file}, f"{file}: {name}"


@pytest.fixture(scope="module")
def copied(tmp_path_factory) -> Path:
    """A copy of the package to change."""
    return Path(shutil.copytree(PACKAGE, tmp_path_factory.mktemp("copy") / PACKAGE.name))


def test_a_changed_line_of_each_file_changes_the_keys_of_those_that_import_it_only(copied, needed):
    keys = {number: code_key(notebook.path, package=copied) for number, notebook in NOTEBOOKS.items()}
    assert keys == {
        number: code_key(notebook.path) for number, notebook in NOTEBOOKS.items()
    }  # paths are no part of it
    files = sorted(PACKAGE.rglob("*.py"))
    for number, key in keys.items():
        with _changed(copied, [file for file in files if file not in needed[number]]):
            assert code_key(NOTEBOOKS[number].path, package=copied) == key, number
    for place, file in enumerate(files):
        if need := [number for number in NOTEBOOKS if file in needed[number]]:
            number = need[place % len(need)]  # in turns: all for each file would take minutes
            with _changed(copied, [file]):
                assert code_key(NOTEBOOKS[number].path, package=copied) != keys[number], (file, number)


@contextlib.contextmanager
def _changed(copied: Path, files: list[Path]) -> Iterator[None]:
    """Another line in the copies of these files."""
    copies = [copied / file.relative_to(PACKAGE) for file in files]
    for copy, file in zip(copies, files, strict=True):
        copy.write_text(file.read_text(encoding="utf-8") + "\n_changed = 1\n", encoding="utf-8")
    yield
    for copy, file in zip(copies, files, strict=True):
        shutil.copy(file, copy)


def test_comments_docstrings_and_descriptions_are_no_code_and_a_file_beside_a_module_is(tmp_path):
    package, script = tmp_path / "pack", tmp_path / "script.py"
    package.mkdir()
    script.write_text("from pack import shape\n", encoding="utf-8")
    (package / "__init__.py").write_text("from .forms import shape\nfrom .other import thing\n", encoding="utf-8")
    (package / "other.py").write_text("thing = 1\n", encoding="utf-8")
    (package / "table.json").write_text("1", encoding="utf-8")
    forms = package / "forms.py"
    forms.write_text('"""About."""\nshape = open("table.json", description="A")\n', encoding="utf-8")
    assert imported_files(script, package=package) == {script, forms, package / "table.json"}
    before = code_key(script, package=package)
    forms.write_text('"""More about."""\n# A comment\nshape = open("table.json", description="B")\n', encoding="utf-8")
    (package / "other.py").write_text("thing = 2\n", encoding="utf-8")
    assert code_key(script, package=package) == before
    (package / "table.json").write_text("2", encoding="utf-8")
    assert code_key(script, package=package) != before


@pytest.mark.parametrize(
    ("imports", "found"),
    [
        ("import pack\npack.shape", "forms"),
        ("import pack.forms", "forms"),
        ("from pack import forms as f\nf.shape", "forms"),
        ("import pack\nprint(pack)", "forms other __init__"),  # what it takes of it is not known
        ("from pack import unknown", "forms other __init__"),
        ("from pack import own", "__init__ forms other"),  # the code of the package itself, and what that imports
        ("import helpers", "helpers forms"),
        ("def late():\n    from pack.other import thing", "other"),
        ("if TYPE_CHECKING:\n    from pack.other import thing", ""),
        ("import numpy", ""),
    ],
)
def test_each_way_to_import(tmp_path, imports, found):
    package, script = tmp_path / "pack", tmp_path / "script.ipynb"
    package.mkdir()
    init = "from .forms import shape\nfrom .other import thing\nown = 1\n"
    (package / "__init__.py").write_text(init, encoding="utf-8")
    for name in ("forms", "other"):
        (package / f"{name}.py").write_text("shape = thing = 1\n", encoding="utf-8")
    (tmp_path / "helpers.py").write_text("from pack.forms import shape\n", encoding="utf-8")
    code = {"cell_type": "code", "source": ["%matplotlib\n", imports]}
    cells = [{"cell_type": "markdown", "source": ["import all"]}, code]
    script.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    assert {path.stem for path in imported_files(script, package=package)} == {"script", *found.split()}
