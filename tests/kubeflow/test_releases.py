"""Each supported release of Kubeflow gets what it knows: resources by its CRDs, pipelines by its SDK's fields."""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import dumps, loads
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from jetcorr_utils.cli import main
from jetcorr_utils.config import Study, load_study
from jetcorr_utils.errors import InputError
from jetcorr_utils.kubeflow.cluster import Resource, connect
from jetcorr_utils.kubeflow.manifests import Cluster, write_manifests
from jetcorr_utils.kubeflow.pipeline import PIPELINE, adapt_pipeline
from jetcorr_utils.kubeflow.releases import LATEST, RELEASES, find_release
from jetcorr_utils.kubeflow.submit import submit
from tests.kubeflow.built_in import VERSIONS, built_in_errors, pods_in
from tests.kubeflow.crds import FIELDS

#: of each row: the plurals of its training job and the version of Trainer for the tests' server
SERVERS = {
    "1.10": {"pytorchjobs": None},
    "1.11": {"trainjobs": None, "trainer": "2.1"},
    "26.03": {"trainjobs": None, "trainer": "2.1"},
}
WORKSPACE = dict.fromkeys(("notebooks", "poddefaults", "tensorboards", "servingruntimes", "inferenceservices"))
SDKS = {"1.10": "kfp-kubernetes 1.4.0", "1.11": "kfp-kubernetes 2.15.2", "26.03": "kfp-kubernetes 2.16.0"}


def accepted_resources(fake_api, study: Study, release: str, folder: Path) -> dict[str, dict]:
    """Every resource of a study by its kind, accepted with strict validation by a server of the release."""
    api = fake_api(**SERVERS[release], **WORKSPACE, experiments=None)
    api.delete("persistentvolumeclaims", "jetcorr")
    made = {}
    for path in write_manifests(study, folder, Cluster.of(study.cluster, namespace="physics", gpus=1)):
        resource = yaml.safe_load(path.read_text())
        if resource["kind"] == "Kustomization":
            continue
        plural = next((one.plural for one in api.kinds.values() if one.kind == resource["kind"]), None)
        status, answer = api.create(plural, resource, strict=True)
        assert status == 201, f"{path.name}: {answer['message']}"
        made[resource["kind"]] = resource
    trial = made["Experiment"]["spec"]["trialTemplate"]["trialSpec"]
    trial.setdefault("metadata", {})["name"] = "trial"
    plural = next(one.plural for one in api.kinds.values() if one.kind == trial["kind"])
    status, answer = api.create(plural, trial, strict=True)
    assert status == 201, answer["message"]
    return made


