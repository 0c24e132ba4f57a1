"""Slices of the simulation: further jets of hard collisions, beside the flat sample."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from jetcorr_utils.config import DataSettings
from jetcorr_utils.data import ensure_files, read_jets
from jetcorr_utils.errors import InputError
from jetcorr_utils.simulation import parameters
from jetcorr_utils.simulation.parameters import Generator, Parameters, Pileup


def test_a_slice_adds_hard_jets_of_other_events(tmp_path, monkeypatch):
    # Two thousand collisions of pileup, and two hundred for each seed, would take half a minute
    few = {"generator": Generator(events_per_block=20), "pileup": Pileup(pool_events=60)}
    monkeypatch.setattr(parameters, "Parameters", partial(Parameters, **few))
    monkeypatch.setattr(parameters, "Generator", partial(Generator, events_per_block=20))
    settings = DataSettings(
        simulation={"jets": 20, "seed": 3, "workers": 1, "slices": [{"jets": 20, "min_pthat": 1000, "leading": 2}]},
        selection={"min_pt": 0, "min_gen_pt": 0},
        directory=str(tmp_path),
    )
    files = ensure_files(settings, progress=False)
    assert len(files) == 2
    flat, hard = (read_jets([file], settings) for file in files)
    assert (len(flat), len(hard)) == (20, 20)
    assert set(np.unique(flat["run"])) == {3}
    assert set(np.unique(hard["run"])) == {13}
    assert min(hard["pthat"]) > 1000 > np.median(flat["pthat"])
    assert max(flat["jetPtOrder"]) > 1 == max(hard["jetPtOrder"])
    alone = settings.model_copy(update={"simulation": settings.simulation.model_copy(update={"slices": ()})})
    assert ensure_files(alone, progress=False) == files[:1]

    slice_of_it = Path(files[1])
    content = bytearray(slice_of_it.read_bytes())
    content[len(content) // 2] ^= 1
    slice_of_it.write_bytes(content)
    with pytest.raises(InputError, match=r"jets_000\.root: damaged"):
        ensure_files(settings, progress=False)
