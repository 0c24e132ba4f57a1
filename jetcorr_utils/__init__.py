"""Jet energy corrections with graph neural networks.

Data flows one way: files → jets → particle clouds → model → ONNX → Triton → corrected jets → response → figures.
Each step is a module or a folder of this package, and each notebook tells one part of the story with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .correct import JetCorrector, correct_files

__version__ = "0.1.0"
__all__ = ["JetCorrector", "__version__", "correct_files"]


def __getattr__(name: str) -> Any:
    """The correction is imported when it is first used: commands and workers start at once."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import correct

    return getattr(correct, name)
