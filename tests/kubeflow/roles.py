"""What an account of a Kubeflow namespace may do: the rules that are aggregated to `kubeflow-edit`.

From the roles of kubeflow/manifests and of the components, as far as our code and guide touch them. `default-editor`
has them, the account `default` has none, and nobody in a namespace sees what belongs to the whole cluster.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["ROLES", "Rule", "allows"]

Rule = tuple[str, tuple[str, ...], tuple[str, ...]]  # group, resources, verbs

READ = ("get", "list", "watch")
ALL = (*READ, "create", "delete", "deletecollection", "patch", "update")
EDIT: list[Rule] = [
    ("", ("pods", "configmaps", "persistentvolumeclaims", "secrets", "serviceaccounts", "services"), ALL),
    ("", ("pods/log", "pods/status", "events", "resourcequotas", "limitranges", "namespaces"), READ),
    ("trainer.kubeflow.org", ("trainjobs",), ALL),
    ("trainer.kubeflow.org", ("trainjobs/status", "clustertrainingruntimes", "trainingruntimes"), READ),
    ("kubeflow.org", ("experiments", "trials", "suggestions", "pytorchjobs", "notebooks"), ALL),
    ("kubeflow.org", ("experiments/status", "trials/status", "pytorchjobs/status", "notebooks/status"), READ),
    ("kubeflow.org", ("poddefaults",), (*READ, "create", "delete")),
    ("tensorboard.kubeflow.org", ("tensorboards",), (*READ, "create", "delete")),
    ("serving.kserve.io", ("inferenceservices", "servingruntimes"), ALL),
    ("serving.kserve.io", ("inferenceservices/status",), READ),
]
#: by the account's token
ROLES: dict[str, list[Rule]] = {"default-editor": EDIT, "default": [], "admin": [("*", ("*",), ("*",))]}


def allows(rules: Sequence[Rule], verb: str, group: str, resource: str) -> bool:
    """Whether one of the rules allows a verb on a resource."""
    return any(
        of in ("*", group) and (resource in resources or "*" in resources) and (verb in verbs or "*" in verbs)
        for of, resources, verbs in rules
    )
