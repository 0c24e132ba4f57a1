"""The batch run: papermill over the numbered notebooks, redoing only what is out of date.

A notebook (a *stage*) is up to date when its key, its outputs and the study's data are those of its last run. The key
covers what else it depends on: its source, the package's code that it calls, its part of the study, its parameters, and
the checksums of what earlier stages wrote for it. So an edited plot function reruns notebook 06 alone, a deleted figure
reruns the notebook that draws it, and another data file reruns all. Content counts, not paths: a run folder, or the
data, may be moved. run.json keeps the record.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import logging
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from .addresses import check_no_secrets
from .config import DataSettings, Study, load_study, parse_parameter, project_root
from .errors import InputError, JetcorrError
from .files import MARK, fingerprint, known_shape, locked, read_json, remove_leftovers, write_json, write_text
from .plain_yaml import dump_yaml
from .report import write_report
from .run import NOTEBOOKS, RunFolder

__all__ = ["STAGES", "NotebookError", "Stage", "run_notebook", "run_study"]

log = logging.getLogger(__name__)

# Of the section `data`: where the files lie and how they are had; their content is looked at itself
PLACES = {"data": {"files": True, "directory": True, "remote": True, "simulation": {"workers": True}}}


class _Record(BaseModel):
    """Of a stage that has ended, in run.json."""

    key: str
    outputs: dict[str, str]
    data: list[tuple[str, str]] | None = None


class _Begun(BaseModel):
    """Of a stage that was begun: what it had made by then, and what lay in the folder before."""

    outputs: list[str]
    before: dict[str, list[int]]


class _State(BaseModel):
    """What of run.json is read again."""

    stages: dict[str, _Record]
    begun: dict[str, _Begun] = {}


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
    Stage("02", _MODEL, ("data", "models"), ()),
    Stage("03", (*_MODEL, "tuning", "style.py"), ("data", "models", "tuning"), ("model/*/checkpoint.pt",)),
    # The histories hold wall times: what they say about the best network, its checkpoint says as well.
    Stage("04", (*_MODEL, "export", "physics/precision.py", "style.py"), ("data", "models", "export"),
          ("model/*/checkpoint.pt", "model/*/settings.json", "tuning/best/checkpoint.pt", "tuning/best/settings.json")),
    Stage("05", ("data", "export", "serving", "style.py"), ("data", "serving"), ("model_repository/**/*",)),
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
    settings = study.model_dump(mode="json", exclude=PLACES)
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


class _Data:
    """The files of a study as they are now: looked at once, and again when a stage may have made or replaced them."""

    def __init__(self, settings: DataSettings) -> None:
        self._settings = settings

    @functools.cached_property
    def now(self) -> list[list[str]] | None:
        """Name and checksum of each, or None where they are not all there."""
        from .data.locations import present_checksums

        return present_checksums(self._settings)

    def look_again(self) -> None:
        """Forget what was seen."""
        self.__dict__.pop("now", None)

    def why_changed(self, before: list[list[str]] | None) -> str | None:
        """Which file is another than `before`, in a few words, or None if all are the same."""
        if before is None or self.now is None:
            return None
        known, names, checksums = dict(before), {name for name, _ in self.now}, [checksum for _, checksum in self.now]
        if checksums == [checksum for _, checksum in before]:
            return None
        for name, checksum in self.now:
            if checksum not in known.values():
                replaces = name in known and known[name] not in checksums
                return f"data file {name} {'was changed' if replaces else 'is new'}"
        gone = [name for name in known if name not in names]
        return f"data file {gone[0]} is gone" if gone else "its data files are in another order"


def why_outdated(stage: Stage, study: Study, run: RunFolder, parameters: Mapping[str, Any], data: _Data) -> str | None:
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
    if stage.number == "01" and data.now is None:
        return "its data files are missing"
    if changed := data.why_changed(record.get("data")):
        return changed
    if record["key"] != _key(stage, study, run, parameters):
        return "what it depends on has changed"
    return None


def _read_state(run: RunFolder) -> dict[str, Any]:
    if not run.state.exists():
        return {"stages": {}}
    state = read_json(run.state)
    with known_shape(run.state):
        _State.model_validate(state)
    return state


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

    from .own_kernel import own_kernel

    output = run.notebooks / stage.notebook.name
    run.notebooks.mkdir(exist_ok=True)
    output.unlink(missing_ok=True)  # papermill would write into the file of a link, or wait at a pipe
    names = papermill.inspect_notebook(_literal(stage.notebook))
    known = {name: value for name, value in parameters.items() if name in names}
    with own_kernel() as options:
        try:
            papermill.execute_notebook(
                _literal(stage.notebook), _literal(output), parameters=known, cwd=str(stage.notebook.parent), **options
            )
        except papermill.PapermillExecutionError as error:
            raise NotebookError(
                f"notebook {NOTEBOOKS[stage.number]} stopped at cell {error.exec_count}: {error.ename}: "
                f"{error.evalue}\n  the executed notebook with the error: {output}"
            ) from None


def _literal(path: Path) -> str:
    """A path for papermill, which takes braces in it for a place to put a parameter into."""
    return str(path).replace("{", "{{").replace("}", "}}")


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
        return _run_stage(stages[number], settings, run, own, _Data(settings.data), force=force)


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
        data = _Data(settings.data)
        for stage in [stage for stage in STAGES if stage.number < first]:
            if reason := why_outdated(stage, settings, run, own, data):
                print(f"{NOTEBOOKS[stage.number]}: left as it is, from {first} on was asked for; {reason}", flush=True)
        stages = [stage for stage in STAGES if stage.number >= first]
        executed = [_run_stage(stage, settings, run, own, data, force=force) for stage in stages]
        if any(executed) or not run.report.exists():
            write_report([run.notebooks / stage.notebook.name for stage in STAGES], run.report, title=settings.name)
    return run


def _prepare(study: str | Path, run_dir: str | Path, parameters: Mapping[str, Any]) -> tuple[RunFolder, Study, dict]:
    """The run folder with the study as it will be used, and the notebooks' own parameters."""
    own = {name: parse_parameter(name, value) for name, value in parameters.items() if name.isupper()}
    check_no_secrets(own)
    if own:
        defaults = _own_parameters()
        if unknown := sorted(own.keys() - defaults.keys()):
            raise InputError(f"parameter {unknown[0]}: no notebook has it; there are {', '.join(sorted(defaults))}")
        own = {name: _of_kind(name, value, defaults[name]) for name, value in own.items()}
    settings = load_study(study, {name: value for name, value in parameters.items() if not name.isupper()})
    return RunFolder(run_dir), settings, own


