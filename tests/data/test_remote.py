"""Files from S3, XRootD and web servers, real ones: equal caches, servers that die, credentials."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from jetcorr_utils.config import DataSettings, RemoteSettings
from jetcorr_utils.correct import correct_files
from jetcorr_utils.data import describe, ensure_files, load_clouds, record_files, remote
from jetcorr_utils.data.reading import open_jets
from jetcorr_utils.data.remote import fetch, fetch_bytes
from jetcorr_utils.errors import InputError
from jetcorr_utils.files import read_json
from tests.web import web_server

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

    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=sleep))
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


@pytest.mark.parametrize(
    "url",
    ["https://me:hunter2@example.org/jets.root", "https://hunter2@example.org/jets.root",
     "https://me:hunter2/x@example.org/jets.root", "s3://me:hunter2@jets/*.root",
     "https://example.org/jets.root?X-Amz-Signature=hunter2", "root://example.org//jets.root?authz=hunter2"],
)  # fmt: skip
@pytest.mark.parametrize("way", ["study", "list"])
def test_credentials_in_a_url_are_refused_and_not_repeated(study, url, way, tmp_path):
    (tmp_path / "list.txt").write_text(url, encoding="utf-8")
    with pytest.raises(InputError, match="does not belong in an address") as error:
        ensure_files(study(url if way == "study" else tmp_path / "list.txt"), progress=False)
    assert "hunter2" not in str(error.value)
    assert not (tmp_path / "data").exists()


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A web server that fails as it is told to, and the seconds that were waited for it."""
    waits = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=waits.append))
    with web_server(tmp_path / "web") as server:
        server.waits = waits
        yield server


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_web_server_that_fails_for_a_while_is_asked_again(ntuple, study, web, status):
    file = ntuple()
    url = web.put(file)
    web.answer(*[status] * 4)  # HEAD and GET are one attempt
    (copy,) = ensure_files(study(url, attempts=3, wait=0.5), progress=False)
    assert Path(copy).read_bytes() == file.read_bytes()
    assert web.waits == [0.5, 1.0]


def test_a_web_server_that_fails_between_two_pieces_is_asked_again(ntuple, study, web, pieces):
    answered, reactions = pieces
    file = ntuple(jets=300)
    reactions.append(lambda count: web.answer(503) if count == 2 else None)
    (copy,) = ensure_files(study(web.put(file)), progress=False)
    assert Path(copy).read_bytes() == file.read_bytes()
    assert len(web.waits) == 1
    assert len(answered) == len(set(answered))


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_copy_is_not_written_through_a_link(kind, ntuple, study, web, pieces, tmp_path):
    """The beginning of a copy, replaced by who may write in the data folder, too."""
    file, victim = ntuple(), tmp_path / "victim"
    url, (_, reactions) = web.put(file), pieces
    reactions.append(lambda count: web.answer(404) if count == 2 else None)
    with pytest.raises(InputError, match="there is no such file"):
        ensure_files(study(url), progress=False)
    reactions.clear()
    (partial,) = (tmp_path / "data").rglob("partial")
    victim.write_bytes(partial.read_bytes())
    partial.unlink()
    (partial.symlink_to if kind == "symbolic" else partial.hardlink_to)(victim)
    (copy,) = ensure_files(study(url), progress=False)
    assert Path(copy).read_bytes() == file.read_bytes()
    assert victim.stat().st_size == 2 * 5000
    assert victim.stat().st_nlink == 1


