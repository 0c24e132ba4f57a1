"""Addresses: nothing secret in them gets any further, and those of this machine are known."""

from __future__ import annotations

import os

import pytest

from jetcorr_utils.addresses import check_no_secrets, direct_environment, is_loopback, refuse_secrets, without_secrets
from jetcorr_utils.config import DataSettings, load_study
from jetcorr_utils.errors import InputError
from jetcorr_utils.inference import TritonPredictor, open_predictors
from jetcorr_utils.run import RunFolder
from jetcorr_utils.tensorboard import TensorBoard
from jetcorr_utils.training.records import TensorBoardLog
from tests.planted import SECRET, SECRET_ADDRESSES
from tests.reliability.addresses import COMMANDS, secret_that_got_through
from tests.reliability.processes import Sandbox
from tests.web import web_server

HARMLESS = [
    "https://example.org:8000/a@b/jets.root?download=1&path=store/x.root", "root://host:1094//store/user/a@1.root",
    "s3://jets/run=3/*.root", "grpc://127.0.0.1:8001/pfn", "http://[::1]:8000/pfn", "pvc://jetcorr/results/quick",
    "nvcr.io/nvidia/tritonserver@sha256:0123456789abcdef0123456789abcdef", "/data/user@host:x/jets.root",
    "https://example.org/x?id=3f2504e0",
    "https://example.org/x?encoding=utf8&scope=a&capacity=3", "https://a.org/eye.v2.root", "one@example.org",
]  # fmt: skip


@pytest.mark.parametrize("address", SECRET_ADDRESSES)
def test_a_secret_is_found_and_not_repeated(address):
    with pytest.raises(InputError, match="does not belong in an address") as error:
        refuse_secrets(address)
    assert SECRET not in str(error.value)
    with pytest.raises(InputError) as error:
        check_no_secrets({"data": {"files": ["a.root", address]}})
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("address", SECRET_ADDRESSES)
@pytest.mark.parametrize("text", ["{}", "Cannot connect to '{}': [Errno 111] (attempt 2)", 'url="{}"', "see {}, x@y"])
def test_no_secret_is_left_in_a_text(address, text):
    if set(" '\"") & set(address):
        pytest.skip("in a text, an address ends there")
    masked = without_secrets(text.format(address))
    assert SECRET not in masked
    assert "…" in masked


@pytest.mark.parametrize("address", HARMLESS)
def test_harmless_addresses_stay(address):
    refuse_secrets(address)
    assert without_secrets(f"{address}: there is no such file") == f"{address}: there is no such file"


@pytest.mark.parametrize(
    "name",
    [
        "ticket",
        "hmac",
        "pw",
        "otp",
        "sid",
        "PHPSESSID",
        "code",
        "x-cap",
        "my_cookie",
        "tok%65n",
        "tok%2565n",
        "pass%2577d",
    ],
)
def test_a_short_secret_is_known_by_its_name(name):
    address = f"https://example.org/jets.root?x=1&{name}=hunter2"
    assert "hunter2" not in without_secrets(address)
    with pytest.raises(InputError, match="does not belong in an address"):
        refuse_secrets(address)


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "all_proxy", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
@pytest.mark.parametrize("value", ["me:{}@proxy:3128", "http://me:{}@proxy:3128", "http://{}@proxy"])
def test_passwords_of_the_environment_are_in_no_message(name, value, monkeypatch):
    monkeypatch.setenv(name, value.format("hun%2Fter"))
    for text in (os.environ[name], f"cannot reach {os.environ[name]}", "hun%2Fter", "user 'me', password 'hun/ter'"):
        assert "ter" not in without_secrets(text).replace("…", "")


def test_what_is_on_this_machine():
    here = ["127.0.0.1:8000", "http://localhost:8000/x", "LOCALHOST:1", "grpc://[::1]:8001", "127.1:1", "a.localhost:1",
            "0.0.0.0:1", "http://[::ffff:127.0.0.1]:1/"]  # fmt: skip
    elsewhere = ["10.0.0.1:8000", "https://example.org", "localhost.example.org:1", "s3://localhost", "", "http://[::"]
    assert [address for address in here if not is_loopback(address)] == []
    assert [address for address in elsewhere if is_loopback(address)] == ["s3://localhost"]


def test_own_exceptions_of_the_proxy_stay(monkeypatch):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", ".cern.ch")
    assert direct_environment()["no_proxy"] == ".cern.ch,localhost,127.0.0.1,::1"
    monkeypatch.setenv("no_proxy", direct_environment()["no_proxy"])
    assert direct_environment()["no_proxy"] == ".cern.ch,localhost,127.0.0.1,::1"
    monkeypatch.setenv("no_proxy", "*")
    assert direct_environment()["no_proxy"] == "*"


def test_an_interface_of_a_cluster_on_this_machine_is_not_asked_for_through_a_proxy(cli, tmp_path):
    """What `kubectl port-forward` or a cluster in containers offers: the SDKs know nothing of loopback."""
    pytest.importorskip("kfp", reason="the pipeline's client needs the kubeflow extra")
    with web_server(tmp_path / "proxy") as proxy, web_server(tmp_path / "cluster") as cluster:
        environment = os.environ | {"http_proxy": proxy.url, "no_proxy": "", "HOME": str(tmp_path)}
        done = cli("pipeline", "submit", "--host", cluster.url, check=False, env=environment)
        assert done.returncode == 2
        assert cluster.requests()
        assert proxy.requests() == []


@pytest.mark.parametrize("address", SECRET_ADDRESSES)
def test_every_way_in_refuses_it(address, tmp_path):
    ways = {
        "study": lambda: load_study("smoke", {"data.files": [address]}),
        "url of the study": lambda: load_study("smoke", {"serving.url": address}),
        "endpoint": lambda: load_study("smoke", {"cluster.s3_endpoint": address}),
        "model": lambda: open_predictors(address),
        "client": lambda: TritonPredictor(address.partition("://")[2], "pfn"),
        "TensorBoard": lambda: TensorBoard(address),
        "logs": lambda: TensorBoardLog(address),
        "logs of a notebook": lambda: RunFolder(tmp_path).logs(address),
    }
    for way, enter in ways.items():
        with pytest.raises(InputError) as error:
            enter()
        assert SECRET not in str(error.value), way
        assert "does not belong in an address" in str(error.value), way


def test_settings_that_are_wrong_are_not_repeated():
    with pytest.raises(ValueError, match="files") as error:
        DataSettings(files={"https://me:hunter2@example.org/x": 1})
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_writes_or_prints_it(command, tmp_path):
    address = f"https://me:{SECRET}@data.example.invalid/jets.root?X-Amz-Signature={SECRET}"
    assert secret_that_got_through(command, address, Sandbox(tmp_path)) == []
