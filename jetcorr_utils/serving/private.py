"""Becomes a Triton server whose memory and key other accounts of the machine cannot get at.

Run by `TritonServer`: ``python private.py COMMAND…``, with the key in the variable JETCORR_TRITON_KEY. Two things that
Triton cannot be asked for are done here, with Python's standard library only:

- Its Python backend opens the memory that it shares with its model processes, jets included, to all accounts, whatever
  the umask: it calls fchmod. A filter of system calls (seccomp) has that call do nothing, and the umask counts.
- It takes the key of its restricted interfaces as an argument, and everyone can read the arguments of a process. The
  command therefore has a key that no request can carry, and is stopped before its first instruction (ptrace) to let
  that argument point to its environment, which only this account can read. Where that is not permitted the restricted
  interfaces stay closed to all: shared memory is not used.
"""

import contextlib
import ctypes
import os
import struct
import sys
import time

NO_KEY = "=\n"
"""The end of an argument that gets the key: what stands there until then is no value of a header."""
KEY_VARIABLE = "JETCORR_TRITON_KEY"

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, PR_SET_PTRACER, SECCOMP_MODE_FILTER = 38, 22, 0x59616D61, 2
PTRACE_CONT, PTRACE_DETACH, PTRACE_SEIZE, PTRACE_O_TRACEEXEC, PTRACE_EVENT_EXEC = 7, 17, 0x4206, 0x10, 4
WALL = 0x40000000
X86_64, FCHMOD = 0xC000003E, 91  # the only system that the server is there for

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes, _libc.ptrace.restype = [ctypes.c_long] * 4, ctypes.c_long


def keep_modes() -> None:
    """Have the umask decide the modes of all that this process and its children make.

    Raises
    ------
    OSError
        If the system has no such filters.
    """
    os.umask(0o077)
    load, jump_if_equal, give = 0x20, 0x15, 0x06
    allow, do_nothing = 0x7FFF0000, 0x00050000
    program = [
        (load, 0, 0, 4), (jump_if_equal, 0, 3, X86_64), (load, 0, 0, 0), (jump_if_equal, 0, 1, FCHMOD),
        (give, 0, 0, do_nothing), (give, 0, 0, allow),
    ]  # fmt: skip
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _check(_libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0))


def hide_arguments(process: int, hidden: dict[int, bytes]) -> None:
    """Let arguments of a process that has not begun to run point to variables of its environment.

    Parameters
    ----------
    process
        That has just called execve, and is stopped.
    hidden
        The name of the variable for each argument, by number.
    """
    with open(f"/proc/{process}/stat", "rb") as stat:
        fields = stat.read().rpartition(b") ")[2].split()
    stack, begin, end = (int(fields[number - 3]) for number in (28, 50, 51))  # numbers as in proc(5)
    with open(f"/proc/{process}/mem", "r+b", buffering=0) as memory:
        memory.seek(begin)
        environment = b"\0" + memory.read(end - begin)
        for number, name in hidden.items():
            value = begin - 1 + environment.index(b"\0" + name + b"=") + len(name) + 2
            memory.seek(stack + 8 + 8 * number)  # the stack begins with the number of arguments
            memory.write(struct.pack("Q", value))


def main(*command: str) -> None:
    """Become the command."""
    hidden = {number: f"JETCORR_ARGUMENT_{number}" for number, text in enumerate(command) if text.endswith(NO_KEY)}
    key = os.environ[KEY_VARIABLE]
    variables = {name: command[number].removesuffix(NO_KEY) + "=" + key for number, name in hidden.items()}
    keep_modes()
    _have_a_child_hide({number: name.encode() for number, name in hidden.items()})
    os.execve(command[0], command, os.environ | variables)


def _have_a_child_hide(hidden: dict[int, bytes]) -> None:
    """Start a process that waits for this one to become another, hides its arguments, and ends."""
    parent, (ready, tell) = os.getpid(), os.pipe()
    child = os.fork()
    if child == 0:
        if os.fork() == 0:  # the command would not ask how its child ended: it belongs to the guard's parent
            os.close(ready)
            with contextlib.suppress(OSError):
                _hide_when_it_begins(parent, hidden, tell)
        os._exit(0)
    os.close(tell)
    os.waitpid(child, 0)
    number = os.read(ready, 20)
    if number:
        _libc.prctl(PR_SET_PTRACER, int(number), 0, 0, 0)  # where only descendants may be looked into
        os.read(ready, 1)
    os.close(ready)


def _hide_when_it_begins(process: int, hidden: dict[int, bytes], tell: int) -> None:
    os.write(tell, str(os.getpid()).encode())
    _seize(process)
    os.close(tell)
    while True:
        _, status = os.waitpid(process, WALL)
        if not os.WIFSTOPPED(status):
            return
        if status >> 16 == PTRACE_EVENT_EXEC:
            break
        _libc.ptrace(PTRACE_CONT, process, 0, os.WSTOPSIG(status))
    try:
        hide_arguments(process, hidden)
    finally:
        _libc.ptrace(PTRACE_DETACH, process, 0, 0)


def _seize(process: int, patience: int = 100) -> None:
    """Wait for the permission to look into a process, for a second."""
    for _ in range(patience):
        if _libc.ptrace(PTRACE_SEIZE, process, 0, PTRACE_O_TRACEEXEC) == 0:
            return
        time.sleep(0.01)
    _check(-1)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main(*sys.argv[1:])
