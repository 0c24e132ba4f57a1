"""Worker processes that end with the process that started them, however it ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from typing import Any

from .environment import LONGEST_SOCKET
from .errors import JetcorrError

__all__ = ["end_with_parent", "server_context", "worker_processes"]


@contextlib.contextmanager
def worker_processes(
    workers: int, initializer: Callable[..., object] | None = None, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """An executor of processes that begin empty: threads and other state of this process are not copied.

    Parameters
    ----------
    workers
        How many.
    initializer, arguments
        Called once in each process.

    Raises
    ------
    JetcorrError
        If a process was killed.
    """
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start, initargs=(initializer, arguments)
    )
    try:
        yield executor
    except BrokenProcessPool:
        # The executor ends those that it knows of when one dies, but waits for ever for one that was just being started
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        raise JetcorrError("a worker process was killed; is there too little memory? Try fewer workers") from None
    finally:
        executor.shutdown(cancel_futures=True)


def _start(initializer: Callable[..., object] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent says what happens
    end_with_parent()
    if initializer is not None:
        initializer(*arguments)


def server_context(preload: str) -> BaseContext:
    """For processes that are forked from a server, which has imported the module `preload`.

    Where the path of TMPDIR is too long for the server's socket, they start from nothing instead, which takes longer.
    """
    if len(os.fsencode(f"{tempfile.gettempdir()}/pymp-12345678/listener-12345678")) > LONGEST_SOCKET:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    return context


def end_with_parent() -> None:
    """Have this process end when its parent does: a worker whose parent was killed has nobody to work for."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
