"""Tensors that reach a Triton server on this machine through shared memory (its system shared memory extension).

Client and server map the same piece of memory: inputs are copied into it once, outputs are read from it, and only the
names travel through the socket.

No region outlives its users, by whatever signal they end: its name is taken out of the machine as soon as the server
has mapped the memory, which is then freed when the last of the two unmaps it. What a killed client leaves behind is the
server's mapping; the next client of that server takes it away. Other accounts can open neither the memory (its mode is
0600) nor the interface by which a server maps it (it takes `Connection.key`). For this `multiprocessing.shared_memory`,
on which tritonclient's own helper is built, does not serve: it keeps the name, it cannot reserve the memory (a full
/dev/shm would kill the process while it writes), and it starts a process that watches over the names.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

__all__ = ["Region", "bytes_needed", "remove_leftovers", "unregister"]

FOLDER = Path("/dev/shm")
_PREFIX = "jetcorr-client-"
_ALIGNMENT = 64  # bytes; a processor's cache line
_SMALLEST = 1 << 20  # bytes


class Region:
    """Memory that this process shares with a server, for one request at a time.

    Parameters
    ----------
    client
        A client of tritonclient.
    key
        The header that opens the interface, `Connection.key`.
    size
        Bytes; made are at least these, rounded up so that a few sizes serve all requests.

    Raises
    ------
    InputError
        If the memory cannot be had.
    InferenceServerException
        If the server cannot map it: it runs on another machine or in another container, as another user, or without
        this extension.
    """

    def __init__(self, client: Any, key: dict[str, str], size: int) -> None:
        # All can see the file's name; a request can name any region that the server knows, so that must not be guessed
        self.name, file = (f"{_PREFIX}{os.getpid()}-{secrets.token_hex(16)}" for _ in range(2))
        self.size = max(_SMALLEST, 1 << (size - 1).bit_length())
        path = FOLDER / file
        try:
            self._memory = _allocate(path, self.size)
            client.register_system_shared_memory(self.name, f"/{file}", self.size, headers=key)
        finally:
            path.unlink(missing_ok=True)

    def lend(
        self, tensors: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]], outputs: Mapping[str, Any]
    ) -> dict[str, NDArray[np.float32]]:
        """Copy a request's arrays into the memory, and have tritonclient's tensors point there.

        Parameters
        ----------
        tensors, arrays
            The inputs, by name.
        outputs
            The outputs, by name; each has one number a jet.

        Returns
        -------
        dict
            Views `(jets,)` of where the outputs will be, valid until the next request.
        """
        offset, answers = 0, {}
        for name, array in arrays.items():
            self._view(array.shape, offset)[...] = array
            tensors[name].set_shared_memory(self.name, array.nbytes, offset)
            offset += _aligned(array.nbytes)
        jets = len(next(iter(arrays.values())))
        for name, output in outputs.items():
            answers[name] = self._view((jets,), offset)
            answers[name][...] = np.nan  # what the server does not fill is no answer
            output.set_shared_memory(self.name, answers[name].nbytes, offset)
            offset += _aligned(answers[name].nbytes)
        return answers

    def _view(self, shape: tuple[int, ...], offset: int) -> NDArray[np.float32]:
        return np.ndarray(shape, np.float32, buffer=self._memory, offset=offset)


def bytes_needed(arrays: Mapping[str, NDArray[np.float32]], outputs: int) -> int:
    """The size of a region for these inputs and so many outputs of one number a jet."""
    jets = len(next(iter(arrays.values())))
    return sum(_aligned(array.nbytes) for array in arrays.values()) + outputs * _aligned(4 * jets)


def unregister(client: Any, key: dict[str, str], names: list[str]) -> None:
    """Have a server unmap regions, and empty the list; where it is gone or has forgotten them, nothing is to do."""
    while names:
        with contextlib.suppress(Exception):
            client.unregister_system_shared_memory(names.pop(), headers=key)


def remove_leftovers(client: Any, key: dict[str, str]) -> None:
    """Take away what processes of this machine that are gone have left: mappings of the server, names of memory."""
    for path in FOLDER.glob(f"{_PREFIX}*"):
        if not _in_use(path.name):
            with contextlib.suppress(OSError):  # another user's
                path.unlink()
    known = client.get_system_shared_memory_status(headers=key)
    # HTTP gives a list, gRPC a message
    names = list(known.regions) if hasattr(known, "regions") else [entry["name"] for entry in known]
    unregister(client, key, [name for name in names if name.startswith(_PREFIX) and not _in_use(name)])


def _in_use(name: str) -> bool:
    """Whether the process that made a region still runs."""
    return Path("/proc", name.removeprefix(_PREFIX).partition("-")[0]).exists()


def _allocate(path: Path, size: int) -> mmap.mmap:
    """New memory that has a name, all of it reserved."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(handle, 0, size)
            return mmap.mmap(handle, size)
        finally:
            os.close(handle)
    except OSError as error:
        raise InputError(f"{path}: no {size >> 20} MiB of shared memory ({error.strerror}); switch it off") from None


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
