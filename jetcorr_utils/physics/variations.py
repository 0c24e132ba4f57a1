"""Systematic checks: the trained networks on jets of a simulation that differs from the one they were trained on.

Another tune of the generator, another calorimeter, more pileup: what survives of the gain over the standard correction,
which was derived for the nominal simulation as well?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..config import DataSettings, Study
from ..data import load_clouds
from ..data.locations import base_parameters, data_directory, simulated_corrections
from .binning import PT_BINS, WIDEST
from .measurement import measure
from .predictions import predictions_table

if TYPE_CHECKING:
    from ..run import RunFolder

__all__ = ["measure_variations", "variations_table"]


def measure_variations(
    models: Sequence[str], study: Study, run: RunFolder, *, progress: bool = True
) -> dict[str, dict[str, Any]]:
    """Simulate the variations of the study (``physics.variations``) and measure its networks on them.

    Parameters
    ----------
    models
        Names of models of the study.
    run
        Where the networks lie.

    Returns
    -------
    By the title of each variation what `measure` returns; empty if the study asks for none.
    """
    from ..export.export_models import best_checkpoint
    from ..training import load_model, predict

    result = {}
    models = [name for name in models if name in study.models]  # the simulation has no regressions of CMS
    for title, overrides in study.physics.variations.items():
        data = _simulated(overrides, study, progress)
        table, predictions = {}, {}
        for name in models:
            network = load_model(best_checkpoint(study, run, name))
            jets = load_clouds(data, network.settings.features, progress=progress).split("test")
            table, predictions[name] = jets.table, predict(network, jets)
        result[title] = measure(predictions_table(table, predictions), models, study.physics, progress=progress)
    return result


def variations_table(
    nominal: Mapping[str, Any], variations: Mapping[str, Mapping[str, Any]], models: Sequence[str]
) -> pd.DataFrame:
    """Closure (median response - 1, in %) of the standard correction and the models, nominal and varied.

    One row for each variation and correction, one column for each bin of gen pt; none for all jets at once, which have
    another spectrum where a study has slices.
    """
    rows = []
    models = [name for name in models if all(name in metrics for metrics in variations.values())]
    for title, metrics in ({"nominal": nominal} | dict(variations)).items():
        for name in ("baseline", *models):
            closure = {pt.name: metrics[name]["closure"][WIDEST[0]][pt.name]["value"] for pt in PT_BINS[1:]}
            percent = {pt: None if value is None else round(100 * value, 2) for pt, value in closure.items()}
            rows.append({"test jets": title, "correction": name.replace("baseline", "standard")} | percent)
    return pd.DataFrame(rows)


def _simulated(overrides: Mapping[str, Any], study: Study, progress: bool) -> DataSettings:
    """The settings of a variation's jets, nearly all of which test; simulated first if they are not there.

    They come from another seed than the study's own, so that no event is a sibling of one that was trained on.
    """
    from ..simulation import SIMULATION_VERSION, simulate

    simulation, jets = study.data.simulation, study.physics.variation_jets
    parameters = base_parameters(simulation).varied(overrides, "physics.variations")
    seed = simulation.seed + 1
    folder = data_directory(study.data) / "simulated" / f"{jets}-{seed}-{parameters.key()}-v{SIMULATION_VERSION}"
    files = simulate(
        jets, seed, folder, workers=simulation.workers, progress=progress, parameters=parameters,
        corrections=simulated_corrections(study.data, progress),
    )  # fmt: skip
    return DataSettings(
        files=tuple(map(str, files)), selection=study.data.selection, candidates=study.data.candidates,
        target=study.data.target, directory=study.data.directory, split={"test": 0.98, "validation": 0.01},
    )  # fmt: skip
