"""Training: from a data set and settings to a checkpoint, with everything that happens on the way recorded."""

from .checkpoint import load_model
from .loop import TrainingResult, predict, train

__all__ = ["TrainingResult", "load_model", "predict", "train"]
