"""A search of thirty trials on a cluster where things go wrong: each trial is counted once, and none is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from jetcorr_utils.config import load_study, project_root
from jetcorr_utils.errors import ClusterError
from jetcorr_utils.files import fingerprint
from jetcorr_utils.kubeflow.cluster_search import search_on_cluster, search_timeout
from jetcorr_utils.run import RunFolder
from jetcorr_utils.tuning import load_search
from tests.kubeflow.katib import Katib
from tests.kubeflow.operators import condition

TRIALS, PARALLEL = 30, 5
AWAY = 60.0  # seconds without the API server
SEARCH = """
import sys
from jetcorr_utils.config import load_study
from jetcorr_utils.data import load_clouds
from jetcorr_utils.kubeflow.cluster_search import search_on_cluster
from jetcorr_utils.run import RunFolder

study = load_study(sys.argv[1])
clouds = load_clouds(study.data, study.models[study.tuning.model].features, progress=False)
search_on_cluster(study, clouds.split("train"), clouds.split("validation"), RunFolder(sys.argv[2]))
"""


def settings(volume: Path, sample: Path, **more: object) -> dict:
    """A study whose trials take a second."""
    return {
        "data.files": str(sample), "data.directory": str(volume / "data"), "cluster.mount": str(volume),
        "cluster.parallel_trials": PARALLEL, "tuning.trials": TRIALS, "tuning.max_jets": 200, "tuning.grace": 2, **more,
    }  # fmt: skip


@pytest.mark.slow
def test_thirty_trials_survive_a_killed_kernel_an_eviction_an_absent_server_and_a_restarted_pod(
    fake_api, tmp_path, sample
):
    katib = Katib(tmp_path)
    api = fake_api(trainjobs=katib.train_job, experiments=katib.experiment)
    study, run, said = tmp_path / "thirty.yaml", tmp_path / "results" / "run", tmp_path / "said.txt"
    given = load_study("smoke", settings(tmp_path, sample)).model_dump(mode="json", exclude={"name"})
    study.write_text(yaml.safe_dump(given))
    for pod in ("first", "second"):
        api.add_pod(pod, {}, containers=["main"])
        api.resources["pods", pod]["spec"]["containers"][0]["image"] = "jetcorr:1"
    records: dict[Path, str] = {}

    def search(pod: str) -> subprocess.Popen:
        command = [sys.executable, "-c", SEARCH, str(study), str(run)]
        with said.open("ab") as out:
            return subprocess.Popen(command, cwd=project_root(), env=os.environ | {"POD_NAME": pod}, stdout=out)

    def until(done: Callable[[], bool], process: subprocess.Popen | None = None) -> None:
        while not done():
            assert process is None or process.poll() is None, f"the search ended with {process.returncode}"
            time.sleep(0.05)

    def ended(number: int) -> Callable[[], bool]:
        return lambda: len(list(run.glob("tuning/*/trial.json"))) >= number

    def kill(process: subprocess.Popen) -> None:
        process.kill()
        process.wait()
        records.update({path: fingerprint(path) for path in run.glob("tuning/*/trial.json")})

    katib.allowed = 8
    process = search("first")
    until(ended(4), process)
    kill(process)  # the kernel; the experiment goes on
    until(ended(8))  # those that were allowed, but for one at most, and the study's own
    process = search("first")
    until(lambda: any(method == "PATCH" for method, _, _ in list(api.requests)), process)
    assert len([one for one in api.made if one["kind"] == "Experiment"]) == 1  # it was taken over
    katib.evict.set()
    katib.allowed = 18
    until(lambda: bool(katib.evicted), process)
    until(ended(12), process)
    api.delete("pods", "first")  # and the experiment with it
    kill(process)
    assert not api.ours()
    katib.allowed = len(katib.started) + 4
    process = search("second")
    until(lambda: len(katib.started) == katib.allowed, process)
    api.away = True
    katib.allowed += TRIALS  # pods come and go without it
    time.sleep(AWAY)
    assert process.poll() is None
    assert len(api.ours()) == 1
    api.away = False
    assert process.wait() == 0
    assert said.read_text().count("API server does not answer") == 1
    result = load_search(run / "tuning")
    assert len(result.trials) == TRIALS + 1
    assert result.trials["folder"].is_unique
    assert list(result.trials["folder"]).count("000") == 1
    assert set(result.trials["state"]) <= {"complete", "constant"}
    assert katib.evicted[0] not in set(result.trials["folder"])
    assert all(fingerprint(path) == content for path, content in records.items())
    assert len(katib.started) <= TRIALS + 1 + PARALLEL  # the evicted one, and those that ran when the pod went
    assert not api.ours()


def test_trials_that_leave_nothing_on_the_volume_end_the_search(fake_api, tmp_path, sample, clouds):
    def succeed(api, resource):
        api.set_status("experiments", resource["metadata"]["name"], conditions=[condition("Succeeded")])

    api = fake_api(trainjobs=Katib(tmp_path).train_job, experiments=succeed)
    study = load_study("smoke", settings(tmp_path, sample))
    with pytest.raises(ClusterError, match=r"3 experiments have ended, and no trial has left a record in .*/tuning"):
        search_on_cluster(study, *clouds, RunFolder(tmp_path / "results" / "run"))
    assert not api.ours()


@pytest.fixture
def clouds(tmp_path, sample) -> tuple:
    from jetcorr_utils.data import load_clouds

    study = load_study("smoke", settings(tmp_path, sample))
    whole = load_clouds(study.data, study.models["pfn"].features, progress=False)
    return whole.split("train"), whole.split("validation")


def test_the_time_out_follows_from_the_trials():
    assert search_timeout(30, 5, 3600.0) > 6 * 10 * 3600
    assert search_timeout(30, 30, 60.0) < search_timeout(30, 5, 60.0)
