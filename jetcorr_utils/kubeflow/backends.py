"""Where the heavy work of notebooks 02, 03 and 05 is done: here, or on a Kubeflow cluster, as their BACKEND says.

On a cluster trainings are TrainJobs (`cluster_training`), the search is a Katib experiment (`cluster_search`), the
server an InferenceService (`cluster_service`). All of them read and write the run's folder on the volume that every pod
mounts, so what they make lies where the local work would have put it, and nothing else in the notebooks or in what
follows depends on where it was made. Each function waits for its resources and removes them, also when it fails or is
interrupted.

The notebooks import these modules on every machine, so the Kubernetes client and the SDKs' models, which take seconds,
are imported where they are needed.
"""

from __future__ import annotations

from ..errors import InputError

__all__ = ["BACKENDS", "on_cluster"]

BACKENDS = ("local", "kubeflow")


def on_cluster(backend: str) -> bool:
    """Whether a notebook's BACKEND asks for the cluster.

    Raises
    ------
    InputError
        If there is no such backend.
    """
    if backend not in BACKENDS:
        raise InputError(f"BACKEND = {backend!r}: there are {', '.join(BACKENDS)}")
    return backend == "kubeflow"
