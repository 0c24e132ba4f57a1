"""Worker processes that end with the process that started them, however it ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from .errors import JetcorrError

__all__ = ["end_with_parent", "worker_processes"]


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


def end_with_parent() -> None:
    """Have this process end when its parent does: a worker whose parent was killed has nobody to work for."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
