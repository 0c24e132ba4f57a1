import shutil
import signal
import subprocess
import sys
import time

import awkward as ak
import pytest
import uproot

from jetcorr_utils.config import DataSettings
from jetcorr_utils.data import ensure_files
from jetcorr_utils.errors import InputError
from jetcorr_utils.files import MARK, checksum, read_json, write_json
from jetcorr_utils.jets.columns import TREE
from jetcorr_utils.simulation import SIMULATION_VERSION, Parameters, recorded_checksums, simulate
from jetcorr_utils.simulation.parameters import Generator, Pileup

SMALL = Parameters(generator=Generator(events_per_block=5), pileup=Pileup(pool_events=20))
SEED = 7


def jets_in(paths) -> ak.Array:
    return ak.concatenate([uproot.open(path)[TREE].arrays() for path in paths])


def run(jets, out, **options):
    return simulate(jets, SEED, out, **({"workers": 1, "progress": False, "parameters": SMALL} | options))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two files of jets, made in this process."""
    return run(190, tmp_path_factory.mktemp("simulation"))


def test_files_hold_exactly_the_jets_asked_for(made):
    assert [path.name for path in made] == ["jets_000.root", "jets_001.root"]
    assert len(jets_in(made)) == 190
    assert read_json(made[0].parent / "simulation.json")["jets"] == 190


def test_two_workers_make_the_same_jets(made, tmp_path):
    assert ak.array_equal(jets_in(run(190, tmp_path, workers=2)), jets_in(made))


def test_fewer_jets_are_the_first_of_more(made, tmp_path):
    first = run(40, tmp_path)
    assert ak.array_equal(jets_in(first), jets_in(made)[:40])
    assert ak.array_equal(jets_in(run(190, tmp_path)), jets_in(made))  # and go on to more


def test_another_seed_makes_other_jets(made, tmp_path):
    other = jets_in(simulate(10, SEED + 1, tmp_path, workers=1, progress=False, parameters=SMALL))
    assert set(other.run.tolist()) == {SEED + 1}
    assert not ak.any(other.jetPt == jets_in(made).jetPt[:10])


def test_a_missing_file_is_made_again_and_others_are_kept(made, tmp_path):
    files = run(190, tmp_path)
    kept = files[0].stat().st_mtime_ns
    files[1].unlink()
    assert ak.array_equal(jets_in(run(190, tmp_path)), jets_in(made))
    assert files[0].stat().st_mtime_ns == kept


def test_the_record_has_the_checksums_of_the_files(made, tmp_path):
    assert recorded_checksums(made[0].parent) == {path.name: checksum(path) for path in made}
    run(40, tmp_path)
    files = run(190, tmp_path)
    assert recorded_checksums(tmp_path) == {path.name: checksum(path) for path in files}


def test_a_study_refuses_a_simulated_file_that_was_damaged_later(made, tmp_path):
    """A flipped bit gives another number and no error: ROOT's blocks have no checksum with ZSTD."""
    settings = DataSettings(simulation={"jets": 190, "seed": SEED}, directory=str(tmp_path))
    folder = tmp_path / "simulated" / f"190-{SEED}-{Parameters().key()}-v{SIMULATION_VERSION}"
    shutil.copytree(made[0].parent, folder)
    record = read_json(folder / "simulation.json")
    write_json(folder / "simulation.json", record | {"parameters": Parameters().key()})
    files = ensure_files(settings, progress=False)
    assert [path.rpartition("/")[2] for path in files] == ["jets_000.root", "jets_001.root"]
    data = bytearray((folder / "jets_001.root").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "jets_001.root").write_bytes(data)
    with pytest.raises(InputError, match=r"jets_001\.root: damaged"):
        ensure_files(settings, progress=False)


def test_nothing_is_done_twice(made):
    before = [path.stat().st_mtime_ns for path in made]
    assert run(190, made[0].parent) == made
    assert [path.stat().st_mtime_ns for path in made] == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 8}, "seed differ"),
        ({"parameters": Parameters()}, "parameters differ"),
        ({"jets": 20}, "holds 190 jets"),
        ({"jets": 0}, "jets is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_what_cannot_be_is_refused(made, options, message):
    arguments = {"jets": 190, "seed": SEED, "workers": 1, "progress": False, "parameters": SMALL} | options
    with pytest.raises(InputError, match=message):
        simulate(out=made[0].parent, **arguments)


def test_a_folder_with_strange_files_is_left_alone(tmp_path):
    (tmp_path / "jets_000.root").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"jets_000\.root"):
        run(10, tmp_path)
    assert (tmp_path / "jets_000.root").read_bytes() == b"mine"


def test_a_truncated_file_is_named(tmp_path):
    files = run(10, tmp_path)
    files[0].write_bytes(files[0].read_bytes()[:1000])
    with pytest.raises(InputError, match=r"jets_000\.root.*delete it"):
        run(10, tmp_path)


def running(pid: str) -> bool:
    return subprocess.run(["ps", "-p", pid], capture_output=True).returncode == 0


def test_a_killed_run_leaves_no_wrong_file_and_no_process(tmp_path):
    command = [sys.executable, "-m", "jetcorr_utils.cli", "simulate", "--jets", "100000", "--seed", "3"]
    process = subprocess.Popen(
        [*command, "--workers", "2", "--out", str(tmp_path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not list(tmp_path.glob(f"{MARK}jets_000*")):  # the first file has been begun
        assert process.poll() is None
        time.sleep(0.2)
    listing = ["ps", "-o", "pid=", "--ppid", str(process.pid)]
    children = subprocess.run(listing, capture_output=True, text=True).stdout.split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(tmp_path.glob("jets_*.root"))
    until = time.monotonic() + 60
    while left := [pid for pid in children if running(pid)]:
        assert time.monotonic() < until, f"still running: {left}"
        time.sleep(0.5)
