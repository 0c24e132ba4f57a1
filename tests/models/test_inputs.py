"""The transformation of physical columns: standardised, complete, and finite at the edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jetcorr_utils.jets.columns import jet_columns, particle_columns
from jetcorr_utils.models.inputs import CloudInputs
from tests.clouds import random_clouds


def features_of(inputs: CloudInputs, dataset) -> tuple[torch.Tensor, torch.Tensor]:
    counts = torch.from_numpy(np.diff(dataset.ptr))
    return inputs(torch.from_numpy(dataset.particles), torch.from_numpy(dataset.jets), counts)


@pytest.mark.parametrize("features", ["open", "rich"])
def test_features_of_the_training_data_are_standardised(features):
    dataset = random_clouds(300, features=features)
    inputs = CloudInputs(features)
    inputs.fit(dataset)
    particles, jets = features_of(inputs, dataset)
    assert particles.shape == (len(dataset.particles), inputs.particle_dim)
    assert jets.shape == (300, inputs.jet_dim)
    names = np.array(inputs.particle_names)
    flags = np.array([name in {"forward", "from_jet", "photon", "electron", "muon"} or "hadron" in name
                      or name.startswith("from_pv") for name in names])  # fmt: skip
    values = particles.numpy()
    np.testing.assert_allclose(values[:, ~flags].mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(values[:, ~flags].std(axis=0), 1, atol=1e-3)
    assert set(np.unique(values[:, flags])) == {0, 1}
    varying = np.array([name not in {"area", "log_mass_over_pt", "log_pt_over_raw"} for name in inputs.jet_names])
    np.testing.assert_allclose(jets.numpy()[:, varying].std(axis=0), 1, atol=1e-3)
    # Columns that do not vary in the data are centred, and not divided by the rounding errors of their spread
    np.testing.assert_allclose(jets.numpy()[:, ~varying], 0, atol=1e-4)


def test_each_particle_has_one_class():
    dataset = random_clouds(50)
    inputs = CloudInputs("open")
    particles, _ = features_of(inputs, dataset)
    names = inputs.particle_names
    classes = [names.index(n) for n in ("charged_hadron", "neutral_hadron", "photon", "electron", "muon", "forward")]
    assert (particles[:, classes].sum(dim=1) == 1).all()
    charged = np.abs(dataset.particle("PF_id")) == 211
    assert (particles[:, classes[0]].numpy() == charged).all()


def test_known_values():
    inputs = CloudInputs("open")
    row = {
        "PF_dEta": 0.3,
        "PF_dPhi": -0.4,
        "PF_pT": 5.0,
        "PF_mass": 0.14,
        "PF_id": -11,
        "PF_fromPV": 3,
        "PF_fromAK4Jet": 1,
    }
    particle = torch.tensor([[row[name] for name in particle_columns("open")]])
    values = inputs.raw_particle_features(particle, torch.tensor([50.0]), torch.tensor([-1.0]))[0]
    found = dict(zip(inputs.particle_names, values.tolist(), strict=True))
    assert found["log_pt"] == pytest.approx(np.log(5))
    assert found["log_pt_over_jet"] == pytest.approx(np.log(0.1))
    assert found["d_r"] == pytest.approx(0.5)
    assert found["abs_eta"] == pytest.approx(0.7)
    assert (found["electron"], found["photon"], found["from_pv_3"], found["from_pv_0"]) == (1, 0, 1, 0)


@pytest.mark.parametrize("features", ["open", "rich", ("kinematics", "class")])
def test_edges_of_the_ranges_stay_finite(features):
    columns = particle_columns(features)
    particles = torch.zeros(1, len(columns))
    jets = torch.zeros(1, len(jet_columns(features)))
    particle_features, jet_features = CloudInputs(features)(particles, jets, torch.tensor([1]))
    assert particle_features.isfinite().all()
    assert jet_features.isfinite().all()
    assert particle_features.abs().max() < 20
