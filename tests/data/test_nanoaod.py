"""The NanoAOD reader on real CMS files, and on small files with the names of Run 3."""

from __future__ import annotations

import re

import awkward as ak
import numpy as np
import pytest
import uproot

from jetcorr_utils.config import DataSettings
from jetcorr_utils.data import describe, iterate_jets, list_blocks, load_clouds, read_block, read_jets
from jetcorr_utils.data.nanoaod import _from_pv
from jetcorr_utils.data.reading import open_jets
from jetcorr_utils.errors import InputError


@pytest.fixture(scope="session")
def pfnano(real_data):
    return real_data / "pfnano.root"


def test_jets_and_events_of_the_official_file(pfnano):
    assert describe(pfnano).usable
    with open_jets(pfnano) as source:
        assert source.made_by == "CMS Simulation (NanoAOD)"
        assert source.energy == ""  # the generator of these events tells no momenta of partons
    jets = read_jets(pfnano)
    assert len(jets) == 64
    assert len(np.unique(jets["event"])) == 10
    with uproot.open(pfnano) as file:
        tree = file["Events"]
        for ours, theirs in (("jetPt", "Jet_pt"), ("jetEta", "Jet_eta"), ("jetArea", "Jet_area"),
                             ("partonFlav", "Jet_partonFlavour"), ("hadronFlav", "Jet_hadronFlavour")):  # fmt: skip
            np.testing.assert_array_equal(jets[ours], ak.flatten(tree[theirs].array()))
        np.testing.assert_array_equal(ak.num(jets["particles"]), ak.flatten(tree["Jet_nConstituents"].array()))
        generator, index = tree["GenJet_pt"].array(), tree["Jet_genJetIdx"].array()
        pt = ak.where(index >= 0, generator[ak.mask(index, index >= 0)], 0)
        np.testing.assert_array_equal(jets["genJetPt"], ak.flatten(pt))


def test_candidates_sum_up_to_the_raw_jet(pfnano):
    """The file keeps 10 bits of the candidates' pt and of the jets' pt and raw factor: 0.1 % each.

    Only one jet is off by more than 0.2 %, the softest forward one (16 candidates, 17 GeV), where one candidate's
    rounding weighs most. The mass of a light jet is a difference of large numbers and is left to 2 % of its energy.
    """
    jets = read_jets(pfnano)
    pt = jets["particles", "PF_pT"]
    eta = jets["particles", "PF_dEta"] + jets["jetEta"]
    px, py = (ak.sum(pt * function(jets["particles", "PF_dPhi"]), axis=1) for function in (np.cos, np.sin))
    pz = ak.sum(pt * np.sinh(eta), axis=1)
    energy = ak.sum(np.sqrt((pt * np.cosh(eta)) ** 2 + jets["particles", "PF_mass"] ** 2), axis=1)
    raw_pz = jets["jetRawPt"] * np.sinh(jets["jetEta"])
    raw_energy = np.sqrt((jets["jetRawPt"] * np.cosh(jets["jetEta"])) ** 2 + jets["jetRawMass"] ** 2)
    off = np.abs(np.hypot(px, py) / jets["jetRawPt"] - 1)
    assert ak.max(off) < 3e-3
    assert list(np.flatnonzero(off > 2e-3)) == [62]
    np.testing.assert_allclose(py / jets["jetRawPt"], 0, atol=2e-3)
    np.testing.assert_allclose(pz, raw_pz, rtol=4e-3, atol=0.1)
    np.testing.assert_allclose(energy, raw_energy, rtol=4e-3)
    mass = np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0))
    np.testing.assert_allclose(mass / raw_energy, jets["jetRawMass"] / raw_energy, atol=0.02)


def test_chunks_of_events_give_the_same_jets(pfnano):
    assert ak.array_equal(ak.concatenate(list(iterate_jets(pfnano, 15))), read_jets(pfnano))
    blocks = list_blocks([pfnano], 15)
    assert len(blocks) == 4  # of three events each
    assert ak.array_equal(ak.concatenate([read_block(block) for block in blocks]), read_jets(pfnano))


def test_clouds_of_the_official_file(pfnano, tmp_path):
    settings = DataSettings(files=[str(pfnano)], directory=str(tmp_path))
    clouds = load_clouds(settings, progress=False)
    assert len(clouds) == 36
    assert sum(clouds.info["left_out"].values()) == 64 - 36
    assert np.isfinite(clouds.target).all()
    with pytest.raises(InputError, match="features 'rich' need PF_caloFraction and PF_hcalFraction"):
        load_clouds(settings, "rich", progress=False)


