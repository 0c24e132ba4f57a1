"""The resources that the tests' API server knows, with the schemas of their definitions (CRDs) where these are given.

What a real API server does with a body by its schema stands here: fields that the schema does not know are pruned, or
refused where the request asks for strict validation; defaults are filled in; then the body is validated.
"""

from __future__ import annotations

import copy
import functools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import yaml

Schema = dict[str, Any]
FIELDS = json.loads(Path(__file__).with_name("older_fields.json").read_text())
KEYWORDS = (
    "type", "enum", "required", "minimum", "maximum", "pattern", "minLength", "maxLength", "minItems", "maxItems",
    "minProperties", "maxProperties", "format",
)  # fmt: skip


@dataclass(frozen=True)
class Definition:
    """A kind of resource that the server has."""

    version: str
    kind: str
    plural: str
    namespaced: bool = True
    schema: Schema | None = None
    has_status: bool = True

    @property
    def group(self) -> str:
        """Empty for the core kinds."""
        return self.version.rpartition("/")[0]


#: kinds that come with Kubernetes; `built_in` has their schemas
BUILT_IN = tuple(
    Definition(version, kind, plural, namespaced)
    for version, kind, plural, namespaced in (
        ("v1", "Pod", "pods", True),
        ("v1", "Event", "events", True),
        ("v1", "PersistentVolumeClaim", "persistentvolumeclaims", True),
        ("v1", "ResourceQuota", "resourcequotas", True),
        ("v1", "Secret", "secrets", True),
        ("v1", "ConfigMap", "configmaps", True),
        ("v1", "ServiceAccount", "serviceaccounts", True),
        ("v1", "Namespace", "namespaces", False),
        ("storage.k8s.io/v1", "StorageClass", "storageclasses", False),
    )
)
KUBEFLOW = (
    Definition("trainer.kubeflow.org/v1alpha1", "TrainJob", "trainjobs"),
    Definition("trainer.kubeflow.org/v1alpha1", "ClusterTrainingRuntime", "clustertrainingruntimes", namespaced=False),
    Definition("kubeflow.org/v1", "PyTorchJob", "pytorchjobs"),
    Definition("kubeflow.org/v1beta1", "Experiment", "experiments"),
    Definition("kubeflow.org/v1beta1", "Trial", "trials"),
    Definition("kubeflow.org/v1", "Notebook", "notebooks"),
    Definition("kubeflow.org/v1alpha1", "PodDefault", "poddefaults", has_status=False),
    Definition("tensorboard.kubeflow.org/v1alpha1", "Tensorboard", "tensorboards"),
    Definition("serving.kserve.io/v1beta1", "InferenceService", "inferenceservices"),
    Definition("serving.kserve.io/v1alpha1", "ServingRuntime", "servingruntimes"),
)


def definitions(trainer: str = "2.3") -> dict[str, Definition]:
    """The kinds of Kubeflow by plural, with Trainer of this version; with their schemas where these are given."""
    schemas = _schemas()
    found = {}
    for one in KUBEFLOW:
        schema = schemas.get((one.version, one.kind))
        if schema is not None and one.kind == "TrainJob" and trainer == "2.1":
            schema = _trainer_2_1(schema)
        found[one.plural] = Definition(one.version, one.kind, one.plural, one.namespaced, schema, one.has_status)
    return found


