"""The report: all notebooks on one page, text and figures without code."""

from __future__ import annotations

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from jetcorr_utils.report import write_report


def _write(path, text: str):
    cell = new_code_cell("secret_code()", outputs=[new_output("stream", text=f"output of {text}\n")])
    nbformat.write(new_notebook(cells=[new_markdown_cell(f"# Chapter {text}"), cell]), path)
    return path


def test_report_has_every_notebook_and_no_code(tmp_path):
    notebooks = [_write(tmp_path / f"0{n}_part.ipynb", str(n)) for n in (1, 2)]
    html = write_report([*notebooks, tmp_path / "03_not_run.ipynb"], tmp_path / "report.html", title="mine").read_text()
    for n in (1, 2):
        assert f"Chapter {n}" in html
        assert f"output of {n}" in html
        assert f'href="#0{n}_part"' in html
        assert f'id="0{n}_part"' in html
    assert "03_not_run" not in html
    assert "secret_code" not in html
