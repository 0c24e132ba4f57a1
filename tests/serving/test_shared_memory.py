"""Shared memory: used where the server can map it, and gone afterwards, however the client ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

from jetcorr_utils.errors import InputError
from jetcorr_utils.export import add_model
from jetcorr_utils.inference import TritonPredictor, shared_memory
from jetcorr_utils.serving import TritonServer, server_available
from tests.networks import some_clouds

from .conftest import known_regions

PROTOCOLS = ["http", "grpc"]


@pytest.fixture(scope="module")
def server(files, tmp_path_factory):
    """A server that nobody else has asked: clients that were left open elsewhere keep their memory, rightly."""
    if reason := server_available():
        pytest.skip(reason)
    repository = tmp_path_factory.mktemp("repository")
    add_model(repository, "pfn", files["pfn"])
    with TritonServer(repository) as running:
        yield running


def _url(server, protocol):
    return server.http_url if protocol == "http" else server.grpc_url


def _names(process):
    """Memory of a process that still has a name; other tests run beside this one."""
    return [path.name for path in Path("/dev/shm").glob(f"jetcorr-client-{process}-*")]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_is_used_on_this_machine_and_gone_afterwards(server, protocol):
    with TritonPredictor(_url(server, protocol), "pfn", protocol) as predictor:
        assert predictor.memory_shared
        assert "shared memory" in repr(predictor)
        predictor.predict(some_clouds(600), batch_size=100)
        assert known_regions(server, protocol) != []
        assert _names(os.getpid()) == []
    assert known_regions(server, protocol) == []


def test_it_grows_with_the_requests(server):
    with TritonPredictor(server.http_url, "pfn", shared_memory="on") as predictor:
        for jets in (1, 2000, 3):
            clouds = some_clouds(jets, jets, mean=45)
            with TritonPredictor(server.http_url, "pfn", shared_memory="off") as plain:
                expected = plain.predict(clouds, batch_size=2000)
            np.testing.assert_array_equal(predictor.predict(clouds, batch_size=2000), expected)
        assert len(known_regions(server)) <= 1 + predictor.in_flight


def test_an_error_leaves_nothing(server):
    def fail():
        with TritonPredictor(server.http_url, "pfn") as predictor:
            predictor.predict(some_clouds(20))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert known_regions(server) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_client_that_is_ended_by_a_signal_leaves_nothing_to_the_next(server, number):
    script = f"""
        import numpy as np
        from jetcorr_utils.inference.padding import Clouds
        from jetcorr_utils.inference.triton_predictor import TritonPredictor
        clouds = Clouds(np.ones((2000, 7), np.float32), np.arange(0, 2001, 4), np.ones((500, 10), np.float32), "open")
        predictor = TritonPredictor({server.http_url!r}, "pfn", shared_memory="on")
        print("ready", flush=True)
        while True:
            predictor.predict(clouds, batch_size=50)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as client:
        assert client.stdout.readline() == "ready\n"
        assert len(known_regions(server)) >= 1
        client.send_signal(number)
    # Memory that was made just before has a name until the next client starts
    with TritonPredictor(server.http_url, "pfn") as predictor:
        assert _names(client.pid) == []
        alive = [name for name in known_regions(server) if f"-{client.pid}-" not in name]
        assert known_regions(server) == alive != []
        assert np.isfinite(predictor.predict(some_clouds(5))).all()
    assert known_regions(server) == []


def test_names_left_by_a_process_that_is_gone_are_removed(server):
    left = Path("/dev/shm/jetcorr-client-4194305-0")  # beyond the largest process number
    left.write_bytes(b"x")
    with TritonPredictor(server.http_url, "pfn"):
        assert not left.exists()


def test_a_live_client_keeps_its_memory_when_another_starts_and_ends(server):
    clouds = some_clouds(50)
    with TritonPredictor(server.http_url, "pfn", shared_memory="on") as first:
        expected = first.predict(clouds)
        before = known_regions(server)
        with TritonPredictor(server.grpc_url, "pfn", "grpc", shared_memory="on") as second:
            np.testing.assert_array_equal(second.predict(clouds), expected)
        assert sorted(known_regions(server)) == sorted(before)
        np.testing.assert_array_equal(first.predict(clouds), expected)


def test_a_restarted_server_maps_new_memory(make_repository):
    repository, clouds = make_repository("pfn"), some_clouds(40)
    with TritonServer(repository) as first:
        predictor = TritonPredictor(first.http_url, "pfn", shared_memory="on")
        expected = predictor.predict(clouds)
        port = int(first.http_url.rpartition(":")[2])
    with TritonServer(repository, http_port=port):
        np.testing.assert_array_equal(predictor.predict(clouds), expected)
        predictor.close()


def test_where_the_server_cannot_map_it_the_socket_is_used(server, tmp_path, monkeypatch):
    # Memory in another folder is what a client in another container or on another machine has
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    with TritonPredictor(server.http_url, "pfn") as predictor:
        assert not predictor.memory_shared
        assert np.isfinite(predictor.predict(some_clouds(5))).all()
    with pytest.raises(InputError, match=r"shared memory.*this machine"):
        TritonPredictor(server.http_url, "pfn", shared_memory="on")
    assert list(tmp_path.iterdir()) == []


def test_memory_that_cannot_be_had(server, tmp_path, monkeypatch):
    clouds = some_clouds(3000, mean=45)
    with (
        TritonPredictor(server.http_url, "pfn") as auto,
        TritonPredictor(server.http_url, "pfn", shared_memory="on") as on,
    ):
        expected = auto.predict(clouds, batch_size=10)
        monkeypatch.setattr(shared_memory, "FOLDER", tmp_path / "nowhere")
        np.testing.assert_allclose(auto.predict(clouds, batch_size=3000), expected, rtol=1e-5, atol=1e-6)
        assert not auto.memory_shared
        with pytest.raises(InputError, match=r"nowhere.*shared memory"):
            on.predict(clouds, batch_size=3000)


def test_a_choice_that_is_none():
    with pytest.raises(InputError, match="perhaps"):
        TritonPredictor("127.0.0.1:9", "pfn", shared_memory="perhaps")


def test_many_threads_do_not_mix_up_their_memory(server):
    clouds = [some_clouds(200, seed) for seed in range(8)]
    with TritonPredictor(server.http_url, "pfn", in_flight=4) as predictor:
        expected = [predictor.predict(cloud, batch_size=200) for cloud in clouds]
        found: dict[int, object] = {}
        threads = [
            threading.Thread(target=lambda n=n: found.__setitem__(n, predictor.predict(clouds[n], batch_size=200)))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for number, answer in enumerate(expected):
        np.testing.assert_array_equal(found[number], answer)


def test_names_of_memory_are_of_this_process(server):
    with TritonPredictor(server.http_url, "pfn"):
        assert all(name.startswith(f"jetcorr-client-{os.getpid()}-") for name in known_regions(server))
