"""Response histograms: a coffea processor that reads predictions chunk by chunk, and quantiles of what it filled.

The histogram has an axis for the correction, gen pt, abs(gen eta), flavour and the response, with whole-number counts:
so any executor, any chunk size and any split into files give exactly equal histograms, and histograms of different
files add up. Medians and quantiles are read off the fine response axis by linear interpolation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import awkward as ak
import hist
import numpy as np
import pandas as pd
from coffea import processor
from coffea.nanoevents import BaseSchema
from coffea.processor.executor import WorkItem
from numpy.typing import NDArray

from ..bootstrap import event_keys, poisson_weights
from ..data.locations import each_once
from ..errors import InputError
from ..jets.flavours import paper_flavour
from .binning import PT_EDGES
from .predictions import JETS, REQUIRED, predictions_tree, pt_branch

__all__ = [
    "ResponseProcessor", "bootstrap_histogram", "corrections_in", "fill_response", "histogram_quantiles",
    "quantile_table", "response_histogram",
]  # fmt: skip

Executor = Literal["iterative", "futures", "dask"]

#: edges of abs(gen eta)
ABS_ETA_EDGES = (0.0, 1.3, 2.5)

#: the response axis: 2000 bins of 0.001
RESPONSE_AXIS = (2000, 0.0, 2.0)


def response_histogram(corrections: Sequence[str], pt_edges: Sequence[float]) -> hist.Hist:
    """An empty histogram of whole-number counts: correction × gen pt × abs(gen eta) × flavour × response."""
    return hist.Hist(
        hist.axis.StrCategory(list(corrections), name="correction"), _pt_axis(pt_edges),
        hist.axis.Variable(ABS_ETA_EDGES, name="abs_eta", label=r"$|\eta^\mathrm{gen}|$", underflow=False),
        hist.axis.IntCategory([0, 1, 2, 3, 4, 5, 21], name="flavour"), _response_axis(), storage=hist.storage.Int64(),
    )  # fmt: skip


def bootstrap_histogram(corrections: Sequence[str], replicas: int, pt_edges: Sequence[float]) -> hist.Hist:
    """An empty histogram of whole-number counts: correction × gen pt × replica × response, for streamed errors."""
    return hist.Hist(
        hist.axis.StrCategory(list(corrections), name="correction"), _pt_axis(pt_edges),
        hist.axis.Integer(0, replicas, name="replica", underflow=False, overflow=False), _response_axis(),
        storage=hist.storage.Int64(),
    )  # fmt: skip


class ResponseProcessor(processor.ProcessorABC):
    """Fills response histograms from chunks of a predictions tree.

    Parameters
    ----------
    corrections
        ``raw``, ``standard`` or names of models.
    pt_edges
        Edges in gen pt, GeV.
    replicas
        Of the Poisson bootstrap that is filled along; a replica takes 0.3 MB for each correction.
    """

    def __init__(self, corrections: Sequence[str], pt_edges: Sequence[float], replicas: int) -> None:
        self.corrections = tuple(corrections)
        self.pt_edges = tuple(float(edge) for edge in pt_edges)
        self.replicas = replicas

    def process(self, events: ak.Array) -> dict[str, Any]:
        """One chunk's histograms, ``response`` and ``bootstrap``."""
        column = {name: ak.to_numpy(events[name]) for name in REQUIRED}
        matched = column["genJetPt"] > 0
        column = {name: values[matched] for name, values in column.items()}
        gen_pt = column["genJetPt"].astype(np.float64)
        abs_eta, flavour = np.abs(column["genJetEta"]), paper_flavour(column["hadronFlav"], column["partonFlav"])
        weights = poisson_weights(event_keys(column["run"], column["lumi"], column["event"]), self.replicas)
        filled = response_histogram(self.corrections, self.pt_edges)
        bootstrap = bootstrap_histogram(self.corrections, self.replicas, self.pt_edges) if self.replicas else None
        for name in self.corrections:
            values = ak.to_numpy(events[pt_branch(name)])[matched].astype(np.float64) / gen_pt
            filled.fill(correction=name, gen_pt=gen_pt, abs_eta=abs_eta, flavour=flavour, response=values)
            for replica, weight in enumerate(weights):
                bootstrap.fill(name, gen_pt, replica, values, weight=weight.astype(np.int64))
        return {"response": filled} | ({"bootstrap": bootstrap} if self.replicas else {})

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Nothing is left to do when all chunks are added up."""
        return accumulator


def fill_response(
    files: Sequence[str | Path],
    corrections: Sequence[str],
    *,
    pt_edges: Sequence[float] = tuple(PT_EDGES),
    replicas: int = 0,
    executor: Executor = "iterative",
    workers: int = 2,
    client: Any = None,
    chunk_size: int = 100_000,
    progress: bool = True,
) -> dict[str, hist.Hist]:
    """Fill response histograms from any number of predictions files.

    Parameters
    ----------
    files
        Paths or URLs of predictions files, or patterns of them.
    corrections
        ``raw``, ``standard`` or names of models.
    executor
        ``iterative``, ``futures`` (with `workers` processes) or ``dask`` (with a ``distributed.Client`` as `client`).
    replicas
        Of the Poisson bootstrap that is filled along.

    Returns
    -------
    ``{"response": …}``, see `response_histogram`, and ``"bootstrap"``, see `bootstrap_histogram`, if replicas are asked
    for.

    Raises
    ------
    InputError
        If there is no file, or one that cannot be read or lacks a branch, or no jet with a generator jet.
    """
    if not files:
        raise InputError("no predictions file to fill the response from")
    files = each_once(files)
    chunks = [chunk for path in files for chunk in _chunks(path, corrections, chunk_size)]
    run = processor.Runner(
        _executor(executor, workers, client, progress),
        pre_executor=processor.IterativeExecutor(status=False, retries=0), schema=BaseSchema,
    )  # fmt: skip
    output = run(chunks, processor_instance=ResponseProcessor(corrections, pt_edges, replicas)) if chunks else {}
    if not output or not output["response"].sum(flow=True):
        raise InputError(f"{', '.join(map(str, files))}: no jet has a generator jet to compare with")
    return dict(output)


def histogram_quantiles(
    histogram: hist.Hist, probabilities: Sequence[float] = (0.25, 0.5, 0.75)
) -> NDArray[np.float64]:
    """Quantiles along the last axis, interpolated within bins.

    Parameters
    ----------
    histogram
        Whose last axis is the response; the others stay.
    probabilities
        (Q,).

    Returns
    -------
    (…, Q); NaN where a histogram is empty. Underflow and overflow count; a quantile there is the axis' end.
    """
    axis = histogram.axes[-1]
    inner = tuple(slice(int(a.traits.underflow), int(a.traits.underflow) + a.size) for a in histogram.axes[:-1])
    counts = histogram.view(flow=True)[inner]
    # What lies beyond the ends is put at the ends.
    edges = np.concatenate([[axis.edges[0]], axis.edges, [axis.edges[-1]]])
    cumulative = np.concatenate([np.zeros((*counts.shape[:-1], 1)), np.cumsum(counts, axis=-1)], axis=-1)
    flat = cumulative.reshape(-1, cumulative.shape[-1])
    result = np.full((len(flat), len(probabilities)), np.nan)
    for number, row in enumerate(flat):
        if row[-1] > 0:
            result[number] = np.interp(np.asarray(probabilities) * row[-1], row, edges)
    return result.reshape(*counts.shape[:-1], len(probabilities))


def quantile_table(histograms: Mapping[str, hist.Hist], correction: str) -> pd.DataFrame:
    """Median and resolution (IQR / median) of a correction against gen pt, with errors if a bootstrap was filled.

    Returns
    -------
    DataFrame with a row for each bin of gen pt: ``low, high, median, resolution`` and their ``_error``.
    """
    response = histograms["response"][{"correction": correction, "abs_eta": sum, "flavour": sum}]
    edges = response.axes["gen_pt"].edges
    table = {"low": edges[:-1], "high": edges[1:]}
    low, table["median"], high = np.moveaxis(histogram_quantiles(response), -1, 0)
    table["resolution"] = (high - low) / table["median"]
    if "bootstrap" in histograms:
        low, median, high = np.moveaxis(histogram_quantiles(histograms["bootstrap"][{"correction": correction}]), -1, 0)
        table |= {"median_error": median.std(1, ddof=1), "resolution_error": ((high - low) / median).std(1, ddof=1)}
    return pd.DataFrame(table)


def corrections_in(path: str | Path) -> list[str]:
    """The corrections that a predictions file has: the standard one, and those of models."""
    with predictions_tree(path) as tree:
        return ["standard", *(name.removesuffix("_sigma") for name in tree.keys(filter_name="*_sigma"))]


def _chunks(path: str | Path, corrections: Sequence[str], size: int) -> list[WorkItem]:
    """What the processor works on of a file; one that it would fail on is refused, with its name.

    Chunks that coffea makes by itself are of files with names of ASCII characters only.
    """
    with predictions_tree(path) as tree:
        missing = [name for name in (*REQUIRED, *map(pt_branch, corrections)) if name not in tree]
        entries = tree.num_entries
    if missing:
        raise InputError(f"{path}: tree {JETS!r} has no branch {missing[0]!r}")
    starts = range(0, entries, size)
    return [WorkItem("jets", str(path), JETS, start, min(start + size, entries), "", {}) for start in starts]


def _pt_axis(edges: Sequence[float]) -> hist.axis.Variable:
    return hist.axis.Variable(edges, name="gen_pt", label=r"$p_\mathrm{T}^\mathrm{gen}$ [GeV]")


def _response_axis() -> hist.axis.Regular:
    label = r"$p_\mathrm{T}^\mathrm{corr}/p_\mathrm{T}^\mathrm{gen}$"
    return hist.axis.Regular(*RESPONSE_AXIS, name="response", label=label)


def _executor(name: Executor, workers: int, client: Any, progress: bool) -> Any:
    if name == "iterative":
        return processor.IterativeExecutor(status=progress, retries=0)
    if name == "futures":
        return processor.FuturesExecutor(workers=workers, status=progress)
    if name == "dask":
        return processor.DaskExecutor(client=client, status=progress)
    raise InputError(f"executor {name!r} is not one of iterative, futures, dask")
