"""Puts the exported model together: rows and features of the batch, a loop over chunks of jets, and the head.

A chunk small enough for the processor's cache is computed several times faster than the whole batch at once, and a
loop inside the graph does this for every runtime and client::

    pf_points, pf_features, pf_mask, jet_features → rows → columns (C, N), jet (N,), counts (B,), empty (B,)
    T = ceil(N / chunk) chunks of equally many jets; the last one overlaps the one before it
    loop: cut the rows of the chunk's jets → body → latent
    head(latent, jet_features) → output, sigma; not a number for an empty jet
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from ..inference.padding import INPUT_NAMES, OUTPUT_NAMES

__all__ = ["assemble"]


class _Nodes:
    """Collects nodes and constants; every call adds one operator and returns the name of its result."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def __call__(
        self, operator: str, *inputs: str | int | list[int], name: str | None = None, **attributes: Any
    ) -> str:
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        output = name or f"{self.prefix}{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [output], name=output, **attributes))
        return output

    def constant(self, value: int | float | bool | list[int], dtype: type = np.int64) -> str:
        """The name of a constant."""
        array: NDArray = np.asarray(value, dtype=dtype)
        name = f"{self.prefix}const_{array.dtype}_{'_'.join(map(str, array.ravel().tolist()))}_{array.ndim}"
        self.constants[name] = numpy_helper.from_array(array, name)
        return name


def assemble(
    rows: onnx.ModelProto, body: onnx.ModelProto, finish: onnx.ModelProto, *, chunk: int, min_particles: int
) -> onnx.ModelProto:
    """The whole model.

    Parameters
    ----------
    rows
        The model's inputs → ``columns (C, N), jet (N,), counts (B,), empty (B,) bool``, see `graphs.Rows`.
    body
        ``columns (C, n), jet (n,), first (c,), counts (c,), places (P,) → latent (c, L)``, see `graphs.PaddedNetwork`.
    finish
        ``latent (B, L), jets (B, J), empty (B,) bool → output (B, 1), sigma (B, 1)``.
    chunk
        Particles at a time, on average over the chunks.
    min_particles
        The least P.
    """
    start = compose.add_prefix(rows, "rows/").graph
    _rename(start, dict(zip((value.name for value in start.input), INPUT_NAMES, strict=True)))
    columns, jet, counts, empty = (value.name for value in start.output)

    add = _Nodes("main/")
    batch = add("Gather", add("Shape", counts), 0, axis=0)
    particles = add("Gather", add("Shape", jet), 0, axis=0)
    chunks = add("Min", _divided(add, particles, chunk), batch)
    size = _divided(add, batch, chunks, name="main/size")
    chunks = _divided(add, batch, size)
    add("Sub", batch, size, name="main/last_start")
    add("Concat", [0], add("CumSum", counts, 0), axis=0, name="main/bounds")
    loop = _loop_body(body, columns, jet, counts, min_particles)
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
    renamed = dict(zip((i.name for i in head.input), (latents, INPUT_NAMES[-1], empty), strict=True))
    renamed |= dict(zip((o.name for o in head.output), OUTPUT_NAMES, strict=True))
    _rename(head, renamed)
    sizes = [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in rows.graph.input]
    shapes = [["batch", "particles", size[2]] if len(size) == 3 else ["batch", size[1]] for size in sizes]
    graph = helper.make_graph(
        [*start.node, *add.nodes, *head.node], "jetcorr",
        [_value(name, shape) for name, shape in zip(INPUT_NAMES, shapes, strict=True)],
        [_value(name, ["batch", 1]) for name in OUTPUT_NAMES],
        initializer=[*start.initializer, *add.constants.values(), *head.initializer],
    )  # fmt: skip
    parts = (rows, body, finish)
    functions = {(f.domain, f.name): f for model in parts for f in model.functions}
    model = helper.make_model(graph, opset_imports=_opsets(*parts), functions=list(functions.values()))
    # The oldest file format that has these operators: older servers read it, too
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import))
    return model


def _divided(add: _Nodes, number: str, by: str | int, name: str | None = None) -> str:
    """A positive number divided, rounded up."""
    one_less = add("Sub", by, 1) if isinstance(by, str) else by - 1
    return add("Div", add("Add", number, one_less), by, name=name)


def _loop_body(body: onnx.ModelProto, columns: str, jet: str, counts: str, min_particles: int) -> onnx.GraphProto:
    """The graph of one iteration; it sees the tensors of the graph around it by their names."""
    add = _Nodes("loop/")
    start = add("Min", add("Mul", "loop/i", "main/size"), "main/last_start")
    begin, end = (add("Unsqueeze", value, [0]) for value in (start, add("Add", start, "main/size")))
    own_counts = add("Slice", counts, begin, end, [0])
    own_bounds = [add("Gather", "main/bounds", jet_number, axis=0) for jet_number in (begin, end)]
    widest = add("Max", add("ReduceMax", own_counts, [0], keepdims=0), min_particles)
    arguments = (
        add("Slice", columns, *own_bounds, [1]), add("Sub", add("Slice", jet, *own_bounds, [0]), start),
        add("Sub", add("Slice", "main/bounds", begin, end, [0]), own_bounds[0]), own_counts, add("Range", 0, widest, 1),
    )  # fmt: skip
    inner = compose.add_prefix(body, "body/").graph
    _rename(inner, dict(zip((value.name for value in inner.input), arguments, strict=True)))
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
