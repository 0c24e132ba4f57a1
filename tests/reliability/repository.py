"""Model repositories that somebody has sent: with code, links, pipes, huge files and strange names in them.

`jetcorr correct` and `jetcorr serve` use the network in it as they always do, or refuse the repository in one line;
they run nothing of it, and show nothing that lies outside.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import psutil
from tqdm import tqdm

from jetcorr_utils.config import project_root
from jetcorr_utils.export import add_model
from jetcorr_utils.inference import TritonPredictor
from jetcorr_utils.serving import server_available
from tests.data.conftest import free_port
from tests.networks import exported, some_clouds

from .jobs import CLI, SAMPLE
from .machine import clear, is_root, skipped
from .outputs import arrays_of
from .processes import Process, Sandbox
from .report import Row

__all__ = ["PLANTS", "received_repository"]

HUGE = 3 << 30
"""Bytes of a file with nothing in it, which takes no room on the disk."""
MEMORY = 2.5e9
"""Bytes that the process of a command may hold: as many as none with a good repository does."""
PRIVATE = "what-only-this-account-may-read"
PATIENCE = 600.0
"""Seconds after which a command counts as one that waits for ever."""

Plant = Callable[[Path, Path], None]


def _code(model: Path, outside: Path) -> None:
    for path in (model / "model.py", model / "1" / "model.py", model / "1" / "sitecustomize.py", model / "conftest.py"):
        path.write_text(f"open({str(outside / 'HIT')!r}, 'w')\n", encoding="utf-8")


def _configuration(*lines: str) -> Plant:
    """Lines of a configuration of Triton's that a server would follow."""

    def plant(model: Path, outside: Path) -> None:
        _code(model, outside)
        for path in model.rglob("*.pbtxt"):
            kept = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("backend:")]
            text = "\n".join([*kept, *lines]).replace("OUTSIDE", str(outside))
            path.write_text(f"{text}\n", encoding="utf-8")

    return plant


def _second(make: Callable[[Path, Path], object]) -> Plant:
    """A second version of the network, which would be the newest."""

    def plant(model: Path, outside: Path) -> None:
        (model / "2").mkdir()
        make(model / "2" / "model.onnx", outside)

    return plant


def _weights_elsewhere(path: Path, outside: Path) -> None:
    network = onnx.load(exported("pfn"))
    onnx.external_data_helper.convert_model_to_external_data(network, location="weights", size_threshold=0)
    onnx.save(network, path)
    changed = onnx.load(path, load_external_data=False)
    for tensor in changed.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = os.path.relpath(outside / "private", path.parent)
    path.write_bytes(changed.SerializeToString())


