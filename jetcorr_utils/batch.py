"""The batch run: papermill over the numbered notebooks, redoing only what is out of date.

A notebook (a *stage*) is up to date when its key and its outputs are those of its last run. The key covers all that it
depends on: its source, the package's code that it calls, its part of the study, its parameters, and the checksums of
what earlier stages wrote for it. So an edited plot function reruns notebook 06 alone, and a deleted figure reruns the
notebook that draws it. run.json keeps the record.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from .config import Study, load_study, parse_value, project_root
from .errors import InputError, JetcorrError
from .files import MARK, fingerprint, locked, read_json, remove_leftovers, scratch_folder, write_json, write_text
from .report import write_report
from .run import NOTEBOOKS, RunFolder

__all__ = ["STAGES", "NotebookError", "Stage", "run_notebook", "run_study"]

log = logging.getLogger(__name__)

# Folders and files that no stage owns: the record itself, what is merged from several stages, locks.
SHARED = {"run.json", "study.yaml", "metrics.json", "report.html", ".lock"}
VERSIONS = ("torch", "torch-geometric", "awkward", "uproot", "coffea", "hist", "onnxruntime", "optuna", "pythia8mc")


class NotebookError(JetcorrError):
    """A notebook stopped at an error; the executed notebook is kept in the run folder."""


@dataclass(frozen=True)
class Stage:
    """One notebook of the run and what it depends on.

    Attributes
    ----------
    number
        "01" to "06".
    code
        Files and folders of the package whose change makes the stage out of date.
    settings
        Sections of the study that it reads.
    reads
        Patterns of the files in the run folder, made by earlier stages, that it reads.
    """

    number: str
    code: tuple[str, ...]
    settings: tuple[str, ...]
    reads: tuple[str, ...]

    @property
    def notebook(self) -> Path:
        return project_root() / "notebooks" / f"{NOTEBOOKS[self.number]}.ipynb"


_DATA = ("data", "simulation", "processes.py", "baseline.py")
_MODEL = (*_DATA, "models", "training")
STAGES = (
    Stage("01", (*_DATA, "physics", "style.py"), ("data",), ()),
    Stage("02", _MODEL, ("data", "models"), ("data.json",)),
    Stage("03", (*_MODEL, "tuning", "style.py"), ("data", "models", "tuning"), ("data.json", "model/*/checkpoint.pt")),
    # The histories hold wall times: what they say about the best network, its checkpoint says as well.
    Stage("04", (*_MODEL, "export", "physics/precision.py", "style.py"), ("data", "models", "export"),
          ("data.json", "model/*/checkpoint.pt", "model/*/settings.json", "tuning/best/checkpoint.pt",
           "tuning/best/settings.json")),
    Stage("05", ("data", "export", "serving", "style.py"), ("data", "serving"), ("data.json", "model_repository/**/*")),
    Stage("06", (*_MODEL, "export", "physics", "style.py"), ("data", "models", "physics"),
          ("predictions.root", "validation.root", "metrics/05.json", "model/*/checkpoint.pt")),
)  # fmt: skip


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _code_digest(entries: Sequence[str]) -> str:
    package = Path(__file__).parent
    roots = [package / entry for entry in entries]
    files = {*roots, *(file for root in roots for file in root.rglob("*"))}
    known = sorted(f for f in files if f.is_file() and "__pycache__" not in f.parts)
    return _digest([(str(f.relative_to(package)), fingerprint(f)) for f in known])


def _files(run: RunFolder) -> dict[str, Path]:
    """The files of the run folder that stages own, by relative name."""
    found = {str(path.relative_to(run.path)): path for path in run.path.rglob("*") if path.is_file()}
    own = {name: path for name, path in found.items() if name not in SHARED and not path.name.endswith(".lock")}
    return {name: path for name, path in own.items() if MARK not in name}


def _snapshot(run: RunFolder) -> dict[str, list[int]]:
    return {name: [path.stat().st_mtime_ns, path.stat().st_size] for name, path in _files(run).items()}


def _source_digest(notebook: Path) -> str:
    """The notebook's cells without outputs, so that looking at it in JupyterLab does not make a run out of date."""
    return _digest([[cell["cell_type"], cell["source"]] for cell in read_json(notebook)["cells"]])


