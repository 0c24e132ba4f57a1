"""The pins: pip and conda users get the same versions, and no committed file names a package index."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml

from jetcorr_utils.config import project_root

ROOT = project_root()


def _pins(name):
    lines = (ROOT / name).read_text().splitlines()
    return [line.rstrip("\\ ") for line in lines if line and not line.startswith((" ", "#"))]


def test_conda_environment_has_the_pins_of_the_lock():
    pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][-1]["pip"]
    torch, *rest = pip
    assert rest == _pins("requirements.lock")
    assert torch in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-triton.lock"])
def test_every_pin_has_hashes_and_no_index(name):
    text = (ROOT / name).read_text()
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text


def test_the_lock_has_no_cuda():
    assert not [pin for pin in _pins("requirements.lock") if re.match(r"(nvidia|cuda|triton==|torch==)", pin)]
