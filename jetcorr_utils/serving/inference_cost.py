"""What an inference costs, and where the time goes: the client's clock beside the server's own statistics.

Triton's statistics extension counts, for each model, requests and the nanoseconds that they spent in the queue and in
the three parts of the computation. They are sums over requests; divided by the number of *jets* they are times a jet.
What the client waits for beyond them is overhead: serialisation, network, HTTP or gRPC.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http.client import HTTPException

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..addresses import open_directly
from ..data.dataset import Clouds
from ..errors import ServerError
from ..inference.padding import pad
from ..inference.predictor import Predictor, taken_by
from ..inference.triton_predictor import TritonPredictor
from ..metrics import METRICS

__all__ = [
    "PUBLISHED_JETS_PER_S", "TITLES", "breakdown", "inference_metrics", "measure_inference", "measure_multiplicity",
    "prometheus_metrics", "speed_table", "usage",
]  # fmt: skip

PUBLISHED_JETS_PER_S = {
    ("pfn", "CPU"): {256: 2226, 1024: 3086}, ("particlenet", "CPU"): {256: 210, 1024: 310},
    ("pfn", "GPU"): {256: 15065, 1024: 27929}, ("particlenet", "GPU"): {256: 1719, 1024: 1805},
}  # fmt: skip
"""Jets/s by batch size of the published calibration (`deinal/jec-inference`): Triton 21.09, one serial HTTP client."""

TITLES = {
    "batch_size": "jets in a request", "jets_per_s": METRICS["jets_per_s"].label, "latency_ms": "latency [ms]",
    "wall": "total [µs/jet]", "queue": "queue [µs/jet]", "model": "model [µs/jet]", "overhead": "overhead [µs/jet]",
    "packing": "packing [µs/jet]", "network": "network [µs/jet]", "compute_input": "input [µs/jet]",
    "compute_infer": "model [µs/jet]", "compute_output": "output [µs/jet]",
}  # fmt: skip
"""How tables call what is measured here, with its unit; the others keep their names."""

_PARTS = ("queue", "compute_input", "compute_infer", "compute_output")


def usage(predictor: TritonPredictor) -> dict[str, int]:
    """The server's totals for a model since it was loaded, over all of its versions.

    Returns
    -------
    dict
        ``requests``, ``jets`` and ``executions`` (a run of the model may serve several requests), and nanoseconds
        summed over requests: ``queue``, ``compute_input``, ``compute_infer``, ``compute_output``, ``success`` (all
        of a request's time in the server).
    """
    totals = dict.fromkeys(("requests", "jets", "executions", "failed", "success", *_PARTS), 0)
    for entry in predictor.statistics().get("model_stats", []):
        inference = entry.get("inference_stats", {})
        totals["jets"] += int(entry.get("inference_count", 0))
        totals["executions"] += int(entry.get("execution_count", 0))
        totals["requests"] += int(inference.get("success", {}).get("count", 0))
        totals["failed"] += int(inference.get("fail", {}).get("count", 0))
        for part in ("success", *_PARTS):
            totals[part] += int(inference.get(part, {}).get("ns", 0))
    return totals


def breakdown(predictor: TritonPredictor, action: Callable[[], object]) -> dict[str, float]:
    """Where the time of requests goes, by the server's statistics and this client's clock.

    Parameters
    ----------
    predictor
        That makes the requests; nobody else may use the model at the same time.
    action
        Makes them.

    Returns
    -------
    dict
        Microseconds a jet, summed over requests (which overlap): ``packing`` in the client, ``network`` (the way to the
        server and back, with HTTP or gRPC at both ends), ``queue``, ``input``, ``infer`` and ``output`` in the server.
    """
    before, clock_before = usage(predictor), predictor.clock()
    action()
    after, clock_after = usage(predictor), predictor.clock()
    spent = {name: after[name] - before[name] for name in after}
    clock = {name: clock_after[name] - clock_before[name] for name in clock_after}
    return _per_jet(spent, clock)


def _per_jet(spent: Mapping[str, int], clock: Mapping[str, int]) -> dict[str, float]:
    """Microseconds a jet from nanoseconds in the server and in the client."""
    scale = 1e-3 / max(clock["jets"], 1)
    parts = {part.removeprefix("compute_"): scale * spent[part] for part in _PARTS}
    network = scale * (clock["waiting"] - sum(spent[part] for part in _PARTS))
    return {"packing": scale * clock["packing"], "network": network, **parts}


def measure_inference(
    predictor: Predictor,
    clouds: Clouds,
    batch_sizes: Sequence[int] = (1, 16, 256, 1024),
    *,
    seconds: float = 2.0,
    progress: bool = True,
) -> pd.DataFrame:
    """Time requests of each batch size, one after the other, as the published measurement did.

    Parameters
    ----------
    predictor
        A server's, or one in this process (which has no queue, and computation is all of its time).
    clouds
        Jets to draw the batches from, at random.
    batch_sizes
        Jets in a request.
    seconds
        How long to go on with each batch size.

    Returns
    -------
    DataFrame
        One row a batch size: ``batch_size``, ``requests``, ``jets_per_s``, ``latency_ms`` (median of a request), and
        microseconds a jet: ``wall``, of which ``queue``, ``model`` (the server's computation), and ``overhead`` (the
        rest: ``packing`` in the client, and ``network``, the way to the server and back).
    """
    generator, clouds = np.random.default_rng(0), taken_by(predictor, clouds)
    rows = []
    for batch_size in tqdm(batch_sizes, desc=f"{predictor.name}: batch sizes", disable=not progress):
        batches = [pad(clouds, np.sort(generator.integers(0, len(clouds.ptr) - 1, batch_size))) for _ in range(4)]
        predictor.infer(batches[0])
        times: list[float] = []
        make_requests = partial(_time, predictor, batches, seconds, times)
        if isinstance(predictor, TritonPredictor):
            parts = breakdown(predictor, make_requests)
        else:
            make_requests()
            parts = {}
        rows.append({"batch_size": batch_size, **_row(times, batch_size, parts)})
    return pd.DataFrame(rows)


def measure_multiplicity(
    predictor: Predictor,
    clouds: Clouds,
    *,
    batch_size: int = 256,
    bins: int = 8,
    seconds: float = 1.0,
    progress: bool = True,
) -> pd.DataFrame:
    """Time requests of jets with few and with many particles.

    Parameters
    ----------
    predictor, clouds
        As in `measure_inference`.
    batch_size
        Jets in a request.
    bins
        Groups of equally many jets, by number of particles.
    seconds, progress
        As in `measure_inference`, for each group.

    Returns
    -------
    DataFrame
        One row a group: ``particles`` (mean number), ``wall`` (median over the requests, microseconds a jet), and
        ``low``, ``high`` (their quartiles).
    """
    generator, clouds = np.random.default_rng(0), taken_by(predictor, clouds)
    counts = np.diff(clouds.ptr)
    rows = []
    groups = np.array_split(np.argsort(counts, kind="stable"), min(bins, len(counts)))
    for group in tqdm(groups, desc=f"{predictor.name}: multiplicities", disable=not progress):
        chosen = [generator.choice(group, batch_size) for _ in range(4)]
        batches = [pad(clouds, rows) for rows in chosen]
        times: list[float] = []
        predictor.infer(batches[0])
        _time(predictor, batches, seconds, times)
        low, median, high = 1e6 * np.quantile(times, [0.25, 0.5, 0.75]) / batch_size
        rows.append({"particles": counts[np.concatenate(chosen)].mean(), "wall": median, "low": low, "high": high})
    return pd.DataFrame(rows)


def _time(predictor: Predictor, batches: Sequence[dict[str, NDArray]], seconds: float, times: list[float]) -> None:
    """Append the seconds that each request took."""
    start = time.perf_counter()
    while not times or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        predictor.infer(batches[len(times) % len(batches)])
        times.append(time.perf_counter() - begin)


def _row(times: Sequence[float], batch_size: int, parts: Mapping[str, float]) -> dict[str, float]:
    """A row of the table, from the client's times (s) and the parts of them (µs a jet; none without a server)."""
    wall = 1e6 * sum(times) / (len(times) * batch_size)
    model = sum(parts[name] for name in ("input", "infer", "output")) if parts else wall
    queue = parts.get("queue", 0.0)
    return {
        "requests": len(times), "jets_per_s": 1e6 / wall, "latency_ms": 1e3 * float(np.median(times)), "wall": wall,
        "queue": queue, "model": model, "overhead": wall - queue - model,
        "packing": parts.get("packing", 0.0), "network": parts.get("network", 0.0),
    }  # fmt: skip


def speed_table(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The tables of `measure_inference` by model as one for a reader, with `TITLES`."""
    return pd.concat(tables, names=["corrected by"]).droplevel(1).rename(columns=TITLES).reset_index()


def inference_metrics(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The part of metrics.json for one model, from the table of `measure_inference`."""
    return {
        str(row.batch_size): {
            "jets_per_s": row.jets_per_s, "model_us_per_jet": row.model, "queue_us_per_jet": row.queue,
            "overhead_us_per_jet": row.overhead, "latency_ms": row.latency_ms,
        }
        for row in table.itertuples()
    }  # fmt: skip


def prometheus_metrics(url: str) -> pd.DataFrame:
    """The server's Prometheus metrics: columns ``metric``, ``model``, ``version``, ``value``.

    Parameters
    ----------
    url
        ``host:port`` of the metrics, `TritonServer.metrics_url`. No proxy is asked for it.

    Raises
    ------
    ServerError
        If no server answers there.
    """
    try:
        with open_directly(f"http://{url}/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
    except (OSError, HTTPException) as error:  # URLError is an OSError
        reason = getattr(error, "reason", error)
        raise ServerError(f"Triton server does not answer at {url}/metrics: {reason}") from None
    rows = []
    for line in lines:
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            metric, _, labels = name.partition("{")
            pairs = dict(pair.split("=", 1) for pair in labels.rstrip("}").split(",") if "=" in pair)
            rows.append((metric, pairs.get("model", "").strip('"'), pairs.get("version", "").strip('"'), float(value)))
    return pd.DataFrame(rows, columns=["metric", "model", "version", "value"])
