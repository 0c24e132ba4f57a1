"""What several tests share: the real CMS files, and one executed batch run of the study `smoke`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from jetcorr_utils.config import project_root

# The same examples on each machine and in each run; no deadline, since two cores are shared by the tests.
settings.register_profile("jetcorr", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("jetcorr")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real CMS files; tests that need it are skipped where it is not given."""
    folder = os.environ.get("JETCORR_REAL_DATA")
    if not folder:
        pytest.skip("JETCORR_REAL_DATA is not set: no real CMS files at hand")
    return Path(folder)


@pytest.fixture(scope="session")
def sample() -> Path:
    """The committed sample of simulated jets."""
    return project_root() / "data" / "sample" / "jets.root"
