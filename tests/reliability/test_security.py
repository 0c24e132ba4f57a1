"""Nothing that is read can run code, no secret gets out, no server is open to others."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import nbformat
import pytest
import torch
import yaml

from jetcorr_utils.cli import serve
from jetcorr_utils.config import ClusterSettings, load_study, project_root
from jetcorr_utils.errors import InputError, StudyError
from jetcorr_utils.kubeflow.pipeline import PIPELINE
from jetcorr_utils.report import page, write_report
from jetcorr_utils.run import RunFolder
from jetcorr_utils.training import load_model
from jetcorr_utils.training.checkpoint import read_state
from tests.code_in_data import Maker
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
    "tempfile.mktemp": "others can take the name", "subprocess.getoutput": "a shell takes quotes apart",
    "subprocess.getstatusoutput": "a shell takes quotes apart", "torch.jit.load": "TorchScript is code",
    "torch.hub.load": "runs code of others", "broadcast_object_list": "a pickle from the network runs code",
    "scatter_object_list": "a pickle from the network runs code", "recv_object_list": "a pickle from the network",
    "all_gather_object": "a pickle from the network runs code", "gather_object": "a pickle from the network runs code",
    "runpy.run_path": "runs a file", "runpy.run_module": "runs a file",
    "importlib.import_module": "runs a module by name", "spec.loader.exec_module": "runs a file",
    "pkgutil.resolve_name": "runs a module by name",
}  # fmt: skip
PICKLES = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "dill", "cloudpickle", "joblib", "shelve", "marshal",
    "kale.marshal",
}  # fmt: skip
"""Modules and functions whose import says that a pickle is read, which runs code."""
ALLOWED = {
    "processes.py": {"pickle: a pickle runs code", "pickle.loads: a pickle runs code"},
    "extensions.py": {"importlib.import_module: runs a module by name", "spec.loader.exec_module: runs a file"},
    "export/__init__.py": {"importlib.import_module: runs a module by name"},
    "architectures.py": {"pkgutil.resolve_name: runs a module by name"},
}
"""Between a process and its workers: by a pipe that nobody else can write to. What a study's owner names, and modules
of ours by tables of ours.
"""
SHELL = {
    r"\beval\b|\bsource <|(ba|da)?sh -c\b": "runs text",
    r"(curl|wget)\b.*\|": "runs what the network sends",
    r"--trusted-host|--insecure|http://|sslverify": "anyone can answer",
    r"(chmod|--mode=)[^;&|]*?[0-7]{2,3}[2367]\b|chmod\s[^;&|]*[ao]\+\w*w": "everyone may write",
    r"(?<![\w$}])/tmp/": "another account can make the name first",
    r"allow_origin=['\"]?\*|disable_check_xsrf=True": "pages of other sites get in",
    r"\bsudo\b|--privileged": "more rights than are needed",
}
"""Patterns of shell code."""
SCRIPTS = (".ci/run", "Makefile", "pipelines/image/Dockerfile", "pipelines/image/notebook-server")


def offences(source: str) -> list[str]:
    """The calls in a Python source that could run what they read, or write where they should not."""
    found = [f"{name}: a pickle runs code" for name in _imports(source) if name in PICKLES]
    for call in [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]:
        name = ast.unparse(call.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if reason := FORBIDDEN.get(re.sub(r"^(torch\.)?distributed\.", "", name)):
            found.append(f"{name}: {reason}")
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


def _imports(source: str) -> set[str]:
    """The modules that a Python source imports, and what it imports of each by its full name."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def shell_offences(text: str) -> list[str]:
    """The lines of a shell script, Makefile or Dockerfile that could run or let in what they should not."""
    lines = [re.sub(r"(^|\s)#.*", "", line) for line in text.splitlines()]
    return [f"{line.strip()}: {why}" for line in lines for pattern, why in SHELL.items() if re.search(pattern, line)]


@pytest.mark.parametrize(
    "line",
    ["import dill", "from pickle import loads", "from kale import marshal", "torch.jit.load(path)",
     "eval(text)", "pickle.loads(data)", "yaml.load(text, Loader=yaml.Loader)", "torch.load(path)",
     "torch.load(path, weights_only=False)", "np.load(path, allow_pickle=True)", "run(command, shell=True)",
     "zipfile.ZipFile(path).extractall()", "requests.get(url, verify=False)"],
)  # fmt: skip
def test_the_search_finds_what_is_forbidden(line):
    assert offences(line)


