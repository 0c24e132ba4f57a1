"""TensorBoard on the logs of a search: scalars and HParams, asked over HTTP, on a local folder and on S3."""

from __future__ import annotations

import json
import os
import re
import socket
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import psutil
import pytest
from torch import nn

from jetcorr_utils.errors import InputError, JetcorrError
from jetcorr_utils.files import MARK
from jetcorr_utils.listening import listener
from jetcorr_utils.tensorboard import TensorBoard
from jetcorr_utils.training.records import TensorBoardLog
from jetcorr_utils.tuning import search
from tests.web import web_server


@pytest.fixture
def s3_folder(monkeypatch):
    """A folder in moto's S3 server, with credentials in the environment alone."""
    moto = pytest.importorskip("moto.server", reason="the S3 server needs moto[server]")
    boto3 = pytest.importorskip("boto3", reason="TensorBoard reads S3 by boto3")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.client("s3").create_bucket(Bucket="logs")
    yield "s3://logs/smoke/tensorboard"
    server.stop()


def ask(board: TensorBoard, path: str, body: dict | None = None):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(board.url + path, data, {"Content-Type": "application/json"} if data else {})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of botocore and moto
@pytest.mark.parametrize("place", ["local", "s3"])
def test_scalars_and_hparams_of_a_search(place, study, clouds, tmp_path, request):
    logs = request.getfixturevalue("s3_folder") if place == "s3" else str(tmp_path / "logs")
    short = study.model_copy(update={"tuning": study.tuning.model_copy(update={"trials": 2, "max_jets": 200})})
    result = search(short, *clouds, tmp_path / "tuning", log_dir=logs, progress=False)
    with TensorBoard(logs, reload_interval=1, address="/proxy/{port}/") as board:
        assert re.search(rf'<iframe src="/proxy/{board.port}/[0-9a-f]{{32}}/#scalars"', board._repr_html_())
        tags = {}
        while not {"000", "001"} <= {
            run for run, found in tags.items() if {"validation/mae", "trial/mae"} <= found.keys()
        }:
            tags = ask(board, "data/plugin/scalars/tags")
        assert {"validation/mae", "learning/rate", "trial/mae", "trial/resolution_gain"} <= tags["001"].keys()
        query = urllib.parse.urlencode({"run": "001", "tag": "validation/mae"})
        shown = [value for _, _, value in ask(board, f"data/plugin/scalars/scalars?{query}")]
        history = result.histories[result.histories["trial"] == 1]["validation_mae"]
        assert shown == pytest.approx(list(history), rel=1e-6)
        metrics = [{"name": {"tag": "trial/mae"}, "datasetType": "DATASET_VALIDATION"}]
        body = {"startIndex": 0, "sliceSize": 10, "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS"]}
        groups = ask(
            board, "data/plugin/hparams/session_groups", body | {"colParams": [{"metric": metrics[0]["name"]}]}
        )
        found = {group["name"]: group for group in groups["sessionGroups"]}
        assert found.keys() == {"000", "001"}
        assert found["001"]["hparams"]["training.learning_rate"] == pytest.approx(
            result.trials["training.learning_rate"][1]
        )
        values = {v["name"]["tag"]: v["value"] for v in found["001"]["metricValues"]}
        assert values["trial/mae"] == pytest.approx(result.trials["mae"][1], rel=1e-6)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", board.port)) != 0


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"TensorBoard: there is no folder .*missing; train a model first"):
        TensorBoard(tmp_path / "missing")


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=rf"TensorBoard: port {port} cannot be used: .*already in use"):
            TensorBoard(tmp_path, port=port)


def test_who_does_not_know_its_key_sees_nothing(tmp_path):
    with TensorBoard(tmp_path) as board:
        assert ask(board, "data/environment")["data_location"] == str(tmp_path)
        for path in ("", "data/environment", f"{'0' * 32}/data/environment"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"http://127.0.0.1:{board.port}/{path}", timeout=60)
        key = board.url.rstrip("/").rpartition("/")[2]
        assert len(key) == 32
        commands = [process.cmdline() for process in psutil.process_iter() if process.uids().real == os.getuid()]
        assert not any(key in argument for command in commands for argument in command)


def test_its_temporary_files_are_its_user_s_alone(tmp_path, monkeypatch):
    """Not those of all: its libraries have names there that another account could have taken before."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with TensorBoard(tmp_path):
        (scratch,) = [path for path in tmp_path.iterdir() if path.name.startswith(MARK)]
        assert scratch.stat().st_mode & 0o077 == 0
    assert not scratch.exists()


def test_only_the_process_of_its_own_has_the_port(tmp_path):
    """It is given the port by the system, so that nobody can take it between a look and its start."""
    with TensorBoard(tmp_path) as board:
        process = listener(board.port)
        assert process in {child.pid for child in psutil.Process().children()}
        (socket,) = [found for found in psutil.Process(process).net_connections("tcp") if found.status == "LISTEN"]
        assert socket.laddr.ip == "127.0.0.1"


@pytest.mark.slow
@pytest.mark.parametrize("place", ["local", "s3"])
def test_no_proxy_is_asked_for_what_is_on_this_machine(place, tmp_path, monkeypatch, request):
    logs = request.getfixturevalue("s3_folder") if place == "s3" else str(tmp_path)
    if place == "s3":
        log = TensorBoardLog(logs)
        log.epoch({"epoch": 1, "validation_mae": 0.5}, nn.Identity())
        log.close()
    with web_server(tmp_path / "proxy") as proxy:
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", proxy.url)
        with TensorBoard(logs, reload_interval=1) as board:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            deadline = time.monotonic() + 60
            while place == "s3" and time.monotonic() < deadline:
                with opener.open(board.url + "data/plugin/scalars/tags", timeout=60) as answer:
                    if tags := json.load(answer):
                        break
                time.sleep(0.2)
        assert proxy.requests() == []
        assert place == "local" or "validation/mae" in next(iter(tags.values()))


def test_a_server_that_ends_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "__init__.py").write_text("raise SystemExit(3)", encoding="utf-8")
    with pytest.raises(JetcorrError, match="a worker process ended by itself, with exit code 3"):
        TensorBoard(tmp_path)
