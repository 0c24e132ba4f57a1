"""The report: the executed notebooks of a run as one HTML page, text and figures without the code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter

from .files import write_text

__all__ = ["page", "write_report"]


def _exporter(**options: bool) -> HTMLExporter:
    """nbconvert's exporter without the templates of the current folder, which could be anybody's and hold code."""
    return HTMLExporter(exclude_input_prompt=True, exclude_output_prompt=True, extra_template_basedirs=[], **options)


def page(notebook: Path) -> str:
    """An executed notebook as an HTML page of its own."""
    return _exporter().from_filename(str(notebook))[0]


def write_report(notebooks: Sequence[Path], path: Path, *, title: str) -> Path:
    """Join executed notebooks into one HTML page, with a table of contents, and return its path."""
    pages = [nbformat.read(notebook, as_version=4) for notebook in notebooks if notebook.is_file()]
    contents = "\n".join(f"- [{n.stem.replace('_', ' ')}](#{n.stem})" for n in notebooks if n.is_file())
    joined = nbformat.v4.new_notebook(metadata=pages[0].metadata if pages else {})
    joined.cells = [nbformat.v4.new_markdown_cell(f"# jetcorr: study {title}\n\n{contents}")]
    for notebook, page in zip((n for n in notebooks if n.is_file()), pages, strict=True):
        joined.cells += [nbformat.v4.new_markdown_cell(f'<a id="{notebook.stem}"></a>'), *page.cells]
    # Cell ids are unique in a notebook only, and the joined page must have each once.
    for number, cell in enumerate(joined.cells):
        cell["id"] = f"cell-{number}"
    resources = {"metadata": {"name": f"jetcorr: {title}"}}
    html, _ = _exporter(exclude_input=True).from_notebook_node(joined, resources=resources)
    return write_text(path, html)