@pytest.mark.parametrize("mark", ["ETag", "Content-MD5", "Digest", "Last-Modified"])
def test_a_copy_that_was_interrupted_goes_on_only_if_the_file_is_still_the_same(ntuple, study, web, pieces, mark):
    """Two versions of the same size: only what the server says of them tells one from the other."""
    answered, reactions = pieces
    file = ntuple(jets=300)
    content, other = file.read_bytes(), file.read_bytes()[::-1]
    web.mark(mark)
    url = web.put(file)
    served = web.folder / "files" / file.name
    os.utime(served, (1e9, 1e9))
    for new, first in ((content, (15000, 20000)), (other, (0, 5000))):
        reactions.append(lambda count: web.answer(*[503] * 8) if count == 3 else None)
        with pytest.raises(InputError, match="503"):
            ensure_files(study(url, directory=str(first[0])), progress=False)
        web.answer()
        reactions.clear()
        answered.clear()
        if new != content:
            served.write_bytes(new)
        (copy,) = ensure_files(study(url, directory=str(first[0])), progress=False)
        assert (Path(copy).read_bytes(), answered[0]) == (new, first)
        answered.clear()


def test_where_versions_cannot_be_told_apart_nothing_is_put_together(ntuple, study, web, pieces, caplog):
    """The server says only how large the file is: it comes in one request, and an interrupted copy is begun anew."""
    answered, _ = pieces
    web.mark()
    url = web.put(ntuple(jets=300))
    served = web.folder / "files" / "jets.root"
    copies = Path(study().directory) / "cache" / "remote"
    place = copies / hashlib.sha256(url.encode()).hexdigest()[:16]
    place.mkdir(parents=True)
    (place / "partial").write_bytes(b"old" * 1000)
    (place / "partial.json").write_text(json.dumps({"size": str(served.stat().st_size)}), encoding="utf-8")
    (copy,) = ensure_files(study(url), progress=False)
    assert Path(copy).read_bytes() == served.read_bytes()
    assert answered == []
    assert "neither tag nor time" not in caplog.text
    ensure_files(study(url), progress=False)
    assert "neither tag nor time" in caplog.text


@pytest.mark.parametrize("mark", ["ETag", ""])
def test_a_file_that_is_replaced_while_it_is_copied_is_copied_anew(ntuple, study, web, pieces, monkeypatch, mark):
    web.mark(*mark.split())
    url = web.put(ntuple(jets=300))
    served = web.folder / "files" / "jets.root"
    content = served.read_bytes()
    versions, download = itertools.cycle([content[::-1] + b"longer", content]), remote._download
    copied = []

    def meanwhile(*arguments):
        download(*arguments)
        copied.append(1)
        if len(copied) <= times:
            served.write_bytes(next(versions))

    monkeypatch.setattr(remote, "_download", meanwhile)
    times = 1
    (copy,) = ensure_files(study(url, attempts=3), progress=False)
    assert Path(copy).read_bytes() == served.read_bytes() == content[::-1] + b"longer"
    copied.clear()
    times = 9
    with pytest.raises(InputError, match=r"jets\.root: is replaced again and again while it is copied"):
        ensure_files(study(url, directory="else", attempts=3), progress=False)
    assert len(copied) == 3


@pytest.mark.parametrize("content", ["{}", "[]"])
def test_a_damaged_record_of_a_copy_is_named(ntuple, study, web, content):
    url = web.put(ntuple())
    (copy,) = ensure_files(study(url), progress=False)
    record = Path(copy).with_name("origin.json")
    record.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"origin\.json: damaged"):
        ensure_files(study(url), progress=False)


def test_a_web_server_that_goes_on_failing_is_said_to(ntuple, study, web):
    web.answer(*[503] * 4)
    with pytest.raises(InputError, match=r"jets\.root: cannot be read after 2 attempts \(503 Service Unavailable\)"):
        ensure_files(study(web.put(ntuple())), progress=False)


def test_a_web_server_says_when_to_come_back(ntuple, study, web):
    url = web.put(ntuple())
    web.answer('503 {"Retry-After": "7"}', '503 {"Retry-After": "7"}')
    ensure_files(study(url, timeout=30), progress=False)
    assert web.waits == [7.0]