def _key(stage: Stage, study: Study, run: RunFolder, parameters: Mapping[str, Any]) -> str:
    settings = study.model_dump(mode="json")
    inputs = {p for pattern in stage.reads for p in run.path.glob(pattern) if p.is_file()}
    return _digest(
        {
            "notebook": _source_digest(stage.notebook),
            "code": _code_digest(stage.code),
            "settings": {section: settings[section] for section in stage.settings},
            "parameters": dict(parameters),
            "inputs": [(str(p.relative_to(run.path)), fingerprint(p)) for p in sorted(inputs)],
        }
    )


def _data_is_there(run: RunFolder) -> bool:
    """Whether the data files that notebook 01 recorded still lie on the disk (remote ones are taken to)."""
    files = read_json(run.data)["files"] if run.data.exists() else []
    return all("://" in file["path"] or Path(file["path"]).is_file() for file in files)


def why_outdated(stage: Stage, study: Study, run: RunFolder, parameters: Mapping[str, Any]) -> str | None:
    """Why a stage has to run, in a few words, or None if it is up to date."""
    record = _read_state(run)["stages"].get(stage.number)
    if record is None:
        return "not run yet"
    for name, checksum in record["outputs"].items():
        path = run.path / name
        if not path.is_file():
            return f"{name} is missing"
        if fingerprint(path) != checksum:
            return f"{name} was changed"
    if stage.number == "01" and not _data_is_there(run):
        return "its data files are missing"
    if record["key"] != _key(stage, study, run, parameters):
        return "what it depends on has changed"
    return None


def _read_state(run: RunFolder) -> dict[str, Any]:
    return read_json(run.state) if run.state.exists() else {"stages": {}}


def _git_commit() -> str | None:
    command = ["git", "-C", str(project_root()), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _describe_run(study: Study, run: RunFolder, parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "study": study.model_dump(mode="json"),
        "parameters": dict(parameters),
        "seeds": {
            "simulation": study.data.simulation.seed,
            "training": {name: model.training.seed for name, model in study.models.items()},
            "tuning": study.tuning.seed,
            "physics": study.physics.seed,
        },
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in VERSIONS},
        "git_commit": _git_commit(),
        "data": read_json(run.data) if run.data.exists() else None,
    }


def _execute(stage: Stage, run: RunFolder, parameters: Mapping[str, Any]) -> None:
    import papermill
    from traitlets.config import Config

    output = run.notebooks / stage.notebook.name
    run.notebooks.mkdir(exist_ok=True)
    names = papermill.inspect_notebook(str(stage.notebook))
    known = {name: value for name, value in parameters.items() if name in names}
    with scratch_folder() as sockets:
        try:
            papermill.execute_notebook(
                str(stage.notebook),
                str(output),
                parameters=known,
                cwd=str(stage.notebook.parent),
                kernel_name="python3",
                config=Config({"KernelManager": _transport(sockets)}),
            )
        except papermill.PapermillExecutionError as error:
            raise NotebookError(
                f"notebook {NOTEBOOKS[stage.number]} stopped at cell {error.exec_count}: {error.ename}: "
                f"{error.evalue}\n  the executed notebook with the error: {output}"
            ) from None


def _transport(folder: Path) -> dict[str, str]:
    """Sockets in a folder of this user's rather than TCP ports: nobody else on the machine can talk to the kernel.

    By default they would lie beside the notebook, which may be read-only: in a container image, for example.
    """
    connection = {"connection_file": str(folder / "kernel.json")}  # with the key of the kernel: gone with the folder
    return connection | ({"transport": "ipc", "ip": str(folder / "kernel")} if os.name == "posix" else {})


