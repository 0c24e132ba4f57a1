"""What the tests of the pages share: the pages themselves, their blocks of code, and a site that is built once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from jetcorr_utils.config import project_root
from jetcorr_utils.files import Lock
from tests.browser.conftest import chromium  # noqa: F401 (a fixture)

ROOT = project_root()
DOCS = ROOT / "docs"
sys.path.append(str(DOCS))  # generated.py and pictures.py, which are no part of the package

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md", "pipelines/README.md")),
    *(
        ROOT / name
        for name in (
            "results/reference/README.md",
            "pipelines/image/LICENSES.md",
            "pipelines/MODELS.md",
            "CHANGELOG.md",
        )
    ),
    *sorted(path for path in DOCS.rglob("*.md") if path.parts[len(DOCS.parts)] not in ("api", "tables", "_build")),
]


@dataclass(frozen=True)
class Block:
    """A block of code of a page."""

    page: str
    language: str
    text: str

    @property
    def lines(self) -> list[str]:
        """The commands of a console or of a shell, without prompts and comments."""
        lines = [line.removeprefix("$ ") for line in self.text.splitlines() if line.strip()]
        return [re.sub(r"(^|\s+)# .*", "", line).strip() for line in lines]


def blocks(*languages: str) -> list[Block]:
    """The blocks of all pages in these languages, in their order."""
    fence = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
    found = []
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        found += [Block(name, *fields) for fields in fence.findall(page.read_text(encoding="utf-8"))]
    return [block for block in found if block.language in languages]


@pytest.fixture(scope="session")
def site(smoke_run, tmp_path_factory) -> Path:
    """The site with the notebooks of the run that tests share, built from a copy of the pages."""
    program = ROOT / ".venv-docs" / "bin" / "python"
    if not program.exists():
        pytest.skip("no .venv-docs: make docs RUN=")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "site"
    with Lock(folder.with_suffix(".lock"), "site"):
        if not folder.exists():
            folder.mkdir()
            for path in ROOT.iterdir():
                if path.name != "docs":
                    (folder / path.name).symlink_to(path)
            ignored = {"_build", "api", "tables"}
            for path in DOCS.rglob("*"):
                inside = path.relative_to(DOCS)
                if path.is_file() and inside.parts[0] not in ignored and path.suffix != ".ipynb":
                    (folder / "docs" / inside).parent.mkdir(parents=True, exist_ok=True)
                    (folder / "docs" / inside).write_bytes(path.read_bytes())
            environment = os.environ | {"JETCORR_DOCS_RUN": str(smoke_run.folder.path)}
            command = [program, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "docs", "html"]
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"
