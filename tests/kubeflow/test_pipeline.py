"""The pipeline: compiled as committed, refusing what could be code, and run here as its pods would."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from jetcorr_utils.batch import run_notebook
from jetcorr_utils.cli import main
from jetcorr_utils.config import project_root
from jetcorr_utils.errors import InputError, JetcorrError
from jetcorr_utils.files import fingerprint, read_json, write_json
from jetcorr_utils.kubeflow.pipeline import NOTEBOOK, PIPELINE, _adapt, adapt_pipeline, compile_pipeline
from jetcorr_utils.kubeflow.pipeline_parameters import DEFAULTS, check_parameters
from jetcorr_utils.notebooks import NOTEBOOKS, Notebook
from jetcorr_utils.report import write_report
from jetcorr_utils.run import RunFolder
from tests.code_in_data import Maker
from tests.reliability.processes import Sandbox

SAMPLE = project_root() / "data" / "sample" / "jets.root"

# Kale's and the SDK's own; they are raised at import and by zmq when a kernel ends.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def compiled() -> tuple[dict, dict]:
    """The two documents of the committed file: the pipeline, and what the cluster needs to know."""
    pipeline, platform = yaml.safe_load_all(PIPELINE.read_text())
    return pipeline, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files with a path that is short enough for sockets, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_the_committed_pipeline_is_what_the_notebook_compiles_to(tmp_path, monkeypatch):
    monkeypatch.setenv("KALE_PIP_INDEX_URLS", "https://index.example/simple")  # must not get in
    fresh = compile_pipeline(out=tmp_path / "fresh.yaml")
    assert fresh.read_bytes() == PIPELINE.read_bytes(), "run `jetcorr pipeline compile` and commit the result"
    assert not (Path.cwd() / ".kale").exists()


def test_one_step_for_each_notebook_in_a_chain(compiled):
    tasks = compiled[0]["root"]["dag"]["tasks"]
    titles = [notebook.title for notebook in NOTEBOOKS.values()]
    assert [name.removesuffix("-step").replace("-", "_") for name in tasks] == sorted(titles)
    after = {name: task.get("dependentTasks", []) for name, task in tasks.items()}
    order = [name for name, before in after.items() if not before]
    while len(order) < len(after):
        order.append(next(name for name, before in after.items() if before == [order[-1]]))
    names = [name.removesuffix("-step").replace("-", "_") for name in order]
    assert names == titles


def test_nothing_of_this_machine_and_no_installation_in_the_compiled_file():
    text = PIPELINE.read_text()
    assert not re.findall(r"https?://|pip install|pip_index|packages_to_install|ensurepip", text)
    assert str(project_root()) not in text
    assert str(Path.home()) not in text


def test_no_step_uses_a_pickle_or_a_file_that_another_account_could_have_made_first():
    text = PIPELINE.read_text()
    assert not re.findall(r"marshal|dill|pickle", text)
    assert set(re.findall(r".*/tmp.*", text)) == {"          value: /tmp"}  # HOME in a pod, where nobody else is


@pytest.mark.slow
@pytest.mark.parametrize("content", ["pickle", b'{"run_dir": "/elsewhere", "steps": []}'])
def test_a_step_does_not_run_what_it_is_handed_and_refuses_what_is_not_of_its_run(compiled, tmp_path, content):
    handed, mark, run = tmp_path / "handed", tmp_path / "mark", tmp_path / "run"
    handed.write_bytes(pickle.dumps(Maker(mark)) if content == "pickle" else content)
    metadata = {"marshal_path": "/tmp/marshal/data_exploration_artifact.dillpkl"}  # where Kale's own code would put it
    result = run_step(compiled[0], "gnn-training", {"data_exploration": (handed, metadata)}, tmp_path, run)
    assert result.returncode != 0
    assert not mark.exists()
    assert not run.exists()
    first = re.search(r"Error: (.*)", result.stdout)[1]
    assert re.fullmatch(r"InputError: (.*handed: damaged, it is not JSON; .*|what the step before has .*)", first)


def run_step(
    pipeline: dict, step: str, inputs: dict[str, tuple[Path, dict]], folder: Path, run: Path
) -> subprocess.CompletedProcess[str]:
    """Run one step by the command of its container: with a file and metadata for each artefact that it is handed."""
    container = pipeline["deploymentSpec"]["executors"][f"exec-{step}-step"]["container"]
    outputs = pipeline["components"][f"comp-{step}-step"]["outputDefinitions"]["artifacts"]
    kind = {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}
    given = {
        f"{name}_input_artifact": {"artifacts": [{"name": name, "type": kind, "uri": str(path), "metadata": metadata}]}
        for name, (path, metadata) in inputs.items()
    }
    made = {
        name: {"artifacts": [{"name": name, "type": one["artifactType"], "uri": str(folder / "out" / name)}]}
        for name, one in outputs.items()
    }
    parameters = {"study": "smoke", "run_dir": str(run), "data_dir": "", "backend": "local"}
    told = {
        "inputs": {"parameterValues": parameters, "artifacts": given},
        "outputs": {"artifacts": made, "outputFile": str(folder / "out" / "executor_output.json")},
    }
    arguments = [json.dumps(told) if argument == "{{$}}" else argument for argument in container["args"]]
    environment = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    return subprocess.run(
        [*container["command"], *arguments], env=environment, cwd=folder, timeout=300, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_each_step_asks_for_what_it_needs(compiled):
    pipeline, platform = compiled
    for notebook in NOTEBOOKS.values():
        step = f"{notebook.title.replace('_', '-')}-step"
        name = f"exec-{step}"
        container = pipeline["deploymentSpec"]["executors"][name]["container"]
        assert container["resources"]["resourceCpuRequest"] == notebook.cpu
        assert container["resources"]["resourceMemoryLimit"] == notebook.memory
        assert "accelerator" not in container["resources"]
        task = pipeline["root"]["dag"]["tasks"][step]
        assert task["retryPolicy"]["maxRetryCount"] == 2
        assert platform[name]["pvcMount"][0]["mountPath"] == "/mnt/jetcorr"
        assert platform[name]["secretAsEnv"][0]["optional"] is True
        assert platform[name]["securityContext"]["runAsNonRoot"] is True


def test_parameters_metrics_and_reports_are_in_the_compiled_pipeline(compiled):
    pipeline, _ = compiled
    parameters = pipeline["root"]["inputDefinitions"]["parameters"]
    assert {name: given["defaultValue"] for name, given in parameters.items()} == DEFAULTS
    outputs = {
        name.removeprefix("comp-"): {
            artifact["artifactType"]["schemaTitle"]
            for artifact in component.get("outputDefinitions", {}).get("artifacts", {}).values()
        }
        for name, component in pipeline["components"].items()
    }
    assert len(outputs) == len(NOTEBOOKS)
    assert all("system.HTML" in kinds for kinds in outputs.values())
    assert "system.Metrics" in outputs["physics-plots-step"]
    assert [name for name, kinds in outputs.items() if "system.Model" in kinds] == ["onnx-export-step"]


def test_gpus_and_image_are_settings(tmp_path):
    path = compile_pipeline(out=tmp_path / "gpu.yaml", image="registry.example/jetcorr:1", gpus=1)
    executors = next(iter(yaml.safe_load_all(path.read_text())))["deploymentSpec"]["executors"]
    with_gpu = {name for name, e in executors.items() if "accelerator" in e["container"]["resources"]}
    assert with_gpu == {"exec-gnn-training-step", "exec-tuning-step"}
    assert {e["container"]["image"] for e in executors.values()} == {"registry.example/jetcorr:1"}


def test_a_further_notebook_is_an_entry_and_its_file(tmp_path, monkeypatch, sample):
    """Its step, its place in the batch run, and its page of the report follow."""
    cells = [
        nbformat.v4.new_code_cell('STUDY = "smoke"\nRUN_DIR = ""\nWORD = "none"', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(
            "from jetcorr_utils.run import RunFolder\n\nRunFolder(RUN_DIR).record('07', {'word': WORD})"
        ),
    ]
    further = Notebook("07", "more", "**More.** What comes after.", ("physics",), memory="1Gi", folder=tmp_path)
    metadata = nbformat.read(NOTEBOOKS["06"].path, as_version=4).metadata
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), further.path)
    monkeypatch.setitem(NOTEBOOKS, "07", further)
    notebook = shutil.copy(NOTEBOOK, tmp_path / "pipeline.ipynb")
    compiled = yaml.safe_load(
        compile_pipeline(Path(notebook), tmp_path / "pipeline.yaml").read_text().split("\n---\n")[0]
    )
    task = compiled["root"]["dag"]["tasks"]["more-step"]
    assert task["dependentTasks"] == ["physics-plots-step"]
    container = compiled["deploymentSpec"]["executors"]["exec-more-step"]["container"]
    assert container["resources"]["resourceMemoryLimit"] == "1Gi"
    run, parameters = tmp_path / "run", {"WORD": "said", "data.files": str(sample)}
    assert run_notebook("07", "smoke", run, parameters)
    assert read_json(run / "metrics.json") == {"word": "said"}
    assert not run_notebook("07", "smoke", run, parameters)
    assert not run_notebook("07", "smoke", run, parameters | {"WORKERS": 2})  # a parameter of another notebook
    assert run_notebook("07", "smoke", run, parameters | {"physics.seed": 2})
    assert 'href="#07_more"' in write_report(RunFolder(run), "smoke").read_text()


def test_an_image_that_could_be_code_is_refused(tmp_path):
    mark = tmp_path / "mark"
    with pytest.raises(InputError, match=r"--image .*: an image is named by letters"):
        compile_pipeline(out=tmp_path / "out.yaml", image=f"x' + str(open({str(mark)!r}, 'w')) + '")
    assert not list(tmp_path.iterdir())


def test_a_secret_that_kubernetes_would_not_know_is_refused_before_anything_is_written(tmp_path):
    command = ["pipeline", "compile", "--out", str(tmp_path / "out.yaml"), "--image-pull-secret"]
    for name in ("Registry key", "a..b", "a.-b", "-a", "a-", "", "a" * 254):
        done = CliRunner().invoke(main, [*command, name])
        assert done.exit_code == 2
        assert done.output.startswith(f"jetcorr: --image-pull-secret '{name}': is no name: small letters")
    with pytest.raises(InputError, match="--image-pull-secret 'a/b'"):
        adapt_pipeline(PIPELINE, pull_secrets=["a/b"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "said"), [("none", "no such file"), ("pipe", "is a pipe"), ("", "name")])
def test_a_compiled_file_that_is_none_is_one_line(tmp_path, name, said):
    os.mkfifo(tmp_path / "pipe")
    place = str(tmp_path / name) if name else ""
    done = CliRunner().invoke(main, ["pipeline", "submit", "--host", "http://127.0.0.1:1", "--file", place])
    assert done.exit_code == 2
    assert said in done.output
    assert done.output.count("\n") == 1


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00", b"a: 1\n", b"a: 1\n---\nb: 2\n", b"[1]\n---\n[2]\n", b"{a: [", b"[" * 5000]
)
@pytest.mark.parametrize("command", [["run", "--local"], ["submit", "--host", "http://127.0.0.1:1"]])
def test_a_file_that_is_no_compiled_pipeline_is_one_line(tmp_path, command, content):
    (tmp_path / "file.yaml").write_bytes(content)
    run_dir = tmp_path / "run" if "--local" in command else "/mnt/jetcorr/run"
    options = ["--study", "smoke", "--run-dir", str(run_dir), "--file", str(tmp_path / "file.yaml")]
    done = CliRunner().invoke(main, ["pipeline", *command, *options])
    assert done.exit_code == 2
    assert done.output.startswith(f"jetcorr: {tmp_path / 'file.yaml'}: no compiled pipeline of jetcorr")
    assert done.output.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file.yaml"]


def test_code_of_another_kale_is_not_compiled():
    with pytest.raises(JetcorrError, match=r"Kale's code is not as expected: 'packages_to_install"):
        _adapt("@kfp_dsl.component(base_image='x', packages=[])\ndef a_step(): ...", ["a"], 0)


@given(st.text(min_size=1), st.sampled_from(sorted(DEFAULTS)), st.sampled_from(list("'\"\n;` $(){}\\|&<>*\0")))
def test_a_parameter_that_could_be_code_is_refused(text, name, bad):
    with pytest.raises(InputError, match=rf"pipeline parameter {name} = "):
        check_parameters(**(DEFAULTS | {name: text + bad}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("study", "a'; import os"),
        ("study", "x; rm"),
        ("study", "quick\n"),
        ("run_dir", "/mnt/../etc"),
        ("run_dir", ""),
        ("backend", "slurm"),
    ],
)
def test_bad_parameters_are_named(name, value):
    with pytest.raises(InputError, match=rf"pipeline parameter {name} = "):
        check_parameters(**(DEFAULTS | {name: value}))


def test_a_refused_parameter_is_exit_code_2_and_one_line(tmp_path):
    result = CliRunner().invoke(
        main, ["pipeline", "run", "--local", "--study", "x; rm", "--run-dir", str(tmp_path / "r")]
    )
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_without_a_cluster_submit_says_what_is_missing():
    result = CliRunner().invoke(main, ["pipeline", "submit", "--host", "http://127.0.0.1:9"])
    assert result.exit_code == 2
    assert re.fullmatch(
        r"jetcorr: no Kubeflow Pipelines answers at http://127.0.0.1:9 \(.*Connection refused\); give --host, or run "
        r"it here with `jetcorr pipeline run --local`\n",
        result.stderr,
    )


@pytest.mark.slow
def test_the_compiled_pipeline_runs_to_success_with_the_outputs_of_the_batch_run(
    smoke_run, cli, tmp_path, temporary, monkeypatch
):
    monkeypatch.setenv("TMPDIR", str(temporary))
    run, original = tmp_path / "run", smoke_run.folder
    shutil.copytree(original.path, run)
    # All steps run; that of notebook 02 has work to do, and what it makes must be equal to the byte, or else the later
    # ones would have to follow.
    state = read_json(run / "run.json")
    for name in state["stages"].pop("02")["outputs"]:
        (run / name).unlink()
    write_json(run / "run.json", state)
    data = original.path.parent / "data"
    output = cli("pipeline", "run", "--local", "--study", "smoke", "--run-dir", run, "--data-dir", data).stdout
    assert output.count("SUCCESS") == len(NOTEBOOKS) + 1
    before, after = (read_json(folder / "run.json")["stages"] for folder in (original.path, run))
    assert after.keys() == set(NOTEBOOKS)
    assert [number for number in NOTEBOOKS if after[number] == before[number]] == ["01", "03", "04", "05", "06"]
    assert fingerprint(run / "model" / "pfn" / "checkpoint.pt") == fingerprint(original.model("pfn") / "checkpoint.pt")
    assert len(list(Path(f"{run}.pipeline").glob("*/*/executor_output.json"))) == len(NOTEBOOKS)
    (kept,) = Path(f"{run}.pipeline").glob("*/*/models/pfn/1/model.onnx")
    assert fingerprint(kept) == fingerprint(run / "model_repository" / "pfn" / "1" / "model.onnx")
    assert {path.name for path in tmp_path.iterdir()} == {"run", "run.pipeline"}
    assert not list(temporary.iterdir())


@pytest.mark.slow
def test_a_step_that_fails_names_the_notebook_and_stops_the_pipeline(cli, tmp_path):
    tmp_path = tmp_path / ("in-a-folder-whose-name-is-longer-than-a-socket-may-be-" * 2)
    tmp_path.mkdir()
    study = tmp_path / "broken.yaml"
    study.write_text("data: {files: [missing.root]}\nmodels: {pfn: {architecture: pfn}}\n")
    result = cli("pipeline", "run", "--local", "--study", study, "--run-dir", tmp_path / "run", check=False)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-2:]
    assert re.match(r"jetcorr: the step of notebook 01_data_exploration failed: \w+: .*missing\.root", last[0])
    assert (tmp_path / "run" / "notebooks" / "01_data_exploration.ipynb").is_file()
    assert last[1].endswith("run/notebooks/01_data_exploration.ipynb")
    assert "gnn-training-step" not in result.stdout


@pytest.mark.slow
def test_pipelines_run_side_by_side_whatever_lies_in_the_temporary_folder_and_whatever_python3_is(tmp_path, temporary):
    (temporary / f"jetcorr-pipeline-{os.getuid()}").write_text("the name that was once ours")
    study = tmp_path / "broken.yaml"
    study.write_text("data: {files: [missing.root]}\nmodels: {pfn: {architecture: pfn}}\n")
    kernels = tmp_path / "kernels" / "python3"
    kernels.mkdir(parents=True)
    write_json(kernels / "kernel.json", {"argv": ["/bin/false"], "display_name": "other", "language": "python"})
    variables = {"TMPDIR": str(temporary), "JUPYTER_PATH": str(tmp_path)}
    sandboxes = [Sandbox(tmp_path / name) for name in ("one", "other")]
    command = ["-m", "jetcorr_utils.cli", "pipeline", "run", "--local", "--study", str(study), "--run-dir"]
    started = [s.start([*command, str(s.work / "run")], variables=variables) for s in sandboxes]
    assert [process.wait() for process in started] == [1, 1]
    assert all("the step of notebook 01_data_exploration failed: " in process.output for process in started)


@pytest.mark.slow
def test_the_steps_of_a_killed_pipeline_end(tmp_path):
    sandbox = Sandbox(tmp_path)
    run = sandbox.work / "run"
    with tempfile.TemporaryDirectory() as temporary:
        command = ["-m", "jetcorr_utils.cli", "pipeline", "run", "--local", "--study", "smoke"]
        command += ["--run-dir", str(run), "--data-dir", str(sandbox.work / "data")]
        process = sandbox.start(command, variables={"TMPDIR": temporary})
        while process.code is None and not any(run.glob("figures/*.png")):  # its kernel is at work
            time.sleep(0.1)
        assert process.code is None, process.wait() or process.output
        process.kill()
        assert not process.left()
