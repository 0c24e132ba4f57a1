"""The official CMS correction text files against coffea itself, on official CMS files."""

from __future__ import annotations

import gzip

import awkward as ak
import numpy as np
import pytest
import uproot

from jetcorr_utils.correct import correct_files
from jetcorr_utils.data import read_jets
from jetcorr_utils.data.reading import list_blocks, read_block
from jetcorr_utils.errors import InputError
from jetcorr_utils.jec import correct_jets, load_official
from tests.networks import exported

JETS = ([100.0, 50.0, 40.0], [-1.0, 1.0, 1.0], [0.5, 0.5, 0.5], [20.0, 20.0, 20.0])
"""Raw pt, eta, area and rho."""

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


def write(folder, level, header, *rows, kind="DATA"):
    """A text file of one level, as the JEC group writes it."""
    folder.mkdir(exist_ok=True)
    path = folder / f"Mini_V1_{kind}_{level}_AK4PFPuppi.jec.txt"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def relative(folder, header="{1 JetEta 1 JetPt max(0.0001,[0]) Correction L2Relative}"):
    return write(folder, "L2Relative", header, "-5.0 0.0 3 1 6500 1.10", "0.0 5.0 3 1 6500 1.20")


@pytest.mark.parametrize("folder", ["a b", "with_SF_in_it", "pileup", "ä'$(x)"])
def test_the_folder_of_a_text_file_may_have_any_name(tmp_path, folder):
    """coffea's extractor splits what it is given at spaces, and looks for the kind of a file in its whole path."""
    found = load_official([relative(tmp_path / folder)])(*JETS)
    np.testing.assert_allclose(found, [1.1, 1.2, 1.2], rtol=1e-6)


def test_a_single_file_needs_no_list(tmp_path):
    assert load_official(str(relative(tmp_path))).levels == ["L2Relative"]


def test_bins_in_phi(tmp_path, real_data):
    rows = [f"{eta} {phi} 3 1 6500 {value}" for eta, phi, value in [
        ("-5 0", "-3.15 0", 1.1), ("-5 0", "0 3.15", 1.2), ("0 5", "-3.15 0", 1.3), ("0 5", "0 3.15", 1.4),
    ]]  # fmt: skip
    file = write(tmp_path, "L2Relative", "{2 JetEta JetPhi 1 JetPt max(0.0001,[0]) Correction L2Relative}", *rows)
    correction = load_official([file])
    np.testing.assert_allclose(correction(*JETS, phi=[1.0, -1.0, 1.0]), [1.2, 1.3, 1.4], rtol=1e-6)
    with pytest.raises(InputError, match="L2Relative depends on JetPhi: give phi"):
        correction(*JETS)
    jets = read_jets(real_data / "pfnano.root")
    corrected = correct_jets(jets, correction)
    expected = 1.1 + 0.2 * (jets["jetEta"] >= 0) + 0.1 * (jets["jetPhi"] >= 0)
    np.testing.assert_allclose(corrected["jetPt"] / jets["jetRawPt"], expected, rtol=1e-5)


def test_one_bin_that_goes_round_needs_no_phi(tmp_path):
    rows = ["-5.0 0.0 -3.15 3.15 3 1 6500 1.10", "0.0 5.0 -3.15 3.15 3 1 6500 1.20"]
    file = write(tmp_path, "L2Relative", "{2 JetEta JetPhi 1 JetPt max(0.0001,[0]) Correction L2Relative}", *rows)
    np.testing.assert_allclose(load_official([file])(*JETS), [1.1, 1.2, 1.2], rtol=1e-6)


@pytest.mark.parametrize("residual", ["L2L3Residual", "L2Residual"])
def test_residual_levels_come_last_whatever_the_order_of_the_files(tmp_path, residual):
    """Each level depends on pt as corrected so far: another order gives other factors."""
    files = [
        write(tmp_path, residual, f"{{1 JetEta 1 JetPt [0]+x/1000 Correction {residual}}}", "-5 5 3 1 6500 1.0"),
        relative(tmp_path),
        write(tmp_path, "L3Absolute", "{1 JetEta 1 JetPt 1+x/500 Correction L3Absolute}", "-5 5 2 1 6500"),
    ]
    pt = np.array(JETS[0])
    expected = np.ones(3)
    expected *= [1.1, 1.2, 1.2]
    expected *= 1 + pt * expected / 500
    expected *= 1 + pt * expected / 1000
    for order in (files, files[::-1], [files[1], files[0], files[2]]):
        correction = load_official(order)
        assert correction.levels == ["L2Relative", "L3Absolute", residual]
        np.testing.assert_allclose(correction(*JETS), expected, rtol=1e-5)


