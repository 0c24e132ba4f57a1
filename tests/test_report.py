"""The report: all notebooks on one page that needs no network, its code hidden."""

from __future__ import annotations

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from jetcorr_utils.notebooks import NOTEBOOKS
from jetcorr_utils.report import page, write_report
from jetcorr_utils.run import RunFolder


def _write(path, text: str):
    cell = new_code_cell("secret_code()", outputs=[new_output("stream", text=f"output of {text}\n")])
    nbformat.write(new_notebook(cells=[new_markdown_cell(f"# Chapter {text}"), cell]), path)
    return path


def test_report_has_every_notebook_and_its_code_is_hidden(tmp_path):
    run, names = RunFolder(tmp_path), [notebook.name for notebook in NOTEBOOKS.values()]
    run.notebooks.mkdir()
    for name in names[:2]:
        _write(run.notebooks / f"{name}.ipynb", name)
    html = write_report(run, title="mine").read_text()
    for name in names[:2]:
        assert f"Chapter {name}" in html
        assert f"output of {name}" in html
        assert f'href="#{name}"' in html
        assert f'id="{name}"' in html
    assert names[2] not in html
    found = BeautifulSoup(html, "html.parser")
    assert [tag["id"] for tag in found.find_all("details")] == names[:2]
    assert found.find(id="show-code").name == "input"
    assert all("secret_code" in tag.get_text() for tag in found.select("div.input"))
    assert html.count("secret_code") == len(found.select("div.input")) == 2


PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ATTACKS = {
    "text/html": "<b>kept</b><script>hit()</script><img src=x onerror=hit()><iframe src='javascript:hit()'></iframe>"
    "<svg onload=hit()></svg><a href='javascript:hit()'>x</a><form action=//hit.example><input></form>"
    "<img src=//hit.example/x><style>@import '//hit.example'</style><script type=text/x-mathjax-config>hit()</script>",
    "text/markdown": "kept <script>hit()</script> <img src=x onerror='hit()'> [x](javascript:hit())",
    "image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg'><script>hit()</script></svg>",
    "application/javascript": "hit()",
    "text/latex": "</div><script>hit()</script>",
    "text/plain": "</pre><script>hit()</script>",
    "image/png": f'{PNG}"><script>hit()</script>',
    "text/vnd.mermaid": "<script>hit()</script>",
    "application/vnd.jupyter.widget-view+json": {"version_major": 2, "version_minor": 0, "model_id": "hit()"},
}


NOTES = {
    "size": {"image/png": {"width": "1 onload=hit() ", "height": "1 onerror=hit() src=x"}},
    "size of all": {"width": "1 onload=hit()"},
    "name": {"filenames": {"image/png": "//hit.example"}},
}


@pytest.mark.parametrize("kind", [*ATTACKS, *NOTES, "markdown", "raw", "stream", "metadata"])
def test_a_notebook_that_somebody_sent_runs_nothing_in_the_report(kind, tmp_path):
    run = RunFolder(tmp_path)
    run.notebooks.mkdir()
    path = run.notebooks / f"{next(iter(NOTEBOOKS.values())).name}.ipynb"
    evil, notebook = ATTACKS["text/html"], new_notebook()
    if kind in ATTACKS:
        output = new_output("display_data", data={kind: ATTACKS[kind]})
        notebook.cells = [new_code_cell("1", outputs=[output])]
    elif kind in NOTES:
        output = new_output("display_data", data={"image/png": PNG}, metadata=NOTES[kind])
        notebook.cells = [new_code_cell("1", outputs=[output], metadata={"tags": [evil], "name": evil})]
    elif kind == "stream":
        notebook.cells = [new_code_cell("1", outputs=[new_output("stream", text=evil)])]
    elif kind == "metadata":
        notebook.metadata = {
            "widgets": {"application/vnd.jupyter.widget-state+json": {"state": {"hit()": {}}, "version_major": 2}},
            "kernelspec": {"name": evil, "display_name": evil}, "title": evil,
            "language_info": {"name": evil, "pygments_lexer": "ipython3"},
        }  # fmt: skip
        notebook.cells = [new_markdown_cell("kept")]
    else:
        notebook.cells = [nbformat.v4.new_raw_cell(evil, metadata={"raw_mimetype": "text/html"})]
        notebook.cells = notebook.cells if kind == "raw" else [new_markdown_cell(evil)]
    nbformat.write(notebook, path)
    for html in (page(path), write_report(run, title=f"mine{evil}").read_text(encoding="utf-8")):
        own = _scripts(page(_write(tmp_path / "own.ipynb", "harmless")))
        assert _scripts(html) - own == set()


