"""From a trained network to an ONNX file that any runtime takes: the graphs, the export, the parity check."""

from .onnx import check_parity, export_model
from .run import export_run

__all__ = ["check_parity", "export_model", "export_run"]
