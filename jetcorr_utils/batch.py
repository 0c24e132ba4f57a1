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
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from .addresses import check_no_secrets
from .config import DataSettings, Study, load_study, parse_parameter, project_root
from .errors import InputError, JetcorrError, Stopped
from .extensions import source_files
from .files import MARK, fingerprint, known_shape, locked, read_json, remove_leftovers, write_json, write_text
from .imported_code import code_digests
from .notebooks import NOTEBOOKS, Notebook, literal
from .plain_yaml import dump_yaml
from .report import write_report
from .run import RunFolder
from .search_space import check_space

__all__ = ["NotebookError", "run_notebook", "run_study", "why_outdated"]

log = logging.getLogger(__name__)

# Of the section `data`: where the files lie and how they are had; their content is looked at itself
PLACES: dict[str, Any] = {
    "data": {"files": True, "directory": True, "remote": True, "corrections": True, "simulation": {"workers": True}}
}


class _Record(BaseModel):
    """Of a stage that has ended, in run.json."""

    key: dict[str, str] | str  # a text in run folders of jetcorr 0.1.0
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
NOT_RUN = "not run yet"
VERSIONS = ("torch", "torch-geometric", "awkward", "uproot", "coffea", "hist", "onnxruntime", "optuna", "pythia8mc")


class NotebookError(JetcorrError):
    """A notebook stopped at an error; the executed notebook is kept in the run folder."""


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _files(run: RunFolder) -> dict[str, Path]:
    """The files of the run folder that stages own, by relative name."""
    found = {str(path.relative_to(run.path)): path for path in run.path.rglob("*") if path.is_file()}
    own = {name: path for name, path in found.items() if name not in SHARED and not path.name.endswith(".lock")}
    return {name: path for name, path in own.items() if MARK not in name}


def _snapshot(run: RunFolder) -> dict[str, list[int]]:
    return {name: [path.stat().st_mtime_ns, path.stat().st_size] for name, path in _files(run).items()}


def _key(stage: Notebook, study: Study, run: RunFolder, parameters: Mapping[str, Any]) -> dict[str, str]:
    """What a stage depends on, each by a name that people know, with its checksum."""
    settings = study.model_dump(mode="json", exclude=PLACES)
    inputs = {p for pattern in stage.reads for p in run.path.glob(pattern) if p.is_file()}
    parts: dict[str, Any] = {
        "the notebook": [[cell["cell_type"], cell["source"]] for cell in read_json(stage.path)["cells"]]  # no outputs
    }
    parts |= {f"code {name}": digest for name, digest in code_digests(stage.path, *source_files()).items()}
    for section in stage.settings:
        parts |= {f"setting {name}": value for name, value in _leaves(section, settings[section])}
    if "data" in stage.settings and study.data.corrections:
        parts["file of data.corrections"] = _fingerprint_of_corrections(study.data)
    parts |= {f"parameter {name}": value for name, value in _known_to(stage, parameters).items()}
    parts |= {f"file {p.relative_to(run.path)}": fingerprint(p) for p in sorted(inputs)}
    return {name: _digest(part)[:16] for name, part in parts.items()}


def _fingerprint_of_corrections(settings: DataSettings) -> str | None:
    from .data.reading import official_corrections

    choice = official_corrections(settings)
    return fingerprint(choice.path) if choice else None


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The single settings of a section, by dotted name."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(f"{name}.{key}", inner)
    else:
        yield name, value


def _why_another_key(before: dict[str, str] | str, now: dict[str, str]) -> str | None:
    """What of a stage's key is another than before, by name, or None."""
    if isinstance(before, str) or "the notebook" not in before:
        return "an earlier jetcorr made it"
    names = [name for name in {**now, **before} if before.get(name) != now.get(name)]
    if not names:
        return None
    news = [
        f"{name} {'changed' if name in before and name in now else 'is new' if name in now else 'is gone'}"
        for name in names[:3]
    ]
    return ", ".join(news) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _known_to(stage: Notebook, parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name in stage.parameters}


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


def why_outdated(
    stage: Notebook, study: Study, run: RunFolder, parameters: Mapping[str, Any], data: _Data
) -> str | None:
    """Why a stage has to run, in a few words, or None if it is up to date."""
    record = _read_state(run)["stages"].get(stage.number)
    if record is None:
        return NOT_RUN
    for name, checksum in record["outputs"].items():
        path = run.path / name
        if not path.is_file():
            return f"{name} is missing"
        if fingerprint(path) != checksum:
            return f"{name} was changed"
    if stage.number == "01" and data.now is None:
        return "its data files are missing"
    if (why := data.why_changed(record.get("data"))) is not None:
        return why
    return _why_another_key(record["key"], _key(stage, study, run, parameters))


def _read_state(run: RunFolder) -> dict[str, Any]:
    if not run.state.exists():
        return {"stages": {}}
    state = read_json(run.state)
    with known_shape(run.state):
        _State.model_validate(state)
    return state


def git_commit() -> str | None:
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
        "git_commit": git_commit(),
        "data": read_json(run.data) if run.data.exists() else None,
    }