_ETA = "{1 JetEta 1 JetPt max(0.0001,[0]) Correction L2Relative}"
_ETA_PT = "{2 JetEta JetPt 1 JetPt max(0.0001,[0]) Correction L2Relative}"


@pytest.mark.parametrize(
    ("header", "rows", "said"),
    [(_ETA, ["0 5 3 1 6500 1.2", "-5 0 3 1 6500 1.1"], "the bins of JetEta do not ascend"),
     (_ETA, ["0 -5 3 1 6500 1.2", "5 0 3 1 6500 1.1"], "the bins of JetEta do not ascend"),
     (_ETA, ["-5 0 3 1 6500 1.1", "0 3 3 1 6500 1.2"], "JetEta go from -5 to 3; is the file whole"),
     (_ETA, ["-5 -1 3 1 6500 1.1", "1 5 3 1 6500 1.2"], "JetEta do not adjoin at -1"),
     (_ETA, ["-5 1 3 1 6500 1.1", "-1 5 3 1 6500 1.2"], "JetEta do not adjoin at 1"),
     (_ETA, ["-5 5 3 1 6500 1.1", "-5 5 3 1 6500 1.2"], "two rows of the same bin"),
     (_ETA, ["-5 0 3 1 6500 1.1", "0 5 3 1 6500"], "not a text file"),
     (_ETA, ["-5 0 4 1 6500 1.1 7", "0 5 4 1 6500 1.2 7"], "needs 3 numbers after the bins"),
     (_ETA, ["-5 0 2 1 6500", "0 5 2 1 6500"], "needs 3 numbers after the bins"),
     (_ETA, ["-5 0 2 1 6500 1.1", "0 5 2 1 6500 1.2"], "needs 3 numbers after the bins"),
     (_ETA, ["-5 0 3 1 6500 nan", "0 5 3 1 6500 1.2"], "not finite"),
     (_ETA, [], "not a text file"),
     (_ETA.replace("[0]", "[0]+[2]"), ["-5 5 4 1 6500 1.1 7"], "leaves out parameters"),
     (_ETA_PT, ["-5 0 9 20 3 1 6500 1", "-5 0 20 90 3 1 6500 1", "0 5 9 20 3 1 6500 1"], "fewer rows than"),
     (_ETA_PT, ["-5 5 20 90 3 1 6500 1", "-5 5 9 20 3 1 6500 1"], "the bins of JetPt do not ascend"),
     (_ETA_PT, ["-5 5 9 20 3 1 6500 1", "-5 5 30 90 3 1 6500 1"], "the bins of JetPt do not adjoin at 20")],
)  # fmt: skip
def test_a_text_file_that_is_not_whole_or_not_in_order_is_refused(tmp_path, header, rows, said):
    """coffea gives numbers for most of them."""
    with pytest.raises(InputError, match=said) as error:
        load_official([write(tmp_path, "L2Relative", header, *rows)])
    assert "Mini_V1_DATA_L2Relative_AK4PFPuppi" in str(error.value)


def test_a_file_of_one_side_is_whole(tmp_path):
    files = [write(tmp_path, "L2Relative", _ETA, "0 3 3 1 6500 1.1", "3 5 3 1 6500 1.2")]
    np.testing.assert_allclose(load_official(files)([50.0, 50.0], [1.0, 4.0], [0.5] * 2, [20.0] * 2), [1.1, 1.2])


@pytest.mark.parametrize("place", [0, 1])
def test_what_is_not_a_number_has_no_correction(tmp_path, place):
    jets = [list(column) for column in JETS]
    jets[place][1] = np.nan
    np.testing.assert_allclose(load_official([relative(tmp_path)])(*jets), [1.1, np.nan, 1.2], rtol=1e-6)
    jets = [JETS[0], JETS[1], [np.nan] * 3, [np.nan] * 3]  # which it does not depend on
    np.testing.assert_allclose(load_official([relative(tmp_path)])(*jets), [1.1, 1.2, 1.2], rtol=1e-6)


