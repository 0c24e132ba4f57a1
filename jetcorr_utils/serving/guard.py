"""Runs a command and ends it when the caller is gone: how no server is ever left behind.

Started by `TritonServer` as a process of its own: ``python guard.py SHM_PREFIX KEY_VARIABLE COMMAND…``. Its standard
input is a pipe that the caller holds open; through it comes one line, a JSON object of all environment variables that
the command gets, the key among them. When the pipe closes, because the caller stops the server, leaves, or dies by
whatever signal, the command is terminated, and killed if it has not gone after a while. Python's standard library only,
so that it starts at once.

Why not prctl(PR_SET_PDEATHSIG) alone: it fires when the *thread* that started the process ends, not the process.

Two things that Triton cannot be asked for keep its memory and its key from other accounts of the machine:

- Its Python backend opens the memory that it shares with its model processes, jets included, to all accounts, whatever
  the umask: it calls fchmod. A filter of system calls (seccomp) has that call do nothing, and the umask counts.
- It takes the key of its restricted interfaces as an argument, and everyone can read the arguments of a process. The
  command has a key there that no request can carry; it is stopped before its first instruction (ptrace), and the
  argument made to point to its environment, which only this account can read. Where that is not permitted the
  restricted interfaces stay closed to all, and shared memory is not used; what the caller needs is open then.
"""

import contextlib
import ctypes
import glob
import json
import os
import signal
import struct
import subprocess
import sys
import threading

NO_KEY = "=\n"
"""The end of an argument that gets the key: what stands there until then is no value of a header."""
USE = "health,metadata,inference,model-config,model-repository,statistics,"
"""The interfaces that a server for its caller alone closes as well."""
PATIENCE = 10.0
"""Seconds that the command has to end by itself."""

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 1, 38, 22, 2
PTRACE_TRACEME, PTRACE_DETACH = 0, 17
X86_64, FCHMOD = 0xC000003E, 91  # the only system that the server is there for

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes, _libc.ptrace.restype = [ctypes.c_long] * 4, ctypes.c_long


def die_with_parent() -> None:
    """Have this process killed should its parent, the guard, be killed itself."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


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
    for what in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0)):
        if _libc.prctl(*what) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def hide_arguments(process: int, hidden: dict[int, str]) -> None:
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
            value = begin - 1 + environment.index(f"\0{name}=".encode()) + len(name) + 2
            memory.seek(stack + 8 + 8 * number)  # the stack begins with the number of arguments
            memory.write(struct.pack("Q", value))


def end(process: subprocess.Popen) -> None:
    """Terminate a process; kill it if it takes too long."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_caller(process: subprocess.Popen) -> None:
    """Block until the caller's end of the pipe is closed, then end the command."""
    while os.read(0, 4096):
        pass
    end(process)


def start(command: tuple[str, ...], variables: dict[str, str], key: str) -> subprocess.Popen:
    """Start the command with these variables, and with the key in its arguments where others cannot read it."""
    process, keyed = _start(command, variables, key)
    if not keyed and any(USE in text for text in command):
        end(process)
        process, _ = _start(tuple(text.replace(USE, "") for text in command), variables, key)
    return process


def _start(command: tuple[str, ...], variables: dict[str, str], key: str) -> tuple[subprocess.Popen, bool]:
    """The command's process, and whether it has the key."""
    done = False
    hidden = {number: f"JETCORR_ARGUMENT_{number}" for number, text in enumerate(command) if text.endswith(NO_KEY)}
    keyed = {name: command[n].removesuffix(NO_KEY) + "=" + key for n, name in hidden.items()}
    told, tell = os.pipe()

    def prepare() -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):  # what the guard ignores the command would inherit
            signal.signal(number, signal.SIG_DFL)
        die_with_parent()
        keep_modes()
        if _libc.ptrace(PTRACE_TRACEME, 0, 0, 0) == 0:
            os.write(tell, b"stops")

    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr, env=variables | keyed,
        preexec_fn=prepare, process_group=0,  # noqa: PLW1509 - the guard has no threads
    )  # fmt: skip
    os.close(tell)
    if os.read(told, 5):
        _, status = os.waitpid(process.pid, 0)
        if os.WIFSTOPPED(status):
            with contextlib.suppress(OSError):
                hide_arguments(process.pid, hidden)
                done = True
            _libc.ptrace(PTRACE_DETACH, process.pid, 0, 0)
    os.close(told)
    return process, done


def main(shm_prefix: str, key_variable: str, *command: str) -> int:
    """Run `command` under guard; print its process id; return its exit code. Remove its shared memory afterwards."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the caller's end of the pipe is the only thing that counts
    variables = json.loads(sys.stdin.buffer.readline())
    process = start(command, variables, variables[key_variable])
    print(process.pid, flush=True)
    threading.Thread(target=wait_for_caller, args=(process,), daemon=True).start()
    code = process.wait()
    # The server's own children outlive it where it was killed while they computed
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for path in glob.glob(f"/dev/shm/{shm_prefix}*"):  # left behind where the server was killed
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
