"""TrainJob (Kubeflow Trainer): a distributed training, or one trial of an experiment."""

from __future__ import annotations

from typing import Any

from kubeflow_trainer_api import models

from .target import NO_SIDECAR, Cluster, Place

__all__ = ["train_command", "train_job"]

CONTAINER = "node"  # what the runtimes of Kubeflow Trainer call the container that trains


def train_command(place: Place, model: str | None = None, batch: str = "split") -> list[str]:
    """The command of each pod of a distributed training; torchrun finds its peers by the PET_ variables.

    It trains the study's models, or one of them, see `jetcorr train`. Started again, it goes on where it was.
    """
    script = ["--module", "jetcorr_utils.cli", "train", "--study", place.study, "--out", place.run_dir]
    options = [*(["--model", model] if model else []), *(["--batch", batch] if batch != "split" else [])]
    return ["torchrun", *script, *options, *place.arguments]


def train_job(name: str, command: list[str], cluster: Cluster, nodes: int = 1) -> dict[str, Any]:
    """A TrainJob that runs `command` on `nodes` pods with the volume mounted, one process a pod or a GPU."""
    spec = models.TrainerV1alpha1TrainJobSpec(
        runtime_ref=models.TrainerV1alpha1RuntimeRef(name=cluster.runtime),
        trainer=models.TrainerV1alpha1Trainer(
            image=cluster.image,
            command=command,
            num_nodes=nodes,
            num_proc_per_node=max(cluster.gpus, 1),
            env=[models.IoK8sApiCoreV1EnvVar.from_dict(variable) for variable in cluster.environment()],
            resources_per_node=models.IoK8sApiCoreV1ResourceRequirements.from_dict(cluster.resources),
        ),
        runtime_patches=[_patch(cluster)] if cluster.release.pods == "runtimePatches" else None,
    )
    metadata = models.IoK8sApimachineryPkgApisMetaV1ObjectMeta(
        name=name, namespace=cluster.namespace, labels=cluster.labels or None
    )
    job = models.TrainerV1alpha1TrainJob(
        api_version="trainer.kubeflow.org/v1alpha1", kind="TrainJob", metadata=metadata, spec=spec
    )
    found: dict[str, Any] = job.to_dict()
    if cluster.release.pods == "podTemplateOverrides":
        found["spec"]["podTemplateOverrides"] = [_override(cluster)]
    return found


def _override(cluster: Cluster) -> dict[str, Any]:
    """The pod's changes for Trainer 2.1, whose pods run as the image's user: it has no field for another one.

    A dictionary, since the SDK's models are those of a newer Trainer.
    """
    spec: dict[str, Any] = {"volumes": cluster.volumes()}
    if cluster.pull_secrets:
        spec["imagePullSecrets"] = cluster.pull_secrets
    spec["containers"] = [{"name": CONTAINER, "volumeMounts": cluster.mounts()}]
    return {"targetJobs": [{"name": CONTAINER}], "metadata": {"annotations": NO_SIDECAR}, "spec": spec}


def _patch(cluster: Cluster) -> models.TrainerV1alpha1RuntimePatch:
    """The pod's changes at the depth at which a runtime of Trainer 2.2 or newer has its pods."""
    container = models.TrainerV1alpha1ContainerPatch(
        name=CONTAINER,
        volume_mounts=[models.IoK8sApiCoreV1VolumeMount.from_dict(mount) for mount in cluster.mounts()],
        security_context=models.IoK8sApiCoreV1SecurityContext.from_dict(cluster.container_security()),
    )
    secrets = [models.IoK8sApiCoreV1LocalObjectReference.from_dict(secret) for secret in cluster.pull_secrets]
    spec = models.TrainerV1alpha1PodSpecPatch(
        volumes=[models.IoK8sApiCoreV1Volume.from_dict(volume) for volume in cluster.volumes()],
        containers=[container],
        image_pull_secrets=secrets or None,
        security_context=models.IoK8sApiCoreV1PodSecurityContext.from_dict(cluster.pod_security()),
    )
    metadata = models.IoK8sApimachineryPkgApisMetaV1ObjectMeta(annotations=NO_SIDECAR)
    pod = models.TrainerV1alpha1PodTemplatePatch(metadata=metadata, spec=spec)
    job = models.TrainerV1alpha1ReplicatedJobPatch(
        name=CONTAINER,
        template=models.TrainerV1alpha1JobTemplatePatch(spec=models.TrainerV1alpha1JobSpecPatch(template=pod)),
    )
    jobs = models.TrainerV1alpha1JobSetTemplatePatch(spec=models.TrainerV1alpha1JobSetSpecPatch(replicated_jobs=[job]))
    return models.TrainerV1alpha1RuntimePatch(
        manager="jetcorr.io/manifests",
        training_runtime_spec=models.TrainerV1alpha1TrainingRuntimeSpecPatch(template=jobs),
    )
