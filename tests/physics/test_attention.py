"""What a network attends to, on jets whose response is known to depend on the share of neutral hadrons alone."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest

from jetcorr_utils.data.dataset import CloudDataset
from jetcorr_utils.physics import class_shares, input_importance, plot_class_dependence, plot_input_importance
from tests.clouds import random_clouds


@pytest.fixture(scope="module")
def clouds() -> CloudDataset:
    return random_clouds(1500, seed=4)


def neutral_share(clouds: CloudDataset) -> np.ndarray:
    """pt of the particles with the id 130 over that of all, plainly."""
    column = clouds.columns.index
    jets = ak.unflatten(clouds.particles, clouds.multiplicity)
    pt, code = jets[:, :, column("PF_pT")], jets[:, :, column("PF_id")]
    return ak.to_numpy(ak.sum(pt * (code == 130), axis=1) / ak.sum(pt, axis=1))


def follows_neutrals(clouds: CloudDataset) -> np.ndarray:
    """A correction that knows the rule by which the clouds were made."""
    return 0.5 * (neutral_share(clouds) - 0.25)


def test_the_shares_of_all_classes_are_those_of_their_particles(clouds):
    shares = class_shares(clouds)
    np.testing.assert_allclose(sum(shares.values()), 1, rtol=1e-6)
    column = clouds.columns.index
    pt, code = clouds.particles[:, column("PF_pT")], clouds.particles[:, column("PF_id")]
    forward = np.add.reduceat(pt * (code == 1), clouds.ptr[:-1]) / np.add.reduceat(pt, clouds.ptr[:-1])
    np.testing.assert_allclose(shares["neutral hadrons"], neutral_share(clouds) + forward, rtol=1e-4, atol=1e-6)


def test_only_what_the_network_uses_is_important(clouds):
    table = input_importance(clouds, follows_neutrals).set_index("input")
    assert list(table.index[:2]) == ["particle: class", "particle: pt"]
    assert table["increase"].iloc[0] > 5 * table["error"].iloc[0]
    assert (table["increase"].iloc[2:] == 0).all()
    assert "jet: area" not in table.index  # the same for all jets


def test_inputs_are_exchanged_among_jets_of_about_the_same_pt(clouds):
    seen = []
    input_importance(clouds, lambda jets: seen.append(jets) or jets.target)
    assert len(seen) > 10
    for changed in seen:
        assert np.array_equal(changed.jets[:, 0], clouds.jets[:, 0])
        for column in range(changed.jets.shape[1]):  # nothing is lost or made up
            assert np.array_equal(np.sort(changed.jets[:, column]), np.sort(clouds.jets[:, column]))
    raw = next(jets.jets for jets in seen if not np.array_equal(jets.jets[:, 4], clouds.jets[:, 4]))
    neighbours = np.argsort(np.argsort(clouds.jets[:, 0]))
    partner = np.argsort(np.argsort(raw[:, 4], kind="stable"))  # raw pt is a share of pt in these clouds
    assert np.abs(partner - neighbours).max() < 50


def test_the_prediction_takes_the_dependence_away(clouds):
    figure = plot_class_dependence(clouds, follows_neutrals(clouds), "PFN")
    lines = {shown.get_label(): shown.lines[0].get_ydata() for shown in figure.axes[2].containers}
    assert np.ptp(lines["Truth"]) > 0.1
    np.testing.assert_allclose(lines["Prediction"], lines["Truth"], atol=0.02)
    np.testing.assert_allclose(lines["Truth − prediction"], 0, atol=0.01)


@pytest.mark.parametrize("jets", [12, 40])
def test_figures_of_few_jets(clouds, jets):
    few = clouds.slice(0, jets)
    plot_class_dependence(few, follows_neutrals(few)).canvas.draw()
    plot_input_importance(input_importance(few, follows_neutrals)).canvas.draw()