def _scripts(html: str) -> set[str]:
    """All in a page that a browser would run, or load from elsewhere."""
    found = set()
    for tag in BeautifulSoup(html, "html.parser").find_all(True):
        if tag.name in ("script", "iframe", "object", "embed", "form", "base", "link", "meta", "svg"):
            found.add(str(tag) if tag.name != "meta" or tag.get("http-equiv") else "")
        for name, value in tag.attrs.items():
            bad = name.startswith("on") or "javascript:" in str(value)
            if bad or (tag.name == "img" and name == "src" and not value.startswith("data:image/")):
                found.add(str(tag))
    return found


def test_tags_that_do_not_end_are_looked_through_at_once(tmp_path):
    """Twice as many would take four times as long."""
    html = "kept<style" * 50_000
    path = tmp_path / "made.ipynb"
    output = new_output("display_data", data={"text/html": html})
    nbformat.write(new_notebook(cells=[new_code_cell("1", outputs=[output])]), path)
    assert "kept" in page(path)


def test_figures_tables_and_headings_stay_in_the_report(tmp_path):
    run = RunFolder(tmp_path)
    run.notebooks.mkdir()
    table = pd.DataFrame({"gain": [0.107]}, index=["pfn"])
    styled = table.style.format(precision=3).to_html()
    notebook = new_notebook(
        cells=[
            new_markdown_cell("# Response\n\nof $p_T < 30$ GeV: a *table*\n\n|a|b|\n|-|-|\n|1|2|"),
            new_code_cell("1", outputs=[new_output("display_data", data={"image/png": PNG})]),
            new_code_cell("2", outputs=[new_output("display_data", data={"text/html": table.to_html()})]),
            new_code_cell("3", outputs=[new_output("display_data", data={"text/html": styled})]),
        ]
    )
    nbformat.write(notebook, run.notebooks / f"{next(iter(NOTEBOOKS.values())).name}.ipynb")
    html = write_report(run, title="mine").read_text(encoding="utf-8")
    found = BeautifulSoup(html, "html.parser")
    assert [tag.get_text() for tag in found.find_all("h1")][-1] == "Response"
    formula = found.find("math")
    assert formula.find("msub").get_text().split() == ["p", "T"]
    assert "$" not in found.find("main").get_text()
    assert len(found.find_all("table")) == 3
    assert len(found.find_all("th")) >= 6
    assert found.find("img")["src"].startswith(f"data:image/png;base64,{PNG[:20]}")
    assert "#T_" not in found.find("main").get_text()


def test_formulas_are_drawn_by_the_browser_alone_and_what_is_none_stays_text(tmp_path):
    run = RunFolder(tmp_path)
    run.notebooks.mkdir()
    formulas = r"$\ln(p_\mathrm{T}^\mathrm{gen}/p_\mathrm{T})$ and $$\frac{1}{n} \sum_i x_i$$, but $\nothing{<b>}$"
    text = f"{formulas} and \ue0007\ue001"  # as if somebody knew what stands for a formula
    output = new_output("display_data", data={"text/markdown": "# A card\n\n$\\rho$"})
    cells = [new_markdown_cell(f"## With $\\rho$\n\n{text}"), new_code_cell("1", outputs=[output])]
    nbformat.write(new_notebook(cells=cells), run.notebooks / f"{next(iter(NOTEBOOKS.values())).name}.ipynb")
    found = BeautifulSoup(write_report(run, title="mine").read_text(encoding="utf-8"), "html.parser")
    assert [tag.get("display") for tag in found.find("main").find_all("math")] == [None, None, "block", None]
    assert found.find("main").find("code").get_text() == r"\nothing{<b>}"
    assert [tag.get_text() for tag in found.find("nav").find_all("a")][1:] == ["With \nρ\n"]
    assert "A card" in found.find("main").get_text()
    places = [tag["id"] for tag in found.find_all(id=True)]
    assert len(places) == len(set(places))
    assert {tag["href"] for tag in found.find("nav").find_all("a")} <= {f"#{place}" for place in places}


@pytest.mark.parametrize("opening", ["<b>", "<div>", "<ul><li>", "<table><tr><td>", "<div><p>"])
def test_tags_that_lie_too_deep_in_each_other_are_shown_as_text(opening, tmp_path):
    """Each would take as long as there are tags around it."""
    path, deep, flat = tmp_path / "made.ipynb", opening * 3_000, "<table>" + "<tr><td>1</td></tr>" * 500 + "</table>"
    outputs = [new_output("display_data", data={"text/html": text}) for text in (f"{deep}kept", flat)]
    nbformat.write(new_notebook(cells=[new_markdown_cell(deep), new_code_cell("1", outputs=outputs)]), path)
    found = BeautifulSoup(page(path), "html.parser")
    assert any(pre.text.endswith(f"{opening}kept") for pre in found.find_all("pre"))
    assert len(found.find_all("td")) == 500


def test_environments_that_do_not_end_are_shown_as_text(tmp_path):
    """For each, the rest of the text would be looked through."""
    path = _write(tmp_path / "made.ipynb", "\\begin{a}" * 20_000)
    assert BeautifulSoup(page(path), "html.parser").find("pre", string=lambda text: "\\begin{a}" * 9 in text)
