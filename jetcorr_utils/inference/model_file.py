"""What an exported ONNX file says of itself, and whether it is what was exported. Needs no ONNX Runtime."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from ..errors import InputError
from .model_notes import check_notes
from .padding import INPUT_NAMES, OUTPUT_NAMES

__all__ = ["add_checksum", "model_metadata"]

CHECKSUM = "checksum"
LARGEST = 2**31 - 1
"""Bytes: more are in no message of protobuf's, as which an ONNX model is read."""
_ATTRIBUTE = {"name", "type", "doc_string", "f", "i", "s", "t", "g", "floats", "ints", "strings"}
"""What an attribute of a node may have."""


def model_metadata(path: str | Path) -> dict[str, str]:
    """The metadata that the export wrote into an ONNX file.

    Raises
    ------
    InputError
        If the file cannot be read, is not a model that jetcorr exported, is not any more what was exported, takes other
        inputs than it is given here, or has weights that are not finite.
    """
    try:
        if Path(path).stat().st_size > LARGEST:
            raise ValueError("it is larger than any model can be")
        model = onnx.load(str(path), load_external_data=False)
    except MemoryError:
        raise
    except Exception as error:
        raise InputError(f"{path}: not a readable ONNX model: {' '.join(str(error).split())[:120]}") from None
    names = {value.name for value in (*model.graph.input, *model.graph.output)}
    missing = sorted(set(INPUT_NAMES + OUTPUT_NAMES) - names)
    if missing:
        raise InputError(f"{path}: not a model that jetcorr exported: no tensor {missing[0]!r}")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if CHECKSUM not in metadata:
        raise InputError(f"{path}: has no checksum, as every model that jetcorr exports has; export the model again")
    if metadata[CHECKSUM] != _checksum(model):
        raise InputError(f"{path}: damaged: it has another checksum than at its export; export the model again")
    graphs = list(_graphs(model.graph))
    for what in _unknown(model, graphs):
        raise InputError(f"{path}: has {what}, as no model that jetcorr exports; export the model again")
    check_notes(metadata, str(path), complete=True)
    _check_shapes(model.graph, metadata, path)
    if any(
        tensor.data_location == onnx.TensorProto.EXTERNAL for graph in graphs for tensor in _constants(graph).values()
    ):
        raise InputError(
            f"{path}: keeps weights in other files, where its checksum is not theirs; export the model again"
        )
    for name in (name for graph in graphs for name in _not_finite(graph)):
        raise InputError(f"{path}: its weights {name!r} are not finite: a broken network; train and export it again")
    return metadata


def _check_shapes(graph: onnx.GraphProto, metadata: dict[str, str], path: str | Path) -> None:
    """The sizes of the input tensors against the notes."""
    wanted = {"pf_features": metadata["particle_columns"], "jet_features": metadata["jet_columns"]}
    for value in graph.input:
        size = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim][-1:]
        if value.name in wanted and size != [int(wanted[value.name])]:
            raise InputError(f"{path}: takes {value.name} of {size or 'no'} columns, and says {wanted[value.name]}")


def _unknown(model: onnx.ModelProto, graphs: list[onnx.GraphProto]) -> Iterator[str]:
    """Where a model could keep weights that nothing here looks at."""
    yield from (name for name in ("functions", "training_info") if len(getattr(model, name)))
    if any(len(graph.sparse_initializer) for graph in graphs):
        yield "sparse weights"
    for attribute in (attribute for graph in graphs for node in graph.node for attribute in node.attribute):
        strange = {field.name for field, _ in attribute.ListFields()} - _ATTRIBUTE
        if strange:
            yield f"an attribute {attribute.name!r} of the kind {min(strange)}"


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph, and the graphs inside its nodes."""
    waiting = [graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting += [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]


def _constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The tensors that a graph holds, by name."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    nodes = ((node, attribute) for node in graph.node for attribute in node.attribute)
    return found | {node.output[0]: attribute.t for node, attribute in nodes if attribute.HasField("t")}


def _not_finite(graph: onnx.GraphProto) -> Iterator[str]:
    """Names of weights that are not finite.

    A constant that only a Where chooses is no weight: it is what the model answers for a jet without particles.
    """
    chosen = {name for node in graph.node if node.op_type == "Where" for name in node.input}
    chosen -= {name for node in graph.node if node.op_type != "Where" for name in node.input}
    for name, tensor in _constants(graph).items():
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype.kind == "V":  # bfloat16 and shorter ones, of which NumPy knows nothing
            values = values.astype(np.float32)
        if values.dtype.kind == "f" and not np.isfinite(values).all() and not (values.size == 1 and name in chosen):
            yield name
    for node in graph.node:
        for attribute in node.attribute:
            if not np.isfinite([attribute.f, *attribute.floats]).all():
                yield f"{node.name or node.op_type}.{attribute.name}"


def add_checksum(model: onnx.ModelProto) -> None:
    """Note in a model the checksum of all that it holds otherwise: damaged weights give wrong numbers, not an error."""
    entries = [entry for entry in model.metadata_props if entry.key != CHECKSUM]
    del model.metadata_props[:]
    model.metadata_props.extend(entries)
    model.metadata_props.add(key=CHECKSUM, value=_checksum(model))


def _checksum(model: onnx.ModelProto) -> str:
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.metadata_props[:]
    bare.metadata_props.extend(entry for entry in model.metadata_props if entry.key != CHECKSUM)
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()
