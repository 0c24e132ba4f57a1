"""The report: all notebooks on one page, text and figures without code."""

from __future__ import annotations

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from jetcorr_utils.notebooks import NOTEBOOKS
from jetcorr_utils.report import write_report
from jetcorr_utils.run import RunFolder


def _write(path, text: str):
    cell = new_code_cell("secret_code()", outputs=[new_output("stream", text=f"output of {text}\n")])
    nbformat.write(new_notebook(cells=[new_markdown_cell(f"# Chapter {text}"), cell]), path)
    return path


def test_report_has_every_notebook_and_no_code(tmp_path):
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
    assert "secret_code" not in html
