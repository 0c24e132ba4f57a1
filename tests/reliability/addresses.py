"""Addresses with a password, a token or a signature, given wherever a command takes an address.

Each must be refused in one line, and the secret stand in no file, no name of a file, and nothing that is printed.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from tests.planted import SECRET, SECRET_ADDRESSES

from .jobs import CLI
from .machine import clear
from .processes import Sandbox
from .report import Row

__all__ = ["COMMANDS", "secret_addresses", "secret_that_got_through"]

COMMANDS = [
    ("run", "--study", "smoke", "--out", "{work}/run", "-p", "data.files", "LIST"),
    ("run", "--study", "smoke", "--out", "{work}/run", "-p", "LOG_DIR", "ADDRESS"),
    ("run", "--study", "smoke", "--out", "{work}/run", "-p", "data.files", "[ADDRESS"),
    ("run", "--study", "{work}/study.yaml", "--out", "{work}/run"),
    ("train", "--study", "{work}/study.yaml", "--out", "{work}/run"),
    ("train", "--study", "smoke", "--out", "{work}/run", "-p", "serving.url", "ADDRESS"),
    ("manifests", "--study", "{work}/study.yaml", "--out", "{work}/manifests"),
    ("info", "ADDRESS"),
    ("correct", "ADDRESS", "--model", "{work}", "--out", "{work}/out.root"),
    ("correct", "data/sample/jets.root", "--model", "ADDRESS", "--out", "{work}/out.root"),
    ("correct", "data/sample/jets.root", "--model", "{work}", "--out", "ADDRESS"),
    ("serve", "--repository", "ADDRESS"),
    ("results", "ADDRESS"),
    ("opendata", "12100", "--portal", "ADDRESS"),
]  # fmt: skip
"""Where a command takes an address, as it is or in a list."""


def secret_that_got_through(command: Sequence[str], address: str, sandbox: Sandbox) -> list[str]:
    """What is wrong after a command with an address that holds `SECRET`; nothing if it was refused."""
    work = sandbox.work
    shutil.rmtree(work)
    work.mkdir()
    study = {"data": {"files": [address], "directory": str(work / "data")}, "models": {"pfn": {"architecture": "pfn"}}}
    (work / "study.yaml").write_text(json.dumps(study), encoding="utf-8")
    words = {"LIST": json.dumps([address]), "ADDRESS": address, "[ADDRESS": f"[{address}"}
    process = sandbox.run([*CLI, *(words.get(word, word.replace("{work}", str(work))) for word in command)])
    (work / "study.yaml").unlink()
    problems = [f"{path.name} holds it" for folder in (work, sandbox.temporary) for path in _holding(folder)]
    if SECRET in process.output:
        problems.append("it is printed")
    if process.code != 2 or not (clear(process) or process.output.startswith("Usage: ")):
        problems.append(f"exit code {process.code}: {process.output[-300:]}")
    if left := process.left():
        problems.append(f"{len(left)} processes left")
    return problems


def _holding(folder: Path) -> list[Path]:
    """Files below a folder that hold the secret, and folders and files with it in their names."""
    found = list(folder.rglob("*"))
    return [path for path in found if SECRET in str(path) or (path.is_file() and SECRET.encode() in path.read_bytes())]


def secret_addresses(tries: int, seed: int, sandbox: Sandbox) -> Row:
    """Give an address with a secret to a command, each time another of both."""
    cases = [(command, address) for command in COMMANDS for address in SECRET_ADDRESSES]
    random.Random(f"{seed}-addresses").shuffle(cases)
    row = Row("a secret in an address", "all that take one", seed=seed, note=f"of {len(cases)} cases")
    for command, address in tqdm(cases[:tries], desc="addresses", unit="case"):
        problems = secret_that_got_through(command, address, sandbox)
        row.tries += 1
        row.add(wrong=bool(problems))
        row.remember(*(f"{' '.join(command)} with {address}: {problem}" for problem in problems))
    return row
