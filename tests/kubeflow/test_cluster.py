"""Resources on a cluster, by the real Kubernetes client against a small fake API: made, followed, failed, removed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from jetcorr_utils.config import load_study, project_root
from jetcorr_utils.errors import ClusterError, InputError
from jetcorr_utils.kubeflow.cluster import Resource, connect, own_image
from jetcorr_utils.kubeflow.manifests import Cluster
from jetcorr_utils.kubeflow.manifests.experiment import experiment
from jetcorr_utils.kubeflow.manifests.inference import inference_service, serving_runtime
from jetcorr_utils.kubeflow.manifests.trainjob import train_job
from tests.kubeflow import fake_api as fake_api_module
from tests.kubeflow.operators import condition

RUN_DIR = "/mnt/jetcorr/results/smoke"
JOB = train_job("job", ["true"], Cluster())
JOBSET = "jobset.sigs.k8s.io/jobset-name"
SERVICE = inference_service("service", "/mnt/jetcorr/models", Cluster())


def ends_with(plural: str, **status):
    """An operator that takes a moment, and then sets a status."""

    def work(api, resource):
        time.sleep(0.1)
        api.set_status(plural, resource["metadata"]["name"], **status)

    return work


def idle(api, resource) -> None:
    """An operator that never gets anywhere."""


COMPLETE = {"conditions": [condition("Complete", reason="JobsCompleted")]}


def test_a_resource_lives_for_its_block(fake_api):
    api = fake_api(trainjobs=ends_with("trainjobs", **COMPLETE))
    with Resource(connect(), JOB, RUN_DIR) as job:
        assert api.exists("trainjobs", "job")
        assert job.wait(30)["status"] == COMPLETE
    assert not api.ours()
    (made,) = api.made
    assert made["metadata"]["namespace"] == "physics"  # that of the kubeconfig, not of the manifest
    assert made["spec"]["trainer"] == JOB["spec"]["trainer"]
    assert [method for method, _, _ in api.requests].count("POST") == 1


@pytest.mark.parametrize(
    ("plural", "manifest", "done"),
    [
        ("trainjobs", JOB, COMPLETE),
        ("experiments", experiment(load_study("smoke"), Cluster()), {"conditions": [condition("Succeeded")]}),
        ("inferenceservices", SERVICE, {"conditions": [condition("Ready")]}),
    ],
)
def test_each_kind_is_followed_to_its_end(fake_api, plural, manifest, done):
    """Over what its status says on the way there, and over watches that break off."""
    steps = [
        {"conditions": [condition("Created")]},
        {"trials": 3, "trialsRunning": 2} if plural == "experiments" else {},
        {"conditions": [{**done["conditions"][0], "status": "False"}]},
        done,
    ]

    def work(api, resource):
        for status in steps:
            time.sleep(0.05)
            api.set_status(plural, resource["metadata"]["name"], **status)

    api = fake_api(**{plural: work})
    api.drop_watches = 2
    with Resource(connect(), manifest, RUN_DIR) as resource:
        assert resource.wait(30)["status"]["conditions"] == done["conditions"]
    assert not api.ours()


def test_a_failure_names_the_reason_and_the_log(fake_api):
    failed = {"conditions": [condition("Failed", reason="BackoffLimitExceeded", message="jobs failed")]}
    api = fake_api(trainjobs=ends_with("trainjobs", **failed))
    api.add_pod("job-0", {JOBSET: "job"}, "fine\n", phase="Succeeded")
    api.add_pod("job-1", {JOBSET: "job"}, "jetcorr: no such file\n", phase="Failed")
    with pytest.raises(ClusterError) as error, Resource(connect(), JOB, RUN_DIR) as job:
        job.wait(30)
    assert str(error.value) == (
        "TrainJob job failed: BackoffLimitExceeded: jobs failed\n  the last lines of pod job-1:\njetcorr: no such file"
    )
    assert not api.ours()


def test_a_model_that_the_server_refuses_is_a_failure(fake_api):
    status = {
        "transitionStatus": "BlockedByFailedLoad",
        "lastFailureInfo": {"reason": "ModelLoadFailed", "message": "opset 99"},
    }
    api = fake_api(inferenceservices=ends_with("inferenceservices", modelStatus=status), servingruntimes=idle)
    with (
        pytest.raises(ClusterError, match="InferenceService service failed: ModelLoadFailed: opset 99"),
        Resource(connect(), serving_runtime(Cluster()), RUN_DIR),
        Resource(connect(), SERVICE, RUN_DIR) as resource,
    ):
        resource.wait(30)
    assert not api.ours()


def test_what_takes_too_long_is_removed(fake_api):
    api = fake_api(trainjobs=idle)
    message = r"TrainJob job is not done after 1 s \(waiting\); it is removed"
    with pytest.raises(ClusterError, match=message), Resource(connect(), JOB, RUN_DIR) as job:
        job.wait(1)
    assert not api.ours()


def test_what_someone_else_removes_is_an_error(fake_api):
    fake_api(trainjobs=lambda api, resource: api.delete("trainjobs", "job"))
    with (
        pytest.raises(ClusterError, match="TrainJob job was removed by someone else"),
        Resource(connect(), JOB, RUN_DIR) as job,
    ):
        job.wait(30)


def test_a_leftover_of_the_same_run_is_replaced_and_that_of_another_is_not(fake_api):
    api = fake_api(trainjobs=idle)
    Resource(connect(), JOB, RUN_DIR).__enter__()  # and its process is killed
    with Resource(connect(), JOB, RUN_DIR):
        assert len(api.made) == 2
        with pytest.raises(InputError, match=r"TrainJob job exists, and is not of /mnt/other: remove it, or rename"):
            Resource(connect(), JOB, "/mnt/other").__enter__()
        assert api.exists("trainjobs", "job")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, r"the cluster has no TrainJob \(trainer.kubeflow.org/v1alpha1\): Kubeflow Trainer has to be installed"),
        ((404, 'namespaces "physics" not found', {"kind": "namespaces"}), "the cluster has no namespace 'physics'"),
        (
            (403, "forbidden: User me", {}),
            r"may not create trainjobs in namespace 'physics' \(403\): it needs the role",
        ),
        ((401, "Unauthorized", {}), r"this account may not create trainjobs"),
        ((422, "spec.trainer: Invalid value", {}), "the cluster refuses TrainJob job: spec.trainer: Invalid value"),
    ],
)
def test_what_is_missing_is_said_in_one_line(fake_api, answer, message):
    api = fake_api() if answer is None else fake_api(trainjobs=idle)
    if answer is not None:
        api.refuse["POST", "trainjobs"] = answer
    with pytest.raises(InputError, match=message) as error, Resource(connect(), JOB, RUN_DIR):
        pass
    assert "\n" not in str(error.value)


def test_a_body_that_is_not_valid_by_the_schema_is_refused(fake_api, validator):
    if validator is None:
        pytest.skip("JETCORR_MANIFEST_VALIDATOR is not set: no schemas at hand")
    fake_api(trainjobs=idle)
    broken = {**JOB, "spec": {**JOB["spec"], "replicaz": 1}}
    message = r'the cluster refuses TrainJob job: .*strict decoding error: unknown field "spec.replicaz"$'
    with pytest.raises(InputError, match=message):
        Resource(connect(), broken, RUN_DIR).__enter__()


def test_a_server_that_is_away_for_a_moment_is_waited_for(fake_api):
    api = fake_api(trainjobs=ends_with("trainjobs", **COMPLETE))
    with Resource(connect(), JOB, RUN_DIR) as job:
        api.refuse["GET", "trainjobs"] = (503, "etcd is away", {})
        timer = threading.Timer(0.5, api.refuse.clear)
        timer.start()
        assert job.wait(30)["status"] == COMPLETE
    assert not api.ours()


def test_without_a_volume_nothing_is_made(fake_api):
    api = fake_api(trainjobs=idle)
    with pytest.raises(
        InputError, match=r"no volume claim 'other' in namespace 'physics': make it with `kubectl apply"
    ):
        connect().require_volume("other")
    assert not api.made


def test_without_a_cluster_one_line_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    message = "no Kubernetes cluster: this is not a pod of one, and there is no usable kubeconfig"
    with pytest.raises(InputError, match=message) as error:
        connect()
    assert "\n" not in str(error.value)


def test_a_cluster_that_does_not_answer_is_named(fake_api):
    api = fake_api(trainjobs=idle)
    connection = connect(patience=0.1)
    api.__exit__()
    with pytest.raises(InputError, match=rf"no Kubernetes cluster answers at {api.url}: .*Connection refused; or use"):
        Resource(connection, JOB, RUN_DIR).__enter__()
    api.__enter__()  # for the fixture to end


WAIT = """
import json, sys
from jetcorr_utils.kubeflow.cluster import Resource, connect, exit_when_terminated
with exit_when_terminated(), Resource(connect(), json.loads(sys.argv[1]), "/mnt/jetcorr/run") as job:
    job.wait(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_no_resource_stays_behind_after_an_interrupt(fake_api, number):
    api = fake_api(trainjobs=idle)
    with subprocess.Popen(
        [sys.executable, "-c", WAIT, json.dumps(JOB)], cwd=project_root(), env=os.environ, stderr=subprocess.DEVNULL
    ) as process:
        while not any(query.get("watch") for _, _, query in list(api.requests)):
            assert process.poll() is None
            time.sleep(0.05)
        assert api.exists("trainjobs", "job")
        process.send_signal(number)
        try:
            assert process.wait(30) != 0
        finally:
            process.kill()
    assert not api.ours()


@pytest.fixture
def often(monkeypatch):
    """Look at the pods all the time."""
    monkeypatch.setattr("jetcorr_utils.kubeflow.cluster.POLL", 0.2)


def pod_with(**status):
    """An operator whose pod never gets further than this."""

    def work(api, resource):
        name = resource["metadata"]["name"]
        api.add_pod(f"{name}-node-0-0", {JOBSET: name}, owner=resource, phase="Pending", **status)
        api.set_status("trainjobs", name, conditions=[condition("Created")])

    return work


BACK_OFF = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "registry/jetcorr:1"'}
NO_CLAIM = 'persistentvolumeclaim "jetcorr" not found'


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            {"containerStatuses": [{"name": "node", "image": "registry/jetcorr:1", "state": {"waiting": BACK_OFF}}]},
            f"TrainJob job cannot start: pod job-node-0-0: ImagePullBackOff: {BACK_OFF['message']}",
        ),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": NO_CLAIM}]},
            f"TrainJob job cannot start: pod job-node-0-0: {NO_CLAIM}",
        ),
    ],
)
def test_a_pod_that_never_starts_ends_the_wait_at_once(fake_api, often, status, message):
    api = fake_api(trainjobs=pod_with(**status))
    with pytest.raises(ClusterError) as error, Resource(connect(), JOB, RUN_DIR) as job:
        job.wait(600)
    assert str(error.value) == message
    assert not api.ours()


