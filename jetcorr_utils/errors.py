"""The exceptions of jetcorr: a small tree, so that callers can tell bad input from a fault.

The command line turns an `InputError` into exit code 2 and one line on stderr, anything else into exit code 1.
"""

import contextlib
import errno
import html
import sys
import traceback
from collections.abc import Callable, Iterator

__all__ = [
    "MACHINE_FAULTS", "ClusterError", "InputError", "JetcorrError", "MissingStageError", "ParityError", "ServerError",
    "Stopped", "StudyError", "TrainingError", "is_interrupt", "memory_errors", "stopping",
]  # fmt: skip

MACHINE_FAULTS = frozenset({
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE,
    errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ESTALE, errno.EEXIST, errno.EISDIR, errno.ELOOP,
})  # fmt: skip
"""Error numbers of the system that are no fault of the program: a full or read-only disk, a missing permission or
folder, a file in the place of a folder or the other way round."""


class _OneLine(BaseException):
    """In a notebook the message alone is shown, and the traceback behind a click."""

    _folded = False

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in the place of a traceback."""
        in_notebook = (ipython := sys.modules.get("IPython")) and hasattr(ipython.get_ipython(), "kernel")
        if in_notebook and not self._folded:  # IPython asks more than once
            self._folded = True
            from IPython.display import display

            text = html.escape("".join(traceback.format_exception(self)))
            folded = f"<details><summary>where it came from</summary><pre>{text}</pre></details>"
            display({"text/html": folded, "text/plain": ""}, raw=True)
        return [f"{type(self).__name__}: {self}"]


class JetcorrError(_OneLine, Exception):
    """Base of all errors that jetcorr raises on purpose; the message names the culprit and says what to do."""


class Stopped(_OneLine, KeyboardInterrupt):
    """Somebody has stopped the work; the message says how far it was, and how to go on."""


class InputError(JetcorrError):
    """Input that cannot be used: a file, a branch, a parameter, a model."""


class StudyError(InputError):
    """A study file or a notebook parameter that is not valid."""


class MissingStageError(InputError):
    """A notebook needs what an earlier notebook writes, and it is not in the run folder."""


class TrainingError(JetcorrError):
    """The training cannot go on, for example because the loss is not finite."""


class ParityError(JetcorrError):
    """An exported model does not give the numbers of the trained one."""


class ClusterError(JetcorrError):
    """What was started on the cluster has failed, has taken too long, or was removed by someone else."""


class ServerError(JetcorrError):
    """The inference server did not start, died, or did not answer; the message names it and its log."""


def is_interrupt(error: BaseException) -> bool:
    """Whether an error is Ctrl-C; Python makes a SystemError of one that met compiled code, of Numba for example."""
    return isinstance(error if not isinstance(error, SystemError) else error.__cause__, KeyboardInterrupt)


@contextlib.contextmanager
def stopping(how_far: Callable[[], str]) -> Iterator[None]:
    """Say how far the work within was when somebody stopped it, and that it can go on."""
    try:
        yield
    except (KeyboardInterrupt, SystemError) as error:
        if not is_interrupt(error):
            raise
        raise Stopped(f"{how_far()}; run this again to go on") from None


_NO_MEMORY = ("out of memory", "can't allocate memory", "failed to allocate memory", "bad_alloc")


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turn what torch and ONNX Runtime raise for lack of memory, errors of other classes, into a MemoryError."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if not any(text in str(error).lower() for text in _NO_MEMORY):
            raise
        raise MemoryError(str(error).splitlines()[0]) from error
