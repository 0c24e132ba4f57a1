"""Real jets for real trials: the committed sample as clouds, and a study that searches a small space on them."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import uproot

from jetcorr_utils.config import Study, load_study
from jetcorr_utils.data.dataset import CloudDataset
from jetcorr_utils.data.features import jet_matrix, particle_matrix, regression_target, table


@pytest.fixture(scope="session")
def clouds(sample) -> tuple[CloudDataset, CloudDataset]:
    """Training and validation clouds, 900 and 300 jets of the committed sample."""
    with uproot.open(sample) as file:
        tree = file["AK4jets/jetTree"]
        flat = tree.arrays(filter_name=lambda name: not name.startswith(("PF_", "genJetPF_")), entry_stop=1400)
        particles = tree.arrays(filter_name="PF_*", entry_stop=1400)
    jets = ak.with_field(flat, ak.zip({name: particles[name] for name in particles.fields}), "particles")
    jets = jets[jets.genJetPt > 20][:1200]
    jets["particles"] = jets.particles[jets.particles.PF_fromAK4Jet == 1]
    ptr = np.concatenate([[0], np.cumsum(ak.to_numpy(ak.num(jets.particles)))]).astype(np.int64)
    dataset = CloudDataset(
        particle_matrix(jets), ptr, jet_matrix(jets), "open", regression_target(jets), np.zeros(len(jets), np.uint8),
        table(jets), "sample",
    )  # fmt: skip
    return dataset.slice(0, 900), dataset.slice(900, 1200)


@pytest.fixture(scope="session")
def study() -> Study:
    """Six short trials over four settings of a small network."""
    return load_study(
        "smoke",
        {
            "tuning.trials": 6,
            "tuning.epochs": 2,
            "tuning.max_jets": 600,
            "tuning.space": {
                "conv_layers": {"min": 1, "max": 3},
                "conv_dim": {"choices": [16, 24]},
                "training.learning_rate": {"min": 5e-4, "max": 5e-3, "log": True},
                "training.optimizer": {"choices": ["adam", "rmsprop"]},
            },
        },
    )