def test_two_files_of_one_level_are_refused(tmp_path):
    constant = "{1 JetEta 1 JetPt [0] Correction L1}"
    files = [write(tmp_path, level, constant, "-5 5 3 1 6500 1.0") for level in ("L1FastJet", "L1RC")]
    with pytest.raises(InputError, match="Mini_V1_DATA_L1FastJet_AK4PFPuppi, Mini_V1_DATA_L1RC_AK4PFPuppi: two of one"):
        load_official(files)
    other = write(tmp_path, "L2Relative", constant, "-5 5 3 1 6500 1.0", kind="MC")
    with pytest.raises(InputError, match="data or MC"):
        load_official([files[0], other])


@pytest.mark.parametrize(
    "formula",
    ["__import__('pathlib').Path('HIT').touch()", "(lambda:open('HIT','w'))()", "9**9**9**9", "x.tofile('HIT')"],
)
def test_the_formula_of_a_text_file_runs_no_code(tmp_path, monkeypatch, formula):
    """coffea evaluates it as Python."""
    monkeypatch.chdir(tmp_path)
    header = f"{{1 JetEta 1 JetPt {formula} Correction L2Relative}}"
    with pytest.raises(InputError, match="its formula is not one"):
        load_official([relative(tmp_path, header)])
    header = f"{{1 JetEta 1 JetPt=[{formula}][0] max(0.0001,[0]) Correction L2Relative}}"
    with pytest.raises(InputError, match="its formula is not one"):
        load_official([relative(tmp_path, header)])
    assert not (tmp_path / "HIT").exists()


def test_files_are_corrected_by_official_texts_first(tmp_path, sample):
    """What the model is given is the pt that the texts make of the raw one, here 1.1 or 1.2 times it."""
    options = {"official": [relative(tmp_path / "texts")], "progress": False}
    assert correct_files([sample], exported("pfn"), tmp_path / "out.root", **options).corrected > 1000
    with uproot.open(tmp_path / "out.root") as file:
        jets = file["jets"].arrays(["jetPt", "jetRawPt", "jetEta"])
    np.testing.assert_allclose(jets["jetPt"], jets["jetRawPt"] * np.where(jets["jetEta"] < 0, 1.1, 1.2), rtol=1e-5)


@pytest.mark.parametrize("kind", ["DATA", "MC"])
def test_corrections_of_data_for_simulation_are_said_once(sample, tmp_path, caplog, kind):
    """As those of correctionlib (test_jerc)."""
    file = write(tmp_path, "L2Relative", _ETA, "-5 5 3 1 6500 1.1", kind=kind)
    for block in list_blocks([sample], 1000):
        read_block(block, official=(str(file),))
    said = [line for line in caplog.messages if "are applied to jets of" in line]
    assert len(said) == (kind == "DATA")
    assert all(file.name.removesuffix(".jec.txt") in line and line.endswith("of simulation") for line in said)


@pytest.mark.parametrize("formula", ["max(0.0001,1-y*z/x*[0])", "max(0.0001,1-y*z/x*0+[0])"])
def test_a_correction_that_needs_the_area_of_jets_that_have_none_is_refused(real_data, tmp_path, formula):
    """Delphes writes 0 where its card does not ask for areas; PUPPI's first level has the area in it, times 0."""
    header = f"{{1 JetEta 3 JetPt Rho JetA {formula} Correction L1FastJet}}"
    file = write(tmp_path, "L1FastJet", header, "-5 5 7 1 6500 0 200 0 10 0.5", kind="MC")
    (block, *_) = list_blocks([real_data / "delphes_events.root"])
    if "*0" in formula:
        assert len(read_block(block, official=(str(file),)))
    else:
        with pytest.raises(InputError, match=r"delphes_events.root: the corrections depend on the area of jets"):
            read_block(block, official=(str(file),))
    assert len(read_block(*list_blocks([real_data / "pfnano.root"]), official=(str(file),)))
