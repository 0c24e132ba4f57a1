"""The study of `tests/examples`, which adds all that can be added from outside the package, and files of its format."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import awkward as ak
import uproot

from jetcorr_utils.config import Study, load_study
from jetcorr_utils.jets.columns import JETS, PARTICLES, TREE

EXAMPLES = Path(__file__).parent / "examples"


def own_study(folder: Path) -> Study:
    """The study, from a copy of it and its files."""
    for file in EXAMPLES.glob("my_*"):
        shutil.copy(file, folder)
    return load_study(str(folder / "my_study.yaml"))


def toy_file(sample: Path, folder: Path, without: Sequence[str] = ()) -> Path:
    """The jets of the sample as the file of the study."""
    with uproot.open(sample) as file:
        jets = file[TREE].arrays()
    columns = {name: jets[name] for name in jets.fields if name in JETS or name in PARTICLES}
    columns["charged"] = jets["jetChargedMult"]
    for name in without:
        del columns[name]
    types = {name: ak.type(values).content for name, values in columns.items()}
    with uproot.recreate(folder / "toys.root") as file:
        file.mktree("toys", types, counter_name=lambda _: "nPF").extend(columns)
    return folder / "toys.root"
