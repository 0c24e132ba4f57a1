"""Triton's Python backend runs the exported model with ONNX Runtime: the local server has no onnxruntime backend.

Copied as model.py into each version's folder of the repository. It runs in the server's own environment, which has
numpy and onnxruntime, and nothing of jetcorr. In production the same folder is served by Triton's onnxruntime backend,
and this file is not used.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

INPUTS = ("pf_points", "pf_features", "pf_mask", "jet_features")
OUTPUTS = ("output", "sigma")


class TritonPythonModel:
    """One instance of the model; the server calls `execute` with what its dynamic batcher has put together."""

    def initialize(self, args):
        parameters = {k: v["string_value"] for k, v in json.loads(args["model_config"])["parameters"].items()}
        self.max_particles = int(parameters["max_particles"])
        self.max_batch_size = json.loads(args["model_config"])["max_batch_size"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters["intra_op_thread_count"])
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    # Tensors go by DLPack: the backend's own conversions are those of numpy 1, and make garbage of arrays of numpy 2
    def execute(self, requests):
        inputs, problems = [], []
        for request in requests:
            tensors = [np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name)) for name in INPUTS]
            inputs.append(tensors)
            problems.append(self.problem(*tensors))
        good = [number for number, problem in enumerate(problems) if problem is None]
        answers = iter(self.run([inputs[number] for number in good])) if good else iter(())
        return [self.response(next(answers)) if problem is None else self.error(problem) for problem in problems]

    def problem(self, points, features, mask, jets):
        """What is wrong with a request, or None."""
        particles = points.shape[1]
        if particles > self.max_particles:
            return f"pf_points: {particles} particles, this model takes at most {self.max_particles}"
        if not features.shape[1] == mask.shape[1] == particles:
            return f"pf_features and pf_mask must have as many particles as pf_points, {particles}"
        for name, tensor in zip(INPUTS, (points, features, mask, jets), strict=True):
            if not np.isfinite(tensor).all():
                return f"{name}: has values that are not finite"
        empty = np.flatnonzero(~(mask > 0).any(axis=(1, 2)))
        if len(empty):
            return f"pf_mask: jet {empty[0]} of the request has no particles"
        return None

    def run(self, inputs):
        """Outputs of each request, from one run of the model for those of equal shape."""
        sizes = [len(tensors[0]) for tensors in inputs]
        if len({tensors[0].shape[1:] for tensors in inputs}) > 1:
            return [self.session.run(OUTPUTS, dict(zip(INPUTS, tensors, strict=True))) for tensors in inputs]
        together = inputs[0] if len(inputs) == 1 else [np.concatenate(parts) for parts in zip(*inputs, strict=True)]
        outputs = self.session.run(OUTPUTS, dict(zip(INPUTS, together, strict=True)))
        edges = np.cumsum(sizes)[:-1]
        return list(zip(*(np.split(output, edges) for output in outputs), strict=True))

    @staticmethod
    def response(outputs):
        named = zip(OUTPUTS, map(np.ascontiguousarray, outputs), strict=True)
        return pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack(name, values) for name, values in named])

    @staticmethod
    def error(problem):
        return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(problem))
