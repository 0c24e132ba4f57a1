"""The pins: pip and conda users get the same versions, and no committed file names a package index."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement

from jetcorr_utils.config import project_root
from jetcorr_utils.inference import OnnxPredictor, TritonPredictor
from jetcorr_utils.serving import TritonServer
from tests.networks import some_clouds

ROOT = project_root()
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PYTHONS = re.search(r"^PYTHONS := (.*)", MAKEFILE, flags=re.MULTILINE)[1].split()
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))


def _pins(name):
    lines = (ROOT / name).read_text().splitlines()
    return [line.rstrip("\\ ") for line in lines if line and not line.startswith((" ", "#"))]


def test_conda_environment_has_the_pins_of_the_lock():
    pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][-1]["pip"]
    torch, *rest = pip
    assert rest == _pins("requirements.lock")
    assert torch in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["training"]


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_hashes_and_no_index(name):
    text = (ROOT / name).read_text()
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text


def test_the_lock_has_no_cuda():
    assert not [pin for pin in _pins("requirements.lock") if re.match(r"(nvidia|cuda|triton==|torch==)", pin)]


@pytest.mark.parametrize("name", LOCKS)
@pytest.mark.parametrize("python", PYTHONS)
def test_every_package_has_one_version_for_each_python(name, python):
    machine = {
        "python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux",
        "platform_system": "Linux", "platform_python_implementation": "CPython", "implementation_name": "cpython",
        "os_name": "posix",
    }  # fmt: skip
    pins = [Requirement(pin) for pin in _pins(name)]
    used = [pin.name for pin in pins if pin.marker is None or pin.marker.evaluate(machine)]
    assert sorted(used) == sorted(set(used))
    if name == "requirements.lock":
        assert {"pythia8mc", "numpy", "scipy", "onnxruntime"} <= set(used)


def test_nothing_is_compiled_and_all_but_torch_has_a_hash():
    installs = [line for line in MAKEFILE.splitlines() if re.search(r"\$\(PIP\)|pip .*install", line)]
    assert len(installs) >= 6
    for line in installs:
        assert "$(PIP) " in line or "--only-binary :all:" in line
        if not re.search(r"^PIP =|\$\(TORCH\)|-e \.", line):
            assert "--require-hashes" in line or "$(LOCKED)" in line
    assert not re.search(r"pip install|ensurepip|curl|wget", re.sub(r"-m pip install", "", MAKEFILE))


def _interpreters() -> dict[str, Path]:
    """The Pythons of this machine that run, by their version: those of the path, and pyenv's."""
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    places = [Path(found) for name in ("python3", "python2.7") if (found := shutil.which(name))]
    places += [Path(found) for minor in range(6, 16) if (found := shutil.which(f"python3.{minor}"))]
    found = {}
    for place in [*places, *sorted(versions.glob("*/bin/python"))]:
        asked = subprocess.run([place, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True)
        if asked.returncode == 0:
            found[asked.stdout.decode().strip()] = place
    return found


def test_other_pythons_are_refused_at_once_in_one_line(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in (*LOCKS, "pyproject.toml"):
        (tmp_path / name).touch()
    others = {version: path for version, path in _interpreters().items() if version not in PYTHONS}
    if not others:
        pytest.skip("every Python of this machine is one that jetcorr supports")
    for version, path in others.items():
        command = ["make", "run", f"PYTHON={path}"]
        refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert refused.returncode
        first, *rest = refused.stderr.splitlines()
        assert first.startswith(f"jetcorr needs CPython {' '.join(PYTHONS)}")
        assert first.endswith(f"is CPython {version}: make PYTHON=python3.12")
        assert all(line.startswith("make") for line in rest)
        assert not (tmp_path / ".venv").exists()


@pytest.mark.slow
@pytest.mark.parametrize("python", [python for python in PYTHONS[:-1] if python != RUNNING])
def test_the_server_runs_in_the_environment_of_each_python(python, tmp_path):
    """Of each but ours, which all other tests have; the server's wheel ends with 3.13."""
    interpreter = _interpreters().get(python)
    if interpreter is None:
        pytest.skip(f"no Python {python} on this machine")
    place = tmp_path / "environment"
    subprocess.run([interpreter, "-m", "venv", "--without-pip", place], check=True)
    pip = [sys.executable, "-m", "pip", "--python", place / "bin" / "python", "install", "--quiet", "--no-deps"]
    locked = ["--only-binary", ":all:", "--require-hashes", "-r", ROOT / "requirements-triton.lock"]
    installed = subprocess.run([*pip, *locked], capture_output=True, text=True)
    if installed.returncode and "NewConnectionError" in installed.stderr:
        pytest.skip("no package index")
    assert installed.returncode == 0, installed.stderr
    server = TritonServer(ROOT / "results" / "reference" / "model_repository", environment=place)
    with server, TritonPredictor(server.http_url, "pfn") as predictor:
        answers = predictor.predict(some_clouds(200), batch_size=64)
    here = OnnxPredictor(server.repository / "pfn" / "1" / "model.onnx").predict(some_clouds(200))
    np.testing.assert_allclose(answers, here, rtol=1e-5, atol=1e-6)
