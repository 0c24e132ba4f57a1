"""Serving: a Triton server on this machine, and what an inference costs there."""

from .inference_cost import inference_metrics, measure_inference, measure_multiplicity, prometheus_metrics, usage
from .prediction_service import Service, open_service
from .server import TritonServer
from .server_environment import server_available

__all__ = [
    "Service", "TritonServer", "inference_metrics", "measure_inference", "measure_multiplicity", "open_service",
    "prometheus_metrics", "server_available", "usage",
]  # fmt: skip
