"""The tests' API server does what a real one does, asked by the real client and by kubectl."""

from __future__ import annotations

import json
import shutil
import subprocess
import time

import pytest
import yaml
from kubernetes import client, config, watch

from jetcorr_utils.config import project_root
from jetcorr_utils.kubeflow.manifests import Cluster
from jetcorr_utils.kubeflow.manifests.trainjob import train_job

PLACE = ("trainer.kubeflow.org", "v1alpha1", "physics", "trainjobs")
JOB = train_job("job", ["true"], Cluster())
BASE = project_root() / "pipelines" / "manifests" / "base"


@pytest.fixture
def custom(fake_api):
    """Start the server with the given operators, and a client of it: `custom(trainjobs=None)`."""

    def start(**options):
        api = fake_api(**options)
        return api, customs()

    return start


def customs() -> client.CustomObjectsApi:
    """A client of the server that the kubeconfig of this process names."""
    settings = client.Configuration()
    settings.retries = False
    config.load_kube_config(client_configuration=settings)
    return client.CustomObjectsApi(client.ApiClient(settings))


def as_account(server, account: str, folder) -> client.CustomObjectsApi:
    """A client with the token of an account."""
    settings = client.Configuration()
    config.load_kube_config(str(server.kubeconfig(folder / account, account)), client_configuration=settings)
    settings.retries = False
    return client.CustomObjectsApi(client.ApiClient(settings))


def needs_schemas(validator) -> None:
    if validator is None:
        pytest.skip("JETCORR_MANIFEST_VALIDATOR is not set: no schemas at hand")


def refused(call, *arguments, **options) -> client.ApiException:
    with pytest.raises(client.ApiException) as error:
        call(*arguments, **options)
    return error.value


def test_an_unknown_field_is_pruned_without_a_word_unless_validation_is_strict(custom, validator):
    needs_schemas(validator)
    _, api = custom(trainjobs=None)
    broken = {**JOB, "spec": {**JOB["spec"], "replicaz": 1}}
    assert "replicaz" not in api.create_namespaced_custom_object(*PLACE, broken)["spec"]
    again = {**broken, "metadata": {"name": "other"}}
    error = refused(api.create_namespaced_custom_object, *PLACE, again, field_validation="Strict")
    assert error.status == 400
    assert 'strict decoding error: unknown field \\"spec.replicaz\\"' in error.body


def test_trainer_2_1_has_no_runtime_patches_and_2_3_no_overrides(custom, validator):
    needs_schemas(validator)
    overrides = {"podTemplateOverrides": [{"targetJobs": [{"name": "node"}], "spec": {"serviceAccountName": "a"}}]}
    older = {**JOB, "spec": {key: part for key, part in JOB["spec"].items() if key != "runtimePatches"} | overrides}
    for version, good, bad in (("2.3", JOB, older), ("2.1", older, JOB)):
        api, asked = custom(trainjobs=None, trainer=version)
        assert asked.create_namespaced_custom_object(*PLACE, good, field_validation="Strict")
        api.delete("trainjobs", "job")
        assert (
            "unknown field"
            in refused(asked.create_namespaced_custom_object, *PLACE, bad, field_validation="Strict").body
        )
    secure = {"serviceAccountName": "a", "securityContext": {"runAsUser": 1000}}
    older["spec"]["podTemplateOverrides"][0]["spec"] = secure
    assert (
        "securityContext"
        in refused(asked.create_namespaced_custom_object, *PLACE, older, field_validation="Strict").body
    )


def test_defaults_are_filled_in_and_what_is_not_valid_is_refused(custom, validator):
    needs_schemas(validator)
    _, api = custom(trainjobs=None)
    made = api.create_namespaced_custom_object(*PLACE, JOB)
    assert made["spec"]["runtimeRef"]["kind"] == "ClusterTrainingRuntime"
    assert made["spec"]["suspend"] is False
    broken = {**JOB, "metadata": {"name": "b"}, "spec": {**JOB["spec"], "trainer": {"numNodes": "two"}}}
    assert refused(api.create_namespaced_custom_object, *PLACE, broken).status == 422


def test_the_status_is_a_subresource(custom, tmp_path):
    server, api = custom(trainjobs=None)
    made = api.create_namespaced_custom_object(*PLACE, {**JOB, "status": {"conditions": []}}, field_manager="me")
    assert "status" not in made
    assert made["metadata"]["managedFields"][0]["manager"] == "me"
    condition = {"type": "Complete", "status": "True", "reason": "Done", "message": "",
                 "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip
    admin = as_account(server, "admin", tmp_path)
    changed = {**made, "status": {"conditions": [condition]}, "spec": {**made["spec"], "suspend": True}}
    after = admin.patch_namespaced_custom_object_status(*PLACE, "job", changed)
    assert (after["status"]["conditions"][0]["type"], after["spec"].get("suspend", False)) == ("Complete", False)
    patched = admin.patch_namespaced_custom_object(*PLACE, "job", {"spec": {"suspend": True}, "status": None})
    assert patched["status"] == after["status"]
    assert patched["metadata"]["generation"] == made["metadata"]["generation"] + 1
    stale = {**patched, "metadata": {**patched["metadata"], "resourceVersion": "1"}}
    assert refused(admin.replace_namespaced_custom_object, *PLACE, "job", stale).status == 409


def test_what_has_lost_its_owner_is_removed_and_what_has_a_finalizer_waits(custom):
    server, api = custom(trainjobs=None)
    server.add_pod("mine", {})
    pod = server.resources["pods", "mine"]["metadata"]
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "mine", "uid": pod["uid"]}
    metadata = {"name": "job", "ownerReferences": [owner]}
    api.create_namespaced_custom_object(*PLACE, {**JOB, "metadata": metadata})
    held = {"name": "held", "finalizers": ["a/b"]}
    api.create_namespaced_custom_object(*PLACE, {**JOB, "metadata": held})
    server.delete("pods", "mine")
    assert not server.exists("trainjobs", "job")
    api.delete_namespaced_custom_object(*PLACE, "held")
    assert api.get_namespaced_custom_object(*PLACE, "held")["metadata"]["deletionTimestamp"]
    api.patch_namespaced_custom_object(*PLACE, "held", {"metadata": {"finalizers": None}})
    assert not server.exists("trainjobs", "held")
    api.create_namespaced_custom_object(*PLACE, {**JOB, "metadata": metadata})  # of an owner that is gone
    while server.exists("trainjobs", "job"):
        time.sleep(0.01)


