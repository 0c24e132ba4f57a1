"""Puts the exported model together: a loop over chunks of jets around a network's body, and its head after the loop.

A chunk small enough for the processor's cache is computed several times faster than the whole batch at once, and a
loop inside the graph does this for every runtime and client::

    pf_points, pf_features → particles (B, P, 2 + F)
    pf_mask → real (B, P); an empty jet gets one particle here, and not-a-number in the end
    T = ceil(B / chunk) chunks of equal size; the last one overlaps the one before it
    loop: cut the chunk and the particle axis to its last real particle → body → latent
    head(latent, jet_features) → output, sigma
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from .padding import INPUT_NAMES, OUTPUT_NAMES

__all__ = ["assemble"]


class _Nodes:
    """Collects nodes and constants; every call adds one operator and returns the name of its result."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def __call__(self, operator: str, *inputs: str | int | list[int], name: str | None = None, **attributes) -> str:
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        output = name or f"{self.prefix}{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [output], name=output, **attributes))
        return output

    def constant(self, value: int | float | bool | list[int], dtype: type = np.int64) -> str:
        """The name of a constant."""
        array = np.asarray(value, dtype=dtype)
        name = f"{self.prefix}const_{array.dtype}_{'_'.join(map(str, array.ravel().tolist()))}_{array.ndim}"
        self.constants[name] = numpy_helper.from_array(array, name)
        return name


def assemble(
    body: onnx.ModelProto, finish: onnx.ModelProto, *, chunk: int, min_particles: int, columns: int, jet_columns: int
) -> onnx.ModelProto:
    """The whole model.

    Parameters
    ----------
    body
        ``particles (c, P, 2 + F), mask (c, P) bool, jets (c, J) → latent (c, L)``.
    finish
        ``latent (B, L), jets (B, J), empty (B,) bool → output (B, 1), sigma (B, 1)``.
    chunk
        Jets at a time.
    min_particles
        The body needs the particle axis at least so long.
    columns, jet_columns
        F and J.
    """
    add = _Nodes("main/")
    particles = add("Concat", "pf_points", "pf_features", axis=2)
    real = add("Greater", add("Squeeze", "pf_mask", [2]), add.constant(0.0, np.float32))
    batch, width = (add("Gather", add("Shape", "pf_mask"), axis, axis=0) for axis in (0, 1))
    any_real = add("ReduceMax", add("Cast", real, to=TensorProto.INT64), [1], keepdims=0)
    empty = add("Equal", any_real, 0, name="main/empty")

    chunks = add("Div", add("Add", batch, chunk - 1), chunk)
    size = add("Div", add("Add", batch, add("Sub", chunks, 1)), chunks, name="main/size")
    add("Sub", batch, size, name="main/last_start")
    if min_particles > 1:
        missing = add("Max", add("Sub", min_particles, width), 0)
        particles, real = _widen(add, particles, 3, missing), _widen(add, real, 2, missing)
    # A jet without particles gets the (meaningless) particle at place 0
    place = add("Range", 0, add("Max", width, min_particles), 1)
    real = add("Or", real, add("And", add("Unsqueeze", empty, [1]), add("Equal", place, 0)))

    loop = _loop_body(body, particles, real, "jet_features", min_particles)
    stacked = "main/latents"
    always = add.constant(True, bool)
    add.nodes.append(helper.make_node("Loop", [chunks, always], [stacked], name="main/loop", body=loop))
    latent_size = body.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    # The jets of the last chunk that the one before it had, too, are passed over
    row = add("Range", 0, batch, 1)
    regular = add("Less", row, add("Mul", add("Sub", chunks, 1), size))
    overlap = add("Sub", add("Mul", chunks, size), batch)
    row = add("Where", regular, row, add("Add", row, overlap))
    latents = add("Gather", add("Reshape", stacked, [-1, latent_size]), row, axis=0)

    head = compose.add_prefix(finish, "head/").graph
    renamed = dict(zip((i.name for i in head.input), (latents, "jet_features", empty), strict=True))
    renamed |= dict(zip((o.name for o in head.output), OUTPUT_NAMES, strict=True))
    _rename(head, renamed)
    shapes = {"pf_points": ["particles", 2], "pf_features": ["particles", columns], "pf_mask": ["particles", 1]}
    inputs = [_value(name, ["batch", *shapes.get(name, [jet_columns])]) for name in INPUT_NAMES]
    graph = helper.make_graph(
        [*add.nodes, *head.node], "jetcorr", inputs, [_value(name, ["batch", 1]) for name in OUTPUT_NAMES],
        initializer=[*add.constants.values(), *head.initializer],
    )  # fmt: skip
    functions = {(f.domain, f.name): f for model in (body, finish) for f in model.functions}
    model = helper.make_model(graph, opset_imports=_opsets(body, finish), functions=list(functions.values()))
    # The oldest file format that has these operators: older servers read it, too
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import))
    return model


def _widen(add: _Nodes, tensor: str, rank: int, places: str) -> str:
    """A tensor with zeros appended along its particle axis."""
    pads = [add.constant([0] * (rank + 1)), add("Unsqueeze", places, [0])]
    pads = add("Concat", *pads, *([add.constant([0])] if rank == 3 else []), axis=0)
    if rank > 2:
        return add("Pad", tensor, pads)
    numbers = add("Pad", add("Cast", tensor, to=TensorProto.INT32), pads)  # the operator takes no truth values
    return add("Cast", numbers, to=TensorProto.BOOL)


def _loop_body(body: onnx.ModelProto, particles: str, real: str, jets: str, min_particles: int) -> onnx.GraphProto:
    """The graph of one iteration; it sees the tensors of the graph around it by their names."""
    add = _Nodes("loop/")
    start = add("Min", add("Mul", "loop/i", "main/size"), "main/last_start")
    bounds = [add("Unsqueeze", value, [0]) for value in (start, add("Add", start, "main/size"))]
    mask = add("Slice", real, *bounds, [0])
    # Where the last real particle of the chunk is: what is beyond is not even looked at
    used = add("ReduceMax", add("Cast", mask, to=TensorProto.INT64), [0], keepdims=0)
    places = add("Range", 1, add("Add", add("Gather", add("Shape", used), 0, axis=0), 1), 1)
    stop = add("Unsqueeze", add("Max", add("ReduceMax", add("Mul", used, places), [0], keepdims=0), min_particles), [0])
    mask = add("Slice", mask, [0], stop, [1])
    chunk = add("Slice", add("Slice", particles, *bounds, [0]), [0], stop, [1])
    inner = compose.add_prefix(body, "body/").graph
    names = (chunk, mask, add("Slice", jets, *bounds, [0]))
    _rename(inner, dict(zip((i.name for i in inner.input), names, strict=True)))
    add("Identity", "loop/go_on_in", name="loop/go_on")
    return helper.make_graph(
        [*add.nodes, *inner.node],
        "chunk",
        [_value("loop/i", [], TensorProto.INT64), _value("loop/go_on_in", [], TensorProto.BOOL)],
        [_value("loop/go_on", [], TensorProto.BOOL), _value(inner.output[0].name, [None, None])],
        initializer=[*add.constants.values(), *inner.initializer],
    )


def _value(name: str, shape: list, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Rename tensors everywhere in a graph without subgraphs."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _opsets(*models: onnx.ModelProto) -> list[onnx.OperatorSetIdProto]:
    versions = {entry.domain: entry.version for model in models for entry in model.opset_import}
    return [helper.make_opsetid(domain, version) for domain, version in sorted(versions.items())]
