"""From a trained network to an ONNX file that any runtime takes, and to the repository of a Triton server.

Names are imported when they are first used: who only writes a repository needs no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "add_model": "triton_repository", "check_parity": "torch_to_onnx", "export_model": "torch_to_onnx",
    "export_run": "export_models", "operators": "torch_to_onnx",
}  # fmt: skip
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
