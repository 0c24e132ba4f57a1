"""Write a trained network as ONNX, and check that the file gives the network's numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch.export import Dim

from ..data.dataset import CloudDataset
from ..data.features import JET_COLUMNS, PARTICLE_COLUMNS, POINT_COLUMNS
from ..errors import InputError, ParityError
from ..files import atomic_path
from ..models import CloudNetwork
from ..training import predict
from .assembly import assemble
from .graphs import Finish, padded_network
from .inspection import add_checksum
from .padding import INPUT_NAMES
from .predictor import OnnxPredictor
from .silence import quiet
from .triton_releases import check_opset, check_release

__all__ = ["check_parity", "export_model"]

MINIMUM_OPSET = 18
"""What torch's exporter writes without conversion (older ones it ignores), and every release of the table runs."""


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
    columns = PARTICLE_COLUMNS[features]
    names = {
        "producer": "jetcorr", "architecture": model.settings.architecture, "features": features,
        "points": list(POINT_COLUMNS), "particle_features": list(columns), "jet_features": list(JET_COLUMNS),
        "particle_columns": len(columns), "jet_columns": len(JET_COLUMNS), "units": "GeV",
        "output": "log(pt_gen/pt): corrected pt and mass = standard-corrected ones * exp(output)",
        "sigma": "half of the 16-84 % width of log(pt_gen/pt): relative resolution of the corrected pt",
        "settings": model.settings.model_dump(mode="json"),
    }  # fmt: skip
    graph = _to_onnx(model, len(columns), opset)
    if triton_release is not None:
        check_release(graph, triton_release)
    for key, value in {**names, **(metadata or {})}.items():
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        graph.metadata_props.add(key=key, value=text)
    add_checksum(graph)
    with atomic_path(path) as temporary:
        temporary.write_bytes(graph.SerializeToString(deterministic=True))
    return Path(path)


def _to_onnx(model: CloudNetwork, columns: int, opset: int) -> onnx.ModelProto:
    """The parts by torch's exporter, assembled into one graph."""
    network, finish = padded_network(model), Finish(model).eval()
    generator = torch.Generator().manual_seed(0)
    jets, places = 3, 41  # neither 1 nor equal to a width, which would be taken for constants
    mask = (torch.arange(places) < torch.tensor([[41], [23], [30]])).unsqueeze(2).float()
    tensors = [torch.rand(jets, places, size, generator=generator) for size in (len(POINT_COLUMNS), columns)]
    inputs = (*tensors, mask, torch.rand(jets, len(JET_COLUMNS), generator=generator) + 1)
    batch, width, rows, place = (Dim(name, min=1) for name in ("batch", "width", "rows", "place"))
    padded = {0: batch, 1: width}
    with torch.no_grad():
        features, jet, counts, empty = network.rows(*inputs)
        first = counts.cumsum(0) - counts
        arguments = (features, jet, first, counts, torch.arange(places))
        latent = network(*arguments)
    graph = assemble(
        _export(network.rows, inputs, list(INPUT_NAMES), ["columns", "jet", "counts", "empty"], opset,
                (padded, padded, padded, {0: batch})),
        _export(network, arguments, ["columns", "jet", "first", "counts", "places"], ["latent"], opset,
                ({1: rows}, {0: rows}, {0: batch}, {0: batch}, {0: place})),
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
    with quiet("torch.onnx"):
        program = torch.onnx.export(
            module, example, dynamo=True, external_data=False, opset_version=opset, verbose=False,
            input_names=inputs, output_names=outputs, dynamic_shapes=shapes, optimize=True,
        )  # fmt: skip
    model = program.model_proto
    _forget_origin(model)
    return model


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

    Returns
    -------
    dict
        ``factor`` and ``sigma``: the largest relative differences.

    Raises
    ------
    ParityError
        If one is above `tolerance` or not a number; the message names the jet.
    """
    ours = OnnxPredictor(onnx_path).predict(dataset, batch_size=batch_size)
    theirs = predict(model, dataset, batch_size)
    pairs = {"factor": (np.exp(ours[0]), np.exp(theirs[0])), "sigma": (ours[1], theirs[1])}
    largest = {}
    for name, (exported, trained) in pairs.items():
        difference = np.abs(exported / trained - 1)
        worst = int(np.argmax(np.nan_to_num(difference, nan=np.inf)))
        largest[name] = float(difference[worst])
        if not largest[name] <= tolerance:
            raise ParityError(
                f"{onnx_path}: {name} of jet {worst} is {exported[worst]:.7g}, PyTorch gives {trained[worst]:.7g}: "
                f"relative difference {largest[name]:.1e}, allowed {tolerance:.0e}"
            )
    return largest
