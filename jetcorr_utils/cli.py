"""The command line, `jetcorr …`: what the notebooks do, for batch jobs and for files of one's own.

Exit codes: 0 done, 2 bad usage or bad input (one line on stderr), 130 stopped by Ctrl-C, 1 anything else. Heavy modules
are imported by the command that needs them, so that `jetcorr --help` answers at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .terminal import INTERRUPTED, ending_at_interrupt, harmless_terminal, open_closed_streams, printable

with ending_at_interrupt():  # a second and more, in which nothing has begun
    import click
    from click.shell_completion import CompletionItem
    from tqdm import tqdm

    from . import __version__, extensions
    from .addresses import check_no_secrets, direct_environment, without_secrets
    from .config import RemoteSettings, load_study, project_root
    from .environment import for_commands
    from .errors import MACHINE_FAULTS, InputError, JetcorrError, is_interrupt, memory_errors
    from .files import at_home
    from .kubeflow.commands import manifests, pipeline, trial
    from .kubeflow.sharing import share_with_group
    from .options import OutputPath
    from .run import RunFolder, default_folder
    from .settings import MAX_BATCH, MAX_JETS, MAX_REPLICAS, MAX_SEED, MAX_WORKERS

__all__ = ["main"]

STUDY = click.option(
    "--study", default="quick", help="Name of a study, or a YAML file.",
    shell_complete=lambda context, option, begun: _studies(begun),
)  # fmt: skip
OUT = click.option("--out", type=OutputPath(), help="Run folder; default: results/<study>.")
PARAMETER = click.option(
    "-p", "--parameter", "parameters", multiple=True, type=(str, str), metavar="KEY VALUE",
    help="A setting of the study by dotted name (`jetcorr settings` lists them); may be repeated.",
)  # fmt: skip
FILES = click.argument("files", nargs=-1, required=True)
COLLECTION = click.option(
    "--collection", default="Jet",
    help="The jets, where a file has several collections: Jet, FatJet, … of NanoAOD.",
)  # fmt: skip
EXTENSION = click.option(
    "--extension", multiple=True, metavar="FILE|MODULE", expose_value=False,
    callback=lambda context, option, names: extensions.load(names),
    help="Python code of your own that adds columns or formats, as a study names it; may be repeated.",
)  # fmt: skip
MOST_COLUMNS = 4
"""Models in the table of results before only the main ones are shown."""


def _studies(begun: str) -> list[CompletionItem]:
    """What a shell offers for a study that is half written: the project's own by name, and files."""
    names = sorted(path.stem for path in (project_root() / "pipelines" / "studies").glob("*.yaml"))
    return [CompletionItem(name) for name in names if name.startswith(begun)] + [CompletionItem(begun, type="file")]


