"""The model repository: configurations for production and for here, versions, and equal bytes."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from jetcorr_utils.errors import InputError
from jetcorr_utils.export import add_model
from jetcorr_utils.inference import model_metadata
from jetcorr_utils.inference.repository_layout import latest_version, repository_models


def _contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("file", "backend"), [("config.pbtxt", "onnxruntime"), ("configs/local.pbtxt", "python")])
def test_configurations_are_what_triton_reads(make_repository, files, file, backend):
    repository = make_repository("pfn")
    config = text_format.Parse((repository / "pfn" / file).read_text(), ModelConfig())
    assert config.name == "pfn"
    assert config.backend == backend
    shapes = {tensor.name: list(tensor.dims) for tensor in (*config.input, *config.output)}
    assert shapes == {
        "pf_points": [-1, 2], "pf_features": [-1, 5], "pf_mask": [-1, 1], "jet_features": [10],
        "output": [1], "sigma": [1],
    }  # fmt: skip
    assert config.max_batch_size == 4096
    assert config.HasField("dynamic_batching")
    assert config.version_policy.latest.num_versions == 2
    metadata = model_metadata(files["pfn"])
    for key in ("training_range", "selection", "features"):
        assert config.parameters[key].string_value == metadata[key]
    (warmup,) = config.model_warmup
    for name, tensor in warmup.inputs.items():
        stored = np.fromfile(repository / "pfn" / "warmup" / tensor.input_data_file, np.float32)
        assert stored.size == np.prod(list(tensor.dims))
        assert name in shapes


def test_a_version_is_added_beside_the_old_ones(make_repository, files):
    repository = make_repository("pfn")
    before = _contents(repository)
    assert add_model(repository, "pfn", files["pfn"]) == 2
    after = _contents(repository)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {f"pfn/2/{name}" for name in ("model.onnx", "model.py", "__pycache__")}
    assert latest_version(repository / "pfn") == 2
    assert [path.name for path in repository.iterdir()] == ["pfn"]


def test_the_same_model_makes_the_same_bytes(make_repository, files, tmp_path):
    first = _contents(make_repository("pfn"))
    add_model(tmp_path / "other", "pfn", files["pfn"])
    assert _contents(tmp_path / "other") == first
    add_model(tmp_path / "other", "pfn", files["pfn"], version=1)
    assert _contents(tmp_path / "other") == first


def test_models_of_a_repository(make_repository, tmp_path):
    repository = make_repository("pfn", "particlenet")
    assert repository_models(repository) == {name: repository / name for name in ("particlenet", "pfn")}
    assert repository_models(tmp_path / "absent") == {}
    assert latest_version(tmp_path / "absent") == 0


def test_what_is_no_model_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"model\.onnx"):
        add_model(tmp_path / "repository", "pfn", path)
    assert not (tmp_path / "repository").exists()