@pytest.mark.parametrize(
    ("status", "reason"),
    [(404, "there is no such file"), (410, "there is no such file"), (401, "access denied"), (403, "access denied"),
     (400, "the server refuses")],
)  # fmt: skip
def test_what_does_not_pass_is_said_at_once(ntuple, study, web, status, reason):
    web.answer(status, status)
    with pytest.raises(InputError, match=rf"jets\.root: {reason}"):
        ensure_files(study(web.put(ntuple()), attempts=4), progress=False)
    assert web.waits == []


@pytest.mark.parametrize("name", ["jets.root", "*.root"])
def test_a_refused_connection_is_tried_again_and_is_not_an_absent_file(study, monkeypatch, name):
    waits = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=waits.append))
    with pytest.raises(InputError, match="cannot be read after 3 attempts"):
        ensure_files(study(f"http://127.0.0.1:9/{name}", attempts=3), progress=False)
    assert len(waits) == 2


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("name", ["jets.root", "*.root"])
def test_a_host_that_does_not_exist_is_not_an_absent_file(study, scheme, name):
    with pytest.raises(InputError, match=r"(no host|host) data\.example\.invalid|cannot be read after 2 attempts"):
        ensure_files(study(f"{scheme}://data.example.invalid/{name}"), progress=False)


def test_an_s3_server_that_does_not_exist_is_not_an_absent_file(study, monkeypatch):
    pytest.importorskip("s3fs", reason="s3:// needs s3fs")
    for name, value in {
        "ENDPOINT_URL": "http://s3.example.invalid",
        "ACCESS_KEY_ID": "a",
        "SECRET_ACCESS_KEY": "b",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with pytest.raises(InputError, match=r"no host s3\.example\.invalid|cannot be read after 2 attempts"):
        ensure_files(study("s3://bucket/x.root"), progress=False)


def test_a_server_that_is_silent_is_asked_again_and_is_not_an_absent_file(study):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.root"
        with pytest.raises(InputError, match="cannot be read after 2 attempts"):
            ensure_files(study(url, timeout=0.3), progress=False)


def test_where_a_server_sends_us_may_be_signed_and_is_not_repeated(ntuple, study, web):
    to = f'302 {{"Location": "{web.url}/else.root?X-Amz-Signature=hunter2"}}'
    web.answer(*[to, 500] * 4)
    with pytest.raises(InputError, match="cannot be read after 2 attempts") as error:
        ensure_files(study(web.put(ntuple())), progress=False)
    assert "hunter2" not in str(error.value)
    assert error.value.__cause__ is None  # a notebook shows what an error came from


def fetch_apart(url: str, data: Path, **variables: str) -> subprocess.CompletedProcess:
    """Copy a file in a process of its own: the libraries read some variables when they are imported."""
    settings = (
        f"DataSettings(files=[{url!r}], directory={str(data)!r}, remote={{'attempts': 2, 'wait': 0, 'timeout': 5}})"
    )
    code = (
        "from jetcorr_utils.config import DataSettings; from jetcorr_utils.data import ensure_files; "
        f"print(*ensure_files({settings}, progress=False))"
    )
    names = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    own = {name: value for name, value in os.environ.items() if name.lower() not in names}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=own | variables
    )


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no program openssl to make a certificate")
def test_https_is_asked_again_and_its_certificate_is_looked_at(ntuple, tmp_path):
    file = ntuple()
    with web_server(tmp_path / "web", tls=True) as server:
        url = server.put(file)
        server.answer(503, 503)
        done = fetch_apart(url, tmp_path / "data", SSL_CERT_FILE=str(server.folder / "certificate.pem.crt"))
        assert Path(done.stdout.strip()).read_bytes() == file.read_bytes(), done.stderr
        stranger = fetch_apart(url, tmp_path / "other")
        last = stranger.stderr.splitlines()[-1]
        assert re.search(r"InputError: https://.*: the server's certificate is not valid \(.+\); SSL_CERT", last)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no program openssl to make a certificate")
