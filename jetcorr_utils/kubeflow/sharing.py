"""What the pods of a cluster make on their volume belongs to all of them."""

from __future__ import annotations

import os

__all__ = ["share_with_group"]


def share_with_group() -> None:
    """In a pod, let the group write what this process and those that it starts make.

    All pods of ours are in the volume's group, though not all as the same user: an older Kubeflow has ideas of its own.
    """
    if "KUBERNETES_SERVICE_HOST" in os.environ:  # which the kubelet sets for every container
        os.umask(0o002)
