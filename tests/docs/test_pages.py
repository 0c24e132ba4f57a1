"""README and the pages of the site: their links, their commands and code, and that no sentence stands twice."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from jetcorr_utils.cli import main
from jetcorr_utils.config import load_study
from jetcorr_utils.notebooks import NOTEBOOKS
from jetcorr_utils.serving import TritonServer, server_available
from tests.conftest import jetcorr
from tests.docs.conftest import DOCS, PAGES, ROOT, Block, blocks

WALK = ("docs/start.md", "docs/how-to/correct-files.md")
"""The pages that lead from the start page to a corrected file of one's own."""
TESTED_ELSEWHERE = "pipelines/README.md"
"""Its commands are run by tests/kubeflow/test_guide.py."""


def _id(block: Block) -> str:
    return f"{block.page}:{block.text.splitlines()[0][:40]}"


def test_readme_is_one_page():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 120
    assert readme.count("![") == 1


@pytest.mark.parametrize(("page", "tables"), [("README.md", 1), ("data/README.md", 7)])
def test_tables_are_those_of_the_kept_results(page, tables):
    from result_tables import renewed

    text = (ROOT / page).read_text(encoding="utf-8")
    assert text.count("<!-- table ") == text.count("<!-- end of table -->") == tables
    assert renewed(page) == text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    notebooks = {notebook.path.name for notebook in NOTEBOOKS.values()}
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|#", link):
            continue
        target = page.parent / link.partition("#")[0]
        made = target.name in notebooks or target.resolve() == DOCS / "api" / "index.md"
        assert made or target.exists(), link


