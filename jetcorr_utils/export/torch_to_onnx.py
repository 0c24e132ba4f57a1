"""Write a trained network as ONNX, and check that the file gives the network's numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.export import Dim

from ..data.dataset import CloudDataset
from ..errors import InputError, ParityError
from ..files import atomic_path
from ..inference import OnnxPredictor
from ..inference.model_file import add_checksum
from ..inference.model_notes import FORMAT, column_notes
from ..inference.padding import INPUT_NAMES
from ..jets.columns import POINTS
from ..models import CloudNetwork, correction
from ..training import predict
from .assembly import assemble
from .graphs import Finish, TracedNetwork, padded_network
from .quiet_libraries import quiet
from .triton_releases import check_opset, check_release

__all__ = ["check_parity", "export_model", "operators"]

MINIMUM_OPSET = 18
"""What torch's exporter writes without conversion (older ones it ignores), and every release of the table runs."""
MOST_TIES = 0.002
"""Share of jets whose neighbours may be decided by rounding; one in twenty thousand was seen."""
COPIES, ROUNDING, MOVED = 128, 5e-7, 4
"""How many copies of a jet are moved to see whether there is a tie, how far (relative), and in which columns of the
particles: both coordinates, pt and mass."""


def export_model(
    model: CloudNetwork,
    path: str | Path,
    *,
    opset: int = MINIMUM_OPSET,
    metadata: Mapping[str, Any] | None = None,
    triton_release: str | None = None,
) -> Path:
    """Write a trained network as ONNX, with free numbers of jets and particles.

    Parameters
    ----------
    model
        The network, from `training.load_model`.
    path
        The file to write.
    opset
        Version of the ONNX operators, from 18 on; the lowest runs on the most servers.
    metadata
        What else to note in the file, such as the study's name and the range of the training jets. Values that are not
        text are noted as JSON. The same network and metadata make the same bytes.
    triton_release
        The release of Triton's container that must run the model, such as ``"24.10"``.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        If that release is not sure to run it, or torch does not write that opset; nothing is written then.
    """
    if opset < MINIMUM_OPSET:
        raise InputError(f"opset {opset}: torch writes opset {MINIMUM_OPSET} and newer")
    if triton_release is not None:
        check_opset(opset, triton_release)
    features = model.settings.features
    corrected = "raw" if (metadata or {}).get("target") == "raw" else "standard-corrected"
    names = {
        "producer": "jetcorr", "format": FORMAT, "architecture": model.settings.architecture, **column_notes(features),
        "output": f"log(pt_gen/pt): corrected pt and mass = {corrected} ones * exp(output)",
        "sigma": "half of the 16-84 % width of log(pt_gen/pt): relative resolution of the corrected pt",
        "settings": model.settings.model_dump(mode="json"),
    }  # fmt: skip
    graph = _to_onnx(model, opset)
    if triton_release is not None:
        check_release(graph, triton_release)
    for key, value in {**names, **(metadata or {})}.items():
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        graph.metadata_props.add(key=key, value=text)
    add_checksum(graph)
    with atomic_path(path) as temporary:
        temporary.write_bytes(graph.SerializeToString(deterministic=True))
    return Path(path)


def _to_onnx(model: CloudNetwork, opset: int) -> onnx.ModelProto:
    """The parts by torch's exporter, assembled into one graph."""
    network, finish = padded_network(model), Finish(model).eval()
    generator = torch.Generator().manual_seed(0)
    # Neither 1 nor equal to a width, which would be taken for constants; and a particle has all its neighbours
    jets, places = 3, max(41, network.min_particles + 1 | 1)
    mask = (torch.arange(places) < torch.tensor([[places], [23], [30]])).unsqueeze(2).float()
    points, columns, jet_columns = len(POINTS), len(model.inputs.columns), len(model.inputs.jet_columns)
    tensors = [torch.rand(jets, places, size, generator=generator) for size in (points, columns - points)]
    inputs = (*tensors, mask, torch.rand(jets, jet_columns, generator=generator) + 1)
    batch, width, rows, place = (Dim(name, min=1) for name in ("batch", "width", "rows", "place"))
    padded = {0: batch, 1: width}
    with torch.no_grad():
        features, jet, counts, empty = network.rows(*inputs)
        first = counts.cumsum(0) - counts
        arguments = (features, jet, first, counts, torch.arange(places))
        latent = network(*arguments)
    body = _export(network, arguments, ["columns", "jet", "first", "counts", "places"], ["latent"], opset,
                   ({1: rows}, {0: rows}, {0: batch}, {0: batch}, {0: place}))  # fmt: skip
    if isinstance(network, TracedNetwork):
        _refuse_constants(network, body, arguments)
    graph = assemble(
        _export(network.rows, inputs, list(INPUT_NAMES), ["columns", "jet", "counts", "empty"], opset,
                (padded, padded, padded, {0: batch})),
        body,
        _export(finish, (latent, inputs[-1], empty), ["latent", "jets", "empty"], ["output", "sigma"], opset,
                ({0: batch}, {0: batch}, {0: batch})),
        chunk=network.chunk, min_particles=network.min_particles,
    )  # fmt: skip
    written = max(entry.version for entry in graph.opset_import if not entry.domain)
    if written != opset:
        raise InputError(f"opset {opset}: this version of torch writes opset {written} instead; choose a lower one")
    onnx.checker.check_model(graph, full_check=True)
    return graph


def _export(
    module: torch.nn.Module, example: tuple, inputs: list[str], outputs: list[str], opset: int, shapes: tuple
) -> onnx.ModelProto:
    try:
        with quiet("torch.onnx"):
            program = torch.onnx.export(
                module, example, dynamo=True, external_data=False, opset_version=opset, verbose=False,
                input_names=inputs, output_names=outputs, dynamic_shapes=shapes, optimize=True,
            )  # fmt: skip
    except torch.onnx.errors.OnnxExporterError as error:
        raise _not_traced(module, str(error.__cause__ or error).strip().splitlines()[0]) from error
    model = program.model_proto
    _forget_origin(model)
    return model


