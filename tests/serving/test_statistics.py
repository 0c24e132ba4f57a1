"""Inference statistics: the server's counts are ours, and times a jet are scaled by jets."""

from __future__ import annotations

import pytest

from jetcorr_utils.errors import ServerError
from jetcorr_utils.inference import OnnxPredictor, TritonPredictor
from jetcorr_utils.serving import (
    inference_metrics,
    measure_inference,
    measure_multiplicity,
    prometheus_metrics,
    speed_table,
    usage,
)
from jetcorr_utils.serving.inference_cost import _per_jet, _row, breakdown
from tests.networks import some_clouds
from tests.waiting import wait_for


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_usage_counts_jets_and_requests(server, protocol):
    url = server.http_url if protocol == "http" else server.grpc_url
    with TritonPredictor(url, "pfn", protocol) as predictor:
        before = usage(predictor)
        predictor.predict(some_clouds(100), batch_size=16)
        wait_for(lambda: usage(predictor)["jets"] >= before["jets"] + 100, seconds=10)  # Triton answers, then counts
        after = usage(predictor)
    spent = {name: after[name] - before[name] for name in after}
    assert spent["jets"] == 100
    assert spent["requests"] == 7
    assert 1 <= spent["executions"] <= 7
    assert spent["failed"] == 0
    assert 0 < spent["compute_infer"] < spent["success"]


def test_times_are_per_jet():
    # Two requests of 10 jets that took the client 1 ms each; the server says 0.2 ms in the queue, 1 ms computing
    spent = {"queue": 200_000, "compute_input": 100_000, "compute_infer": 800_000, "compute_output": 100_000}
    clock = {"jets": 20, "requests": 2, "packing": 200_000, "waiting": 1_700_000}
    parts = _per_jet(spent, clock)
    assert parts == pytest.approx({"packing": 10, "network": 25, "queue": 10, "input": 5, "infer": 40, "output": 5})
    assert _row([1e-3, 1e-3], 10, parts) == pytest.approx(
        {
            "requests": 2, "jets_per_s": 10_000, "latency_ms": 1, "wall": 100, "queue": 10, "model": 50, "overhead": 40,
            "packing": 10, "network": 25,
        }
    )  # fmt: skip


def test_the_breakdown_is_of_the_requests_made_meanwhile(server):
    with TritonPredictor(server.http_url, "pfn") as predictor:
        predictor.predict(some_clouds(50))
        before = predictor.clock()
        parts = breakdown(predictor, lambda: predictor.predict(some_clouds(300), batch_size=100))
        after = predictor.clock()
    assert {name: after[name] - before[name] for name in ("requests", "jets")} == {"requests": 3, "jets": 300}
    assert set(parts) == {"packing", "network", "queue", "input", "infer", "output"}
    assert min(parts.values()) > 0
    total = sum(after[name] - before[name] for name in ("packing", "waiting"))
    assert sum(parts.values()) == pytest.approx(1e-3 * total / 300)


def test_the_parts_add_up_to_what_the_client_waits_for(server, files):
    clouds = some_clouds(200)
    with TritonPredictor(server.http_url, "pfn") as predictor:
        table = measure_inference(predictor, clouds, (1, 64), seconds=0.1, progress=False)
    assert table["batch_size"].to_list() == [1, 64]
    assert (table[["wall", "queue", "model", "overhead"]] > 0).all(axis=None)
    assert table["wall"].to_list() == pytest.approx((table["queue"] + table["model"] + table["overhead"]).to_list())
    assert table["jets_per_s"].to_list() == pytest.approx((1e6 / table["wall"]).to_list())
    shown = speed_table({"pfn": table, "particlenet": table})
    assert list(shown)[:6] == [
        "corrected by", "jets in a request", "requests", "Inference [jets/s]", "latency [ms]", "total [µs/jet]",
    ]  # fmt: skip
    assert not [column for column in shown if "_" in column]
    assert shown["corrected by"].to_list() == ["pfn", "pfn", "particlenet", "particlenet"]
    metrics = inference_metrics(table)
    assert list(metrics) == ["1", "64"]
    assert metrics["64"]["jets_per_s"] == table["jets_per_s"][1]
    local = measure_inference(OnnxPredictor(files["pfn"]), clouds, (4,), seconds=0.05, progress=False)
    assert local["model"].to_list() == local["wall"].to_list()
    assert local["overhead"].to_list() == [0]


def test_prometheus_metrics_of_both_models(server):
    metrics = prometheus_metrics(server.metrics_url)
    counted = metrics[metrics["metric"] == "nv_inference_request_success"]
    assert set(counted["model"]) == {"pfn", "particlenet"}


def test_a_model_of_open_features_is_timed_on_jets_with_rich_ones(files):
    predictor, clouds = OnnxPredictor(files["pfn"]), some_clouds(100, features="rich")
    assert len(measure_inference(predictor, clouds, (4,), seconds=0.02, progress=False)) == 1
    assert len(measure_multiplicity(predictor, clouds, batch_size=8, bins=2, seconds=0.02, progress=False)) == 2


def test_metrics_of_a_server_that_is_gone():
    with pytest.raises(ServerError, match=r"Triton server does not answer at 127\.0\.0\.1:1/metrics: .*refused"):
        prometheus_metrics("127.0.0.1:1")
