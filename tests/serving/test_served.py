"""What the local server serves of a repository: the networks and nothing else, whatever the folders are called."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from jetcorr_utils.errors import InputError, ServerError
from jetcorr_utils.export import add_model
from jetcorr_utils.inference import TritonPredictor
from jetcorr_utils.inference.model_file import add_checksum
from jetcorr_utils.inference.padding import pad
from jetcorr_utils.serving import TritonServer, open_service, server_environment
from jetcorr_utils.serving.served_repository import ServedRepository
from jetcorr_utils.serving.server_environment import (
    ENVIRONMENT_VARIABLE,
    find_environment,
    private_place,
    server_available,
)
from tests.networks import some_clouds
from tests.planted import AWKWARD, SECRETS
from tests.reliability.repository import PLANTS
from tests.serving.test_server import _family


@pytest.fixture
def served(make_repository, tmp_path):
    """A function that makes what is served of a repository with the models named; and the repository."""

    def make(*names):
        repository = make_repository(*names)
        (tmp_path / "served").mkdir()
        return ServedRepository(repository, tmp_path / "served"), repository

    return make


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("model.onnx")}


def test_code_and_configuration_of_a_repository_are_not_run(make_repository, tmp_path):
    repository = make_repository("pfn")
    PLANTS["a backend that runs code"](repository / "pfn", tmp_path)
    with TritonServer(repository) as server, TritonPredictor(server.http_url, "pfn") as predictor:
        assert np.isfinite(predictor.predict(some_clouds(5))).all()
    assert not (tmp_path / "HIT").exists()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("a huge network", "2/model.onnx: not a readable ONNX model: it is larger than any model can be"),
        ("a huge configuration", "config.pbtxt: not a model configuration: longer than any"),
    ],
)
def test_a_huge_file_is_refused_before_it_is_read(served, tmp_path, what, said):
    following, repository = served("pfn")
    PLANTS[what](repository / "pfn", tmp_path)
    assert {problem.removeprefix(f"{repository / 'pfn'}/") for problem in following.update()} == {said}


def test_the_server_gets_the_variables_that_it_needs_and_no_keys(make_repository, monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    with TritonServer(make_repository("pfn")) as server:
        family = [pid for pid in _family(server) if pid != os.getsid(server.pid)]  # without our own guard
        assert len(family) >= 3
        for pid in family:
            variables = Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")
            names = {variable.partition("=")[0] for variable in variables}
            assert {name for name in names if not name.startswith(("JETCORR_", "MALLOC_"))} <= {
                "HOME", "LANG", "LD_LIBRARY_PATH", "ORT_DISABLE_TELEMETRY", "PATH", "PWD", "SHLVL", "TMPDIR",
                "VIRTUAL_ENV", "_",
            }  # fmt: skip
            assert "ORT_DISABLE_TELEMETRY=1" in variables


def test_no_path_reaches_a_shell(make_repository, tmp_path, monkeypatch):
    place = tmp_path / f'{AWKWARD};"*:'
    place.mkdir()
    repository = make_repository("pfn").rename(place / "repository")
    (place / "environment").symlink_to(find_environment())
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.chdir(place)
    server = TritonServer(repository, environment=place / "environment", log=place / "triton.log")
    with server, TritonPredictor(server.http_url, "pfn") as predictor:
        assert np.isfinite(predictor.predict(some_clouds(5))).all()
        for pid in _family(server):
            command = Path(f"/proc/{pid}/cmdline").read_text()
            assert "guard.py" in command or AWKWARD not in command
    assert not list(tmp_path.rglob("HIT"))


@pytest.mark.parametrize("name", ["x$(touch HIT)y", "été", "a b", "-x", "a'b"])
def test_a_name_that_a_shell_would_read_is_refused(make_repository, files, name):
    repository = make_repository("pfn")
    with pytest.raises(InputError, match="model name"):
        add_model(repository, name, files["pfn"])
    (repository / "pfn").rename(repository / name)
    with pytest.raises(InputError, match="model name"):
        TritonServer(repository).start()


def test_a_folder_from_which_no_program_may_run_is_not_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert private_place() == tmp_path
    monkeypatch.setattr(server_environment, "_runs_programs", lambda folder: folder != str(tmp_path))
    assert private_place() != tmp_path


def test_what_is_served_follows_the_repository(served, files):
    following, repository = served("pfn")
    assert following.update() == []
    assert _files(following.folder) == {"pfn/1/model.onnx"}
    add_model(repository, "pfn", files["pfn"])
    add_model(repository, "pfn", files["pfn"])
    add_model(repository, "particlenet", files["particlenet"])
    assert following.update() == []
    assert _files(following.folder) == {"pfn/2/model.onnx", "pfn/3/model.onnx", "particlenet/1/model.onnx"}
    before = (following.folder / "pfn" / "3").stat().st_ino
    add_model(repository, "pfn", files["pfn"], version=3)
    assert following.update() == []
    assert (following.folder / "pfn" / "3").stat().st_ino != before
    (repository / "particlenet").rename(repository.parent / "away")
    assert following.update() == []
    assert sorted(path.name for path in following.folder.iterdir()) == ["pfn"]


def test_a_file_that_is_still_being_copied_is_served_when_it_is_complete(served, files):
    following, repository = served("pfn")
    assert following.update() == []
    path = repository / "pfn" / "2" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(files["pfn"].read_bytes()[:5000])
    (problem,) = following.update()
    assert str(path) in problem
    assert following.update() == []  # said once
    path.write_bytes(files["pfn"].read_bytes())
    assert following.update() == []
    assert _files(following.folder) == {"pfn/1/model.onnx", "pfn/2/model.onnx"}


def test_settings_of_a_configuration_are_kept_within_limits(served):
    following, repository = served("pfn")
    path = repository / "pfn" / "config.pbtxt"
    original = path.read_text()
    path.write_text(original.replace("max_batch_size: 4096", "max_batch_size: 128").replace("count: 2", "count: 3"))
    assert following.update() == []
    local = (following.folder / "pfn" / "configs" / "local.pbtxt").read_text()
    assert "max_batch_size: 128" in local
    assert "count: 3" in local
    path.write_text(original.replace("count: 2", "count: 100000"))
    assert "instances is 100000" in following.update()[0]
    path.write_text("not a configuration")
    assert "not a model configuration" in following.update()[0]


@pytest.mark.parametrize("width", [None, "many", "1000000000"])
def test_a_network_that_says_nothing_sensible_of_itself_is_refused(served, files, tmp_path, width):
    model = onnx.load(files["pfn"])
    entries = [entry for entry in model.metadata_props if entry.key != "particle_columns"]
    del model.metadata_props[:]
    model.metadata_props.extend(entries)
    if width is not None:
        model.metadata_props.add(key="particle_columns", value=width)
    add_checksum(model)
    following, repository = served("pfn")
    onnx.save(model, repository / "pfn" / "1" / "model.onnx")
    assert "particle_columns" in following.update()[0]


def test_a_network_that_onnx_runtime_refuses_is_an_error_at_once(make_repository, files, tmp_path):
    model = onnx.load(files["pfn"])
    model.graph.node[-1].op_type = "Nonsense"
    add_checksum(model)
    onnx.save(model, tmp_path / "nonsense.onnx")
    repository = make_repository("pfn")
    add_model(repository, "pfn", tmp_path / "nonsense.onnx")
    with pytest.raises(ServerError, match=r"did not start: failed to load 'pfn'.*Nonsense"):
        TritonServer(repository, timeout=600).start()


def test_nothing_stays_in_the_folder_for_temporary_files(make_repository, monkeypatch, tmp_path):
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    repository = make_repository("pfn")
    with TritonServer(repository) as server:
        assert server.log.is_file()
    assert not list(place.iterdir())
    monkeypatch.setattr("jetcorr_utils.serving.server._is_ready", lambda *_: False)
    with pytest.raises(ServerError, match="not ready after 0 s"):
        TritonServer(repository, timeout=0).start()
    assert not list(place.iterdir())


@pytest.fixture
def other_environment(tmp_path, monkeypatch):
    """A server environment like the default one, whose Python and server a test may replace."""
    original, copy = find_environment(), tmp_path / "environment"
    (copy / "bin").mkdir(parents=True)
    (copy / "lib").symlink_to(original / "lib")
    (copy / "pyvenv.cfg").symlink_to(original / "pyvenv.cfg")
    (copy / "bin" / "python").symlink_to((original / "bin" / "python").resolve())
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(copy))
    return copy


def _script(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_python_without_a_shared_library_is_named(other_environment):
    assert server_available() is None
    _script(other_environment / "bin" / "python", f"echo {other_environment}; echo None")
    assert re.search(r"no shared library libpython3\.\d+\.so\.1\.0", server_available())
    _script(other_environment / "bin" / "python", "exit 1")
    assert "does not run" in server_available()


def test_a_python_that_the_server_does_not_know_is_named(other_environment):
    wheel = next(other_environment.glob("lib/python3*/site-packages/pytriton")).resolve()
    (other_environment / "lib").unlink()
    newer = other_environment / "lib" / "python3.99" / "site-packages"
    newer.mkdir(parents=True)
    (newer / "pytriton").symlink_to(wheel)
    assert "Python 3.99" in server_available()


def test_where_the_server_ends_at_once_the_models_run_in_this_process(make_repository, monkeypatch, tmp_path):
    _script(tmp_path / "binary", "echo no such luck; exit 3")
    prepared = server_environment.prepare
    monkeypatch.setattr(
        "jetcorr_utils.serving.server.prepare", lambda *folders: (tmp_path / "binary", prepared(*folders)[1])
    )
    _in_process(make_repository("pfn"), r"^ONNX Runtime in this process, since Triton server .* did not start.*$")


def test_where_its_processes_do_not_start_the_models_run_in_this_process(make_repository, monkeypatch, tmp_path):
    library = server_environment._python_library(find_environment())
    (tmp_path / library.name).write_text("no library")
    monkeypatch.setattr(server_environment, "_python_library", lambda _: tmp_path / library.name)
    _in_process(make_repository("pfn"), r"did not start: error while loading shared libraries: .*libpython")


def _in_process(repository: Path, text: str) -> None:
    with open_service(repository) as service:
        assert re.search(text, service.text)
        assert "\n" not in service.text
        assert service.server is None
        factor, _ = service.predictors["pfn"].infer(pad(some_clouds(3), np.arange(3)))
        assert np.isfinite(factor).all()
