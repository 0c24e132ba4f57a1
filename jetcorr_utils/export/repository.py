"""The model repository: one folder that serves in production and on this machine.

::

    <repository>/<model>/config.pbtxt          production: Triton's onnxruntime backend, in NVIDIA's container (KServe)
                         configs/local.pbtxt   here: Triton's Python backend, which runs ONNX Runtime (model.py)
                         warmup/…              one request, sent to a model before it is declared ready
                         1/model.onnx, 1/model.py
                         2/…                   a newer version; a running server picks it up by itself

Both configurations give the same model to clients: names, shapes and types of the paper's Triton configuration. The
server of this machine takes the model.onnx of a repository only, see `serving.served`.
"""

from __future__ import annotations

import importlib.resources
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from ..errors import InputError
from ..files import atomic_path, scratch_folder, write_text
from .inspection import model_metadata
from .padding import OUTPUT_NAMES, Clouds, pad
from .triton_releases import container_image, first_release

__all__ = [
    "LOCAL_CONFIG",
    "VERSIONS",
    "add_model",
    "latest_version",
    "read_settings",
    "repository_models",
    "versions",
]

LOCAL_CONFIG = "local"
"""Name of the model configuration for the server of this machine, beside the config.pbtxt for production."""
NOTES = (
    "format", "features", "points", "particle_features", "jet_features", "units", "candidates", "training_range",
    "factor_range", "training_summary", "selection", "split", "study", "checkpoint",
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


def repository_models(repository: str | Path) -> dict[str, Path]:
    """Name and folder of each model in a repository."""
    return {path.parent.name: path.parent for path in sorted(Path(repository).glob("*/config.pbtxt"))}


def versions(model: str | Path) -> list[int]:
    """The version numbers in a model's folder, the highest last; none if there is no such folder."""
    folder = Path(model)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if re.fullmatch("[1-9][0-9]*", name))


def latest_version(model: str | Path) -> int:
    """The highest version number in a model's folder; 0 if there is none."""
    return max(versions(model), default=0)


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
    if not NAME.fullmatch(name):
        raise InputError(f"model name {name!r}: only letters without accents, digits, _ and - can be in it")
    metadata = model_metadata(onnx_path)
    release = first_release(onnx.load(str(onnx_path), load_external_data=False))
    folder = Path(repository) / name
    version = version or latest_version(folder) + 1
    columns, jet_columns = (_width(onnx_path, metadata, key) for key in ("particle_columns", "jet_columns"))
    settings = {
        "name": name, "columns": columns, "jet_columns": jet_columns, "max_batch_size": max_batch_size,
        "instances": instances, "queue_delay_us": queue_delay_us, "max_particles": MAX_PARTICLES,
        "release": release, "notes": {key: metadata[key] for key in NOTES if key in metadata},
    }  # fmt: skip
    _write_if_new(folder / "config.pbtxt", _config("onnxruntime", **settings))
    _write_if_new(folder / "configs" / f"{LOCAL_CONFIG}.pbtxt", _config("python", **settings))
    _write_warmup(folder / "warmup", columns, jet_columns)
    _write_version(folder, version, Path(onnx_path))
    return version


def _width(path: str | Path, metadata: Mapping[str, str], key: str) -> int:
    """How many columns an input has, by the model's metadata."""
    text = metadata.get(key, "")
    if not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise InputError(f"{path}: not a model that jetcorr exported: {key} in its metadata is {text[:20]!r}")
    return int(text)


def _write_if_new(path: Path, text: str) -> None:
    """Leaves an equal file alone: a changed time stamp would make a running server load all versions again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def _write_version(folder: Path, version: int, onnx_path: Path) -> None:
    """The version's folder appears complete, by one rename, so that a polling server never sees a half of it."""
    model = importlib.resources.files(__package__) / "triton_model.py"
    with scratch_folder(folder.parent) as temporary:
        new = temporary / "new"
        new.mkdir()
        shutil.copyfile(onnx_path, new / "model.onnx")
        (new / "model.py").write_text(model.read_text(encoding="utf-8"), encoding="utf-8")
        # Where this name is a file, Python cannot keep byte code there. It would count as a change of the model, which
        # a polling server would then load again; and Triton's Python has its switch for byte code ignored.
        (new / "__pycache__").touch()
        if (folder / str(version)).exists():
            (folder / str(version)).rename(temporary / "old")
        new.rename(folder / str(version))


