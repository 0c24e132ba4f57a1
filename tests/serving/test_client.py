"""The clients: the same numbers by every way, order kept, good errors, and a server that dies or comes back."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

from jetcorr_utils.errors import InputError, ServerError
from jetcorr_utils.inference import OnnxPredictor, TritonPredictor, open_predictor, open_predictors
from jetcorr_utils.inference.padding import pad
from jetcorr_utils.serving import TritonServer
from jetcorr_utils.training import predict
from tests.networks import SETTINGS, clouds_of, some_clouds


def _url(server, protocol):
    return server.http_url if protocol == "http" else server.grpc_url


def _agree(ours, theirs, tolerance=1e-5):
    np.testing.assert_allclose(np.exp(ours[0]), np.exp(theirs[0]), rtol=tolerance)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=tolerance)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("name", SETTINGS)
def test_triton_agrees_with_pytorch_on_a_thousand_jets(server, models, name, protocol):
    clouds = some_clouds(1000, 1, SETTINGS[name].features)
    with TritonPredictor(_url(server, protocol), name, protocol) as predictor:
        ours = predictor.predict(clouds, batch_size=256)
    _agree(ours, predict(models[name], clouds))


@pytest.mark.parametrize("name", SETTINGS)
def test_order_does_not_depend_on_the_batch_size(files, name):
    clouds = some_clouds(101, 2, SETTINGS[name].features)
    with OnnxPredictor(files[name]) as predictor:
        whole = predictor.infer(pad(clouds, np.arange(101)))
        for batch_size in (1, 7, 1000):
            _agree(predictor.predict(clouds, batch_size=batch_size), whole, 2e-6)


def test_no_jets_are_no_predictions(files):
    log_factor, sigma = OnnxPredictor(files["pfn"]).predict(clouds_of([]))
    assert len(log_factor) == len(sigma) == 0


def test_a_jet_without_particles_is_named(files):
    with pytest.raises(InputError, match="jet 1 has no particles"):
        OnnxPredictor(files["pfn"]).predict(clouds_of([3, 0, 2]))


def test_metadata_comes_through_the_server(server, files):
    with TritonPredictor(server.http_url, "pfn") as by_http, TritonPredictor(server.grpc_url, "pfn", "grpc") as by_grpc:
        assert by_http.metadata == by_grpc.metadata
        local = OnnxPredictor(files["pfn"]).metadata
        assert {key: by_http.metadata[key] for key in ("features", "selection", "training_range", "candidates")} == {
            key: local[key] for key in ("features", "selection", "training_range", "candidates")
        }


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_unknown_model_is_the_callers_fault(server, protocol):
    with pytest.raises(InputError, match="nothing"):
        TritonPredictor(_url(server, protocol), "nothing", protocol)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_no_server_is_an_error_after_the_stated_time(protocol):
    start = time.monotonic()
    with pytest.raises(ServerError, match=r"127\.0\.0\.1:9.*0\.3 s"):
        TritonPredictor("127.0.0.1:9", "pfn", protocol, patience=0.3)
    assert time.monotonic() - start >= 0.1


def test_unknown_protocol():
    with pytest.raises(InputError, match="carrier pigeon"):
        TritonPredictor("127.0.0.1:9", "pfn", "carrier pigeon")


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_server_killed_during_requests_is_named_with_its_log(make_repository, protocol):
    clouds = some_clouds(3000, 1)
    with TritonServer(make_repository("pfn")) as server:
        predictor = TritonPredictor(_url(server, protocol), "pfn", protocol, server=server)
        killer = threading.Timer(0.3, os.kill, (server.pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(ServerError) as caught:
            [predictor.predict(clouds, batch_size=64) for _ in range(1000)]
        assert str(server.log) in str(caught.value)
        assert str(server.repository) in str(caught.value)
        predictor.close()


def test_a_restarted_server_is_found_again(make_repository, models):
    repository = make_repository("pfn")
    clouds = some_clouds(4000, 1)
    expected = predict(models["pfn"], clouds)
    with TritonServer(repository) as first:
        port = int(first.http_url.rpartition(":")[2])
        predictor = TritonPredictor(first.http_url, "pfn", patience=60)
        answers = []
        worker = threading.Thread(
            target=lambda: answers.extend(predictor.predict(clouds, batch_size=8) for _ in range(3))
        )
        worker.start()
        time.sleep(0.2)
        os.kill(first.pid, signal.SIGKILL)
        first.stop()
        assert worker.is_alive(), "the requests ended before the server was killed: no test of a restart"
        with TritonServer(repository, http_port=port):
            worker.join(timeout=120)
    assert len(answers) == 3
    for answer in answers:
        _agree(answer, expected)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_open_by_url(server, protocol):
    url = f"{protocol}://{_url(server, protocol)}"
    assert list(open_predictors(url)) == ["particlenet", "pfn"]
    assert open_predictor(f"{url}/pfn").name == "pfn"


def test_open_by_path(files, make_repository, tmp_path):
    repository = make_repository("pfn", "particlenet")
    assert list(open_predictors(repository)) == ["particlenet", "pfn"]
    assert list(open_predictors(repository / "pfn")) == ["pfn"]
    assert open_predictor(files["pfn"]).name == "pfn"
    with pytest.raises(InputError, match="particlenet, pfn"):
        open_predictor(repository)


def test_open_takes_the_newest_version(make_repository, files):
    repository = make_repository("pfn", "pfn")
    assert sorted(path.name for path in (repository / "pfn").glob("[0-9]*")) == ["1", "2"]
    (repository / "pfn" / "1" / "model.onnx").unlink()
    assert open_predictor(repository).name == "pfn"


@pytest.mark.parametrize("what", ["absent", "http://nowhere", "ftp://localhost:1/pfn", "empty"])
def test_open_names_what_is_no_model(what, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=what):
        open_predictors(what)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(InputError, match=r"model\.onnx"):
        open_predictor(path)
