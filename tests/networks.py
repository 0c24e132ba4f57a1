"""Small networks and synthetic clouds for the tests of export and serving: real networks, untrained."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from jetcorr_utils.config import ParticleNetSettings, PfnSettings
from jetcorr_utils.data.dataset import CloudDataset
from jetcorr_utils.data.features import TABLE_COLUMNS
from jetcorr_utils.export import add_model, export_model
from jetcorr_utils.jets.columns import jet_columns, particle_columns
from jetcorr_utils.models import CloudNetwork, build_model
from tests.clouds import matrix

SETTINGS = {
    "pfn": PfnSettings(architecture="pfn", conv_dim=24, fc_dim=24),
    "particlenet": ParticleNetSettings(
        architecture="particlenet", features="rich", blocks=2, k=5, conv_layers=2, conv_dim=24, fc_dim=24
    ),
}

METADATA = {
    "candidates": "jet",
    "selection": {"min_pt": 30.0, "max_abs_eta": 2.5},
    "training_range": {"jetPt": [30.0, 900.0], "abs(jetEta)": [0.0, 2.5], "particles": [1, 200]},
}
_FOLDER = tempfile.TemporaryDirectory(prefix="jetcorr-tests-")


def clouds_of(counts, seed: int = 0, features: str = "open") -> CloudDataset:
    """Clouds with the given multiplicities, columns in physical units."""
    rng = np.random.default_rng(seed)
    counts = np.asarray(counts, dtype=np.int64)
    jets, particles = len(counts), int(counts.sum())
    columns = {
        "PF_dEta": rng.normal(0, 0.15, particles), "PF_dPhi": rng.normal(0, 0.15, particles),
        "PF_pT": 0.3 + rng.exponential(5, particles), "PF_mass": rng.choice([0, 0.13957], particles),
        "PF_id": rng.choice([211, -211, 130, 22, 11, 13, 1], particles), "PF_fromPV": rng.integers(0, 4, particles),
        "PF_fromAK4Jet": np.ones(particles),
    }  # fmt: skip
    if features == "rich":
        columns |= {"PF_caloFraction": rng.random(particles), "PF_hcalFraction": rng.random(particles)}
    pt = rng.uniform(30, 1000, jets)
    table = {name: np.zeros(jets, dtype) for name, dtype in TABLE_COLUMNS.items()}
    table |= {"event": np.arange(jets, dtype=np.uint64), "jetPt": pt.astype(np.float32)}
    of_jets = {
        "jetPt": pt, "jetEta": rng.uniform(-2.5, 2.5, jets), "jetMass": 0.1 * pt,
        "jetArea": rng.normal(0.5, 0.02, jets), "jetRawPt": 0.9 * pt, "rhoAll": rng.uniform(5, 30, jets),
        "PV_npvsGood": rng.integers(5, 40, jets), "QG_ptD": rng.uniform(0.2, 0.9, jets),
        "QG_axis2": rng.uniform(1e-3, 0.1, jets), "QG_mult": counts,
    }  # fmt: skip
    table |= {name: of_jets[name].astype(dtype) for name, dtype in TABLE_COLUMNS.items() if name in of_jets}
    return CloudDataset(
        particles=matrix(columns, particle_columns(features), rng),
        ptr=np.concatenate([[0], np.cumsum(counts)]),
        jets=matrix(of_jets, jet_columns(features), np.random.default_rng(seed)),
        target=rng.normal(0, 0.1, jets).astype(np.float32),
        part=np.zeros(jets, np.uint8),
        table=table,
        features=features,
        key=f"synthetic-{seed}",
    )


def some_clouds(jets: int, seed: int = 0, features: str = "open", mean: float = 25.0) -> CloudDataset:
    """Clouds with multiplicities like those of jets."""
    counts = np.random.default_rng(seed).gamma(4, mean / 4, jets).astype(np.int64)
    return clouds_of(np.maximum(counts, 1), seed, features)


@st.composite
def padded_batches(draw, features: str = "open") -> tuple[CloudDataset, int]:
    """1 to 1024 jets of 1 to 200 particles, and to how many particles they are padded: 0 to 100 more than needed."""
    jets = draw(st.one_of(st.integers(1, 12), st.integers(1, 1024)))
    low, high = sorted(draw(st.tuples(st.integers(1, 200), st.integers(1, 200))))
    seed = draw(st.integers(0, 2**16))
    counts = np.random.default_rng(seed).integers(low, high + 1, jets)
    return clouds_of(counts, seed, features), int(counts.max()) + draw(st.integers(0, 100))


def largest_difference(ours, theirs) -> float:
    """The largest relative difference of two pairs of correction factors and resolutions."""
    factor = np.abs(np.expm1(ours[0].astype(np.float64) - theirs[0]))
    return max(float(factor.max()), float(np.abs(ours[1] / theirs[1] - 1).max()))


def network(name: str) -> CloudNetwork:
    """An untrained network whose constants and running statistics come from clouds, so that nothing is trivial."""
    settings = SETTINGS[name]
    torch.manual_seed(3)
    model = build_model(settings)
    clouds = some_clouds(200, 5, settings.features)
    model.fit_constants(clouds)
    arguments = [torch.from_numpy(np.array(part)) for part in (clouds.particles, clouds.jets, clouds.ptr)]
    with torch.no_grad():
        for _ in range(3):
            model.train()(*arguments)
        for parameter in model.parameters():
            if parameter.ndim == 1:  # biases, and the weights of normalisations
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@functools.cache
def exported(name: str) -> Path:
    """The ONNX file of a network, made once."""
    return export_model(network(name), Path(_FOLDER.name) / f"{name}.onnx", metadata={"name": name, **METADATA})


@pytest.fixture(scope="session")
def models():
    """The networks by name."""
    return {name: network(name) for name in SETTINGS}


@pytest.fixture(scope="session")
def files():
    """Their ONNX files."""
    return {name: exported(name) for name in SETTINGS}


@pytest.fixture
def make_repository(files, tmp_path):
    """A function that makes a repository with the models named."""

    def make(*names):
        for name in names:
            add_model(tmp_path / "repository", name, files[name])
        return tmp_path / "repository"

    return make
