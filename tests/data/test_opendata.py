"""Files by the number of their record, of a local server that speaks the API of the CERN Open Data portal."""

from __future__ import annotations

import json
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import uproot
from click.testing import CliRunner

from jetcorr_utils.cli import main
from jetcorr_utils.config import DataSettings, RemoteSettings, load_study, project_root
from jetcorr_utils.data import ensure_files, load_clouds, read_jets
from jetcorr_utils.data.opendata import files_of_record
from jetcorr_utils.errors import InputError
from jetcorr_utils.files import read_json
from jetcorr_utils.physics import load_predictions
from tests.web import web_server

from .conftest import write_jets

DOI = "10.7483/OPENDATA.CMS.RY2V.T797"
EOS = "root://eospublic.cern.ch//eos/opendata/cms/derived-data/jets"


class Portal(ThreadingHTTPServer):
    """A portal with one record, whose files lie in a folder; `wrong` has another checksum than the record says."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.wrong, self.asked = folder, "", []
        self.addresses: dict[str, str] = {}
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def entry(self, path: Path) -> dict:
        content = path.read_bytes() if path.exists() else b""
        checksum = "0bad0bad" if path.name == self.wrong else f"{zlib.adler32(content):08x}"
        uri = self.addresses.get(path.name, f"{EOS}/{path.name}")
        return {"uri": uri, "size": len(content), "checksum": f"adler32:{checksum}"}

    def record(self) -> dict:
        """The first file in the record itself, one index in a file, one in the record, as older and newer ones have."""
        files = [self.entry(path) for path in sorted(self.folder.glob("*.root"))]
        (self.folder / "jets_file_index.json").write_text(json.dumps(files[1:2]))
        readme = {"uri": f"{EOS}/readme.txt", "size": 1, "checksum": "adler32:00000000"}
        listed = [readme, files[0], self.entry(self.folder / "jets_file_index.json")]
        return {"id": "12100", "metadata": {"recid": 12100, "files": listed, "_file_indices": [{"files": files[2:]}]}}


class Answer(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        url = urlsplit(self.path)
        self.server.asked.append(url.path)
        body = None
        if url.path == "/api/records/12100":
            body = json.dumps(self.server.record()).encode()
        elif url.path == "/api/records":
            found = parse_qs(url.query)["q"] == [f'doi:"{DOI}"']
            hits = {"total": int(found), "hits": [self.server.record()] if found else []}
            body = json.dumps({"hits": hits}).encode()
        elif url.path.startswith("/eos/opendata/"):
            path = self.server.folder / Path(url.path).name
            body = path.read_bytes() if path.exists() else None
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        if body is not None:
            self.send_header("ETag", f'"{zlib.crc32(body)}"')
        self.end_headers()
        if self.command == "GET" and body:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def portal(ntuple, tmp_path):
    folder = tmp_path / "portal"
    folder.mkdir()
    for number in range(1, 5):
        ntuple(seed=number).replace(folder / f"jets_{number}.root")
    server = Portal(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def study(portal, tmp_path, *files):
    remote = {"portal": portal.url, "attempts": 1, "wait": 0, "timeout": 5}
    return DataSettings(files=files, directory=str(tmp_path / "data"), remote=remote)


def names(entry, portal):
    return [file.name for file in files_of_record(entry, RemoteSettings(portal=portal.url, attempts=1, timeout=5))]


def test_the_files_of_a_record_are_copied_once(portal, tmp_path):
    settings = study(portal, tmp_path, "opendata:12100")
    files = ensure_files(settings, progress=False)
    assert [Path(file).name for file in files] == [f"jets_{number}.root" for number in range(1, 5)]
    assert len(read_jets(files)) == 240
    for file in files:
        assert Path(file).read_bytes() == (portal.folder / Path(file).name).read_bytes()
    portal.asked.clear()
    assert ensure_files(settings, progress=False) == files
    assert ensure_files(study(portal, tmp_path, f"opendata:{DOI}?files=2"), progress=False) == files[1:2]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [("", [1, 2, 3, 4]), ("?files=2-3", [2, 3]), ("?files=1,3-4", [1, 3, 4]), ("?names=*_4.root,*_1.root", [1, 4])],
)
def test_slices(portal, query, numbers):
    assert names(f"opendata:12100{query}", portal) == [f"jets_{number}.root" for number in numbers]


def test_xrootd_addresses(portal):
    found = files_of_record("opendata:12100?files=1&protocol=root", RemoteSettings(portal=portal.url))
    assert found[0].url == f"{EOS}/jets_1.root"


def test_files_are_copied_by_xrootd(portal, xrootd, tmp_path):
    portal.addresses = {path.name: xrootd.put(path) for path in portal.folder.glob("jets_*.root")}
    (file,) = ensure_files(study(portal, tmp_path, "opendata:12100?files=4&protocol=root"), progress=False)
    assert Path(file).read_bytes() == (portal.folder / "jets_4.root").read_bytes()
    assert not any(path.endswith(".root") for path in portal.asked)


def test_a_study_of_a_record_makes_its_clouds(portal, tmp_path):
    clouds = load_clouds(study(portal, tmp_path, "opendata:12100?files=1-2"), progress=False)
    assert clouds.info["read"] == 120
    here = DataSettings(
        files=tuple(map(str, sorted(portal.folder.glob("jets_[12].root")))), directory=str(tmp_path / "2")
    )
    np.testing.assert_array_equal(clouds.target, load_clouds(here, progress=False).target)


def test_a_dry_run_copies_nothing(portal):
    answer = CliRunner().invoke(main, ["opendata", "12100?files=1-2", "--portal", portal.url])
    assert answer.exit_code == 0
    assert answer.output.splitlines()[-1].endswith("GB in 2 files")
    size = (portal.folder / "jets_1.root").stat().st_size
    assert f"{size / 1e6:.1f} MB  adler32:" in answer.output
    assert not any(path.endswith(".root") for path in portal.asked)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("opendata:", "expected opendata:12100, opendata:12100"),
        ("opendata:12100?file=1", "options are files, names, protocol"),
        ("opendata:12100?files=0-3", "expected places such as 1-10"),
        ("opendata:12100?files=3-5", "the record has 4 files"),
        ("opendata:12100?names=*_7.root", r"the record has no file \*_7.root"),
        ("opendata:12100?protocol=ftp", "must be http or root"),
        ("opendata:12101", r"/api/records/12101: there is no such file"),
        ("opendata:10.7483/NONE", "has 0 records with this DOI"),
    ],
)
def test_what_is_not_there_is_one_line(portal, entry, message):
    with pytest.raises(InputError, match=message) as caught:
        names(entry, portal)
    assert "\n" not in str(caught.value)


def test_a_wrong_checksum_is_named_and_the_copy_removed(portal, tmp_path):
    portal.wrong = "jets_2.root"
    settings = study(portal, tmp_path, "opendata:12100")
    with pytest.raises(
        InputError, match=r"jets_2\.root: its checksum is adler32:\w{8}, of the record adler32:0bad0bad"
    ):
        ensure_files(settings, progress=False)
    assert not list((tmp_path / "data").rglob("jets_2.root"))
    portal.wrong = ""
    assert len(ensure_files(settings, progress=False)) == 4


def test_a_missing_file_is_named(portal, tmp_path):
    settings = study(portal, tmp_path, "opendata:12100?files=3")
    record = portal.record()
    portal.record = lambda: record
    (portal.folder / "jets_3.root").unlink()
    with pytest.raises(InputError, match=r"jets_3\.root: there is no such file"):
        ensure_files(settings, progress=False)


def test_a_portal_that_is_down_is_named(portal, tmp_path):
    settings = study(portal, tmp_path, "opendata:12100")
    portal.shutdown()
    portal.server_close()
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:\d+/api/records/12100: cannot be read after 1 attempts"):
        ensure_files(settings, progress=False)


@pytest.mark.parametrize("protocol", ["http", "root"])
@pytest.mark.parametrize("address", ["file://{}", "{}", "root://a//b::file://{}", "simplecache::file://{}"])
def test_a_portal_cannot_have_a_file_of_this_machine_copied(portal, tmp_path, address, protocol):
    own = tmp_path / "own.root"
    own.write_bytes(b"secret")
    portal.entry = lambda _: {
        "uri": address.format(own),
        "size": 6,
        "checksum": f"adler32:{zlib.adler32(b'secret'):08x}",
    }
    settings = study(portal, tmp_path, f"opendata:12100?protocol={protocol}")
    with pytest.raises(InputError, match=r"not known here|no such file|kind of address is not read"):
        ensure_files(settings, progress=False)
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file() and b"secret" in path.read_bytes()] == []


@pytest.mark.parametrize(
    "answer",
    [b"[" * 100_000, b"1" * 5000, b"[1]", b'{"metadata": [1]}', b'{"metadata": {"files": "a"}}', b'{"hits": [1]}',
     b'{"hits": {"total": 1, "hits": []}}', b'{"hits": {"total": 1, "hits": [{"id": [1]}]}}',
     b'{"metadata": {"files": [{"uri": "root://a//a.root", "size": 1e999, "checksum": "adler32:00000000"}]}}'],
)  # fmt: skip
@pytest.mark.parametrize("entry", ["opendata:12100", "opendata:10.1/A"])
def test_an_answer_of_another_shape_is_one_line(tmp_path, entry, answer):
    with web_server(tmp_path / "web") as web:
        for name in ("12100", "records"):
            (web.folder / "files" / name).write_bytes(answer)
        with pytest.raises(InputError) as caught:
            files_of_record(entry, RemoteSettings(portal=web.url, attempts=1))
    assert "\n" not in str(caught.value)


def test_the_study_names_the_papers_files():
    files = load_study(str(project_root() / "pipelines" / "studies" / "opendata.yaml")).data.files
    numbers = sorted(int(part.rpartition("_")[2].removesuffix(".root")) for file in files for part in file.split(","))
    assert numbers == [7, 10, 11, 19, 27, 35, 66, 90, 96, 103]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_study_of_the_paper_from_the_portal_to_the_report(portal, tmp_path, cli, sample):
    """Study `opendata` as it is, but for the size of networks and trainings; ours in place of the portal's files."""
    for path in portal.folder.glob("*.root"):
        path.unlink()
    numbers = [10, 19, 27, 35, 66, 7, 11, 90, 103, 96]
    with uproot.open(sample) as file:
        jets = file["AK4jets/jetTree"].arrays(library="ak")
    share = len(jets) // len(numbers)
    for place, number in enumerate(numbers):
        part = jets[place * share : (place + 1) * share]
        columns = {name: part[name] for name in part.fields if not name.startswith(("n", "genJetPF"))}
        write_jets(portal.folder / f"JetNtuple_RunIISummer16_13TeV_MC_{number}.root", columns)
    small = {
        "data.remote.portal": portal.url, "data.directory": tmp_path / "data", "tuning.trials": 2, "tuning.epochs": 1,
        "tuning.max_jets": 300, "tuning.space.conv_layers.max": 2, "tuning.space.fc_layers.max": 2,
        "serving.batch_sizes": "[1, 64]", "serving.seconds_per_batch_size": 0.1, "physics.replicas": 20,
        "models.particlenet.blocks": 1, "models.particlenet.k": 4,
    }  # fmt: skip
    for name in ("pfn", "particlenet"):
        small |= {f"models.{name}.training.epochs": 1, f"models.{name}.conv_dim": 16, f"models.{name}.fc_dim": 16}
    options = [text for name, value in small.items() for text in ("-p", name, value)]
    cli("run", "--study", "opendata", "--out", tmp_path / "run", *options)
    made = read_json(tmp_path / "run" / "data.json")
    assert sorted(int(row["path"].rpartition("_")[2].removesuffix(".root")) for row in made["files"]) == sorted(numbers)
    assert all(row["path"].startswith(portal.url) for row in made["files"])
    assert sum(row["jets"] for row in made["files"]) == share * len(numbers)
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert {"pfn", "particlenet"} <= metrics.keys()
    selection = load_study("opendata").data.selection
    predictions = load_predictions(tmp_path / "run" / "predictions.root")
    assert predictions["genJetPt"].min() > selection.min_gen_pt
    assert predictions["genJetEta"].abs().max() < selection.max_abs_gen_eta
    assert len(predictions) == pytest.approx(0.2 * len(jets), rel=0.5)
    assert (tmp_path / "run" / "report.html").stat().st_size > 100_000
