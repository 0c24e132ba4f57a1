"""What a command has left in a folder, as comparable values: bytes where these are promised, else the values in them.

Wall times, event files named by time and process, and figures (05 draws speeds) do not count; that they are there does.
"""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pandas as pd
import uproot

from jetcorr_utils.files import checksum, fingerprint, read_json

__all__ = ["arrays_of", "differences", "snapshot"]

TIMES = re.compile(r"seconds|jets_per_s|speedup|finished|overhead|model_us|inference|servers?$|usage")
"""Names of values that a clock decides."""
BY_NAME_ONLY = {".ipynb", ".html", ".png", ".pdf", ".lock", ".log", ".jsonl"}


def arrays_of(path: Path) -> dict[str, bytes]:
    """A checksum of each branch of each tree in a ROOT file."""
    found = {}
    with uproot.open(path) as file:
        for tree in file.keys(filter_classname="TTree", cycle=False):
            for name in file[tree].keys(recursive=False):
                array = ak.to_packed(file[tree][name].array())
                form, length, buffers = ak.to_buffers(array)
                parts = [str(form).encode(), str(length).encode(), *(np.asarray(b).tobytes() for b in buffers.values())]
                found[f"{tree}/{name}"] = hashlib.sha256(b"".join(parts)).digest()
    return found


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if not TIMES.search(key)}
    return value


def _table(path: Path) -> str:
    table = pd.read_csv(path)
    text = io.StringIO()
    table[[name for name in table if not TIMES.search(name)]].to_csv(text)
    return text.getvalue()


def _record(path: Path) -> dict[str, Any]:
    """run.json: which stages are complete with which files, whose checksums must be true."""
    found = {}
    for number, stage in read_json(path)["stages"].items():
        outputs = {_name(name) for name in stage["outputs"]}
        wrong = [name for name, sha in stage["outputs"].items() if fingerprint(path.parent / name) != sha]
        found[number] = {"outputs": sorted(outputs), "wrong checksums": wrong}  # the key of 06 depends on speeds
    return found


def _simulation(path: Path) -> dict[str, Any]:
    """simulation.json, with whether the checksums are true: the files hold when they were written."""
    record = read_json(path)
    sums = {name: checksum(path.parent / name) == value for name, value in record.get("xxh3", {}).items()}
    return record | {"xxh3": sums}


def _result(path: Path) -> dict[str, Any]:
    """How a training or trial went, with whether the checksums of its files are true: history and digest have times."""
    record = _without_times(read_json(path))
    record.pop("digest", None)
    sums = {name: fingerprint(path.parent / name) == value for name, value in record.get("files", {}).items()}
    return record | {"files": sums}


def _name(name: str) -> str:
    """Event files have their time and process in their name."""
    return re.sub(r"events\.out\.tfevents.*", "events", name)


def _content(path: Path) -> Any:
    if path.name == "run.json":
        return _record(path)
    if path.name == "simulation.json":
        return _simulation(path)
    if path.name == "checksums.json":  # of when a file was changed
        return None
    if path.suffix in BY_NAME_ONLY or ".tfevents." in path.name:
        return None
    if path.suffix == ".root":
        return arrays_of(path)
    if path.name in ("result.json", "trial.json"):
        return _result(path)
    if path.suffix == ".json":
        return _without_times(read_json(path))
    if path.suffix == ".csv":
        return _table(path)
    return fingerprint(path)


def snapshot(folder: Path, ignore: str = r"$^") -> dict[str, Any]:
    """All files under a folder by name, with their comparable content; those whose name matches `ignore` are not."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = {path: _name(str(path.relative_to(folder))) for path in files}
    return {name: _content(path) for path, name in found.items() if not re.search(ignore, name)}


def differences(expected: dict[str, Any], found: dict[str, Any]) -> tuple[list[str], list[str], list[str]]:
    """Names that are missing, that are different, and that should not be there."""
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(found.keys() - expected.keys())
    different = sorted(
        f"{name}{_where(expected[name], found[name])}"
        for name in expected.keys() & found.keys()
        if expected[name] != found[name]
    )
    return missing, different, extra


def _where(expected: Any, found: Any) -> str:
    """The first key at which two contents differ, as ``:key.key``."""
    if not (isinstance(expected, dict) and isinstance(found, dict)):
        return ""
    key = next(key for key in expected | found if expected.get(key) != found.get(key))
    return f":{key}{_where(expected.get(key), found.get(key))}"
