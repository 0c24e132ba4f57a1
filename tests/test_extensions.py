"""Modules of one's own that a study names: found beside it, run once, and known to worker processes."""

from __future__ import annotations

import sys

import pytest

from jetcorr_utils import extensions
from jetcorr_utils.config import load_study
from jetcorr_utils.errors import StudyError
from jetcorr_utils.processes import worker_processes

MODELS = "models: {pfn: {architecture: pfn}}\n"


@pytest.fixture
def study_file(tmp_path, monkeypatch):
    """A study in a folder of its own; what a test loads is forgotten after it."""
    before = set(sys.modules)
    monkeypatch.setattr(extensions, "_loaded", {})

    def write(extension: str) -> str:
        (tmp_path / "study.yaml").write_text(f"extensions: {extension}\n{MODELS}", encoding="utf-8")
        return str(tmp_path / "study.yaml")

    yield write
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_a_file_beside_the_study_is_run_once_and_found_from_another_folder(study_file, tmp_path):
    (tmp_path / "counted_extension.py").write_text("import sys\nsys.counted = getattr(sys, 'counted', 0) + 1\n")
    study = load_study(study_file("counted_extension.py"))
    assert study.extensions == (str(tmp_path / "counted_extension.py"),)
    load_study(study_file("counted_extension"))
    load_study(study_file(f"[{study.extensions[0]}]"))
    assert sys.__dict__.pop("counted") == 1
    assert extensions.source_files() == [tmp_path / "counted_extension.py"]


def test_an_installed_module_is_one_too(study_file):
    assert load_study(study_file("[tests.tasks]")).extensions == ("tests.tasks",)
    assert "tests.tasks" in sys.modules


def test_workers_know_what_the_extension_defines(study_file, tmp_path):
    (tmp_path / "sent_extension.py").write_text("class Sent(int):\n    pass\n")
    load_study(study_file("sent_extension.py"))
    value = sys.modules["sent_extension"].Sent(3)
    with worker_processes(1) as executor:
        answer = executor.submit(abs, value).result()
        assert executor.submit(type(value), 4).result() == 4
    assert answer == 3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("missing.py", None, "missing.py: there is no such file"),
        ("no_such_module", None, "'no_such_module': neither a Python file beside the study nor a module"),
        ("not-a-name.py", "", "letters, digits and underscores"),
        ("json.py", "", "another module is called 'json'"),
        ("broken_extension.py", "a = 1\nb = a +\n", "broken_extension.py: SyntaxError: invalid syntax"),
        ("failing_extension.py", "1 / 0", "failing_extension.py: ZeroDivisionError: division by zero"),
        ("{a: b}", None, "extensions.0"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_line(name, text, message, study_file, tmp_path):
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(StudyError) as caught:
        load_study(study_file(name))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
