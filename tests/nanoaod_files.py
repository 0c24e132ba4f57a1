"""Real NanoAOD files written again with something changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import awkward as ak
import uproot

from jetcorr_utils.jets.regressions import REGRESSIONS

__all__ = ["with_regression", "written_again"]

Branches = dict[str, ak.Array]


def written_again(source: Path, path: Path, change: Callable[[Branches], None]) -> Path:
    """A copy of a file with one array a branch, which `change` may replace or add to."""
    with uproot.open(source) as file:
        tree = file["Events"]
        branches = {name: tree[name].array() for name in tree.keys() if name[0] != "n"}  # noqa: SIM118
    change(branches)
    with uproot.recreate(path) as file:
        types = {name: ak.type(values).content for name, values in branches.items()}
        tree = file.mktree("Events", types, counter_name=lambda name: "n" + name.split("_")[0])
        tree.extend(branches)
    return path


def with_regression(name: str, factor: float, resolution: float) -> Callable[[Branches], None]:
    """Add one of CMS's regressions, the same for all jets: its two factors and its resolution."""

    def change(branches: Branches) -> None:
        for column in REGRESSIONS[name].columns:
            value = resolution if column.endswith("Res") else factor
            branches[f"Jet_{column}"] = ak.values_astype(branches["Jet_pt"] * 0 + value, "float32")

    return change
