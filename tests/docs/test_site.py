"""The site in Chromium, as wide as on a desk and on a phone: what is seen, what is found, what is asked of whom."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from jetcorr_utils import __version__
from jetcorr_utils.notebooks import NOTEBOOKS
from tests.browser.conftest import keep_picture, page  # noqa: F401 (fixtures)

pytestmark = pytest.mark.slow

SHOWN = {
    "start": ("index.html", "jetcorr", "img"),
    "notebook": ("tutorials/06_physics_plots.html", "Resolution", "div.cell_output img"),
    "how-to": ("how-to/correct-files.html", "jetcorr correct my_jets.root", "div.highlight"),
    "api": ("api/jetcorr_utils.html", "JetCorrector", "dl.class"),
}
"""By kind of page, its address, a text of it, and what it must have."""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def url(site) -> Iterator[str]:
    """The site by HTTP, on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def watched(page, url) -> Iterator:  # noqa: F811
    """A page that must neither complain nor ask another host for anything."""
    asked, complaints = [], []
    note = {
        "request": lambda request: asked.append(request.url),
        "pageerror": lambda error: complaints.append(str(error)),
        "console": lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None,
    }
    for event, keep in note.items():
        page.on(event, keep)
    yield page
    for event, keep in note.items():
        page.remove_listener(event, keep)
    assert complaints == []
    assert [address for address in asked if not address.startswith((url, "data:", "blob:"))] == []
    assert asked


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", SHOWN)
def test_a_page_is_shown(kind, width, watched, url, keep_picture):  # noqa: F811
    address, text, wanted = SHOWN[kind]
    watched.set_viewport_size({"width": width, "height": 800})
    watched.goto(f"{url}/{address}")
    watched.locator("article").get_by_text(text).first.wait_for()
    assert watched.locator(wanted).count()
    assert watched.evaluate("document.documentElement.scrollWidth") <= width
    broken = "[...document.images].filter(image => image.complete && !image.naturalWidth).map(image => image.src)"
    assert watched.evaluate(broken) == []
    assert __version__ in watched.locator(".release").inner_text()
    keep_picture(watched, f"site_{kind}_{width}")


def test_a_setting_is_found(watched, url):
    watched.set_viewport_size({"width": 1280, "height": 800})
    watched.goto(f"{url}/index.html")
    watched.locator("input.sidebar-search").fill("flavour_balance")
    watched.keyboard.press("Enter")
    watched.get_by_text("Search finished").wait_for()
    found = watched.locator("ul.search li a").all_inner_texts()
    assert {"Settings", "Losses"} <= set(found)


def test_links_of_the_site_lead_somewhere(site):
    texts = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    places = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in texts.items()}
    wrong = []
    for path, text in texts.items():
        for tag in BeautifulSoup(text, "html.parser").select("article a[href], .sidebar-tree a[href]"):
            address, _, place = tag["href"].partition("#")
            if re.match(r"[a-z]+:", address):
                continue
            target = (path.parent / address).resolve() if address else path
            if not target.exists() or (place and target in places and place not in places[target]):
                wrong.append(f"{path.relative_to(site)}: {tag['href']}")
    assert wrong == []
    assert len(places) > 60


def test_every_page_says_which_version_and_commit_it_is_of(site):
    said = re.compile(rf"{re.escape(__version__)}, commit [0-9a-f]{{7,}}")
    for path in [*site.glob("*/*.html"), site / "index.html"]:
        if not path.relative_to(site).parts[0].startswith("_"):
            html = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
            assert said.search(html.select_one(".release").get_text()), path


def test_notebooks_are_shown_as_they_were_executed(site):
    for notebook in NOTEBOOKS.values():
        html = (site / "tutorials" / f"{notebook.name}.html").read_text(encoding="utf-8")
        assert "cell_output" in html
        assert "injected-parameters" not in html
    formulas = BeautifulSoup(html, "html.parser").select("article math")
    assert any("gen" in formula.get_text() for formula in formulas)


def test_nothing_in_the_pages_is_loaded_from_elsewhere(site):
    for path in site.rglob("*.html"):
        html = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for tag in html.select("script[src], link[href], img[src], iframe[src]"):
            address = tag.get("src") or tag["href"]
            assert not re.match(r"(https?:)?//", address), (path, address)


def test_the_report_is_read_without_a_network(chromium, smoke_run, keep_picture):  # noqa: F811
    report: Path = smoke_run.folder.report
    assert report.stat().st_size < 8_000_000
    context = chromium.new_context(offline=True, viewport={"width": 1280, "height": 800})
    try:
        view, asked, complaints = context.new_page(), [], []
        view.on("request", lambda request: asked.append(request.url))
        view.on("console", lambda said: complaints.append(said.text))
        view.goto(report.as_uri())
        assert [address for address in asked if not address.startswith(("file:", "data:"))] == []
        assert complaints == []
        code, figure = view.locator("div.input").first, view.locator("main img").first
        assert not code.is_visible()
        assert figure.is_visible()
        keep_picture(view, "report")
        view.locator("label.button").click()
        assert code.is_visible()
        formula = view.locator("main math").first
        assert formula.bounding_box()["width"] > 5
        assert formula.evaluate("element => element.namespaceURI").endswith("MathML")
        view.locator("summary").first.click()
        assert not figure.is_visible()
        view.locator("nav a").nth(1).click()  # a chapter of it, which unfolds it again
        assert figure.is_visible()
        view.set_viewport_size({"width": 390, "height": 800})
        assert view.evaluate("document.documentElement.scrollWidth") <= 390
        view.emulate_media(media="print")
        assert not view.locator("label.button").is_visible()
    finally:
        context.close()
