"""Who listens on a port."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jetcorr_utils.listening import listener, listens


def test_this_process():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as silent:
        port = server.getsockname()[1]
        silent.bind(("127.0.0.1", 0))
        assert listens(os.getpid(), port)
        assert not listens(os.getpid(), port, silent.getsockname()[1])
        assert not listens(os.getppid(), port)
        assert listener(port) == os.getpid()
        assert listener(silent.getsockname()[1]) is None
    assert not listens(4194305, port)  # beyond the largest process number


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_port_that_another_account_shares_is_not_ours():
    code = (
        "import socket, sys; s = socket.create_server(('127.0.0.2', int(sys.argv[1]))); print(1, flush=True); input()"
    )
    python = next(path for path in ("/usr/bin/python3", sys._base_executable) if Path(path).exists())
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listener(port) == os.getpid()
        nobody = pwd.getpwnam("nobody")
        with subprocess.Popen(
            [python, "-I", "-c", code, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/",
            user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[],
        ) as other:  # fmt: skip
            assert other.stdout.readline() == b"1\n"
            assert listener(port) is None
            other.communicate(b"\n")
