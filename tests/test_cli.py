"""The command line: what it prints, its exit codes, and no traceback for bad input."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import uproot
from click.testing import CliRunner
from tritonclient.http import InferenceServerClient

from jetcorr_utils import __version__
from jetcorr_utils.cli import main
from jetcorr_utils.config import load_study, project_root
from jetcorr_utils.data import read_jets
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
        (["run", "--study", "smoke", "-p", "tuning.space.conv_dim.choices", "[100000000]"], "tuning.space: conv_dim"),
        (["run", "--study", "smoke", "-p", "tuning.space.conv_dimm.choices", "[16]"], "'conv_dimm' is not a setting"),
        (["info", "absent.root"], "absent.root"),
        (["info", ""], "a file with an empty name"),
        (["response", ""], "a file with an empty name"),
        (["response", "pipe"], "pipe: is a pipe"),
        (["results", "pipe"], "pipe: is a pipe"),
        (["results", "absent.root"], "absent.root: there is no such file"),
        (["results", "absent.root", "--model", "pfn"], "--model and --eta choose from the table of a run"),
        (["results", "absent.root", "--eta", "0-1.3"], "--model and --eta choose from the table of a run"),
        (["correct", "absent.root", "--model", "absent", "--out", "out.root"], "absent"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(cli, tmp_path, arguments, culprit):
    os.mkfifo(tmp_path / "pipe")
    result = cli(*arguments, check=False, cwd=tmp_path)
    assert result.returncode == 2
    assert culprit in _one_line(result)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--compound", "L2Relative"], "--compound: name the file that has them with --corrections"),
        (["--uncertainties", "all"], "--uncertainties: name the file that has them with --corrections"),
        (["--corrections", ""], "corrections: a file with an empty name"),
        (["--corrections", "absent.json"], "corrections absent.json: there is no such file"),
        (["--corrections", "."], r".: is a folder"),
        (["--official", ""], "correction: a file with an empty name"),
        (["--official", "absent.jec.txt"], "correction absent.jec.txt: there is no such file"),
    ],
)
def test_corrections_that_are_asked_for_are_never_left_out(sample, tmp_path, options, message):
    """An empty name, as an unset variable gives it, is not the same as none."""
    model = project_root() / "results" / "reference" / "model_repository" / "pfn"
    arguments = ["correct", sample, "--model", model, "--out", tmp_path / "out.root", *options]
    answer = CliRunner().invoke(main, list(map(str, arguments)))
    assert answer.exit_code == 2
    assert message in answer.stderr
    assert not (tmp_path / "out.root").exists()


def test_no_name_of_a_model_is_not_the_current_folder(monkeypatch, sample, tmp_path):
    monkeypatch.chdir(project_root() / "results" / "reference")
    answer = CliRunner().invoke(main, ["correct", str(sample), "--model", "", "--out", str(tmp_path / "out.root")])
    assert answer.exit_code == 2
    assert "model: a file with an empty name" in answer.stderr


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pfn": {}}', '{"pfn": {"resolution_gain": {"0-1.3": []}}}'])
def test_metrics_of_another_shape_are_named_by_their_path(tmp_path, content):
    (tmp_path / "metrics.json").write_text(content)
    answer = CliRunner().invoke(main, ["results", str(tmp_path)])
    assert answer.exit_code == 2
    assert f"{tmp_path / 'metrics.json'}: " in answer.stderr


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


@pytest.mark.parametrize("arguments", [["results", "results/reference"], ["info", "SAMPLE"], ["--help"], ["run", "-h"]])
def test_an_output_that_cannot_be_written_is_said_in_one_line(arguments, sample):
    words = [str(sample) if word == "SAMPLE" else word for word in arguments]
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "jetcorr_utils.cli", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=project_root())
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line == "jetcorr: the output or a file: No space left on device"


@pytest.mark.parametrize("command", ["run", "train", "tune", "export"])
@pytest.mark.parametrize("inside", ["", "x"])
def test_a_file_in_the_place_of_the_run_folder_is_named(command, inside, tmp_path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    result = CliRunner().invoke(main, [command, "--study", "smoke", "--out", str(tmp_path / "file" / inside)])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "a file is in the way of this folder" in result.stderr
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("seed", ["-1", str(2**31)])
def test_a_seed_that_is_no_run_number_is_refused(seed, tmp_path):
    result = CliRunner().invoke(main, ["simulate", "--jets", "1", "--seed", seed, "--out", str(tmp_path / "x")])
    assert result.exit_code == 2
    assert "--seed" in result.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("value", ["{generator.tunes: 3}", "{generator.tune: [3, 3]}", "{detector.hadron_response: 1}"])
def test_a_variation_that_cannot_be_simulated_is_named_before_anything_runs(value, tmp_path):
    given = ["-p", "physics.variations", f"{{other: {value}}}"]
    result = CliRunner().invoke(main, ["run", "--study", "smoke", "--out", str(tmp_path / "x"), *given])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "physics.variations" in result.stderr
    assert not (tmp_path / "x").exists()


def test_a_pattern_that_the_shell_has_left_is_one(sample, tmp_path):
    for name in ("a.root", "b.root"):
        shutil.copy(sample, tmp_path / name)
    result = CliRunner().invoke(main, ["info", str(tmp_path / "*.root")])
    assert result.exit_code == 0
    assert all(f"{tmp_path / name}: JetNTuple" in result.stdout for name in ("a.root", "b.root"))
    result = CliRunner().invoke(main, ["info", str(tmp_path / "*.rot")])
    assert (result.exit_code, result.stderr) == (2, f"jetcorr: {tmp_path / '*.rot'}: no file matches\n")


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


def test_info_says_events_ranges_and_how_many_jets_pass(cli, sample):
    text = cli("info", sample).stdout
    with uproot.open(sample) as file:
        jets = file["AK4jets/jetTree"].arrays(["run", "lumi", "event", "jetPt", "jetEta"], library="np")
    events = len(set(zip(*(jets[name].tolist() for name in ("run", "lumi", "event")), strict=True)))
    assert f"{events} events; pt {jets['jetPt'].min():.4g} to {jets['jetPt'].max():.4g} GeV" in text
    passed = int(re.search(r"(\d+) of 2000 jets pass the default selection", text)[1])
    out = sum(int(line.split(":")[0]) for line in text.splitlines() if line.startswith("  "))
    assert passed + out == 2000
    assert passed == len(read_jets(sample, load_study("smoke").data))


def test_correct_replaces_no_file_without_force_and_looks_at_the_model_first(cli, sample, tmp_path):
    out, model = tmp_path / "out.root", project_root() / "results" / "reference" / "model_repository" / "pfn"
    wrong = cli("correct", "absent.root", "--model", "absent", "--out", out, check=False)
    assert "absent: no model there" in _one_line(wrong)
    assert "jets/s" in cli("correct", sample, "--model", model, "--out", out).stdout
    before = out.stat().st_mtime_ns
    again = cli("correct", sample, "--model", model, "--out", out, check=False)
    assert again.returncode == 2
    assert f"{out}: is there already; choose another name, or replace it with --force" in again.stderr
    assert out.stat().st_mtime_ns == before
    cli("correct", sample, "--model", model, "--out", out, "--force")
    assert out.stat().st_mtime_ns > before


def test_a_shell_is_offered_the_studies():
    environment = os.environ | {
        "_JETCORR_COMPLETE": "bash_complete",
        "COMP_WORDS": "jetcorr run --study q",
        "COMP_CWORD": "3",
    }
    command = Path(sys.executable).with_name("jetcorr")
    done = subprocess.run([command], env=environment, capture_output=True, text=True, check=True)
    assert "plain,quick" in done.stdout.splitlines()
    assert "plain,smoke" not in done.stdout


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


@pytest.mark.parametrize(
    "arguments",
    [["simulate", "--jets", 10**12, "--out", "x"], ["simulate", "--jets", 1, "--out", "x", "--workers", 10**6],
     ["correct", "x.root", "--model", "x", "--out", "y.root", "--workers", 10**6],
     ["correct", "x.root", "--model", "x", "--out", "y.root", "--batch-size", 10**9],
     ["response", "x.root", "--replicas", 10**9], ["response", "x.root", "--workers", 10**6]],
)  # fmt: skip
def test_what_would_take_the_whole_machine_is_refused(cli, tmp_path, arguments):
    result = cli(*arguments, check=False, cwd=tmp_path)
    assert result.returncode == 2
    assert f"Error: Invalid value for '{arguments[-2]}'" in result.stderr or "'--jets'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "--study", "smoke", "--model", "none", "--out", "new"), "--model 'none': the study has pfn"),
        (
            ("correct", "x.root", "--model", "m", "--out", "file/x.root"),
            "file: a file is in the way of this folder; choose another",
        ),
        (("results", "metrics.json"), "metrics.json: is not a ROOT file; of a run, give its folder"),
        (("info", "no such\nfile.root"), "no such\\nfile.root: "),
        (("serve", "--repository", "models", "--host", ""), "host: an empty name"),
        (("serve", "--repository", "models", "--host", "999.1.1.1"), "host 999.1.1.1: "),
    ],
)
def test_arguments_that_are_wrong_are_one_line_and_leave_nothing(cli, tmp_path, arguments, said):
    (tmp_path / "models" / "pfn").mkdir(parents=True)
    for name in ("file", "metrics.json", "models/pfn/config.pbtxt"):
        (tmp_path / name).touch()
    before = sorted(tmp_path.rglob("*"))
    done = cli(*arguments, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"jetcorr: {said}")
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("place", "said"), [("", "--repository: a file with an empty name"), ("~/none", "{home}/none: not a")]
)
def test_serve_says_which_repository_is_none(cli, tmp_path, monkeypatch, place, said):
    monkeypatch.setenv("HOME", str(tmp_path))
    done = cli("serve", "--repository", place, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("jetcorr: " + said.format(home=tmp_path))


@pytest.mark.slow
def test_serve_until_interrupted(smoke_run):
    command = [sys.executable, "-m", "jetcorr_utils.cli", "serve", "--repository", smoke_run.folder.model_repository]
    ports = ["--http-port", "18000", "--grpc-port", "18001"]
    with subprocess.Popen([*map(str, command), *ports], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout.readline().startswith("ready: pfn")
        with InferenceServerClient("127.0.0.1:18000") as client:
            assert client.is_model_ready("pfn")
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=60) == 0
    with InferenceServerClient("127.0.0.1:18000") as client, pytest.raises(ConnectionRefusedError):
        client.is_server_live()


def test_the_table_of_some_models_and_bins(cli, smoke_run):
    folder = smoke_run.folder.path
    header, _, *rows = cli("results", folder, "--model", "pfn", "--eta", "0-2.5").stdout.splitlines()
    assert header.split("|")[4].strip() == "pfn [%]"
    assert {row.split("|")[2].strip() for row in rows} == {"0-2.5"}
    assert "gnn" in _one_line(cli("results", folder, "--model", "gnn", check=False))


def test_ctrl_c_that_comes_while_an_object_is_freed_is_not_lost():
    code = """
