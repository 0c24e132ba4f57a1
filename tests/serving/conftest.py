"""A real server with two small networks, for all tests of serving."""

from __future__ import annotations

import pytest

from jetcorr_utils.serving import TritonServer, add_model, server_available
from tests.networks import SETTINGS, exported, network


@pytest.fixture(scope="session")
def models():
    """The networks by name."""
    return {name: network(name) for name in SETTINGS}


@pytest.fixture(scope="session")
def files():
    """Their ONNX files."""
    return {name: exported(name) for name in SETTINGS}


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
