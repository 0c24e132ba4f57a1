"""`jetcorr pipeline …`: the notebooks as a Kubeflow pipeline."""

from __future__ import annotations

from pathlib import Path

import click

from .parameters import DEFAULTS

__all__ = ["pipeline"]

COMPILED = click.option(
    "--file", "compiled", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Compiled pipeline; default: the one that comes with the project.",
)  # fmt: skip
STUDY = click.option("--study", default=DEFAULTS["study"], show_default=True, help="Name of a study, or a YAML file.")


@click.group()
def pipeline() -> None:
    """The numbered notebooks as a Kubeflow pipeline."""


@pipeline.command("compile")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Default: pipelines/jetcorr.pipeline.yaml."
)
@click.option("--image", help="Container image of the steps; default: that of the notebook's metadata.")
@click.option("--gpus", type=click.IntRange(min=0), default=0, show_default=True, help="For each step that trains.")
def compile_command(out: Path | None, image: str | None, gpus: int) -> None:
    """Compile pipelines/jetcorr_pipeline.ipynb with Kale."""
    from .pipeline import PIPELINE, compile_pipeline

    click.echo(compile_pipeline(out=out or PIPELINE, image=image, gpus=gpus))


@pipeline.command("run")
@COMPILED
@STUDY
@click.option("--run-dir", type=click.Path(path_type=Path, file_okay=False), help="Default: results/<study>.")
@click.option("--data-dir", default="", help="For generated data and caches; default: as the study says.")
@click.option("--local", is_flag=True, required=True, help="On this machine; for a cluster see `submit`.")
def run_command(compiled: Path | None, study: str, run_dir: Path | None, data_dir: str, local: bool) -> None:
    """Run the compiled pipeline on this machine, as its pods would."""
    from .local import run_local
    from .pipeline import PIPELINE

    folder = run_local(compiled or PIPELINE, study, run_dir or Path("results") / Path(study).stem, data_dir)
    click.echo(f"done: {folder.path}")


@pipeline.command("submit")
@COMPILED
@STUDY
@click.option("--run-dir", help="Folder on the cluster's volume; default: /mnt/jetcorr/results/<study>.")
@click.option("--data-dir", default=DEFAULTS["data_dir"], show_default=True, help="Folder on the cluster's volume.")
@click.option("--host", help="Address of Kubeflow Pipelines; not needed in a notebook server of the cluster.")
@click.option("--namespace", help="The user's namespace.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow the run to its end.")
def submit_command(
    compiled: Path | None, study: str, run_dir: str | None, data_dir: str, host: str | None, namespace: str | None,
    wait: bool,
) -> None:  # fmt: skip
    """Start the compiled pipeline on a cluster and follow it."""
    from .pipeline import PIPELINE
    from .submit import submit

    folder = run_dir or f"/mnt/jetcorr/results/{Path(study).stem}"
    submit(compiled or PIPELINE, study, folder, data_dir, host=host, namespace=namespace, wait=wait)
