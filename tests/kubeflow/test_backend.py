"""BACKEND = "kubeflow": the notebooks' work done by resources of a cluster, whose commands are run here as spelled.

The cluster is the fake API, with operators that do what Kubeflow Trainer, Katib and KServe do with our resources.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import uproot

from jetcorr_utils.batch import run_notebook
from jetcorr_utils.config import Study, load_study, project_root
from jetcorr_utils.data import load_clouds
from jetcorr_utils.errors import ClusterError, InputError
from jetcorr_utils.kubeflow.backends import on_cluster
from jetcorr_utils.kubeflow.cluster_training import train_on_cluster
from jetcorr_utils.kubeflow.manifests import Cluster
from jetcorr_utils.kubeflow.manifests.pytorchjob import pytorch_job
from jetcorr_utils.kubeflow.manifests.trainjob import train_command, train_job
from jetcorr_utils.metrics import trial_metrics
from jetcorr_utils.run import RunFolder
from jetcorr_utils.training import load_result, train
from jetcorr_utils.training.torchrun import with_kept_batch
from jetcorr_utils.tuning import load_search, search_plots
from tests.kubeflow.fake_api import FakeApi, Resource
from tests.kubeflow.operators import TrainJob, Trial, best_trial, condition, run_experiment, served
from tests.waiting import wait_for

EPOCHS = 15  # enough to be killed on the way
TRIALS = 3
JOBSET = "jobset.sigs.k8s.io/jobset-name"  # the label that Trainer's pods have their job's name in


@dataclass
class Operators:
    """Kubeflow's operators on this machine; what they have seen is kept for the tests."""

    folder: Path
    killed_at: int | None = None
    trials: list[Trial] | None = None
    best: Trial | None = None

    def train_job(self, api: FakeApi, resource: Resource) -> None:
        """Run a TrainJob; the first one is killed once on its way, and started again."""
        name = resource["metadata"]["name"]
        job = TrainJob(resource, self.folder)
        job.start()
        command = resource["spec"]["trainer"]["command"]
        if self.killed_at is None and command[0] == "torchrun":
            state = Path(command[command.index("--out") + 1]) / "model" / "pfn" / "state.pt"
            while not state.is_file() or (epoch := torch.load(state, weights_only=True)["epoch"]) < 3:
                time.sleep(0.02)
            job.kill()
            self.killed_at = epoch
            job.start()
        failed = any(job.wait())
        kind = condition("Failed", reason="JobFailed") if failed else condition("Complete", reason="JobsCompleted")
        log = (self.folder / "node-0.log").read_text()[-3000:]
        api.add_pod(f"{name}-node-0", {JOBSET: name}, log, owner=resource, phase="Failed")
        api.set_status("trainjobs", name, conditions=[kind])

    def experiment(self, api: FakeApi, resource: Resource) -> None:
        """Run an experiment's trials."""
        name, ended = resource["metadata"]["name"], []

        def count(trial: Trial) -> None:
            ended.append(trial)
            succeeded = sum(one.returncode == 0 for one in ended)
            api.set_status("experiments", name, trials=len(ended), trialsSucceeded=succeeded)

        self.trials = run_experiment(resource, self.folder, count)
        self.best = best_trial(resource, self.trials)
        api.set_status("experiments", name, conditions=[condition("Succeeded", reason="ExperimentMaxTrialsReached")])

    def inference_service(self, api: FakeApi, resource: Resource) -> None:
        """Serve an InferenceService by its ServingRuntime until it is deleted."""
        name, model = resource["metadata"]["name"], resource["spec"]["predictor"]["model"]
        repository = self.folder / model["storageUri"].removeprefix("pvc://jetcorr/")
        runtime = api.resources["servingruntimes", model["runtime"]]
        with served(runtime, repository, self.folder / "triton.log") as server:
            url = {"url": f"http://{server.http_url}"}
            api.set_status("inferenceservices", name, conditions=[condition("Ready")], address=url)
            while api.exists("inferenceservices", name):
                time.sleep(0.05)


@dataclass
class ClusterRun:
    """A copy of the smoke run whose notebooks 02, 03 and 05 have worked on the cluster."""

    folder: RunFolder
    study: Study
    operators: Operators
    api: FakeApi


