"""pipelines/README.md, followed literally: each command of its code blocks is run here, or checked as far as it can be.

`kubectl` and `jetcorr` speak to the tests' API server with the rights of the namespace's owner, `jetcorr pipeline` to a
server of Kubeflow Pipelines. An image is neither built nor pushed here (tests/image builds it), and no training.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jetcorr_utils.config import load_study, project_root
from jetcorr_utils.kubeflow.manifests import Cluster, write_manifests
from jetcorr_utils.kubeflow.pipeline import PIPELINE, adapt_pipeline
from jetcorr_utils.kubeflow.releases import RELEASES
from jetcorr_utils.kubeflow.study_on_cluster import edited_code
from tests.kubeflow.crds import FIELDS
from tests.kubeflow.test_check import ready
from tests.kubeflow.test_releases import (  # noqa: F401 (a fixture)
    SDKS,
    Pipelines,
    accepted_resources,
    executors_of,
    pipelines,
    unknown,
)

QUEUE = "kueue.x-k8s.io/queue-name"
GUIDE = (project_root() / "pipelines" / "README.md").read_text()


def blocks() -> list[list[str]]:
    """The commands of each block of shell code."""
    found = []
    for block in re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL):
        lines = [re.sub(r"(^|\s+)# .*", "", line).strip() for line in block.splitlines()]
        found.append([line for line in lines if line])
    return found


def test_every_command_is_one_that_is_known_here():
    """A command that the tests below do not run would not be noticed when it goes wrong."""
    lines = [re.sub(r"^[A-Z_]+=\S+ ", "", line) for block in blocks() for line in block]  # without variables
    programs = {" ".join(shlex.split(line)[:2]) for line in lines}
    assert programs == {
        "docker build", "docker push", "jetcorr manifests", "cp manifests/secret.template.yaml", "kubectl apply",
        "jetcorr pipeline", "kubectl delete", "jetcorr prepare", "kubectl create",
    }  # fmt: skip


def test_the_image_that_is_built_is_pushed_and_used():
    (first, *_) = blocks()
    build, push = (next(line for line in first if line.startswith(f"docker {verb}")) for verb in ("build", "push"))
    words = shlex.split(build)
    dockerfile = project_root() / words[words.index("--file") + 1]
    arguments = re.findall(r"^ARG (\w+)", dockerfile.read_text(), re.MULTILINE)
    assert words[words.index("--build-arg") + 1].partition("=")[0] in arguments
    image = words[words.index("--tag") + 1]
    assert shlex.split(push)[-1] == image
    assert all(
        shlex.split(line)[shlex.split(line).index("--image") + 1] == image for line in first if "--image" in line
    )


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_commands_lead_from_a_namespace_to_a_run(fake_api, pipelines, tmp_path, validator):  # noqa: F811
    if validator is None:
        pytest.skip("JETCORR_MANIFEST_VALIDATOR is not set: no schemas at hand")
    api = ready(fake_api)
    api.delete("persistentvolumeclaims", "jetcorr")
    url, seen = pipelines
    (tmp_path / "pipelines").symlink_to(project_root() / "pipelines")
    programs = tmp_path / "bin"
    programs.mkdir()
    start = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m jetcorr_utils.cli "$@"\n'
    (programs / "jetcorr").write_text(start)
    (programs / "jetcorr").chmod(0o755)
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(project_root())}

    def run(line: str) -> str:
        shown = line.replace("https://…", url).replace("…", "a-token")
        if "pipeline submit" in line:
            shown += f" --no-wait{'' if '--host' in line else f' --host {url}'}"
        if "pipeline compile" in line and "--out" not in line:
            shown += " --out default.pipeline.yaml"  # not into the project
        done = subprocess.run(
            shown,
            shell=True,
            cwd=tmp_path,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        return done.stdout

    # What is not done here: see the module's text
    skipped = ("docker ", "jetcorr prepare", "jetcorr pipeline run")
    done = [(line, run(line)) for block in blocks() for line in block if not line.startswith(skipped)]
    said = dict(done)
    assert next(out for line, out in done if "--check" in line).endswith("nothing is missing\n")
    assert "run 1:" in next(out for line, out in done if "pipeline submit" in line)
    (_, _, headers, body) = next(one for one in seen if one[0] == "POST" and "/runs" in one[1])
    assert headers.get("Authorization", headers.get("authorization")) == "Bearer a-token"
    assert set(re.findall(r" image: (.*)", yaml.safe_dump(body["pipeline_spec"]))) == {"registry/jetcorr:1"}
    made = {(plural, name) for plural, name in api.resources if plural not in ("namespaces", "serviceaccounts")}
    assert made >= {
        ("persistentvolumeclaims", "jetcorr"), ("secrets", "jetcorr-s3"), ("poddefaults", "access-jetcorr"),
        ("notebooks", "jetcorr"), ("servingruntimes", "jetcorr-triton"), ("tensorboards", "jetcorr-logs"),
        ("trainjobs", "jetcorr-default"), ("experiments", "jetcorr-default"), ("inferenceservices", "jetcorr-default"),
    }  # fmt: skip
    assert (tmp_path / "gpu.pipeline.yaml").is_file()
    assert said
    # Why the guide removes the PodDefault first
    access = tmp_path / "manifests" / "poddefault.yaml"
    access.write_text(access.read_text().replace("Access to", "Way to"))
    again = subprocess.run("kubectl apply -k manifests", shell=True, cwd=tmp_path, env=environment, capture_output=True)
    assert b"poddefaults is forbidden" in again.stderr


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
@pytest.mark.parametrize("name", re.findall(r"`(kubectl apply -k pipelines/[^`]*)`", GUIDE))
def test_the_overlay_of_the_guide_is_applied(fake_api, name):
    api = ready(fake_api)
    api.delete("persistentvolumeclaims", "jetcorr")
    api.add("namespaces", {"metadata": {"name": "jetcorr"}})
    done = subprocess.run(name, shell=True, cwd=project_root(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4


def table() -> dict[str, dict[str, str]]:
    """The guide's table of releases: by release, what its cells say."""
    lines = GUIDE[GUIDE.index("| Kubeflow |") :].partition("\n\n")[0].splitlines()
    (_, *columns), _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {name: {row[0]: row[1 + number] for row in rows} for number, name in enumerate(columns)}


