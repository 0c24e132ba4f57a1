"""The compiled pipeline on a cluster, by the client of the Kubeflow Pipelines SDK."""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from ..errors import InputError
from ..notebooks import NOTEBOOKS
from .local import PipelineError
from .pipeline_parameters import DEFAULTS, check_parameters

if TYPE_CHECKING:
    import kfp

__all__ = ["connect", "submit"]

FINAL = {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"}


def connect(host: str | None, namespace: str | None = None) -> kfp.Client:
    """A client of the cluster's Kubeflow Pipelines.

    Parameters
    ----------
    host
        Address of the API; None in a notebook server of the cluster, where the service account's token is used.
    namespace
        The user's namespace.

    Raises
    ------
    InputError
        If nothing answers there.
    """
    import kfp

    place = host or "the cluster that this machine is part of"
    try:
        # The SDK prints and warns about what it does not find; the error below says it in one line.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            client = kfp.Client(host=host, namespace=namespace or "kubeflow")
            client.get_kfp_healthz(sleep_duration=0)
    except Exception as error:  # whatever urllib3, the Kubernetes client and the SDK's own checks raise
        reason = str(getattr(error, "reason", error)).rpartition(": ")[2].rstrip("')\"")
        raise InputError(
            f"no Kubeflow Pipelines answers at {place} ({type(error).__name__}: {reason}); "
            "give --host, or run it here with `jetcorr pipeline run --local`"
        ) from None
    return client


def submit(
    pipeline: Path,
    study: str = DEFAULTS["study"],
    run_dir: str = DEFAULTS["run_dir"],
    data_dir: str = DEFAULTS["data_dir"],
    backend: str = DEFAULTS["backend"],
    *,
    host: str | None = None,
    namespace: str | None = None,
    wait: bool = True,
    poll: float = 10.0,
) -> str:
    """Start a run of the pipeline on a cluster, and follow it.

    Returns
    -------
    str
        The run's identifier.

    Raises
    ------
    InputError
        If a parameter is refused or there is no cluster.
    PipelineError
        If the run ends in another state than success.
    """
    check_parameters(study, run_dir, data_dir, backend)
    client = connect(host, namespace)
    arguments = {"study": study, "run_dir": run_dir, "data_dir": data_dir, "backend": backend}
    run = client.create_run_from_pipeline_package(
        str(pipeline), arguments=arguments, run_name=f"jetcorr-{study}", experiment_name="jetcorr",
        namespace=namespace, enable_caching=False,
    )  # fmt: skip
    print(f"run {run.run_id}: {_address(client, run.run_id)}", flush=True)
    if wait:
        state = _follow(client, run.run_id, poll)
        if state != "SUCCEEDED":
            raise PipelineError(f"run {run.run_id} ended as {state}: {_address(client, run.run_id)}")
    return run.run_id


def _address(client: kfp.Client, run_id: str) -> str:
    return f"{client._get_url_prefix()}/#/runs/details/{run_id}"


def _follow(client: kfp.Client, run_id: str, poll: float) -> str:
    """Show the state of the run's steps until it ends; the final state."""
    with tqdm(total=len(NOTEBOOKS), desc="pipeline", unit="step") as bar:
        while True:
            run = client.get_run(run_id)
            tasks = (run.run_details.task_details if run.run_details else None) or []
            steps = [task for task in tasks if (task.display_name or "").endswith("-step")]
            running = [task.display_name for task in steps if task.state == "RUNNING"]
            bar.update(sum(task.state == "SUCCEEDED" for task in steps) - bar.n)
            bar.set_postfix_str(", ".join(running) or str(run.state).lower())
            if str(run.state) in FINAL:
                return str(run.state)
            time.sleep(poll)
