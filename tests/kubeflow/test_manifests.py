"""The manifests: valid against the schemas of their kinds, refused when broken, and committed as they are made."""

from __future__ import annotations

import copy
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from jetcorr_utils.config import load_study, project_root
from jetcorr_utils.errors import InputError
from jetcorr_utils.kubeflow.manifests import Cluster, write_manifests
from jetcorr_utils.kubeflow.manifests.experiment import experiment
from tests.kubeflow.built_in import VERSIONS, built_in_errors

COMMITTED = project_root() / "pipelines" / "manifests" / "base"
BUILT_IN = {"volume.yaml", "secret.template.yaml", "kustomization.yaml"}
OURS = sorted(path.name for path in COMMITTED.glob("*.yaml") if path.name not in BUILT_IN)


@pytest.fixture(scope="session")
def validate(validator):
    """The validator of manifests against the schemas of the kinds, as a function: files -> whether all are valid."""
    if validator is None:
        pytest.skip("JETCORR_MANIFEST_VALIDATOR is not set: no validator at hand")
    return lambda *paths: not validator.main([str(path) for path in paths])


def test_the_committed_manifests_are_those_that_are_made(tmp_path):
    fresh = write_manifests(load_study("default"), tmp_path)
    assert {path.name for path in fresh} == {path.name for path in COMMITTED.glob("*.yaml")}
    for path in fresh:
        assert path.read_text() == (COMMITTED / path.name).read_text(), f"run `jetcorr manifests`: {path.name} is stale"


@pytest.mark.parametrize("change", [{"namespace": "A B"}, {"image": "a b"}, {"storage_class": "x/y"}])
def test_what_kubernetes_does_not_take_is_refused(change):
    (name,) = change
    with pytest.raises(InputError, match=f"{name} '{change[name]}'"):
        Cluster.of(load_study("smoke").cluster, **change)


def test_the_manifests_are_valid(validate):
    assert validate(*COMMITTED.glob("*.yaml"))


def test_all_settings_and_algorithms_give_valid_manifests(validate, tmp_path):
    paths = write_manifests(load_study("quick"), tmp_path, Cluster(gpus=1, nodes=4, storage_class="cephfs"))
    for algorithm in ("random", "tpe"):
        study = load_study("quick", {"tuning.sampler": algorithm})
        for job in ("TrainJob", "PyTorchJob"):
            path = tmp_path / f"{algorithm}-{job}.yaml"
            path.write_text(yaml.safe_dump(experiment(study, Cluster(), job)))
            paths.append(path)
    assert validate(*paths)


@pytest.mark.parametrize("name", OURS)
def test_an_unknown_field_is_refused(validate, name, tmp_path):
    resource = yaml.safe_load((COMMITTED / name).read_text())
    places = [lambda r: r["spec"]]
    if resource["kind"] == "Experiment":
        places.append(lambda r: r["spec"]["trialTemplate"]["trialSpec"]["spec"])
    for place in places:
        broken = copy.deepcopy(resource)
        place(broken)["replicaz"] = 1
        path = tmp_path / name
        path.write_text(yaml.safe_dump(broken))
        assert not validate(path)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["volume.yaml", "secret.template.yaml"])
def test_built_in_kinds_are_as_kubernetes_knows_them(name, version):
    pytest.importorskip("kubernetes_validate")
    resource = yaml.safe_load((COMMITTED / name).read_text())
    assert built_in_errors(resource, version) == []
    for place in (resource, resource["metadata"]):
        broken = copy.deepcopy(resource)
        (broken if place is resource else broken["metadata"])["replicaz"] = 1
        assert "'replicaz' was unexpected" in built_in_errors(broken, version)[0]


def test_every_parameter_of_the_space_reaches_the_trials_command_line():
    study = load_study("default")
    for job in ("TrainJob", "PyTorchJob"):
        spec = experiment(study, Cluster(), job)["spec"]
        assert [parameter["name"] for parameter in spec["parameters"]] == list(study.tuning.space)
        references = {p["name"]: p["reference"] for p in spec["trialTemplate"]["trialParameters"]}
        command = find_command(spec["trialTemplate"]["trialSpec"])
        for name in study.tuning.space:
            place = command.index(name)
            assert command[place - 1] == "--set"
            placeholder = command[place + 1].removeprefix("${trialParameters.").removesuffix("}")
            assert references[placeholder] == name