@pytest.fixture(scope="module")
def cluster_run(smoke_run, fake_cluster, tmp_path_factory) -> ClusterRun:
    """The notebooks 02, 03 and 05 with BACKEND = "kubeflow", in a copy of the smoke run on a volume of the cluster."""
    volume = tmp_path_factory.mktemp("volume")
    shutil.copytree(smoke_run.folder.path, volume / "results" / "smoke")
    shutil.copytree(smoke_run.data, volume / "data")
    operators = Operators(volume)
    api = fake_cluster(
        trainjobs=operators.train_job, experiments=operators.experiment, servingruntimes=lambda api, resource: None,
        inferenceservices=operators.inference_service,
    )  # fmt: skip
    settings = {
        "data.directory": str(volume / "data"), "models.pfn.training.epochs": EPOCHS,
        "models.pfn.training.patience": EPOCHS, "tuning.trials": TRIALS, "cluster.mount": str(volume),
        "cluster.parallel_trials": 2,
    }  # fmt: skip
    run = volume / "results" / "smoke"
    for number in ("02", "03", "05"):
        run_notebook(number, "smoke", run, {"BACKEND": "kubeflow", **settings})
    return ClusterRun(RunFolder(run), load_study("smoke", settings), operators, api)


@pytest.mark.slow
def test_every_resource_was_made_and_none_stays_behind(cluster_run):
    kinds = [resource["kind"] for resource in cluster_run.api.made]
    tuned = kinds.count("TrainJob") == 3  # the winner's, unless the study's own settings have won
    assert kinds[:3] == ["TrainJob", "TrainJob", "Experiment"]  # the training, the study's own trial, the search
    assert kinds[3:] == [*["TrainJob"] * tuned, "ServingRuntime", "InferenceService"]
    assert not cluster_run.api.ours()


@pytest.mark.slow
def test_two_nodes_killed_once_train_like_one_undisturbed(cluster_run, tmp_path):
    assert 3 <= cluster_run.operators.killed_at < EPOCHS
    settings = cluster_run.study.models["pfn"]
    clouds = load_clouds(cluster_run.study.data, settings.features, progress=False)
    whole = train(settings, clouds.split("train"), clouds.split("validation"), tmp_path, progress=False)
    found = load_result(cluster_run.folder.model("pfn"))
    assert found.best_epoch == whole.best_epoch
    expected = whole.history.drop(columns="seconds")
    np.testing.assert_allclose(found.history.drop(columns="seconds"), expected, rtol=1e-3)


@pytest.mark.slow
def test_each_trial_reports_all_metrics_to_katib(cluster_run):
    trials, table = cluster_run.operators.trials, load_search(cluster_run.folder.tuning).trials
    assert len(trials) == TRIALS
    assert table["folder"][0] == "000"  # the study's own settings, tried beside the experiment
    for trial in trials:
        assert trial.returncode == 0
        assert set(trial.metrics) == set(trial_metrics())
        row = table[table["folder"] == trial.name].iloc[0]
        assert trial.metrics == pytest.approx({name: row[name] for name in trial_metrics()}, rel=1e-6)


@pytest.mark.slow
def test_a_finished_experiment_is_read_as_a_local_search(cluster_run):
    result = load_search(cluster_run.folder.tuning)
    assert len(result.trials) == TRIALS + 1
    best = result.trials.loc[result.best]
    katib = cluster_run.operators.best
    assert best["mae"] <= katib.metrics["mae"] * (1 + 1e-9)
    if result.best != 0:
        assert best["folder"] == katib.name
        assert load_result(cluster_run.folder.tuning / "best").history["epoch"].max() == EPOCHS
    assert np.isfinite(result.histories["validation_mae"]).all()
    assert search_plots.plot_parallel_coordinates(result).axes
    assert search_plots.plot_pareto(result).axes


