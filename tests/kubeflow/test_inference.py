"""The run's model folder, served by Triton with the arguments of the ServingRuntime, asked as KServe's users would."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
import yaml

from jetcorr_utils.config import load_study, project_root
from jetcorr_utils.data import load_clouds
from jetcorr_utils.inference import OnnxPredictor
from jetcorr_utils.inference.padding import INPUT_NAMES, OUTPUT_NAMES, pad
from tests.kubeflow.operators import ServedByRuntime, served

RUNTIME = project_root() / "pipelines" / "manifests" / "base" / "servingruntime.yaml"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(smoke_run, tmp_path_factory) -> Iterator[ServedByRuntime]:
    log = tmp_path_factory.mktemp("triton") / "log"
    with served(yaml.safe_load(RUNTIME.read_text()), smoke_run.folder.model_repository, log) as running:
        yield running


@pytest.fixture(scope="module")
def question(smoke_run) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The tensors of seven test jets, and what the model says of them in this process."""
    data = load_study("smoke", {"data.directory": str(smoke_run.data)}).data
    inputs = pad(load_clouds(data, progress=False).split("test"), np.arange(7))
    model = OnnxPredictor(smoke_run.folder.model_repository / "pfn" / "1" / "model.onnx")
    return inputs, np.stack(model.infer(inputs), axis=1)


def ask(url: str, body: dict | None = None) -> dict:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or "{}")


def test_the_arguments_are_those_of_the_runtime(server):
    (container,) = yaml.safe_load(RUNTIME.read_text())["spec"]["containers"]
    options = {argument.partition("=")[0] for argument in container["args"][1:]}
    with open(f"/proc/{server.pid}/cmdline") as file:
        running = {argument.partition("=")[0] for argument in file.read().split("\0")}
    assert options <= running


def test_plain_http_as_the_v2_protocol_has_it(server, question):
    inputs, expected = question
    base = f"http://{server.http_url}/v2"
    assert ask(f"{base}/health/ready") == {}
    assert ask(f"{base}/models/pfn/ready") == {}
    described = {tensor["name"]: tensor for tensor in ask(f"{base}/models/pfn")["inputs"]}
    assert set(described) == set(INPUT_NAMES)
    tensors = [
        {"name": name, "shape": list(inputs[name].shape), "datatype": described[name]["datatype"],
         "data": inputs[name].ravel().tolist()}
        for name in INPUT_NAMES
    ]  # fmt: skip
    outputs = ask(f"{base}/models/pfn/infer", {"inputs": tensors})["outputs"]
    answers = {tensor["name"]: np.reshape(tensor["data"], tensor["shape"])[:, 0] for tensor in outputs}
    found = np.stack([answers[name] for name in OUTPUT_NAMES], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_tritonclient(server, question, protocol):
    inputs, expected = question
    api = {"http": tritonclient.http, "grpc": tritonclient.grpc}[protocol]
    client = api.InferenceServerClient({"http": server.http_url, "grpc": server.grpc_url}[protocol])
    tensors = [api.InferInput(name, list(inputs[name].shape), "FP32") for name in INPUT_NAMES]
    for tensor in tensors:
        tensor.set_data_from_numpy(inputs[tensor.name()])
    result = client.infer("pfn", tensors)
    client.close()
    found = np.stack([result.as_numpy(name)[:, 0] for name in OUTPUT_NAMES], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
