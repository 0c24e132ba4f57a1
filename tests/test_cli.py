"""The command line: what it prints, its exit codes, and no traceback for bad input."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest
import uproot
from click.testing import CliRunner
from tritonclient.http import InferenceServerClient

from jetcorr_utils import __version__
from jetcorr_utils.cli import main
from jetcorr_utils.files import read_json


def _one_line(result) -> str:
    """The only line of an error, which must not be a traceback."""
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("jetcorr: ")
    return line


def test_version(cli):
    assert __version__ in cli("--version").stdout


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["run", "--study", "nothing"], "nothing"),
        (["run", "--study", "smoke", "--from", "09"], "09"),
        (["run", "--study", "smoke", "-p", "physics.replica", "3"], "physics.replica"),
        (["train", "--study", "smoke", "--model", "gnn"], "gnn"),
        (["tune", "--study", "smoke", "-p", "tuning.trials", "0"], "tuning.trials"),
        (["info", "absent.root"], "absent.root"),
        (["correct", "absent.root", "--model", "absent", "--out", "out.root"], "absent"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(cli, tmp_path, arguments, culprit):
    result = cli(*arguments, check=False, cwd=tmp_path)
    assert result.returncode == 2
    assert culprit in _one_line(result)


@pytest.mark.parametrize("arguments", [["simulate"], ["simulate", "--jets", "0", "--out", "x"], ["nonsense"]])
def test_bad_usage_is_exit_code_2(cli, arguments):
    assert cli(*arguments, check=False).returncode == 2


OUTPUTS = [
    ["run", "--study", "smoke", "--out"],
    ["train", "--study", "smoke", "--out"],
    ["tune", "--study", "smoke", "--out"],
    ["export", "--study", "smoke", "--out"],
    ["simulate", "--jets", "1", "--out"],
    ["correct", "jets.root", "--model", "m", "--out"],
    ["compare-cms", "--study", "smoke", "--out"],
    ["compare-searches", "--study", "smoke", "--work", "work", "--out"],
    ["compare-searches", "--study", "smoke", "--out", "out", "--work"],
    ["manifests", "--out"],
    ["pipeline", "compile", "--out"],
    ["pipeline", "run", "--local", "--run-dir"],
    ["pipeline", "run", "--local", "--data-dir"],
    ["train", "--study", "smoke", "--out", "out", "-p", "data.directory"],
]


@pytest.mark.parametrize("arguments", OUTPUTS, ids=lambda arguments: f"{arguments[0]} {arguments[-1]}")
@pytest.mark.parametrize("address", ["s3://bucket/x", "root://eos.example//eos/x.root", "https://example.com/x"])
def test_an_output_that_is_an_address_is_refused_and_makes_no_folder_of_its_name(
    tmp_path, arguments, address, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, [*arguments, address])
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.strip().splitlines()
    if "--data-dir" not in arguments:  # which has its own rule
        assert f"address of the kind {address.split(':')[0]}:// cannot be written to; give a path" in line
        assert "pw" not in line
    assert not [path for path in tmp_path.rglob("*") if ":" in path.name]


def test_info_describes_the_sample(cli, sample):
    text = cli("info", sample).stdout
    assert "JetNTuple" in text
    assert "jets" in text


def test_info_says_why_a_file_cannot_be_used(cli, real_data):
    result = cli("info", real_data / "nano_dy.root", check=False)
    assert result.returncode == 2
    assert "NanoAOD" in result.stdout
    assert "candidates" in result.stderr
    assert "Traceback" not in result.stderr


def test_compare_with_cms(cli, tmp_path):
    arguments = ("--study", "smoke", "-p", "data.directory", tmp_path, "--out", tmp_path / "out")
    text = cli("compare-cms", *arguments).stdout
    comparison = read_json(tmp_path / "out" / "cms_comparison.json")
    assert comparison["jets"] > 1000
    for row in comparison["resolution"] + comparison["rings"]:
        assert f"{row['ours']:.3f}" in text
    shares = comparison["energy_fractions"]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    figures = {path.stem for path in (tmp_path / "out" / "figures").iterdir()}
    assert figures == {f"cms_{name}" for name in ("resolution", "flavour", "shapes", "rings", "candidates")}


@pytest.mark.slow
def test_correct_the_sample(cli, smoke_run, sample, tmp_path):
    out = tmp_path / "corrected.root"
    text = cli("correct", sample, "--model", smoke_run.folder.path, "--out", out).stdout
    with uproot.open(out) as corrected, uproot.open(sample) as original:
        jets = corrected["jets"].arrays(library="np")
        pt = original["AK4jets/jetTree/jetPt"].array(library="np")
    np.testing.assert_array_equal(jets["jetPt"], pt)
    np.testing.assert_allclose(jets["pfn_pt"], jets["jetPt"] * jets["pfn_factor"], rtol=1e-6)
    assert np.isfinite(jets["pfn_sigma"]).all()
    assert f"{len(pt)}" in text.replace(",", "").replace(" ", "")


@pytest.mark.slow
def test_correct_real_cms_jets(cli, smoke_run, real_data, tmp_path):
    out = tmp_path / "corrected.root"
    text = cli("correct", real_data / "pfnano.root", "--model", smoke_run.folder.path, "--out", out).stdout
    with uproot.open(out) as file:
        jets = file["jets"].arrays(library="np")
    assert 0 < len(jets["pfn_pt"]) <= 64
    assert np.isfinite(jets["pfn_pt"]).all()
    assert "not corrected" in text


@pytest.mark.slow
def test_serve_until_interrupted(smoke_run):
    command = [sys.executable, "-m", "jetcorr_utils.cli", "serve", "--repository", smoke_run.folder.model_repository]
    ports = ["--http-port", "18000", "--grpc-port", "18001"]
    with subprocess.Popen([*map(str, command), *ports], stdout=subprocess.PIPE, text=True) as server:
        assert "ready" in server.stdout.readline()
        with InferenceServerClient("127.0.0.1:18000") as client:
            assert client.is_model_ready("pfn")
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=60) == 0
    with InferenceServerClient("127.0.0.1:18000") as client, pytest.raises(ConnectionRefusedError):
        client.is_server_live()


def test_the_table_of_some_models_and_bins(cli, smoke_run):
    folder = smoke_run.folder.path
    header, _, *rows = cli("results", folder, "--model", "pfn", "--eta", "0-2.5").stdout.splitlines()
    assert header.split("|")[4].strip() == "pfn / %"
    assert {row.split("|")[2].strip() for row in rows} == {"0-2.5"}
    assert "gnn" in _one_line(cli("results", folder, "--model", "gnn", check=False))
