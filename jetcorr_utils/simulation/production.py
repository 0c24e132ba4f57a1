"""Simulated jets in files: a stream of blocks of events, cut into files, that can be interrupted at any time."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import awkward as ak
import uproot
from tqdm.auto import tqdm

from ..baseline import load_correction
from ..errors import InputError
from ..files import atomic_path, checksum, locked, read_json, write_json
from ..jets.columns import BRANCHES, TREE
from ..processes import cores
from .calibration import CORRECTIONS
from .event_blocks import Blocks
from .events import Events
from .ntuple import create_tree, ntuple
from .parameters import SIMULATION_VERSION, Parameters

__all__ = ["BLOCKS_PER_FILE", "block_of_jets", "recorded_checksums", "simulate"]

BLOCKS_PER_FILE = 10
_COMPRESSION = uproot.ZSTD(7)
_IDENTITY = "simulation.json"
_JETS_PER_EVENT = 3.1  # typical; decides only how far workers run ahead near the end
_MAX_SEED = 2**31 - 1  # the seed is the run number, a 32-bit branch


def simulate(
    jets: int, seed: int, out: Path, workers: int | None = None, progress: bool = True, *,
    parameters: Parameters | None = None, corrections: Path = CORRECTIONS,
) -> list[Path]:  # fmt: skip
    """Simulate proton collisions and write their jets as JetNTuple files.

    The jets depend on `seed` and `parameters` only, not on `workers`; fewer jets of the same seed are the first of
    more. Each file holds ten blocks of events, the last one what is left. Files are complete or absent: run again
    after an interruption, and what is missing is made.

    Parameters
    ----------
    jets
        How many jets, in all files together.
    seed
        0 to 2 147 483 647; it becomes the run number, so that events of different seeds can be told apart.
    out
        Folder for jets_000.root, jets_001.root, … and simulation.json.
    workers
        Processes; default: one a core.
    parameters, corrections
        The simulated detector, and the standard corrections that were derived for it.

    Returns
    -------
    list of Path
        The files, in order.

    Raises
    ------
    InputError
        If a number is out of range, or if the folder holds jets of another simulation, or more jets than asked for.
    """
    parameters = parameters or Parameters()
    workers = cores() if workers is None else workers
    for name, value, low, high in (
        ("jets", jets, 1, 10**10),
        ("seed", seed, 0, _MAX_SEED),
        ("workers", workers, 1, 1024),
    ):
        if not low <= value <= high:
            raise InputError(f"simulate: {name} is {value}, must be {low} to {high}")
    with locked(out, "simulation"):  # processes that train together ask for the same jets at once
        return _simulate(jets, seed, Path(out), workers, progress, parameters, corrections)


def _simulate(
    jets: int, seed: int, out: Path, workers: int, progress: bool, parameters: Parameters, corrections: Path
) -> list[Path]:
    files, made = _resume(out, {"version": SIMULATION_VERSION, "seed": seed, "parameters": parameters.key()}, jets)
    if made == jets:
        return files
    with (
        Blocks(parameters, seed, workers) as source,
        tqdm(total=jets, initial=made, desc="simulate", unit="jet", disable=not progress) as bar,
    ):
        settings = parameters.generator
        expected = -(-int((jets - made) / _JETS_PER_EVENT) // (settings.events_per_block * settings.reuse))
        reduce = functools.partial(block_of_jets, corrections=corrections, leading=settings.leading_jets)
        blocks = source.run(reduce, len(files) * BLOCKS_PER_FILE, expected)
        while made < jets:
            files.append(out / f"jets_{len(files):03d}.root")
            made += _write_file(files[-1], blocks, jets - made, bar)
            _record(files[-1])
        if progress:
            elapsed = bar.format_dict["elapsed"]
            share = source.pythia_seconds / max(elapsed * workers, 1e-9)
            rate = (bar.n - bar.initial) / max(elapsed, 1e-9) / workers
            bar.set_postfix_str(f"{rate:.0f} jets/s a worker, Pythia {100 * share:.0f} % of the time")
    return files


def recorded_checksums(folder: Path) -> dict[str, str]:
    """XXH3 of the files of a simulation when they were written, by name: ROOT's own blocks often have none."""
    return read_json(folder / _IDENTITY).get("xxh3", {})


def block_of_jets(events: Events, seed: int, block: int, corrections: Path, leading: int = 0) -> ak.Array:
    """The jets of one block of events, with the standard corrections of the file `corrections`."""
    return ntuple(events, load_correction(corrections), seed, block, leading)


def _write_file(path: Path, blocks: Iterator[ak.Array], wanted: int, bar: tqdm) -> int:
    """Write one file's blocks, cut to `wanted` jets, and return how many jets it has."""
    written = 0
    with atomic_path(path) as temporary, uproot.recreate(temporary, compression=_COMPRESSION) as file:
        tree = create_tree(file)
        for _ in range(BLOCKS_PER_FILE):
            block = next(blocks)[: wanted - written]
            tree.extend({name: block[name] for name in BRANCHES})
            written += len(block)
            bar.update(len(block))
            if written == wanted:
                break
    return written


def _resume(out: Path, identity: dict, jets: int) -> tuple[list[Path], int]:
    """The complete files in `out` and their number of jets; writes the identity of the simulation if it is new."""
    file = out / _IDENTITY
    if not file.exists():
        if strangers := sorted(out.glob("jets_*.root")):
            raise InputError(f"{strangers[0]}: its folder has no {_IDENTITY}; choose another folder for the simulation")
        write_json(file, identity | {"jets": jets})
        return [], 0
    before = read_json(file)
    found = dict(before)
    wanted_before, checksums = found.pop("jets", None), found.pop("xxh3", {})
    if differs := ", ".join(key for key in identity if found.get(key) != identity[key]):
        raise InputError(f"{out}: holds jets of another simulation ({differs} differ); choose another folder")
    files: list[Path] = []
    sizes: list[int] = []
    while (path := out / f"jets_{len(files):03d}.root").exists():
        files.append(path)
        sizes.append(_count(path))
    if sum(sizes) > jets:
        raise InputError(f"{out}: holds {sum(sizes)} jets of this simulation already; choose another folder for {jets}")
    if files and sum(sizes) == wanted_before and sum(sizes) < jets:
        files.pop()  # it was cut short where the earlier simulation ended
        sizes.pop()
    kept = {path.name: checksums.get(path.name) or checksum(path) for path in files}
    if (record := identity | {"jets": jets, "xxh3": kept}) != before:
        write_json(file, record)
    return files, sum(sizes)


def _record(path: Path) -> None:
    """Note the checksum of a file in the record of its simulation."""
    identity = path.parent / _IDENTITY
    found = read_json(identity)
    write_json(identity, found | {"xxh3": found.get("xxh3", {}) | {path.name: checksum(path)}})


def _count(path: Path) -> int:
    try:
        with uproot.open(path) as file:
            return int(file[TREE].num_entries)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise InputError(f"{path}: not a file of the simulation ({type(error).__name__}); delete it") from None
