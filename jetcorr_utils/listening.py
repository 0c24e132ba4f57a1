"""Which process of this machine listens on a port.

Another account may take the port that one of our servers is to have: ports are free for all, and those of a server can
be read in the list of processes. What answers there need not be the server that was started.
"""

from __future__ import annotations

import contextlib
import os

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
    """The process of this account that listens on a TCP port, if there is one."""
    with contextlib.suppress(psutil.Error):  # some systems tell root only
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return connection.pid if psutil.Process(connection.pid).uids().real == os.getuid() else None
    return None
