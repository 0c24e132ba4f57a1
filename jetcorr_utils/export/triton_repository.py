"""The model repository: one folder that serves in production and on this machine.

::

    <repository>/<model>/config.pbtxt          production: Triton's onnxruntime backend, in NVIDIA's container (KServe)
                         configs/local.pbtxt   here: Triton's Python backend, which runs ONNX Runtime (model.py)
                         warmup/…              one request, sent to a model before it is declared ready
                         1/model.onnx, 1/model.py
                         2/…                   a newer version; a running server picks it up by itself

Both configurations give the same model to clients: names, shapes and types of the paper's Triton configuration. The
server of this machine takes the model.onnx of a repository only, see `serving.served_repository`.
"""

from __future__ import annotations

import importlib.resources
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..data.dataset import Clouds
from ..errors import InputError
from ..files import atomic_path, scratch_folder
from ..inference.model_file import model_metadata
from ..inference.padding import OUTPUT_NAMES, pad
from ..inference.repository_layout import latest_version
from .triton_releases import container_image, first_release

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

__all__ = ["LOCAL_CONFIG", "VERSIONS", "add_model", "read_settings"]

LOCAL_CONFIG = "local"
"""Name of the model configuration for the server of this machine, beside the config.pbtxt for production."""
NOTES = (
    "format", "features", "points", "particle_features", "jet_features", "units", "candidates", "training_range",
    "factor_range", "training_summary", "selection", "split", "study", "checkpoint",
    "target", "neutrinos",
)  # fmt: skip
"""What of a model's metadata stands in its configuration, where clients of a server find it."""
MAX_QUEUE = 1024
"""Requests that may wait for a model: memory and waiting times stay bounded when more come in than can be answered."""
MAX_PARTICLES = 2048
"""The local server refuses jets padded to more particles than this."""
VERSIONS = 2
"""The version before the newest stays, for clients that ask for it by number."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
"""Names of models: Triton's Python backend hands them to a shell."""
LIMITS = {"max_batch_size": 65536, "instances": 64, "queue_delay_us": 10_000_000}
"""The largest settings that are taken from a configuration."""
LONGEST_CONFIGURATION = 1 << 20
"""Bytes."""
WARMUP_PARTICLES = 32
HEADER = """# Made by jetcorr. The batch axis is left out of the shapes; -1 is the number of particles.
# Runs in {} and newer.
"""


def read_settings(model: str | Path) -> dict[str, int]:
    """The settings that `add_model` wrote into a model's config.pbtxt, or that someone has changed there since.

    Raises
    ------
    InputError
        If the file is not a configuration of Triton's, or a number in it is too large.
    """
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    path = Path(model) / "config.pbtxt"
    if not path.is_file():
        raise InputError(f"{path}: is no regular file")
    if path.stat().st_size > LONGEST_CONFIGURATION:
        raise InputError(f"{path}: not a model configuration: longer than any")
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig(), allow_unknown_field=True)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a model configuration: {' '.join(str(error).split())[:120]}") from None
    settings = {
        "max_batch_size": config.max_batch_size,
        "instances": sum(group.count or 1 for group in config.instance_group) or 1,
        "queue_delay_us": config.dynamic_batching.max_queue_delay_microseconds,
    }
    for name, value in settings.items():
        if not (name == "queue_delay_us" or value > 0) or value > LIMITS[name]:
            raise InputError(f"{path}: {name} is {value}; at most {LIMITS[name]} is taken")
    return settings


