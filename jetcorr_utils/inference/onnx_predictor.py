"""Ask an exported model for corrections, by ONNX Runtime in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import InputError, memory_errors
from ..processes import cores
from .model_file import model_metadata
from .padding import OUTPUT_NAMES
from .predictor import BatchPredictor, Inputs, Predictions

__all__ = ["OnnxPredictor"]


class OnnxPredictor(BatchPredictor):
    """ONNX Runtime in this process.

    Parameters
    ----------
    path
        An ONNX file that `export_model` wrote.
    name
        Name of the model; default: the one in its metadata, else the file's.
    threads
        Batches computed at the same time, one thread each; default: one a core.
    """

    def __init__(self, path: str | Path, name: str | None = None, threads: int | None = None) -> None:
        import onnxruntime

        self._path, self.metadata = path, model_metadata(path)
        self.name = name or self.metadata.get("name") or Path(path).stem
        self.in_flight = threads or cores()
        options = onnxruntime.SessionOptions()
        # One thread a run: two runs beside each other keep two cores busier than one run split between them
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        with self._in_one_line():
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._pool = ThreadPoolExecutor(self.in_flight, thread_name_prefix=f"onnx-{self.name}")

    def infer(self, inputs: Inputs) -> Predictions:
        """Log of the correction factor and resolution, each `(b,)`, for one padded batch."""
        with self._in_one_line():
            output, sigma = self._session.run(OUTPUT_NAMES, inputs)
        return output[:, 0], sigma[:, 0]

    @contextlib.contextmanager
    def _in_one_line(self) -> Iterator[None]:
        """ONNX Runtime's errors, which have no class in common, as ours."""
        try:
            with memory_errors():
                yield
        except Exception as error:
            if not type(error).__module__.startswith("onnxruntime."):
                raise
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"model {self.name} ({self._path}): ONNX Runtime cannot run it: {reason}") from None
