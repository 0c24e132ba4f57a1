"""From particle clouds to corrections: clouds are packed, and a model is asked, in this process or on a Triton server.

Models are ONNX files that `export` wrote; neither it nor torch is needed here.
"""

from .model_file import model_metadata
from .onnx_predictor import OnnxPredictor
from .open_predictors import open_predictor, open_predictors
from .padding import Clouds
from .predictor import Predictor
from .triton_predictor import TritonPredictor

__all__ = [
    "Clouds", "OnnxPredictor", "Predictor", "TritonPredictor", "model_metadata", "open_predictor", "open_predictors",
]  # fmt: skip
