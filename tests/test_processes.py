"""Worker processes: whatever happens to one, nobody waits for it; and the scripts that start them."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from jetcorr_utils.errors import InputError, JetcorrError
from jetcorr_utils.processes import cores, worker_processes
from tests.conftest import jetcorr
from tests.networks import exported
from tests.tasks import dying_while_it_sends, kill_self, lock, refuse, slow


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_worker_that_is_killed_while_it_sends_its_result_is_noticed_twenty_times_of_twenty():
    """The other worker lives on and has its own way to this process: it must not keep that of the dead one open."""
    for attempt in range(20):
        began = time.monotonic()
        with pytest.raises(JetcorrError, match="killed by signal 9"), worker_processes(2) as executor:  # noqa: PT012
            other = executor.submit(slow, 60)
            executor.submit(dying_while_it_sends, 0.01 + 0.004 * attempt).result()
        assert time.monotonic() - began < 30
        assert not other.done() or other.exception() is not None
    assert not multiprocessing.active_children()


def test_a_worker_that_is_killed_at_its_start_or_between_two_tasks_is_noticed():
    with pytest.raises(JetcorrError, match="killed by signal 9"), worker_processes(1, kill_self) as executor:
        executor.submit(slow, 0).result()
    with worker_processes(1) as executor:
        assert executor.submit(slow, 0).result() == 0
        (worker,) = multiprocessing.active_children()
        worker.kill()
        worker.join()
        with pytest.raises(JetcorrError, match="killed by signal 9"):
            executor.submit(slow, 0).result()


def test_an_error_in_a_worker_or_in_its_preparation_comes_back_as_it_is():
    with worker_processes(1, refuse, "model") as executor, pytest.raises(InputError, match="model: cannot be used"):
        executor.submit(slow, 0).result()
    with worker_processes(2) as executor:
        with pytest.raises(InputError, match="file: cannot be used") as caught:
            executor.submit(refuse, "file").result()
        assert "in refuse" in caught.value.__notes__[0]
        with pytest.raises(JetcorrError, match="cannot be sent"):
            executor.submit(lock).result()
        assert list(executor.map(slow, [0.02, 0.01, 0])) == [0.02, 0.01, 0]


def _run(arguments: list[str], **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments], capture_output=True, text=True, encoding="utf-8", timeout=120,
        **options,
    )  # fmt: skip


def test_a_script_without_a_main_guard_ends_with_a_line_that_says_so(sample, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from jetcorr_utils.correct import correct_files\n"
        f"correct_files([{str(sample)!r}], {str(exported('pfn'))!r}, 'out.root', workers=2, progress=False)\n",
        encoding="utf-8",
    )
    result = _run([str(script)], cwd=tmp_path)
    assert result.returncode == 1
    assert 'below `if __name__ == "__main__":`' in result.stderr.splitlines()[-1]
    assert os.listdir(tmp_path) == ["script.py"]


UNGUARDED_POOL = """
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from jetcorr_utils.files import locked

with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool, locked(sys.argv[1], "test"):
    pool.submit(abs, 1).result()
"""


def test_a_worker_without_a_main_guard_does_not_wait_at_the_lock_that_its_parent_holds(tmp_path):
    """The pool is the user's own here: the worker says it, and the executor that it died."""
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED_POOL, encoding="utf-8")
    result = _run([str(script), str(tmp_path)])
    assert result.returncode == 1
    assert 'jetcorr: a script that starts worker processes must do so below `if __name__ == "__main__":`' in (
        result.stderr
    )


FROM_ANYWHERE = """
import time
from jetcorr_utils.processes import worker_processes
if __name__ == "__main__":
    with worker_processes(2) as executor:
        print(list(executor.map(abs, [-1, -2, -3])))
"""


@pytest.mark.parametrize("way", ["command line", "standard input", "file", "module"])
def test_workers_start_from_wherever_python_has_its_script(way, tmp_path):
    (tmp_path / "script.py").write_text(FROM_ANYWHERE, encoding="utf-8")
    arguments = {"command line": ["-c", FROM_ANYWHERE], "standard input": ["-"], "module": ["-m", "script"]}
    result = _run(arguments.get(way, ["script.py"]), cwd=tmp_path, input=FROM_ANYWHERE)
    assert result.stdout == "[1, 2, 3]\n", result.stderr


def test_a_system_without_affinity_counts_its_cores(sample, tmp_path):
    """macOS has no `os.sched_getaffinity`; some emulated systems neither."""
    (tmp_path / "sitecustomize.py").write_text("import os\ndel os.sched_getaffinity\n", encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    out = tmp_path / "out.root"
    jetcorr("correct", sample, "--model", exported("pfn"), "--out", out, "--workers", 2, env=environment)
    assert out.stat().st_size > 0


def test_cores_are_those_of_the_job_not_of_the_machine():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, [min(before)])
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)


INTERRUPTED = """
import os
import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
os.kill(os.getpid(), signal.SIGINT)
"""


def test_ctrl_c_does_not_reach_workers_in_their_imports(tmp_path):
    """The terminal sends it to all processes; here each worker, and the server that forks some, sends it to itself."""
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    (tmp_path / "script.py").write_text(
        """
if __name__ != "__main__":
    import interrupted
from jetcorr_utils.processes import server_context, start_process, worker_processes

def work():
    pass

if __name__ == "__main__":
    with worker_processes(1) as workers:
        print(workers.submit(len, "abc").result())
    process = start_process(server_context("interrupted"), work)
    process.join()
    print(process.exitcode)
"""
    )
    done = _run(["script.py"], cwd=tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("3\n0\n", "", 0)
