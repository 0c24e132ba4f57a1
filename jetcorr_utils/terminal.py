"""What reaches a terminal: text that may quote a file, a server or another account's folder, made harmless.

An escape sequence in such a text could move the cursor over what was said before, rename the window, or write to the
clipboard. The filter is put where the text goes out, so that no command can forget it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

__all__ = [
    "INTERRUPTED", "ending_at_interrupt", "harmless_logs", "harmless_terminal", "open_closed_streams", "printable",
]  # fmt: skip

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""


def printable(text: str) -> str:
    """A text with ``?`` in the place of what a terminal obeys or hides; line ends and tabs stay.

    What a file name has of bytes that are no characters stays, too: the stream that gets it knows how to show them.
    """
    return "".join(c if c.isprintable() or c in "\n\t" or "\ud800" <= c <= "\udfff" else "?" for c in text)


class _Stream:
    """A text stream that lets only printable characters through."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if not isinstance(text, str):  # click tries whether a stream takes bytes
            raise TypeError("text is wanted")
        self._stream.write(printable(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def harmless_logs() -> None:
    """Have this process print only harmless log messages, where nobody has said how to print them."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Formatter())


def open_closed_streams() -> None:
    """Let what is closed of stdin, stdout and stderr lead nowhere.

    A file that is opened next would get its number, and with it what any library prints.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - as long as the process


@contextlib.contextmanager
def ending_at_interrupt() -> Iterator[None]:
    """Within, Ctrl-C ends the process at once: there is nothing to be closed, and a traceback would say nothing.

    Whoever ignores or handles it, is left alone.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not (ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler):
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def harmless_terminal() -> Iterator[None]:
    """Let what a command prints, logs, or stops with be harmless; bars of progress draw themselves on stderr."""
    harmless_logs()
    sys.excepthook = _print_traceback
    with contextlib.redirect_stdout(_Stream(sys.stdout)):
        yield


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(printable("".join(traceback.format_exception(kind, error, trace))))
