"""Tensors that reach a Triton server on this machine through shared memory (its system shared memory extension).

Client and server map the same piece of memory: inputs are copied into it once, outputs are read from it, and only the
names travel through the socket.

No region outlives its users, by whatever signal they end: its name is taken out of the machine as soon as the server
has mapped the memory, which is then freed when the last of the two unmaps it. What a killed client leaves behind is the
server's mapping; the next client of that server takes it away. For this `multiprocessing.shared_memory`, on which
tritonclient's own helper is built, does not serve: it keeps the name, it cannot reserve the memory (a full /dev/shm
would kill the process while it writes), and it starts a process that watches over the names.
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

__all__ = ["MEMORY_FOLDER", "Region", "forget_regions", "remove_leftovers"]

MEMORY_FOLDER = Path("/dev/shm")
_PREFIX = "jetcorr-client-"
_ALIGNMENT = 64  # bytes; a processor's cache line
_SMALLEST = 1 << 20  # bytes


class Region:
    """Memory that this process shares with a server, for one request at a time.

    Parameters
    ----------
    client
        A connection of tritonclient.
    size
        Bytes; what is made is a power of two.

    Raises
    ------
    OSError
        If the memory cannot be had.
    InferenceServerException
        If the server cannot map it: it runs on another machine or in another container, as another user, or without
        this extension.
    """

    def __init__(self, client: Any, size: int) -> None:
        self.name = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
        self.size = max(_SMALLEST, 1 << (size - 1).bit_length())
        path = MEMORY_FOLDER / self.name
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(handle, 0, self.size)
            self._memory = mmap.mmap(handle, self.size)
            client.register_system_shared_memory(self.name, f"/{self.name}", self.size)
        finally:
            os.close(handle)
            path.unlink(missing_ok=True)
        self._end = 0

    def put(self, tensors: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]]) -> None:
        """Copy arrays into the memory, and have tritonclient's input tensors point there."""
        self._end = 0
        for name, array in arrays.items():
            view = self._view(array.shape)
            view[...] = array
            tensors[name].set_shared_memory(self.name, array.nbytes, offset=self._end)
            self._end += _aligned(array.nbytes)

    def expect(self, output: Any, jets: int) -> NDArray[np.float32]:
        """Have an output go to the memory; a view `(jets,)` of where it will be."""
        view = self._view((jets,))
        output.set_shared_memory(self.name, view.nbytes, offset=self._end)
        self._end += _aligned(view.nbytes)
        return view

    def _view(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return np.ndarray(shape, np.float32, buffer=self._memory, offset=self._end)


def needed(arrays: Mapping[str, NDArray[np.float32]], outputs: int) -> int:
    """Bytes that a request needs: its arrays and so many outputs, one number a jet."""
    jets = len(next(iter(arrays.values())))
    return sum(_aligned(array.nbytes) for array in arrays.values()) + outputs * _aligned(4 * jets)


def forget_regions(client: Any, names: list[str]) -> None:
    """Have a server unmap regions; one that cannot be reached, or has forgotten them, needs nothing."""
    while names:
        with contextlib.suppress(Exception):
            client.unregister_system_shared_memory(names.pop())


def remove_leftovers(client: Any) -> None:
    """Take away what clients of this machine that are gone have left: mappings of the server, names of memory."""
    for path in MEMORY_FOLDER.glob(f"{_PREFIX}*"):
        if not _alive(path.name):
            path.unlink(missing_ok=True)
    known = client.get_system_shared_memory_status()
    # HTTP gives a list, gRPC a message
    names = list(known.regions) if hasattr(known, "regions") else [entry["name"] for entry in known]
    forget_regions(client, [name for name in names if name.startswith(_PREFIX) and not _alive(name)])


def _alive(name: str) -> bool:
    """Whether the process that made a region still runs."""
    process = name.removeprefix(_PREFIX).partition("-")[0]
    return Path("/proc", process).exists()


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
