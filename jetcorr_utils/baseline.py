"""The standard corrections L1 and L2L3: derived from simulated jets, stored as correctionlib JSON, applied, checked.

They are what the networks are compared with, made in the way of CMS (arXiv:1607.03663):

* L1 takes off the offset from pileup, which grows with the density rho and the jet's area;
* L2L3 divides by the median response in eta and pt. The response is measured as a function of the generator's pt, but
  what one knows of a jet is its reconstructed pt: the correction is inverted numerically from one to the other.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import correctionlib
import correctionlib.schemav2 as schema
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .correction_files import read_corrections
from .errors import InputError
from .files import atomic_path

__all__ = ["StandardCorrection", "derive", "load_correction", "response_table", "write_correction"]

#: Edges in abs(eta) of the bins that have a correction of their own; those of CMS's towers, in pairs.
ETA_EDGES = np.array([0.0, 0.261, 0.522, 0.783, 1.044, 1.305, 1.566, 1.83, 2.043, 2.322, 2.65])
#: Edges in the generator's pt, GeV, of the bins in which the response is measured.
PT_EDGES = np.array([15, 20, 25, 30, 37, 46, 58, 75, 100, 140, 200, 290, 420, 600, 850, 1200, 1700, 2500, 4000.0])
#: Fewest jets of a bin that is used.
MIN_JETS = 30
_DEGREE = 5
_COLUMNS = ("raw_pt", "eta", "area", "rho", "gen_pt")

Jets = Mapping[str, NDArray]


@dataclass(frozen=True)
class StandardCorrection:
    """L1 and L2L3, ready to be applied."""

    corrections: correctionlib.CorrectionSet

    def __call__(self, raw_pt: NDArray, eta: NDArray, area: NDArray, rho: NDArray) -> NDArray:
        """Corrected over raw pt, array (j,), of jets with raw pt (GeV), eta, area and rho (GeV), each (j,)."""
        return _evaluate(self.corrections.compound["L1L2L3"], raw_pt, eta, area, rho)

    def offset(self, raw_pt: NDArray, eta: NDArray, area: NDArray, rho: NDArray) -> NDArray:
        """The part of it that is L1, which takes off the offset from pileup; arguments as for the whole."""
        return _evaluate(self.corrections["L1FastJet"], raw_pt, eta, area, rho)


def _evaluate(
    correction: correctionlib.highlevel.Correction | correctionlib.highlevel.CompoundCorrection,
    raw_pt: NDArray, eta: NDArray, area: NDArray, rho: NDArray,
) -> NDArray:  # fmt: skip
    return np.asarray(correction.evaluate(*(np.asarray(x, dtype=float) for x in (area, eta, raw_pt, rho))))


def load_correction(path: str | Path) -> StandardCorrection:
    """Read corrections from a correctionlib file, .json or .json.gz.

    Raises
    ------
    InputError
        If the file is missing, is not a correctionlib file, or has no correction named L1L2L3.
    """
    corrections = read_corrections(path)
    if "L1L2L3" not in corrections.compound:
        raise InputError(f"corrections {path}: the correction L1L2L3 is missing; it has {', '.join(corrections)}")
    return StandardCorrection(corrections)


def write_correction(corrections: schema.CorrectionSet, path: str | Path) -> Path:
    """Write corrections to a compressed correctionlib file; equal corrections give equal bytes."""
    text = corrections.model_dump_json(exclude_unset=True, indent=1).encode()
    with atomic_path(path) as temporary:
        temporary.write_bytes(gzip.compress(text, mtime=0))
    return Path(path)


def derive(jets: Jets, rho_without_pileup: float, description: str) -> schema.CorrectionSet:
    """Derive L1 and L2L3 from matched jets.

    Parameters
    ----------
    jets
        Columns raw_pt, eta, area, rho, gen_pt, each (j,): all jets that have a generator jet, unselected.
    rho_without_pileup
        Density of events without pileup (GeV), from the underlying event, which is not subtracted.
    description
        Where the jets come from; stored in the file.
    """
    jets = _checked(jets)
    slopes = np.array([_offset_slope(jets, low, high) for low, high in _bins(ETA_EDGES)])
    l1 = _l1_correction(slopes, rho_without_pileup)
    factor = correctionlib.CorrectionSet(schema.CorrectionSet(schema_version=2, corrections=[l1]))[
        "L1FastJet"
    ].evaluate(jets["area"], jets["eta"], jets["raw_pt"], jets["rho"])
    offset_corrected = jets["raw_pt"] * factor
    nodes = [
        _inverse_response(offset_corrected[inside], jets["gen_pt"][inside])
        for inside in (_in_eta(jets, low, high) for low, high in _bins(ETA_EDGES))
    ]
    compound = schema.CompoundCorrection(
        name="L1L2L3", description="L1, then L2L3 of the result: corrected over raw pt",
        inputs=[_AREA, _ETA, _PT, _RHO], output=_FACTOR,
        inputs_update=["JetPt"], input_op="*", output_op="*", stack=["L1FastJet", "L2L3"],
    )  # fmt: skip
    return schema.CorrectionSet(
        schema_version=2, description=description, corrections=[l1, _l2l3_correction(nodes)],
        compound_corrections=[compound],
    )  # fmt: skip


_AREA = schema.Variable(name="JetA", type="real", description="jet area")
_ETA = schema.Variable(name="JetEta", type="real", description="jet eta")
_PT = schema.Variable(name="JetPt", type="real", description="jet pt before this correction, GeV")
_RHO = schema.Variable(name="Rho", type="real", description="rho of all candidates, GeV")
_FACTOR = schema.Variable(name="factor", type="real", description="factor on the jet's four-momentum")


def _bins(edges: NDArray) -> list[tuple[float, float]]:
    return list(itertools.pairwise(edges))


def _in_eta(jets: Jets, low: float, high: float) -> NDArray:
    return (np.abs(jets["eta"]) >= low) & (np.abs(jets["eta"]) < high)


def _checked(jets: Jets) -> dict[str, NDArray]:
    for name in _COLUMNS:
        if name not in jets:
            raise InputError(f"jets for the standard corrections: the column {name} is missing")
    columns = {name: np.asarray(jets[name], dtype=float) for name in _COLUMNS}
    finite = np.all([np.isfinite(values) for values in columns.values()], axis=0)
    if not finite.all():
        raise InputError(f"jets for the standard corrections: {np.sum(~finite)} of {len(finite)} have no finite values")
    return columns


def _offset_slope(jets: Jets, low: float, high: float) -> float:
    """Offset per unit of area and rho: slope of the median of (raw - gen pt) / area with rho, of soft jets."""
    used = _in_eta(jets, low, high) & (jets["gen_pt"] > 20) & (jets["gen_pt"] < 60)
    if used.sum() < 10 * MIN_JETS:
        raise InputError(
            f"jets for the standard corrections: only {used.sum()} with abs(eta) {low} to {high}, need 300"
        )
    rho, offset = jets["rho"][used], ((jets["raw_pt"] - jets["gen_pt"]) / jets["area"])[used]
    edges = np.quantile(rho, np.linspace(0, 1, 9))
    group = np.clip(np.searchsorted(edges, rho, side="right") - 1, 0, 7)
    x = np.array([np.mean(rho[group == i]) for i in range(8)])
    y = np.array([np.median(offset[group == i]) for i in range(8)])
    return float(np.polyfit(x, y, 1)[0])


def _mirrored(contents: list) -> schema.Binning:
    """A binning in eta with the same contents on both sides; jets beyond the last edge take the last bin."""
    edges = np.concatenate([-ETA_EDGES[:0:-1], ETA_EDGES])
    return schema.Binning(
        nodetype="binning", input="JetEta", edges=[float(e) for e in edges], content=contents[::-1] + contents,
        flow="clamp",
    )  # fmt: skip


def _l1_correction(slopes: NDArray, rho_without_pileup: float) -> schema.Correction:
    contents = [
        schema.Formula(
            nodetype="formula", expression=f"max(1-x*{slope:.6g}*max(z-{rho_without_pileup:.6g},0)/y,0.05)",
            parser="TFormula", variables=["JetA", "JetPt", "Rho"],
        )
        for slope in slopes
    ]  # fmt: skip
    return schema.Correction(
        name="L1FastJet", version=1, inputs=[_AREA, _ETA, _PT, _RHO], output=_FACTOR,
        description="takes off the offset from pileup: slope(eta) x area x (rho - rho without pileup)",
        data=_mirrored(contents),
    )  # fmt: skip


def _l2l3_correction(nodes: list) -> schema.Correction:
    return schema.Correction(
        name="L2L3", version=1, inputs=[_ETA, _PT], output=_FACTOR, data=_mirrored(nodes),
        description="inverse of the median response to generator jets, as a function of the pt after L1",
    )  # fmt: skip


def _inverse_response(pt: NDArray, gen_pt: NDArray) -> schema.Formula:
    """The correction of one eta bin: a polynomial in log10(pt after L1), constant beyond the last bins."""
    table = response_table(pt, gen_pt, PT_EDGES)
    table = table[table.jets >= MIN_JETS]
    if len(table) < _DEGREE + 1:
        raise InputError("jets for the standard corrections: too few bins of pt have enough jets; simulate more")
    weight = 1 / table.error.to_numpy()
    degree = min(_DEGREE, len(table) - 2)
    response = np.polynomial.Polynomial.fit(np.log10(table.gen_pt), table["median"], degree, w=weight)
    gen = np.geomspace(table.gen_pt.iloc[0], table.gen_pt.iloc[-1], 200)
    reco = gen * response(np.log10(gen))  # the inversion: a jet of this pt after L1 has, in the median, this gen pt
    rising = np.maximum.accumulate(reco) == reco
    low, high = reco[rising][[0, -1]]
    factor = np.polynomial.Polynomial.fit(np.log10(reco[rising]), (gen / reco)[rising], 7).convert()
    x = f"log10(max(min(x,{high:.6g}),{low:.6g}))"
    expression = f"{factor.coef[-1]:.10g}"
    for coefficient in factor.coef[-2::-1]:
        expression = f"{coefficient:.10g}+{x}*({expression})"
    return schema.Formula(nodetype="formula", expression=expression, parser="TFormula", variables=["JetPt"])


def response_table(pt: NDArray, gen_pt: NDArray, edges: NDArray) -> pd.DataFrame:
    """Median response pt / gen_pt with its error in bins of gen_pt.

    Returns columns low, high, gen_pt (the mean), jets, median, error (asymptotic error of a median: 1.25 of that of a
    mean, with the spread taken from the quartiles), and width, the interquartile range over the median.
    """
    rows = []
    for low, high in _bins(np.asarray(edges, dtype=float)):
        inside = (gen_pt >= low) & (gen_pt < high)
        if inside.sum() < 2:
            continue
        q25, q50, q75 = np.quantile(pt[inside] / gen_pt[inside], [0.25, 0.5, 0.75])
        error = max(1.2533 * (q75 - q25) / 1.349 / np.sqrt(inside.sum()), 1e-6)
        rows.append((low, high, gen_pt[inside].mean(), int(inside.sum()), q50, error, (q75 - q25) / q50))
    return pd.DataFrame(rows, columns=["low", "high", "gen_pt", "jets", "median", "error", "width"])
