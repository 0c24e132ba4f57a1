"""What somebody sees in a real terminal who presses Ctrl-C while a run trains, and gives the same command again."""

from __future__ import annotations

import re

import pytest

from tests.terminal import BAR, COMMAND, EPOCHS, Terminal, written_over


def test_what_is_written_over_is_not_seen():
    assert written_over("abc\rx") == "xbc"
    assert written_over("02  Training: 3/40\r                  \rdone") == "done"


@pytest.mark.slow
def test_a_run_is_stopped_in_the_training_and_goes_on(tmp_path):
    first = Terminal(COMMAND, tmp_path)
    first.wait_for(BAR)
    first.press_ctrl_c()
    assert first.end() == 130
    text = "\n".join(first.screen)
    assert "Traceback" not in text
    assert "ZMQ" not in text
    assert first.screen[0] == "01_data_exploration: running"
    assert "02_gnn_training: running" in first.screen
    last = [line for line in first.screen if line][-1]
    stopped = re.fullmatch(
        rf"(?:\^C)?jetcorr: stopped in notebook 02_gnn_training \(stopped: pfn after epoch (\d+) of {EPOCHS}\); "
        "01 is finished and kept; the same command goes on from here",
        last,
    )
    assert stopped, last
    # a bar is written in place: none is left on the screen
    assert not [line for line in first.screen if f"/{EPOCHS}" in line]

    second = Terminal(COMMAND, tmp_path)
    goes_on = int(second.wait_for(BAR)[1])
    assert goes_on >= int(stopped[1])
    second.wait_for("03_tuning: running")
    second.press_ctrl_c()
    assert second.end() == 130
    assert second.screen[0] == "01_data_exploration: up to date"
    assert "02_gnn_training: running" in second.screen
    assert "01, 02 are finished and kept" in "\n".join(second.screen)
