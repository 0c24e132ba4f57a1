"""The compiled pipeline on this machine, by the local runner of the Kubeflow Pipelines SDK.

Each step runs as it would in its pod (the same command, a process and a Jupyter kernel of its own), but in this
environment instead of a container.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import yaml

from ..config import load_study
from ..errors import InputError, JetcorrError
from ..files import Lock
from ..run import NOTEBOOKS, RunFolder
from .parameters import check_parameters
from .steps import CALLER

__all__ = ["PipelineError", "run_local"]


class PipelineError(JetcorrError):
    """A step of the pipeline failed."""


def run_local(pipeline: Path, study: str, run_dir: str | Path, data_dir: str = "", backend: str = "local") -> RunFolder:
    """Run a compiled pipeline to its end.

    Parameters
    ----------
    pipeline
        The compiled pipeline.
    study, run_dir, data_dir, backend
        Its parameters.

    Returns
    -------
    RunFolder
        The run's folder; the steps' artefacts lie beside it, in ``<run folder>.pipeline``.

    Raises
    ------
    InputError
        If a parameter is refused, or another pipeline runs on this machine: Kale's steps share a folder in /tmp.
    PipelineError
        If a step fails. The message names the notebook and its error; a further call goes on from there.
    """
    from kfp import components, local

    run_dir = str(Path(run_dir).absolute())
    study = str(Path(study).resolve()) if Path(study).is_file() else study  # the steps have folders of their own
    check_parameters(study, run_dir, data_dir, backend)
    load_study(study)
    run, artefacts = RunFolder(run_dir), Path(f"{run_dir}.pipeline")
    with _alone(), _surroundings(Path(tempfile.gettempdir()) / f"jetcorr-pipeline-{os.getuid()}"):
        runner = local.SubprocessRunner(use_venv=False)
        local.init(runner=runner, pipeline_root=str(artefacts), raise_on_error=True)
        component = components.load_component_from_text(_without_retries(pipeline.read_text(encoding="utf-8")))
        try:
            component(study=study, run_dir=run_dir, data_dir=data_dir, backend=backend)
        except RuntimeError as error:
            raise PipelineError(_explain(run) or f"the pipeline failed: {error}") from None
    return run


def _without_retries(compiled: str) -> str:
    """The pipeline without its retries, which are for pods that are lost: here a failure would only be repeated."""
    documents = list(yaml.safe_load_all(compiled))
    for task in documents[0]["root"]["dag"]["tasks"].values():
        task.pop("retryPolicy", None)
    return yaml.safe_dump_all(documents)


def _explain(run: RunFolder) -> str | None:
    """Which notebook stopped at which error, from the executed notebooks; None if none of them did."""
    for name in NOTEBOOKS.values():
        path = run.notebooks / f"{name}.ipynb"
        if not path.is_file():
            continue
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                if output.output_type == "error":
                    return (
                        f"the step of notebook {name} failed: {output.ename}: {output.evalue}\n"
                        f"  the executed notebook with the error: {path}"
                    )
    return None


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    lock = Lock("/tmp/jetcorr-pipeline.lock", "pipeline")
    if not lock.acquire(wait=False):
        raise InputError("another pipeline runs on this machine: wait for it, the steps share /tmp/marshal")
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _surroundings(temporary: Path) -> Iterator[None]:
    """Let the steps' command `python3` be this interpreter, and `temporary` hold what KFP and Kale leave behind.

    In it lies the lock that tells the steps that this process lives; should it be killed, they end as well. The path is
    short and does not change: the kernels and workers make sockets there, whose paths may have 107 characters, and what
    a killed pipeline has left is removed by the next one.
    """
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    before, tempfile.tempdir = (dict(os.environ), tempfile.tempdir), str(temporary)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    os.environ["TMPDIR"] = str(temporary)
    os.environ[CALLER] = str(temporary / "caller.lock")
    try:
        with Lock(os.environ[CALLER], "pipeline"):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before[0])
        tempfile.tempdir = before[1]
        shutil.rmtree(temporary, ignore_errors=True)
