"""The official corrections of ``jet_jerc.json.gz`` against correctionlib itself and against coffea's stack."""

from __future__ import annotations

import awkward as ak
import correctionlib
import numpy as np
import pytest
import uproot
from correctionlib import schemav2
from scipy import stats

from jetcorr_utils.correct import correct_files
from jetcorr_utils.data import list_blocks, read_block, read_jets
from jetcorr_utils.errors import InputError
from jetcorr_utils.jerc import JER, CorrectionsChoice, smearing, standard_normal
from tests.networks import exported

TAG, JETS = "Summer20UL18NanoV15_V1_MC", "AK4PFPuppi"


@pytest.fixture(scope="module")
def file(real_data):
    return real_data / "jet_jerc_2018UL_NanoV15.json.gz"


@pytest.fixture(scope="module")
def jets(real_data):
    return read_jets(real_data / "nano_tt_v15.root")


@pytest.fixture(scope="module")
def columns(jets):
    return {name: ak.to_numpy(jets[name]) for name in jets.fields if name != "particles"}


@pytest.fixture(scope="module")
def corrections(file):
    return CorrectionsChoice(str(file), uncertainties=("all",)).load()


def test_the_compound_equals_correctionlibs(file, jets, columns, corrections):
    compound = correctionlib.CorrectionSet.from_file(str(file)).compound[f"{TAG}_L1L2L3Res_{JETS}"]
    inputs = (columns[name].astype(float) for name in ("jetArea", "jetEta", "jetRawPt", "rhoAll"))
    expected = compound.evaluate(*inputs)
    assert expected.std() > 0.02  # it does something
    np.testing.assert_allclose(corrections.factor(columns), expected, rtol=1e-6)
    corrected = corrections.apply(jets)
    np.testing.assert_allclose(corrected["jetPt"], columns["jetRawPt"] * expected, rtol=1e-6)
    np.testing.assert_allclose(corrected["jetMass"], columns["jetRawMass"] * expected, rtol=1e-6)


@pytest.mark.parametrize("level", ["L1FastJet", "L2Relative", "L3Absolute", "L2L3Residual"])
def test_a_level_equals_correctionlibs(file, columns, level):
    single = correctionlib.CorrectionSet.from_file(str(file))[f"{TAG}_{level}_{JETS}"]
    names = {"JetA": "jetArea", "JetEta": "jetEta", "JetPt": "jetRawPt", "Rho": "rhoAll"}
    expected = single.evaluate(*(columns[names[entry.name]].astype(float) for entry in single.inputs))
    found = CorrectionsChoice(str(file), f"{TAG}_{level}_{JETS}").load()
    np.testing.assert_allclose(found.factor(columns), expected, rtol=1e-6)


