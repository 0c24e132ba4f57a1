"""Slices of the simulation, further jets of hard collisions beside the flat sample; and a study's own detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jetcorr_utils.baseline import derive, load_correction, write_correction
from jetcorr_utils.config import DataSettings
from jetcorr_utils.data import ensure_files, read_jets
from jetcorr_utils.data.locations import base_parameters, simulated_corrections
from jetcorr_utils.errors import InputError
from jetcorr_utils.simulation import Parameters
from jetcorr_utils.simulation.calibration import CORRECTIONS
from tests.own_detector import ALL, few, place_of_corrections, with_known_corrections


def test_a_slice_adds_hard_jets_of_other_events(tmp_path):
    slices = [{"jets": 20, "min_pthat": 1000, "leading": 2}]
    simulation = {"jets": 20, "seed": 3, "workers": 1, "slices": slices, "parameters": few()}
    settings = with_known_corrections(DataSettings(simulation=simulation, selection=ALL, directory=str(tmp_path)))
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


def test_a_detector_of_a_studys_own_has_corrections_of_its_own(tmp_path):
    simulation = {
        "jets": 20,
        "seed": 3,
        "workers": 1,
        "parameters": few() | {"detector.hadron_response": (0.5, 0.4, 0.6)},
    }
    settings = DataSettings(simulation=simulation, selection=ALL, directory=str(tmp_path))
    assert base_parameters(settings.simulation).detector.hadron_response == (0.5, 0.4, 0.6)
    rng = np.random.default_rng(1)
    gen_pt, eta, rho = np.exp(rng.uniform(2.5, 8, 60_000)), rng.uniform(-2.6, 2.6, 60_000), rng.uniform(2, 35, 60_000)
    half = {"raw_pt": gen_pt / 2, "eta": eta, "area": np.full(60_000, 0.5), "rho": rho, "gen_pt": gen_pt}
    write_correction(derive(half, 2.0, "half of each jet is lost"), place_of_corrections(settings))
    jets = read_jets(ensure_files(settings, progress=False), settings)
    factor = load_correction(simulated_corrections(settings))(
        *(np.asarray(jets[name]) for name in ("jetRawPt", "jetEta", "jetArea", "rhoAll"))
    )
    np.testing.assert_allclose(jets["jetPt"] / jets["jetRawPt"], factor, rtol=1e-5)
    assert np.median(factor) > 1.6


def test_the_simulation_of_the_package_has_those_of_the_package(tmp_path):
    settings = DataSettings(directory=str(tmp_path))
    assert base_parameters(settings.simulation) == Parameters()
    assert simulated_corrections(settings) == CORRECTIONS
    reused = DataSettings(simulation={"parameters": {"generator.reuse": 3}}, directory=str(tmp_path))
    with pytest.raises(InputError, match=r"generator\.reuse is the setting data\.simulation\.reuse"):
        ensure_files(reused, progress=False)
    wrong = DataSettings(simulation={"parameters": {"detector.colour": 1}}, directory=str(tmp_path))
    with pytest.raises(InputError, match=r"^data\.simulation\.parameters: the simulation has no parameter"):
        ensure_files(wrong, progress=False)
