"""From a trained network to an ONNX file that any runtime takes, and to the repository of a Triton server.

The graphs, the export, the check of parity; the tensors that an exported model takes, and ONNX Runtime in this process.

Names are imported when they are first used: who only uses an exported model needs no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Clouds": "padding",
    "OnnxPredictor": "predictor",
    "Predictor": "predictor",
    "add_model": "repository",
    "check_parity": "onnx",
    "export_model": "onnx",
    "export_run": "run",
    "model_metadata": "inspection",
    "operators": "inspection",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