def run_notebook(
    number: str,
    study: str | Path,
    run_dir: str | Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    force: bool = False,
) -> bool:
    """Execute one numbered notebook in a run folder, unless it is up to date.

    Parameters
    ----------
    number
        "01" to "06".
    study
        Name or file of the study.
    run_dir
        The run's folder.
    parameters
        Notebook parameters by their upper-case names; others are settings of the study by dotted name.
    force
        Execute also what is up to date.

    Returns
    -------
    bool
        Whether the notebook was executed.

    Raises
    ------
    NotebookError
        If the notebook stops at an error. The executed notebook is kept, and the run folder's record does not count
        the stage as done.
    """
    stages = {stage.number: stage for stage in STAGES}
    if number not in stages:
        raise InputError(f"notebook {number!r}: there are {', '.join(stages)}")
    run, settings, own = _prepare(study, run_dir, parameters or {})
    with _locked(run):
        return _run_stage(stages[number], settings, run, own, force=force)


def run_study(
    study: str | Path,
    run_dir: str | Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    first: str = "01",
    force: bool = False,
) -> RunFolder:
    """Execute the numbered notebooks in order, from `first` on, skipping what is up to date; then write the report.

    Parameters are those of `run_notebook`. The run stops at the first notebook that fails.
    """
    if first not in NOTEBOOKS:
        raise InputError(f"--from {first!r}: there are {', '.join(NOTEBOOKS)}")
    run, settings, own = _prepare(study, run_dir, parameters or {})
    with _locked(run):
        stages = [stage for stage in STAGES if stage.number >= first]
        executed = [_run_stage(stage, settings, run, own, force=force) for stage in stages]
        if any(executed) or not run.report.exists():
            write_report([run.notebooks / stage.notebook.name for stage in STAGES], run.report, title=settings.name)
    return run


def _prepare(study: str | Path, run_dir: str | Path, parameters: Mapping[str, Any]) -> tuple[RunFolder, Study, dict]:
    """The run folder with the study as it will be used, and the notebooks' own parameters."""
    own = {name: parse_value(name, value) for name, value in parameters.items() if name.isupper()}
    if own and (unknown := sorted(own.keys() - (known := _own_parameters()))):
        raise InputError(f"parameter {unknown[0]}: no notebook has it; there are {', '.join(sorted(known))}")
    settings = load_study(study, {name: value for name, value in parameters.items() if not name.isupper()})
    return RunFolder(run_dir), settings, own


def _own_parameters() -> set[str]:
    """The notebooks' parameters, without those that say which study and which folder."""
    import papermill

    return {name for stage in STAGES for name in papermill.inspect_notebook(str(stage.notebook))} - {"STUDY", "RUN_DIR"}


@contextlib.contextmanager
def _locked(run: RunFolder) -> Iterator[None]:
    with locked(run.path, "run", wait=False):
        for folder in (run.path, *(path for path in run.path.rglob("*") if path.is_dir())):
            remove_leftovers(folder)
        yield


def _run_stage(stage: Stage, study: Study, run: RunFolder, own: Mapping[str, Any], *, force: bool) -> bool:
    reason = "forced" if force else why_outdated(stage, study, run, own)
    label = NOTEBOOKS[stage.number]
    if reason is None:
        print(f"{label}: up to date", flush=True)
        return False
    print(f"{label}: {reason}", flush=True)
    write_text(run.study, yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False))
    state = _read_state(run)
    before, start = _snapshot(run), time.monotonic()
    earlier = state["stages"].pop(stage.number, {"outputs": {}})["outputs"]
    # Kept until the stage has ended: after a kill, what it had made before that is its output, too
    begun = state.setdefault("begun", {}).setdefault(stage.number, {"outputs": sorted(earlier), "before": before})
    write_json(run.state, state | _describe_run(study, run, own))
    key = _key(stage, study, run, own)
    _execute(stage, run, {"STUDY": str(run.study), "RUN_DIR": str(run.path), **own})
    after = _snapshot(run)
    others = {name for other in state["stages"].values() for name in other["outputs"]}
    # What a resumed stage found complete and left alone is its output as well.
    outputs = {name for name, stamp in after.items() if before.get(name) != stamp or name in begun["outputs"]}
    outputs |= {name for name, stamp in after.items() if begun["before"].get(name) != stamp and name not in others}
    state["begun"] = {number: entry for number, entry in state["begun"].items() if number != stage.number}
    state["stages"][stage.number] = {
        "key": key,
        "outputs": {name: fingerprint(run.path / name) for name in sorted(outputs)},
        "seconds": round(time.monotonic() - start, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(run.state, state | _describe_run(study, run, own))
    return True