@pytest.mark.parametrize(
    "line",
    ['eval "$command"', "sh -c $name", "curl https://a.example | sh", "pip install --trusted-host a", "chmod -R 777 .",
     "install --directory --mode=2777 data", "chmod o+w x", "log=/tmp/log", "jupyter --ServerApp.allow_origin='*'",
     "RUN sudo make"],
)  # fmt: skip
def test_the_search_in_shell_code_finds_what_is_forbidden(line):
    assert shell_offences(line)
    assert not shell_offences(f"# {line}")


def _sources() -> dict[str, str]:
    sources = {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}
    for path in [*project_root().glob("notebooks/*.ipynb"), *project_root().glob("pipelines/*.ipynb")]:
        cells = json.loads(path.read_text())["cells"]
        sources[path.name] = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    for path in project_root().glob("results/reference/model_repository/*/*/*.py"):
        sources[str(path.relative_to(project_root()))] = path.read_text()
    return sources | _steps()


def _steps() -> dict[str, str]:
    """The code of each step of the compiled pipeline, with the texts in it that its kernel runs as code."""
    executors = next(yaml.safe_load_all(PIPELINE.read_text(encoding="utf-8")))["deploymentSpec"]["executors"]
    codes = {name: executor["container"]["command"][-1] for name, executor in executors.items()}
    return {name: "\n".join([code, *_blocks(code)]) for name, code in codes.items()}


