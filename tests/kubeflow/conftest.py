"""The recorded schemas of the resources, and a fake API server that the Kubernetes client of this process talks to."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml

from tests.kubeflow.fake_api import FakeApi


@pytest.fixture(scope="session")
def validator() -> ModuleType | None:
    """The validator of manifests with its schemas read once, None where it is not given."""
    script = os.environ.get("JETCORR_MANIFEST_VALIDATOR")
    if not script:
        return None
    spec = importlib.util.spec_from_file_location("validate_manifests", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # Thousands of lines of YAML: read once, and by libyaml where there is one
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    module.yaml = SimpleNamespace(safe_load_all=functools.partial(yaml.load_all, Loader=loader))
    schemas = module.schemas()
    module.schemas = lambda: schemas
    return module


@pytest.fixture
def fake_api(validator, tmp_path) -> Iterator[Callable[..., FakeApi]]:
    """Start a fake API server with operators by plural: `fake_api(trainjobs=…)`."""
    with _fake(validator, tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def fake_cluster(validator, tmp_path_factory) -> Iterator[Callable[..., FakeApi]]:
    """The same for all tests of a module."""
    with _fake(validator, tmp_path_factory.mktemp("kubeconfig")) as start:
        yield start


@contextlib.contextmanager
def _fake(validator: ModuleType | None, folder: Path) -> Iterator[Callable[..., FakeApi]]:
    """A function that starts a server, which ends with the context; the client of this process then talks to it."""
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as monkeypatch:

        def start(trainer: str = "2.3", account: str = "default-editor", **operators) -> FakeApi:
            katib = validator.schemas()["kubeflow.org/v1beta1", "Experiment"] if validator else None
            api = stack.enter_context(FakeApi(operators, katib, trainer))
            path = str(api.kubeconfig(folder / "kubeconfig", account))
            monkeypatch.setenv("KUBECONFIG", path)
            monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", path)
            return api

        yield start
