"""Katib Experiment: the study's search space, searched by trials that are TrainJobs or PyTorchJobs."""

from __future__ import annotations

import shlex
from typing import Any, Literal

from kubeflow_katib_api import models

from ...config import Choice, Space, Study
from ...errors import InputError
from ...metrics import trial_metrics
from ..names import unique_name
from .pytorchjob import CONTAINER as PYTORCH_CONTAINER
from .pytorchjob import pytorch_job
from .target import Cluster, Place
from .trainjob import CONTAINER as TRAINER_CONTAINER
from .trainjob import train_job

__all__ = ["experiment", "own_trial_command", "trial_command"]

METRICS_FILE = "/tmp/jetcorr-metrics/metrics.log"  # its folder becomes a volume that the collector shares


def experiment(
    study: Study,
    cluster: Cluster,
    job: Literal["TrainJob", "PyTorchJob"] | None = None,
    *,
    name: str | None = None,
    place: Place | None = None,
    folder: str = "katib",
    trials: int | None = None,
) -> dict[str, Any]:
    """An Experiment over `study.tuning.space`.

    Parameters
    ----------
    study
        The study.
    cluster
        Names, images and sizes.
    job
        What a trial is; default: what the cluster's release has.
    name
        Of the experiment; default: that of the study.
    place
        Where the trials find the study; default: in the image, by its name.
    folder
        Folder of the search in the run's folder.
    trials
        How many of the study's trials are left to be run; default: all. The draws are others than those before.
    """
    trials = study.tuning.trials if trials is None else trials
    job = job or cluster.release.job
    place = place or cluster.place(study.name)
    spec = models.V1beta1ExperimentSpec(
        objective=_objective(),
        algorithm=_algorithm(study.tuning.sampler, study.tuning.seed + study.tuning.trials - trials),
        parallel_trial_count=cluster.parallel_trials, max_trial_count=trials, max_failed_trial_count=trials // 2 + 1,
        resume_policy="LongRunning", metrics_collector_spec=_collector(),
        parameters=[_parameter(name, values) for name, values in study.tuning.space.items()],
        trial_template=_template(study, cluster, job, trial_command(study, place, folder)),
    )  # fmt: skip
    variant = () if job == "TrainJob" else ("pytorchjob",)
    name = name or unique_name("jetcorr", study.name, *variant)
    metadata = models.IoK8sApimachineryPkgApisMetaV1ObjectMeta(name=name, namespace=cluster.namespace)
    found = models.V1beta1Experiment(
        api_version="kubeflow.org/v1beta1", kind="Experiment", metadata=metadata, spec=spec
    )
    return found.to_dict()


def own_trial_command(place: Place, name: str, folder: str, metrics: str) -> list[str]:
    """The command of the trial with the study's own settings, which no experiment draws."""
    arguments = ["--study", place.study, "--out", f"{place.run_dir}/{folder}", "--name", name, "--metrics", metrics]
    return ["jetcorr", "trial", "--own", *arguments, *place.arguments]


def trial_command(study: Study, place: Place, folder: str) -> list[str]:
    """The command of a trial, with Katib's placeholders for its name and parameters."""
    command = [
        "jetcorr", "trial", "--study", place.study, "--out", f"{place.run_dir}/{folder}",
        "--name", "${trialParameters.trialName}", "--metrics", METRICS_FILE, *place.arguments,
    ]  # fmt: skip
    for name in study.tuning.space:
        command += ["--set", name, "${trialParameters." + _placeholder(name) + "}"]
    return command


def _template(study: Study, cluster: Cluster, job: str, command: list[str]) -> models.V1beta1TrialTemplate:
    _check_words(command, study)
    make = train_job if job == "TrainJob" else pytorch_job
    spec = make("", command, cluster)
    spec["metadata"] = {"labels": cluster.labels}  # Katib names the trials
    if not cluster.labels:
        del spec["metadata"]
    names = [models.V1beta1TrialParameterSpec(name="trialName", reference="${trialSpec.Name}")]
    names += [models.V1beta1TrialParameterSpec(name=_placeholder(n), reference=n) for n in study.tuning.space]
    success = "Complete" if job == "TrainJob" else "Succeeded"
    return models.V1beta1TrialTemplate(
        primary_container_name=TRAINER_CONTAINER if job == "TrainJob" else PYTORCH_CONTAINER,
        success_condition=f'status.conditions.#(type=="{success}")#|#(status=="True")#',
        failure_condition='status.conditions.#(type=="Failed")#|#(status=="True")#',
        trial_parameters=names,
        trial_spec=spec,
    )


def _check_words(command: list[str], study: Study) -> None:
    """Katib joins a trial's command by spaces and gives it to a shell: no word may need quotes, nor a drawn value."""
    choices = [str(c) for values in study.tuning.space.values() if isinstance(values, Choice) for c in values.choices]
    for word in [*(word for word in command if not word.startswith("${")), *choices]:
        if shlex.quote(word) != word:
            raise InputError(f"{word!r} cannot stand in the command of a Katib trial: a shell would split or run it")


def _objective() -> models.V1beta1ObjectiveSpec:
    # The error is reported after each epoch, and that of the best one counts; the rest only once.
    objective, *others = trial_metrics()
    strategies = [
        models.V1beta1MetricStrategy(name=metric, value="min" if metric == objective else "latest")
        for metric in (objective, *others)
    ]
    return models.V1beta1ObjectiveSpec(
        type="minimize", objective_metric_name=objective, additional_metric_names=others, metric_strategies=strategies,
    )  # fmt: skip


def _algorithm(name: str, seed: int) -> models.V1beta1AlgorithmSpec:
    seeded = models.V1beta1AlgorithmSetting(name="random_state", value=str(seed))
    return models.V1beta1AlgorithmSpec(algorithm_name=name, algorithm_settings=[seeded])


def _collector() -> models.V1beta1MetricsCollectorSpec:
    path = models.V1beta1FileSystemPath(kind="File", format="TEXT", path=METRICS_FILE)
    return models.V1beta1MetricsCollectorSpec(
        collector=models.V1beta1CollectorSpec(kind="File"), source=models.V1beta1SourceSpec(file_system_path=path)
    )


def _parameter(name: str, values: Space) -> models.V1beta1ParameterSpec:
    if isinstance(values, Choice):
        kind = "categorical" if any(isinstance(choice, str) for choice in values.choices) else "discrete"
        space = models.V1beta1FeasibleSpace(list=[str(choice) for choice in values.choices])
    else:
        kind = "int" if isinstance(values.min, int) and isinstance(values.max, int) else "double"
        ends = {"min": str(values.min), "max": str(values.max)}
        space = models.V1beta1FeasibleSpace(**ends, **({"distribution": "logUniform"} if values.log else {}))
    return models.V1beta1ParameterSpec(name=name, parameter_type=kind, feasible_space=space)


def _placeholder(name: str) -> str:
    """A parameter's name in the trial template, where a dot would end it."""
    return name.replace(".", "-")
