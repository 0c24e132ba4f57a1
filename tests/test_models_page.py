"""pipelines/MODELS.md, which a program in C++ is written by, against the models."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnxruntime
import pytest

from jetcorr_utils.config import project_root
from jetcorr_utils.inference.model_file import model_metadata
from jetcorr_utils.inference.padding import INPUT_NAMES, OUTPUT_NAMES, pad
from jetcorr_utils.jets.columns import POINTS, features_of, jet_columns, particle_columns
from tests.networks import some_clouds

ROOT = project_root()
PAGE = (ROOT / "pipelines" / "MODELS.md").read_text(encoding="utf-8")
FILES = sorted((ROOT / "results" / "reference" / "model_repository").glob("*/1/model.onnx"))


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table behind a text."""
    lines = PAGE.partition(heading)[2].strip().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    table = [line.strip("|") for line in lines[first:]]
    end = next((number for number, line in enumerate(lines[first:]) if not line.startswith("|")), len(table))
    return [[cell.strip().strip("`") for cell in line.split("|")] for line in table[2:end]]


@pytest.fixture(params=FILES, ids=lambda file: file.parent.parent.name)
def session(request):
    return onnxruntime.InferenceSession(request.param, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("part", ["inputs", "outputs"])
def test_names_shapes_and_types(session, part):
    tensors = session.get_inputs() if part == "inputs" else session.get_outputs()
    written = rows(f"## {part.capitalize()}")
    assert [row[0] for row in written] == [tensor.name for tensor in tensors]
    assert {row[2] for row in written} == {"float32"}
    assert {tensor.type for tensor in tensors} == {"tensor(float)"}
    assert [row[1] for row in written] == [", ".join(map(str, tensor.shape)) for tensor in tensors]
    assert tuple(row[0] for row in written) == (INPUT_NAMES if part == "inputs" else OUTPUT_NAMES)


def test_columns_in_their_order(session):
    metadata = session.get_modelmeta().custom_metadata_map
    features = features_of(metadata)
    particles = particle_columns(features)
    assert tuple(row[0] for row in rows("\n`pf_points`\n")) == POINTS == particles[:2]
    assert tuple(row[0] for row in rows("\n`pf_features`\n")) == particles[2:]
    assert tuple(row[0] for row in rows("\n`jet_features`\n")) == jet_columns(features)
    energies = {row[0] for row in [*rows("\n`pf_features`\n"), *rows("\n`jet_features`\n")] if row[1] == "GeV"}
    assert energies == {"PF_pT", "PF_mass", "jetPt", "jetMass", "jetRawPt", "rhoAll"}
    assert metadata["units"] == "GeV"


def test_the_example_has_the_shapes_of_the_models(session):
    shapes = dict(zip(("points", "features", "mask", "jets"), session.get_inputs(), strict=True))
    for variable, tensor in shapes.items():
        width = re.search(rf"tensor\({variable}, \{{batch(?:, particles)?, (\d+)\}}\)", PAGE)
        assert width, variable
        assert int(width[1]) == tensor.shape[-1]
    assert f"jets[{shapes['jets'].shape[-1]} * i]" in PAGE
    assert jet_columns("open")[0] == "jetPt"  # what the example multiplies


def test_what_it_says_of_padding_and_order(session):
    clouds = some_clouds(40, 3)
    index = np.arange(len(clouds))
    plain = session.run(None, pad(clouds, index))
    padded = session.run(None, pad(clouds, index, particles=200))
    turned = {name: values[:, ::-1].copy() if values.ndim == 3 else values for name, values in
              pad(clouds, index).items()}  # fmt: skip
    for one, two, three in zip(plain, padded, session.run(None, turned), strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-6)
        assert three == pytest.approx(one, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.parent.name)
def test_opset_and_operators(file):
    model = onnx.load(file)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert "opset 18" in PAGE
    assert model_metadata(file)["candidates"] == "jet"
