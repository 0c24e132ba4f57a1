"""Nothing that a command prints, logs or stops with moves a terminal's cursor or has it do something."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
import uproot

from jetcorr_utils.config import project_root
from jetcorr_utils.terminal import printable

EVIL = "\x1b]0;title\x07\x1b[1A\r\x9b2Joverwritten\u202e\x7f\b"


def _harmless(text: str) -> bool:
    return "overwritten" in text and all(c.isprintable() or c in "\n\t" for c in text)


def test_what_a_terminal_obeys_is_taken_out_and_the_rest_stays():
    assert printable("λ = 1 – π\tx\n") == "λ = 1 – π\tx\n"
    assert _harmless(printable(EVIL))


@pytest.mark.parametrize(
    "code",
    ["print(EVIL)", "sys.stdout.writelines([EVIL])", "click.echo(EVIL)",
     "logging.getLogger('jetcorr_utils.x').warning(EVIL)",
     "raise ValueError(EVIL)", "logging.getLogger('other').error('%s', EVIL)"],
)  # fmt: skip
def test_print_logs_and_tracebacks_are_harmless(code):
    program = f"""
        import logging, sys
        import click
        from jetcorr_utils.terminal import harmless_terminal
        EVIL = {EVIL!r}
        with harmless_terminal():
            {code}
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert _harmless(done.stdout + done.stderr)


def test_a_worker_logs_what_is_harmless(capfd):
    from jetcorr_utils.processes import worker_processes

    with worker_processes(1) as executor:
        executor.submit(log_something).result()
    assert _harmless(capfd.readouterr().err)


def log_something() -> None:
    """In a worker process."""
    import logging

    logging.getLogger("jetcorr_utils.data").warning(EVIL)


def test_a_table_of_results_and_an_error_are_harmless(cli, tmp_path):
    metrics = (project_root() / "results" / "reference" / "metrics.json").read_text(encoding="utf-8")
    name = "pfn\x1b]0;overwritten\x07"
    (tmp_path / "metrics.json").write_text(
        metrics.replace('"pfn":', '"pfn\\u001b]0;overwritten\\u0007":'), encoding="utf-8"
    )
    assert _harmless(cli("results", tmp_path, "--model", name).stdout)
    failed = cli("results", tmp_path, "--model", name + EVIL, check=False)
    assert failed.returncode != 0
    assert _harmless(failed.stdout + failed.stderr)


@pytest.mark.parametrize("closed", [(1,), (0, 1, 2)])
def test_a_command_whose_output_is_closed_does_its_work(cli, sample, tmp_path, closed):
    """A file that it opens must not become its output either: what a library prints would be in it."""
    model, out = project_root() / "results" / "reference" / "model_repository" / "pfn", tmp_path / "out.root"
    done = cli("correct", sample, "--model", model, "--out", out, preexec_fn=lambda: [os.close(n) for n in closed])
    assert "Traceback" not in done.stderr
    with uproot.open(out) as file:
        assert file["jets"].num_entries == 2000
