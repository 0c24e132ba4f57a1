"""What a training leaves on disk: the best weights with the settings they belong to, and the state to resume from.

`checkpoint.pt` holds tensors and plain values only, so that it loads with `weights_only=True`: nothing in it is run.
The same training gives the same bytes.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy

from ..config import ModelSettings
from ..errors import InputError, memory_errors
from ..files import atomic_path, write_json
from ..models import CloudNetwork, build_model

if TYPE_CHECKING:
    from ..data.dataset import CloudDataset

__all__ = ["CHECKPOINT", "STATE", "load_model", "read_state", "require_same_data", "save_model", "write_state"]

CHECKPOINT = "checkpoint.pt"
STATE = "state.pt"
_FORMAT = 1
"""Raised when weights of the same names and shapes mean something else, as with inputs in another order."""
_log = logging.getLogger(__name__)


def save_model(model: CloudNetwork, folder: Path, trained_on: dict[str, Any] | None = None) -> None:
    """Write `checkpoint.pt` (weights, constants, settings) and `settings.json` to `folder`, both atomically.

    `trained_on` says what the jets were made from, see `CloudDataset.origin`.
    """
    plain = model.settings.model_dump(mode="json")
    content = {"format": _FORMAT, "settings": json.dumps(plain, sort_keys=True), "weights": model.state_dict()}
    _save(content | {"trained_on": json.dumps(trained_on, sort_keys=True)}, folder / CHECKPOINT)
    write_json(folder / "settings.json", plain)


def load_model(folder: str | Path) -> CloudNetwork:
    """The trained model in `folder` (or of a checkpoint file), ready for inference.

    Raises
    ------
    InputError
        If there is no checkpoint, it is not one of ours, or not all of its weights are finite.
    """
    path = Path(folder)
    path = path / CHECKPOINT if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"{path}: there is no such checkpoint; train a model first (notebook 02 or `jetcorr train`)")
    try:
        with memory_errors():
            content = torch.load(_intact(path), map_location="cpu", weights_only=True)
            if (found := content.get("format")) != _FORMAT:
                raise InputError(f"it is of format {found!r}, this version reads {_FORMAT!r}; train the model again")
            settings = TypeAdapter(ModelSettings).validate_python(json.loads(content["settings"]))
            with _no_larger_than(path):
                model = build_model(settings)
            model.load_state_dict(content["weights"])
    except MemoryError:
        raise
    except ValidationError as error:
        raise InputError(f"{path}: settings of the checkpoint are not valid: {error.errors()[0]['msg']}") from None
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not a checkpoint of this version of jetcorr: {reason}") from None
    if broken := _not_finite(model):
        raise InputError(f"{path}: its {broken} is not finite: a broken network; train it again")
    return model.eval()


@contextlib.contextmanager
def _no_larger_than(path: Path) -> Iterator[None]:
    """Stop the making of a network that takes more memory than what its file has, before that is used.

    Twice as much is let through: weights can be kept in half precision, or be one tensor under two names.
    """
    left = 2 * path.stat().st_size

    def count(module: torch.nn.Module, name: str, weight: torch.nn.Parameter | None) -> None:
        nonlocal left
        if weight is not None and not is_lazy(weight):
            left -= max(1, weight.nbytes)
        if left < 0:
            raise ValueError("its settings are those of a larger network than its weights")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _not_finite(model: CloudNetwork) -> str | None:
    """The name of a weight or constant that is not finite, if there is one."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            return name
    return None


def require_same_data(folder: Path, data: CloudDataset) -> None:
    """Make sure that the network in `folder` was trained on jets from what `data` is made from.

    Raises
    ------
    InputError
        If it was not, or if that is not recorded.
    """
    content = torch.load(_intact(folder / CHECKPOINT), map_location="cpu", weights_only=True)
    before, now = json.loads(content.get("trained_on", "null")), data.origin
    if before is None:
        raise InputError(f"{folder}: what this network was trained on is not recorded; train it again (notebook 02)")
    for name, what in {"files": "files", "selection": "selection", "split": "split", "candidates": "particles"}.items():
        if now is None or before[name] != now[name]:
            raise InputError(
                f"{folder}: this network was trained on jets of other {what} than the study has now; train it again "
                "(notebook 02)"
            )


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write the state of a training that goes on, complete or not at all."""
    _save(state, path)


def read_state(path: Path, key: str) -> dict[str, Any] | None:
    """The state in `path` if it belongs to the training `key`; None if there is none, or it belongs to another."""
    if not path.is_file():
        return None
    try:
        with memory_errors():
            state = torch.load(_intact(path), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch raises many types here
        _log.warning("%s cannot be read, so the training starts anew: %s", path, error)
        return None
    return state if isinstance(state, dict) and state.get("key") == key else None


def _intact(path: Path) -> Path:
    """The path itself, after a look at the checksums of the archive, which torch does not compare.

    torch compresses nothing in it, but would unpack what somebody has compressed: a thousand times the file's size.
    """
    with zipfile.ZipFile(path) as archive:
        if packed := [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]:
            raise zipfile.BadZipFile(f"{packed[0]} in it is compressed")
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"{damaged} in it is damaged")
    return path


def _save(content: dict[str, Any], path: Path) -> None:
    # Through memory: torch writes the name of a file into it, and a temporary name would change the bytes
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
