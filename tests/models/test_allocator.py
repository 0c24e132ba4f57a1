"""The allocator keeps freed memory: fewer page faults for the same work."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from jetcorr_utils.models import allocator

COUNT_FAULTS = """
import resource, runpy, sys
import numpy as np
if sys.argv[1] == "keep":
    runpy.run_path(sys.argv[2])["keep_memory"](top_pad=0)
work = lambda: [np.ones(2**22) for _ in range(2)]
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    # `make` sets the same options by variables, which would make both modes alike
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", COUNT_FAULTS, mode, allocator.__file__]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=plain)
    return int(run.stdout)


def test_memory_is_kept():
    if not allocator.keep_memory():
        pytest.skip("the C library is not glibc: nothing to set")
    assert faults("keep") < 0.1 * faults("as it is")
