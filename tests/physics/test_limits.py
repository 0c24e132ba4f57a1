"""Trees and oracles: they find what is there to be found, and not more."""

import awkward as ak
import numpy as np
import pandas as pd
import pytest

from jetcorr_utils.config import PhysicsSettings
from jetcorr_utils.data.dataset import CloudDataset
from jetcorr_utils.data.features import jet_matrix, particle_matrix, regression_target, table
from jetcorr_utils.data.split import SPLITS
from jetcorr_utils.errors import InputError
from jetcorr_utils.physics.explore_particles import energy_fractions
from jetcorr_utils.physics.limits import add_corrections, add_limits, composition, flavour_oracle, generator_fractions
from jetcorr_utils.physics.measurement import measure
from jetcorr_utils.physics.predictions import check_predictions, predictions_table


def as_dataset(jets, seed=3):
    """The jets as particle clouds: 60 % to train, 10 % to validate, 30 % to test."""
    part = np.random.default_rng(seed).choice(list(SPLITS.values()), len(jets), p=_shares())
    count = ak.to_numpy(ak.num(jets["particles"]))
    return CloudDataset(
        particles=particle_matrix(jets), ptr=np.concatenate([[0], np.cumsum(count)]), jets=jet_matrix(jets),
        target=regression_target(jets), part=part.astype(np.uint8), table=table(jets), features="open", key="toy",
    )  # fmt: skip


def _shares():
    shares = {"train": 0.6, "validation": 0.1, "test": 0.3}
    return [shares[name] for name in SPLITS]


@pytest.fixture(scope="module")
def dataset(make_jets):
    """Jets whose response falls with the share of photons, and is smeared by 5 %."""
    jets = make_jets(12_000, 5)
    share = energy_fractions(jets)["photons"]
    smear = np.random.default_rng(7).normal(0, 0.05, len(jets))
    pt = ak.to_numpy(jets["genJetPt"]) * np.exp(-0.5 * (share - share.mean()) + smear)
    for name, factor in {"jetPt": 1.0, "jetRawPt": 0.9, "jetMass": 0.1}.items():
        jets = ak.with_field(jets, factor * pt, name)
    return as_dataset(jets)


def test_composition_is_that_of_the_particles(toy_jets):
    found = composition(as_dataset(toy_jets))
    assert np.isfinite(found).all()
    inside = toy_jets["particles"][toy_jets["particles", "PF_fromAK4Jet"] == 1]
    total = ak.sum(inside["PF_pT"], axis=1)
    charged = ak.sum(inside["PF_pT"][abs(inside["PF_id"]) == 211], axis=1) / total
    count = ak.to_numpy(ak.sum(inside["PF_id"] == 22, axis=1))
    for expected in (ak.to_numpy(charged), count):
        closest = np.abs(found - expected[:, None]).max(axis=0).min()
        assert closest < 1e-5, "one of the columns is this number"


def test_trees_find_what_composition_tells_and_kinematics_does_not(dataset):
    test = predictions_table(dataset.split("test").table, {})
    found = add_limits(test, dataset, progress=False)
    assert (found.columns[: len(test.columns)] == test.columns).all()
    gains = measure(found, ["trees", "trees_kinematics"], PhysicsSettings(replicas=30), progress=False)
    entry = {name: gains[name]["resolution_gain"]["0-2.5"]["30-inf"] for name in ("trees", "trees_kinematics")}
    assert entry["trees"]["value"] > 5 * entry["trees"]["error"]
    assert abs(entry["trees_kinematics"]["value"]) < 3 * entry["trees_kinematics"]["error"] + 0.01
    # A perfect correction would leave the smearing of 5 % alone.
    standard = gains["baseline"]["resolution"]["0-2.5"]["30-inf"]["value"]
    perfect = 1 - 1.349 * 0.05 / standard
    assert 0.85 * perfect < entry["trees"]["value"] < perfect + 3 * entry["trees"]["error"]


def test_the_same_seed_gives_the_same_trees(dataset):
    test = predictions_table(dataset.split("test").table, {})
    first, second = (add_limits(test, dataset, max_jets=2_000, progress=False)["trees_pt"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_flavour_oracle_takes_the_flavour_dependence_away(toy):
    validation, test = (check_predictions(toy(30_000, seed)) for seed in (21, 22))
    found = flavour_oracle(test, validation)
    measured = measure(found, ["oracle_flavour", "pfn"], PhysicsSettings(replicas=30), progress=False)
    entry = measured["oracle_flavour"]["flavour_gain"]["0-2.5"]["30-inf"]
    assert entry["value"] > 0.7
    assert abs(measured["oracle_flavour"]["resolution_gain"]["0-2.5"]["30-inf"]["value"]) < 0.03


def test_the_flavour_oracle_leaves_rare_flavours_alone(toy):
    validation, test = (check_predictions(toy(400, seed)) for seed in (21, 22))
    found = flavour_oracle(test, validation[validation["flavour"] == 21])
    quarks = found["flavour"] != 21
    np.testing.assert_allclose(found["oracle_flavour_pt"][quarks], found["jetPt"][quarks])


def test_true_fractions_of_the_sample(sample):
    fractions = generator_fractions([sample], progress=False)
    shares = fractions[["charged", "electromagnetic", "neutral"]]
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert ((shares > -1e-6) & (shares < 1 + 1e-6)).all(axis=None)
    # Of a jet's energy about 60 % is charged, a quarter photons, 10 to 15 % neutral hadrons.
    assert shares.mean().to_dict() == pytest.approx(
        {"charged": 0.62, "electromagnetic": 0.26, "neutral": 0.12}, abs=0.06
    )
    assert not fractions.duplicated(["run", "lumi", "event", "jetPtOrder"]).any()


def test_corrections_are_matched_by_the_jets_identifiers(predictions):
    jets = predictions.iloc[:500]
    shuffled = jets.sample(frac=1, random_state=2)
    factor = 1 + 0.001 * np.arange(500)
    found = add_corrections(shuffled, {name: jets[name] for name in jets}, {"other": factor})
    np.testing.assert_allclose(found["other_pt"] / found["jetPt"], 1 + 0.001 * found.index)
    with pytest.raises(InputError, match="other: 500 jets of the predictions are not among its jets"):
        add_corrections(shuffled, {name: jets[name].iloc[:0] for name in jets}, {"other": factor[:0]})


def test_copies_of_a_collision_get_the_corrections_of_their_own(predictions):
    """They share all numbers of their event and differ in what was measured."""
    jets = predictions.iloc[:500]
    copies = jets.assign(jetRawPt=jets["jetRawPt"] * np.float32(1.01))
    both = pd.concat([jets, copies], ignore_index=True)
    factor = 1 + 0.001 * np.arange(1000)
    found = add_corrections(both, {name: both[name] for name in both}, {"other": factor})
    np.testing.assert_allclose(found["other_pt"] / found["jetPt"], factor)


def test_files_without_generator_particles_are_refused(predictions_files):
    with pytest.raises(InputError, match="no generator particles"):
        generator_fractions(predictions_files, progress=False)