class Group(click.Group):
    """A command group that reports our own errors in one line, and has no secret in an address go any further."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        open_closed_streams()
        ctx.meta["jetcorr.arguments"] = tuple(args)
        with _in_one_line(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        threading.excepthook = _thread_failed
        if sys.unraisablehook is sys.__unraisablehook__:
            sys.unraisablehook = _interrupt_again
        if hasattr(sys.stdout, "reconfigure"):  # a λ must not stop a command whose terminal has none
            sys.stdout.reconfigure(errors="backslashreplace")
        with harmless_terminal(), _in_one_line(ctx), memory_errors():
            check_no_secrets(ctx.meta["jetcorr.arguments"])
            os.environ.update(direct_environment())  # for the libraries and processes that this command uses
            return super().invoke(ctx)


@contextlib.contextmanager
def _in_one_line(ctx: click.Context) -> Iterator[None]:
    """End the command with one line and its exit code where the block raises what is no fault of the program."""
    try:
        yield
        return
    except InputError as error:
        message, code = str(error), 2
    except JetcorrError as error:
        message, code = str(error), 1
    except OSError as error:
        if error.errno not in MACHINE_FAULTS:
            raise
        message, code = f"{os.fsdecode(error.filename or 'the output or a file')}: {error.strerror}", 1
    except ModuleNotFoundError as error:
        if (error.name or "jetcorr_utils").startswith("jetcorr_utils"):
            raise
        message, code = f"this needs {error.name}, which is not installed: pip install 'jetcorr[all]'", 1
    except (KeyboardInterrupt, SystemError) as stop:
        if not is_interrupt(stop):
            raise
        message, code = str(stop) if isinstance(stop, KeyboardInterrupt) else "", INTERRUPTED
        message = message or "stopped"
    except MemoryError:
        message, code = "the memory of this machine (or of its limit) is not enough", 1
    for name in (given for given in ctx.meta.get("jetcorr.arguments", ()) if "\n" in given):
        message = message.replace(name, name.replace("\n", "\\n"))
    # On a line of its own, after a bar that is not at its end
    tqdm.write(f"jetcorr: {printable(without_secrets(message))}", file=sys.stderr)
    ctx.exit(code)


def _interrupt_again(failure: sys.UnraisableHookArgs) -> None:
    """Have a Ctrl-C come again that came while Python freed an object, where every error is lost."""
    if not issubclass(failure.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(failure)
        return
    # When that is done; as a signal, which also ends a wait
    again = threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    again.daemon = True
    again.start()


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """Print the traceback, except for a disk that fails TensorBoard's thread: what is logged next raises that again."""
    error, writer = failure.exc_value, type(failure.thread).__module__.startswith("tensorboard.")
    if not (writer and isinstance(error, OSError) and error.errno in MACHINE_FAULTS):
        threading.__excepthook__(failure)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="jetcorr")
def main() -> None:
    """Jet energy corrections with graph neural networks."""
    share_with_group()
    for_commands()


def _run_folder(out: Path | None, study: str) -> RunFolder:
    return RunFolder(out or default_folder(study))


@main.command()
@STUDY
@OUT
@click.option(
    "-p", "--parameter", "parameters", multiple=True, type=(str, str), metavar="KEY VALUE",
    help="A setting of the study by dotted name, or a notebook parameter in upper case; may be repeated.",
)  # fmt: skip
@click.option("--from", "first", default="01", help="Number of the first notebook to execute.")
@click.option("--force", is_flag=True, help="Execute also what is up to date.")
def run(study: str, out: Path | None, parameters: tuple, first: str, force: bool) -> None:
    """Execute the numbered notebooks with papermill and print the results."""
    from .batch import run_study

    place = out or default_folder(study)  # made when all else is known to be right
    folder = run_study(study, place, dict(parameters), first=first, force=force)
    click.echo(f"\n{_results(folder)}\n")
    click.echo(f"figures  {folder.figures}\nreport   {folder.report}\nmetrics  {folder.metrics}")


def _results(folder: RunFolder, models: tuple[str, ...] = (), etas: tuple[str, ...] = ()) -> str:
    """The table of gains; by default of the models and their variants, or of the main ones if these are many."""
    from .files import known_shape, read_json
    from .physics import main_models, results_markdown, variants
    from .physics.gains_table import ETAS, measured_models

    metrics = read_json(folder.require(folder.metrics, "06"))
    with known_shape(folder.metrics):
        if not models:
            trained = [name for name in measured_models(metrics) if "architecture" in metrics[name]]
            trained = trained or [name for name in measured_models(metrics) if "pull_width" in metrics[name]]
            alone = variants(trained, metrics)
            models = tuple(alone if len(alone) <= MOST_COLUMNS else main_models(alone, metrics))
        return results_markdown(metrics, models, etas=etas or ETAS, where=str(folder.metrics))


@main.command()
@click.argument("places", metavar="RUN_DIR|FILE…", nargs=-1, required=True)
@click.option("--model", "models", multiple=True, help="A column of the table (repeatable); default: all "
              "models and their variants, or the main ones where these are many.")  # fmt: skip
