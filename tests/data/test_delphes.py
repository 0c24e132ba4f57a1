"""The reader of Delphes on a file of Delphes."""

from __future__ import annotations

from types import SimpleNamespace

import awkward as ak
import numpy as np
import pytest
import uproot

from jetcorr_utils.data import describe, iterate_jets, list_blocks, read_block, read_jets
from jetcorr_utils.data.delphes import Delphes
from jetcorr_utils.data.reading import open_jets
from jetcorr_utils.errors import InputError


@pytest.fixture(scope="module")
def delphes(real_data):
    return real_data / "delphes_events.root"


def test_jets_of_delphes(delphes):
    info = describe(delphes)
    assert info.usable
    assert info.format == "Delphes"
    assert "jetRawPt not in the file: that of the sum" in info.text()
    with open_jets(delphes) as source:
        assert source.made_by == "Delphes simulation"
    jets = read_jets(delphes)
    assert len(jets) == info.jets
    with uproot.open(delphes) as file:
        tree = file["Delphes"]
        for ours, theirs in (("jetPt", "PT"), ("jetEta", "Eta"), ("jetPhi", "Phi"), ("jetMass", "Mass")):
            np.testing.assert_array_equal(jets[ours], ak.flatten(tree[f"JetPUPPI.{theirs}"].array()))
        counts = ak.flatten(ak.num(tree["JetPUPPI.Constituents"].array()["refs"], axis=2))
        np.testing.assert_array_equal(ak.num(jets["particles"]), counts)
        assert set(jets["rhoAll"].tolist()) <= set(ak.flatten(tree["Rho.Rho"].array()).tolist())
    assert set(np.abs(ak.to_numpy(ak.flatten(jets["particles", "PF_id"])))) <= {11, 13, 22, 130, 211}


def test_constituents_sum_up_to_the_jets_of_delphes(delphes):
    """In pt but for the rounding of 32 bits; their eta is that of the clustering, before the vertex was known."""
    jets = read_jets(delphes)
    np.testing.assert_allclose(jets["jetRawPt"], jets["jetPt"], rtol=1e-5)


def test_generator_jets_are_the_closest_ones(delphes):
    jets = read_jets(delphes)
    matched = ak.to_numpy(jets["genJetPt"]) > 0
    assert 0.8 < matched[ak.to_numpy(jets["jetPt"]) > 50].mean() <= 1
    turn = (ak.to_numpy(jets["genJetPhi"] - jets["jetPhi"]) + np.pi) % (2 * np.pi) - np.pi
    assert np.hypot(turn, ak.to_numpy(jets["genJetEta"] - jets["jetEta"]))[matched].max() < 0.2
    hard = matched & (ak.to_numpy(jets["jetPt"]) > 200)
    np.testing.assert_allclose(
        np.median(ak.to_numpy(jets["jetPt"])[hard] / ak.to_numpy(jets["genJetPt"])[hard]), 1, atol=0.1
    )


def test_chunks_and_blocks_give_the_same_jets(delphes):
    jets = read_jets(delphes)
    assert ak.array_equal(ak.concatenate(list(iterate_jets(delphes, 10))), jets)
    assert ak.array_equal(ak.concatenate([read_block(block) for block in list_blocks([delphes], 15)]), jets)


def test_another_collection_is_named_if_it_is_not_there(delphes):
    assert "lacks the necessary branches JetAK5.PT" in describe(delphes, "JetAK5").reason


def test_jets_of_something_else_than_candidates_are_refused(delphes):
    """JetAK8 of this card is made of other objects, which the file does not hold."""
    assert "JetAK8.Constituents refers to 1102 objects that are not in Particle" in describe(delphes, "JetAK8").reason


def test_what_is_taken_for_a_branch_that_is_not_there_is_said(delphes):
    with uproot.open(delphes) as file:
        tree = file["Delphes"]
        names = set(tree.keys(full_paths=False))
    for lost, said in (
        ("JetPUPPI.Area", "jetArea not in the file: 0"),
        ("Vertex.Index", "PV_npvsGood not in the file: 1"),
    ):
        there = SimpleNamespace(num_entries=tree.num_entries, keys=lambda full_paths, lost=lost: names - {lost})
        assert said in Delphes("a.root", there).remarks
        assert said not in Delphes("a.root", tree).remarks
    there = SimpleNamespace(num_entries=0, keys=lambda full_paths: names - {"GenJet.PT"})
    assert not any("genJetPt" in remark for remark in Delphes("a.root", there).remarks)


def test_more_pairs_of_jets_and_generator_jets_than_events_have_are_refused(delphes):
    """They would be in memory at once: ten thousand of each in an event take next to no room in a file."""
    many = ak.unflatten(np.zeros(3000), [3000])
    events = {f"GenJet.{name}": many for name in ("PT", "Eta", "Phi", "Mass")}
    with open_jets(delphes) as source, pytest.raises(InputError, match=r"9,000,000 pairs of 3,000 jets with GenJet"):
        source._generator(events, np.array([3000]), np.zeros(3000), np.zeros(3000))
