"""The report: the executed notebooks of a run as one HTML page, text and figures without the code."""

from __future__ import annotations

import re
from pathlib import Path

import bleach
import nbformat
from nbconvert import HTMLExporter

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
_WIDGET = "application/vnd.jupyter.widget-view+json"
"""A bar of progress, which has a text beside that says no more."""


def _exporter(**options: bool) -> HTMLExporter:
    """nbconvert's exporter, that takes nothing from where it should not.

    No templates of the current folder, which could be anybody's and hold code; and no code, form or address to load
    something from out of a notebook, which may have come with a folder that somebody sent.
    """
    return HTMLExporter(
        exclude_input_prompt=True, exclude_output_prompt=True, extra_template_basedirs=[], sanitize_html=True,
        filters={"clean_html": _clean}, **options,
    )  # fmt: skip


def _clean(html: str) -> str:
    """Text, tables and figures of a piece of HTML."""
    html = _CODE.sub("", html)  # or it would be text
    return bleach.clean(html, _TAGS, _ATTRIBUTES, {"http", "https", "mailto", "data"}, strip=True)


def _read(path: Path) -> nbformat.NotebookNode:
    """An executed notebook without what is no text and no figure, and without notes on its cells and outputs.

    nbconvert writes some of these notes into the page as they stand: sizes of figures, names of files.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = nbformat.from_dict(
        {"language_info": notebook.metadata.get("language_info", {"name": "python"})}
    )
    for cell in notebook.cells:
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


def page(notebook: Path) -> str:
    """An executed notebook as an HTML page of its own."""
    return _exporter().from_notebook_node(_read(notebook), resources={"metadata": {"name": notebook.stem}})[0]


def write_report(run: RunFolder, title: str) -> Path:
    """Join the executed notebooks of a run into one HTML page, with a table of contents, and return its path."""
    paths = [path for notebook in NOTEBOOKS.values() if (path := run.notebooks / notebook.path.name).is_file()]
    pages = [_read(path) for path in paths]
    contents = "\n".join(f"- [{path.stem.replace('_', ' ')}](#{path.stem})" for path in paths)
    joined = nbformat.v4.new_notebook(metadata=pages[0].metadata if pages else {})
    joined.cells = [nbformat.v4.new_markdown_cell(f"# jetcorr: study {title}\n\n{contents}")]
    for path, page in zip(paths, pages, strict=True):
        joined.cells += [nbformat.v4.new_markdown_cell(f'<a id="{path.stem}"></a>'), *page.cells]
    # Cell ids are unique in a notebook only, and the joined page must have each once.
    for number, cell in enumerate(joined.cells):
        cell["id"] = f"cell-{number}"
    resources = {"metadata": {"name": f"jetcorr: {title}"}}
    html, _ = _exporter(exclude_input=True).from_notebook_node(joined, resources=resources)
    return write_text(run.report, html)
