"""A process that reads files it is told, one a line, and says in JSON what it made of each: run by `fuzz`.

Its memory is limited, so that a file that asks for too much fails here and not on the machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import resource
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from click.testing import CliRunner

from jetcorr_utils.cli import main as jetcorr
from jetcorr_utils.config import DataSettings, project_root
from jetcorr_utils.data import load_clouds, read_jets
from jetcorr_utils.errors import InputError
from jetcorr_utils.inference import open_predictors

MEMORY = 6 << 30
"""Bytes of address space; a reader that reads sane files takes half of it."""
SAMPLE = project_root() / "data" / "sample" / "jets.root"


def jets(path: str) -> dict[str, Any]:
    """The columns that the reader of files gives, after `jetcorr info`."""
    result = CliRunner().invoke(jetcorr, ["info", path])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    found = read_jets(path)
    particles = found["particles"]
    columns = {name: ak.to_numpy(found[name]) for name in found.fields if name != "particles"}
    flat = ak.flatten(particles, axis=1)
    return (
        columns | {"number of particles": ak.num(particles)} | {name: ak.to_numpy(flat[name]) for name in flat.fields}
    )


def cache(path: str) -> dict[str, Any]:
    """The clouds of the sample, from the caches in a data directory or made anew there."""
    clouds = load_clouds(DataSettings(files=(str(SAMPLE),), directory=path), progress=False)
    whole = {name: getattr(clouds, name) for name in ("particles", "ptr", "jets", "target", "part")}
    return whole | {f"table.{name}": column for name, column in clouds.table.items()}


def model(path: str) -> dict[str, Any]:
    """What the networks of a repository answer here, and the bytes of what a server would serve of it."""
    from jetcorr_utils.serving.served_repository import ServedRepository
    from tests.networks import some_clouds

    found: dict[str, Any] = {}
    for name, predictor in open_predictors(path).items():
        with predictor:
            found[name] = np.stack(predictor.predict(some_clouds(40)))
    with tempfile.TemporaryDirectory() as folder:
        for problem in ServedRepository(Path(path), Path(folder)).update():
            raise InputError(problem)
        served = sorted(Path(folder).rglob("model.onnx"))
        return found | {str(file.relative_to(folder)): np.frombuffer(file.read_bytes(), np.uint8) for file in served}


def checkpoint(path: str) -> dict[str, Any]:
    """The weights of a trained network, and how its training went."""
    from jetcorr_utils.training import load_model, load_result

    history = load_result(Path(path)).history
    values = {name: history[name].to_numpy() for name in history}
    return values | {name: weight.numpy() for name, weight in load_model(path).state_dict().items()}


def state(path: str) -> dict[str, Any]:
    """The weights at the end of a training that goes on from what is saved there."""
    from jetcorr_utils.training import load_model

    from .broken import resume

    resume(Path(path))
    return {name: weight.numpy() for name, weight in load_model(path).state_dict().items()}


READERS: dict[str, Callable[[str], dict[str, Any]]] = {
    reader.__name__: reader for reader in (jets, cache, model, checkpoint, state)
}


def look_at(kind: str, path: str) -> dict[str, Any]:
    """What comes of reading a file, or folder, of a kind: checksums of the arrays in it, or why it is refused."""
    try:
        arrays = READERS[kind](path).items()
        sums = {name: hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for name, array in arrays}
        return {"state": "read", "columns": sums}
    except InputError as error:
        named = Path(path).name in str(error) and "\n" not in str(error)
        return {"state": "refused" if named else "unclear", "message": str(error)[:300]}
    except MemoryError:
        return {"state": "memory", "message": "more memory than is allowed"}
    except Exception as error:
        return {"state": "traceback", "message": f"{type(error).__name__}: {error}"[:300]}


def main() -> None:
    """Answer each line with one."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    logging.disable()
    with contextlib.redirect_stderr(None):
        for line in sys.stdin:
            answer = look_at(*json.loads(line))
            answer["peak_kb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
