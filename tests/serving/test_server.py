"""The server: starts, stops on exit, error and signal; refuses bad requests and stays ready; picks up new versions."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import psutil
import pytest
from tritonclient import grpc, http
from tritonclient.utils import InferenceServerException

from jetcorr_utils.errors import InputError, ServerError
from jetcorr_utils.export import add_model, export_model
from jetcorr_utils.inference import TritonPredictor
from jetcorr_utils.inference.padding import INPUT_NAMES, pad
from jetcorr_utils.serving import TritonServer
from jetcorr_utils.serving.server_environment import ENVIRONMENT_VARIABLE, find_environment
from tests.networks import network, some_clouds


def _alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _family(server) -> list[int]:
    """The processes of a server: its guard, itself, and one for each instance of a model."""
    found = subprocess.run(["pgrep", "-s", str(os.getsid(server.pid))], capture_output=True, text=True, check=True)
    return [int(pid) for pid in found.stdout.split()]


def _wait_until_gone(pids, seconds=30):
    deadline = time.monotonic() + seconds
    while any(map(_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return [pid for pid in pids if _alive(pid)]


def _shared_memory():
    """Names of the servers of this process: tests run beside each other."""
    return {path.name for path in Path("/dev/shm").glob(f"jetcorr_{os.getpid()}_*")}


def test_no_process_and_no_shared_memory_is_left_after_the_block(make_repository):
    before = _shared_memory()
    with TritonServer(make_repository("pfn")) as server:
        family = _family(server)
        assert len(family) >= 4
        assert server.running
        assert _shared_memory() > before
    assert not server.running
    assert _wait_until_gone(family, 1) == []
    assert _shared_memory() == before


def test_nothing_is_left_after_an_error_in_the_block_and_a_killed_server(make_repository):
    before = _shared_memory()
    family = []

    def use_and_fail():
        with TritonServer(make_repository("pfn")) as server:
            family.extend(_family(server))
            # An instance that is stopped, as one that computes, does not see that its server has gone
            for pid in family:
                if "stub" in Path(f"/proc/{pid}/cmdline").read_text():
                    os.kill(pid, signal.SIGSTOP)
            os.kill(server.pid, signal.SIGKILL)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use_and_fail()
    assert len(family) >= 4
    assert _wait_until_gone(family) == []
    assert _shared_memory() == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_caller_is_killed(make_repository, number):
    script = f"""
        import time
        from jetcorr_utils.serving.server import TritonServer
        with TritonServer({str(make_repository("pfn"))!r}) as server:
            print(server.pid, flush=True)
            time.sleep(600)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as caller:
        pid = int(caller.stdout.readline())
        assert _alive(pid)
        caller.send_signal(number)
    assert _wait_until_gone([pid]) == []


def test_listens_on_loopback_only(server):
    found = subprocess.run(["cat", "/proc/net/tcp"], capture_output=True, text=True, check=True).stdout
    ports = {f"{int(url.rpartition(':')[2]):04X}" for url in (server.http_url, server.grpc_url, server.metrics_url)}
    local = [line.split()[1].split(":") for line in found.splitlines()[1:]]
    addresses = {address for address, port in local if port in ports}
    assert addresses == {"0100007F"}


def test_a_taken_port_is_named(server, make_repository):
    port = int(server.http_url.rpartition(":")[2])
    with pytest.raises(InputError, match=f"port {port}"):
        TritonServer(make_repository("pfn"), http_port=port)


def test_a_folder_without_models_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a model repository"):
        TritonServer(tmp_path)


def test_a_file_that_is_no_model_is_refused(make_repository):
    repository = make_repository("pfn")
    (repository / "pfn" / "1" / "model.onnx").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"pfn/1/model\.onnx: not a readable ONNX model"):
        TritonServer(repository).start()


def test_without_its_environment_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"nowhere.*make \.venv-triton"):
        find_environment()


def test_the_same_environment_by_variable(monkeypatch):
    default = find_environment()
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(default))
    assert find_environment() == default


def _bad_requests():
    clouds = some_clouds(3, 1)
    good = pad(clouds, np.arange(3))

    def change(**values):
        return {**good, **values}

    def filled(name, value):
        array = good[name].copy()
        array[1] = value
        return change(**{name: array})

    huge = pad(clouds, np.arange(3), 10_000)
    return {
        "wrong number of columns": change(pf_features=good["pf_features"][:, :, :3]),
        "wrong number of dimensions": change(jet_features=good["jet_features"][:, :, None]),
        "batch sizes that differ": change(jet_features=good["jet_features"][:2]),
        "particle axes that differ": change(pf_mask=good["pf_mask"][:, :-1]),
        "wrong type": change(pf_points=good["pf_points"].astype(np.int64)),
        "double precision": change(jet_features=good["jet_features"].astype(np.float64)),
        "missing input": {name: good[name] for name in INPUT_NAMES[:3]},
        "not a number": filled("pf_features", np.nan),
        "infinite": filled("jet_features", np.inf),
        "no particles": filled("pf_mask", 0),
        "no places for particles": {name: a if a.ndim == 2 else a[:, :0] for name, a in good.items()},
        "ten thousand particles": huge,
        "too large a batch": pad(clouds, np.zeros(5000, np.int64)),
    }