def test_a_file_without_candidates_is_refused_for_training(real_data, tmp_path):
    path = real_data / "nano_dy.root"
    info = describe(path)
    assert not info.usable
    assert "no particle-flow candidates" in info.text()
    jets = read_jets(path)
    assert len(jets) == info.jets == 188
    assert ak.all(ak.num(jets["particles"]) == 0)
    with pytest.raises(InputError, match=r"nano_dy\.root: its jets have no particle-flow candidates"):
        load_clouds(DataSettings(files=[str(path)], directory=str(tmp_path)), progress=False)


def run3(path, *, weights: bool = True, **changes):
    """Two events with two and one jets, in the names of Run 3; the last candidate belongs to no jet."""
    branches = {
        "run": np.array([7, 7], dtype=np.uint32), "luminosityBlock": np.array([1, 1], dtype=np.uint32),
        "event": np.array([11, 12], dtype=np.uint64), "PV_npvsGood": np.array([30, 40], dtype=np.uint8),
        "Rho_fixedGridRhoFastjetAll": np.array([20.0, 21.0], dtype=np.float32),
        **{f"Jet_{name}": ak.values_astype(ak.Array(values), "float32") for name, values in {
            "pt": [[100, 50], [80]], "eta": [[1, -1], [0]], "phi": [[3.1, 0], [1]], "mass": [[10, 5], [8]],
            "area": [[0.5, 0.5], [0.5]], "rawFactor": [[0.1, 0.2], [0.0]],
        }.items()},
        "PFCand_pt": ak.values_astype(ak.Array([[60, 30, 50], [90, 70]]), "float32"),
        "PFCand_eta": ak.values_astype(ak.Array([[1.1, 0.9, -1], [0, 2]]), "float32"),
        "PFCand_phi": ak.values_astype(ak.Array([[-3.1, 3.1, 0], [1, 2]]), "float32"),
        "PFCand_mass": ak.values_astype(ak.Array([[0.1, 0, 0], [0, 0]]), "float32"),
        "PFCand_pdgId": ak.values_astype(ak.Array([[211, 22, 130], [-211, 22]]), "int16"),
        "PFCand_fromPV": ak.values_astype(ak.Array([[3, 2, 3], [3, 3]]), "uint8"),
        "PFCand_puppiWeight": ak.values_astype(ak.Array([[1, 0.5, 0.8], [1, 1]]), "float32"),
        "JetPFCand_jetIdx": ak.values_astype(ak.Array([[1, 0, 0], [0]]), "int32"),
        "JetPFCand_pfCandIdx": ak.values_astype(ak.Array([[2, 0, 1], [0]]), "int32"),
    } | changes  # fmt: skip
    if not weights:
        del branches["PFCand_puppiWeight"]
    types = {name: ak.type(ak.Array(values)).content for name, values in branches.items() if values is not None}
    with uproot.recreate(path) as file:
        tree = file.mktree("Events", types, counter_name=lambda name: "n" + name.split("_")[0])
        tree.extend({name: values for name, values in branches.items() if values is not None})
    return path


def test_names_of_run_3(tmp_path):
    path = run3(tmp_path / "nano.root")
    jets = read_jets(path)
    assert jets["event"].tolist() == [11, 11, 12]
    assert jets["rhoAll"].tolist() == [20, 20, 21]
    assert jets["jetPtOrder"].tolist() == [0, 1, 0]
    np.testing.assert_allclose(jets["jetRawPt"], [90, 40, 80], rtol=1e-6)
    # scaled by the PUPPI weight, attached by index
    np.testing.assert_allclose(ak.flatten(jets["particles", "PF_pT"]), [60, 15, 40, 90], rtol=1e-6)
    assert jets["particles", "PF_id"].tolist() == [[211, 22], [130], [-211]]
    # the jet at phi = 3.1 has a candidate on the other side of the seam
    np.testing.assert_allclose(jets["particles", "PF_dPhi"][0], [2 * np.pi - 6.2, 0], atol=1e-6)
    assert jets["genJetPt"].tolist() == [0, 0, 0]
    assert describe(path).reason == "can be used for correction only: there are no generator jets to train on"
    with pytest.raises(InputError, match="has no generator jets"):
        load_clouds(DataSettings(files=[str(path)], directory=str(tmp_path)), progress=False)


def test_candidates_that_carry_their_weight_already(tmp_path):
    jets = read_jets(run3(tmp_path / "nano.root", weights=False))
    np.testing.assert_allclose(ak.flatten(jets["particles", "PF_pT"]), [60, 30, 50, 90], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "values"), [("jetIdx", [[1, 0, 2], [0]]), ("pfCandIdx", [[2, 0, 3], [0]])]
)  # fmt: skip
def test_an_index_beyond_the_end_is_named(tmp_path, name, values):
    path = run3(tmp_path / "nano.root", **{f"JetPFCand_{name}": ak.values_astype(ak.Array(values), "int32")})
    with pytest.raises(InputError, match=f"JetPFCand_{name} points beyond the last entry"):
        read_jets(path)


