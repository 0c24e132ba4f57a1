"""What an exported ONNX file says of itself: its metadata and its operators. Needs neither torch nor ONNX Runtime."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import onnx
import pandas as pd

from ..errors import InputError
from .padding import INPUT_NAMES, OUTPUT_NAMES

__all__ = ["add_checksum", "model_metadata", "operators"]

CHECKSUM = "checksum"


def model_metadata(path: str | Path) -> dict[str, str]:
    """The metadata that the export wrote into an ONNX file.

    Raises
    ------
    InputError
        If the file cannot be read, is not a model that jetcorr exported, or is not any more what was exported.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise InputError(f"{path}: not a readable ONNX model: {' '.join(str(error).split())[:120]}") from None
    names = {value.name for value in (*model.graph.input, *model.graph.output)}
    missing = sorted(set(INPUT_NAMES + OUTPUT_NAMES) - names)
    if missing:
        raise InputError(f"{path}: not a model that jetcorr exported: no tensor {missing[0]!r}")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if CHECKSUM in metadata and metadata[CHECKSUM] != _checksum(model):
        raise InputError(f"{path}: damaged: it has another checksum than at its export; export the model again")
    return metadata


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