@pytest.mark.parametrize("api", [http, grpc], ids=["http", "grpc"])
@pytest.mark.parametrize("what", _bad_requests())
def test_a_bad_request_is_refused_and_the_server_stays_ready(server, api, what):
    tensors = []
    for name, array in _bad_requests()[what].items():
        kind = {"f": f"FP{8 * array.itemsize}", "i": "INT64"}[array.dtype.kind]
        tensors.append(api.InferInput(name, list(array.shape), kind))
        tensors[-1].set_data_from_numpy(array)
    url = server.http_url if api is http else server.grpc_url
    with api.InferenceServerClient(url) as client:
        with pytest.raises(InferenceServerException) as caught:
            client.infer("pfn", tensors)
        assert caught.value.message()
        assert client.is_server_ready()
        assert client.is_model_ready("pfn")
    with TritonPredictor(server.http_url, "pfn") as predictor:
        assert np.isfinite(predictor.predict(some_clouds(5))).all()


def _memory(server) -> int:
    """Bytes that the server's processes and their shared memory hold."""
    held = sum(psutil.Process(pid).memory_info().rss for pid in _family(server))
    return held + sum(512 * path.stat().st_blocks for path in Path("/dev/shm").glob(f"jetcorr_{os.getpid()}_*"))


def _post(url: str, header: bytes, size: int) -> tuple[int, bytes]:
    """Send a request's header and so many zeros, without holding them in memory."""
    block = bytes(1 << 20)

    def body():
        yield header
        for start in range(0, size, len(block)):
            yield block[: size - start]

    headers = {"Content-Length": str(len(header) + size)}
    if header:
        headers["Inference-Header-Content-Length"] = str(len(header))
    with contextlib.closing(HTTPConnection(url, timeout=300)) as connection:
        connection.request("POST", "/v2/models/pfn/infer", body=body(), headers=headers)
        response = connection.getresponse()
        return response.status, response.read()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["no JSON", "too large a batch"])
def test_two_gigabytes_are_refused_and_given_back(make_repository, what):
    shapes = {"pf_points": (60_000, 1040, 2), "pf_features": (60_000, 1040, 5), "pf_mask": (60_000, 1040, 1),
              "jet_features": (60_000, 10)}  # fmt: skip
    sizes = {name: 4 * int(np.prod(shape)) for name, shape in shapes.items()}
    tensors = [
        {"name": name, "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": sizes[name]}}
        for name, shape in shapes.items()
    ]
    header = json.dumps({"inputs": tensors}).encode() if what == "too large a batch" else b""
    with TritonServer(make_repository("pfn")) as server, TritonPredictor(server.http_url, "pfn") as predictor:
        expected = predictor.predict(some_clouds(50))
        before = _memory(server)
        status, answer = _post(server.http_url, header, sum(sizes.values()))
        assert status in (400, 500)
        assert b"error" in answer
        deadline = time.monotonic() + 60
        while _memory(server) > before + 50e6 and time.monotonic() < deadline:
            with TritonPredictor(server.http_url, "pfn") as another:  # a thread of the server may sleep on what it had
                another.predict(some_clouds(50))
            time.sleep(0.2)
        assert _memory(server) < before + 50e6
        np.testing.assert_array_equal(predictor.predict(some_clouds(50)), expected)


def test_a_bad_request_beside_good_ones_harms_none_of_them(server):
    clouds = some_clouds(64, 1)
    inputs = pad(clouds, np.arange(64))
    bad = {**inputs, "jet_features": np.full_like(inputs["jet_features"], np.nan)}
    with TritonPredictor(server.http_url, "pfn") as predictor:
        expected = predictor.infer(inputs)
        wrong = []

        def ask(number):
            if number % 3 == 0:
                with pytest.raises(InputError, match="not finite"):
                    predictor.infer(bad)
            elif not np.array_equal(predictor.infer(inputs)[0], expected[0]):
                wrong.append(number)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_new_version_is_served_and_a_client_keeps_the_one_that_it_has(make_repository, files, tmp_path):
    repository = make_repository("pfn")
    newer = network("pfn")
    newer.head.center.add_(1.0)
    path = export_model(newer, tmp_path / "newer.onnx", metadata={"checkpoint": "another"})
    clouds = some_clouds(16)
    with TritonServer(repository, poll_seconds=1) as server, TritonPredictor(server.http_url, "pfn") as predictor:
        old, _ = predictor.predict(clouds)
        assert predictor.version == "1"
        assert add_model(repository, "pfn", path) == 2
        deadline, version = time.monotonic() + 60, "1"
        while version == "1" and time.monotonic() < deadline:
            np.testing.assert_array_equal(predictor.predict(clouds)[0], old)
            with TritonPredictor(server.http_url, "pfn") as later:
                version, answer = later.version, later.predict(clouds)[0]
        assert version == "2"
        np.testing.assert_allclose(answer, old + 1.0, rtol=1e-5)
        np.testing.assert_array_equal(predictor.predict(clouds)[0], old)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_network_that_is_replaced_under_its_name_is_noticed(make_repository, tmp_path, protocol):
    repository = make_repository("pfn")
    other = export_model(network("pfn"), tmp_path / "other.onnx", metadata={"checkpoint": "another"})
    clouds = some_clouds(16)
    with TritonServer(repository, poll_seconds=1) as server:
        url = server.http_url if protocol == "http" else server.grpc_url
        with TritonPredictor(url, "pfn", protocol) as predictor:
            predictor.predict(clouds)
            add_model(repository, "pfn", other, version=1)
            deadline = time.monotonic() + 60
            with pytest.raises(ServerError, match="model pfn, version 1, was replaced by another network"):
                [predictor.predict(clouds) for _ in iter(lambda: time.monotonic() < deadline, False)]


def test_wait_ends_at_a_signal_and_complains_about_a_dead_server(make_repository):
    with TritonServer(make_repository("pfn")) as server:
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        server.wait()
        server.wait(announce=lambda: os.kill(os.getpid(), signal.SIGINT))  # by whoever is told that it is ready
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(ServerError, match="died"):
            server.wait()