def version(number: tuple[int, int] | None) -> str:
    return f"{number[0]}.{number[1]}" if number else "none"


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_has_what_the_table_says(release, tmp_path):
    parts, cells = RELEASES[release], table()[release]
    study = load_study("default")
    files = write_manifests(study, tmp_path, Cluster(kubeflow=release))
    kinds = {path.name: yaml.safe_load(path.read_text()) for path in files}
    job = kinds.get("trainjob.yaml") or kinds["pytorchjob.yaml"]
    search = kinds.get("experiment.yaml") or kinds["experiment-pytorchjob.yaml"]
    trial = search["spec"]["trialTemplate"]["trialSpec"]
    assert trial["kind"] == job["kind"]
    volume = next(
        (name for name in ("podTemplateOverrides", "runtimePatches") if name in job["spec"]), "the pod's template"
    )
    user = "1000:100" if "'runAsUser': 1000, 'runAsGroup': 100" in str(job) else "the image's user"
    if "runAsUser" in str(job):
        assert "'runAsUser': 1000" in str(job)
        user = "1000:100"
    step = next(iter(executors_of(adapt_pipeline(PIPELINE, parts.pipelines)).values()))
    security = step.get("securityContext")
    assert {name: cell for name, cell in cells.items() if cell != "accepted"} == {
        "Pipelines": version(parts.pipelines),
        "Trainer": version(parts.trainer),
        "Katib": version(parts.katib),
        "a training or a trial is": job["kind"],
        "its pods get the volume by": volume,
        "its pods run as": user,
        "a step of the pipeline runs as": (
            f"{security['runAsUser']}:{security['runAsGroup']}" if security else "the image's user"
        ),
        "the S3 secret in steps": "if there is one" if step.get("secretAsEnv") else "left out",
    }


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_accepts_what_the_table_says(fake_api, validator, release, tmp_path):
    if validator is None:
        pytest.skip("JETCORR_MANIFEST_VALIDATOR is not set: no schemas at hand")
    study = load_study("default", {"cluster.kubeflow": release, "cluster.queue": "jets"})
    made = accepted_resources(fake_api, study, release, tmp_path)
    job = made[RELEASES[release].job]
    search = made["Experiment"]["spec"]["trialTemplate"]["trialSpec"]
    step = executors_of(adapt_pipeline(PIPELINE, RELEASES[release].pipelines)).values()
    known = FIELDS[SDKS[release]]
    found = {
        "pipeline": not [name for one in step for name in unknown(one, known, "KubernetesExecutorConfig")],
        "notebook server and volume": {"Notebook", "PodDefault", "PersistentVolumeClaim"} <= made.keys(),
        "training on several nodes": "numNodes" in str(job) or "Worker" in str(job),
        "search": search["kind"] == RELEASES[release].job,
        "inference service": {"ServingRuntime", "InferenceService"} <= made.keys(),
        "TensorBoard": "Tensorboard" in made,
        "queue of Kueue": all(one["metadata"]["labels"] == {QUEUE: "jets"} for one in (job, search)),
    }
    assert {name for name, cell in table()[release].items() if cell == "accepted"} == set(found)
    assert all(found.values()), found


def test_the_table_has_each_supported_release():
    assert list(table()) == list(RELEASES)


def test_code_that_was_edited_and_is_not_in_the_image_is_noticed(tmp_path):
    image, workspace = tmp_path / "image", tmp_path / "workspace"
    for folder in (image, workspace):
        (folder / "jetcorr_utils" / "models").mkdir(parents=True)
        (folder / "jetcorr_utils" / "models" / "pfn.py").write_text("one")
    assert edited_code(workspace, image) == []
    (workspace / "jetcorr_utils" / "models" / "pfn.py").write_text("two")
    (workspace / "jetcorr_utils" / "mine.py").write_text("new")
    assert edited_code(workspace, image) == ["jetcorr_utils/mine.py", "jetcorr_utils/models/pfn.py"]
    assert edited_code(workspace, tmp_path / "no image") == []
    assert edited_code(Path(image), image) == []