def _write_warmup(folder: Path, columns: int, jet_columns: int) -> None:
    """One valid jet as raw tensors: all zeros would be a jet without particles, which the model refuses."""
    folder.mkdir(parents=True, exist_ok=True)
    particles = np.ones((WARMUP_PARTICLES, columns + 2), np.float32)
    particles[:, :2] = np.linspace(-0.4, 0.4, WARMUP_PARTICLES, dtype=np.float32)[:, None]
    clouds = Clouds(particles, np.array([0, WARMUP_PARTICLES]), np.ones((1, jet_columns), np.float32))
    for name, tensor in pad(clouds, np.array([0])).items():
        path = folder / name
        if not path.exists() or path.read_bytes() != tensor.tobytes():
            with atomic_path(path) as temporary:
                temporary.write_bytes(tensor.tobytes())


WARMUP_PARTICLES = 32


def _tensor(name: str, *dims: int) -> str:
    return f'  {{ name: "{name}" data_type: TYPE_FP32 dims: [ {", ".join(map(str, dims))} ] }}'


def _warmup_input(name: str, *dims: int) -> str:
    fields = f'data_type: TYPE_FP32 dims: [ {", ".join(map(str, dims))} ] input_data_file: "{name}"'
    return f'  inputs {{ key: "{name}" value: {{ {fields} }} }}'


def _parameter(key: str, value: object) -> str:
    return f'parameters {{ key: "{key}" value: {{ string_value: {json.dumps(str(value))} }} }}'


def _config(
    backend: str, *, name: str, columns: int, jet_columns: int, max_batch_size: int, instances: int,
    queue_delay_us: int, max_particles: int, release: str, notes: Mapping[str, str],
) -> str:  # fmt: skip
    """Triton's configuration of the model, in protobuf's text format (Triton's model_configuration.md)."""
    shapes = {
        "pf_points": (-1, 2), "pf_features": (-1, columns), "pf_mask": (-1, 1), "jet_features": (jet_columns,),
    }  # fmt: skip
    warmup = {key: tuple(WARMUP_PARTICLES if size == -1 else size for size in dims) for key, dims in shapes.items()}
    lines = [
        "# Made by jetcorr. The batch axis is left out of the shapes; -1 is the number of particles.",
        f"# Runs in {container_image(release)} and newer.",
        f'name: "{name}"',
        f'backend: "{backend}"',
        f"max_batch_size: {max_batch_size}",
        "input [", ",\n".join(_tensor(key, *dims) for key, dims in shapes.items()), "]",
        "output [", ",\n".join(_tensor(key, 1) for key in OUTPUT_NAMES), "]",
        "# Requests of the same number of particles that wait at the same time are run together",
        "dynamic_batching {",
        f"  max_queue_delay_microseconds: {queue_delay_us}",
        "  # More requests than that are refused as overload, at once: a client waits and tries again",
        f"  default_queue_policy {{ max_queue_size: {MAX_QUEUE} }}",
        "}",
        f"instance_group [ {{ count: {instances} kind: KIND_CPU }} ]",
        "# The version before the newest stays, for clients that ask for it by number",
        f"version_policy: {{ latest: {{ num_versions: {VERSIONS} }} }}",
        "model_warmup [ {",
        '  name: "one jet"', "  batch_size: 1", *(_warmup_input(key, *dims) for key, dims in warmup.items()),
        "} ]",
        "# One thread a copy: copies run beside each other, and do not fight for cores",
        _parameter("intra_op_thread_count", 1),
        *(_parameter(key, value) for key, value in notes.items()),
    ]  # fmt: skip
    if backend == "python":
        lines.append(_parameter("max_particles", max_particles))
    return "\n".join(lines) + "\n"
