"""What another account of the machine can do while a run, a server or JupyterLab works: it looks again and again.

It must find no temporary file that it can read or enter, no file that it can write, no memory, no port or socket that
answers it with more than a refusal, and no secret in the list of processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from jetcorr_utils.export import add_model
from jetcorr_utils.serving import server_available
from tests.data.conftest import free_port
from tests.lab import recipe
from tests.networks import exported
from tests.planted import SECRETS

from .jobs import JOBS
from .machine import is_root, skipped
from .processes import Process, Sandbox
from .report import Row

__all__ = ["SCENES", "another_account", "as_nobody", "look"]

SHARED_MEMORY = Path("/dev/shm")
PAUSE = 0.5
"""Seconds between two looks."""
PATIENCE = 1800.0
"""Seconds after which no more is looked."""
KEYS = {name: value for name, value in SECRETS.items() if name != "JUPYTER_TOKEN"}
"""What nobody may see; JupyterLab makes a token of its own."""
LOOK = """
    import concurrent.futures, http.client, json, os, socket, stat, sys
    told = json.loads(sys.stdin.read())
    found = []
    assert os.access(told["work"], os.R_OK), "it has no way to there, and would find nothing whatever there is"

    def look(place, readable):
        for path in [place] if not os.path.isdir(place) else walk(place):
            try:
                kind = os.lstat(path).st_mode
            except OSError:
                continue
            if stat.S_ISLNK(kind):
                continue
            if readable and path != place and os.access(path, os.R_OK):
                found.append("reads " + path)
            if path != place and os.access(path, os.W_OK):
                found.append("writes " + path)

    def walk(place):
        for folder, folders, files in os.walk(place):
            yield from (os.path.join(folder, name) for name in folders + files)

    look(told["temporary"], True)
    look(told["work"], False)
    for path in told["memory"]:
        if os.access(path, os.R_OK) or os.access(path, os.W_OK):
            found.append("opens " + path)
    for name in told["abstract"]:
        with socket.socket(socket.AF_UNIX) as one:
            try:
                one.connect("\\0" + name)
                found.append("connects to @" + name)
            except OSError:
                pass
    def ask(port):
        for method, path in told["requests"]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
            try:
                connection.request(method, path, "{}" if method == "POST" else None)
                answer = connection.getresponse()
                if answer.status < 300 and answer.read(1):  # the port of metrics has nothing to say to any of these
                    found.append(f"gets {answer.status} for {method} {path}")
            except TimeoutError:
                break  # it speaks no HTTP
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
        # A kernel's, which speaks ZMTP: its greeting names how it knows whom it talks to, the next what it is for. One
        # that only pulls tells nothing; ipykernel's takes what begins with a number that its own processes know.
        with socket.socket() as one:
            one.settimeout(3)
            try:
                one.connect(("127.0.0.1", port))
                one.sendall(b"\\xff" + bytes(8) + b"\\x7f" + b"\\x03\\x01" + b"NULL".ljust(20, b"\\0") + bytes(32))
                answer = b""
                while len(answer) < 100 and (part := one.recv(256)):
                    answer += part
                if answer[:1] == b"\\xff" and answer[12:16] == b"NULL" and b"PULL" not in answer[64:]:
                    found.append("hears a kernel")
            except OSError:
                pass

    with concurrent.futures.ThreadPoolExecutor(16) as threads:  # most ports let one wait
        list(threads.map(ask, told["ports"]))
    for process in told["processes"]:
        for name in ("cmdline", "environ"):
            try:
                text = open(f"/proc/{process}/{name}", errors="replace").read()
            except OSError:
                continue
            found += ["a secret in " + name for secret in told["secrets"] if secret[::-1] in text]
    print(json.dumps(found))
"""
REQUESTS = [
    ("GET", "/"), ("GET", "/v2/health/ready"), ("GET", "/v2/models/stats"), ("POST", "/v2/repository/index"),
    ("GET", "/api/kernels"), ("POST", "/api/kernels"), ("GET", "/api/contents"), ("GET", "/data/environment"),
]  # fmt: skip
"""What servers of Triton, Jupyter and TensorBoard are asked for."""


def as_nobody(code: str, *arguments: object, told: str = "") -> str:
    """What a Python program of another account prints; it has the standard library only, and `told` as its input."""
    base = next(path for path in ("/usr/bin/python3", sys._base_executable) if Path(path).exists())
    done = subprocess.run(
        [base, "-I", "-c", textwrap.dedent(code), *map(str, arguments)], capture_output=True, text=True, check=False,
        user=pwd.getpwnam("nobody").pw_uid, group=pwd.getpwnam("nobody").pw_gid, extra_groups=[], cwd="/", input=told,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


SERVE = """
import sys, time
import numpy as np
from jetcorr_utils.serving import open_service
from tests.networks import some_clouds

with open_service(sys.argv[1]) as service:
    assert service.server is not None, service.text
    while True:
        assert np.isfinite(service.predictors["pfn"].predict(some_clouds(500))).all()
        time.sleep(0.2)