@click.option("--eta", "etas", multiple=True, help="A range of abs(eta), like 0-2.5 (repeatable); default: all.")
def results(places: tuple[str, ...], models: tuple[str, ...], etas: tuple[str, ...]) -> None:
    """Print the table of gains of a run, or of CMS's own regressions in NanoAOD files that have them."""
    folders = [path for place in places if place and (path := at_home(place)).is_dir()]
    if not folders:
        from .physics.peers import peer_gains, peers_markdown

        if records := [place for place in places if place.endswith(".json")]:
            raise InputError(f"{records[0]}: is not a ROOT file; of a run, give its folder")
        if models or etas:
            raise InputError(f"{places[0]}: --model and --eta choose from the table of a run, not of files")
        click.echo(peers_markdown(peer_gains(places)))
    elif len(places) == 1:
        click.echo(_results(RunFolder(folders[0]), models, etas))
    else:
        raise InputError(f"{folders[0]}: give one run's folder, or NanoAOD files only")


@main.command()
@click.option("--jets", type=click.IntRange(1, MAX_JETS), required=True, help="How many jets.")
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=1, help="Also the run number of the events.")
@click.option("--out", type=OutputPath(file_okay=False), required=True, help="Folder of the files.")
@click.option(
    "--workers",
    type=click.IntRange(1, MAX_WORKERS),
    help="Processes; default: one a core. The jets do not depend on it.",
)
def simulate(jets: int, seed: int, out: Path, workers: int | None) -> None:
    """Simulate proton collisions and write their jets as JetNTuple files."""
    from .simulation import simulate as simulate_jets

    for path in simulate_jets(jets, seed, out, workers=workers):
        click.echo(path)


@main.command()
@FILES
@COLLECTION
@EXTENSION
def info(files: tuple[str, ...], collection: str) -> None:
    """Say what is in ROOT files, whether they can be used, and if not, why."""
    from .data import describe
    from .data.locations import expand_patterns
    from .data.looking import look_through

    files = tuple(expand_patterns(files))
    descriptions = [describe(file, collection) for file in files]
    for file, description in zip(files, descriptions, strict=True):
        if description.jets or description.usable:
            click.echo(description.text())
        if description.usable:
            click.echo(look_through(file, collection))
    useless = [f"{file}: {found.reason}" for file, found in zip(files, descriptions, strict=True) if not found.usable]
    if useless:
        more = f" (and {len(useless) - 1} more)" if len(useless) > 1 else ""
        raise InputError(useless[0] + more)


@main.command("settings")
@click.argument("path", default="")
def list_settings(path: str) -> None:
    """Print every setting of a study, or those below a dotted PATH such as `tuning`: name, default, meaning."""
    from .config import Study
    from .settings_help import settings_text

    click.echo(settings_text(Study, path))


@main.command()
@click.argument("records", nargs=-1, required=True)
@click.option("--portal", default=RemoteSettings().portal, help="Address of the portal.")
def opendata(records: tuple[str, ...], portal: str) -> None:
    """List the files of records of the CERN Open Data portal, with their sizes.

    Records are named as in data.files of a study: opendata:12100, or opendata:12100?files=1-10 for some of the files.
    Nothing is copied.
    """
    from .data.opendata import files_of_record, is_record

    settings, files = RemoteSettings(portal=portal), []
    for record in records:
        files += files_of_record(record if is_record(record) else f"opendata:{record}", settings)
    for file in files:
        click.echo(f"{file.size / 1e6:10.1f} MB  {file.checksum}  {file.url}")
    click.echo(f"{sum(file.size for file in files) / 1e9:.2f} GB in {len(files)} files")


@main.command()
@STUDY
@OUT
@PARAMETER
@click.option("--model", "name", help="A model of the study; default: all.")
@click.option("--batch", type=click.Choice(["split", "kept"]), default="split",
              help="Under torchrun: the study's batch split among the processes, or kept by each of them, with the "
              "learning rate times the square root of their number.")  # fmt: skip
