"""What a batch run says while a notebook is at work: the section of the cell, and the bar of a long cell.

On a terminal that is one line, written again in place; in a log it is one line a section, and for a long cell one every
half a minute. The bars are those that the notebook itself draws: their texts come with the messages of the kernel.
"""

from __future__ import annotations

import html
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TextIO

from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines

from .processes import on_signals
from .terminal import printable

__all__ = ["ENGINE", "ShownRun", "showing"]

ENGINE = "jetcorr"
"""Papermill's name of the engine that shows what it does, inside `showing`."""
LOG_INTERVAL = 30.0  # seconds between two lines of a long cell in a log
WIDTH = 110  # characters of the line on a terminal


class ShownRun:
    """One notebook on its way, as somebody who waits for it sees it.

    Parameters
    ----------
    name
        Of the notebook.
    stream
        Where to write; in place if it is a terminal.
    """

    def __init__(self, name: str, stream: TextIO | None = None) -> None:
        self.interrupted = False
        self._name, self._stream = name, stream or sys.stderr
        self._in_place = self._stream.isatty()
        self._section = self._last = ""
        self._next = 0.0

    def section(self, title: str) -> None:
        """The section whose cells run now."""
        if title != self._section:
            self._section = title
            self._write(title)

    def bar(self, text: str) -> None:
        """The newest text of a bar."""
        if self._in_place or time.monotonic() >= self._next:
            self._write(f"{self._section}: {text}" if self._section else text)

    def close(self) -> None:
        """Wipe the line off the terminal."""
        if self._in_place and self._last:
            print("\r" + " " * len(self._last), end="\r", file=self._stream, flush=True)

    def _write(self, text: str) -> None:
        self._next = time.monotonic() + LOG_INTERVAL
        line = printable(f"  {self._name}  {text}")
        if self._in_place:
            line = line[:WIDTH]
            print("\r" + line.ljust(len(self._last)), end="", file=self._stream, flush=True)
        else:
            print(line, file=self._stream, flush=True)
        self._last = line


_shown: ShownRun | None = None  # papermill makes engine and client by itself, out of their classes


@contextmanager
def showing(name: str, stream: TextIO | None = None) -> Iterator[ShownRun]:
    """Have the notebook that papermill runs within be shown; Ctrl-C then interrupts its cell, and a second one ends it.

    An interrupted notebook is kept with what it had shown, and its kernel is shut down in order. SIGTERM does the same:
    it reaches this process, or its group, and the kernel has a session of its own, in which it may hold what would go
    on without it, such as resources of a cluster.
    """
    global _shown
    _shown = ShownRun(name, stream)
    try:
        yield _shown
    finally:
        _shown.close()
        _shown = None


class _Manager(NotebookExecutionManager):
    """Tells which section each cell belongs to."""

    def cell_start(self, cell: Any, cell_index: int | None = None, **kwargs: Any) -> None:
        if _shown is not None and _shown.interrupted:
            raise KeyboardInterrupt
        super().cell_start(cell, cell_index, **kwargs)
        if _shown is not None and (title := section_of(self.nb.cells, cell_index or 0)):
            _shown.section(title)


class _Client(PapermillNotebookClient):
    """Listens to the bars, and hands an interrupt on to the kernel."""

    def papermill_execute_cells(self) -> None:
        # At once, and not by the manager's own coroutine: a handler of signals cannot wait for one
        with _interrupting(lambda: os.killpg(self.km.provisioner.pgid, signal.SIGINT)):
            super().papermill_execute_cells()
        self.km.idle = True

    def handle_comm_msg(self, outs: Any, msg: Any, cell_index: int) -> None:
        super().handle_comm_msg(outs, msg, cell_index)
        if _shown is None:
            return
        content = msg["content"]
        moved = content["data"].get("state", {}).get("value") is not None
        if moved and (text := self._bar_with(content["comm_id"])):
            _shown.bar(text)

    def _bar_with(self, part: str) -> str:
        """The text of tqdm's bar that a widget belongs to: description, then count, times and figures."""
        for state in self.widget_state.values():
            children = [name.removeprefix("IPY_MODEL_") for name in state.get("children", [])]
            if part in children and len(children) == 3:
                ends = (str(self.widget_state.get(children[end], {}).get("value", "")) for end in (0, 2))
                return " ".join(html.unescape(" ".join(ends)).replace("\u2007", " ").split())
        return ""


class _Engine(NBClientEngine):
    @classmethod
    def execute_notebook(cls, nb: Any, kernel_name: str, output_path: str | None = None, **options: Any) -> Any:
        for name in ("progress_bar", "log_output"):
            options.pop(name, None)
        manager = _Manager(nb, output_path=output_path, progress_bar=False)
        manager.notebook_start()
        try:
            cls.execute_managed_notebook(manager, kernel_name, **options)
        finally:
            manager.notebook_complete()
        return manager.nb

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, start_timeout: int = 60, execution_timeout: int | None = None,
        **options: Any,
    ) -> Any:  # fmt: skip
        for name in ("input_path", "stdout_file", "stderr_file"):
            options.pop(name, None)
        client = _Client(
            nb_man, kernel_name=kernel_name, startup_timeout=start_timeout, timeout=execution_timeout, **options
        )
        return client.execute()


papermill_engines.register(ENGINE, _Engine)


def section_of(cells: Any, index: int) -> str:
    """The heading above a cell, the notebook's own title included."""
    for cell in reversed(cells[: index + 1]):
        if cell["cell_type"] == "markdown" and (found := re.findall(r"^#{1,3} +(.*)$", cell["source"], re.MULTILINE)):
            return str(found[-1]).strip()
    return ""


def _interrupting(interrupt: Callable[[], Any]) -> AbstractContextManager[None]:
    """Within, the first Ctrl-C or SIGTERM interrupts the kernel, and the second one this process."""

    def handle(number: int, frame: Any) -> None:
        if _shown is None or _shown.interrupted:
            raise KeyboardInterrupt
        _shown.interrupted = True
        interrupt()

    return on_signals(handle, signal.SIGINT, signal.SIGTERM)