import os, signal, time
import click
from jetcorr_utils.cli import Group

class Freed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)

@click.group(cls=Group)
def main():
    pass

@main.command()
def work():
    Freed()
    time.sleep(600)

signal.signal(signal.SIGINT, signal.default_int_handler)
main(["work"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=120)
    assert (done.returncode, done.stderr) == (130, "jetcorr: stopped\n")


@pytest.mark.parametrize("module", ["click", "numpy", "awkward", "jetcorr_utils.config", "jetcorr_utils.data"])
def test_ctrl_c_while_modules_are_imported_ends_at_once(module):
    """`jetcorr_utils.data` is imported by the command, the others before it is known which one is meant."""
    code = f"""
import os, runpy, signal, sys

came = []

def stop_once(event, arguments):
    if event == "import" and arguments[0] == {module!r} and not came:
        came.append(event)
        os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(stop_once)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["jetcorr", "info", "absent.root"]
runpy.run_module("jetcorr_utils.cli", run_name="__main__", alter_sys=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=120)
    said = "jetcorr: stopped\n" if module == "jetcorr_utils.data" else ""
    assert (done.returncode, done.stdout, done.stderr) == (130, "", said)


def test_who_ignores_ctrl_c_ignores_it_while_modules_are_imported():
    code = """
import os, signal, sys

handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.addaudithook(lambda event, arguments: event == "import" and os.kill(os.getpid(), signal.SIGINT))
import jetcorr_utils.cli
print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_ctrl_c_is_an_interrupt_again_once_modules_are_imported():
    code = "import signal, jetcorr_utils.cli; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=120)
    assert (done.returncode, done.stdout) == (0, "True\n")
