"""The code in a model card does what it says when it is pasted."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from jetcorr_utils.config import load_study, project_root
from jetcorr_utils.data import load_clouds

pytestmark = pytest.mark.slow


def test_the_code_in_the_card_runs_as_it_stands_in_the_folder_of_the_run(smoke_run):
    card = (smoke_run.folder.model("pfn") / "model_card.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    asked = "\nprint(len(log_factor), bool((sigma > 0).all()), model.settings.architecture)"
    done = subprocess.run(
        [sys.executable, "-c", code + asked], cwd=smoke_run.folder.path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(project_root())},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    study = load_study(smoke_run.folder.study)
    jets = len(load_clouds(study.data, study.models["pfn"].features).split("test"))
    assert done.stdout.splitlines()[-1] == f"{jets} True pfn"