def _huge(path: Path, *_: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(HUGE)


def _scripts(model: Path, outside: Path) -> None:
    for name in ("run.sh", "setup.py", "__init__.py", "1/libcustom.so", "1/triton_python_backend_stub"):
        path = model / name
        path.write_text(f"#!/bin/sh\ntouch {outside / 'HIT'}\n", encoding="utf-8")
        path.chmod(0o755)


def _replace(name: str, make: Callable[[Path], object]) -> Plant:
    """Something else under the name of one of its files."""

    def plant(model: Path, outside: Path) -> None:
        (model / name).unlink()
        make(model / name)

    return plant


PLANTS: dict[str, Plant] = {
    "code beside the network": _code,
    "a backend that runs code": _configuration(
        'backend: "python"', 'parameters { key: "EXECUTION_ENV_PATH" value: { string_value: "OUTSIDE" } }'
    ),
    "libraries to load": _configuration(
        'backend: "onnxruntime"', 'model_operations { op_library_filename: "OUTSIDE/HIT.so" }'
    ),
    "a file outside, by its name": _configuration(
        'backend: "onnxruntime"', 'default_model_filename: "../../../outside/private"'
    ),
    "a link to a file outside": _second(lambda path, outside: path.symlink_to(outside / "private")),
    "a link to a folder outside": lambda model, outside: (model / "2").symlink_to(outside),
    "weights outside": _second(_weights_elsewhere),
    "a pipe for a network": _second(lambda path, outside: os.mkfifo(path)),
    "a pipe for a configuration": _replace("config.pbtxt", os.mkfifo),
    "a huge network": _second(_huge),
    "a huge configuration": _replace("config.pbtxt", _huge),
    "a network of zeros": _second(lambda path, outside: path.write_bytes(bytes(1 << 20))),
    "scripts": _scripts,
    "a name that a shell reads": lambda model, outside: model.rename(model.with_name("x$(touch HIT)")),
}
if is_root():
    PLANTS["a device that never ends"] = _second(
        lambda path, outside: os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    )


def received_repository(command: str, tries: int, seed: int, sandbox: Sandbox) -> Row:
    """Have a command, `correct` or `serve`, use a repository with something in it, each time another."""
    fault = "a repository of somebody"
    if command == "serve" and (reason := server_available()):
        return skipped(fault, command, reason)
    row, cases = Row(fault, command, seed=seed), list(PLANTS)
    random.Random(f"{seed}-{command}-repository").shuffle(cases)
    use = {"correct": _correct, "serve": _serve}[command]
    expected, _ = use(_received(sandbox, lambda model, outside: None), sandbox)
    if expected is None:
        raise RuntimeError(f"{command}: the network alone is refused")
    refused = 0
    for name in tqdm(cases[:tries], desc=f"repository, {command}", unit="case"):
        repository = _received(sandbox, PLANTS[name])
        answer, problems = use(repository, sandbox)
        if answer is None:
            refused += 1
        elif not _same(answer, expected):
            problems.append("other numbers than the network's")
        if hits := [*sandbox.folder.rglob("HIT"), *project_root().glob("HIT")]:
            problems.append(f"code was run: {hits}")
        row.tries += 1
        row.add(wrong=bool(problems))
        row.remember(*(f"{name}: {problem}" for problem in problems))
    row.note = f"of {len(cases)} cases; {refused} refused in one line, of the others the network was used"
    return row


def _received(sandbox: Sandbox, plant: Plant) -> Path:
    """A repository with a good network, and what was planted in it."""
    shutil.rmtree(sandbox.work)
    outside = sandbox.work / "outside"
    outside.mkdir(parents=True)
    (outside / "private").write_text(PRIVATE, encoding="utf-8")
    (outside / "model.onnx").write_text(PRIVATE, encoding="utf-8")
    repository = sandbox.work / "repository"
    add_model(repository, "pfn", exported("pfn"))
    plant(repository / "pfn", outside)
    return repository


Answer = list[bytes] | np.ndarray | None


def _same(one: Answer, other: Answer) -> bool:
    return np.allclose(one, other, rtol=1e-5) if isinstance(one, np.ndarray) else one == other


def _correct(repository: Path, sandbox: Sandbox) -> tuple[Answer, list[str]]:
    """What is written with the networks of a repository, None if they are refused; and what is wrong besides."""
    out = sandbox.work / "out.root"
    process = sandbox.start([*CLI, "correct", SAMPLE, "--model", str(repository), "--out", str(out)])
    problems = _watch(process, lambda: False)
    # The names of columns are those of the network, which may have another name
    return (sorted(arrays_of(out).values()) if process.code == 0 else None), problems


def _serve(repository: Path, sandbox: Sandbox) -> tuple[Answer, list[str]]:
    """What the network of a repository answers on a server, None if it is refused; and what is wrong besides."""
    http, grpc = free_port(), free_port()
    ports = ("--http-port", str(http), "--grpc-port", str(grpc))
    process = sandbox.start([*CLI, "serve", "--repository", str(repository), *ports])
    answer: Answer = None

    def ready() -> bool:
        nonlocal answer
        if "ready: " not in process.said():
            return False
        with TritonPredictor(f"127.0.0.1:{http}", "pfn", shared_memory="off") as predictor:
            answer = np.stack(predictor.predict(some_clouds(20)))
        os.kill(process.pid, signal.SIGINT)
        return True

    problems = _watch(process, ready)
    return answer, problems


def _watch(process: Process, ready: Callable[[], bool]) -> list[str]:
    """Follow a command to its end, or until `ready` has had it end; what is wrong with how it did."""
    problems, end, done, peak = [], time.monotonic() + PATIENCE, False, 0
    while process.code is None and time.monotonic() < end:
        done = done or ready()
        peak = max(peak, _memory(process))
        time.sleep(0.1)
    if not process.ends(1):
        problems.append("it waits for ever")
    elif process.code and not done and not clear(process):
        problems.append(f"unclear: {process.output[-500:]}")
    if PRIVATE in process.output:
        problems.append("it shows a file that lies outside")
    if peak > MEMORY:
        problems.append(f"it took {peak / 1e9:.1f} GB")
    if left := process.left():
        problems.append(f"{len(left)} processes left")
    return problems


def _memory(process: Process) -> int:
    """Bytes that a command's own process holds."""
    with contextlib.suppress(psutil.Error):
        return psutil.Process(process.pid).memory_info().rss
    return 0
