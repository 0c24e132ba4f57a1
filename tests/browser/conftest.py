"""Debian's Chromium, driven by Playwright, for pages that a physicist looks at; skipped where there is no Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Nothing is asked of the outside world, and no sandbox of its own is wanted: tests may run as root.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    """A browser of Playwright's, for the tests of one module."""
    api = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if not program:
        pytest.skip("no chromium: the pages cannot be looked at")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(chromium) -> Iterator:
    """One page, for the tests of one module."""
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(180_000)  # the image is built beside
    yield page
    page.close()


@pytest.fixture(scope="session")
def keep_picture() -> Callable:
    """`keep_picture(page, name)` writes a screenshot to the folder JETCORR_SCREENSHOTS, if that variable is set."""
    folder = os.environ.get("JETCORR_SCREENSHOTS")

    def keep(page, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name}.png", scale="css")

    return keep