def _own_parameters() -> dict[str, str]:
    """The notebooks' parameters and the code of their defaults, without those that say which study and which folder."""
    import papermill

    notebooks = [papermill.inspect_notebook(_literal(stage.notebook)) for stage in STAGES]
    found = {name: about for notebook in notebooks for name, about in notebook.items()}
    return {name: about["default"] for name, about in found.items() if name not in ("STUDY", "RUN_DIR")}


def _of_kind(name: str, value: Any, default: str) -> Any:
    """The value for a parameter with this default: ``off`` is no text where a boolean stands, which would be true."""
    if default not in ("True", "False"):
        return value
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError:
        raise InputError(f"parameter {name}: {value!r} is neither true nor false") from None


@contextlib.contextmanager
def _locked(run: RunFolder) -> Iterator[None]:
    with locked(run.path, "run", wait=False):
        run.refuse_links()
        for folder in (run.path, *(path for path in run.path.rglob("*") if path.is_dir())):
            remove_leftovers(folder)
        yield


def _run_stage(stage: Stage, study: Study, run: RunFolder, own: Mapping[str, Any], data: _Data, *, force: bool) -> bool:
    reason = "forced" if force else why_outdated(stage, study, run, own, data)
    label = NOTEBOOKS[stage.number]
    if reason is None:
        print(f"{label}: up to date", flush=True)
        return False
    print(f"{label}: {reason}", flush=True)
    write_text(run.study, dump_yaml(study.model_dump(mode="json")))
    state = _read_state(run)
    before, start = _snapshot(run), time.monotonic()
    earlier = state["stages"].pop(stage.number, {"outputs": {}})["outputs"]
    # Kept until the stage has ended: after a kill, what it had made before that is its output, too
    begun = state.setdefault("begun", {}).setdefault(stage.number, {"outputs": sorted(earlier), "before": before})
    write_json(run.state, state | _describe_run(study, run, own))
    key, used = _key(stage, study, run, own), None if stage.number == "01" else data.now
    _execute(stage, run, {"STUDY": str(run.study), "RUN_DIR": str(run.path), **own})
    if stage.number == "01":
        data.look_again()
    after = _snapshot(run)
    others = {name for other in state["stages"].values() for name in other["outputs"]}
    # What a resumed stage found complete and left alone is its output as well.
    outputs = {name for name, stamp in after.items() if before.get(name) != stamp or name in begun["outputs"]}
    outputs |= {name for name, stamp in after.items() if begun["before"].get(name) != stamp and name not in others}
    state["begun"] = {number: entry for number, entry in state["begun"].items() if number != stage.number}
    state["stages"][stage.number] = {
        "key": key,
        "data": data.now if used is None else used,  # simulated files are there only afterwards
        "outputs": {name: fingerprint(run.path / name) for name in sorted(outputs)},
        "seconds": round(time.monotonic() - start, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(run.state, state | _describe_run(study, run, own))
    return True