@pytest.mark.parametrize("away", [True, False])
def test_a_server_that_leads_away_from_tls_is_said(ntuple, tmp_path, away):
    file = ntuple(jets=60)
    with web_server(tmp_path / "tls", tls=True) as tls, web_server(tmp_path / "plain") as plain:
        url = tls.put(file)
        if away:
            tls.answer(*[f"302 {json.dumps({'Location': plain.put(file)})}"] * 10)
        done = fetch_apart(url, tmp_path / "data", SSL_CERT_FILE=str(tls.folder / "certificate.pem.crt"))
        assert Path(done.stdout.strip()).read_bytes() == file.read_bytes(), done.stderr
        assert done.stderr.count("127.0.0.1: sends us on to an address without TLS: what comes can be read") == away


def test_other_machines_are_asked_through_the_proxy_and_this_one_is_not(ntuple, tmp_path):
    file = ntuple()
    netrc = tmp_path / "netrc"
    netrc.write_text("machine data.example.invalid login me password secret\n", encoding="utf-8")
    with web_server(tmp_path / "proxy") as proxy, web_server(tmp_path / "web") as server:
        proxy.put(file)
        variables = {"http_proxy": proxy.url, "https_proxy": proxy.url, "NETRC": str(netrc)}
        far = fetch_apart("http://data.example.invalid/jets.root", tmp_path / "far", **variables)
        assert Path(far.stdout.strip()).read_bytes() == file.read_bytes(), far.stderr
        assert {method for method, _, _ in proxy.requests()} >= {"GET"}
        for _, target, headers in proxy.requests():
            assert target == "http://data.example.invalid/jets.root"
            assert "Authorization" not in headers  # the proxy could read it
        asked = len(proxy.requests())
        near = fetch_apart(server.put(file), tmp_path / "near", **variables)
        assert Path(near.stdout.strip()).read_bytes() == file.read_bytes(), near.stderr
        assert len(proxy.requests()) == asked
        fetch_apart("https://data.example.invalid/jets.root", tmp_path / "tls", **variables)
        assert proxy.requests()[-1][:2] == ("CONNECT", "data.example.invalid:443")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no program openssl to make a certificate")
def test_a_login_goes_to_the_server_asked_for_and_over_tls_only(ntuple, tmp_path):
    file, netrc = ntuple(), tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\ndefault login me password other\n", encoding="utf-8")
    with web_server(tmp_path / "asked", tls=True) as asked, web_server(tmp_path / "other", tls=True) as other:
        certificates = tmp_path / "certificates.pem"
        certificates.write_text(
            "".join((server.folder / "certificate.pem.crt").read_text(encoding="utf-8") for server in (asked, other)),
            encoding="utf-8",
        )
        variables = {"NETRC": str(netrc), "SSL_CERT_FILE": str(certificates)}
        url, elsewhere = asked.put(file), other.put(file)
        done = fetch_apart(url, tmp_path / "direct", **variables)
        assert Path(done.stdout.strip()).read_bytes() == file.read_bytes(), done.stderr
        assert {headers.get("Authorization", "")[:6] for _, _, headers in asked.requests()} == {"Basic "}
        asked.answer(*[f'302 {{"Location": "{elsewhere}"}}'] * 9)
        done = fetch_apart(url, tmp_path / "redirected", **variables)
        assert Path(done.stdout.strip()).read_bytes() == file.read_bytes(), done.stderr
        assert other.requests()
        assert not [headers for _, _, headers in other.requests() if "Authorization" in headers]
    with web_server(tmp_path / "plain") as plain:
        done = fetch_apart(plain.put(file), tmp_path / "open", **variables)
        assert Path(done.stdout.strip()).read_bytes() == file.read_bytes(), done.stderr
        assert not [headers for _, _, headers in plain.requests() if "Authorization" in headers]


