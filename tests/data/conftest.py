"""Small JetNTuple files, and real servers for files at a distance."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from jetcorr_utils.jets.columns import BRANCHES, JETS, PARTICLES, counter_name


def make_jets(jets: int = 60, seed: int = 0, *, run: int = 1) -> dict[str, ak.Array | np.ndarray]:
    """Branches of a JetNTuple with random but possible values, three jets an event."""
    rng = np.random.default_rng(seed)
    columns: dict[str, ak.Array | np.ndarray] = {
        name: (rng.uniform(0, 1, jets) if column.dtype == "float32" else rng.integers(0, 3, jets)).astype(column.dtype)
        for name, column in JETS.items()
    }
    gen_pt = rng.uniform(60, 500, jets)
    columns |= {
        "run": np.full(jets, run, dtype=np.int32), "lumi": np.ones(jets, dtype=np.int32),
        "event": (np.arange(jets) // 3 + 1000 * seed).astype(np.uint64),
        "jetPtOrder": (np.arange(jets) % 3).astype(np.int32),
        "jetEta": rng.uniform(-2.4, 2.4, jets).astype(np.float32), "genJetPt": gen_pt.astype(np.float32),
        "genJetEta": rng.uniform(-2.4, 2.4, jets).astype(np.float32),
        "jetPt": (gen_pt * rng.normal(1, 0.05, jets)).astype(np.float32),
        "jetRawPt": (gen_pt * rng.normal(0.9, 0.05, jets)).astype(np.float32),
        "partonFlav": rng.choice([1, -2, 3, 21], jets).astype(np.int32),
        "hadronFlav": rng.choice([0, 0, 4, 5], jets).astype(np.int32),
    }  # fmt: skip
    counts = rng.integers(1, 12, jets)
    size = int(counts.sum())
    particles = {
        name: rng.uniform(0.5, 20, size) if name == "PF_pT" else rng.uniform(0, 0.4, size)
        for name, column in PARTICLES.items()
        if name in BRANCHES or not column.fill
    }
    particles |= {
        "PF_id": rng.choice([211, -211, 22, 130], size), "PF_fromPV": rng.choice([1, 2, 3], size),
        "PF_fromAK4Jet": rng.choice([0, 1, 1], size),
    }  # fmt: skip
    particles["PF_fromAK4Jet"][np.cumsum(counts) - 1] = 1  # each jet has a particle of its own
    for name, values in particles.items():
        columns[name] = ak.unflatten(values.astype(PARTICLES[name].dtype), counts)
    return columns


def write_jets(path: Path, columns: dict[str, ak.Array | np.ndarray], tree: str = "AK4jets/jetTree") -> Path:
    """Write branches as a JetNTuple, arrays with their counters."""
    types = {name: ak.type(ak.Array(values)).content for name, values in columns.items()}
    with uproot.recreate(path) as file:
        file.mktree(tree, types, counter_name=counter_name).extend(columns)
    return path


@pytest.fixture
def ntuple(tmp_path) -> Callable[..., Path]:
    """Write a small JetNTuple: `ntuple("a.root", jets=60, seed=0, jetPt=…)`; a branch given as None is left out."""

    def make(
        name: str = "jets.root", *, jets: int = 60, seed: int = 0, tree: str = "AK4jets/jetTree", **changes
    ) -> Path:
        columns = make_jets(jets, seed) | changes
        return write_jets(tmp_path / name, {key: values for key, values in columns.items() if values is not None}, tree)

    return make


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A server process on loopback that can be killed and started again on the same port."""

    def __init__(self, command: Callable[[int], list[str]], log: Path, env: dict[str, str] | None = None) -> None:
        self.port, self.log, self.env = free_port(), log, {**os.environ, **(env or {})}
        self.command = command(self.port)
        self.start()

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=self.env, start_new_session=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.command[0]} ended: {self.log.read_text()[-2000:]}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"{self.command[0]} does not listen: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def s3_server(log: Path, objects: int = 1) -> Server:
    """moto's S3 server, which checks signatures after the requests that `fill_bucket` makes for so many objects."""
    pytest.importorskip("boto3", reason="the S3 server needs moto[server]")
    pytest.importorskip("moto.server", reason="the S3 server needs moto[server]")
    command = lambda port: [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]  # noqa: E731
    return Server(command, log, {"INITIAL_NO_AUTH_ACTION_COUNT": str(4 + objects)})


def fill_bucket(server: Server, objects: Mapping[str, bytes]) -> dict[str, str]:
    """Put objects into the bucket ``jets``; returns the variables of a user who may read it."""
    import boto3

    url = f"http://127.0.0.1:{server.port}"
    setup = {"endpoint_url": url, "region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "a"}
    iam, s3 = boto3.client("iam", **setup), boto3.client("s3", **setup)
    allowed = {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": allowed})
    iam.create_user(UserName="reader")
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=policy)
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    s3.create_bucket(Bucket="jets")
    for name, content in objects.items():
        s3.put_object(Bucket="jets", Key=name, Body=content)
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }


@pytest.fixture
def s3(tmp_path, monkeypatch) -> Iterator[Server]:
    """moto's S3 server, which checks signatures; the environment has the credentials of a user who may read.

    `s3.put(path)` uploads a file and returns its URL; it works again after `s3.kill()` and `s3.start()`.
    """
    pytest.importorskip("s3fs", reason="s3:// needs s3fs")
    server = s3_server(tmp_path / "s3.log")
    url = f"http://127.0.0.1:{server.port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    def put(path: Path) -> str:
        for name, value in fill_bucket(server, {path.name: path.read_bytes()}).items():
            monkeypatch.setenv(name, value)
        return f"s3://jets/{path.name}"

    server.put = put
    yield server
    server.kill()


@pytest.fixture
def xrootd(tmp_path) -> Iterator[Server]:
    """Debian's XRootD server on a folder of its own; `xrootd.put(path)` copies a file there and returns its URL."""
    program = shutil.which("xrootd")
    if program is None:
        pytest.skip("no program xrootd: install Debian's xrootd-server")
    pytest.importorskip("fsspec_xrootd", reason="root:// needs fsspec-xrootd")
    with tempfile.TemporaryDirectory(prefix="xrootd-") as place:  # pytest's own folders are closed to other users
        folder = Path(place)
        store = folder / "served" / "store"
        store.mkdir(parents=True)
        settings = folder / "xrootd.cfg"
        settings.write_text(
            f"all.export /\noss.localroot {folder / 'served'}\nall.adminpath {folder}\nall.pidpath {folder}\n"
        )
        command = [program, "-c", str(settings), "-I", "v4"]
        if getpass.getuser() == "root":  # it refuses to serve as root
            for path in (folder, store.parent, store, settings):
                shutil.chown(path, "nobody")
            command += ["-R", "nobody"]
        server = Server(lambda port: [*command, "-p", str(port)], tmp_path / "xrootd.log")

        def put(path: Path) -> str:
            shutil.copy(path, store / path.name)
            (store / path.name).chmod(0o644)
            return f"root://127.0.0.1:{server.port}//store/{path.name}"

        server.put = put
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture
def http(tmp_path) -> Iterator[Server]:
    """Python's web server, which knows no ranges; `http.put(path)` copies a file there and returns its URL."""
    served = tmp_path / "www"
    served.mkdir()

    def command(port: int) -> list[str]:
        return [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(served), str(port)]

    server = Server(command, tmp_path / "http.log")

    def put(path: Path) -> str:
        shutil.copy(path, served / path.name)
        return f"http://127.0.0.1:{server.port}/{path.name}"

    server.put = put
    yield server
    server.kill()
