"""The commands that are disturbed: what each needs before, and where its results are."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jetcorr_utils.config import project_root
from jetcorr_utils.jets.columns import counter_name

from .processes import Sandbox

__all__ = ["JOBS", "Job", "prepare"]

CLI = ("-m", "jetcorr_utils.cli")
SAMPLE = "data/sample/jets.root"
SMALL = ("--study", "smoke", "-p", "data.directory", "{work}/data")
CACHE = """
import click
from jetcorr_utils.cli import Group
from jetcorr_utils.config import load_study
from jetcorr_utils.data import load_clouds

@click.command()
@click.argument("directory")
@click.argument("files", nargs=-1)
def cache(directory, files):
    load_clouds(load_study("smoke", {"data.files": list(files), "data.directory": directory}).data, "rich")

Group(commands={"cache": cache})()
"""


@dataclass(frozen=True)
class Job:
    """A command.

    Attributes
    ----------
    command
        Arguments of python; ``{work}`` is the sandbox's folder for files.
    before
        The job whose results this one needs.
    ignore
        Names of files in `out` that may differ, as a regular expression.
    anew
        Further arguments with which a finished one has to write again, where it would find all of it done.
    writes
        Whether a finished one that is run again has something to write also without `anew`.
    kills
        How often in a row it is killed before it may run to its end.
    variables
        Further ones of its environment.
    """

    command: tuple[str, ...]
    before: str | None = None
    ignore: str = r"$^"
    anew: tuple[str, ...] = ()
    writes: bool = True
    kills: int = 1
    setup: Callable[[Path], None] = field(default=lambda work: None)
    variables: Mapping[str, str] = field(default_factory=dict)

    def arguments(self, work: Path) -> list[str]:
        """The command for a folder."""
        return [part.format(work=work) if "{work}" in part else part for part in self.command]


def _more_files(work: Path) -> None:
    """Two further input files with other jets than the sample's."""
    import awkward as ak
    import numpy as np
    import uproot

    (work / "input").mkdir(exist_ok=True)
    with uproot.open(project_root() / SAMPLE) as file:
        jets = file["AK4jets/jetTree"].arrays()
    for name, event in (("two", 10**6), ("three", 2 * 10**6)):
        columns = {field: jets[field] for field in jets.fields if field not in ("nPF", "nGenJetPF", "nSV")}
        columns["event"] = jets["event"] + np.uint64(event)
        types = {key: ak.type(ak.Array(values)).content for key, values in columns.items()}
        with uproot.recreate(work / "input" / f"{name}.root") as file:
            file.mktree("AK4jets/jetTree", types, counter_name=counter_name).extend(columns)


_RUN = ("--out", "{work}/out")
_SEED = ("-p", "models.pfn.training.seed", "5")
_WIDE = "{architecture: pfn, conv_dim: 40, fc_dim: 40, training: {epochs: 10, batch_size: 200}}"
JOBS = {
    "simulate": Job((*CLI, "simulate", "--jets", "1000", "--seed", "3", "--workers", "2", *_RUN), writes=False),
    "cache": Job(
        ("-c", CACHE, "cache", "{work}/out", SAMPLE, "{work}/input/two.root", "{work}/input/three.root"),
        setup=_more_files, writes=False,
    ),
    "train": Job((*CLI, "train", *SMALL, "-p", "models.pfn.training.epochs", "10", *_RUN), anew=_SEED, writes=False),
    "tune": Job((*CLI, "tune", *SMALL, "-p", "tuning.trials", "4", "-p", "tuning.epochs", "4", *_RUN), before="train"),
    "export": Job((*CLI, "export", *SMALL, *_RUN), before="train"),
    "correct": Job(
        (*CLI, "correct", *[SAMPLE] * 12, "--model", "{work}/out", "--force", "--out", "{work}/out/corrected.root"),
        before="export",
    ),
    "run": Job((*CLI, "run", *SMALL, *_RUN), anew=_SEED, writes=False, kills=4),
    "pipeline": Job(
        (*CLI, "pipeline", "run", "--local", "--study", "smoke", "--run-dir", "{work}/out", "--data-dir",
         "{work}/data"), kills=4, ignore=r"\.pipeline/jetcorr-\d",  # artefacts of each call, named by its time
    ),
    "train-beside": Job(
        (*CLI, "train", *SMALL, "-p", "models.pfn.training.epochs", "10", "-p", "models.wide", _WIDE, *_RUN),
        variables={"OMP_NUM_THREADS": "2"},
    ),
    "tune-beside": Job(
        (*CLI, "tune", *SMALL, "-p", "tuning.trials", "8", "-p", "tuning.epochs", "20", "-p", "tuning.workers", "2",
         *_RUN), before="train",
    ),
    "correct-beside": Job(
        (*CLI, "correct", *[SAMPLE] * 12, "--model", "{work}/out", "--force", "--workers", "2", "--out",
         "{work}/out/corrected.root"), before="export",
    ),
}  # fmt: skip


def prepare(name: str, sandbox: Sandbox) -> Path:
    """The state of the folder `work` before the job `name` starts, in a folder of its own."""
    place = sandbox.folder / "before" / name
    if not place.exists():
        job = JOBS[name]
        _empty(sandbox.work)
        if job.before:
            restore(prepare(job.before, sandbox), sandbox.work)
            done = sandbox.run(JOBS[job.before].arguments(sandbox.work))
            if done.code:
                raise RuntimeError(f"{job.before}: {done.output}")
        job.setup(sandbox.work)
        place.parent.mkdir(exist_ok=True)
        shutil.copytree(sandbox.work, place)
    return place


def restore(before: Path, work: Path) -> None:
    """Bring `work` back to an earlier state."""
    _empty(work)
    shutil.copytree(before, work, dirs_exist_ok=True)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
