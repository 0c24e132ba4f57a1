"""Random search against TPE with successive halving, at the same compute: which finds the better network?

One search says little, since both draw at random: each is repeated with several seeds, and all repetitions of both
start from the same jets. The compute is counted in epochs, so that a search that stops its worse trials early gets more
of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from ..config import Study
from ..data.dataset import CloudDataset
from .search import search
from .search_result import SearchResult

__all__ = ["METHODS", "compare_searches"]

#: name of the method: sampler and pruner
METHODS = {"random": ("random", "none"), "TPE with halving": ("tpe", "halving")}


def compare_searches(
    study: Study,
    training: CloudDataset,
    validation: CloudDataset,
    folder: str | Path,
    seeds: Sequence[int],
    *,
    progress: bool = True,
) -> pd.DataFrame:
    """Repeat both searches and follow the best validation error with the compute spent.

    The study's own settings, which every search of ours tries first, are left out: they would hide the difference.

    Parameters
    ----------
    study
        Its `tuning` gives the space, and with `trials` times `epochs` the compute of one search.
    folder
        Keeps the searches; a comparison that was stopped goes on.
    seeds
        One repetition of each method a seed.

    Returns
    -------
    DataFrame
        One row a trial: `method`, `seed`, `number`, `epochs` (spent in this search so far) and `best` (least
        validation error so far, of complete trials).
    """
    budget = study.tuning.trials * study.tuning.epochs
    parts = []
    for seed in tqdm(seeds, desc="repetitions", disable=not progress):
        for method, (sampler, pruner) in METHODS.items():
            # Halving stops most trials after an epoch or two, and so needs more of them for the same compute.
            trials = study.tuning.trials if pruner == "none" else budget // 2
            changes = {"seed": seed, "sampler": sampler, "pruner": pruner, "trials": 1 + trials, "workers": 1}
            changes["grace"] = study.tuning.epochs
            one = study.model_copy(update={"tuning": study.tuning.model_copy(update=changes)})
            place = Path(folder) / f"{sampler}-{seed}"
            result = search(one, training, validation, place, progress=False)
            parts.append(_course(result, budget).assign(method=method, seed=seed))
    return pd.concat(parts, ignore_index=True)


def _course(result: SearchResult, budget: int) -> pd.DataFrame:
    """The best error so far against the epochs spent, of all trials but the study's own, up to the budget."""
    trials = result.trials.drop(index=0)
    spent = trials["epochs"].cumsum()
    best = trials["mae"].where(trials["state"] == "complete").cummin().ffill()
    course = pd.DataFrame({"number": trials.index, "epochs": spent, "best": best})
    return course[spent <= budget].reset_index(drop=True)
