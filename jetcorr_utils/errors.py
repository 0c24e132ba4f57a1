"""The exceptions of jetcorr: a small tree, so that callers can tell bad input from a fault.

The command line turns an `InputError` into exit code 2 and one line on stderr, anything else into exit code 1.
"""

import contextlib
import errno
from collections.abc import Iterator

__all__ = [
    "MACHINE_FAULTS", "ClusterError", "InputError", "JetcorrError", "MissingStageError", "ParityError", "ServerError",
    "StudyError", "TrainingError", "memory_errors",
]  # fmt: skip

MACHINE_FAULTS = frozenset({
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE,
    errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ESTALE, errno.EEXIST, errno.EISDIR, errno.ELOOP,
})  # fmt: skip
"""Error numbers of the system that are no fault of the program: a full or read-only disk, a missing permission or
folder, a file in the place of a folder or the other way round."""


class JetcorrError(Exception):
    """Base of all errors that jetcorr raises on purpose; the message names the culprit and says what to do."""


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
