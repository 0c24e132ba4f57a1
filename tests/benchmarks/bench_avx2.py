"""ParticleNet as on a processor without AVX-512: `bench_models` in a process whose libraries are told to use AVX2.

The variables that tell them are in `__main__.ENVIRONMENT`, since numba and torch read them when they are imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.benchmarks import bench_models


def benchmarks() -> Iterator[dict[str, Any]]:
    """The lines of ParticleNet, both sides without AVX-512."""
    bench_models.ROUNDS = 3
    for line in bench_models.benchmarks(["particlenet"]):
        yield {**line, "name": f"{line['name']}/avx2"}