def test_what_a_pod_waits_for_is_said_while_it_does(fake_api, often, capsys):
    cpu = "0/3 nodes are available: 3 Insufficient cpu."
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": cpu}
    fake_api(trainjobs=pod_with(conditions=[unschedulable]))
    with pytest.raises(ClusterError, match="Insufficient cpu"), Resource(connect(), JOB, RUN_DIR) as job:
        job.wait(2)
    assert f"TrainJob job waits: pod job-node-0-0 is not scheduled: {cpu}" in capsys.readouterr().out


def test_a_quota_that_refuses_the_pods_is_said(fake_api, often, capsys):
    refusal = 'pods "job-node-0-0-x" is forbidden: exceeded quota: kf-resource-quota, requested: limits.cpu=4'

    def work(api, resource):
        api.add_event("Job", "job-node-0", "FailedCreate", refusal)
        api.add_event("Job", "another-job-node-0", "FailedCreate", "not ours")

    fake_api(trainjobs=work)
    with pytest.raises(ClusterError, match="exceeded quota"), Resource(connect(), JOB, RUN_DIR) as job:
        job.wait(2)
    said = capsys.readouterr().out
    assert f"TrainJob job waits: job job-node-0: FailedCreate: {refusal}" in said
    assert "not ours" not in said


def test_the_log_of_a_pod_that_is_gone_when_its_job_fails_is_in_the_error(fake_api, often):
    """The Job controller restarts a pod some times, and deletes it as the job fails."""

    def work(api, resource):
        restarted = [{"name": "node", "restartCount": 1, "state": {"running": {}}}]
        api.logs["job-node-0-0 before"] = "jetcorr: data/none.root: there is no such file\n"
        api.add_pod("job-node-0-0", {JOBSET: "job"}, "starting\n", owner=resource, containerStatuses=restarted)
        while not any("/log" in path for _, path, _ in list(api.requests)) and api.running:
            time.sleep(0.05)
        time.sleep(0.5)
        api.delete("pods", "job-node-0-0")
        api.set_status("trainjobs", "job", conditions=[condition("Failed", reason="BackoffLimitExceeded")])

    fake_api(trainjobs=work)
    with pytest.raises(ClusterError) as error, Resource(connect(), JOB, RUN_DIR) as job:
        job.wait(60)
    assert str(error.value) == (
        "TrainJob job failed: BackoffLimitExceeded\n  the last lines of pod job-node-0-0:\n"
        "jetcorr: data/none.root: there is no such file"
    )