def add_model(
    repository: str | Path,
    name: str,
    onnx_path: str | Path,
    *,
    version: int | None = None,
    max_batch_size: int = 4096,
    instances: int = 2,
    queue_delay_us: int = 100,
) -> int:
    """Add a version of a model to a repository, beside its older ones; a running server picks it up.

    Parameters
    ----------
    repository
        Folder of the repository; made if it does not exist.
    name
        Name of the model for clients.
    onnx_path
        The exported model.
    version
        Its number, replaced if it exists; default: one more than the highest.
    max_batch_size
        Most jets in a request, and in what the dynamic batcher puts together.
    instances
        How many copies of the model run at the same time, one thread each.
    queue_delay_us
        How long a request may wait for others to share its run.

    Returns
    -------
    int
        The version.

    Raises
    ------
    InputError
        If the file is not a model that jetcorr exported, or the name is not one of letters, digits, _ and -.
    """
    from google.protobuf.text_format import MessageToString

    if not NAME.fullmatch(name):
        raise InputError(f"model name {name!r}: only letters without accents, digits, _ and - can be in it")
    metadata = model_metadata(onnx_path)
    release = first_release(onnx.load(str(onnx_path), load_external_data=False))
    folder = Path(repository) / name
    version = version or latest_version(folder) + 1
    warmup = _warmup_request(int(metadata["particle_columns"]), int(metadata["jet_columns"]))
    shapes = {key: tensor.shape[1:] for key, tensor in warmup.items()}
    config = _config(name, shapes, max_batch_size, instances, queue_delay_us)
    notes = {"intra_op_thread_count": "1", **{key: metadata[key] for key in NOTES if key in metadata}}
    for path, backend, own in (
        ("config.pbtxt", "onnxruntime", {}),
        (f"configs/{LOCAL_CONFIG}.pbtxt", "python", {"max_particles": str(MAX_PARTICLES)}),
    ):
        parameters = {key: {"string_value": value} for key, value in {**notes, **own}.items()}
        # The parameters, which are long, come last
        parts = (config | {"backend": backend}, {"parameters": parameters})
        texts = [MessageToString(_message(part), as_utf8=True) for part in parts]
        _write_if_new(folder / path, "".join([HEADER.format(container_image(release)), *texts]).encode())
    for key, tensor in warmup.items():
        _write_if_new(folder / "warmup" / key, tensor.tobytes())
    _write_version(folder, version, Path(onnx_path))
    return version


def _write_if_new(path: Path, content: bytes) -> None:
    """Leaves an equal file alone: a changed time stamp would make a running server load all versions again."""
    if not path.exists() or path.read_bytes() != content:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)


def _write_version(folder: Path, version: int, onnx_path: Path) -> None:
    """The version's folder appears complete, by one rename, so that a polling server never sees a half of it."""
    model = importlib.resources.files(__package__) / "triton_model.py"
    with scratch_folder(folder.parent) as temporary:
        new = temporary / "new"
        new.mkdir()
        shutil.copyfile(onnx_path, new / "model.onnx")
        (new / "model.py").write_bytes(model.read_bytes())
        # Where this name is a file, Python cannot keep byte code there. It would count as a change of the model, which
        # a polling server would then load again; and Triton's Python has its switch for byte code ignored.
        (new / "__pycache__").touch()
        if (folder / str(version)).exists():
            (folder / str(version)).rename(temporary / "old")
        new.rename(folder / str(version))


def _warmup_request(columns: int, jet_columns: int) -> dict[str, NDArray[np.float32]]:
    """One valid jet: all zeros would be a jet without particles, which the model refuses."""
    particles = np.ones((WARMUP_PARTICLES, columns + 2), np.float32)
    particles[:, :2] = np.linspace(-0.4, 0.4, WARMUP_PARTICLES, dtype=np.float32)[:, None]
    clouds = Clouds(particles, np.array([0, WARMUP_PARTICLES]), np.ones((1, jet_columns), np.float32), "open")
    return pad(clouds, np.array([0]))


def _message(fields: dict[str, Any]) -> ModelConfig:
    """Triton's configuration of a model (its model_configuration.md); a field that it does not know is an error."""
    from google.protobuf.json_format import ParseDict
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    return ParseDict(fields, ModelConfig())


def _config(
    name: str, shapes: dict[str, tuple[int, ...]], max_batch_size: int, instances: int, queue_delay_us: int
) -> dict[str, Any]:
    """What both backends are told of the model; the shapes are those of the inputs of one jet in the warm-up."""
    inputs = {key: [*(-1 for _ in shape[:-1]), shape[-1]] for key, shape in shapes.items()}
    outputs = {key: [1] for key in OUTPUT_NAMES}
    tensors = [
        [{"name": key, "data_type": "TYPE_FP32", "dims": dims} for key, dims in named.items()]
        for named in (inputs, outputs)
    ]
    warmup = {
        key: {"data_type": "TYPE_FP32", "dims": list(shape), "input_data_file": key} for key, shape in shapes.items()
    }
    return {
        "name": name,
        "max_batch_size": max_batch_size,
        "input": tensors[0],
        "output": tensors[1],
        # Requests of the same number of particles that wait at the same time are run together; where more wait they are
        # refused as overload, at once: a client waits and tries again
        "dynamic_batching": {
            "max_queue_delay_microseconds": queue_delay_us,
            "default_queue_policy": {"max_queue_size": MAX_QUEUE},
        },
        # One thread a copy: copies run beside each other, and do not fight for cores
        "instance_group": [{"count": instances, "kind": "KIND_CPU"}],
        "version_policy": {"latest": {"num_versions": VERSIONS}},
        "model_warmup": [{"name": "one jet", "batch_size": 1, "inputs": warmup}],
    }
