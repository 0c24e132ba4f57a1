"""The server under load: 64 clients at once, then requests at 50 %, 90 % and 120 % of what it can do.

A request is lost if it gets no answer, wrong if the answer is not that of this process; a refusal for overload is
neither, but is counted. Clients and server share the machine's cores.
"""

from __future__ import annotations

import queue
import random
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from tritonclient import http
from tritonclient.utils import InferenceServerException

from jetcorr_utils.config import PfnSettings
from jetcorr_utils.export import add_model, export_model
from jetcorr_utils.inference import OnnxPredictor
from jetcorr_utils.inference.padding import INPUT_NAMES, OUTPUT_NAMES, pad
from jetcorr_utils.models import build_model
from jetcorr_utils.serving import TritonServer, server_available
from tests.networks import some_clouds

from .processes import Sandbox
from .report import Row

__all__ = ["load"]

CLIENTS = 64
JETS = 128
"""Of a request."""
OVERLOAD = ("exceeds maximum queue size", "maximum queue size exceeded", "timeout expired")


@dataclass
class Outcome:
    """What the clients have seen."""

    latencies: list[float] = field(default_factory=list)
    lost: Counter = field(default_factory=Counter)
    wrong: int = 0
    refused: int = 0
    late: int = 0

    def percentiles(self) -> str:
        """Latencies in ms, as text."""
        if not self.latencies:
            return "no answers"
        values = np.percentile(self.latencies, [50, 95, 99]) * 1e3
        return "latency 50/95/99 %: {:.0f}/{:.0f}/{:.0f} ms".format(*values)


class Clients:
    """64 threads with a connection each, which send the same request and know its answer."""

    def __init__(self, url: str, inputs: dict[str, np.ndarray], expected: tuple[np.ndarray, np.ndarray]) -> None:
        self.url, self.expected = url, expected
        self.tensors = []
        for name in INPUT_NAMES:
            tensor = http.InferInput(name, list(inputs[name].shape), "FP32")
            tensor.set_data_from_numpy(inputs[name])
            self.tensors.append(tensor)

    def run(self, seconds: float, rate: float | None, seed: int = 0) -> tuple[Outcome, int]:
        """Send requests for some time: as fast as they are answered, or `rate` a second at random moments.

        Returns
        -------
        Outcome, int
            What was seen, and how many requests were sent.
        """
        outcome, lock, tickets = Outcome(), threading.Lock(), queue.SimpleQueue()
        ready = threading.Barrier(CLIENTS + 1)  # the time counts from when all are connected
        threads = [
            threading.Thread(target=self._client, args=(outcome, lock, tickets if rate else None, ready, seconds))
            for _ in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        ready.wait()
        draw, due = random.Random(seed), time.monotonic()
        end = due + seconds
        while rate and due < end:
            time.sleep(max(0.0, due - time.monotonic()))
            tickets.put(due)
            due += draw.expovariate(rate)
        for _ in threads:
            tickets.put(None)
        for thread in threads:
            thread.join()
        return outcome, len(outcome.latencies) + outcome.refused + outcome.lost.total()

    def _client(
        self, outcome: Outcome, lock: threading.Lock, tickets: queue.SimpleQueue | None, ready: threading.Barrier,
        seconds: float,
    ) -> None:  # fmt: skip
        with http.InferenceServerClient(self.url, connection_timeout=60, network_timeout=60) as client:
            ready.wait()
            end = time.monotonic() + seconds
            while True:
                start = time.monotonic()
                if (tickets is not None and (start := tickets.get()) is None) or (tickets is None and start > end):
                    return
                problem, same = self._ask(client)
                seconds = time.monotonic() - start  # from when the request was due: waiting for a client counts
                with lock:
                    if problem is None:
                        outcome.latencies.append(seconds)
                        outcome.wrong += not same
                    elif any(text in problem.lower() for text in OVERLOAD):
                        outcome.refused += 1
                    else:
                        outcome.lost[problem[:120]] += 1

    def _ask(self, client: http.InferenceServerClient) -> tuple[str | None, bool]:
        try:
            result = client.infer("pfn", self.tensors)
        except InferenceServerException as error:
            return str(error.message()), False
        except Exception as error:
            return f"{type(error).__name__}: {error}", False
        answers = [result.as_numpy(name)[:, 0] for name in OUTPUT_NAMES]
        same = all(np.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(answers, self.expected, strict=True))
        return None, same


def load(seconds: float, seed: int, sandbox: Sandbox) -> list[Row]:
    """Rows for 64 clients at once for `seconds`, and for a fifth of it at each level."""
    if reason := server_available():
        return [Row("load", "server", note=f"not tried: {reason}")]
    clouds = some_clouds(JETS, 1, mean=45)
    path = _model(clouds, sandbox.work)
    add_model(sandbox.work / "repository", "pfn", path)
    inputs = pad(clouds, np.arange(JETS))
    with OnnxPredictor(path) as local:
        expected = local.infer(inputs)
    rows = []
    with TritonServer(sandbox.work / "repository", log=sandbox.folder / "triton.log") as server:
        clients = Clients(server.http_url, inputs, expected)
        clients.run(min(5.0, seconds), None)  # threads, connections and arenas are there after this
        capacity = 0.0
        steps = [("64 clients", seconds, None), *((f"{s:.0%} of capacity", seconds / 5, s) for s in (0.5, 0.9, 1.2))]
        for name, duration, share in tqdm(steps, desc="load", unit="step"):
            before = _memory(server.pid)
            outcome, sent = clients.run(duration, share and share * capacity, seed)
            after = _memory(server.pid)
            capacity = capacity or len(outcome.latencies) / duration
            row = Row(f"load: {name}", "server", sent, outcome.lost.total(), outcome.wrong, seed=seed)
            row.note = (
                f"{duration:.0f} s, {len(outcome.latencies) / duration * JETS:.0f} jets/s, {outcome.percentiles()}, "
                f"{outcome.refused} refused for overload, memory of the server {before:.0f} MB, then {after:.0f} MB"
            )
            row.add(left=after > 1.1 * before + 20)
            row.remember(*(f"{count} × {problem}" for problem, count in outcome.lost.items()))
            row.remember(f"memory grew from {before:.0f} to {after:.0f} MB" if row.left else "")
            rows.append(row)
    return rows


def _model(clouds, folder: Path) -> Path:
    torch.manual_seed(1)
    model = build_model(PfnSettings(architecture="pfn", conv_layers=5, conv_dim=50, fc_layers=3, fc_dim=400))
    model.fit_constants(clouds)
    return export_model(model.eval(), folder / "pfn.onnx", metadata={"name": "pfn"})


def _memory(pid: int) -> float:
    """MB that the server's processes hold, shared pages counted once."""
    session = subprocess.run(["ps", "-o", "sid=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
    members = subprocess.run(["pgrep", "-s", session.strip()], capture_output=True, text=True, check=True).stdout
    total = 0
    for member in members.split():
        lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1e3