def _blocks(code: str) -> list[str]:
    """The texts of Kale's code that are code themselves; what is filled in is a literal there."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.JoinedStr):
            parts = getattr(node.value, "values", [node.value])
            text = "".join(part.value if isinstance(part, ast.Constant) else "None" for part in parts)
            found.append(textwrap.dedent(text))
    return found


@pytest.mark.parametrize(("name", "source"), _sources().items(), ids=_sources())
def test_no_module_and_no_notebook_runs_what_it_reads(name, source):
    assert set(offences(source)) <= ALLOWED.get(name, set())


def test_a_checkpoint_and_a_saved_state_do_not_run(tmp_path):
    path, mark = tmp_path / "checkpoint.pt", tmp_path / "mark"
    torch.save({"settings": "{}", "weights": Maker(mark), "key": "k"}, path)
    with pytest.raises(InputError, match=r"checkpoint\.pt: not a checkpoint of this version of jetcorr: "):
        load_model(path)
    assert read_state(path, "k") is None
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()  # it would have run


@pytest.mark.parametrize("tag", ["!!python/object/apply:builtins.open", "!!python/object/new:builtins.open"])
def test_a_study_and_a_parameter_do_not_run(tmp_path, tag):
    study, mark = tmp_path / "study.yaml", tmp_path / "mark"
    study.write_text(f"name: {tag} [{mark}, w]\nmodels: {{pfn: {{architecture: pfn}}}}\n", encoding="utf-8")
    with pytest.raises(StudyError):
        load_study(study)
    with pytest.raises(StudyError):
        load_study("smoke", {"data.directory": f"{tag} [{mark}, w]"})
    assert not mark.exists()


def test_the_clusters_server_is_a_release_without_the_known_holes():
    committed = (project_root() / "pipelines" / "manifests" / "base" / "servingruntime.yaml").read_text(
        encoding="utf-8"
    )
    for text in (ClusterSettings().triton_image, committed):
        assert re.search(r"tritonserver:(\d\d\.\d\d)-py3", text)[1] >= "25.07"  # CVE-2025-23310, -23311, -23319


def test_the_code_of_every_step_and_of_every_block_in_it_is_looked_at():
    steps = _steps()
    assert len(steps) == 6
    for code in steps.values():
        called = {ast.unparse(node.func) for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)}
        assert {"run_step", "_kale_run_code"} <= called  # the one stands in a block, the other around the blocks


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_runs_or_lets_in_what_it_should_not(name):
    assert shell_offences((project_root() / name).read_text(encoding="utf-8")) == []


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_no_script_splits_a_path_or_runs_a_part_of_it():
    scripts = [name for name in SCRIPTS if (project_root() / name).read_text(encoding="utf-8").startswith("#!")]
    result = subprocess.run(["shellcheck", *scripts], cwd=project_root(), capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_every_step_of_the_pipeline_starts_by_the_same_command_as_a_normal_user():
    """The command takes no parameter: these come as JSON, in an argument of their own."""
    pipeline, platform = yaml.safe_load_all(PIPELINE.read_text(encoding="utf-8"))
    containers = [executor["container"] for executor in pipeline["deploymentSpec"]["executors"].values()]
    assert len({tuple(container["command"][:-1]) for container in containers}) == 1
    assert {argument for container in containers for argument in container["args"] if "{" in argument} == {"{{$}}"}
    for settings in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        assert settings["securityContext"] == {"runAsUser": "1000", "runAsGroup": "100", "runAsNonRoot": True}


def test_servers_listen_on_this_machine_only():
    assert {option.name: option.default for option in serve.params}["host"] == "127.0.0.1"
    texts = _sources() | {name: (project_root() / name).read_text(encoding="utf-8") for name in SCRIPTS}
    elsewhere = {name for name, text in texts.items() if re.search(r"0\.0\.0\.0|host.*\"::\"|host=\"\"", text)}
    # In a container the address is that of the container alone; whom it lets in: tests/browser/test_lab_access.py
    assert elsewhere == {"pipelines/image/notebook-server"}


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


def test_commands_and_their_processes_import_nothing_from_the_current_folder(sample, tmp_path):
    for name in ("multiprocessing", "json", "numpy", "uproot", "onnxruntime", "jetcorr_utils"):
        (tmp_path / f"{name}.py").write_text("open('HIT', 'w').close()\n", encoding="utf-8")
    command = [Path(sys.executable).with_name("jetcorr"), "correct", sample, "--workers", "2", "--out", "out.root"]
    command += ["--model", project_root() / "results" / "reference" / "model_repository" / "pfn"]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, env=variables | {"PYTHONPATH": str(project_root())}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "HIT").exists()


@pytest.mark.parametrize("command", ["manifests", "prepare"])
def test_a_study_that_comes_with_the_project_is_none_of_the_current_folder(command, tmp_path):
    """A study names code, and another account may have put one there."""
    (tmp_path / "smoke").write_text("extensions: [planted.py]\nmodels: {}\n", encoding="utf-8")
    (tmp_path / "planted.py").write_text("open('HIT', 'w').close()\n", encoding="utf-8")
    # None does more than read the study
    option = {"manifests": ["--out", "out"], "prepare": ["-p", "data.files", "absent.root"]}
    subprocess.run(
        [sys.executable, "-m", "jetcorr_utils.cli", command, "--study", "smoke", *option[command]], cwd=tmp_path,
        capture_output=True, env=os.environ | {"PYTHONPATH": str(project_root()), "PYTHONSAFEPATH": "1"}, check=False,
    )  # fmt: skip
    assert not (tmp_path / "HIT").exists()


@pytest.mark.parametrize("way", ["command", "analysis"])
def test_onnx_runtime_reports_nothing_and_writes_through_no_link_among_temporary_files(way, sample, tmp_path):
    """Its file of a session, whose name is the same for all accounts: it is there only where the use is reported."""
    temporary, victim = tmp_path / "temporary", tmp_path / "victim"
    temporary.mkdir()
    victim.write_text("of another", encoding="utf-8")
    (temporary / ".ses").symlink_to(victim)
    model = project_root() / "results" / "reference" / "model_repository" / "pfn"
    program = f"import jetcorr_utils; print(jetcorr_utils.JetCorrector({str(model)!r}).predictor)"
    correct = (Path(sys.executable).with_name("jetcorr"), "correct", sample, "--model", model, "--out", "out.root")
    command = correct if way == "command" else (sys.executable, "-c", program)
    silent = ("CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS")  # whoever runs the tests may have said so
    variables = {name: value for name, value in os.environ.items() if name not in silent}
    variables |= {"PYTHONPATH": str(project_root()), "TMPDIR": str(temporary)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, env=variables, check=False)
    assert done.returncode == 0, done.stderr
    assert victim.read_text(encoding="utf-8") == "of another"
    assert [path.name for path in temporary.iterdir()] == [".ses"]


def test_the_report_takes_no_template_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "index.html.j2").write_text("somebody's template", encoding="utf-8")
    (tmp_path / "lab" / "conf.json").write_text('{"base_template": "base"}', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    run = RunFolder(tmp_path / "run")
    run.notebooks.mkdir(parents=True)
    notebook = run.notebooks / "01_data_exploration.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("ours")]), notebook)
    report = write_report(run, title="smoke").read_text(encoding="utf-8")
    for text in (report, page(notebook)):
        assert "ours" in text
        assert "somebody's" not in text


def test_every_promise_of_the_page_on_security_names_its_tests():
    page = project_root() / "docs" / "reference" / "security.md"
    promises = re.split(r"^- ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert len(promises) == 8
    for promise in promises:
        named = re.findall(r"\]\(\.\./\.\./(tests/[\w/]+\.py)\)", promise)
        assert named, promise
        assert [path for path in named if not (project_root() / path).is_file()] == []
