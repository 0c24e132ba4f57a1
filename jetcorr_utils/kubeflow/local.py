"""The compiled pipeline on this machine, by the local runner of the Kubeflow Pipelines SDK.

Each step runs as it would in its pod (the same command, a process and a Jupyter kernel of its own), but in this
environment instead of a container.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import yaml

from ..config import load_study, study_path
from ..data.locations import anchored
from ..errors import JetcorrError
from ..files import Lock, scratch_folder, write_text
from ..notebooks import NOTEBOOKS
from ..plain_yaml import dump_yaml
from ..run import RunFolder
from .pipeline import read_pipeline
from .pipeline_parameters import check_parameters
from .pipeline_step import CALLER

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
        If a parameter is refused, or the file is no compiled pipeline.
    PipelineError
        If a step fails. The message names the notebook and its error; a further call goes on from there.
    """
    from kfp import components, local

    run_dir = str(Path(run_dir).absolute())
    if study_path(study) == Path(study):
        study = str(Path(study).resolve())  # the steps have folders of their own
    check_parameters(study, run_dir, data_dir, backend)
    text, settings = _without_retries(pipeline), load_study(study)
    run, artefacts = RunFolder(run_dir), Path(f"{run_dir}.pipeline")
    if (data := anchored(settings.data)) != settings.data:  # steps have folders of their own
        study = str(artefacts / "study.yaml")
        artefacts.mkdir(parents=True, exist_ok=True)
        write_text(study, dump_yaml(settings.model_copy(update={"data": data}).model_dump(mode="json")))
    with _surroundings():
        runner = local.SubprocessRunner(use_venv=False)
        local.init(runner=runner, pipeline_root=str(artefacts), raise_on_error=True)
        component = components.load_component_from_text(text)
        try:
            component(study=study, run_dir=run_dir, data_dir=data_dir, backend=backend)
        except RuntimeError as error:
            raise PipelineError(
                _explain(run) or f"the pipeline failed, see above what its step says: {error}"
            ) from None
    return run


def _without_retries(compiled: Path) -> str:
    """The pipeline without its retries, which are for pods that are lost: here a failure would only be repeated."""
    documents = read_pipeline(compiled)
    for task in documents[0]["root"]["dag"]["tasks"].values():
        task.pop("retryPolicy", None)
    return yaml.safe_dump_all(documents)


def _explain(run: RunFolder) -> str | None:
    """Which notebook stopped at which error, from the executed notebooks; None if none of them did."""
    for notebook in NOTEBOOKS.values():
        path = run.notebooks / notebook.path.name
        if not path.is_file():
            continue
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                if output.output_type == "error":
                    return (
                        f"the step of notebook {notebook.name} failed: {output.ename}: {output.evalue}\n"
                        f"  the executed notebook with the error: {path}"
                    )
    return None


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """Make this interpreter the steps' command and kernel `python3`, and keep their temporary files private.

    In it lies the lock that tells the steps that this process lives; should it be killed, they end as well. The path is
    short, because the kernels and workers make sockets there, whose paths may have 107 characters.
    """
    with scratch_folder() as temporary:
        before, tempfile.tempdir = (dict(os.environ), tempfile.tempdir), str(temporary)
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        os.environ["TMPDIR"] = str(temporary)
        if "PYTHONPATH" in before[0]:  # ipykernel takes its first entry away where that is the current folder
            os.environ["PYTHONPATH"] = os.pathsep.join([str(temporary / "none"), before[0]["PYTHONPATH"]])
        os.environ.pop("JUPYTER_PATH", None)  # where another kernel python3 would come first
        os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
        os.environ["IPYTHONDIR"] = str(temporary / "ipython")  # no start-up files of the user's
        os.environ[CALLER] = str(temporary / "caller.lock")
        try:
            with Lock(os.environ[CALLER], "pipeline"):
                yield
        finally:
            os.environ.clear()
            os.environ.update(before[0])
            tempfile.tempdir = before[1]
