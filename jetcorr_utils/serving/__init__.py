"""Serving: a local Triton server, clients for it, and the correction of files.

Names are imported when they are first used: the client libraries take seconds.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "CorrectionReport": "correct",
    "JetCorrector": "analysis",
    "Service": "service",
    "TritonPredictor": "client",
    "TritonServer": "server",
    "correct_files": "correct",
    "correct_jets": "jets",
    "inference_metrics": "statistics",
    "measure_inference": "statistics",
    "measure_multiplicity": "statistics",
    "open_predictor": "opening",
    "open_predictors": "opening",
    "open_service": "service",
    "prometheus_metrics": "statistics",
    "server_available": "environment",
    "usage": "statistics",
    "write_predictions": "predictions",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