@pytest.mark.slow
def test_the_inference_service_gives_the_predictions_of_the_local_server(cluster_run, smoke_run):
    with uproot.open(cluster_run.folder.predictions) as served, uproot.open(smoke_run.folder.predictions) as local:
        for name in ("pfn_factor", "pfn_sigma"):
            np.testing.assert_allclose(
                served["jets"][name].array(library="np"), local["jets"][name].array(library="np"), rtol=1e-6
            )


def test_a_training_that_fails_ends_with_the_pods_last_words(fake_api, tmp_path):
    def fail(api, resource):
        name = resource["metadata"]["name"]
        log = "jetcorr: data/none.root: there is no such file\n"
        api.add_pod(f"{name}-node-0-0", {JOBSET: name}, log, owner=resource, phase="Failed")
        api.set_status("trainjobs", name, conditions=[condition("Failed", reason="JobFailed")])

    api = fake_api(trainjobs=fail)
    study = load_study("smoke", {"cluster.mount": str(tmp_path)})
    with pytest.raises(ClusterError, match=r"TrainJob smoke-pfn-\w+ failed: JobFailed\n.*\n.*no such file$"):
        train_on_cluster(study, RunFolder(tmp_path / "run"))
    assert not api.ours()


def test_jobs_run_as_the_user_of_all_pods_and_see_the_study_as_it_is(fake_api, tmp_path):
    api = fake_api(trainjobs=lambda api, resource: None)
    study = load_study("smoke", {"cluster.mount": str(tmp_path), "cluster.timeout": 1, "tuning.trials": 7})
    with pytest.raises(ClusterError, match="not done after 1 s"):
        train_on_cluster(study, RunFolder(tmp_path / "run"))
    (job,) = api.made
    patch = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]
    who = patch["template"]["spec"]["template"]["spec"]["securityContext"]
    assert (who["runAsUser"], who["runAsGroup"], who["fsGroup"]) == (1000, 100, 100)
    command = job["spec"]["trainer"]["command"]
    written = load_study(command[command.index("--study") + 1])
    assert written.tuning.trials == 7
    assert written.data.directory == str(tmp_path / "data")  # that of the study is not on the volume


RUN = """
import sys
from pathlib import Path
from jetcorr_utils.batch import run_notebook
from jetcorr_utils.notebooks import NOTEBOOKS, Notebook

folder = Path(sys.argv[1])
NOTEBOOKS["07"] = Notebook("07", "job", "Waits for a job.", ("data",), folder=folder)
run_notebook("07", "smoke", folder / "run")
"""
CELL = """
from jetcorr_utils.kubeflow.cluster import Resource, connect, exit_when_terminated
from jetcorr_utils.kubeflow.manifests import Cluster
from jetcorr_utils.kubeflow.manifests.trainjob import train_job

with exit_when_terminated(), Resource(connect(), train_job("job", ["true"], Cluster()), RUN_DIR) as job:
    job.wait(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_process_group_of_a_run_leaves_no_job(fake_api, tmp_path, number):
    """The kernel, which waits for the job, has a session of its own and hears nothing of it."""
    parameters = nbformat.v4.new_code_cell('STUDY = "smoke"\nRUN_DIR = ""', metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[parameters, nbformat.v4.new_code_cell(CELL)])
    notebook.metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "python3"}}
    nbformat.write(notebook, tmp_path / "07_job.ipynb")
    api = fake_api(trainjobs=lambda api, resource: None)
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path)], cwd=project_root(), stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as run:  # fmt: skip
        wait_for(lambda: api.ours() or run.poll() is not None, 300)
        assert api.exists("trainjobs", "job")
        os.killpg(run.pid, number)
        _, err = run.communicate(timeout=300)
    assert not api.ours()
    assert run.returncode != 0
    assert "Stopped" in err or "KeyboardInterrupt" in err
    kept = nbformat.read(tmp_path / "run" / "notebooks" / "07_job.ipynb", as_version=4)
    assert kept.cells[-1].outputs[-1].ename == "KeyboardInterrupt"


def test_a_folder_outside_the_volume_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(InputError, match=rf"RUN_DIR {tmp_path}/run is not on the volume .* mounted at /mnt/jetcorr"):
        train_on_cluster(load_study("smoke"), RunFolder(tmp_path / "run"))


@pytest.mark.slow
def test_an_api_server_that_is_away_is_waited_for_in_a_training_and_said_once(fake_api, tmp_path, capsys, monkeypatch):
    """Ten times as long as it takes until that is said, as a minute is; the server's word is waited for meanwhile."""
    absence = 0.3
    monkeypatch.setattr("jetcorr_utils.kubeflow.cluster.ABSENCE", absence)

    def work(api, resource):
        while not any(query.get("watch") for _, _, query in list(api.requests)):
            time.sleep(0.05)
        api.away = True
        time.sleep(10 * absence)
        api.set_status("trainjobs", resource["metadata"]["name"], conditions=[condition("Complete")])
        api.away = False

    api = fake_api(trainjobs=work)
    study = load_study("smoke", {"cluster.mount": str(tmp_path), "cluster.patience": 60})
    with pytest.raises(InputError, match="no training has ended here"):  # by this operator
        train_on_cluster(study, RunFolder(tmp_path / "run"))
    said = [line for line in capsys.readouterr().out.splitlines() if "does not answer" in line]
    assert len(said) == 1
    assert re.fullmatch(
        r"TrainJob smoke-pfn-\w+: the cluster's API server does not answer; waiting for it, 60 s at most "
        r"\(cluster.patience\)", said[0]
    )  # fmt: skip
    assert len(api.made) == 1
    assert not api.ours()


