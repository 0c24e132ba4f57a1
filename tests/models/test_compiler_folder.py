"""The folder of what torch compiles, which is code: another account could make one of a name that it knows."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, stat
import jetcorr_utils.training
from torch._inductor.runtime.cache_dir_utils import cache_dir
mode = os.stat(cache_dir()).st_mode
print(cache_dir(), oct(stat.S_IMODE(mode)))
if os.fork() == 0:
    raise SystemExit
os.wait()
assert os.path.isdir(cache_dir())
"""


@pytest.mark.parametrize("planted", ["nothing", "folder", "file", "link"])
def test_what_another_account_has_put_there_is_not_used(planted, tmp_path):
    temporary = tmp_path / "temporary"
    known = temporary / f"torchinductor_{getpass.getuser()}"
    temporary.mkdir()
    match planted:
        case "folder":
            known.mkdir()
        case "file":
            known.touch()
        case "link":
            known.symlink_to(tmp_path / "elsewhere")
    before = sorted(temporary.iterdir())
    variables = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=variables | {"TMPDIR": str(temporary)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    folder, mode = done.stdout.split()
    assert folder != str(known)
    assert mode == "0o700"
    assert sorted(temporary.iterdir()) == before
