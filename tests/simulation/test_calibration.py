import gzip
import json

import numpy as np
import pytest

from jetcorr_utils.data import read_jets
from jetcorr_utils.simulation import SIMULATION_VERSION, Parameters
from jetcorr_utils.simulation.calibration import CORRECTIONS, calibration_jets, simulation_correction
from jetcorr_utils.simulation.parameters import Generator, Pileup


def test_the_stored_corrections_belong_to_these_parameters():
    description = json.loads(gzip.decompress(CORRECTIONS.read_bytes()))["description"]
    assert f"version {SIMULATION_VERSION}, parameters {Parameters().key()}," in description


def test_the_sample_was_corrected_with_them(sample):
    jets = read_jets([sample])
    columns = (np.asarray(jets[name]) for name in ("jetRawPt", "jetEta", "jetArea", "rhoAll"))
    factor = simulation_correction()(*columns)
    np.testing.assert_allclose(jets.jetPt / jets.jetRawPt, factor, rtol=1e-5)


@pytest.mark.parametrize(("low", "high"), [(60, 120), (120, 300), (300, 800), (800, 2500)])
def test_corrected_jets_of_the_sample_have_the_right_scale(sample, low, high):
    """An independent seed: the median response is 1 within 1 % and the sample's own statistical error."""
    jets = read_jets([sample])
    jets = jets[(jets.genJetPt > low) & (jets.genJetPt < high)]
    response = np.asarray(jets.jetPt / jets.genJetPt)
    q25, median, q75 = np.quantile(response, [0.25, 0.5, 0.75])
    error = 1.2533 * (q75 - q25) / 1.349 / np.sqrt(len(response))
    assert abs(median - 1) < 0.01 + 3 * error


def test_calibration_jets_are_matched_and_do_not_depend_on_the_workers():
    parameters = Parameters(generator=Generator(events_per_block=10), pileup=Pileup(pool_events=20))
    one, two = (calibration_jets(20, 5, workers, parameters, progress=False) for workers in (1, 2))
    assert set(one) == {"raw_pt", "eta", "area", "rho", "gen_pt"}
    assert len(one["raw_pt"]) > 40
    assert one["gen_pt"].min() > 0
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
