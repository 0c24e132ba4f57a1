"""The site, made by `make docs`: pages in Markdown, the executed notebooks, and what the code says of itself.

It is built without a network and asks no other host for anything when it is read: mathematics is written as MathML,
fonts and scripts are the theme's own. Which pages are made from tables of the code says `generated.py`.
"""

from __future__ import annotations

import html
import os
import site
import subprocess
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]
for packages in sorted(ROOT.glob(".venv/lib/python3*/site-packages")):
    site.addsitedir(str(packages))  # after what this environment has: what the package needs

import generated  # noqa: E402 (the environment of the package is known from here on)
from docutils import nodes  # noqa: E402
from docutils.utils.math.latex2mathml import tex2mathml  # noqa: E402

from jetcorr_utils import __version__  # noqa: E402


def _commit() -> str:
    """The commit that the site is of; with a mark where files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=, changed since", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # an archive without its history


project, author, version = "jetcorr", "The jetcorr developers", __version__
release = f"{__version__}, commit {_commit()}"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click", "sphinx_copybutton"]
templates_path = ["_templates"]
exclude_patterns = ["_build", "tables", "README.md"]
default_role = "code"
nitpicky = False

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence", "attrs_inline", "attrs_block"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, Any] = {}
nb_merge_streams = True
suppress_warnings = [
    "mystnb.unknown_mime_type",  # bars of progress and sliders, which need a kernel
    "myst.header",  # a part of another page, under a title of its own
]

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_show_copyright = False
html_title = "jetcorr"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "images/icon.svg"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_math_renderer = "mathml"
html_theme_options = {"navigation_with_keys": False, "top_of_page_buttons": []}
copybutton_prompt_text = "$ "


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(_mathml(node, block=False))
    raise nodes.SkipNode


def _display(self: Any, node: nodes.math_block) -> None:
    self.body.append(f"<div>{_mathml(node, block=True)}</div>")
    raise nodes.SkipNode


def _mathml(node: nodes.Element, *, block: bool) -> str:
    """A formula for the browser; one that is not understood is an error of the build."""
    try:
        return str(tex2mathml(node.astext(), as_block=block))
    except Exception as error:
        raise ValueError(f"formula {html.escape(node.astext())}: {error}") from error


def setup(app: Any) -> None:
    """Make the generated pages, and have formulas written as MathML."""
    generated.write(ROOT, DOCS, Path(run) if (run := os.environ.get("JETCORR_DOCS_RUN")) else None)
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
