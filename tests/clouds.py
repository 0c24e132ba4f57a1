"""Random particle clouds for tests: any multiplicities, values as in real ones, a target that can be learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jetcorr_utils.data.dataset import CloudDataset
from jetcorr_utils.jets.columns import Features, jet_columns, particle_columns

__all__ = ["matrix", "random_clouds"]


def random_clouds(sizes: Sequence[int] | int, seed: int = 0, features: Features = "open") -> CloudDataset:
    """Clouds with the given multiplicities (a number: that many clouds of about 20 particles).

    The response of a jet depends on the share of its neutral hadrons, so that a network has something to learn.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.poisson(19, sizes) + 1 if isinstance(sizes, int) else np.asarray(sizes)
    ptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    count = int(ptr[-1])
    neutral = np.repeat(rng.uniform(0, 0.5, len(sizes)), sizes)
    columns = {
        "PF_dEta": rng.normal(0, 0.2, count),
        "PF_dPhi": rng.normal(0, 0.2, count),
        "PF_pT": np.exp(rng.normal(0.7, 1.0, count)),
        "PF_mass": rng.choice([0.0, 0.1396, 0.4976], count),
        "PF_id": np.where(rng.random(count) < neutral, 130, rng.choice([211, -211, 22, 11, 13, 1, 2], count)),
        "PF_fromPV": rng.integers(0, 4, count),
        "PF_fromAK4Jet": rng.integers(0, 2, count),
        "PF_caloFraction": rng.uniform(0, 2, count),
        "PF_hcalFraction": rng.uniform(0, 1, count),
    }
    jet_pt = np.add.reduceat(columns["PF_pT"], ptr[:-1])
    share = np.add.reduceat(columns["PF_pT"] * (columns["PF_id"] == 130), ptr[:-1]) / jet_pt
    target = (0.5 * (share - 0.25) + 0.02 * rng.normal(size=len(sizes))).astype(np.float32)
    flavour = rng.choice([1, 2, 3, 4, 5, 21], len(sizes)).astype(np.int32)
    flat = np.ones(len(sizes))
    jets = {
        "jetPt": jet_pt, "jetEta": rng.uniform(-2.5, 2.5, len(sizes)), "jetMass": 0.1 * jet_pt, "jetArea": 0.5 * flat,
        "jetRawPt": 0.95 * jet_pt, "rhoAll": rng.normal(20, 3, len(sizes)),
        "PV_npvsGood": rng.integers(10, 40, len(sizes)), "QG_ptD": rng.uniform(0.2, 0.9, len(sizes)),
        "QG_axis2": rng.uniform(0, 0.1, len(sizes)), "QG_mult": sizes,
    }  # fmt: skip
    table = {
        "hadronFlav": np.where((flavour == 4) | (flavour == 5), flavour, 0),
        "partonFlav": flavour,
        "genJetPt": (jet_pt * np.exp(target)).astype(np.float32),
    }
    return CloudDataset(
        matrix(columns, particle_columns(features), rng), ptr, matrix(jets, jet_columns(features), rng), features,
        target, np.zeros(len(sizes), np.uint8), table, f"random-{seed}-{len(sizes)}",
    )  # fmt: skip


def matrix(columns: Mapping[str, np.ndarray], names: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """Some columns side by side, float32; those that are not there, which an extension has added, at random."""
    rows = len(next(iter(columns.values())))
    values = [columns[name] if name in columns else rng.uniform(0, 1, rows) for name in names]
    return np.stack(values, axis=1).astype(np.float32)
