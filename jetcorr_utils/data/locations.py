"""The files of a study: paths, globs, lists of files and URLs, or the embedded simulation if there are none."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import DataSettings, RemoteSettings, SimulationSettings, project_root
from ..errors import InputError
from ..files import NO_NAME, at_home, fingerprint, local_path, locked, refuse_links, refuse_special, write_json
from .fingerprints import Fingerprints
from .nanoaod import AK4
from .opendata import fetch_record, files_of_record, is_record
from .reading import open_jets
from .remote import expand, fetch, is_remote, origin

if TYPE_CHECKING:
    from ..simulation import Parameters

__all__ = [
    "anchored",
    "data_directory",
    "each_once",
    "ensure_files",
    "expand_patterns",
    "present_checksums",
    "record_files",
]

log = logging.getLogger(__name__)

_FIRST_SLICE = 10  # the seed of the first slice lies so far from that of the flat sample: variations have the next ones


def data_directory(settings: DataSettings) -> Path:
    """The folder of generated data and caches; relative ones count from the project's folder.

    Raises
    ------
    InputError
        If another kind of file has its place, or another account has put a link there that leads out of it.
    """
    folder = project_root() / local_path(settings.directory)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"data.directory {settings.directory}: is a file, not a folder; choose another")
    for part in ("cache", "simulated"):
        refuse_links(folder / part, of_others=True)
    return folder


def ensure_files(settings: DataSettings, progress: bool = True) -> list[str]:
    """The local files of a study, in order; simulated first where the study names none, copied where they are remote.

    Relative paths and globs are looked for from the current folder, then from the project's. An entry that ends with
    ``.txt`` is a list of further entries, one a line; lines that begin with ``#`` are comments. Entries such as
    ``opendata:12100?files=1-10`` are files of a record of the CERN Open Data portal, see `opendata`.

    Raises
    ------
    InputError
        If an entry matches nothing, or a remote file cannot be had.
    """
    if not settings.files:
        return _simulated(settings, progress)
    copies = data_directory(settings) / "cache" / "remote"
    found: list[str] = []
    for entry in _entries(settings.files):
        if is_record(entry):
            found += map(str, fetch_record(entry, copies, settings.remote, progress))
        elif is_remote(entry):
            urls = expand(entry, settings.remote)
            found += [str(fetch(url, copies, settings.remote, progress)) for url in urls]
        else:
            found += _matches(entry)
    return _each_once(found)


def each_once(names: Sequence[str | Path]) -> list[str]:
    """The files that names on a command line mean, see `expand_patterns`, without those that are a file named before.

    By whatever name: its jets would be there twice, and errors too small.
    """
    return _each_once(expand_patterns(names))


def _each_once(paths: Sequence[str]) -> list[str]:
    found: dict[Any, str] = {}
    for path in paths:
        place = path.removeprefix("file://")
        status = os.stat(place) if os.path.exists(place) else None
        key = (status.st_dev, status.st_ino) if status else path
        if key in found:
            log.warning("%s: is the file %s, which is read once only", path, found[key])
        else:
            found[key] = path
    return list(found.values())


def expand_patterns(names: Sequence[str | Path]) -> list[str]:
    """The files that names on a command line mean: a shell leaves a pattern in quotes to us, and any of an address.

    Raises
    ------
    InputError
        If nothing matches a pattern.
    """
    found: list[str] = []
    for name in map(str, names):
        if is_record(name):
            found += [file.url for file in files_of_record(name, RemoteSettings())]
        elif is_remote(name):
            found += expand(name, RemoteSettings())
        elif not name:
            raise InputError(NO_NAME)
        elif glob.has_magic(name) and not os.path.lexists(_path(name)):
            matches = sorted(glob.glob(str(_path(name)), recursive=True))
            if not matches:
                raise InputError(f"{name}: no file matches")
            found += matches
        else:
            found.append(name)
    return found


def _entries(files: Sequence[str]) -> list[str]:
    """The entries, with those of file lists in their place."""
    entries = []
    for entry in files:
        if not entry.endswith(".txt") or is_remote(entry):
            entries.append(entry)
            continue
        (listing,) = _matches(entry)
        try:
            text = Path(listing).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise InputError(f"{listing}: the list of files is not UTF-8 text") from None
        lines = [line.strip() for line in text.splitlines()]
        entries += [line for line in lines if line and not line.startswith("#")]
    return entries


def anchored(settings: DataSettings) -> DataSettings:
    """The same settings with absolute paths, for processes that work in another folder; what is missing stays so."""
    entries = list(settings.files)
    with contextlib.suppress(InputError):
        entries = _entries(entries)
    files = tuple(e if is_record(e) or is_remote(e) else _absolute(e) for e in entries)
    corrections = settings.corrections and _absolute(settings.corrections)
    return settings.model_copy(update={"files": files, "corrections": corrections})


def _absolute(entry: str) -> str:
    base = Path()
    with contextlib.suppress(InputError):
        base, _ = _found(entry)
    return os.path.abspath(base / _path(entry))


def _matches(entry: str) -> list[str]:
    """The files behind one entry."""
    return _found(entry)[1]


def _path(entry: str) -> Path:
    return at_home(entry.removeprefix("file://"))


def _found(entry: str) -> tuple[Path, list[str]]:
    """The folder that one entry counts from, and the files behind it."""
    if not entry.removeprefix("file://"):
        raise InputError(NO_NAME)
    path = _path(entry)
    for base in (Path(), project_root()):
        if (base / path).is_file():
            return base, [str(base / path)]
        # A folder that is there is no pattern, whatever characters its name has
        known, rest = (base / path.parent, path.name) if (base / path.parent).is_dir() else (base, path)
        pattern = Path(glob.escape(str(known)), rest)
        found = sorted(name for name in glob.glob(str(pattern), recursive=True) if Path(name).is_file())
        if found:
            return base, found
    if path.is_dir():
        raise InputError(f"{entry}: is a folder; give the files in it, for example '{entry}/*.root'")
    refuse_special(path)
    raise InputError(f"{entry}: {'no file matches' if glob.has_magic(entry) else 'there is no such file'}")


def present_checksums(settings: DataSettings) -> list[list[str]] | None:
    """Name and XXH3 of each file of a study as they are now, in order; None where they are not all there.

    Nothing is simulated. A remote file whose server has another version by now is copied anew.
    """
    try:
        files = ensure_files(settings) if settings.files else _simulated_before(settings)
    except InputError:  # the notebook that needs them says why
        return None
    known = _known_checksums(settings)
    return [[Path(file).name, known.of(file)] for file in files] or None


def _known_checksums(settings: DataSettings) -> Fingerprints:
    return Fingerprints(data_directory(settings) / "cache" / "checksums.json")


def _simulated(settings: DataSettings, progress: bool) -> list[str]:
    """The files of the flat sample, and of its slices."""
    from ..simulation import recorded_checksums, simulate

    found: list[str] = []
    known, workers = _known_checksums(settings), settings.simulation.workers
    corrections = simulated_corrections(settings, progress)
    for folder, jets, seed, parameters in _samples(settings):
        files = simulate(
            jets, seed, folder, workers=workers, progress=progress, parameters=parameters, corrections=corrections
        )
        recorded = recorded_checksums(folder)
        for path in files:
            if path.name in recorded and known.of(path) != recorded[path.name]:
                raise InputError(
                    f"{path}: damaged: it is not what the simulation wrote; delete it, and it is made again"
                )
        found += [str(path) for path in files]
    return found


def base_parameters(settings: SimulationSettings) -> Parameters:
    """The simulation's parameters, with those that a study changes (``data.simulation.parameters``).

    Raises
    ------
    InputError
        If there is none of a name, or its value is of another kind.
    """
    from ..simulation import Parameters

    if "generator.reuse" in settings.parameters:
        raise InputError("data.simulation.parameters: generator.reuse is the setting data.simulation.reuse; give that")
    return Parameters().varied(settings.parameters, "data.simulation.parameters")


def simulated_corrections(settings: DataSettings, progress: bool = True) -> Path:
    """The file of the standard corrections of the simulated jets: that of the package, or for a detector of a study's
    own one that is derived first, which takes a minute or two, and kept.
    """
    from ..simulation import SIMULATION_VERSION, Parameters
    from ..simulation.calibration import CORRECTIONS, derive_corrections

    parameters = base_parameters(settings.simulation)
    if parameters == Parameters():
        return CORRECTIONS
    folder = data_directory(settings) / "simulated" / f"corrections-{parameters.key()}-v{SIMULATION_VERSION}"
    path = folder / CORRECTIONS.name
    with locked(folder, "calibration"):
        if not path.is_file():
            workers = settings.simulation.workers
            derive_corrections(path, workers=workers, parameters=parameters, progress=progress)
    return path


def _simulated_before(settings: DataSettings) -> list[str]:
    """Those of them that lie there, and none if a sample has none."""
    samples = [sorted(folder.glob("jets_*.root")) for folder, *_ in _samples(settings)]
    return [str(path) for files in samples for path in files] if all(samples) else []


def _samples(settings: DataSettings) -> Iterator[tuple[Path, int, int, Parameters]]:
    """Folder, jets, seed and parameters of each simulated sample."""
    from ..simulation import SIMULATION_VERSION

    wanted, base = settings.simulation, data_directory(settings) / "simulated"
    known = base_parameters(wanted)
    samples: list[tuple[int, int, dict[str, Any]]] = [(wanted.jets, wanted.seed, {"reuse": wanted.reuse})]
    for number, part in enumerate(wanted.slices):
        changes: dict[str, Any] = {
            "min_pthat": part.min_pthat,
            "leading_jets": part.leading or 0,
            "reuse": wanted.reuse,
        }
        samples.append((part.jets, wanted.seed + _FIRST_SLICE + number, changes))
    for jets, seed, changes in samples:
        parameters = dataclasses.replace(known, generator=dataclasses.replace(known.generator, **changes))
        yield base / f"{jets}-{seed}-{parameters.key()}-v{SIMULATION_VERSION}", jets, seed, parameters


def record_files(files: Sequence[str | Path], path: str | Path, collection: str = AK4) -> None:
    """Write which files a run used: ``path``, ``jets``, ``bytes``, ``sha256``, and what all have in common.

    ``made_by`` is what figures say made the jets, and ``energy`` that of the collisions, empty where it is not known.
    ``candidates`` says whether all jets have particles. The path of a local copy is the URL that it came from.
    """
    rows, makers, energies, candidates = [], [], [], True
    for file in files:
        with open_jets(file, collection) as source:
            makers.append(source.made_by)
            energies.append(source.energy)
            candidates &= source.has_candidates
            size, jets = Path(file).stat().st_size, source.jets
            rows.append({"path": origin(file), "jets": jets, "bytes": size, "sha256": fingerprint(file)})
    made_by, energy = (" and ".join(filter(None, dict.fromkeys(names))) for names in (makers, energies))
    write_json(path, {"made_by": made_by, "energy": energy, "candidates": candidates, "files": rows})
