"""Variants of an exported model with less precision: float16, and int8 with scales found at run time.

Both are made from the checked float32 file, and take and give float32, so that clients need not know. They are for
servers that gain from them; `compare_speed` says what is gained here, and `physics.precision` what it costs.

- ``float16``: weights and matrix products in half precision; the file is half as large. What stands between products
  stays in float32: physical inputs, and sentinels for absent neighbours, which are beyond the range of float16. (ONNX
  Runtime's own converter cannot leave out single operators in a loop.) Where a processor has no arithmetic for float16,
  ONNX Runtime computes in float32 after all.
- ``int8``: weights in 8 bits with one scale a channel, activations in 8 bits with one scale a call, by
  `onnxruntime.quantization.quantize_dynamic`. No calibration data are needed. Scales are found for a chunk of jets
  together, so that a jet's correction depends, a little, on the jets beside it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tqdm.auto import tqdm

from ..data.dataset import Clouds
from ..errors import InputError
from ..files import atomic_path, scratch_folder
from ..inference.model_file import add_checksum
from ..inference.onnx_predictor import OnnxPredictor
from ..inference.predictor import Predictions
from .quiet_libraries import quiet

__all__ = ["VARIANTS", "compare_speed", "compare_variants", "write_variant"]

_PRODUCTS = ("Gemm", "MatMul")


def _float16(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    _halve_products(model.graph)
    return model


def _halve_products(graph: onnx.GraphProto) -> None:
    """Have each matrix product computed in half precision, from weights that are stored so."""
    elsewhere = {name for node in graph.node if node.op_type not in _PRODUCTS for name in node.input}
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in elsewhere}
    halved: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _halve_products(attribute.g)
        if node.op_type not in _PRODUCTS:
            nodes.append(node)
            continue
        for place, name in enumerate(node.input):
            if name in weights and name not in halved:
                values = numpy_helper.to_array(weights[name]).astype(np.float16)
                weights[name].CopyFrom(numpy_helper.from_array(values, name))
            elif name not in halved:
                nodes.append(_cast(name, f"{name}/half", TensorProto.FLOAT16))
            halved.setdefault(name, name if name in weights else f"{name}/half")
            node.input[place] = halved[name]
        output = node.output[0]
        node.output[0] = f"{output}/product"
        nodes += [node, _cast(node.output[0], output, TensorProto.FLOAT)]
    del graph.node[:]
    graph.node.extend(nodes)


def _cast(name: str, output: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [output], name=output, to=kind)


def _int8(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        model, folder / "int8.onnx", op_types_to_quantize=list(_PRODUCTS), per_channel=True,
        weight_type=QuantType.QInt8, extra_options={"EnableSubgraph": True},
    )  # fmt: skip
    return onnx.load(folder / "int8.onnx")


VARIANTS = {"float16": _float16, "int8": _int8}
"""How each variant is made from the float32 model."""


def write_variant(path: str | Path, variant: str, out: str | Path) -> Path:
    """Write a variant of an exported model, with its metadata and the note ``precision``.

    Parameters
    ----------
    path
        A file that `export_model` wrote.
    variant
        One of `VARIANTS`.
    out
        The file to write.

    Raises
    ------
    InputError
        If there is no such variant.
    """
    if variant not in VARIANTS:
        raise InputError(f"precision {variant!r}: must be one of {', '.join(VARIANTS)}")
    original = onnx.load(str(path))
    with scratch_folder() as folder, quiet():
        model = VARIANTS[variant](original, folder)
    del model.metadata_props[:]
    for entry in onnx.load(str(path)).metadata_props:
        model.metadata_props.add(key=entry.key, value=entry.value)
    model.metadata_props.add(key="precision", value=variant)
    add_checksum(model)
    with atomic_path(out) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
    return Path(out)


def compare_variants(
    path: str | Path, clouds: Clouds, *, rounds: int = 2, progress: bool = True
) -> tuple[pd.DataFrame, dict[str, Predictions]]:
    """Make all variants of an exported model and compare them with it on the same jets; see `compare_speed`."""
    with scratch_folder() as folder:
        files = {variant: write_variant(path, variant, folder / f"{variant}.onnx") for variant in VARIANTS}
        return compare_speed({"float32": path} | files, clouds, rounds=rounds, progress=progress)


def compare_speed(
    files: Mapping[str, str | Path], clouds: Clouds, *, batch_size: int = 1024, rounds: int = 3, progress: bool = True
) -> tuple[pd.DataFrame, dict[str, Predictions]]:
    """Time several ONNX files on the same jets, in turns, by ONNX Runtime in this process.

    Parameters
    ----------
    files
        By the name of the variant, the reference first.
    clouds
        The jets.
    batch_size
        Jets in a batch.
    rounds
        How often each corrects all jets; the best counts.
    progress
        Whether to show a progress bar.

    Returns
    -------
    table
        One row a variant: ``variant``, ``kilobytes``, ``jets_per_s``, ``speedup`` over the first, and the largest and
        the usual (68 % of the jets) relative difference of the correction factor from the first's.
    predictions
        Log of the correction factor and resolution, each `(B,)`, by variant.
    """
    best, predictions = dict.fromkeys(files, np.inf), {}
    with contextlib.ExitStack() as stack:
        predictors = {name: stack.enter_context(OnnxPredictor(path)) for name, path in files.items()}
        for _ in tqdm(range(rounds), desc="precisions", disable=not progress):
            for name, predictor in predictors.items():
                start = time.perf_counter()
                predictions[name] = predictor.predict(clouds, batch_size=batch_size)
                best[name] = min(best[name], time.perf_counter() - start)
    first = next(iter(files))
    rows = []
    for name, path in files.items():
        difference = _relative(predictions[name][0], predictions[first][0])
        rows.append({
            "variant": name, "kilobytes": Path(path).stat().st_size / 1000,
            "jets_per_s": (len(clouds.ptr) - 1) / best[name], "speedup": best[first] / best[name],
            "largest_difference": float(difference.max()), "usual_difference": float(np.quantile(difference, 0.68)),
        })  # fmt: skip
    return pd.DataFrame(rows), predictions


def _relative(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.float64]:
    return np.abs(np.expm1(ours.astype(np.float64) - theirs))
