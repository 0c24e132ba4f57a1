"""The compiled pipeline on a cluster, by the client of the Kubeflow Pipelines SDK."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from ..errors import InputError
from ..files import write_text
from ..notebooks import NOTEBOOKS
from .cluster import own_image
from .local import PipelineError
from .pipeline import adapt_pipeline, read_pipeline
from .pipeline_parameters import DEFAULTS, check_parameters
from .releases import LATEST, Release, Version, parse_version

if TYPE_CHECKING:
    import kfp

__all__ = ["connect", "submit"]

FINAL = {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"}


def connect(host: str | None = None, *, token: str | None = None, cookies: str | None = None) -> kfp.Client:
    """A client of the cluster's Kubeflow Pipelines.

    Parameters
    ----------
    host
        Address of the API; None in a pod of the cluster, where the SDK finds it.
    token, cookies
        Credentials from outside; default: the service account's token for Pipelines where it is mounted
        (`poddefault.yaml`), also with a `host`.

    Raises
    ------
    InputError
        If nothing answers there.
    """
    import kfp
    from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH
    from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

    class Client(kfp.Client):
        """Asks whether Pipelines is there without pauses of five seconds, also while it is made."""

        def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
            return super().get_kfp_healthz(sleep_duration)

    mounted = Path(os.environ.get(KF_PIPELINES_SA_TOKEN_ENV) or KF_PIPELINES_SA_TOKEN_PATH)
    own = host and not token and not cookies and mounted.is_file()
    place = host or "the cluster that this machine is part of"
    try:
        # The SDK prints and warns about what it does not find; the error below says it in one line.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            client = Client(
                host=host, existing_token=token, cookies=cookies,
                credentials=ServiceAccountTokenVolumeCredentials() if own else None,
            )  # fmt: skip
            client.get_kfp_healthz()
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
    token: str | None = None,
    cookies: str | None = None,
    image: str | None = None,
    pull_secrets: Sequence[str] = (),
    release: Release | None = None,
    wait: bool = True,
    poll: float = 10.0,
) -> str:
    """Start a run of the pipeline on a cluster, and follow it.

    Parameters
    ----------
    pipeline
        The compiled pipeline.
    study, run_dir, data_dir, backend
        Its parameters.
    host, token, cookies
        See `connect`.
    namespace
        The user's namespace; default: as the SDK finds it.
    image
        Image of the steps; default: that of the notebook server that this is, else as compiled.
    pull_secrets
        Secrets of the namespace with the credentials of its registry.
    release
        What the pipeline is adapted to; default: the version that Kubeflow Pipelines says it has.

    Returns
    -------
    str
        The run's identifier.

    Raises
    ------
    InputError
        If a parameter is refused, the file is no compiled pipeline, or there is no cluster.
    PipelineError
        If the run ends in another state than success.
    """
    from kfp_server_api import ApiException

    check_parameters(study, run_dir, data_dir, backend)
    read_pipeline(pipeline)  # before it is waited for a server
    client = connect(host, token=token, cookies=cookies)
    version = release.pipelines if release else _version(client)
    image = image or own_image()
    compiled = adapt_pipeline(pipeline, version or LATEST.pipelines, image=image, pull_secrets=pull_secrets)
    arguments = {"study": study, "run_dir": run_dir, "data_dir": data_dir, "backend": backend}
    with tempfile.TemporaryDirectory() as folder:
        package = write_text(Path(folder) / "jetcorr.yaml", compiled)
        try:
            run = client.create_run_from_pipeline_package(
                str(package), arguments=arguments, run_name=f"jetcorr-{Path(study).stem}", experiment_name="jetcorr",
                namespace=namespace, enable_caching=False,
            )  # fmt: skip
        except ApiException as error:
            said = " ".join(str(error.body or error.reason).split())[:500]
            raise InputError(
                f"Kubeflow Pipelines refuses the run ({error.status}: {said}); if it is older than the pipeline, name "
                "the release by --kubeflow; if it is a matter of rights, see --namespace and --existing-token"
            ) from None
    print(f"run {run.run_id}: {_address(client, run.run_id)}", flush=True)
    if wait:
        state = _follow(client, run.run_id, poll)
        if state != "SUCCEEDED":
            raise PipelineError(f"run {run.run_id} ended as {state}: {_address(client, run.run_id)}")
    return run.run_id


def _version(client: kfp.Client) -> Version | None:
    """The version of Kubeflow Pipelines, which only the older one of its APIs tells; None if it does not."""
    api = client._healthz_api.api_client
    try:
        answer = api.call_api(
            "/apis/v1beta1/healthz", "GET", header_params={"Accept": "application/json"}, response_type="object",
            auth_settings=["Bearer"],
        )  # fmt: skip
    except Exception:  # whatever the SDK and a proxy before it make of an address that is not there
        return None
    return parse_version(answer[0].get("tag_name")) if isinstance(answer[0], dict) else None


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
