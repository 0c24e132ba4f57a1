"""Katib and Trainer for a search of many trials: each trial is a process that runs its command and can be killed.

The processes are forked from one that has imported what they need, since thirty imports would take minutes.
"""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
import uuid
from multiprocessing.process import BaseProcess
from pathlib import Path

from jetcorr_utils.kubeflow.manifests.experiment import METRICS_FILE
from jetcorr_utils.tuning.trial import RECORD
from tests.kubeflow.fake_api import FakeApi, Resource
from tests.kubeflow.operators import condition, draw

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["jetcorr_utils.cli", "jetcorr_utils.tuning.katib_trial", "tests.kubeflow.katib"])


def _run(arguments: list[str]) -> None:
    """The command of a pod."""
    from jetcorr_utils.cli import main

    main(arguments)


class Katib:
    """The operators, and what they have seen.

    Attributes
    ----------
    started
        The names of the trials that were started.
    evict
        When it is set, one of the trials that run is lost.
    allowed
        How many trials may have been started: a test that has more to do first can hold back the others.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.started, self.evicted = folder, [], []
        self.evict, self.allowed = threading.Event(), 1_000_000

    def train_job(self, api: FakeApi, resource: Resource) -> None:
        """Run the command of a job on one node."""
        name = resource["metadata"]["name"]
        process = self._start(resource["spec"]["trainer"]["command"])
        process.join()
        kind = condition("Failed", reason="JobFailed") if process.exitcode else condition("Complete")
        api.set_status("trainjobs", name, conditions=[kind])

    def experiment(self, api: FakeApi, resource: Resource) -> None:
        """Run an experiment's trials until all have ended, or it is removed."""
        spec, metadata = resource["spec"], resource["metadata"]
        generator = random.Random(spec["algorithm"]["algorithmSettings"][0]["value"])
        running: dict[str, BaseProcess] = {}
        left, succeeded, failed = spec["maxTrialCount"], 0, 0
        while left or running:
            there = api.resources.get(("experiments", metadata["name"]))
            if there is None or there["metadata"]["uid"] != metadata["uid"] or not api.running:
                break
            if self.evict.is_set() and running:
                name, process = next(iter(running.items()))
                process.kill()
                process.join()
                if not any(self.folder.rglob(f"{name}/{RECORD}")):  # one that has left its record has ended
                    self.evicted.append(name)
                    self.evict.clear()
            for name, process in list(running.items()):
                if not process.is_alive():
                    process.join()
                    succeeded, failed = succeeded + (not process.exitcode), failed + bool(process.exitcode)
                    del running[name]
            while left and len(running) < spec["parallelTrialCount"] and len(self.started) < self.allowed:
                left -= 1
                name = f"{metadata['name']}-{uuid.uuid4().hex[:8]}"
                running[name] = self._start(self._command(spec, name, generator))
                self.started.append(name)
            counts = {"trialsSucceeded": succeeded, "trialsFailed": failed, "trialsRunning": len(running)}
            api.set_status("experiments", metadata["name"], trials=succeeded + failed + len(running), **counts)
            time.sleep(0.05)
        for process in running.values():
            process.kill()  # what it owned goes with it
            process.join()
        if not running:
            api.set_status("experiments", metadata["name"], conditions=[condition("Succeeded")])

    def _command(self, spec: Resource, name: str, generator: random.Random) -> list[str]:
        template = spec["trialTemplate"]
        values = {p["name"]: draw(generator, p) for p in spec["parameters"]} | {"${trialSpec.Name}": name}
        words = list(template["trialSpec"]["spec"]["trainer"]["command"])
        for parameter in template["trialParameters"]:
            placeholder = "${trialParameters." + parameter["name"] + "}"
            words = [word.replace(placeholder, values[parameter["reference"]]) for word in words]
        return [word.replace(METRICS_FILE, str(self.folder / f"{name}.log")) for word in words]

    def _start(self, command: list[str]) -> BaseProcess:
        assert command[0] == "jetcorr"
        process = CONTEXT.Process(target=_run, args=(command[1:],), daemon=True)
        process.start()
        return process
