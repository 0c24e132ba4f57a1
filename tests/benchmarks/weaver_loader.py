"""The peer of the benchmarks of reading: weaver-core's SimpleIterDataset on the same files.

Its data configuration makes what our networks compute themselves: the same particles, features and jets, standardised
with the same constants and padded to 100 particles, as weaver's networks take them.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from torch.utils.data import DataLoader

from jetcorr_utils.jets.columns import TREE
from jetcorr_utils.models.inputs import CloudInputs
from tests.benchmarks.weaver_peer import weaver

__all__ = ["read_epoch", "write_config"]

WIDTH = 100
_IDS = {"charged_hadron": 211, "neutral_hadron": 130, "photon": 22, "electron": 11, "muon": 13}
_CUTS = "(jetPt > 30) & (genJetPt > 20) & (np.abs(jetEta) < 2.5) & (np.abs(genJetEta) < 2.5)"
_PARTICLES = {
    "log_pt": "np.log(pt)", "log_pt_over_jet": "np.log(pt / jetPt)", "d_eta": "eta * 1", "d_phi": "phi * 1",
    "d_r": "np.sqrt(eta**2 + phi**2)", "abs_eta": "np.abs(eta + jetEta)", "mass": "PF_mass[own]",
    **{name: f"np.abs(pdg) == {code}" for name, code in _IDS.items()}, "forward": "np.abs(pdg) <= 2",
    **{f"from_pv_{code}": f"from_pv == {code}" for code in range(4)}, "from_jet": "ak.ones_like(pt)",
}  # fmt: skip
_JETS = {
    "jet_log_pt": "np.log(jetPt)", "jet_abs_eta": "np.abs(jetEta)",
    "jet_mass": "np.log(np.maximum(jetMass / jetPt, 1e-3))",
    "area": "jetArea * 1", "jet_raw": "np.log(jetPt / jetRawPt)", "rho": "rhoAll * 1", "vertices": "PV_npvsGood * 1",
    "ptd": "QG_ptD * 1", "axis2": "np.log(np.maximum(QG_axis2, 1e-3))", "mult": "np.log1p(QG_mult)",
}  # fmt: skip
_CANDIDATES = {"pt": "PF_pT", "eta": "PF_dEta", "phi": "PF_dPhi", "pdg": "PF_id", "from_pv": "PF_fromPV"}


def write_config(path: Path, inputs: CloudInputs) -> Path:
    """Write weaver's data configuration; `inputs` gives the constants of the standardisation."""
    variables = {"own": "PF_fromAK4Jet > 0"} | {name: f"{branch}[own]" for name, branch in _CANDIDATES.items()}
    variables |= {**_PARTICLES, **_JETS, "pf_mask": "ak.ones_like(pt)", "target": "np.log(genJetPt / jetPt)"}
    variables["flavour"] = "np.where(hadronFlav != 0, hadronFlav, np.abs(partonFlav))"

    def standardised(names: dict[str, str], kind: str) -> list[list]:
        constants = zip(*(getattr(inputs, f"{kind}_{what}").tolist() for what in ("mean", "scale")), strict=True)
        return [[name, mean, 1 / scale, -1e9, 1e9] for name, (mean, scale) in zip(names, constants, strict=True)]

    groups = {
        "pf_points": (WIDTH, [["eta", None], ["phi", None]]),
        "pf_features": (WIDTH, standardised(_PARTICLES, "particle")),
        "pf_mask": (WIDTH, [["pf_mask", None]]),
        "jet_features": (None, standardised(_JETS, "jet")),
    }
    config = {
        "treename": TREE, "selection": _CUTS, "new_variables": variables, "preprocess": {"method": "manual"},
        "inputs": {name: {"length": length, "vars": names} for name, (length, names) in groups.items()},
        "labels": {"type": "custom", "value": {"label": "target"}},
        "monitor_variables": ["flavour", "genJetPt"],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def read_epoch(file: Path, config: Path, batch_size: int, fetch_step: float) -> int:
    """One epoch in this process; returns the number of jets.

    `fetch_step` is the share of the file that is read at once: 0.01 is weaver's default; 1, the whole file, is fastest,
    since each basket is then decompressed once.
    """
    weaver()
    from weaver.utils.dataset import SimpleIterDataset

    data = SimpleIterDataset({"_": [str(file)]}, str(config), fetch_step=fetch_step, async_load=False, name="train")
    return sum(len(labels["label"]) for _, labels, _ in DataLoader(data, batch_size=batch_size))
