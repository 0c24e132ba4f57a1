"""`jetcorr pipeline …`, `jetcorr manifests`, `jetcorr trial`: what Kubeflow needs of the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..files import readable_file
from ..options import OutputPath
from ..run import default_folder
from .pipeline_parameters import DEFAULTS

__all__ = ["manifests", "pipeline", "trial"]

COMPILED = click.option(
    "--file", "compiled",
    callback=lambda _context, _option, path: None if path is None else readable_file(path, "--file"),
    help="Compiled pipeline; default: the one that comes with the project.",
)  # fmt: skip
STUDY = click.option("--study", default=DEFAULTS["study"], help="Name of a study, or a YAML file.")


def _kubeflow(default: str) -> Callable[[Any], Any]:
    """The option that names a release, and what is done without it."""
    return click.option(
        "--kubeflow", type=click.Choice(("1.10", "1.11", "26.03")), help=f"Release; default: {default}."
    )


def _secrets(_context: click.Context, _option: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    """The secrets that are named, before anything is written."""
    from ..config import resource_name

    return tuple(resource_name(name, "--image-pull-secret") for name in names)


PULL_SECRETS = click.option(
    "--image-pull-secret", "pull_secrets", multiple=True, metavar="NAME", callback=_secrets,
    help="Secret with the credentials of the image's registry; may be given more than once.",
)  # fmt: skip
BACKEND = click.option(
    "--backend", default=DEFAULTS["backend"],
    help="Where trainings, search and server run: local (in the steps), kubeflow (TrainJobs, Katib, KServe).",
)  # fmt: skip


@click.group()
def pipeline() -> None:
    """The numbered notebooks as a Kubeflow pipeline."""


@pipeline.command("compile")
@click.option("--out", type=OutputPath(dir_okay=False), help="Default: pipelines/jetcorr.pipeline.yaml.")
@click.option("--image", help="Container image of the steps; default: that of the notebook's metadata.")
@PULL_SECRETS
@_kubeflow("the newest, which `submit` adapts to the cluster")
@click.option("--gpus", type=click.IntRange(min=0), default=0, help="GPUs of each step that trains.")
def compile_command(
    out: Path | None, image: str | None, pull_secrets: tuple[str, ...], kubeflow: str | None, gpus: int
) -> None:
    """Compile pipelines/jetcorr_pipeline.ipynb with Kale."""
    from ..files import write_text
    from .pipeline import PIPELINE, adapt_pipeline, compile_pipeline
    from .releases import LATEST, RELEASES

    path = compile_pipeline(out=out or PIPELINE, image=image, gpus=gpus)
    if kubeflow or pull_secrets:
        version = RELEASES[kubeflow].pipelines if kubeflow else LATEST.pipelines
        write_text(path, adapt_pipeline(path, version, pull_secrets=pull_secrets))
    click.echo(path)


@pipeline.command("run")
@COMPILED
@STUDY
@click.option("--run-dir", type=OutputPath(file_okay=False), help="Default: results/<study>.")
@click.option("--data-dir", default="", help="For generated data and caches; default: as the study says.")
@BACKEND
@click.option("--local", is_flag=True, required=True, help="On this machine; for a cluster see `submit`.")
def run_command(
    compiled: Path | None, study: str, run_dir: Path | None, data_dir: str, backend: str, local: bool
) -> None:
    """Run the compiled pipeline on this machine, as its pods would."""
    from .local import run_local
    from .pipeline import PIPELINE

    folder = run_local(compiled or PIPELINE, study, run_dir or default_folder(study), data_dir, backend)
    click.echo(f"done: {folder.path}")


@pipeline.command("submit")
@COMPILED
@STUDY
@click.option("--run-dir", help="Folder on the cluster's volume; default: /mnt/jetcorr/results/<study>.")
@click.option("--data-dir", default=DEFAULTS["data_dir"], help="Folder on the cluster's volume.")
@BACKEND
@click.option("--host", help="Address of Kubeflow Pipelines; not needed in a notebook server of the cluster.")
@click.option(
    "--existing-token", envvar="JETCORR_KFP_TOKEN", show_envvar=True,
    help="Token for it; default: that of the pod's service account, if there is one.",
)  # fmt: skip
@click.option(
    "--cookies", envvar="JETCORR_KFP_COOKIES", show_envvar=True,
    help="Cookies for it, as a browser that is logged in has them.",
)  # fmt: skip
@click.option("--image", help="Image of the steps; default: that of the notebook server, else as compiled.")
@PULL_SECRETS
@_kubeflow("what Kubeflow Pipelines says it is of")
@click.option("--namespace", help="The user's namespace.")
@click.option("--wait/--no-wait", default=True, help="Follow the run to its end.")
def submit_command(
    compiled: Path | None, study: str, run_dir: str | None, data_dir: str, backend: str, host: str | None,
    existing_token: str | None, cookies: str | None, image: str | None, pull_secrets: tuple[str, ...],
    kubeflow: str | None, namespace: str | None, wait: bool,
) -> None:  # fmt: skip
    """Start the compiled pipeline on a cluster and follow it."""
    from .pipeline import PIPELINE
    from .releases import RELEASES
    from .submit import submit

    folder = run_dir or f"/mnt/jetcorr/{default_folder(study)}"
    submit(
        compiled or PIPELINE, study, folder, data_dir, backend, host=host, namespace=namespace, token=existing_token,
        cookies=cookies, image=image, pull_secrets=pull_secrets, release=RELEASES[kubeflow] if kubeflow else None,
        wait=wait,
    )  # fmt: skip


@click.command()
@click.option("--study", default="default", help="Name of a study, or a YAML file.")
@click.option("--out", type=OutputPath(file_okay=False), default="pipelines/manifests/base", help="Folder to write to.")
@_kubeflow("as the study says, else Trainer 2.2 or newer; with --check, what the cluster has")
@click.option("--namespace", help="Namespace of the user's profile.")
@click.option("--image", help="Image of notebook server and trainings.")
@click.option("--gpus", type=click.IntRange(min=0), help="GPUs of a training or trial.")
@click.option("--nodes", type=click.IntRange(min=1), help="Nodes of a distributed training.")
@click.option("--storage-class", help="Storage class of the volume.")
@click.option("--s3-endpoint", help="Address of the S3 server.")
@click.option("--check", is_flag=True, help="Write nothing: say what the cluster has and lacks, on one page.")
def manifests(study: str, out: Path, check: bool, namespace: str | None, **others: str | int | None) -> None:
    """Write the cluster's resources for a study: Katib, Trainer, KServe, TensorBoard, notebook server, volume.

    What is not given is as `cluster` in the study says. With --check the exit code is 2 if anything is missing.
    """
    from ..config import load_study
    from .manifests import Cluster, write_manifests

    settings, changes = load_study(study), {"namespace": namespace, **others}
    if check:
        from .cluster import connect
        from .cluster_check import check_cluster, page_of

        connection = connect(namespace or settings.cluster.namespace)
        own = {"image": connection.pod.image} if connection.pod and not settings.cluster.image else {}
        given = {name: value for name, value in changes.items() if value is not None}
        findings = check_cluster(connection, Cluster.of(settings.cluster, **own | given))
        click.echo(page_of(findings, connection))
        sys.exit(2 if any(one.state == "no" for one in findings) else 0)
    for path in write_manifests(settings, out, Cluster.of(settings.cluster, **changes)):
        click.echo(path)


@click.command()
@STUDY
@click.option("--out", type=OutputPath(file_okay=False), required=True, help="Folder of the search.")
@click.option("--name", required=True, help="The trial's name, which its folder gets.")
@click.option("--metrics", type=OutputPath(dir_okay=False), required=True, help="File that the collector reads.")
@click.option(
    "--set", "values", type=(str, str), multiple=True, metavar="NAME VALUE", help="A drawn parameter (repeatable)."
)
@click.option("--own", is_flag=True, help="With the study's own settings, in place of drawn ones.")
@click.option("-p", "--parameter", "parameters", type=(str, str), multiple=True, metavar="KEY VALUE",
              help="A setting of the study by dotted name; may be repeated.")  # fmt: skip
def trial(study: str, out: Path, name: str, metrics: Path, values: tuple, own: bool, parameters: tuple) -> None:
    """Run one trial of a Katib experiment and write its metrics where the collector reads them."""
    from ..config import load_study
    from ..data import load_clouds
    from ..tuning.katib_trial import parse_values, run_cluster_trial
    from ..tuning.space import own_parameters

    settings = load_study(study, dict(parameters))
    model, space = settings.models[settings.tuning.model], settings.tuning.space
    drawn = own_parameters(model, space) if own else parse_values(dict(values), space)
    clouds = load_clouds(settings.data, model.features)
    record = run_cluster_trial(settings, drawn, clouds.split("train"), clouds.split("validation"), out, name, metrics)
    click.echo(f"{name}: {record.state}, {metrics}")
