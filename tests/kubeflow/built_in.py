"""What comes with Kubernetes, by the schemas of `kubernetes-validate`: kinds, and the pods in other resources."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

__all__ = ["NEWEST", "VERSIONS", "built_in_errors", "pods_in"]

VERSIONS = ("1.31", "1.34", "1.36")
"""Of Kubernetes, that the supported releases of Kubeflow run on."""
NEWEST = VERSIONS[-1]


def built_in_errors(resource: dict[str, Any], version: str = NEWEST) -> list[str]:
    """What is wrong with a resource of a built-in kind, fields that Kubernetes does not know included.

    None is found where the schemas are not installed.
    """
    if find_spec("kubernetes_validate") is None:
        return []
    import kubernetes_validate

    try:
        kubernetes_validate.validate(resource, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [".".join(map(str, [*error.absolute_path, error.message]))]
    return []


def pods_in(resource: Any) -> Iterator[dict[str, Any]]:
    """The pods that a resource describes, at any depth: with containers, as a whole or a part to be laid over one."""
    if isinstance(resource, list):
        for one in resource:
            yield from pods_in(one)
    elif isinstance(resource, dict):
        if resource.get("kind") == "ServingRuntime":  # its containers stand among fields of its own
            yield _pod({"containers": resource["spec"]["containers"]})
            return
        spec = resource.get("spec")
        if isinstance(spec, dict) and isinstance(spec.get("containers"), list):
            yield _pod(spec)
            return
        for one in resource.values():
            yield from pods_in(one)


def _pod(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
