"""Serving: a Triton server on this machine, and what an inference costs there."""

import sys
from typing import Any

from . import inference_cost
from .inference_cost import (
    inference_metrics,
    measure_inference,
    measure_multiplicity,
    prometheus_metrics,
    speed_table,
    usage,
)
from .prediction_service import Service, open_service
from .server import TritonServer
from .server_environment import server_available

__all__ = [
    "Service", "TritonServer", "inference_metrics", "measure_inference", "measure_multiplicity", "open_service",
    "prometheus_metrics", "server_available", "speed_table", "usage",
]  # fmt: skip

sys.modules[f"{__name__}.statistics"] = inference_cost  # as it was called in the first edition


def __getattr__(name: str) -> Any:
    """What stood here before it had a floor of its own."""
    if name in ("JetCorrector", "correct_files"):
        import jetcorr_utils

        return getattr(jetcorr_utils, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
