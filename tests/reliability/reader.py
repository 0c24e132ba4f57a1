"""A process that reads files it is told, one a line, and says in JSON what it made of each: run by `fuzz`.

Its memory is limited, so that a file that asks for too much fails here and not on the machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
import sys
import warnings
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from click.testing import CliRunner

from jetcorr_utils.cli import main as jetcorr
from jetcorr_utils.data import read_jets
from jetcorr_utils.errors import InputError

MEMORY = 6 << 30
"""Bytes of address space; a reader that reads sane files takes half of it."""


def columns(path: str) -> dict[str, str]:
    """A checksum of each column that the reader gives."""
    jets = read_jets(path)
    particles = jets["particles"]
    arrays = {name: ak.to_numpy(jets[name]) for name in jets.fields if name != "particles"}
    arrays["number of particles"] = ak.to_numpy(ak.num(particles))
    flat = ak.flatten(particles, axis=1)
    arrays |= {name: ak.to_numpy(flat[name]) for name in flat.fields}
    return {name: hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for name, array in arrays.items()}


def look_at(path: str) -> dict[str, Any]:
    """What `jetcorr info` and the reader make of a file."""
    result = CliRunner().invoke(jetcorr, ["info", path])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return {"state": "traceback", "message": f"info: {result.exception!r}"}
    found: dict[str, Any] = {"info": result.exit_code}
    try:
        return found | {"state": "read", "columns": columns(path)}
    except InputError as error:
        named = Path(path).name in str(error) and "\n" not in str(error)
        return found | {"state": "refused" if named else "unclear", "message": str(error)[:300]}
    except MemoryError:
        return found | {"state": "memory", "message": "more memory than is allowed"}
    except Exception as error:
        return found | {"state": "traceback", "message": f"{type(error).__name__}: {error}"[:300]}


def main() -> None:
    """Answer each line with one."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    with contextlib.redirect_stderr(None):
        for line in sys.stdin:
            answer = look_at(line.strip())
            answer["peak_kb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
