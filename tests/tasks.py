"""What worker processes do in tests: in a module that they can import without delay."""

from __future__ import annotations

import os
import signal
import threading
import time

from jetcorr_utils.errors import InputError

LARGE = 200_000_000  # bytes: they take a tenth of a second to send


def dying_while_it_sends(seconds: float) -> bytes:
    def die() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    result = bytes(LARGE)
    threading.Thread(target=die).start()
    return result


def slow(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(what: str) -> None:
    raise InputError(f"{what}: cannot be used")


def lock() -> object:
    return threading.Lock()