def _not_traced(module: torch.nn.Module, why: str) -> InputError:
    name = type(getattr(module, "model", module)).__name__
    return InputError(f"{name}: torch cannot trace it ({why}); give it a `padded_class`, see export.graphs")


def _refuse_constants(network: TracedNetwork, body: onnx.ModelProto, arguments: tuple[torch.Tensor, ...]) -> None:
    """Try the graph on fewer jets: numbers that a network takes out of tensors are constants in it, without a word."""
    columns, jet, first, counts, places = arguments
    rows = int(counts[:2].sum())
    fewer = (columns[:, :rows], jet[:rows], first[:2], counts[:2], places)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(body.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = {given.name: tensor.numpy() for given, tensor in zip(session.get_inputs(), fewer, strict=True)}
    try:
        (found,) = session.run(None, values)
    except Exception as error:  # ONNX Runtime's have no class in common
        if not type(error).__module__.startswith("onnxruntime."):
            raise
        found = None
    with torch.no_grad():
        expected = network(*fewer).numpy()
    if found is None or found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-3, atol=1e-4):
        raise _not_traced(network, "what it does depends on the numbers of the jets that it was traced with")


def _forget_origin(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes on each node: they hold stack traces with paths of this machine."""
    inner = model.graph
    del inner.value_info[:]
    for place in (inner, *inner.node, *inner.input, *inner.output, *model.functions):
        del place.metadata_props[:]
        place.doc_string = ""


def check_parity(
    model: CloudNetwork, onnx_path: str | Path, dataset: CloudDataset, tolerance: float = 1e-5, *, batch_size: int = 256
) -> dict[str, float]:
    """Compare the correction factor and the resolution from ONNX Runtime with PyTorch's, jet by jet.

    A search for the nearest neighbours is not continuous: where two particles are equally far within the rounding of
    float32, which of them is taken is chance, in PyTorch itself as well. A jet that differs is such a tie if PyTorch
    gives the exported numbers when the jet's particles move by a rounding; ties are counted, and all others refused.

    Returns
    -------
    dict
        ``factor`` and ``sigma``: the largest relative differences, but for ties; ``ties``: how many there are.

    Raises
    ------
    ParityError
        If a difference is above `tolerance` or not a number; the message names the jet.
    """
    ours = OnnxPredictor(onnx_path).predict(dataset, batch_size=batch_size)
    theirs = predict(model, dataset, batch_size)
    pairs = {"factor": (np.exp(ours[0]), np.exp(theirs[0])), "sigma": (ours[1], theirs[1])}
    differences = {name: _relative(*pair) for name, pair in pairs.items()}
    worst_of = np.max(list(differences.values()), axis=0)
    beyond = np.flatnonzero(~(worst_of <= tolerance))
    # The worst first: a file that is wrong is so for many jets, and refused at the first
    beyond = beyond[np.argsort(-worst_of[beyond])]
    too_many = len(beyond) > MOST_TIES * len(dataset) + 1
    for jet in beyond:
        exported = tuple(values[0][jet] for values in pairs.values())
        if too_many or not _is_tie(model, dataset, jet, exported, tolerance):
            name = max(differences, key=lambda name, jet=jet: differences[name][jet])
            raise ParityError(
                f"{onnx_path}: {name} of jet {jet} is {pairs[name][0][jet]:.7g}, PyTorch gives "
                f"{pairs[name][1][jet]:.7g}: relative difference {differences[name][jet]:.1e}, allowed {tolerance:.0e}"
            )
    same = np.delete(np.arange(len(dataset)), beyond)
    largest = {name: float(difference[same].max(initial=0.0)) for name, difference in differences.items()}
    return largest | {"ties": len(beyond)}


def _relative(exported: NDArray[np.float32], trained: NDArray[np.float32]) -> NDArray[np.float32]:
    """Relative differences; infinite where one is not a number."""
    return np.nan_to_num(np.abs(exported / trained - 1), nan=np.inf)


@torch.no_grad()
def _is_tie(
    model: CloudNetwork, dataset: CloudDataset, jet: int, exported: tuple[float, float], tolerance: float
) -> bool:
    """Whether PyTorch gives the exported factor and sigma of a jet for some copies moved by a rounding."""
    one = dataset.select(np.array([jet]))
    particles, jets = (torch.from_numpy(np.array(x)) for x in (one.particles, one.jets))
    copies = particles.repeat(COPIES, 1)
    moved = torch.randn(len(copies), MOVED, generator=torch.Generator().manual_seed(1))
    copies[:, :MOVED] *= 1 + ROUNDING * moved
    ptr = torch.arange(COPIES + 1) * len(particles)
    log_factor, sigma = (x.numpy() for x in correction(model.eval()(copies, jets.repeat(COPIES, 1), ptr)))
    moves = np.maximum(_relative(np.exp(log_factor), exported[0]), _relative(sigma, exported[1]))
    return bool((moves <= 2 * tolerance).any())


def operators(path: str | Path) -> pd.Series:
    """How often each operator stands in an ONNX file, those of subgraphs and functions included."""
    model = onnx.load(str(path))
    names: list[str] = []

    def walk(nodes: Any) -> None:
        for node in nodes:
            names.append(node.op_type)
            for attribute in node.attribute:
                walk(attribute.g.node)

    walk(model.graph.node)
    for function in model.functions:
        walk(function.node)
    return pd.Series(names, dtype=str).value_counts()