def train(study: str, out: Path | None, parameters: tuple, name: str | None, batch: str) -> None:
    """Train the models of a study (also under torchrun)."""
    from .data import load_clouds
    from .training import process_group, train_models
    from .training.torchrun import rank, with_kept_batch

    settings = load_study(study, dict(parameters))
    if name is not None and name not in settings.models:
        raise InputError(f"--model {name!r}: the study has {', '.join(settings.models)}")
    folder = _run_folder(out, study)
    models = {name: settings.models[name]} if name else settings.models
    with process_group() as device:
        if batch == "kept":
            models = {model: with_kept_batch(settings) for model, settings in models.items()}
        clouds = {model: load_clouds(settings.data, models[model].features) for model in models}
        for model, result in train_models(models, clouds, folder, device=device).items():
            if rank() == 0:
                click.echo(f"{model}: validation MAE {result.validation_mae:.5f} (constant {result.constant_mae:.5f})")


@main.command()
@STUDY
@PARAMETER
def prepare(study: str, parameters: tuple) -> None:
    """Get or simulate a study's data and build the caches of its models, before anything asks for a GPU."""
    from .data import load_clouds

    settings = load_study(study, dict(parameters))
    for features in dict.fromkeys(model.features for model in settings.models.values()):
        clouds = load_clouds(settings.data, features)
        click.echo(f"{len(clouds)} jets: {clouds.place[0] if clouds.place else 'in memory'}")


@main.command()
@STUDY
@OUT
@PARAMETER
def tune(study: str, out: Path | None, parameters: tuple) -> None:
    """Search for better hyperparameters; resumes a search that was stopped."""
    from .data import load_clouds
    from .tuning import search

    settings, folder = load_study(study, dict(parameters)), _run_folder(out, study)
    clouds = load_clouds(settings.data, settings.models[settings.tuning.model].features)
    result = search(settings, clouds.split("train"), clouds.split("validation"), folder.tuning)
    click.echo(result.trials.to_string(index=False))


@main.command("compare-searches")
@STUDY
@PARAMETER
@click.option("--repeat", type=click.IntRange(min=1), default=5, help="Searches of each method.")
@click.option("--work", type=OutputPath(file_okay=False), required=True, help="Folder of the searches.")
@click.option("--out", type=OutputPath(file_okay=False), required=True, help="Folder of table and figure.")
def compare_searches(study: str, parameters: tuple, repeat: int, work: Path, out: Path) -> None:
    """Compare random search with TPE and halving at the same compute, over repeated searches."""
    from .data import load_clouds
    from .files import write_text
    from .style import save_figure
    from .tuning.comparison import compare_searches as compare
    from .tuning.search_plots import plot_comparison

    settings = load_study(study, dict(parameters))
    clouds = load_clouds(settings.data, settings.models[settings.tuning.model].features)
    table = compare(settings, clouds.split("train"), clouds.split("validation"), work, range(1, repeat + 1))
    write_text(out / "tuning_comparison.csv", table.to_csv(index=False))
    save_figure(plot_comparison(table), out / "figures", "tuning_comparison")
    click.echo(table.groupby(["method", "seed"])["best"].min().unstack("method").describe().to_string())


@main.command()
@STUDY
@OUT
@PARAMETER
@click.option("--opset", type=click.IntRange(min=1), help="Version of the ONNX operators; default: the study's.")
@click.option("--triton-release", help="Release of NVIDIA's Triton container that must run the models, like 24.10.")
def export(study: str, out: Path | None, parameters: tuple, opset: int | None, triton_release: str | None) -> None:
    """Export the trained models of a run to ONNX, as a repository for the Triton server."""
    from .export import export_run

    options = {"export.opset": opset, "export.triton_release": triton_release}
    given = {name: json.dumps(value) for name, value in options.items() if value is not None}
    settings, folder = load_study(study, dict(parameters) | given), _run_folder(out, study)
    click.echo(export_run(settings, folder).to_string(index=False))


def _folder_of_models(_context: click.Context, _option: click.Parameter, place: str) -> Path:
    from .files import NO_NAME, at_home

    if not place:
        raise InputError(f"--repository: {NO_NAME}")
    return at_home(place)


