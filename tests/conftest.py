"""What several tests share: the real CMS files, and one executed batch run of the study `smoke`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from jetcorr_utils import extensions
from jetcorr_utils.architectures import ARCHITECTURES
from jetcorr_utils.config import project_root
from jetcorr_utils.data.formats import FORMATS
from jetcorr_utils.files import Lock, write_text
from jetcorr_utils.jets.columns import JETS, PARTICLES
from jetcorr_utils.metrics import METRICS
from jetcorr_utils.run import RunFolder
from tests.planted import AWKWARD, SECRETS

# A shell that starts the tests in the background has them ignore interrupts, and so would processes that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on each machine and in each run; no deadline, since two cores are shared by the tests.
settings.register_profile("jetcorr", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("jetcorr")


LONGEST = (
    "test_batch.py", "tuning/test_search.py", "data/test_opendata.py", "test_extensions.py", "kubeflow/test_search.py",
    "kubeflow/test_backend.py", "kubeflow/test_pipeline.py", "reliability/test_faults.py", "test_cms_studies.py",
    "browser/test_jupyterlab.py", "training/test_training.py", "test_batch_output.py", "test_recorded_terminal.py",
    "tuning/test_resume.py", "serving/test_server.py", "kubeflow/test_guide.py", "kubeflow/test_memory.py",
    "test_notebooks.py", "serving/test_served.py", "simulation/test_production.py", "training/test_distributed.py",
    "browser/test_lab_access.py", "browser/test_tensorboard.py", "tuning/test_tensorboard.py", "docs/test_site.py",
    "test_surroundings.py", "physics/test_figures.py", "data/test_remote.py", "test_cli.py", "test_addresses.py",
)  # fmt: skip
"""Files with the longest tests: they begin, so that no process is left alone with one of them in the end.

The first makes the run that others wait for; the next four do without it meanwhile.
"""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest first; see also the slowest tests, which `make test` lists."""
    place = {config.rootpath / "tests" / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    """A test that calls the command line as a function changes the environment of the process of all tests."""
    before = dict(os.environ)
    yield
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def restored_tables() -> Iterator[None]:
    """What is added to the package's tables within is taken out again, and the modules that added it are forgotten."""
    tables = (ARCHITECTURES, FORMATS, JETS, METRICS, PARTICLES, extensions._loaded, extensions._calls)
    before, modules = [dict(table) for table in tables], set(sys.modules)
    extensions._loaded.clear()
    extensions._calls.clear()
    yield
    for module in extensions._loaded.values():
        if module.__name__ not in modules:
            sys.modules.pop(module.__name__, None)
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)


@pytest.fixture
def tables() -> Iterator[None]:
    """Tables that a test may add to."""
    with restored_tables():
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real CMS files; tests that need it are skipped where it is not given."""
    folder = os.environ.get("JETCORR_REAL_DATA")
    if not folder:
        pytest.skip("JETCORR_REAL_DATA is not set: no real CMS files at hand")
    return Path(folder)


@pytest.fixture
def dask_client() -> Iterator:
    """A dask cluster in this process. The port of its page is a free one: another's cluster may have the usual one."""
    distributed = pytest.importorskip("distributed", reason="dask is not in this environment")
    options = {"processes": False, "n_workers": 1, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="session")
def sample() -> Path:
    """The committed sample of simulated jets."""
    return project_root() / "data" / "sample" / "jets.root"


def jetcorr(*arguments: object, check: bool = True, **kwargs) -> subprocess.CompletedProcess:
    """Run the command line as a user would, in a process of its own."""
    command = [sys.executable, "-m", "jetcorr_utils.cli", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=900, **kwargs)
    if check and result.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}: {result.returncode}\n{result.stdout}{result.stderr}")
    return result


@pytest.fixture(scope="session")
def cli():
    """The command line as a function: `cli("run", "--study", "smoke")`."""
    return jetcorr


@dataclass
class SmokeRun:
    """The executed study `smoke`: its folder, its data's, the arguments that make it again, and what was printed."""

    folder: RunFolder
    data: Path
    arguments: tuple[object, ...]
    output: str


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory) -> SmokeRun:
    """All six notebooks, executed once on the study `smoke` for all tests, also where several processes share them.

    The study's file, the run's folder, and those for data and temporary files have awkward names, and no shell of the
    many programs below runs them.
    A folder named by JETCORR_SMOKE_RUN is kept, and brought up to date the next time.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    place = Path(os.environ.get("JETCORR_SMOKE_RUN", shared / "smoke"))
    place.mkdir(parents=True, exist_ok=True)
    folder, data, temporary = (place / name for name in (AWKWARD, f"data {AWKWARD}", f"tmp {AWKWARD}"))
    study = place / f"study {AWKWARD}.yaml"
    arguments = ("run", "--study", study, "--out", folder, "-p", "data.directory", data)
    output = shared / "smoke.txt"
    with Lock(place / "run.lock", "run"):
        if not output.exists():
            temporary.mkdir(exist_ok=True)
            write_text(study, f"name: smoke\n{(project_root() / 'pipelines' / 'studies' / 'smoke.yaml').read_text()}")
            result = jetcorr(*arguments, env=os.environ | SECRETS | {"TMPDIR": str(temporary)})
            write_text(output, result.stdout + result.stderr)
    return SmokeRun(RunFolder(folder), data, arguments, output.read_text())


def pytest_terminal_summary(terminalreporter) -> None:
    """Print what tests have measured (`record_property`), also where they ran in other processes."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")
