"""What a notebook shows while it works, on the real display machinery of IPython."""

from __future__ import annotations

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from jetcorr_utils import live as live_module
from jetcorr_utils.config import PfnSettings, TrainingSettings
from jetcorr_utils.live import LiveHistory, LiveTable
from jetcorr_utils.physics import plot_history
from jetcorr_utils.training import train
from tests.clouds import random_clouds


@pytest.fixture
def shell():
    """An interactive shell, as a notebook's kernel has; without one, `display` has no outputs to replace."""
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def rows(epochs: int):
    return [
        {"epoch": e, "train_mae": 0.1 / e, "validation_mae": 0.11 / e, "learning_rate": 1e-3, "seconds": 1.0}
        for e in range(1, epochs + 1)
    ]


def test_the_curve_is_drawn_in_place_and_not_at_every_epoch(shell, monkeypatch):
    clouds = random_clouds(40)
    clouds.part[:10] = 1
    drawn = []

    def draw(history, *arguments, **options):
        drawn.append(len(history))
        return plot_history(history, *arguments, **options)

    monkeypatch.setattr(live_module, "plot_history", draw)
    live = LiveHistory(clouds, "PFN")
    with capture_output() as captured:
        for row in rows(30):
            live(row["epoch"], row)
        live.end(plot_history(pd.DataFrame(rows(30)), 0.1))
    assert drawn[0] == 1
    assert len(drawn) < 30  # the epochs of this test are shorter than the drawing
    first, *later = captured.outputs
    assert not first.update
    assert len(later) == len(drawn)
    assert all(output.update and output.transient == first.transient for output in later)


def test_a_training_that_goes_on_is_drawn_with_its_history_at_once(shell, monkeypatch, tmp_path):
    drawn = []

    def draw(history, *arguments):
        drawn.append(len(history))
        return plot_history(history, *arguments)

    monkeypatch.setattr(live_module, "plot_history", draw)
    data, validation = random_clouds(60), random_clouds(40, seed=2)

    def stop(epoch, row):
        if epoch == 3:
            raise KeyboardInterrupt

    settings = PfnSettings(architecture="pfn", conv_dim=8, fc_dim=8, training=TrainingSettings(epochs=4, batch_size=20))
    with pytest.raises(KeyboardInterrupt):
        train(settings, data, validation, tmp_path, progress=False, callback=stop)
    both = random_clouds(100)
    both.part[:40] = 1
    with capture_output():
        train(settings, data, validation, tmp_path, progress=False, callback=LiveHistory(both, "PFN"))
    assert drawn[0] >= 2  # the third epoch may have been saved, or not


def test_the_table_is_replaced_as_trials_end(shell):
    class Result:
        def __init__(self, text):
            self.table = lambda: text

    live = LiveTable()
    with capture_output() as captured:
        live(Result("one"))
        live(Result("two"))
    assert [output.data["text/plain"] for output in captured.outputs] == ["'one'", "'two'"]
    assert [output.update for output in captured.outputs] == [False, True]