@main.command()
@click.option("--repository", required=True, callback=_folder_of_models,
              help="Model repository, such as results/quick/model_repository.")  # fmt: skip
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--http-port", type=click.IntRange(1, 65535), default=8000, help="Port of HTTP.")
@click.option("--grpc-port", type=click.IntRange(1, 65535), default=8001, help="Port of gRPC.")
def serve(repository: Path, host: str, http_port: int, grpc_port: int) -> None:
    """Run a Triton server on a model repository until interrupted."""
    from .inference.open_predictors import served_models
    from .serving import TritonServer

    server = TritonServer(repository, host=host, http_port=http_port, grpc_port=grpc_port)
    if host not in ("127.0.0.1", "localhost", "::1"):
        click.echo(f"jetcorr: others can reach {host}, and stop this release of the server (docs: Security)", err=True)
    with server:
        urls = f"http://{server.http_url} and grpc://{server.grpc_url}"
        names = ", ".join(served_models(server.http_url, "http"))
        server.wait(lambda: click.echo(f"ready: {names} at {urls}; log {server.log}; stop with Ctrl-C"))


@main.command()
@FILES
@EXTENSION
@click.option("--model", required=True, help="A run's folder, an ONNX file, a model repository, or a Triton URL; "
              "or the word regressions, for CMS's own alone.")  # fmt: skip
@click.option("--out", type=OutputPath(dir_okay=False), required=True, help="ROOT file to write.")
@click.option("--batch-size", type=click.IntRange(1, MAX_BATCH), default=1024, help="Jets in a request.")
@click.option("--outside", type=click.Choice(["correct", "keep"]), default="correct",
              help="Correct jets beyond the range of the training jets, or keep their standard correction; both "
              "are flagged.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1, MAX_WORKERS), default=1,
              help="Processes that read and correct. The jets do not depend on it.")  # fmt: skip
@click.option("--shared-memory", type=click.Choice(["auto", "on", "off"]), default="auto",
              help="Hand jets to a server on this machine through shared memory; auto: where it can be.")  # fmt: skip
@click.option("--official", multiple=True, metavar="FILE", help="A text file (.jec.txt) of CMS's official "
              "corrections (repeatable), by which jets are first corrected anew from their raw pt.")  # fmt: skip
@click.option("--corrections", "file", type=click.Path(), help="The same from CMS's jet_jerc.json.gz (correctionlib).")
@click.option("--compound", help="Which of --corrections: a compound or a level, by its whole name or without "
              "campaign and kind of jets; default: L1L2L3Res.")  # fmt: skip
@click.option("--uncertainties", multiple=True, metavar="all|NAME", help="Sources of uncertainty, JER for the "
              "resolution (repeatable): each becomes columns of factors, up and down.")  # fmt: skip
@COLLECTION
@click.option("--tolerated", type=click.FloatRange(0, 1), default=0.01,
              help="Largest share of a file's jets whose candidates do not sum up to them.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace OUT if it is there.")
def correct(
    files: tuple[str, ...], model: str, out: Path, force: bool, file: str | None, compound: str | None,
    uncertainties: tuple[str, ...], **options: Any,
) -> None:  # fmt: skip
    """Correct the jets of JetNTuple, NanoAOD or Delphes files."""
    from .correct import correct_files
    from .jerc import CorrectionsChoice

    choice = None
    if file is not None:  # an empty name is no lack of one, but a mistake
        choice = CorrectionsChoice(file, CorrectionsChoice.compound if compound is None else compound, uncertainties)
    elif uncertainties or compound is not None:
        option = "--uncertainties" if uncertainties else "--compound"
        raise InputError(f"{option}: name the file that has them with --corrections")
    click.echo(correct_files(files, model, out, corrections=choice, replace=force, **options).text())


