"""The report: the executed notebooks of a run as one HTML page, text and figures without the code."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbconvert import HTMLExporter

from .files import write_text
from .notebooks import NOTEBOOKS
from .run import RunFolder

__all__ = ["page", "write_report"]


def _exporter(**options: bool) -> HTMLExporter:
    """nbconvert's exporter without the templates of the current folder, which could be anybody's and hold code."""
    return HTMLExporter(exclude_input_prompt=True, exclude_output_prompt=True, extra_template_basedirs=[], **options)


def page(notebook: Path) -> str:
    """An executed notebook as an HTML page of its own."""
    return _exporter().from_filename(str(notebook))[0]


def write_report(run: RunFolder, title: str) -> Path:
    """Join the executed notebooks of a run into one HTML page, with a table of contents, and return its path."""
    paths = [path for notebook in NOTEBOOKS.values() if (path := run.notebooks / notebook.path.name).is_file()]
    pages = [nbformat.read(path, as_version=4) for path in paths]
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
