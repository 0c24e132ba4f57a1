"""TensorBoard as a notebook shows it, opened before there is anything to see: it shows by itself what comes."""

from __future__ import annotations

import pytest
from torch import nn

from jetcorr_utils.tensorboard import TensorBoard
from jetcorr_utils.training.records import TensorBoardLog

pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
pytestmark = pytest.mark.slow

RUNS = "tf-runs-selector"
OFTEN = """
if (location.protocol.startsWith("http") && !localStorage.getItem("_tb_global_settings"))
    localStorage.setItem("_tb_global_settings", JSON.stringify({autoReloadPeriodInMs: 2000}));
"""
"""A page asks each half minute where the browser has no other setting; that it asks at all is left to ours."""


def _write(logs, run: str, epochs: int) -> None:
    log = TensorBoardLog(logs / run)
    for epoch in range(1, epochs + 1):
        log.epoch({"epoch": epoch, "validation_mae": 0.1 / epoch}, nn.Linear(1, 1))
    log.close()


def test_it_shows_what_is_written_after_it_was_opened_and_goes_on_to(page, tmp_path, keep_picture):
    page.add_init_script(OFTEN)
    with TensorBoard(tmp_path, reload_interval=1) as board:
        page.goto(f"{board.url}#scalars")
        page.get_by_text("No scalar data was found").or_(page.get_by_text("No dashboards are active")).first.wait_for()
        _write(tmp_path, "first", 3)
        page.locator("tf-scalar-card").first.wait_for()
        page.locator(RUNS).get_by_text("first", exact=True).wait_for()
        _write(tmp_path, "second", 5)
        page.locator(RUNS).get_by_text("second", exact=True).wait_for()
        keep_picture(page, "tensorboard_live")
        page.locator("tf-scalar-card vz-line-chart2 path").first.wait_for(state="attached")
