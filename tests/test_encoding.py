"""Text is UTF-8 wherever it is read or written, whatever the locale."""

from __future__ import annotations

import ast
import os

import pytest

from jetcorr_utils.config import project_root
from tests.conftest import jetcorr

ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
"""A locale that knows nothing but ASCII, as in a bare container, kept from being taken for UTF-8."""
NOT_FILES = {"CloudDataset", "opener", "os", "uproot", "webbrowser"}
"""What has an `open` that has nothing to do with text."""


def _is_of_the_locale(call: ast.Call) -> bool:
    """Whether a call reads or writes text and does not say in which encoding."""
    method = isinstance(call.func, ast.Attribute)
    name = call.func.attr if method else getattr(call.func, "id", "")
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in given or None in given:
        return False

    def mode(place: int) -> str:
        value = given.get("mode") or next(iter(call.args[place : place + 1]), None)
        return getattr(value, "value", "")

    match name:
        case "read_text":
            return not call.args
        case "write_text":
            return method and len(call.args) == 1
        case "run" | "Popen" | "check_output":
            return bool(given.keys() & {"text", "universal_newlines"})
        case "open" if method:
            return getattr(call.func.value, "id", "") not in NOT_FILES and "b" not in mode(0)
        case "open" | "fdopen":
            return "b" not in mode(1)
        case "NamedTemporaryFile" | "TemporaryFile":
            return "b" not in (mode(0) or "w+b")
    return False


def _lines(text: str) -> list[int]:
    return [node.lineno for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call) and _is_of_the_locale(node)]


def test_no_text_is_read_or_written_in_the_encoding_of_the_locale():
    """Also no output of a command."""
    files = [path for part in ("jetcorr_utils", "pipelines") for path in (project_root() / part).rglob("*.py")]
    found = {str(path): _lines(path.read_text(encoding="utf-8")) for path in files}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("line", "bad"),
    {
        "open('a')": True, "open('a', 'rb')": False, "path.open('w')": True, "path.open(encoding='utf-8')": False,
        "uproot.open('a')": False, "subprocess.run(c, text=True)": True, "path.read_text()": True,
        "path.write_text(x)": True, "write_text(path, x)": False, "tempfile.NamedTemporaryFile('w')": True,
    }.items(),
)  # fmt: skip
def test_the_search_for_them_finds_what_it_should(line, bad):
    assert bool(_lines(line)) == bad


@pytest.mark.slow
def test_a_training_and_its_study_under_a_locale_of_ascii_only(sample, tmp_path):
    """The study, the model card and messages hold Greek letters."""
    study = tmp_path / "study.yaml"
    text = (project_root() / "pipelines" / "studies" / "smoke.yaml").read_text(encoding="utf-8")
    study.write_text(f"# λ of the flavour-neutral term, ±\n{text}", encoding="utf-8")
    out = tmp_path / "run"
    jetcorr(
        "train", "--study", study, "--out", out, "-p", "data.directory", tmp_path / "data",
        "-p", "models.pfn.training.epochs", 1, env=os.environ | ASCII,
    )  # fmt: skip
    assert (out / "model" / "pfn" / "checkpoint.pt").is_file()
    jetcorr("info", sample, env=os.environ | ASCII)