def test_a_proxy_that_does_not_answer_is_named(tmp_path):
    done = fetch_apart("http://data.example.invalid/x.root", tmp_path, http_proxy="http://me:hunter2@127.0.0.1:9")
    assert "the proxy that the environment names: Cannot connect to host 127.0.0.1:9" in done.stderr
    assert "hunter2" not in done.stderr
    done = fetch_apart("http://data.example.invalid/x.root", tmp_path, http_proxy="me:hunter2@127.0.0.1:9")
    assert "Cannot connect to host 127.0.0.1:9" in done.stderr
    assert "hunter2" not in done.stderr


def test_an_s3_server_on_this_machine_is_not_asked_through_the_proxy(ntuple, s3, tmp_path):
    file = ntuple()
    with web_server(tmp_path / "proxy") as proxy:
        done = fetch_apart(s3.put(file), tmp_path / "data", http_proxy=proxy.url)
        assert Path(done.stdout.strip()).read_bytes() == file.read_bytes(), done.stderr
        assert proxy.requests() == []


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
    with pytest.raises(InputError, match=r"gopher://example\.org/jets\.root: this kind of address is not read"):
        ensure_files(study("gopher://example.org/jets.root"), progress=False)


@pytest.mark.parametrize("kind", ["s3", "xrootd"])
def test_a_distant_file_is_described_without_a_copy(kind, request, ntuple):
    file = ntuple()
    url = request.getfixturevalue(kind).put(file)
    there, here = describe(url), describe(file)
    assert (there.format, there.jets, there.usable, there.notes) == (here.format, here.jets, here.usable, here.notes)
    absent = describe(url.replace("jets.root", "jests.root"))
    assert not absent.usable


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(404, "there is no such file"), (403, "access denied"), (503, r"cannot be read \(503 Service Unavailable\)")],
)
def test_a_file_that_is_read_from_its_place_says_what_the_server_said(web, ntuple, answer, reason):
    url = web.put(ntuple())
    web.answer(*[answer] * 20)
    with pytest.raises(InputError, match=rf"{url}: {reason}"), open_jets(url):
        pass


def test_a_file_is_read_from_its_place_through_the_proxy(cli, ntuple, tmp_path):
    file = ntuple()
    with web_server(tmp_path / "proxy") as proxy, web_server(tmp_path / "web") as server:
        proxy.put(file)
        environment = os.environ | {"http_proxy": proxy.url, "no_proxy": ""}
        far = cli("info", "http://data.example.invalid/jets.root", env=environment)
        assert "60 jets" in far.stdout
        asked = len(proxy.requests())
        assert "60 jets" in cli("info", server.put(file), env=environment).stdout
        assert len(proxy.requests()) == asked > 0


def test_no_secret_of_an_address_is_repeated_by_info_and_correct(cli, tmp_path):
    url = "https://data.example.invalid/jets.root?token=hunter2"
    for arguments in (("info", url), ("correct", url, "--model", tmp_path, "--out", tmp_path / "out.root")):
        done = cli(*arguments, check=False)
        assert done.returncode == 2
        assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "address",
    ["dask://127.0.0.1:9/x::file:///y", "file:///y::dask://127.0.0.1:9/x", "https://example.org/x::dask://h/y",
     "simplecache::https://example.org/x.root", "zip://x.root::/tmp/y.zip", "github://o:r@sha/x.root", "reference://x"],
)  # fmt: skip
def test_other_kinds_of_addresses_are_refused_before_anything_is_asked(address, tmp_path):
    """Some of fsspec's run what a server sends."""
    settings = DataSettings(files=(address,), directory=str(tmp_path))
    listing = tmp_path / "files.txt"
    listing.write_text(address, encoding="utf-8")
    for use in (
        lambda: ensure_files(settings),
        lambda: ensure_files(DataSettings(files=(str(listing),), directory=str(tmp_path))),
        lambda: correct_files([address], {}, tmp_path / "out.root"),
    ):
        with pytest.raises(InputError, match=r"is not read; known are|does not belong in an address"):
            use()
    assert "is not read" in describe(address).reason
    with pytest.raises(InputError, match="is not read"), open_jets(address):
        pass


