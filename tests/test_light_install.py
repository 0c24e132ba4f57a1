"""`pip install .` without extras: what it brings, how large it is, and that it corrects jets; and what is declared."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import uproot
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from jetcorr_utils.config import project_root

ROOT = project_root()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODEL = ROOT / "results" / "reference" / "model_repository" / "pfn"
LARGEST = 600  # MB
NOT_LIGHT = {"torch", "jupyterlab", "pythia8mc", "fastjet", "optuna", "kfp", "coffea", "papermill"}
NOT_IMPORTED = {
    "editables", "hatchling",  # make the package
    "jupyterlab",  # opens the notebooks
    "onnxscript",  # torch.onnx needs it
    "fsspec-xrootd", "s3fs",  # fsspec loads them for root:// and s3://
    "tensorboard",  # torch.utils.tensorboard needs it, and its program is started
}  # fmt: skip
"""Packages that are declared though jetcorr_utils does not import them, but for those of the tests."""


def closure(*names: str) -> set[str]:
    """Names of the packages that these need, themselves included, for the Python that runs."""
    found: dict[str, set[str]] = {}
    waiting = [Requirement(name) for name in names]
    while waiting:
        wanted = waiting.pop()
        name, extras = canonicalize_name(wanted.name), wanted.extras | {""}
        if not extras <= found.get(name, set()):
            found[name] = found.get(name, set()) | extras
            needed = map(Requirement, metadata.requires(name) or [])
            waiting += [
                other for other in needed
                if other.marker is None or any(other.marker.evaluate({"extra": extra}) for extra in found[name])
            ]  # fmt: skip
    return set(found)


@pytest.fixture(scope="module")
def light(tmp_path_factory) -> Path:
    """The Python of an environment with the wheel of this package and what it needs, of the versions that are here."""
    folder = tmp_path_factory.mktemp("light")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    (packages,) = (folder / "env").glob("lib/python*/site-packages")
    for name in closure(*PROJECT["dependencies"]):
        for file in metadata.files(name):
            if ".." not in file.parts:  # programs
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), packages / file)
    python = folder / "env" / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", "--no-index", "--no-deps", wheel], check=True)
    return python


@pytest.mark.slow
def test_a_light_install_is_small_complete_and_corrects_jets(light, sample, tmp_path, capsys):
    checked = subprocess.run([sys.executable, "-m", "pip", "--python", light, "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    size = sum(path.stat().st_size for path in light.parents[1].rglob("*") if path.is_file()) / 1e6
    with capsys.disabled():
        print(f"\na light install takes {size:.0f} MB")
    assert size < LARGEST

    def run(*arguments: object, code: int = 0) -> str:
        clean = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
        result = subprocess.run(
            [light.with_name("jetcorr"), *map(str, arguments)], capture_output=True, text=True, cwd=tmp_path, env=clean
        )
        assert result.returncode == code, result.stderr
        return result.stdout if code == 0 else result.stderr

    assert "JetNTuple" in run("info", sample)
    assert "jets corrected with pfn" in run("correct", sample, "--model", MODEL, "--out", tmp_path / "light.root")
    refused = run("simulate", "--jets", 1, "--out", tmp_path, code=1)
    assert re.fullmatch(r"jetcorr: this needs \w+, which is not installed: pip install 'jetcorr\[all\]'\n", refused)
    command = [sys.executable, "-c", CORRECT, sample, MODEL, tmp_path / "full.root"]
    said = subprocess.run(command, check=True, cwd=tmp_path, env=os.environ, capture_output=True, text=True).stdout
    with capsys.disabled():
        print(said.strip())
    light_jets, full_jets = (
        uproot.open(tmp_path / name)["jets"].arrays(library="np") for name in ("light.root", "full.root")
    )
    assert light_jets.keys() == full_jets.keys()
    assert all(np.array_equal(light_jets[name], full_jets[name]) for name in full_jets)


CORRECT = """
import sys, time
start = time.process_time()
import jetcorr_utils.correct
seconds = time.process_time() - start  # the machine has other work, too
from jetcorr_utils import JetCorrector, correct_files
correct_files([sys.argv[1]], sys.argv[2], sys.argv[3], progress=False)
loaded = {"torch", "coffea", "papermill", "optuna", "jetcorr_utils.export", "jetcorr_utils.models"} & set(sys.modules)
assert not loaded, loaded
print(f"import jetcorr_utils.correct takes {seconds:.2f} s of the processor")
"""


def test_former_names_are_known():
    from jetcorr_utils.serving.statistics import prometheus_metrics

    import jetcorr_utils
    from jetcorr_utils import serving

    assert prometheus_metrics is serving.prometheus_metrics
    for name in ("JetCorrector", "correct_files"):
        assert getattr(serving, name) is getattr(jetcorr_utils, name)
    with pytest.raises(AttributeError, match="has no attribute 'correct_jet'"):
        _ = serving.correct_jet


def test_a_light_install_has_nothing_of_the_training_and_the_notebooks():
    assert not NOT_LIGHT & closure(*PROJECT["dependencies"])


def declared() -> dict[str, set[str]]:
    """The packages that pyproject.toml names, by extra; "" stands for the dependencies."""
    lists = {"": PROJECT["dependencies"]} | PROJECT["optional-dependencies"]
    return {extra: {canonicalize_name(Requirement(text).name) for text in texts} for extra, texts in lists.items()}


def test_all_that_is_imported_is_declared_and_what_is_declared_is_used():
    homes = metadata.packages_distributions()
    imported = set()
    for path in (ROOT / "jetcorr_utils").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.partition(".")[0])
    imported -= {*sys.stdlib_module_names, "jetcorr_utils", "triton_python_backend_utils"}
    needed = {module: {canonicalize_name(name) for name in homes.get(module, [module])} for module in imported}
    names = declared()
    everything = set().union(*names.values())
    undeclared = {module for module, packages in needed.items() if not packages & everything}
    assert not undeclared
    ours = set().union(*(found for extra, found in names.items() if extra not in ("test", "all"))) - NOT_IMPORTED
    unused = ours - set().union(*needed.values())
    assert not unused


def test_the_extra_all_is_all_of_them():
    (text,) = PROJECT["optional-dependencies"]["all"]
    assert Requirement(text).extras | {"all"} == set(PROJECT["optional-dependencies"])
    assert re.match(r"jetcorr\[", text)
