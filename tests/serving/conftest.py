"""A real server with two small networks, for all tests of serving."""

from __future__ import annotations

import pytest

from jetcorr_utils.export import export_model
from jetcorr_utils.serving import TritonServer, add_model, server_available
from tests.networks import SETTINGS, network


@pytest.fixture(scope="session")
def models():
    """The networks by name."""
    return {name: network(name) for name in SETTINGS}


@pytest.fixture(scope="session")
def files(models, tmp_path_factory):
    """Their ONNX files."""
    folder = tmp_path_factory.mktemp("exported")
    metadata = {"candidates": "jet", "selection": {"min_pt": 30.0, "max_abs_eta": 2.5}}
    ranges = {"training_range": {"jetPt": [30.0, 900.0], "abs(jetEta)": [0.0, 2.5], "particles": [1, 200]}}
    return {
        name: export_model(model, folder / f"{name}.onnx", metadata={"name": name, **metadata, **ranges})
        for name, model in models.items()
    }


@pytest.fixture
def make_repository(files, tmp_path):
    """A function that makes a repository with the models named."""

    def make(*names):
        for name in names:
            add_model(tmp_path / "repository", name, files[name])
        return tmp_path / "repository"

    return make


@pytest.fixture(scope="session")
def server(files, tmp_path_factory):
    """A running server with both models; the tests leave it as they found it."""
    if reason := server_available():
        pytest.skip(reason)
    repository = tmp_path_factory.mktemp("repository")
    for name, path in files.items():
        add_model(repository, name, path)
    with TritonServer(repository) as running:
        yield running