@functools.cache
def _schemas() -> dict[tuple[str, str], Schema]:
    """The structural schemas of the recorded CRDs by (apiVersion, kind); none where they are not given."""
    script = os.environ.get("JETCORR_MANIFEST_VALIDATOR")
    if not script:
        return {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found = {}
    for path in sorted((Path(script).resolve().parent.parent / "crd").glob("*.yaml")):
        for crd in yaml.load_all(path.read_text(encoding="utf-8"), Loader=loader):
            if crd and crd.get("kind") == "CustomResourceDefinition":
                spec = crd["spec"]
                for version in spec["versions"]:
                    key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
                    found[key] = version["schema"]["openAPIV3Schema"]
    return found


def _trainer_2_1(schema: Schema) -> Schema:
    """TrainJob of Trainer 2.1: podTemplateOverrides where 2.2 and newer have runtimePatches.

    Which fields these have is recorded from the models of kubeflow-trainer-api 2.1.0 (`older_fields.json`); what stands
    below them did not change.
    """
    schema = copy.deepcopy(schema)
    spec = schema["properties"]["spec"]["properties"]
    jobs = spec.pop("runtimePatches")["items"]["properties"]["trainingRuntimeSpec"]["properties"]["template"]
    jobs = jobs["properties"]["spec"]["properties"]["replicatedJobs"]["items"]["properties"]["template"]
    pod = jobs["properties"]["spec"]["properties"]["template"]["properties"]["spec"]
    fields = FIELDS["kubeflow-trainer-api 2.1.0"]

    def keep(part: Schema, names: list[str]) -> Schema:
        return {**part, "properties": {name: part["properties"][name] for name in names if name in part["properties"]}}

    spec_override = keep(pod, fields["PodTemplateSpecOverride"])
    for name in ("containers", "initContainers"):
        old = spec_override["properties"][name]
        spec_override["properties"][name] = {**old, "items": keep(old["items"], fields["ContainerOverride"])}
    texts = {"type": "object", "additionalProperties": {"type": "string"}}
    metadata = {"type": "object", "properties": dict.fromkeys(("labels", "annotations"), texts)}
    target = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
    known = {"metadata": metadata, "spec": spec_override, "targetJobs": {"type": "array", "items": target}}
    override = {name: known[name] for name in fields["PodTemplateOverride"]}
    item = {"type": "object", "required": ["targetJobs"], "properties": override}
    spec["podTemplateOverrides"] = {"type": "array", "items": item}
    return {
        **schema,
        "properties": {**schema["properties"], "spec": keep(schema["properties"]["spec"], fields["TrainJobSpec"])},
    }


def prune(value: Any, schema: Schema, path: str = "") -> tuple[Any, list[str]]:
    """The value without what the schema does not know, and the names of what was left out."""
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        parts = [prune(one, schema["items"], f"{path}[{n}]") for n, one in enumerate(value)]
        return [one for one, _ in parts], [name for _, names in parts for name in names]
    if not isinstance(value, dict) or schema.get("type") not in (None, "object"):
        return value, []
    known, more = schema.get("properties", {}), schema.get("additionalProperties")
    kept, unknown = {}, []
    for name, inner in value.items():
        at = f"{path}.{name}".lstrip(".")
        if name in known or isinstance(more, dict):
            whole = (not path and name in ("metadata", "apiVersion", "kind")) or (
                schema.get("x-kubernetes-embedded-resource") and name == "metadata"
            )
            kept[name], missing = (inner, []) if whole else prune(inner, known.get(name, more), at)
            unknown += missing
        elif schema.get("x-kubernetes-preserve-unknown-fields") or more is True:
            kept[name] = inner
        else:
            unknown.append(at)
    return kept, unknown


def with_defaults(value: Any, schema: Schema) -> Any:
    """The value with the defaults of the schema where it says nothing."""
    if isinstance(value, list):
        return [with_defaults(one, schema.get("items", {})) for one in value]
    if not isinstance(value, dict):
        return value
    known, more = schema.get("properties", {}), schema.get("additionalProperties")
    filled = {name: copy.deepcopy(part["default"]) for name, part in known.items() if "default" in part} | value
    other = more if isinstance(more, dict) else {}
    return {name: with_defaults(inner, known.get(name, other)) for name, inner in filled.items()}


def errors(value: Any, schema: Schema) -> Iterator[str]:
    """What is not valid by the schema, a line each."""
    for error in _validator(json.dumps(_json_schema(schema), sort_keys=True)).iter_errors(value):
        yield f"{'.'.join(map(str, error.absolute_path))}: Invalid value: {error.message}"


@functools.lru_cache(maxsize=16)
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(schema))


def _json_schema(schema: Schema) -> Schema:
    """A structural schema as one of JSON; rules in CEL (x-kubernetes-validations) are not checked."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    found = {key: schema[key] for key in KEYWORDS if key in schema and key != "format"}
    if "properties" in schema:
        found["properties"] = {name: _json_schema(part) for name, part in schema["properties"].items()}
    for key in ("items", "additionalProperties", "not"):
        if isinstance(schema.get(key), dict):
            found[key] = _json_schema(schema[key])
    for key in ("allOf", "anyOf", "oneOf"):
        if key in schema:
            found[key] = [_json_schema(part) for part in schema[key]]
    if schema.get("nullable") and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
    return found
