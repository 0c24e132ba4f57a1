"""What a step of the pipeline does: execute its numbered notebook, and hand on what it has recorded.

The cells of pipelines/jetcorr_pipeline.ipynb call `run_step` and nothing else.
"""

from __future__ import annotations

import contextlib
import html
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from ..batch import run_notebook
from ..config import load_study
from ..data import load_clouds
from ..errors import InputError
from ..files import Lock, read_json
from ..notebooks import NOTEBOOKS
from ..report import page, write_report
from ..run import RunFolder
from .pipeline_parameters import check_parameters
from .registry import figures_of, register_models
from .sharing import share_with_group

__all__ = ["CALLER", "headline", "run_step"]

CALLER = "JETCORR_PIPELINE_CALLER"
"""Where a pipeline runs on one machine: the lock that the process which started the steps holds as long as it lives."""
GRACE = 10.0  # seconds that a step has to end when that is gone


def run_step(
    number: str,
    study: str,
    run_dir: str,
    data_dir: str = "",
    backend: str = "local",
    *,
    after: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Execute one numbered notebook in the run's folder, unless it is up to date there.

    The executed notebook is shown in the step's HTML artefact; by the last step, the report of all of them. It also
    registers the models, where the study names a registry.

    Parameters
    ----------
    number
        "01" to "06".
    study, run_dir, data_dir, backend
        The pipeline's parameters, see `check_parameters`.
    after
        What the step before handed on: it makes the edge of the pipeline's graph, and must be of the same run.

    Returns
    -------
    dict
        `run_dir`, `executed` (whether it was not up to date), and `metrics`: what the notebook recorded.

    Raises
    ------
    InputError
        If a parameter is refused, or `after` is not what a step of this run hands on.
    NotebookError
        If the notebook stops at an error; it is kept in the run's folder.
    """
    share_with_group()
    check_parameters(study, run_dir, data_dir, backend)
    before = _steps_before(after, run_dir)
    _end_with_caller()
    # Only what differs from `jetcorr run`, so that both find each other's notebooks up to date
    parameters = {"data.directory": data_dir} if data_dir else {}
    executed = run_notebook(number, study, run_dir, parameters | ({"BACKEND": backend} if backend != "local" else {}))
    run = RunFolder(run_dir)
    if number == min(NOTEBOOKS):
        _prepare_data(study, parameters)
    if number == max(NOTEBOOKS):
        _show(write_report(run, Path(study).stem).read_text(encoding="utf-8"))
        for model in register_models(load_study(study, parameters), run):
            print(f"registered: {model}", flush=True)
    else:
        _show(page(run.notebooks / NOTEBOOKS[number].path.name))
    recorded = run.path / "metrics" / f"{number}.json"
    return {
        "run_dir": run_dir, "steps": [*before, number], "executed": executed,
        "metrics": read_json(recorded) if recorded.is_file() else {},
    }  # fmt: skip


def _prepare_data(study: str, parameters: dict[str, str]) -> None:
    """Build the caches of all models in the first step, which has no GPU that would have to wait for them."""
    settings = load_study(study, parameters)
    for features in dict.fromkeys(model.features for model in settings.models.values()):
        load_clouds(settings.data, features, progress=False)


def _steps_before(after: Any, run_dir: str) -> list[str]:
    """The numbers of the steps that are done, as the last of them says in a file that could hold anything."""
    if after is None:
        return []
    steps = after.get("steps") if isinstance(after, dict) and after.get("run_dir") == run_dir else None
    if not isinstance(steps, list) or not all(isinstance(step, str) and step in NOTEBOOKS for step in steps):
        raise InputError(f"what the step before has handed on is not of the run {run_dir}: start the pipeline again")
    return steps


def _end_with_caller() -> None:
    """End this process when its caller is gone: the pipeline's next run would find the folder in use."""

    def wait() -> None:
        lock = Lock(os.environ[CALLER], "pipeline")
        with contextlib.suppress(OSError):
            lock.acquire(remark=False)
            if not lock.real:
                return  # no locks here: nothing can be told from it
        os.kill(os.getpid(), signal.SIGTERM)  # a notebook on its way is interrupted, and removes what it has elsewhere
        time.sleep(GRACE)
        os.kill(os.getpid(), signal.SIGKILL)

    if CALLER in os.environ:
        threading.Thread(target=wait, daemon=True).start()


def headline(last: dict[str, Any]) -> tuple[float, float, float, int]:
    """The figures that Kubeflow shows beside the run, from what the last step handed on.

    Of the model that gains most in resolution above 30 GeV and abs(eta) < 2.5: resolution gain, flavour gain, mean
    absolute error, and the number of test jets.
    """
    found = [figures_of(part) for part in read_json(RunFolder(last["run_dir"]).metrics).values()]
    best = max(filter(None, found), key=lambda figures: figures["resolution_gain"])
    return best["resolution_gain"], best["flavour_gain"], best["mae"], int(best["jets"])


def _show(html_page: str) -> None:
    """Display a page in a frame of its own: its styles stay there, and its scripts see nothing of the page around."""
    from IPython.display import HTML, display

    how = 'sandbox="allow-scripts" style="width:100%;height:95vh;border:0"'
    frame = f'<iframe {how} srcdoc="{html.escape(html_page)}"></iframe>'
    display(HTML(frame))