def find_command(trial_spec: dict) -> list[str]:
    if trial_spec["kind"] == "TrainJob":
        return trial_spec["spec"]["trainer"]["command"]
    pod = trial_spec["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
    return pod["containers"][0]["command"]


def test_katib_gets_texts_where_it_wants_texts():
    # As Kubernetes' parser reads YAML: 5e-05 without quotes is a number for it, though not for PyYAML.
    text = (COMMITTED / "experiment.yaml").read_text()
    assert "min: '5e-05'" in text


def test_words_that_a_shell_would_run_are_refused():
    study = load_study("smoke")
    space = {"training.optimizer": type(study.tuning.space["conv_dim"])(choices=("adam", "$(reboot)"))}
    tuning = study.tuning.model_copy(update={"space": space})
    with pytest.raises(InputError, match=r"'\$\(reboot\)' cannot stand in the command of a Katib trial"):
        experiment(study.model_copy(update={"tuning": tuning}), Cluster())


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_the_overlay_fills_in_a_sites_settings(tmp_path, validator):
    folder = tmp_path / "manifests"
    shutil.copytree(COMMITTED.parent, folder)
    settings = folder / "overlays" / "cern" / "settings.env"
    values = {
        "image": "registry.example/jets:7", "gpus": "2", "s3_endpoint": "https://s3.example", "storage_class": "fast",
    }  # fmt: skip
    settings.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    kustomization = settings.parent / "kustomization.yaml"
    kustomization.write_text(kustomization.read_text().replace("namespace: jetcorr ", "namespace: physics "))
    command = ["kubectl", "kustomize", settings.parent]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {resource["kind"]: resource for resource in yaml.safe_load_all(text)}
    assert set(found) == {"PersistentVolumeClaim", "PodDefault", "Notebook", "ServingRuntime"}
    assert {resource["metadata"]["namespace"] for resource in found.values()} == {"physics"}
    assert found["Notebook"]["spec"]["template"]["spec"]["serviceAccountName"] == "default-editor"
    (container,) = found["Notebook"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == container["env"][0]["value"] == "registry.example/jets:7"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert {"name": "AWS_ENDPOINT_URL", "value": "https://s3.example"} in found["PodDefault"]["spec"]["env"]
    assert found["PersistentVolumeClaim"]["spec"]["storageClassName"] == "fast"
    result = tmp_path / "result.yaml"
    result.write_text(text)
    assert validator is None or not validator.main([str(result)])


@pytest.mark.parametrize("name", OURS)
def test_no_container_of_ours_is_privileged(name):
    """Pods run as anyone but root, containers keep no capability and gain no privilege."""
    resource = yaml.safe_load((COMMITTED / name).read_text())
    containers = list(find_all(resource, "containers"))
    for container in (one for group in containers for one in group):
        context = container["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
    without = {"PodDefault", "Tensorboard", "InferenceService"}  # of which others make the pods
    assert bool(containers) == (resource["kind"] not in without)


@pytest.mark.parametrize("name", OURS)
def test_each_pod_of_ours_names_its_user_so_that_sidecars_have_it_too_or_leaves_all_to_its_containers(name):
    """Katib's collector runs as root unless the pod says otherwise; Knative refuses a pod that says so."""
    resource = yaml.safe_load((COMMITTED / name).read_text())
    if resource["kind"] in ("InferenceService", "ServingRuntime"):
        assert "securityContext" not in resource["spec"].get("predictor", resource["spec"])
        return
    pods = [spec for spec in find_all(resource, "spec") if isinstance(spec, dict) and "containers" in spec]
    for pod in pods:
        context = pod["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (1000, 100, 100)
    assert bool(pods) == (resource["kind"] not in ("PodDefault", "Tensorboard"))


@pytest.mark.parametrize("name", ["trainjob.yaml", "pytorchjob.yaml", "experiment.yaml", "inferenceservice.yaml"])
def test_no_proxy_of_a_service_mesh_stands_before_ours(name):
    assert "sidecar.istio.io/inject: 'false'" in (COMMITTED / name).read_text()


def test_servers_are_made_by_deployments_and_get_the_gpus(tmp_path):
    write_manifests(load_study("default"), tmp_path, Cluster(gpus=1))
    service = yaml.safe_load((tmp_path / "inferenceservice.yaml").read_text())
    assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "RawDeployment"
    assert service["spec"]["predictor"]["model"]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    runtime = yaml.safe_load((tmp_path / "servingruntime.yaml").read_text())
    assert "--model-config-name=gpu" in runtime["spec"]["containers"][0]["args"]


def test_tensorboard_reads_the_logs_of_every_run_and_is_not_made_before_there_is_one():
    board = yaml.safe_load((COMMITTED / "tensorboard.yaml").read_text())
    assert board["spec"]["logspath"] == "pvc://jetcorr/results"
    assert "tensorboard.yaml" not in yaml.safe_load((COMMITTED / "kustomization.yaml").read_text())["resources"]


def find_all(value: object, key: str) -> Iterator[Any]:
    """All values of a key, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from find_all(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from find_all(inner, key)


def test_pods_that_ask_the_clusters_api_for_nothing_get_no_token_for_it():
    """Where their kinds have a field for it; the notebook makes resources, and has an account of its own."""
    job = yaml.safe_load((COMMITTED / "pytorchjob.yaml").read_text())["spec"]
    trial = yaml.safe_load((COMMITTED / "experiment-pytorchjob.yaml").read_text())["spec"]["trialTemplate"]["trialSpec"]
    replicas = [*job["pytorchReplicaSpecs"].values(), *trial["spec"]["pytorchReplicaSpecs"].values()]
    server = yaml.safe_load((COMMITTED / "inferenceservice.yaml").read_text())["spec"]["predictor"]
    assert len(replicas) == 3
    for pod in [server, *(one["template"]["spec"] for one in replicas)]:
        assert pod["automountServiceAccountToken"] is False