@pytest.mark.parametrize("release", RELEASES)
def test_every_resource_is_accepted_by_the_releases_server(fake_api, validator, release, tmp_path):
    if validator is None:
        pytest.skip("JETCORR_MANIFEST_VALIDATOR is not set: no schemas at hand")
    settings = {"cluster.kubeflow": release, "cluster.image_pull_secrets": '["registry"]', "cluster.queue": "jets"}
    made = accepted_resources(fake_api, load_study("default", settings), release, tmp_path)
    trial = made["Experiment"]["spec"]["trialTemplate"]["trialSpec"]
    assert trial["kind"] == RELEASES[release].job
    assert trial["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "jets"}
    pods = "".join(path.read_text() for path in tmp_path.glob("*job.yaml"))
    assert "claimName: jetcorr" in pods  # the volume is in them, whatever the field is called
    assert "name: registry" in pods
    assert "sidecar.istio.io/inject: 'false'" in pods


@pytest.mark.parametrize("release", RELEASES)
def test_the_pipeline_has_only_what_the_releases_sdk_knows(release):
    adapted = adapt_pipeline(
        PIPELINE, RELEASES[release].pipelines, image="registry/jetcorr:1", pull_secrets=["registry"]
    )
    known = FIELDS[SDKS[release]]
    executors = executors_of(adapted)
    assert [name for one in executors.values() for name in unknown(one, known, "KubernetesExecutorConfig")] == []
    assert all(one["pvcMount"][0]["constant"] == "jetcorr" for one in executors.values())
    whole = executors_of(PIPELINE.read_text()).values()
    refused = {name for one in whole for name in unknown(one, known, "KubernetesExecutorConfig")}
    assert bool(refused) == (release != "26.03")  # of what was compiled for the newest one
    images = re.findall(r"^ +image: (.*)$", adapted, re.MULTILINE)
    assert set(images) == {"registry/jetcorr:1"}


@pytest.mark.parametrize("release", RELEASES)
def test_the_pods_of_every_resource_are_as_kubernetes_knows_them(release, tmp_path):
    """In the resources of operators pods are checked loosely, and refused, or changed, when they are made."""
    pytest.importorskip("kubernetes_validate")
    study = load_study("default", {"cluster.kubeflow": release, "cluster.image_pull_secrets": '["registry"]'})
    kinds = []
    for path in write_manifests(study, tmp_path, Cluster.of(study.cluster, namespace="physics", gpus=1)):
        resource = yaml.safe_load(path.read_text())
        for pod in pods_in(resource):
            kinds.append(resource["kind"])
            for version in VERSIONS:
                assert built_in_errors(pod, version) == [], f"{path.name}, Kubernetes {version}"
            broken = copy.deepcopy(pod)
            broken["spec"]["containers"][0]["volumeMountz"] = []
            assert "'volumeMountz' was unexpected" in built_in_errors(broken)[0]
        if resource["apiVersion"] == "v1":
            kinds.append(resource["kind"])
            for version in VERSIONS:
                assert built_in_errors(resource, version) == [], f"{path.name}, Kubernetes {version}"
    job = {RELEASES[release].job} - ({"TrainJob"} if RELEASES[release].pods == "podTemplateOverrides" else set())
    assert set(kinds) >= {"Notebook", "ServingRuntime", "PersistentVolumeClaim", "Secret", *job}


def executors_of(compiled: str) -> dict:
    _, platform = yaml.safe_load_all(compiled)
    return platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def unknown(value: dict, messages: dict, message: str) -> Iterator[str]:
    """The fields that a message of the SDK does not have, at any depth that is recorded."""
    for name, inner in value.items():
        if name not in messages[message]:
            yield f"{message}.{name}"
        elif (kind := messages[message][name]) in messages:
            for one in inner if isinstance(inner, list) else [inner]:
                yield from unknown(one, messages, kind)


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_is_found_out_from_the_api_server(fake_api, validator, release):
    if validator is None:
        pytest.skip("JETCORR_MANIFEST_VALIDATOR is not set: no schemas at hand")
    fake_api(**SERVERS[release])
    found = find_release(connect())
    assert (found.job, found.pods) == (RELEASES[release].job, RELEASES[release].pods)


def test_a_newer_trainer_is_found_out_and_none_is_said(fake_api):
    fake_api(trainjobs=None)
    assert find_release(connect()).pods == LATEST.pods == "runtimePatches"
    fake_api()
    with pytest.raises(InputError, match="Kubeflow Trainer has to be installed in it, or the older training operator"):
        find_release(connect())


def test_a_field_of_a_newer_trainer_is_a_line_and_no_pod_without_a_volume(fake_api, validator):
    if validator is None:
        pytest.skip("JETCORR_MANIFEST_VALIDATOR is not set: no schemas at hand")
    from jetcorr_utils.kubeflow.manifests.trainjob import train_job

    api = fake_api(trainjobs=None, trainer="2.1")
    with pytest.raises(InputError, match=r'unknown field "spec\.runtimePatches"') as error:
        Resource(connect(), train_job("job", ["true"], Cluster()), "/run").__enter__()
    assert "\n" not in str(error.value)
    assert not api.ours()


class Pipelines(BaseHTTPRequestHandler):
    """Kubeflow Pipelines of a release, as far as a run is started."""

    version, seen = "2.5.0", []

    def log_message(self, *_: object) -> None:
        """Not on standard error."""

    def do_GET(self) -> None:
        told = {"tag_name": self.version} if "v1beta1" in self.path else {}
        self.answer({**told, "multi_user": True} if "healthz" in self.path else {})

    def do_POST(self) -> None:
        body = loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer({"experiment_id": "1", "run_id": "1", **body})

    def answer(self, body: dict) -> None:
        self.seen.append((self.command, self.path, dict(self.headers), body))
        data = dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def pipelines() -> Iterator[tuple[str, list]]:
    """The address of a server of Kubeflow Pipelines 2.5, and what it was asked."""
    handler = type("Handler", (Pipelines,), {"seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", handler.seen
        server.shutdown()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("variable", "header", "sent"),
    [("JETCORR_KFP_TOKEN", "authorization", "Bearer mine"), ("JETCORR_KFP_COOKIES", "cookie", "mine")],
)
def test_a_token_needs_not_stand_in_the_list_of_processes(pipelines, variable, header, sent):
    url, seen = pipelines
    command = ["pipeline", "submit", "--no-wait", "--host", url, "--namespace", "physics"]
    command += ["--image-pull-secret", "registry"]
    done = CliRunner().invoke(main, command, env={variable: "mine"})
    assert done.exit_code == 0, done.output
    assert {{name.lower(): value for name, value in headers.items()}.get(header) for *_, headers, _ in seen} == {sent}
    steps = seen[-1][-1]["pipeline_spec"]["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert [step["imagePullSecret"] for step in steps.values()] == [[{"secretName": "registry"}]] * len(steps)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("given", "sent"), [(None, "Bearer of the pod"), ("mine", "Bearer mine")])
def test_a_run_is_started_with_a_token_the_servers_image_and_what_its_pipelines_know(
    pipelines, tmp_path, monkeypatch, given, sent
):
    url, seen = pipelines
    token = tmp_path / "token"
    token.write_text("of the pod")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(token))
    monkeypatch.setenv("KALE_DEFAULT_BASE_IMAGE", "registry/jetcorr:7")
    submit(PIPELINE, host=url, namespace="physics", token=given, wait=False)
    method, path, _, body = seen[-1]
    assert (method, path.partition("?")[0]) == ("POST", "/apis/v2beta1/runs")
    assert {headers.get("Authorization", headers.get("authorization")) for *_, headers, _ in seen} == {sent}
    text = yaml.safe_dump(body["pipeline_spec"])
    assert set(re.findall(r" image: (.*)", text)) == {"registry/jetcorr:7"}
    assert "runAsUser" not in text
    assert "secretAsEnv" not in text
    assert any("namespace=physics" in path or "physics" in dumps(body) for _, path, _, body in seen)
