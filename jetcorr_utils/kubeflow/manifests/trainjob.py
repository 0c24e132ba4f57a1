"""TrainJob (Kubeflow Trainer): a distributed training, or one trial of an experiment."""

from __future__ import annotations

from typing import Any

from kubeflow_trainer_api import models

from .target import Cluster, Place

__all__ = ["train_command", "train_job"]

CONTAINER = "node"  # what the runtimes of Kubeflow Trainer call the container that trains


def train_command(place: Place, model: str | None = None) -> list[str]:
    """The command of each pod of a distributed training; torchrun finds its peers by the PET_ variables.

    It trains the study's models, or one of them. Started again, it goes on where it was.
    """
    script = ["--module", "jetcorr_utils.cli", "train", "--study", place.study, "--out", place.run_dir]
    return ["torchrun", *script, *(["--model", model] if model else []), *place.arguments]


def train_job(name: str, command: list[str], cluster: Cluster, nodes: int = 1) -> dict[str, Any]:
    """A TrainJob that runs `command` on `nodes` pods with the volume mounted, one process a pod or a GPU."""
    volumes = [models.IoK8sApiCoreV1Volume.from_dict(volume) for volume in cluster.volumes()]
    container = models.TrainerV1alpha1ContainerPatch(
        name=CONTAINER,
        volume_mounts=[models.IoK8sApiCoreV1VolumeMount.from_dict(mount) for mount in cluster.mounts()],
        security_context=models.IoK8sApiCoreV1SecurityContext.from_dict(cluster.container_security()),
    )
    pod = models.TrainerV1alpha1PodSpecPatch(
        volumes=volumes,
        containers=[container],
        security_context=models.IoK8sApiCoreV1PodSecurityContext.from_dict(cluster.pod_security()),
    )
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
        runtime_patches=[_patch(pod)],
    )
    metadata = models.IoK8sApimachineryPkgApisMetaV1ObjectMeta(name=name, namespace=cluster.namespace)
    job = models.TrainerV1alpha1TrainJob(
        api_version="trainer.kubeflow.org/v1alpha1", kind="TrainJob", metadata=metadata, spec=spec
    )
    return job.to_dict()


def _patch(pod: models.TrainerV1alpha1PodSpecPatch) -> models.TrainerV1alpha1RuntimePatch:
    """The pod's changes at the depth at which a runtime has its pods."""
    job = models.TrainerV1alpha1ReplicatedJobPatch(
        name=CONTAINER,
        template=models.TrainerV1alpha1JobTemplatePatch(
            spec=models.TrainerV1alpha1JobSpecPatch(template=models.TrainerV1alpha1PodTemplatePatch(spec=pod))
        ),
    )
    jobs = models.TrainerV1alpha1JobSetTemplatePatch(spec=models.TrainerV1alpha1JobSetSpecPatch(replicated_jobs=[job]))
    return models.TrainerV1alpha1RuntimePatch(
        manager="jetcorr.io/manifests",
        training_runtime_spec=models.TrainerV1alpha1TrainingRuntimeSpecPatch(template=jobs),
    )