def test_every_source_equals_correctionlibs(file, jets, corrections):
    known = correctionlib.CorrectionSet.from_file(str(file))
    sources = [name.removeprefix(f"{TAG}_").removesuffix(f"_{JETS}") for name in known if name.startswith(TAG)]
    sources = [name for name in sources if not name.startswith("L")]
    assert len(sources) > 60
    assert corrections.sources == (*sources, JER)
    corrected = corrections.apply(jets)
    given = {name: ak.to_numpy(corrected[name]) for name in corrected.fields if name != "particles"}
    eta, pt = given["jetEta"].astype(float), given["jetPt"].astype(float)
    for source in sources:
        expected = known[f"{TAG}_{source}_{JETS}"].evaluate(eta, pt)
        np.testing.assert_allclose(corrections.shift(source, given), expected, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(given[f"JES_{source}_up"], 1 + expected, rtol=1e-6)
        np.testing.assert_allclose(given[f"JES_{source}_down"], 1 - expected, rtol=1e-6)
    resolution = known[f"Summer19UL18_JRV2_MC_PtResolution_{JETS}"].evaluate(eta, pt, given["rhoAll"].astype(float))
    np.testing.assert_allclose(corrections.resolution(given), resolution, rtol=1e-6)
    for systematic in ("nom", "up", "down"):
        scale = known[f"Summer19UL18_JRV2_MC_ScaleFactor_{JETS}"].evaluate(eta, systematic)
        np.testing.assert_allclose(corrections.scale_factor(given, systematic), scale, rtol=1e-6)


def test_all_equals_coffeas_stack(file, columns, corrections):
    """coffea's smearing draws its own numbers: they are handed to ours, and ours to the rule of a matched jet."""
    from coffea.jetmet_tools import CorrectedJetsFactory, CorrectionLibJECStack

    sources = ["Total", "Regrouped_FlavorQCD", "RelativeSample"]
    options = {"jec_tag": TAG.removesuffix("_MC"), "data_type": "MC", "jet_type": JETS, "unc_sources": sources}
    stack = CorrectionLibJECStack.from_file(str(file), jer_tag="Summer19UL18_JRV2", **options)
    names = {
        "JetPt": "pt", "JetMass": "mass", "JetEta": "eta", "JetPhi": "phi", "JetA": "area", "ptRaw": "pt_raw",
        "massRaw": "mass_raw", "Rho": "rho", "ptGenJet": "pt_gen",
    }  # fmt: skip
    ours = {
        "pt": "jetPt", "mass": "jetMass", "eta": "jetEta", "phi": "jetPhi", "area": "jetArea", "pt_raw": "jetRawPt",
        "mass_raw": "jetRawMass", "rho": "rhoAll", "pt_gen": "genJetPt",
    }  # fmt: skip
    flat = ak.zip({name: columns[column].astype(np.float64) for name, column in ours.items()})
    built = ak.flatten(CorrectedJetsFactory(names, stack).build(ak.unflatten(flat, [len(flat)])))
    factor = corrections.factor(columns)
    np.testing.assert_allclose(factor, built["jet_energy_correction"], rtol=1e-6)
    corrected = {**columns, "jetPt": columns["jetRawPt"] * factor}
    np.testing.assert_allclose(corrected["jetPt"], built["pt_jec"], rtol=1e-6)
    resolution, normal = corrections.resolution(corrected), ak.to_numpy(built["jet_resolution_rand_gauss"])
    np.testing.assert_allclose(resolution, built["jet_energy_resolution"], rtol=1e-6)
    for systematic, found in (("nom", built), ("up", built["JER"].up), ("down", built["JER"].down)):
        scale = corrections.scale_factor(corrected, systematic)
        smeared = smearing(corrected["jetPt"], columns["jetEta"], columns["genJetPt"], resolution, scale, normal)
        np.testing.assert_allclose(smeared * corrected["jetPt"], found["pt"], rtol=1e-6)
    smeared = {**corrected, "jetPt": ak.to_numpy(built["pt_jer"])}  # where coffea evaluates the sources
    for source in sources:
        shift = corrections.shift(source, smeared)
        np.testing.assert_allclose((1 + shift) * smeared["jetPt"], built[f"JES_{source}"].up.pt, rtol=1e-6)
        np.testing.assert_allclose((1 - shift) * smeared["jetPt"], built[f"JES_{source}"].down.pt, rtol=1e-6)


LEVEL = "T_V1_MC_L2Relative_AK4PFchs"


def _binned(flow):
    """A correction from the centre of the detector alone, and what it does beyond."""
    data = schemav2.Binning(nodetype="binning", input="JetEta", edges=[-1, 1], content=[1.25], flow=flow)
    return lambda name: _correction(name, ["JetEta"], data)


def _correction(name, inputs, data):
    variables = [schemav2.Variable(name=each, type="real") for each in inputs]
    return schemav2.Correction(
        name=name, version=1, inputs=variables, output=schemav2.Variable(name="out", type="real"), data=data
    )


@pytest.fixture
def written(tmp_path):
    """Write corrections to a file, and choose its level and all its uncertainties."""

    def write(*corrections):
        path = tmp_path / "mine.json"
        found = schemav2.CorrectionSet(schema_version=2, corrections=list(corrections))
        path.write_text(found.model_dump_json(exclude_unset=True))
        return CorrectionsChoice(str(path), "L2Relative", ("all",))

    return write


def test_a_file_that_was_replaced_is_read_anew(written):
    jets = {"jetRawPt": np.array([50.0]), "jetEta": np.array([0.5])}
    assert written(_correction(LEVEL, [], 1.5)).load().factor(jets) == 1.5
    assert written(_correction(LEVEL, [], 1.25)).load().factor(jets) == 1.25


@pytest.mark.parametrize("name", [LEVEL, LEVEL.replace("L2Relative", "Total")])
def test_what_a_correction_cannot_do_is_laid_to_it_and_not_to_the_jets_file(written, sample, name):
    good = [] if name == LEVEL else [_binned("clamp")(LEVEL)]
    (block,) = list_blocks([sample])
    beyond = f"corrections {name}: cannot be evaluated for the jets: Index (above|below) bounds"
    with pytest.raises(InputError, match=beyond):
        read_block(block, corrections=written(*good, _binned("error")(name)))
    with pytest.raises(InputError, match=f"corrections {name}: depends on year, which jets do not have"):
        read_block(block, corrections=written(*good, _correction(name, ["JetEta", "year"], 1.0)))


def test_a_source_that_is_called_like_the_resolution_is_none(written):
    assert written(_binned("clamp")(LEVEL), _correction(LEVEL.replace("L2Relative", JER), [], 0.1)).load().sources == ()


def test_corrections_of_data_for_simulation_are_said(file, caplog):
    name = f"{TAG.removesuffix('MC')}DATA_L1L2L3Res_{JETS}"
    CorrectionsChoice(str(file), name).load(simulation=True)
    assert f"corrections {name}: are applied to jets of simulation" in caplog.text


def test_all_with_another_name_is_all(file, corrections):
    assert CorrectionsChoice(str(file), uncertainties=("Total", "all", JER)).load().sources == corrections.sources


def test_the_correction_is_near_the_files_own(columns, corrections):
    """nano_tt_v15.root has the corrections of another campaign: equal within a few percent, but not the same."""
    high = (columns["jetPt"] > 30) & (np.abs(columns["jetEta"]) < 2.5)
    ratio = (columns["jetRawPt"] * corrections.factor(columns) / columns["jetPt"])[high]
    assert 0.95 < np.median(ratio) < 1.05


def test_smearing_depends_on_the_event_alone(columns):
    numbers = [columns[name] for name in ("run", "lumi", "event", "jetPtOrder")]
    normal = standard_normal(*numbers)
    some = np.random.default_rng(1).permutation(len(normal))[:100]
    np.testing.assert_array_equal(standard_normal(*(values[some] for values in numbers)), normal[some])
    many = standard_normal(np.ones(20_000), np.ones(20_000), np.arange(20_000) // 4, np.arange(20_000) % 4)
    assert stats.kstest(many, "norm").pvalue > 0.01
    assert abs(np.corrcoef(many[:-1], many[1:])[0, 1]) < 0.03


def test_smearing_by_hand():
    pt, gen = np.array([110.0, 110.0, 110.0]), np.array([100.0, 0.0, 10.0])
    args = (np.full(3, 0.1), np.full(3, 1.2), np.array([5.0, 1.0, -1.0]))
    shift = np.sqrt(1.2**2 - 1) * 0.1
    np.testing.assert_allclose(smearing(pt, np.zeros(3), gen, *args), [1 + 0.2 * 10 / 110, 1 + shift, 1 - shift])


def test_jets_that_have_no_correction_are_no_numbers(columns, corrections):
    few = {name: values[:3].copy() for name, values in columns.items()}
    few["jetEta"][0], few["jetRawPt"][1] = 5.5, -1
    assert np.isnan(corrections.factor(few)).tolist() == [True, True, False]


def test_columns_of_corrected_files(real_data, file, tmp_path):
    """JES_… and JER… are factors; what stands as jetPt is the official correction of the raw pt."""
    choice = CorrectionsChoice(str(file), uncertainties=("Total", JER))
    out = tmp_path / "out.root"
    correct_files([real_data / "v15_ak4_names.root"], exported("pfn"), out, corrections=choice, progress=False)
    with uproot.open(out) as opened:
        table = opened["jets"].arrays(library="np")
    expected = choice.load().apply(read_jets(real_data / "v15_ak4_names.root"))
    place = {
        key: i for i, key in enumerate(zip(expected["event"].tolist(), expected["jetPtOrder"].tolist(), strict=True))
    }
    rows = [place[key] for key in zip(table["event"].tolist(), table["jetPtOrder"].tolist(), strict=True)]
    for name in ("jetPt", "JES_Total_up", "JES_Total_down", "JER", "JER_up", "JER_down"):
        np.testing.assert_allclose(table[name], expected[name][rows], rtol=1e-6)
    assert (table["JES_Total_up"] > 1).all()


def test_what_is_not_there_is_named(file, real_data, tmp_path):
    with pytest.raises(InputError, match=r"absent\.json: there is no such file"):
        CorrectionsChoice(str(tmp_path / "absent.json")).load()
    with pytest.raises(InputError, match=r"pfnano\.root: cannot be read as correctionlib"):
        CorrectionsChoice(str(real_data / "pfnano.root")).load()
    with pytest.raises(InputError, match=f"no correction L1L2 for MC; name one of .*{TAG}_L1L2L3Res_{JETS}"):
        CorrectionsChoice(str(file), "L1L2").load()
    with pytest.raises(InputError, match=r"no uncertainty Totals for Summer20.*; there are .*Total.*, JER"):
        CorrectionsChoice(str(file), uncertainties=("Totals",)).load()
    assert CorrectionsChoice(str(file)).load(simulation=False).name == f"Summer20UL18NanoV15_V1_DATA_L1L2L3Res_{JETS}"
