"""The official CMS correction text files against coffea itself, on official CMS files."""

from __future__ import annotations

import gzip

import awkward as ak
import numpy as np
import pytest

from jetcorr_utils.data import read_jets
from jetcorr_utils.errors import InputError
from jetcorr_utils.jec import correct_jets, load_official

CAMPAIGN = "Summer16_23Sep2016V3_MC"
LEVELS = ["L1FastJet", "L2Relative", "L3Absolute"]


@pytest.fixture(scope="module")
def text_files(real_data):
    return [real_data / f"{CAMPAIGN}_{level}_AK4PFPuppi.jec.txt.gz" for level in LEVELS]


def by_coffea(files, jets):
    """The product of the levels, each evaluated by coffea at the pt corrected so far."""
    from coffea.lookup_tools import extractor

    reader = extractor()
    reader.add_weight_sets([f"* * {file}" for file in files])
    reader.finalize()
    evaluator = reader.make_evaluator()
    pt, eta = (ak.to_numpy(jets[name]).astype(float) for name in ("jetRawPt", "jetEta"))
    total = np.ones(len(jets))
    for level in LEVELS:
        function = evaluator[f"{CAMPAIGN}_{level}_AK4PFPuppi"]
        values = {
            "JetPt": pt * total,
            "JetEta": eta,
            "JetA": ak.to_numpy(jets["jetArea"]),
            "Rho": ak.to_numpy(jets["rhoAll"]),
        }
        total = total * function(*(values[name] for name in function.signature))
    return total


@pytest.mark.parametrize("name", ["nano_dy.root", "pfnano.root"])
def test_corrections_equal_coffeas(real_data, text_files, name):
    jets = read_jets(real_data / name)
    correction = load_official(text_files)
    assert correction.levels == LEVELS
    corrected = correct_jets(jets, correction)
    expected = by_coffea(text_files, jets)
    assert expected.std() > 0.05  # they do something
    np.testing.assert_allclose(corrected["jetPt"], jets["jetRawPt"] * expected, rtol=1e-6)
    np.testing.assert_allclose(corrected["jetMass"], jets["jetRawMass"] * expected, rtol=1e-6)
    assert ak.array_equal(corrected["jetRawPt"], jets["jetRawPt"])


def test_the_order_of_the_files_does_not_matter(real_data, text_files):
    jets = read_jets(real_data / "nano_dy.root")
    one, other = (correct_jets(jets, load_official(files))["jetPt"] for files in (text_files, text_files[::-1]))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("pt", "eta"), [(30.0, 0.1), (100.0, 0.1), (1000.0, -2.2), (55.0, 3.1)])
def test_a_level_of_the_open_datas_campaign(real_data, pt, eta):
    """The row of the text file and its formula, read here in the plainest way."""
    path = real_data / "Summer16_07Aug2017_V11_L1fix_MC_L2Relative_AK4PFchs.jec.txt.gz"
    rows = np.loadtxt(path, skiprows=1)
    inside = (rows[:, 0] <= eta) & (eta < rows[:, 1]) & (rows[:, 2] <= pt) & (pt < rows[:, 3])
    (row,) = rows[inside]
    x = np.clip(pt, row[5], row[6])
    p = row[7:]
    expected = p[0] + (x - p[1]) * (p[2] + (x - p[1]) * (p[3] + (x - p[1]) * p[4]))
    assert load_official([path])([pt], [eta], [0.5], [20.0]) == pytest.approx(expected, rel=1e-6)
    assert 0.95 < expected < 1.3


def test_files_that_cannot_be_used_are_named(real_data, text_files, tmp_path):
    with pytest.raises(InputError, match="at least one"):
        load_official([])
    with pytest.raises(InputError, match=r"absent\.jec\.txt: there is no such file"):
        load_official([tmp_path / "absent.jec.txt"])
    other = real_data / "Spring16_25nsV10_MC_PtResolution_AK4PFPuppi.jr.txt.gz"
    with pytest.raises(InputError, match=f"{other.name}: expected a name that ends with"):
        load_official([other])
    foreign = real_data / "Summer16_07Aug2017_V11_L1fix_MC_L2Relative_AK4PFchs.jec.txt.gz"
    with pytest.raises(InputError, match="corrections Summer16_23Sep2016V3_MC_L1FastJet_AK4PFPuppi, Summer16_07Aug"):
        load_official([text_files[0], foreign])
    damaged = tmp_path / text_files[0].name
    damaged.write_bytes(gzip.compress(b"these are no corrections\n1 2 3\n"))
    with pytest.raises(InputError, match="not a text file of a jet energy correction"):
        load_official([damaged])
