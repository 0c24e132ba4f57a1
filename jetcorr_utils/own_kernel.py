"""The kernel of a notebook that runs in batch: this interpreter, in an environment of the project's.

Papermill would start the kernel that is installed as ``python3``, which may be another interpreter's, and with the
user's start-up files. By hand, in JupyterLab, kernels are as the user wants them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager
from traitlets import default
from traitlets.config import Config

from .environment import LONGEST_SOCKET, for_kernels, socket_parent
from .files import MARK, scratch_folder

__all__ = ["own_kernel"]

#: ipykernel closes its streams while the thread that ends it may still flush them, which is then said on the terminal
_CONTROL_ENDS_FIRST = "lambda thread=get_ipython().kernel.control_thread: (thread.stop(), thread.join())"


class _OwnKernel(AsyncKernelManager):
    """Knows one kernel, that of this interpreter, and starts it in `for_kernels`.

    Whoever sees the last cell end says so by `idle`: a kernel is interrupted before it is shut down, and one that is
    about to end its cell would say that on the terminal.
    """

    idle = False

    @default("kernel_spec_manager")
    def _no_other_kernels(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[], parent=self)

    async def start_kernel(self, **options: Any) -> None:
        own = {
            "env": for_kernels(Path(self.connection_file).parent),
            "extra_arguments": [f"--IPKernelApp.exec_lines=__import__('atexit').register({_CONTROL_ENDS_FIRST})"],
        }
        await super().start_kernel(**options | own)

    async def _async_interrupt_kernel(self) -> None:
        if not self.idle:
            await super()._async_interrupt_kernel()


@contextlib.contextmanager
def own_kernel() -> Iterator[dict[str, Any]]:
    """The options with which papermill starts this kernel; its files lie in a folder of this user's for the time.

    So do its sockets, where the system has them: nobody else on the machine can talk to it, as through TCP ports. Where
    it has not, what goes through these ports is encrypted.
    """
    with scratch_folder(socket_parent(f"{MARK}123456789012/kernel-5")) as folder:
        connection = {
            "connection_file": str(folder / "kernel.json")
        }  # with the key of the kernel: gone with the folder
        sockets = str(folder / "kernel")
        if os.name == "posix" and len(os.fsencode(f"{sockets}-5")) <= LONGEST_SOCKET:
            connection |= {"transport": "ipc", "ip": sockets}
        else:
            connection |= {"transport_encryption": "auto"}  # all may listen to a TCP port
        yield {
            "kernel_name": NATIVE_KERNEL_NAME,
            "kernel_manager_class": _OwnKernel,
            "config": Config({"KernelManager": connection}),
        }