@pytest.mark.parametrize("name", ["Jet_area", "run", "PV_npvsGood", "PFCand_pdgId"])
def test_a_missing_necessary_branch_is_named(tmp_path, name):
    with pytest.raises(InputError, match=f"lacks the necessary branches.*{name}"):
        read_jets(run3(tmp_path / "nano.root", **{name: None}))


def test_vertex_association_as_in_cms():
    """`pat::PackedCandidate::fromPV` for candidates that are associated to the primary vertex or to none."""
    quality = np.array([7, 6, 5, 4, 1, 0, 0])
    pdg = np.array([211, 211, -211, 211, 211, 211, -13])
    assert _from_pv(quality, pdg).tolist() == [3, 2, 2, 2, 1, 1, 2]


def same(one, other, *, apart=()):
    """Whether jets are equal but for some columns of their particles."""
    kept = [name for name in other["particles"].fields if name not in apart]
    return ak.array_equal(one[one.fields[:-1]], other[one.fields[:-1]]) and ak.array_equal(
        one["particles"][kept], other["particles"][kept]
    )


def test_the_same_events_as_an_rntuple(pfnano, real_data):
    path = real_data / "pfnano_rntuple.root"
    assert same(read_jets(path), read_jets(pfnano))
    assert ak.array_equal(ak.concatenate(list(iterate_jets(path, 15))), read_jets(path))
    assert describe(path).usable
    assert describe(path).jets == 64


def test_the_form_of_cmssw(pfnano, real_data, caplog):
    """SaveAK4JetConstituents: neither the association to vertices nor PUPPI weights."""
    path = real_data / "v15_ak4_names.root"
    info = describe(path)
    assert info.usable
    assert "PF_fromPV not in the file, filled: 3, the primary vertex" in info.text()
    assert "puppiWeight not in the file: the candidates' pt and mass are taken to have it in them" in info.text()
    jets, official = read_jets([path, path]), read_jets(pfnano)
    assert caplog.text.count("PF_fromPV not in the file") == caplog.text.count("puppiWeight not in the file") == 1
    # what the vertices of the candidates decide is another thing: which charged ones QG_mult counts, and all of QG_*
    names = [name for name in jets.fields if not name.startswith("QG_")]
    lacks = {*official["particles"].fields} - {*jets["particles"].fields}
    assert lacks == {"PF_d0", "PF_d0Err", "PF_dz", "PF_dzErr", "PF_trkQuality", "PF_puppiWeight"}
    assert same(jets[:64][names], official[names], apart=["PF_fromPV", *lacks])
    assert ak.all(jets["particles", "PF_fromPV"] == 3)
    neutral = np.isin(np.abs(ak.to_numpy(ak.flatten(official["particles", "PF_id"]))), (22, 130))
    assert ak.all(ak.flatten(official["particles", "PF_fromPV"])[neutral] == 3)
    assert len(load_clouds(DataSettings(files=[str(path)], directory=str(path.parent / "none")), progress=False))


def test_files_of_several_forms_together_have_the_columns_of_all(pfnano, real_data, caplog):
    """Jets of other columns would be of another type, which no selection takes."""
    path = real_data / "v15_ak4_names.root"
    jets, first = read_jets([pfnano, path]), read_jets(path)
    assert (len(jets), set(jets.fields)) == (128, set(first.fields))
    assert set(jets["particles"].fields) == set(first["particles"].fields)
    assert same(jets[64:], first)
    official = read_jets(pfnano)
    lacks = {*official["particles"].fields} - {*first["particles"].fields}
    assert same(jets[:64], official[jets.fields], apart=lacks)
    assert "PF_puppiWeight" in caplog.text
    assert "left out, since not all files have them" in caplog.text


