"""A real server with two small networks, for all tests of serving."""

from __future__ import annotations

import pytest

from jetcorr_utils.export import add_model
from jetcorr_utils.inference.triton_connection import Connection
from jetcorr_utils.serving import TritonServer, server_available
from tests.networks import files, make_repository, models

__all__ = ["files", "make_repository", "models", "server"]


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


def known_regions(server, protocol="http"):
    """The regions of our clients that the server has mapped."""
    connection = Connection(server.http_url if protocol == "http" else server.grpc_url, protocol)
    known = connection.client.get_system_shared_memory_status(headers=connection.key)
    connection.close()
    names = list(known.regions) if protocol == "grpc" else [entry["name"] for entry in known]
    return [name for name in names if name.startswith("jetcorr-client-")]
