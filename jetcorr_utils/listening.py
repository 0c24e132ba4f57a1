"""Which process of this machine listens on a port.

Another account may take the port that one of our servers is to have: ports are free for all, and those of a server can
be read in the list of processes. What answers there need not be the server that was started.
"""

from __future__ import annotations

import os
from typing import Any

import psutil

__all__ = ["listener", "listens"]


def listens(process: int, *ports: int) -> bool:
    """Whether a process, one of ours, listens on all of these TCP ports."""
    try:
        found = psutil.Process(process).net_connections("tcp")
    except psutil.Error:
        return False
    return set(ports) <= {connection.laddr.port for connection in found if connection.status == psutil.CONN_LISTEN}


def listener(port: int) -> int | None:
    """The process of this account that listens on a TCP port; None if there is none, or another account does as well.

    A name such as localhost has several addresses, of which each can be somebody else's.
    """
    try:
        found = {connection.pid for connection in psutil.net_connections("tcp") if _listens(connection, port)}
        ours = all(process and psutil.Process(process).uids().real == os.getuid() for process in found)
    except psutil.Error:  # some systems tell root only; a process may have ended
        return None
    return max(found, default=None) if ours else None


def _listens(connection: Any, port: int) -> bool:
    return connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
