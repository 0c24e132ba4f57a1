"""Nothing that is read can run code, no secret gets out, no server is open to others."""

from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path

import pytest
import yaml

from jetcorr_utils.cli import serve
from jetcorr_utils.config import project_root
from tests.planted import SECRETS

PACKAGE = project_root() / "jetcorr_utils"
FORBIDDEN = {
    "eval": "runs text", "exec": "runs text", "compile": "makes code of text", "__import__": "loads code by name",
    "pickle.load": "a pickle runs code", "pickle.loads": "a pickle runs code", "marshal.loads": "loads code",
    "dill.load": "a pickle runs code", "joblib.load": "a pickle runs code", "pd.read_pickle": "a pickle runs code",
    "pandas.read_pickle": "a pickle runs code", "yaml.load": "YAML can name code: safe_load",
    "yaml.load_all": "YAML can name code: safe_load_all", "yaml.unsafe_load": "YAML can name code",
    "yaml.full_load": "YAML can name code", "os.system": "a shell takes quotes apart", "os.popen": "a shell",
    "tarfile.open": "an archive can write anywhere", "shutil.unpack_archive": "an archive can write anywhere",
    "tempfile.mktemp": "others can take the name",
}  # fmt: skip


def offences(source: str) -> list[str]:
    """The calls in a Python source that could run what they read, or write where they should not."""
    found = []
    for call in [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]:
        name = ast.unparse(call.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name in FORBIDDEN:
            found.append(f"{name}: {FORBIDDEN[name]}")
        if name.endswith((".extract", ".extractall")):  # to look into an archive is harmless
            found.append(f"{name}: an archive can write anywhere")
        if name == "torch.load" and options.get("weights_only") != "True":
            found.append("torch.load without weights_only=True: a checkpoint runs code")
        if options.get("allow_pickle", "False") != "False":
            found.append(f"{name} with allow_pickle: an array file runs code")
        if options.get("shell", "False") != "False":
            found.append(f"{name} with shell: a shell takes quotes apart")
        if options.get("verify", "True") == "False":
            found.append(f"{name} with verify=False: anyone can answer")
    return found


@pytest.mark.parametrize(
    "line",
    ["eval(text)", "pickle.loads(data)", "yaml.load(text, Loader=yaml.Loader)", "torch.load(path)",
     "torch.load(path, weights_only=False)", "np.load(path, allow_pickle=True)", "run(command, shell=True)",
     "zipfile.ZipFile(path).extractall()", "requests.get(url, verify=False)"],
)  # fmt: skip
def test_the_search_finds_what_is_forbidden(line):
    assert offences(line)


def _sources() -> dict[str, str]:
    sources = {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}
    for path in [*project_root().glob("notebooks/*.ipynb"), *project_root().glob("pipelines/*.ipynb")]:
        cells = json.loads(path.read_text())["cells"]
        sources[path.name] = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return sources


@pytest.mark.parametrize(("name", "source"), _sources().items(), ids=_sources())
def test_no_module_and_no_notebook_runs_what_it_reads(name, source):
    assert offences(source) == []


def test_servers_listen_on_this_machine_only():
    assert {option.name: option.default for option in serve.params}["host"] == "127.0.0.1"
    elsewhere = {name for name, source in _sources().items() if re.search(r"0\.0\.0\.0|\"::\"|host=\"\"", source)}
    assert elsewhere == set()


def _leaks(*folders: Path) -> list[str]:
    """Files under some folders that hold a planted secret."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert files
    secrets = [value.encode() for value in SECRETS.values()]
    return [str(path) for path in files if any(secret in path.read_bytes() for secret in secrets)]


@pytest.mark.slow
def test_no_file_of_a_run_holds_a_key_of_the_environment(smoke_run):
    """All of a run, its data, caches and what it printed; the keys were in its environment."""
    assert _leaks(smoke_run.folder.path.parent) == []


@pytest.mark.slow
def test_no_compiled_pipeline_and_no_manifest_holds_a_key_of_the_environment(cli, tmp_path):
    pytest.importorskip("kfp")
    cli("pipeline", "compile", "--out", tmp_path / "pipeline.yaml", env=os.environ | SECRETS)
    cli("manifests", "--study", "smoke", "--out", tmp_path / "manifests", env=os.environ | SECRETS)
    assert _leaks(tmp_path) == []


def _containers(value) -> list[dict]:
    """All containers in a manifest."""
    if isinstance(value, dict):
        own = [c for key in ("containers", "initContainers") for c in value.get(key) or [] if isinstance(c, dict)]
        return own + [c for inner in value.values() for c in _containers(inner)]
    return [c for inner in value for c in _containers(inner)] if isinstance(value, list) else []


def test_every_container_of_the_manifests_drops_its_capabilities():
    found = 0
    for path in (project_root() / "pipelines" / "manifests").rglob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            for container in _containers(document):
                found += 1
                context = container.get("securityContext", {})
                assert context.get("capabilities", {}).get("drop") == ["ALL"], f"{path.name}: {container.get('name')}"
                assert context.get("allowPrivilegeEscalation") is False, f"{path.name}: {container.get('name')}"
    assert found > 3