def test_a_resource_goes_with_the_pod_that_made_it_and_has_its_image(fake_api, monkeypatch):
    api = fake_api(trainjobs=idle)
    api.add_pod("step", {})
    api.resources["pods", "step"]["spec"]["containers"] = [
        {"name": "istio-proxy", "image": "istio"}, {"name": "main", "image": "registry/jetcorr:3"}
    ]  # fmt: skip
    monkeypatch.setenv("POD_NAME", "step")
    monkeypatch.setenv("KALE_DEFAULT_BASE_IMAGE", "jetcorr:latest")  # what the image says of itself
    connection = connect()
    assert connection.pod.image == own_image() == "registry/jetcorr:3"
    Resource(connection, JOB, RUN_DIR).__enter__()  # and its process is killed
    assert api.exists("trainjobs", "job")
    api.delete("pods", "step")
    assert not api.exists("trainjobs", "job")
    monkeypatch.delenv("POD_NAME")
    assert own_image() == "jetcorr:latest"


def test_what_a_killed_process_left_is_taken_over_where_the_same_is_asked_for(fake_api, monkeypatch):
    api = fake_api(trainjobs=idle)
    for name in ("old", "new"):
        api.add_pod(name, {})
        api.resources["pods", name]["spec"]["containers"] = [{"name": "main", "image": "i"}]
    monkeypatch.setenv("POD_NAME", "old")
    Resource(connect(), JOB, RUN_DIR, adopt=True, asked="a").__enter__()
    monkeypatch.setenv("POD_NAME", "new")
    with Resource(connect(), JOB, RUN_DIR, adopt=True, asked="a"):
        assert len(api.made) == 1
        api.delete("pods", "old")
        assert api.exists("trainjobs", "job")  # it belongs to the new pod
        with Resource(connect(), JOB, RUN_DIR, adopt=True, asked="b"):
            assert len(api.made) == 2
    assert not api.ours()


