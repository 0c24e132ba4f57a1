"""The command by which `make lab` starts JupyterLab."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from jetcorr_utils.config import project_root

__all__ = ["recipe"]


def recipe() -> list[str]:
    """The command of `make lab`, which needs the target `environment` besides."""
    text = (project_root() / "Makefile").read_text(encoding="utf-8")
    (found,) = re.findall(r"^lab:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    found = found.partition("  # ")[0].replace("\\\n", " ")
    found = found.replace("$(BIN)", str(Path(sys.executable).parent)).replace("$(CURDIR)", str(project_root()))
    return ["env", *shlex.split(found)]
