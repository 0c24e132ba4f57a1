"""Toy predictions with known gains (log-normal responses), as a table and as files; no display."""

import awkward as ak
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import uproot

from jetcorr_utils.physics.predictions import check_predictions

mpl.use("Agg")


#: PDG id → median response of the standard correction, as in FACTS of the paper, above 30 GeV
MEDIANS = {2: 1.018, 1: 1.021, 3: 1.001, 4: 1.002, 5: 0.999, 21: 0.996}
SHARES = {2: 0.16, 1: 0.12, 3: 0.06, 4: 0.08, 5: 0.07, 21: 0.51}


def toy_predictions(
    jets=20_000, seed=1, *, gain=0.1, flavour_gain=0.5, sigma=None, sigma_scale=1.0, models=("pfn",), flavour_shift=1.0
) -> pd.DataFrame:
    """Jets on a falling spectrum; each model narrows log(response) by `gain` and the flavour shifts by `flavour_gain`.

    `sigma` is the width of the standard correction's log(response), by default one that falls with pt like CMS's.
    `flavour_shift` scales the flavours' shifts. The models' predicted resolution is the true one times `sigma_scale`.
    """
    rng = np.random.default_rng(seed)
    gen_pt = 25 * (80 ** rng.random(jets)) ** 1.0
    width = np.full(jets, sigma) if sigma else np.sqrt(0.045**2 + 1.1 / gen_pt * 0.9**2 * 0.8)
    flavour = rng.choice(list(SHARES), size=jets, p=list(SHARES.values()))
    shift = flavour_shift * np.log(pd.Series(MEDIANS).loc[flavour].to_numpy())
    noise = rng.normal(size=jets)
    event = np.arange(jets) // 2 + 1
    table = {
        "run": np.ones(jets, np.int32), "lumi": np.ones(jets, np.int32), "event": event.astype(np.uint64),
        "jetPtOrder": (np.arange(jets) % 2).astype(np.int32),
        "jetPt": gen_pt * np.exp(shift + width * noise),
        "genJetPt": gen_pt,
        "hadronFlav": np.where((flavour == 4) | (flavour == 5), flavour, 0).astype(np.int32),
        "partonFlav": np.where(rng.random(jets) < 0.5, flavour, np.where(flavour == 21, 21, -flavour)).astype(np.int32),
        "rhoAll": rng.gamma(9, 2.3, jets),
        "PV_npvsGood": rng.poisson(23, jets).astype(np.int32),
        "jetPhi": (event % 3 + np.pi * (np.arange(jets) % 2)).astype(np.float64),
    }  # fmt: skip
    eta = rng.uniform(-2.5, 2.5, jets)
    table |= {"jetEta": eta, "genJetEta": np.clip(eta + rng.normal(0, 0.005, jets), -2.499, 2.499)}
    table["jetRawPt"] = table["jetPt"] * (0.9 - 0.08 * np.exp(-gen_pt / 100))
    for number, model in enumerate(models):
        own = (noise + 0.05 * number * rng.normal(size=jets)) * (1 - gain)
        table[f"{model}_pt"] = gen_pt * np.exp((1 - flavour_gain) * shift + width * own)
        table[f"{model}_factor"] = table[f"{model}_pt"] / table["jetPt"]
        table[f"{model}_sigma"] = width * (1 - gain) * sigma_scale
    return pd.DataFrame(table)


@pytest.fixture(scope="session")
def toy():
    """The function that makes toy predictions."""
    return toy_predictions


@pytest.fixture(scope="session")
def predictions():
    """20 000 jets of two models with a resolution gain of 10 % and a flavour gain of 50 %."""
    return check_predictions(toy_predictions(20_000, models=("pfn", "particlenet")))


@pytest.fixture(scope="session")
def predictions_files(tmp_path_factory):
    """The same jets, in two files of 9 000 and 11 000."""
    table = toy_predictions(20_000, models=("pfn", "particlenet"))
    folder = tmp_path_factory.mktemp("predictions")
    paths = []
    for number, part in enumerate((table.iloc[:9_000], table.iloc[9_000:])):
        paths.append(folder / f"predictions_{number}.root")
        with uproot.recreate(paths[-1]) as file:
            file.mktree("jets", {name: column.dtype for name, column in part.items()})
            file["jets"].extend({name: column.to_numpy() for name, column in part.items()})
    return paths


@pytest.fixture(scope="session")
def toy_jets():
    """3 000 jets with particles, in the form in which the readers give them."""
    return make_toy_jets(3_000)


@pytest.fixture(scope="session")
def make_jets():
    """The function that makes toy jets."""
    return make_toy_jets


def make_toy_jets(jets=3_000, seed=1):
    """Jets whose particles share their raw pt at random; gluon jets have more and wider ones, plus some pileup."""
    rng = np.random.default_rng(seed)
    table = toy_predictions(jets, seed)
    table = table.drop(columns=[name for name in table if name.startswith("pfn")])
    gluon = (table["partonFlav"] == 21).to_numpy()
    inside = rng.poisson(np.where(gluon, 14, 8) * np.log(table["genJetPt"] / 5)) + 3
    around = rng.poisson(8, jets)
    count = inside + around
    first = np.repeat(np.cumsum(count) - count, count)
    clustered = (np.arange(count.sum()) - first) < np.repeat(inside, count)
    share = rng.gamma(0.35, 1, count.sum()) * clustered
    share /= np.repeat(np.add.reduceat(share, np.cumsum(count) - count), count)
    pt = np.where(clustered, share * np.repeat(table["jetRawPt"], count), rng.exponential(0.8, count.sum()) + 0.3)
    width = np.repeat(np.where(gluon, 0.13, 0.09), count)
    radius = np.where(clustered, np.minimum(np.abs(rng.normal(0, width)), 0.4), 0.4 + 0.5 * rng.random(count.sum()))
    angle = rng.uniform(0, 2 * np.pi, count.sum())
    ids = np.array([211, -211, 22, 130, 11, 13])
    particles = ak.unflatten(
        ak.zip(
            {
                "PF_pT": pt.astype(np.float32) + np.float32(1e-3),
                "PF_dEta": (radius * np.cos(angle)).astype(np.float32),
                "PF_dPhi": (radius * np.sin(angle)).astype(np.float32),
                "PF_mass": np.full(count.sum(), 0.14, np.float32),
                "PF_id": rng.choice(ids, count.sum(), p=[0.3, 0.28, 0.3, 0.1, 0.01, 0.01]).astype(np.int32),
                "PF_fromPV": rng.integers(0, 4, count.sum()).astype(np.int32),
                "PF_fromAK4Jet": clustered.astype(np.int32),
            }
        ),
        count,
    )
    scalars = {name: table[name].to_numpy() for name in table}
    scalars |= {
        "jetMass": (table["jetPt"] * rng.uniform(0.08, 0.2, jets)).to_numpy(),
        "jetArea": rng.normal(0.5, 0.03, jets),
        "QG_mult": inside.astype(np.int32),
        "QG_ptD": rng.beta(4, 8, jets),
        "QG_axis2": rng.gamma(4, 0.01, jets),
    }
    return ak.with_field(ak.zip(scalars), particles, "particles")