def test_annotations_of_a_manifest_stay(fake_api):
    api = fake_api(inferenceservices=idle)
    with Resource(connect(), SERVICE, RUN_DIR):
        annotations = api.made[0]["metadata"]["annotations"]
    assert annotations["sidecar.istio.io/inject"] == "false"
    assert annotations["jetcorr/run-dir"] == RUN_DIR


@pytest.fixture
def says(fake_api, monkeypatch):
    """Let what stands before the API server say something else, with status 200."""

    def say(answer: bytes) -> None:
        fake_api()
        respond = fake_api_module._Handler._answer

        def changed(handler, status, body, content="application/json"):
            respond(handler, 200, answer.decode(), content)

        monkeypatch.setattr(fake_api_module._Handler, "_answer", changed)

    return say


@pytest.mark.parametrize("answer", [b"{}", b"[]", b"null", b'"login"', b'{"items": null}', b'{"items": [1, {}]}'])
def test_answers_of_another_shape_are_none(says, answer):
    says(answer)
    connection = connect()
    assert connection.pods() == connection.warnings() == []
    assert connection.schema("kubeflow.org/v1", "PyTorchJob") is None
    with pytest.raises(ClusterError, match=r"TrainJob job: what answers at .* is no Kubernetes API server"):
        Resource(connection, JOB, RUN_DIR).wait(5)