def _execute(stage: Notebook, run: RunFolder, parameters: Mapping[str, Any]) -> None:
    import papermill

    from .batch_output import ENGINE, showing
    from .own_kernel import own_kernel

    output = run.notebooks / stage.path.name
    run.notebooks.mkdir(exist_ok=True)
    output.unlink(missing_ok=True)  # papermill would write into the file of a link, or wait at a pipe
    with own_kernel() as options, showing(stage.name) as shown:
        try:
            papermill.execute_notebook(
                literal(stage.path), literal(output), parameters=_known_to(stage, parameters),
                cwd=str(stage.folder), engine_name=ENGINE, **options,
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            if shown.interrupted:
                raise Stopped(error.evalue if error.ename == Stopped.__name__ else "") from None
            raise NotebookError(
                f"notebook {stage.name} stopped at cell {error.exec_count}: {error.ename}: "
                f"{error.evalue}\n  the executed notebook with the error: {output}"
            ) from None
        except RuntimeError as error:  # of nbclient, in a cell, and of jupyter_client, at the start
            if not str(error).startswith("Kernel died"):
                raise
            raise NotebookError(
                f"notebook {stage.name}: its process was killed; is there too little memory?\n"
                f"  the notebook as far as it came: {output}"
            ) from None


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
    if number not in NOTEBOOKS:
        raise InputError(f"notebook {number!r}: there are {', '.join(NOTEBOOKS)}")
    run, settings, own = _prepare(study, run_dir, parameters or {})
    with _locked(run):
        return _run_stage(NOTEBOOKS[number], settings, run, own, _Data(settings.data), force=force)


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

    Raises
    ------
    Stopped
        At Ctrl-C; the message says what is finished and kept.
    """
    if first not in NOTEBOOKS:
        raise InputError(f"--from {first!r}: there are {', '.join(NOTEBOOKS)}")
    run, settings, own = _prepare(study, run_dir, parameters or {})
    with _locked(run):
        data = _Data(settings.data)
        executed = []
        for stage in NOTEBOOKS.values():
            if stage.networks and not run.has_candidates:
                print(f"{stage.name}: left out, since the jets have no particle-flow candidates", flush=True)
            elif stage.number >= first:
                try:
                    ran = _run_stage(stage, settings, run, own, data, force=force)
                except KeyboardInterrupt as stop:
                    raise Stopped(_where_stopped(stage, str(stop))) from None
                executed += [stage.number] if ran else []
            elif reason := why_outdated(stage, settings, run, own, data):
                print(f"{stage.name}: left as it is, because the run starts from {first}; {reason}", flush=True)
        if executed or not run.report.exists():
            write_report(run, settings.name)
        if executed:
            seconds = {number: _read_state(run)["stages"][number]["seconds"] for number in executed}
            print("times: " + ", ".join(f"{n} {as_time(s)}" for n, s in seconds.items())
                  + f"; together {as_time(sum(seconds.values()))}", flush=True)  # fmt: skip
    return run


def _where_stopped(stage: Notebook, inside: str) -> str:
    """What somebody who has pressed Ctrl-C wants to know."""
    before = [number for number in NOTEBOOKS if number < stage.number]
    kept = f"; {', '.join(before)} {'is' if len(before) == 1 else 'are'} finished and kept" if before else ""
    within = f" ({inside.partition(';')[0]})" if inside else ""
    return f"stopped in notebook {stage.name}{within}{kept}; the same command goes on from here"


def as_time(seconds: float) -> str:
    """A time as people say it: 12 s, 3 min 20 s, 1 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def _prepare(study: str | Path, run_dir: str | Path, parameters: Mapping[str, Any]) -> tuple[RunFolder, Study, dict]:
    """The run folder with the study as it will be used, and the notebooks' own parameters."""
    own = {name: parse_parameter(name, value) for name, value in parameters.items() if name.isupper()}
    check_no_secrets(own)
    if own:
        defaults = {name: default for notebook in NOTEBOOKS.values() for name, default in notebook.parameters.items()}
        defaults = {name: default for name, default in defaults.items() if name not in ("STUDY", "RUN_DIR")}
        if unknown := sorted(own.keys() - defaults.keys()):
            raise InputError(f"parameter {unknown[0]}: no notebook has it; there are {', '.join(sorted(defaults))}")
        own = {name: _of_kind(name, value, defaults[name]) for name, value in own.items()}
    from .data.locations import anchored, base_parameters

    settings = load_study(study, {name: value for name, value in parameters.items() if not name.isupper()})
    if settings.data.simulation.parameters or settings.physics.variations:
        simulated = base_parameters(settings.data.simulation)  # imports the simulation
        for overrides in settings.physics.variations.values():  # used by the last notebook, when all else is done
            simulated.varied(overrides, "physics.variations")
    if settings.tuning.space:  # so is the search, after hours of training
        check_space(settings.models[settings.tuning.model], settings.tuning.space)
    # Notebooks work in a folder of their own, where a relative path would be another file
    settings = settings.model_copy(update={"data": anchored(settings.data)})
    return RunFolder(run_dir), settings, own


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
        for folder in (run.path, *(path for path in run.path.rglob("*") if path.is_dir())):
            remove_leftovers(folder)
        yield


def _run_stage(
    stage: Notebook, study: Study, run: RunFolder, own: Mapping[str, Any], data: _Data, *, force: bool
) -> bool:
    reason = "forced" if force else why_outdated(stage, study, run, own, data)
    if reason is None:
        print(f"{stage.name}: up to date", flush=True)
        return False
    print(f"{stage.name}: running{'' if reason == NOT_RUN else f' again: {reason}'}", flush=True)
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
