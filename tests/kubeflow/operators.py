"""What the operators of a cluster do with our resources, done on this machine: their commands are run as spelled.

Only what a machine has and a pod has not is filled in: Katib's placeholders, the collector's file of each trial, and
the ports and folders of a server.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jetcorr_utils.config import project_root
from jetcorr_utils.kubeflow.manifests.experiment import METRICS_FILE
from jetcorr_utils.kubeflow.manifests.inference import MODELS
from jetcorr_utils.serving import TritonServer

Resource = dict[str, Any]

#: the pattern of Katib's collector for files in the format TEXT (katib, pkg/metricscollector/v1beta1/common/const.go)
COLLECTOR_PATTERN = re.compile(r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)")


def read_metrics(path: Path) -> dict[str, float]:
    """The last value of each metric in a metrics file, read as Katib's collector does."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = (match for line in lines for match in COLLECTOR_PATTERN.finditer(line))
    return {match[1]: float(match[2]) for match in found if match[2]}


def environment(**variables: object) -> dict[str, str]:
    """The variables of a pod: the programs of this environment first, a home that can be written."""
    known = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(project_root())}
    return known | {"HOME": "/tmp", "OMP_NUM_THREADS": "1"} | {key: str(v) for key, v in variables.items()}


def condition(kind: str, **more: str) -> Resource:
    """A condition of a status that holds."""
    return {"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z", "message": "", **more}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class TrainJob:
    """The nodes of a TrainJob, started as Kubeflow Trainer's plugin for torch starts them.

    It gives each node the number of nodes and of processes, its own number, and the address of the first one
    (kubeflow/trainer, pkg/runtime/framework/plugins/torch/torch.go).
    """

    def __init__(self, job: Resource, logs: Path) -> None:
        trainer = job["spec"]["trainer"]
        self.command, self.nodes, self.logs = trainer["command"], trainer["numNodes"], logs
        self._shared = {
            "PET_NNODES": trainer["numNodes"], "PET_NPROC_PER_NODE": trainer["numProcPerNode"],
            "PET_MASTER_ADDR": "127.0.0.1",
        }  # fmt: skip
        self.processes: list[subprocess.Popen] = []

    def start(self) -> None:
        """Start all nodes."""
        port = free_port()
        for node in range(self.nodes):
            variables = environment(**self._shared, PET_NODE_RANK=node, PET_MASTER_PORT=port)
            with (self.logs / f"node-{node}.log").open("ab") as log:
                self.processes.append(
                    subprocess.Popen(
                        self.command, env=variables, cwd=project_root(), stdout=log, stderr=log, start_new_session=True
                    )
                )

    def wait(self) -> list[int]:
        """The exit codes of the nodes."""
        return [process.wait(600) for process in self.processes]

    def kill(self) -> None:
        """Kill every process of every node, as a node that is lost does."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes.clear()


@dataclass(frozen=True)
class Trial:
    """What Katib knows of a trial: its name, its parameters, its exit code and what its collector has read."""

    name: str
    parameters: dict[str, str]
    returncode: int
    metrics: dict[str, float]


def run_experiment(experiment: Resource, folder: Path, on_trial: Callable[[Trial], None] = print) -> list[Trial]:
    """Run an experiment: random draws, as many trials at a time as it says, metrics read by the collector's rule."""
    spec, name = experiment["spec"], experiment["metadata"]["name"]
    generator = random.Random(spec["algorithm"]["algorithmSettings"][0]["value"])
    draws = [{p["name"]: draw(generator, p) for p in spec["parameters"]} for _ in range(spec["maxTrialCount"])]

    def run(number: int) -> Trial:
        trial = _run_trial(spec["trialTemplate"], f"{name}-{number:02d}", draws[number], folder)
        on_trial(trial)
        return trial

    with ThreadPoolExecutor(spec["parallelTrialCount"]) as pool:
        return list(pool.map(run, range(len(draws))))


def best_trial(experiment: Resource, trials: list[Trial]) -> Trial:
    """The trial that Katib would call optimal."""
    objective = experiment["spec"]["objective"]
    sign = {"minimize": 1, "maximize": -1}[objective["type"]]
    return min(trials, key=lambda trial: sign * trial.metrics[objective["objectiveMetricName"]])


def draw(generator: random.Random, parameter: Resource) -> str:
    """One value by the parameter's published type and range, as Katib's random suggestion service draws it."""
    space = parameter["feasibleSpace"]
    if "list" in space:
        return generator.choice(space["list"])
    low, high = float(space["min"]), float(space["max"])
    if parameter["parameterType"] == "int":
        return str(generator.randint(int(low), int(high)))
    if space.get("distribution") == "logUniform":
        return str(low * (high / low) ** generator.random())
    return str(generator.uniform(low, high))


def _run_trial(template: Resource, name: str, parameters: dict[str, str], folder: Path) -> Trial:
    line = " ".join(template["trialSpec"]["spec"]["trainer"]["command"])
    values = {**parameters, "${trialSpec.Name}": name}
    for parameter in template["trialParameters"]:
        line = line.replace("${trialParameters." + parameter["name"] + "}", values[parameter["reference"]])
    assert "${" not in line
    metrics = folder / f"{name}.log"
    line = line.replace(METRICS_FILE, str(metrics))  # a pod has a folder of its own, which no other trial sees
    done = subprocess.run(["sh", "-c", line], cwd=project_root(), env=environment(), capture_output=True, text=True)
    print(done.stderr[-2000:], file=sys.stderr)
    return Trial(name, parameters, done.returncode, read_metrics(metrics) if metrics.exists() else {})


class ServedByRuntime(TritonServer):
    """Triton with the arguments of a ServingRuntime; of its own it has the backend, the ports and the model folder."""

    def __init__(self, runtime: Resource, repository: Path, log: Path) -> None:
        super().__init__(repository, log=log)
        (container,) = runtime["spec"]["containers"]
        self.arguments = container["args"]

    def _arguments(self, models: Path, backends: Path, prefix: str) -> list[str]:
        ours = super()._arguments(models, backends, prefix)
        assert self.arguments[0] == "tritonserver"
        filled = {
            f"--model-store={MODELS}": f"--model-store={models}",
            "--http-port=8080": f"--http-port={self.http_url.rpartition(':')[2]}",
            "--grpc-port=9000": f"--grpc-port={self.grpc_url.rpartition(':')[2]}",
        }
        machine = ("--backend-directory", "--model-config-name", "--backend-config", "--metrics-port", "--http-address",
                   "--grpc-address", "--metrics-address")  # fmt: skip
        arguments = [filled.pop(argument, argument) for argument in self.arguments[1:]]
        assert not filled, f"not in the runtime: {', '.join(filled)}"
        return [*arguments, *(argument for argument in ours if argument.startswith(machine))]


@contextlib.contextmanager
def served(runtime: Resource, repository: Path, log: Path) -> Iterator[ServedByRuntime]:
    """Triton as the ServingRuntime starts it, on a model folder."""
    with ServedByRuntime(runtime, repository, log) as server:
        yield server