@pytest.mark.parametrize("link", ["FatJetPFCands_pFCandsIdx", "FatJetPFCand_pfCandIdx", "JetPFCandsAK8_candIdx"])
def test_jets_of_radius_08(tmp_path, link):
    """The same jets under the names of AK8 jets are the same, scaled by PUPPI weights whatever the era."""
    table, _, index = link.partition("_")
    candidates = "PFCand" if table.endswith("Cand") else "PFCands"
    path = tmp_path / "ak8.root"
    with uproot.open(run3(tmp_path / "ak4.root")) as file:
        branches = {name: file["Events"][name].array() for name in file["Events"].keys() if name[0] != "n"}  # noqa: SIM118
    new = {}
    for name, values in branches.items():
        collection, _, column = name.partition("_")
        names = {"Jet": "FatJet", "PFCand": candidates, "JetPFCand": table}
        column = index if column == "pfCandIdx" else column
        name = f"{names.get(collection, collection)}_{column}".rstrip("_")
        new["fixedGridRhoFastjetAll" if collection == "Rho" else name] = values
    new["FatJet_genJetAK8Idx"] = ak.values_astype(ak.Array([[0, -1], [1]]), "int32")
    new |= {f"GenJetAK8_{name}": ak.values_astype(ak.Array([[95.0], [70.0, 85.0]]), "float32")
            for name in ("pt", "eta", "phi", "mass")}  # fmt: skip
    with uproot.recreate(path) as file:
        tree = file.mktree("Events", {name: ak.type(ak.Array(values)).content for name, values in new.items()},
                           counter_name=lambda name: "n" + name.split("_")[0])  # fmt: skip
        tree.extend(new)
    jets = next(iterate_jets(path, collection="FatJet"))
    expected = read_jets(tmp_path / "ak4.root")
    assert ak.array_equal(jets["particles"], expected["particles"])
    assert ak.array_equal(jets["jetRawPt"], expected["jetRawPt"])
    assert jets["genJetPt"].tolist() == [95, 0, 85]
    (block,) = list_blocks([path], collection="FatJet")
    assert ak.array_equal(read_block(block), jets)
    assert describe(path, "FatJet").usable
    assert "lacks the necessary branches Jet_pt" in describe(path).reason


def test_a_collection_that_is_not_there_is_named(pfnano, sample):
    assert "lacks the necessary branches CaloJet_pt" in describe(pfnano, "CaloJet").reason
    assert describe(sample, "FatJet").reason == "a file of JetNTuple has one collection of jets, not FatJet"


def test_flavours_and_generator_jets_are_optional_apart(tmp_path):
    values = ak.values_astype(ak.Array([[95.0], [85.0]]), "float32")
    gen = {f"GenJet_{name}": values for name in ("pt", "eta", "phi", "mass")}
    gen["Jet_genJetIdx"] = ak.values_astype(ak.Array([[0, -1], [0]]), "int32")
    jets = read_jets(run3(tmp_path / "nano.root", **gen))
    assert jets["genJetPt"].tolist() == [95, 0, 85]
    assert jets["hadronFlav"].tolist() == [0, 0, 0]


def with_weights(real_data, path, weights):
    """The file of CMSSW's form with PUPPI weights, of which its momenta need none."""
    with uproot.open(real_data / "v15_ak4_names.root") as file:
        branches = {name: file["Events"][name].array() for name in file["Events"].keys() if name[0] != "n"}  # noqa: SIM118
    branches["PFCand_puppiWeight"] = ak.values_astype(weights(branches["PFCand_pt"]), "float32")
    with uproot.recreate(path) as file:
        tree = file.mktree("Events", {name: ak.type(values).content for name, values in branches.items()},
                           counter_name=lambda name: "n" + name.split("_")[0])  # fmt: skip
        tree.extend(branches)
    return path


def test_planted_wrong_puppi_weights_are_found_and_named(real_data, tmp_path, caplog):
    """As in NanoAOD that was made anew with the weights of another PUPPI tune (cms-sw/cmssw issue 49137)."""

    def load(path, **more):
        settings = DataSettings(files=[str(path)], directory=str(tmp_path / path.stem), **more)
        return load_clouds(settings, progress=False)

    right = with_weights(real_data, tmp_path / "right.root", ak.ones_like)
    clouds = load(right)
    wrong = with_weights(real_data, tmp_path / "wrong.root", lambda pt: ak.where(pt > 5, 0.7, 1.0))
    with pytest.raises(InputError, match=r"wrong\.root: the candidates do not .* \(97% of the jets, which differ by "
                       r"2\d\.\d% on average\); the raw pt .*PUPPI weights"):  # fmt: skip
        load(wrong)
    assert re.search(r"raw one by \d+\.\d% \(median\); for [7-9]\d% of the jets", describe(wrong).text())
    assert "raw one by 0.0% (median); for 0% of the jets" in describe(right).text()
    one = with_weights(real_data, tmp_path / "one.root", lambda pt: ak.where(pt == ak.max(pt), 0.5, 1.0))
    assert len(load(one)) == len(clouds) - 1
    assert "1 of 36 jets have candidates that do not sum up to the jet" in caplog.text
    assert len(load(wrong, tolerated_strangers=1)) == 1  # the others are left out