"""


@dataclass(frozen=True)
class Scene:
    """Something that works while the other account looks.

    Attributes
    ----------
    command
        Makes the arguments of python, for a sandbox.
    ports
        On how many it must listen before it counts that somebody has looked; 0 for what ends by itself.
    why_not
        Why it cannot be here, if so.
    """

    command: Callable[[Sandbox], list[str]]
    ports: int = 0
    why_not: Callable[[], str | None] = lambda: None


def _serve(sandbox: Sandbox) -> list[str]:
    add_model(sandbox.work / "repository", "pfn", exported("pfn"))
    return ["-c", SERVE, str(sandbox.work / "repository")]


KERNEL = """
import contextlib, json, re, subprocess, sys, time, urllib.request

log = open(sys.argv[1], "w+")
with subprocess.Popen(sys.argv[2:], stdout=log, stderr=log) as lab:
    with contextlib.ExitStack() as stack:
        stack.callback(lab.terminate)
        while not (token := re.search(r"token=([0-9a-f]{40,})", open(sys.argv[1]).read())):
            time.sleep(0.2)
        url = re.search(r"http://127[^ ]*:[0-9]+", open(sys.argv[1]).read())[0]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        head = {"Authorization": "token " + token[1], "Content-Type": "application/json"}
        opener.open(urllib.request.Request(url + "/api/kernels", b"{}", head)).read()
        lab.wait()
"""


def _lab(sandbox: Sandbox) -> list[str]:
    more = ["--no-browser", f"--port={free_port()}", "--allow-root"]
    return ["-c", KERNEL, str(sandbox.work / "home" / "lab.log"), *recipe(), *more]


SCENES = {
    "run": Scene(lambda sandbox: JOBS["run"].arguments(sandbox.work)),
    "server": Scene(_serve, ports=3, why_not=server_available),
    "lab": Scene(_lab, ports=6),
}
"""A batch run, the server of a notebook, and JupyterLab with a kernel."""


def another_account(scene: str, tries: int, seed: int, sandbox: Sandbox) -> Row:
    """Have another account look so many times while something works; for a run, until it ends if that is later."""
    fault = "another account looks"
    if not is_root():
        return skipped(fault, scene, "only root can be somebody else")
    if reason := SCENES[scene].why_not():
        return skipped(fault, scene, reason)
    for folder, mode in ((sandbox.folder, 0o755), (sandbox.work, 0o755), (sandbox.temporary, 0o1777)):
        folder.chmod(mode)
    (home := sandbox.work / "home").mkdir(mode=0o700)
    old, end = set(SHARED_MEMORY.iterdir()), time.monotonic() + PATIENCE
    command = SCENES[scene].command(sandbox)
    row, found, ports = Row(fault, scene, seed=seed), Counter[str](), Counter[int]()
    process = sandbox.start(command, variables=KEYS | {"HOME": str(home)})
    while process.code is None and time.monotonic() < end and (row.tries < tries or SCENES[scene].ports == 0):
        told = _surroundings(process, sandbox, old)
        if len(told["ports"]) < SCENES[scene].ports:
            time.sleep(PAUSE)
            continue
        seen = look(told)
        row.tries += 1
        row.add(wrong=bool(seen))
        found.update(seen)
        ports.update(told["ports"])
        time.sleep(PAUSE)
    worked = (code := process.code) in (None, 0)
    if code is None:
        os.kill(process.pid, signal.SIGINT)
    process.ends(PATIENCE)
    row.add(lost=not (worked and row.tries), left=bool(process.left()))
    row.remember("" if worked else f"it ended by itself: {process.output[-600:]}")
    row.remember(*(f"{what}: {count} times" for what, count in found.items()))
    row.note = f"{len(ports)} ports were open"
    return row


def look(told: dict[str, object]) -> list[str]:
    """What another account finds that it should not, of what it is told there is (see `_surroundings`)."""
    return json.loads(as_nobody(LOOK, told=json.dumps(told)))


def _surroundings(process: Process, sandbox: Sandbox, old: set[Path]) -> dict[str, object]:
    """What there is of a command for another account to look at."""
    family, ports, abstract = process.family(), set(), set()
    for pid in family:
        with contextlib.suppress(psutil.Error):
            for connection in psutil.Process(pid).net_connections("all"):
                if connection.status == psutil.CONN_LISTEN:
                    ports.add(connection.laddr.port)
                elif isinstance(connection.laddr, str) and connection.laddr.startswith(("@", "\0")):
                    abstract.add(connection.laddr[1:])
    memory = [str(path) for path in SHARED_MEMORY.iterdir() if path not in old]
    return {
        "temporary": str(sandbox.temporary), "work": str(sandbox.work), "memory": memory, "ports": sorted(ports),
        "abstract": sorted(abstract), "requests": REQUESTS, "processes": family,
        "secrets": [value[::-1] for value in KEYS.values()],
    }  # fmt: skip
