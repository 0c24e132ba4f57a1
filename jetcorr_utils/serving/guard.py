"""Runs a command and ends it when the caller is gone: how no server is ever left behind.

Started by `TritonServer` as a process of its own: ``python guard.py SHM_PREFIX COMMAND…``. Its standard input is a pipe
that the caller holds open; through it comes one line, a JSON object of all environment variables that the command gets.
When the pipe closes, because the caller stops the server, leaves, or dies by whatever signal, the command is
terminated, and killed if it has not gone after a while. Python's standard library only, so that it starts at once.

Why not prctl(PR_SET_PDEATHSIG) alone: it fires when the *thread* that started the process ends, not the process.
"""

import contextlib
import ctypes
import glob
import json
import os
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1
PATIENCE = 10.0
"""Seconds that the command has to end by itself."""


def die_with_parent() -> None:
    """Have this process killed should its parent, the guard, be killed itself."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


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


def main(shm_prefix: str, *command: str) -> int:
    """Run `command` under guard; print its process id; return its exit code. Remove its shared memory afterwards."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the caller's end of the pipe is the only thing that counts
    # What the guard ignores the command would inherit; it must react to SIGTERM
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=sys.stderr,
        env=json.loads(sys.stdin.buffer.readline()),
        preexec_fn=_prepare_command,
        process_group=0,
    )
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


def _prepare_command() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    die_with_parent()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
