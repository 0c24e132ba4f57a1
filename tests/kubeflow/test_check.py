"""`jetcorr manifests --check`: what a cluster has and lacks, asked of the tests' API server."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from jetcorr_utils.cli import main
from jetcorr_utils.errors import InputError
from jetcorr_utils.kubeflow.cluster import connect
from jetcorr_utils.kubeflow.cluster_check import check_cluster
from jetcorr_utils.kubeflow.manifests import Cluster

ALL = dict.fromkeys((
    "trainjobs", "clustertrainingruntimes", "experiments", "notebooks", "poddefaults", "inferenceservices",
    "servingruntimes", "tensorboards",
))  # fmt: skip


def check(*options: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["manifests", "--check", *options])
    return result.exit_code, result.output


def ready(fake_api, **options):
    """A profile's namespace on a cluster with all parts."""
    api = fake_api(**ALL, **options)
    api.add("serviceaccounts", {"metadata": {"name": "default-editor"}})
    api.add("clustertrainingruntimes", {"metadata": {"name": "torch-distributed"}, "spec": {}})
    return api


def test_a_cluster_that_has_everything(fake_api):
    ready(fake_api)
    code, page = check("--image", "registry/jetcorr:1")
    assert (code, page.splitlines()[-1]) == (0, "nothing is missing")
    assert re.search(r"yes +trainings: TrainJob with runtimePatches", page)
    assert re.search(r"unknown +storage class: this account may not look", page)
    assert len(page.splitlines()) < 50  # one page


def test_an_older_release_is_named_by_what_it_has(fake_api, validator):
    if validator is None:
        pytest.skip("JETCORR_MANIFEST_VALIDATOR is not set: no schemas at hand")
    ready(fake_api, trainer="2.1")
    assert "TrainJob with podTemplateOverrides" in check("--kubeflow", "1.11")[1]
    assert re.search(r"no +Kubeflow 1.10: cluster.kubeflow would use PyTorchJob", check("--kubeflow", "1.10")[1])


@pytest.mark.parametrize("lacking", [name for name in ALL if name != "clustertrainingruntimes"])
def test_a_missing_part_is_named(fake_api, lacking):
    api = fake_api(**{name: None for name in ALL if name != lacking})
    api.add("serviceaccounts", {"metadata": {"name": "default-editor"}})
    code, page = check("--image", "registry/jetcorr:1")
    missing = [line for line in page.splitlines() if line.startswith("no ")]
    kind = {"trainjobs": "TrainJob"}.get(lacking, lacking[:-1])
    assert code == 2
    assert any(kind.lower() in line.lower() for line in missing), page


def change_nothing(api) -> None:
    """The cluster as it is."""


def small_volume(api) -> None:
    api.resources["persistentvolumeclaims", "jetcorr"]["spec"]["accessModes"] = ["ReadWriteOnce"]


def no_volume(api) -> None:
    api.delete("persistentvolumeclaims", "jetcorr")


def no_profile(api) -> None:
    api.delete("serviceaccounts", "default-editor")


def no_runtime(api) -> None:
    api.delete("clustertrainingruntimes", "torch-distributed")


def full_quota(api) -> None:
    status = {
        "hard": {"limits.cpu": "8", "requests.memory": "64Gi"},
        "used": {"limits.cpu": "6", "requests.memory": "8Gi"},
    }
    api.add("resourcequotas", {"metadata": {"name": "kf-resource-quota"}, "spec": {}}, status)


def restricted(api) -> None:
    api.resources["namespaces", "physics"]["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.mark.parametrize(
    ("spoil", "options", "said"),
    [
        (no_volume, (), "volume jetcorr: `kubectl apply -k` makes it"),
        (small_volume, (), "volume jetcorr: it has ReadWriteOnce: several pods need ReadWriteMany"),
        (no_profile, (), "service account default-editor: the namespace"),
        (no_runtime, (), "training runtime torch-distributed"),
        (full_quota, (), "quota limits.cpu: 6 of 8 used; a training's pod asks for 4"),
        (restricted, (), "pod security level: restricted refuses Katib's collector"),
        (change_nothing, ("--image", "jetcorr:latest"), "image jetcorr:latest: it names no registry"),
    ],
)  # fmt: skip
def test_what_would_stop_a_run_is_named(fake_api, spoil, options, said):
    spoil(ready(fake_api))
    code, page = check("--image", "registry/jetcorr:1", *options)
    assert code == 2
    assert [line for line in page.splitlines() if line.startswith("no ") and said in line], page
    assert page.splitlines()[-1] == "1 missing"


def test_an_account_without_rights_and_an_administrator(fake_api):
    api = ready(fake_api, account="default")
    code, page = check("--image", "registry/jetcorr:1")
    assert code == 2
    assert len(re.findall(r"no +right to make", page)) == 5
    assert re.search(r"unknown +service account", page)
    ready(fake_api, account="admin").add("storageclasses", {"metadata": {"name": "cephfs"}})
    assert re.search(r"yes +storage classes: cephfs", check("--image", "registry/jetcorr:1")[1])
    assert re.search(r"no +storage class fast: there are cephfs", check("--storage-class", "fast")[1])
    assert api


def test_without_an_api_server_one_line_says_so(fake_api):
    api = fake_api()
    connection = connect()
    api.away = True
    with pytest.raises(InputError, match="no Kubernetes cluster answers at"):
        check_cluster(connection, Cluster())