@main.command()
@FILES
@click.option("--model", "models", multiple=True, help="A model that the files have (repeatable); default: all.")
@click.option(
    "--replicas", type=click.IntRange(2, MAX_REPLICAS), default=50, help="Bootstrap replicas behind the errors."
)
@click.option(
    "--workers", type=click.IntRange(1, MAX_WORKERS), default=1, help="Processes. The numbers do not depend on it."
)
def response(files: tuple[str, ...], models: tuple[str, ...], replicas: int, workers: int) -> None:
    """Print median and resolution of the response of simulated jets, from any number of files that were corrected."""
    import pandas as pd

    from .data.locations import each_once
    from .physics.response import corrections_in, fill_response, quantile_table

    paths = each_once(files)
    corrections = list(dict.fromkeys(["standard", *models])) if models else corrections_in(paths[0])
    executor: Any = "futures" if workers > 1 else "iterative"
    with contextlib.redirect_stdout(sys.stderr):  # where coffea draws its bars
        filled = fill_response(paths, corrections, replicas=replicas, executor=executor, workers=workers)
    tables = pd.concat({name: quantile_table(filled, name) for name in corrections}, names=["correction", "bin"])
    click.echo(tables.reset_index("correction").to_string(index=False, float_format="{:.4f}".format, na_rep=""))


@main.command("compare-cms")
@STUDY
@PARAMETER
@click.option("--out", type=OutputPath(file_okay=False), required=True, help="Folder of table and figures.")
def compare_cms(study: str, parameters: tuple, out: Path) -> None:
    """Compare a study's jets with CMS's: resolution, flavour dependence, shapes, candidates, energy fractions."""
    from . import physics
    from .data import ensure_files, iterate_jets
    from .files import write_json

    settings = load_study(study, dict(parameters))
    table = physics.cms_table(iterate_jets(ensure_files(settings.data)))
    comparison = physics.cms_comparison(table)
    write_json(out / "cms_comparison.json", comparison)
    figures = {
        "resolution": physics.plot_cms_resolution(comparison), "flavour": physics.plot_cms_flavour(comparison),
        "shapes": physics.plot_cms_shapes(table), "rings": physics.plot_cms_rings(comparison),
        "candidates": physics.plot_cms_candidates(comparison),
    }  # fmt: skip
    for name, figure in figures.items():
        physics.save_figure(figure, out / "figures", f"cms_{name}")
    click.echo(physics.cms_summary(comparison).to_string(index=False, float_format="{:.3f}".format, na_rep=""))


@main.command("compare-published")
@click.option("--study", "studies", multiple=True, default=("paper", "thesis"),
              help="A study with a model that has the inputs of the paper or of the thesis (repeatable).")  # fmt: skip
@PARAMETER
@click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default="results",
              help="Folder of the runs that trained them, each by its study's name.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(min=1), default=1,
              help="How often these studies were trained, each time on a changed detector.")  # fmt: skip
@click.option("--out", type=OutputPath(file_okay=False), required=True, help="Folder of table and figure.")
def compare_published(studies: tuple[str, ...], parameters: tuple, runs: Path, rounds: int, out: Path) -> None:
    """Compare the gains of networks with published inputs on our jets with those published for CMS's."""
    from .batch import git_commit
    from .files import known_shape, read_json, write_json
    from .physics import reproduction
    from .style import save_figure

    file = out / "reproduction.json"
    found = read_json(file) if file.exists() else {}
    for study in studies:
        settings = load_study(study, dict(parameters))
        _, source, _ = reproduction.published_model(settings)
        gains = reproduction.reproduce(settings, RunFolder(runs / default_folder(study).name))
        found[source] = {"commit": git_commit(), "rounds": rounds, **gains}
    with known_shape(file):
        table, figure = reproduction.reproduction_table(found), reproduction.plot_reproduction(found)
    write_json(file, found)
    save_figure(figure, out / "figures", "reproduction")
    click.echo(table.to_string(index=False, float_format="{:.1f}".format, na_rep=""))


for command in (manifests, pipeline, trial):
    main.add_command(command)

if __name__ == "__main__":
    main()