def _sentences(page: Path) -> list[str]:
    """The sentences of nine words or more, without tables, code and marks."""
    text = re.sub(r"^(```|:::+).*?^\1.*?$", "\n\n", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    text = "\n".join("" if line.startswith(("|", "#", "!")) else line for line in text.splitlines())
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n|^\s*- ", text, flags=re.MULTILINE))
    sentences = (re.sub(r"[*`_]", "", found) for part in paragraphs for found in re.split(r"(?<=[.:;!?]) ", part))
    return [found.strip(" .:;") for found in sentences if len(found.split()) >= 9]


def test_no_sentence_stands_twice():
    """But those of the first lines of README and of the start page, which both say what this is."""
    where: dict[str, set[str]] = {}
    for page in PAGES:
        for sentence in _sentences(page):
            where.setdefault(sentence, set()).add(str(page.relative_to(ROOT)))
    assert len(where) > 500
    twice = {sentence: pages for sentence, pages in where.items() if len(pages) > 1}
    assert {sentence: pages for sentence, pages in twice.items() if pages != {"README.md", "docs/index.md"}} == {}
    assert len(twice) <= 2


@pytest.fixture
def place(tmp_path, sample, monkeypatch) -> Path:
    """A folder with everything that the pages name."""
    (tmp_path / "data" / "sample").mkdir(parents=True)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "reference").symlink_to(ROOT / "results" / "reference")
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    for name in ("my_jets.root", "my_nano.root", "corrected.root", "pfnano.root", "data/sample/jets.root"):
        shutil.copy(sample, tmp_path / name)
    for name in ("jet_jerc.json.gz", "L1.jec.txt", "L2.jec.txt", "my_columns.py"):
        (tmp_path / name).touch()
    for name in ("mine", "smoke", "quick"):
        (tmp_path / "results" / name / "model_repository").mkdir(parents=True)
    (study,) = (block.text for block in blocks("yaml") if block.page.endswith("train.md"))
    (tmp_path / "my.yaml").write_text(study, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


SHELL = [block for block in blocks("console", "bash") if block.page != TESTED_ELSEWHERE]
KNOWN = (
    "git clone", "make ", "pip install .", "python3 -m venv", "export AWS_", "kubectl get trials",
    ".venv-tools/bin/pre-commit",
)  # fmt: skip
"""What other lines begin with."""


@pytest.mark.parametrize("block", SHELL, ids=_id)
def test_every_command_is_one_that_jetcorr_has(block, place):
    """Its options and arguments are taken, and the files and studies that it names are right."""
    targets = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in block.lines:
        if not line.startswith("jetcorr "):
            assert line.startswith(KNOWN), line
            for target in re.findall(r"make ([a-z][a-z-]+)", line):
                assert f"\n{target}:" in targets, target
            continue
        words, command = shlex.split(line)[1:], main
        context = click.Context(main, info_name="jetcorr")
        while isinstance(command, click.Group):
            name, command, words = command.resolve_command(context, words)
            assert command is not None
        parsed = command.make_context(name, words, parent=context)
        if study := parsed.params.get("study"):
            load_study(study, dict(parsed.params.get("parameters", ())))


@pytest.mark.parametrize("block", blocks("yaml"), ids=_id)
def test_every_study_of_a_page_is_right(block, tmp_path, tables):
    if block.page == "CONTRIBUTING.md":
        pytest.skip("tests/test_contributing.py")
    content = yaml.safe_load(block.text)
    content.setdefault("models", {"pfn": {"architecture": "pfn"}})
    (tmp_path / "page.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    study = load_study(tmp_path / "page.yaml")
    assert set(content) <= set(type(study).model_fields)


@pytest.mark.slow
def test_a_newcomers_walk(place):
    """From the start page to a corrected file of one's own in four pages at most, each linked from the one before."""
    start = (DOCS / "index.md").read_text(encoding="utf-8")
    assert "(start.md)" in start
    assert "(how-to/correct-files.md)" in (DOCS / "start.md").read_text(encoding="utf-8")
    assert 1 + len(WALK) <= 4
    (place / "corrected.root").unlink()
    commands = [line for page in WALK for block in SHELL if block.page == page for line in block.lines]
    commands = [shlex.split(line)[1:] for line in commands if line.startswith("jetcorr ") and "my_nano" not in line]
    assert [command[0] for command in commands] == ["info", "correct", "info", "info", "correct", "response"]
    for number, command in enumerate(commands):
        again = ["--force"] * (command[0] == "correct" and number > 2)  # both pages write corrected.root
        done = jetcorr(*command, *again, cwd=place)
        assert done.stdout
    assert "particlenet" in done.stdout


def _python(page: str, mark: str = "") -> str:
    (code,) = (block.text for block in blocks("python") if block.page == page and mark in block.text)
    return code


def test_predictions_are_read_as_the_page_says(smoke_run, tmp_path, monkeypatch, capsys):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "mine").symlink_to(smoke_run.folder.path)
    monkeypatch.chdir(tmp_path)
    exec(compile(_python("docs/how-to/read-results.md"), "read-results.md", "exec"), {})
    assert 0.9 < float(capsys.readouterr().out) < 1.1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_variations_in_coffea_are_made_as_the_page_says(real_data, tmp_path, monkeypatch, capsys):
    (tmp_path / "results").symlink_to(ROOT / "results")
    (tmp_path / "my_nano.root").symlink_to(real_data / "pfnano.root")
    (tmp_path / "jet_jerc.json.gz").symlink_to(next(real_data.glob("jet_jerc*.json.gz")))
    monkeypatch.chdir(tmp_path)
    exec(compile(_python("docs/how-to/coffea.md", "CorrectionsChoice"), "coffea.md", "exec"), {})
    pt, up, *_ = map(float, capsys.readouterr().out.split())
    assert up > pt > 0


@pytest.mark.slow
def test_a_server_is_asked_as_the_page_says(capsys):
    if reason := server_available():
        pytest.skip(reason)
    repository = ROOT / "results" / "reference" / "model_repository"
    with TritonServer(repository) as server:
        code = _python("docs/how-to/triton.md").replace("127.0.0.1:8000", server.http_url)
        exec(compile(code, "triton.md", "exec"), {})
    assert 30 < float(capsys.readouterr().out.split()[2]) < 90


@pytest.mark.skipif(not shutil.which("g++"), reason="g++ is not installed")
def test_the_cpp_of_the_page_packs_jets(tmp_path):
    (code,) = (block.text for block in blocks("cpp") if "pack(" in block.text)
    check = """
#include <cassert>
int main() {
  Jet one{{60}, {{0.1f, 0.2f, 40, 0.1f, 211, 3, 1}}}, two{{50}, {{0, 0, 30, 0, 22, 3, 1}, {0, 0, 10, 0, 130, 3, 1}}};
  const Tensors t = pack({one, two});
  assert(t.points_shape[1] == 2 && t.mask[0] == 1 && t.mask[1] == 0 && t.mask[3] == 1);
  assert(t.jets[10] == 50 && t.features[0] == 40 && t.features[10] == 30 && t.points[1] == 0.2f);
}"""
    (tmp_path / "page.cpp").write_text(code + check, encoding="utf-8")
    subprocess.run(["g++", "-std=c++17", "-Wall", "-Werror", "page.cpp", "-o", "page"], cwd=tmp_path, check=True)
    subprocess.run(["./page"], cwd=tmp_path, check=True)


def test_every_python_block_is_run_somewhere():
    """Those of CONTRIBUTING.md by test_contributing, the analysis by test_coffea_guide, the others above."""
    found = [block.page for block in blocks("python") if block.page != "CONTRIBUTING.md"]
    assert sorted(found) == ["docs/how-to/coffea.md"] * 2 + ["docs/how-to/read-results.md", "docs/how-to/triton.md"]


def test_the_picture_of_the_path_is_that_of_the_notebooks():
    from pictures import HANDS_ON, IMAGES, SIGNS, draw_path

    assert set(HANDS_ON) == set(SIGNS) == set(NOTEBOOKS)
    assert (IMAGES / "path.svg").read_text(encoding="utf-8") == draw_path()
