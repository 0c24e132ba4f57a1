"""The report: the executed notebooks of a run as one HTML page, which needs nothing beside it and no network.

Text and figures first; the code of the cells is there, hidden until it is asked for. The page has no script: it unfolds
and folds by HTML and CSS alone. Mathematics is written as MathML, which browsers draw by themselves.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import bleach
import nbformat
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

from .files import write_text
from .notebooks import NOTEBOOKS
from .run import RunFolder

__all__ = ["page", "write_report"]


_TAGS = bleach.ALLOWED_TAGS | {
    "h1", "h2", "h3", "h4", "h5", "h6", "p", "br", "hr", "div", "span", "pre", "img", "table", "thead", "tbody",
    "tfoot", "tr", "th", "td", "caption", "sub", "sup", "dl", "dt", "dd", "del",
}  # fmt: skip
_ATTRIBUTES = {
    "*": ["class", "id", "title", "colspan", "rowspan", "scope"],
    "a": ["href"],
    "img": lambda tag, name, value: name in ("alt", "width", "height") or value.startswith("data:image/"),
}
_KINDS = ("text/html", "text/markdown", "text/latex", "text/plain", "image/png", "image/jpeg", "image/svg+xml")
"""Of outputs: nbconvert cleans or quotes these. Others, such as diagrams, are code in a page."""
_CODE = re.compile(
    r"<(?:style|script)\b(?:(?!<(?:style|script)\b|</(?:style|script)\s*>).)*+</(?:style|script)\s*>",
    re.DOTALL | re.IGNORECASE,
)
"""What stands between a tag and the next: of many that do not end, each would be looked through to the text's end."""
_DEEPEST = 200
"""Tags within each other: each new one takes as long as there are."""
_MOST_FORMULAS = 500
"""Environments of a cell's text: for each that does not end, the rest of the text is looked through."""
_WIDGET = "application/vnd.jupyter.widget-view+json"
"""A bar of progress, which has a text beside that says no more."""
_FORMULA = re.compile("\ue000(\\d+)\ue001")
"""Where a formula goes, in characters for private use: it is put in when the rest of the page has been cleaned."""


class _TooDeepError(Exception):
    """Tags lie within each other deeper than those of any output."""


class _Heading(NamedTuple):
    """A line of the table of contents: its level, its place in the page, and its text as cleaned HTML."""

    level: int
    place: str
    text: str


class _Renderer(IPythonRenderer):
    """Markdown as nbconvert makes it, with formulas kept aside as MathML, and headings that a page can link to."""

    def __init__(self, prefix: str) -> None:
        super().__init__(escape=False, exclude_anchor_links=True)
        self.prefix = prefix
        self.formulas: list[str] = []
        self.headings: list[_Heading] = []
        self.listed = True  # not what a cell has put out, such as a model card

    def heading(self, text: str, level: int, **attrs: object) -> str:
        """A heading with a place that no other of the page has."""
        if not self.listed:
            return f"<h{level}>{text}</h{level}>\n"
        place = f"{self.prefix}-{len(self.headings) + 1}"
        self.headings.append(_Heading(level, place, bleach.clean(text, {"code", "em", "strong"}, {}, strip=True)))
        return f'<h{level} id="{place}">{text}</h{level}>\n'

    def inline_math(self, body: str) -> str:
        """A formula in the text."""
        return self._formula(body, block=False)

    def block_math(self, body: str) -> str:
        """A formula in a line of its own."""
        return self._formula(body, block=True)

    def latex_environment(self, name: str, body: str) -> str:
        """The same, with an environment such as align."""
        return self._formula(f"\\begin{{{name}}}{body}\\end{{{name}}}", block=True)

    def _formula(self, body: str, *, block: bool) -> str:
        try:
            formula = tex2mathml(body, as_block=block)
        except (MathError, LookupError, SyntaxError, TypeError, ValueError):  # not TeX, or more than is known
            formula = f"<code>{html.escape(body)}</code>"
        self.formulas.append(formula)
        return f"\ue000{len(self.formulas) - 1}\ue001"

    def with_formulas(self, text: str) -> str:
        """HTML with each formula at its place."""
        return _FORMULA.sub(
            lambda found: self.formulas[int(found[1])] if int(found[1]) < len(self.formulas) else "", text
        )


