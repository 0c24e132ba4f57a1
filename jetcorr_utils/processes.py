"""Worker processes that end with the process that started them, however it ends; and how many cores there are."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any

from .environment import LONGEST_SOCKET
from .errors import JetcorrError
from .extensions import Loaded
from .terminal import harmless_logs

__all__ = [
    "check_main_guard", "cores", "end_with_parent", "in_worker", "on_signals", "server_context", "start_process",
    "worker_processes",
]  # fmt: skip

NO_GUARD = (
    'a script that starts worker processes must do so below `if __name__ == "__main__":`, since each of them imports it'
)


def cores() -> int:
    """How many cores this process may use: not all of the machine's, in a batch job."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        with contextlib.suppress(OSError):  # an emulated system
            return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_worker() -> bool:
    """Whether this is a worker process of another one."""
    return multiprocessing.parent_process() is not None or _is_importing_main()


def _is_importing_main() -> bool:
    """Whether this is a worker process that is still importing the user's script."""
    return getattr(multiprocessing.current_process(), "_inheriting", False)


def check_main_guard() -> None:
    """End a worker process whose import of the user's script has come to where workers are started, or waited for.

    Without the guard that multiprocessing asks for, each worker runs the whole script again: it would start workers of
    its own, or wait for a lock that its parent holds. What has come from standard input cannot be imported, and is not.
    """
    if _is_importing_main():
        raise SystemExit(f"jetcorr: {NO_GUARD}")
    if getattr(main := sys.modules["__main__"], "__file__", None) == "<stdin>":
        del main.__file__


@contextlib.contextmanager
def worker_processes(
    workers: int, initializer: Callable[..., object] | None = None, *arguments: Any
) -> Iterator[Executor]:
    """An executor of processes that begin empty: threads and other state of this process are not copied.

    Parameters
    ----------
    workers
        How many, at most: a process is started when there is a task for it.
    initializer, arguments
        Called once in each process.

    Raises
    ------
    JetcorrError
        If a process was killed, or did not start; from the `result()` of the task that it had.
    """
    check_main_guard()
    executor = _Workers(workers, functools.partial(initializer or _nothing, *arguments))
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


class _Workers(Executor):
    """Processes with a pipe each, and a thread here for each that hands it one task after another.

    The queue of `ProcessPoolExecutor` is shared: a worker that is killed while it writes a result leaves half of it
    there, and the lock on it taken, and the others keep it open, so that the reader waits for ever. A pipe that only
    one process holds ends with that process, at whatever moment it dies.
    """

    def __init__(self, workers: int, initializer: Callable[[], object]) -> None:
        self._initializer = initializer
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="jetcorr-worker")
        self._members: list[tuple[BaseProcess, Connection]] = []
        self._broken = False
        self._idle: queue.SimpleQueue[tuple[BaseProcess, Connection]] = queue.SimpleQueue()

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future:
        return self._threads.submit(self._do, functools.partial(function, *arguments, **options))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the workers end what they are at; where one was killed, end the others at once."""
        self._threads.shutdown(wait=False, cancel_futures=cancel_futures)
        self._broken = any(not process.is_alive() for process, _ in list(self._members))
        if self._broken:
            for process, _ in list(self._members):
                process.kill()
        self._threads.shutdown(wait=True)
        for process, pipe in self._members:
            pipe.close()
            process.join()

    def _do(self, task: Callable[[], Any]) -> Any:
        """Have a worker do a task: in the thread that has this worker for itself meanwhile."""
        try:
            worker = self._idle.get_nowait()
        except queue.Empty:
            worker = self._start()
        try:
            return _ask(*worker, task)
        finally:
            self._idle.put(worker)

    def _start(self) -> tuple[BaseProcess, Connection]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = start_process(context, _work, theirs)
        theirs.close()
        self._members.append((process, ours))
        if self._broken:  # meanwhile
            process.kill()
        _ask(process, ours, self._initializer, hint=f"; {NO_GUARD}")
        return process, ours


def _ask(process: BaseProcess, pipe: Connection, task: Callable[[], Any], hint: str = "") -> Any:
    """What a worker answers; `hint` is for one that ends by itself instead."""
    try:
        pipe.send(task)
        done, answer = pipe.recv()
    except (EOFError, OSError):
        process.join()
        code = process.exitcode or 0
        if code < 0:
            why = f"was killed by signal {-code}; is there too little memory? Try fewer workers"
        else:
            why = f"ended by itself, with exit code {code}{hint}"
        raise JetcorrError(f"a worker process {why}") from None
    if not done:
        raise answer
    return answer


def _nothing() -> None:
    pass


def _work(pipe: Connection) -> None:
    """The main function of a worker: an answer for each task, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent says what happens
    end_with_parent()
    while True:
        try:
            task = pipe.recv_bytes()
        except EOFError:
            return
        answer = _answer(task)
        try:
            pipe.send(answer)
        except BrokenPipeError:
            return
        except Exception as error:  # it cannot be pickled, which shows before anything is sent
            pipe.send((False, JetcorrError(f"the answer of a worker process cannot be sent: {error}")))


def _answer(task: bytes) -> tuple[bool, Any]:
    try:
        return True, pickle.loads(task)()
    except Exception as error:
        return False, _explained(error)


def _explained(error: Exception) -> Exception:
    """The error with the worker's traceback, which is not sent otherwise."""
    error.add_note(f"In a worker process:\n{traceback.format_exc()}")
    return error


def server_context(preload: str) -> SpawnContext | ForkServerContext:
    """For processes that are forked from a server, which has imported the module `preload`.

    Where the path of TMPDIR is too long for the server's socket, they start from nothing instead, which takes longer.
    """
    if len(os.fsencode(f"{tempfile.gettempdir()}/pymp-12345678/listener-12345678")) > LONGEST_SOCKET:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    return context


def start_process(
    context: SpawnContext | ForkServerContext, main: Callable[..., object], *arguments: Any
) -> BaseProcess:
    """Start `main(*arguments)` in a process that has this one's extensions (see `extensions`) before its arguments.

    It is a daemon, so that this process never waits for it at its own end. Ctrl-C, which reaches all processes of a
    terminal, is held back from it from its first moment on: it would end in its imports, with a traceback.
    """
    process = context.Process(target=_with_extensions, args=(Loaded(), main, *arguments), daemon=True)
    resource_tracker.ensure_running()  # at its start, it lets the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


def _with_extensions(_: Loaded, main: Callable[..., object], *arguments: Any) -> None:
    harmless_logs()
    main(*arguments)


@contextlib.contextmanager
def on_signals(handle: Callable[[int, Any], object], *numbers: signal.Signals) -> Iterator[None]:
    """Have `handle` take these signals within, if this is the main thread: no other one is sent any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent() -> None:
    """Have this process end when its parent does: a worker whose parent was killed has nobody to work for."""

    def watch(parent: BaseProcess) -> None:
        parent.join()
        os._exit(1)

    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=watch, args=(parent,), daemon=True).start()
