"""TensorBoard as a notebook shows it, opened before there is anything to see: it shows by itself what comes."""

from __future__ import annotations

import pytest
from torch import nn

from jetcorr_utils.tensorboard import TensorBoard
from jetcorr_utils.training.records import TensorBoardLog
from tests.waiting import wait_for

pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
pytestmark = pytest.mark.slow

RUNS = "tf-runs-selector"


def _write(logs, run: str, epochs: int) -> None:
    log = TensorBoardLog(logs / run)
    for epoch in range(1, epochs + 1):
        log.epoch({"epoch": epoch, "validation_mae": 0.1 / epoch}, nn.Linear(1, 1))
    log.close()


def _wait_half_minutes_for(page, shown) -> None:
    """Until something is shown; the page, which asks each half minute, has a clock that jumps."""

    def later() -> bool:
        page.clock.fast_forward(30_000)
        return shown.is_visible()

    wait_for(later, 180)


def test_it_shows_what_is_written_after_it_was_opened_and_goes_on_to(page, tmp_path, keep_picture):
    page.clock.install()
    with TensorBoard(tmp_path, reload_interval=1) as board:
        page.goto(f"{board.url}#scalars")
        page.get_by_text("No scalar data was found").or_(page.get_by_text("No dashboards are active")).first.wait_for()
        _write(tmp_path, "first", 3)
        _wait_half_minutes_for(page, page.locator(RUNS).get_by_text("first", exact=True))
        page.locator("tf-scalar-card").first.wait_for()
        _write(tmp_path, "second", 5)
        _wait_half_minutes_for(page, page.locator(RUNS).get_by_text("second", exact=True))
        keep_picture(page, "tensorboard_live")
        page.locator("tf-scalar-card vz-line-chart2 path").first.wait_for(state="attached")