def _clean(text: str) -> str:
    """Text, tables and figures of a piece of HTML; the piece as text if it is nested too deep."""
    cleaner = bleach.Cleaner(_TAGS, _ATTRIBUTES, {"http", "https", "mailto", "data"}, strip=True)
    tree = cleaner.parser.tree
    make = tree.elementClass

    def element(*arguments: object) -> object:
        if len(tree.openElements) > _DEEPEST:
            raise _TooDeepError
        return make(*arguments)

    tree.elementClass = element
    try:
        return str(cleaner.clean(_CODE.sub("", text)))  # the code would be text
    except _TooDeepError:
        return f"<pre>{html.escape(text)}</pre>"


def _read(path: Path) -> nbformat.NotebookNode:
    """An executed notebook without what is no text and no figure, and without notes on its cells and outputs.

    nbconvert writes some of these notes into the page as they stand: sizes of figures, names of files.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = nbformat.from_dict(
        {"language_info": notebook.metadata.get("language_info", {"name": "python"})}
    )
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{path.stem}-cell-{number}"  # unique in the whole page
        cell.metadata = nbformat.NotebookNode()
        if "outputs" in cell:
            cell.outputs = [shown for output in cell.outputs if (shown := _shown(output))]
    return notebook


def _shown(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """What the page shows of an output, if anything."""
    if "data" not in output:
        return output
    data = {} if _WIDGET in output.data else {kind: output.data[kind] for kind in _KINDS if kind in output.data}
    return nbformat.from_dict({**output, "data": data, "metadata": {}}) if data else None


def _body(path: Path) -> tuple[str, list[_Heading]]:
    """The cells of an executed notebook as HTML, and its headings.

    nbconvert takes nothing from where it should not: no templates of the current folder, which could be anybody's and
    hold code; and no code, form or address to load something from out of a notebook, which may have come with a folder
    that somebody sent.
    """
    renderer, notebook = _Renderer(path.stem), _read(path)
    told = {cell.source for cell in notebook.cells if cell.cell_type == "markdown"}

    def markdown(text: str) -> str:
        renderer.listed = text in told
        if text.count("\\begin{") > _MOST_FORMULAS:
            return f"<pre>{html.escape(text)}</pre>"
        return MarkdownWithMath(renderer=renderer).render(text)

    exporter = HTMLExporter(
        template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True, extra_template_basedirs=[],
        sanitize_html=True, filters={"clean_html": _clean, "markdown2html": markdown},
    )  # fmt: skip
    text, _ = exporter.from_notebook_node(notebook)
    headings = [heading._replace(text=renderer.with_formulas(heading.text)) for heading in renderer.headings]
    return renderer.with_formulas(text), headings


def page(notebook: Path) -> str:
    """An executed notebook as an HTML page of its own."""
    return _document(notebook.stem.replace("_", " "), [notebook])


def write_report(run: RunFolder, title: str) -> Path:
    """Join the executed notebooks of a run into one HTML page, with a table of contents, and return its path."""
    paths = (run.notebooks / notebook.path.name for notebook in NOTEBOOKS.values())
    return write_text(run.report, _document(f"jetcorr: study {title}", [path for path in paths if path.is_file()]))


def _document(title: str, notebooks: Iterable[Path]) -> str:
    contents, chapters = [], []
    for path in notebooks:
        body, headings = _body(path)
        name = path.stem.replace("_", " ")
        # The first heading is the notebook's own title
        places = "".join(f'<li><a href="#{place}">{text}</a></li>' for level, place, text in headings if level == 2)
        contents.append(f'<li><a href="#{path.stem}">{name}</a><ul>{places}</ul></li>')
        chapters.append(f'<details open id="{path.stem}"><summary>{name}</summary>\n{body}\n</details>')
    style = files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    title, inside = html.escape(title), "\n".join(chapters)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{HtmlFormatter().get_style_defs(".highlight")}
{style}</style></head><body>
<input type="checkbox" id="show-code"><label for="show-code" class="button">code</label>
<nav><h2>Contents</h2><ul>{"".join(contents)}</ul></nav>
<main><h1>{title}</h1>
{inside}
</main></body></html>
"""