def test_lists_are_selected_by_labels(custom):
    _, api = custom(trainjobs=None)
    for name, labels in (("a", {"x": "1"}), ("b", {"x": "2", "y": "1"}), ("c", {})):
        api.create_namespaced_custom_object(*PLACE, {**JOB, "metadata": {"name": name, "labels": labels}})

    def named(**selectors) -> list[str]:
        return [one["metadata"]["name"] for one in api.list_namespaced_custom_object(*PLACE, **selectors)["items"]]

    assert named(label_selector="x=1") == ["a"]
    assert named(label_selector="x!=1") == ["b", "c"]
    assert named(label_selector="x,!y") == ["a"]
    assert named(field_selector="metadata.name=c") == ["c"]


def test_a_watch_goes_on_from_its_version_and_is_told_that_it_is_too_old(custom):
    server, api = custom(trainjobs=None)
    first = api.create_namespaced_custom_object(*PLACE, JOB)["metadata"]["resourceVersion"]
    server.set_status("trainjobs", "job", conditions=[])
    server.delete("trainjobs", "job")

    def events(version: str) -> list[str]:
        stream = watch.Watch().stream(
            api.list_namespaced_custom_object, *PLACE, resource_version=version, timeout_seconds=1
        )
        return [event["type"] for event in stream]

    assert events(first) == ["MODIFIED", "DELETED"]
    server.compact()
    with pytest.raises(client.ApiException) as error:
        events(first)
    assert error.value.status == 410


def test_an_account_may_do_what_its_role_says(custom, tmp_path):
    server, api = custom(trainjobs=None, poddefaults=None)
    nobody = as_account(server, "default", tmp_path)
    assert refused(nobody.create_namespaced_custom_object, *PLACE, JOB).status == 403
    api.create_namespaced_custom_object(*PLACE, JOB)
    access = yaml.safe_load((BASE / "poddefault.yaml").read_text())
    place = ("kubeflow.org", "v1alpha1", "physics", "poddefaults")
    api.create_namespaced_custom_object(*place, access)
    assert refused(api.patch_namespaced_custom_object, *place, "access-jetcorr", {"spec": {"desc": "x"}}).status == 403
    storage = client.StorageV1Api(api.api_client)
    assert refused(storage.list_storage_class).status == 403
    reviews = client.AuthorizationV1Api(api.api_client)
    for verb, allowed in (("create", True), ("patch", False)):
        attributes = {"verb": verb, "group": "kubeflow.org", "resource": "poddefaults", "namespace": "physics"}
        review = reviews.create_self_subject_access_review({"spec": {"resourceAttributes": attributes}})
        assert review.status.allowed is allowed
    assert server.ours() == [("trainjobs", "job"), ("poddefaults", "access-jetcorr")]


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_kubectl_applies_lists_and_is_refused_what_is_unknown(custom, tmp_path, validator):
    needs_schemas(validator)
    server, _ = custom(trainjobs=None)
    path = tmp_path / "job.json"
    metadata = {"name": "job", "namespace": "physics"}
    path.write_text(json.dumps({**JOB, "metadata": metadata}))
    assert kubectl("apply", "-f", path) == "trainjob.trainer.kubeflow.org/job created\n"
    assert kubectl("get", "trainjobs", "-o", "name") == "trainjob.trainer.kubeflow.org/job\n"
    path.write_text(json.dumps({**JOB, "metadata": metadata, "spec": {**JOB["spec"], "replicaz": 1}}))
    assert 'unknown field "spec.replicaz"' in kubectl("apply", "-f", path, check=False)
    assert kubectl("delete", "trainjob", "job", "--wait=false").endswith("deleted\n")
    assert not server.ours()


def kubectl(*arguments: object, check: bool = True) -> str:
    """What kubectl says; its kubeconfig is that of the environment."""
    command = ["kubectl", "--cache-dir", "/dev/null", *map(str, arguments)]
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert not (check and done.returncode), done.stdout
    return done.stdout


def test_a_built_in_kind_is_checked_too(fake_api):
    pytest.importorskip("kubernetes_validate")
    api = fake_api()
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "more"}}
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    status, answer = api.create("persistentvolumeclaims", {**claim, "spec": {**spec, "storageClas": "x"}}, strict=True)
    assert (status, "'storageClas' was unexpected" in answer["message"]) == (422, True)
    assert api.create("persistentvolumeclaims", {**claim, "spec": spec}, strict=True)[0] == 201
