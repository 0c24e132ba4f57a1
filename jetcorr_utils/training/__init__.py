"""Training: from a data set and settings to a checkpoint, with everything that happens on the way recorded."""

from .checkpoint import load_model
from .loop import train
from .prediction import predict
from .rate_finder import find_learning_rate
from .result import TrainingResult, load_result, read_history
from .side_by_side import train_models
from .torchrun import process_group

__all__ = [
    "TrainingResult", "find_learning_rate", "load_model", "load_result", "predict", "process_group",
    "read_history", "train", "train_models",
]  # fmt: skip
