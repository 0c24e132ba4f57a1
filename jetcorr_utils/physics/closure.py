"""Residual closure: a last correction after the network, as experiments apply one, derived on the validation split.

A network that minimises the absolute error makes the median of gen pt / pt right at a given *corrected* pt; closure
asks for the median response at a given *generator* pt, which differs because the resolution folds the spectrum
(Cukierman and Nachman, arXiv:1609.05195). So the median response is measured in bins of gen pt and abs(eta) and divided
out as a function of the corrected pt, piecewise linear in log(pt). Beside it stands the factor that makes the width of
the pull one. Both are kept, and applied, as correctionlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import correctionlib
import numpy as np
import pandas as pd
from correctionlib import schemav2
from numpy.typing import NDArray

from ..correct.residual import residual_factors
from ..correction_files import content_of
from ..errors import InputError
from ..files import write_text
from .binning import PT_EDGES_ABOVE_CUT
from .measurement import ONE_SIGMA, pull
from .predictions import corrected_pt, pt_branch

__all__ = ["CLOSED", "apply_closure", "derive_closure", "l2_relative", "load_closure", "save_closure"]

#: what the name of a closed correction ends with
CLOSED = "_closed"

#: edges in abs(eta) of the corrected jet
ABS_ETA_EDGES = (0.0, 1.3, 2.5)

#: how often the remaining non-closure is divided out
ITERATIONS = 4

#: nodes in pt (GeV, ascending) and the values there
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]

#: edges in gen pt, GeV; bins with few jets are merged with the next. They begin where closure is measured: nearer to 30
#: GeV the cut on the reconstructed pt would be taken for a response.
GEN_PT_EDGES = np.geomspace(PT_EDGES_ABOVE_CUT[0], 3500.0, 25)


def derive_closure(
    validation: pd.DataFrame,
    corrections: Sequence[str],
    *,
    gen_pt_edges: NDArray[np.float64] = GEN_PT_EDGES,
    min_jets: int = 1000,
) -> schemav2.CorrectionSet:
    """Derive the residual correction of each network (or of ``standard``) on jets that no network was trained on.

    Parameters
    ----------
    validation
        Predictions of the validation split.
    corrections
        Names of models, or ``standard``.
    gen_pt_edges
        Edges of the bins in gen pt (GeV).
    min_jets
        A bin of gen pt takes in the next ones until it has as many jets: noise in the factors would widen the response.

    Returns
    -------
    A correctionlib set with a correction ``<name>`` (factor on pt) for each, and ``<name>_sigma`` (factor on sigma) for
    each model, as functions of ``abs_eta`` and the ``pt`` (GeV) after the network.

    Raises
    ------
    InputError
        If a range of abs(eta) has fewer than `min_jets` jets.
    """
    abs_eta = validation["jetEta"].abs().to_numpy(dtype=np.float64)
    result = []
    for name in corrections:
        pt, gen_pt = corrected_pt(validation, name), validation["genJetPt"].to_numpy(dtype=np.float64)
        curves, widths = [], []
        for low, high in pairwise(ABS_ETA_EDGES):
            inside = (abs_eta >= low) & (abs_eta < high) & (gen_pt >= gen_pt_edges[0])
            if inside.sum() < min_jets:
                raise InputError(
                    f"closure of {name}: {inside.sum()} validation jets in {low:g} < abs(eta) < {high:g}, "
                    f"at least {min_jets} are needed"
                )
            groups = _groups(gen_pt[inside], gen_pt_edges, min_jets)
            curves.append(_curve(pt[inside], gen_pt[inside], groups))
            if f"{name}_sigma" in validation:
                pulls = pull(validation[inside], name)
                # The width is around the median: the shift is what the factor on pt corrects.
                width = [np.diff(np.quantile(pulls[group], ONE_SIGMA))[0] / 2 for group in groups]
                widths.append((curves[-1][0], np.array(width)))
        result.append(_correction(name, "factor on pt after the network", curves))
        if widths:
            result.append(_correction(f"{name}_sigma", "factor on sigma", widths))
    return schemav2.CorrectionSet(schema_version=2, description="jetcorr residual closure", corrections=result)


def l2_relative(corrections: schemav2.CorrectionSet) -> schemav2.CorrectionSet:
    """The residual corrections of networks on pt as CMS has such: ``<name>_MC_L2Relative_AK4PF``.

    They depend on ``JetEta``, of either sign, and on ``JetPt``, GeV, which is raw pt × the network's factor. The
    corrected pt is raw pt × factor × L2Relative (CMS-DP-2024-064 does the same after its ParticleNet).
    """
    found = []
    for closure in corrections.corrections:
        if closure.name == "standard" or closure.name.endswith("_sigma"):
            continue
        data: Any = closure.data  # what `_correction` makes
        positive = [_of_variable(content, "JetPt") for content in data.content]
        edges = [-edge for edge in data.edges[:0:-1]] + list(data.edges)
        found.append(
            schemav2.Correction(
                name=f"{closure.name}_MC_L2Relative_AK4PF", version=1,
                inputs=[
                    schemav2.Variable(name="JetEta", type="real", description="eta of the jet"),
                    schemav2.Variable(name="JetPt", type="real", description="raw pt × the network's factor, GeV"),
                ],
                output=closure.output, data=_binning("JetEta", edges, positive[::-1] + positive),
            )
        )  # fmt: skip
    return schemav2.CorrectionSet(schema_version=2, description="jetcorr L2Relative", corrections=found)


def _of_variable(data: schemav2.Binning, name: str) -> schemav2.Binning:
    """The same function of a variable of another name."""
    content = [
        part.model_copy(update={"variables": [name]}) if isinstance(part, schemav2.Formula) else part
        for part in data.content
    ]
    return data.model_copy(update={"input": name, "content": content})


def save_closure(corrections: schemav2.CorrectionSet, path: str | Path) -> Path:
    """Write the corrections as correctionlib JSON, complete or not at all."""
    return write_text(path, corrections.model_dump_json(exclude_unset=True, indent=1) + "\n")


def load_closure(path: str | Path) -> schemav2.CorrectionSet:
    """Read what `save_closure` wrote.

    Raises
    ------
    InputError
        If the file is missing or is no correctionlib JSON.
    """
    try:
        return schemav2.CorrectionSet.model_validate_json(content_of(path))
    except (OSError, ValueError) as error:
        raise InputError(f"closure {path}: {' '.join(str(error).split())[:160]}") from None


def apply_closure(predictions: pd.DataFrame, corrections: schemav2.CorrectionSet) -> pd.DataFrame:
    """The predictions with ``<name>_closed_pt``, ``_factor`` and, for models, ``_sigma`` for each correction."""
    evaluator = correctionlib.CorrectionSet.from_string(corrections.model_dump_json(exclude_unset=True))
    abs_eta = predictions["jetEta"].abs().to_numpy(dtype=np.float64)
    columns = {}
    for name in (key for key in evaluator if not key.endswith("_sigma")):
        pt = corrected_pt(predictions, name)
        value, width = residual_factors(evaluator, name, abs_eta, pt)
        closed = name + CLOSED
        columns[pt_branch(closed)] = pt * value
        columns[f"{closed}_factor"] = pt * value / predictions["jetPt"].to_numpy(dtype=np.float64)
        if width is not None:
            columns[f"{closed}_sigma"] = predictions[f"{name}_sigma"].to_numpy(dtype=np.float64) * width
    return predictions.assign(**columns)


def _groups(gen_pt: NDArray[np.float64], edges: NDArray[np.float64], min_jets: int) -> list[NDArray[np.int64]]:
    """Indices of the jets in bins of gen pt, merged upwards until each has `min_jets`."""
    order = np.argsort(gen_pt, kind="stable")
    cuts = np.searchsorted(gen_pt[order], edges)
    kept = [cuts[0]]
    for cut in cuts[1:]:
        if cut - kept[-1] >= min_jets:
            kept.append(cut)
    if len(kept) == 1:
        return [order]
    # What is left at the upper end joins the last bin.
    kept[-1] = cuts[-1]
    return [order[low:high] for low, high in pairwise(kept)]


def _curve(pt: NDArray[np.float64], gen_pt: NDArray[np.float64], groups: list[NDArray[np.int64]]) -> Curve:
    """Nodes in pt (GeV, ascending) and the factors there that close the median response in each group."""
    nodes = np.array([np.median(pt[group]) for group in groups])
    factors = np.ones(len(nodes))
    for _ in range(ITERATIONS):
        closed = pt * np.interp(np.log(pt), np.log(nodes), factors)
        factors = factors / np.array([np.median(closed[group] / gen_pt[group]) for group in groups])
    return nodes, factors


def _correction(name: str, what: str, curves: list[Curve]) -> schemav2.Correction:
    """A correction in abs(eta) × pt, piecewise linear in log(pt) between nodes, constant beyond them."""
    return schemav2.Correction(
        name=name,
        version=1,
        inputs=[
            schemav2.Variable(name="abs_eta", type="real", description="abs(eta) of the jet"),
            schemav2.Variable(name="pt", type="real", description="jet pt after the network, GeV"),
        ],
        output=schemav2.Variable(name="factor", type="real", description=what),
        data=_binning("abs_eta", list(ABS_ETA_EDGES), [_lines(*curve) for curve in curves]),
    )


def _binning(variable: str, edges: list[float], content: list[Any]) -> schemav2.Binning:
    """A content for each bin; beyond the ends that of the last one."""
    return schemav2.Binning(nodetype="binning", input=variable, edges=edges, content=content, flow="clamp")


def _lines(nodes: NDArray[np.float64], values: NDArray[np.float64]) -> schemav2.Binning:
    x = np.log(nodes)
    slopes = np.diff(values) / np.diff(x)
    pieces: list[float | schemav2.Formula] = [float(values[0])]
    for start, value, slope in zip(x[:-1], values[:-1], slopes, strict=True):
        pieces.append(
            schemav2.Formula(
                nodetype="formula",
                expression="[0]+[1]*log(x)",
                parser="TFormula",
                variables=["pt"],
                parameters=[float(value - slope * start), float(slope)],
            )
        )
    pieces.append(float(values[-1]))
    return _binning("pt", [0.0, *map(float, nodes), 1e6], pieces)