def test_data_are_prepared_before_a_gpu_is_asked_for(fake_api, tmp_path, sample):
    def complete(api, resource):
        api.set_status("trainjobs", resource["metadata"]["name"], conditions=[condition("Complete")])

    api = fake_api(trainjobs=complete)
    study = load_study("smoke", {
        "cluster.mount": str(tmp_path / "volume"), "cluster.gpus": 2, "data.files": str(sample),
        "data.directory": str(tmp_path / "elsewhere"),
    })  # fmt: skip
    clouds = load_clouds(study.data, progress=False)
    with pytest.raises(InputError, match="no training has ended here"):  # by these operators
        train_on_cluster(study, RunFolder(tmp_path / "volume" / "run"), [clouds])
    data, training = api.made
    assert data["spec"]["trainer"]["command"][:2] == ["jetcorr", "prepare"]
    assert "nvidia.com/gpu" not in data["spec"]["trainer"]["resourcesPerNode"]["limits"]
    assert training["spec"]["trainer"]["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "2"
    on_volume = study.data.model_copy(update={"directory": str(tmp_path / "volume" / "data")})
    seen = load_clouds(on_volume, progress=False)
    with pytest.raises(InputError, match="no training has ended here"):
        train_on_cluster(study, RunFolder(tmp_path / "volume" / "run"), [seen])
    assert len(api.made) == 3  # the pods see what is there already


def test_threads_and_limits_follow_the_processors(fake_api, tmp_path):
    for cpu, gpus, threads in (("4", 0, "4"), ("8", 2, "4"), ("500m", 0, "1"), ("2500m", 0, "2")):
        for job in (train_job, pytorch_job):
            text = json.dumps(job("job", ["true"], Cluster(cpu=cpu, gpus=gpus)))
            assert f'{{"name": "OMP_NUM_THREADS", "value": "{threads}"}}' in text
            assert text.count(f'"cpu": "{cpu}"') == 2  # asked for, and the limit


def test_a_batch_that_each_process_keeps_has_the_rate_that_goes_with_it(monkeypatch):
    monkeypatch.setattr("jetcorr_utils.training.torchrun.process_count", lambda: 4)
    model = load_study("smoke").models["pfn"]
    kept = with_kept_batch(model).training
    assert kept.batch_size == 4 * model.training.batch_size
    assert kept.learning_rate == 2 * model.training.learning_rate
    place = Cluster().place("smoke")
    assert train_command(place, batch="kept")[-4:-2] != train_command(place)[-4:-2]
    assert "--batch" not in train_command(place)


def test_an_unknown_backend_is_refused():
    assert (on_cluster("local"), on_cluster("kubeflow")) == (False, True)
    with pytest.raises(InputError, match="BACKEND = 'slurm': there are local, kubeflow"):
        on_cluster("slurm")