@pytest.mark.parametrize("name", ["simplecache::jets.root", "zip::jets.root", "reference::x", "dask::jets.root", "a:b"])
def test_a_local_name_that_looks_like_a_chain_is_a_name(name, ntuple, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for address in (name, f"file://{tmp_path}/a:b.root", ""):
        with pytest.raises(InputError, match=r"there is no such file|an empty name"), open_jets(address):
            pass
    ntuple("plain.root").rename(name)
    with open_jets(name) as source:
        assert source.jets == 60


def test_a_pipe_is_no_file_under_its_address_either(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for address in (str(tmp_path / "pipe"), f"file://{tmp_path}/pipe"):
        with pytest.raises(InputError, match="is a pipe"), open_jets(address):
            pass
    with pytest.raises(InputError, match="is a folder"), open_jets(f"file://{tmp_path}"):
        pass


def test_a_file_that_claims_more_jets_than_it_can_have_is_damaged(ntuple, cli):
    file = ntuple(jets=61)
    content = file.read_bytes()
    assert content.count(struct.pack(">q", 61)) > 1
    file.write_bytes(content.replace(struct.pack(">q", 61), struct.pack(">q", 10**15)))
    with pytest.raises(InputError, match=r"jets\.root: damaged: it says that it has 1000000000000000 jets"):
        list(open_jets(file).__enter__().ranges(1000))
    assert "damaged" in cli("info", file, check=False).stderr


@contextlib.contextmanager
def endless(status, size=None, tag=None):
    """A server whose answers end after half a gigabyte: its address, and the number of bytes that it has sent."""
    sent = [0]

    class Endless(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            if size is not None:
                self.send_header("Content-Length", str(size))
            if tag:
                self.send_header("ETag", tag)
            self.end_headers()

        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(512):
                    self.wfile.write(bytes(1 << 20))
                    sent[0] += 1 << 20

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", sent
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "tag"), [(200, "one"), (206, "one"), (200, None), (404, "one"), (503, None)])
def test_no_more_is_read_of_an_answer_than_was_asked_for(status, tag, study, tmp_path):
    size = 100_000
    with endless(status, size, tag) as (address, sent):
        settings = study(f"{address}/jets.root")
        if status < 400 and tag:
            (copy,) = ensure_files(settings, progress=False)
            assert Path(copy).stat().st_size == size
        else:
            with pytest.raises(InputError, match=r"jets\.root: (there is no such file|.*503|.*there are more)"):
                ensure_files(settings, progress=False)
    assert sent[0] < 64 << 20


@pytest.mark.parametrize("path", ["jets_*.root", "record"])
def test_an_answer_of_an_unknown_size_is_not_read_to_its_end(path, study):
    """A folder's list, and what the portal says of a record."""
    with endless(200) as (address, sent):
        settings = study(f"{address}/{path}" if "*" in path else "opendata:12100")
        portal = settings.remote.model_copy(update={"portal": address})
        with pytest.raises(InputError, match=rf"{address}/.*: the answer has more than 64 MiB"):
            ensure_files(settings.model_copy(update={"remote": portal}), progress=False)
    assert sent[0] < 128 << 20


@pytest.mark.parametrize("address", ["file:///etc/hostname", "/etc/hostname", "http://a/b::file:///etc/hostname"])
def test_nothing_but_a_file_of_another_machine_is_copied(address, tmp_path):
    """Whoever says what is to be copied: a server, too."""
    settings = RemoteSettings(attempts=1)
    for ask in (lambda: fetch(address, tmp_path, settings), lambda: fetch_bytes(address, settings)):
        with pytest.raises(InputError, match=r"not the address of a file|this kind of address is not read"):
            ask()
