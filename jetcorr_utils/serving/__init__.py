"""Serving: a Triton server on this machine, and what an inference costs there."""

from .environment import server_available
from .server import TritonServer
from .service import Service, open_service
from .statistics import inference_metrics, measure_inference, measure_multiplicity, prometheus_metrics, usage

__all__ = [
    "Service",
    "TritonServer",
    "inference_metrics",
    "measure_inference",
    "measure_multiplicity",
    "open_service",
    "prometheus_metrics",
    "server_available",
    "usage",
]
