"""Files from S3, XRootD and web servers, real ones: equal caches, servers that die, credentials."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from jetcorr_utils.config import DataSettings
from jetcorr_utils.data import describe, ensure_files, load_clouds, record_files, remote
from jetcorr_utils.errors import InputError
from jetcorr_utils.files import read_json

SERVERS = ["s3", "xrootd", "http"]


@pytest.fixture
def study(tmp_path):
    """The data settings of a study of some files, with a data directory of its own."""

    def make(*files, directory: str = "data", **retries) -> DataSettings:
        settings = {"attempts": 2, "wait": 0.01, "timeout": 2, **retries}
        return DataSettings(files=[str(file) for file in files], directory=str(tmp_path / directory), remote=settings)

    return make


def content(folder, key: str) -> dict[str, bytes]:
    """The bytes of all columns of a cache."""
    return {path.name: path.read_bytes() for path in sorted((folder / "cache" / key).glob("*.npy"))}


@pytest.mark.parametrize("kind", SERVERS)
def test_the_cache_does_not_depend_on_where_the_files_are(kind, request, ntuple, study, tmp_path):
    file = ntuple("jets.root")
    server = request.getfixturevalue(kind)
    url = server.put(file)
    local = load_clouds(study(file, directory="here"), progress=False)
    distant = load_clouds(study(url, directory="there"), progress=False)
    assert distant.key == local.key
    here, there = content(tmp_path / "here", local.key), content(tmp_path / "there", local.key)
    assert here == there
    assert {"particles.npy", "ptr.npy", "jets.npy", "target.npy"} <= set(here)


@pytest.mark.parametrize("kind", SERVERS)
def test_a_second_run_copies_nothing_and_works_without_the_server(kind, request, ntuple, study, monkeypatch):
    server = request.getfixturevalue(kind)
    settings = study(server.put(ntuple()))
    first = load_clouds(settings, progress=False)
    monkeypatch.setattr(remote, "_download", lambda *_: pytest.fail("copied again"))
    assert load_clouds(settings, progress=False).key == first.key
    server.kill()
    assert load_clouds(settings, progress=False).key == first.key


@pytest.fixture
def pieces(monkeypatch):
    """Small requests, the list of those that were answered, as (first, last) byte, and what to do after each."""
    monkeypatch.setattr(remote, "BLOCK", 5000)
    answered, reactions, ask = [], [], remote._block

    def block(connection, start, stop):
        answer = ask(connection, start, stop)
        answered.append((start, stop))
        for reaction in reactions:
            reaction(len(answered))
        return answer

    monkeypatch.setattr(remote, "_block", block)
    return answered, reactions


@pytest.mark.parametrize("kind", ["s3", "xrootd"])
def test_a_server_that_dies_is_named_and_the_next_run_goes_on(kind, request, ntuple, study, pieces):
    answered, reactions = pieces
    file = ntuple(jets=300)
    size = file.stat().st_size
    server = request.getfixturevalue(kind)
    url = server.put(file)
    reactions.append(lambda count: server.kill() if count == 3 else None)
    with pytest.raises(InputError) as error:
        load_clouds(study(url), progress=False)
    assert url in str(error.value)
    assert "2 attempts" in str(error.value)
    assert answered == [(0, 5000), (5000, 10000), (10000, 15000)]

    reactions.clear()
    answered.clear()
    server.start()
    if kind == "s3":
        server.put(file)  # its memory died with it
    distant = load_clouds(study(url), progress=False)
    assert answered[0] == (15000, 20000)
    assert answered[-1][1] == size
    assert distant.key == load_clouds(study(file, directory="here"), progress=False).key


def test_a_server_that_comes_back_in_time_is_waited_for(ntuple, study, xrootd, pieces, monkeypatch):
    answered, reactions = pieces
    file = ntuple(jets=300)
    url = xrootd.put(file)
    reactions.append(lambda count: xrootd.kill() if count == 3 else None)
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            xrootd.start()

    monkeypatch.setattr(remote, "time", SimpleNamespace(sleep=sleep))
    (copy,) = ensure_files(study(url, attempts=10, wait=0.5), progress=False)
    assert len(waits) >= 2  # the client needs a moment to see that the server is there again
    assert waits == [0.5 * 2**attempt for attempt in range(len(waits))]
    assert Path(copy).read_bytes() == file.read_bytes()
    assert len(answered) == len(set(answered))


def test_wrong_credentials_are_refused_at_once(ntuple, study, s3, monkeypatch):
    url = s3.put(ntuple())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(InputError, match=f"{url}: access denied; are the credentials set in the environment"):
        ensure_files(study(url), progress=False)


def test_missing_credentials_are_named(ntuple, study, s3, monkeypatch, tmp_path):
    url = s3.put(ntuple())
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match=f"{url}: .*(credentials|denied)"):
        ensure_files(study(url), progress=False)


def test_credentials_in_a_url_are_refused_and_not_repeated(study):
    with pytest.raises(InputError, match="a password does not belong in a study") as error:
        ensure_files(study("https://me:hunter2@example.org/jets.root"), progress=False)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("kind", SERVERS)
def test_an_absent_file_is_named(kind, request, ntuple, study):
    url = request.getfixturevalue(kind).put(ntuple()).replace("jets.root", "jests.root")
    with pytest.raises(InputError, match=r"jests\.root: there is no such file"):
        ensure_files(study(url), progress=False)


@pytest.mark.parametrize("kind", ["s3", "xrootd"])
def test_wildcards(kind, request, ntuple, study):
    url = request.getfixturevalue(kind).put(ntuple())
    (copy,) = ensure_files(study(url.replace("jets.root", "*.root")), progress=False)
    assert remote.origin(copy) == url
    with pytest.raises(InputError, match="no file matches"):
        ensure_files(study(url.replace("jets.root", "z*.root")), progress=False)


def test_a_damaged_copy_is_made_again(ntuple, study, http, tmp_path):
    file = ntuple()
    settings = study(http.put(file))
    (copy,) = ensure_files(settings, progress=False)
    with open(copy, "r+b") as damaged:
        damaged.seek(1000)
        damaged.write(b"????")
    (again,) = ensure_files(settings, progress=False)
    assert Path(again).read_bytes() == file.read_bytes()


def test_the_record_of_a_run_has_the_url(ntuple, study, http, tmp_path):
    url = http.put(ntuple())
    record_files(ensure_files(study(url), progress=False), tmp_path / "data.json")
    record = read_json(tmp_path / "data.json")
    (entry,) = record["files"]
    assert (entry["path"], entry["jets"]) == (url, 60)
    assert record["made_by"] == "JetNTuple"


def test_an_unknown_protocol_is_named(study):
    with pytest.raises(InputError, match=r"gopher://example\.org/jets\.root: .*gopher"):
        ensure_files(study("gopher://example.org/jets.root"), progress=False)


@pytest.mark.parametrize("kind", ["s3", "xrootd"])
def test_a_distant_file_is_described_without_a_copy(kind, request, ntuple):
    file = ntuple()
    url = request.getfixturevalue(kind).put(file)
    there, here = describe(url), describe(file)
    assert (there.format, there.jets, there.usable, there.notes) == (here.format, here.jets, here.usable, here.notes)
    absent = describe(url.replace("jets.root", "jests.root"))
    assert not absent.usable
