"""What CONTRIBUTING.md shows is what the tests run."""

from __future__ import annotations

import re

from jetcorr_utils.config import project_root

ROOT = project_root()
RUN = [*sorted((ROOT / "tests" / "examples").iterdir()), ROOT / "tests" / "kubeflow" / "test_pipeline.py"]


def test_its_examples_are_those_of_the_tests():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", text, flags=re.DOTALL)
    sources = [path.read_text(encoding="utf-8") for path in RUN if path.is_file()]
    assert len(blocks) == 6
    for block in blocks:
        assert any(block.strip() in source for source in sources), block


def test_the_files_and_commands_that_it_names_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (ROOT / link).exists(), link
    for path in re.findall(r"`((?:tests|\.ci|jetcorr_utils)/[\w./]+)`", text):
        assert (ROOT / path).exists(), path
    targets = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|\$ )make ([a-z][a-z-]+)", text):
        assert f"\n{target}:" in targets, target
