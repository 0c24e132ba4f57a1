"""Run all benchmarks, `python -m tests.benchmarks [NAME…] [--out FILE]`: prints one JSON object a line.

Each module `bench_NAME.py` of this folder has a generator `benchmarks()` of such objects and runs in a process of its
own, so that none inherits memory or threads of another; all have the same allocator settings, and one thread where a
line does not say otherwise. Each line names the threads or processes that share its work, the instruction set and the
machine. When all have run, the lines are kept in a file, complete or not at all; where some are run again, their lines
replace those that the file has.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from jetcorr_utils.config import project_root
from jetcorr_utils.files import write_text

FOLDER = Path(__file__).parent

EXPECTED = (
    "train/particlenet", "train/pfn", "infer/particlenet", "infer/pfn", "onnx/particlenet", "onnx/pfn",
    "triton/particlenet", "triton/pfn", "load/first_epoch", "load/later_epochs", "memory/4x", "simulate",
    "simulate/workers", "simulate/reuse",
)  # fmt: skip
"""Lines that a complete run has; there are more."""

ON_REQUEST = ("gpu",)
"""Benchmarks that only run when they are named: not every machine can."""

SAME = {
    "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "40000000000", "MALLOC_TOP_PAD_": "500000000",
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"),
}  # fmt: skip
"""For both sides of each comparison: freed memory stays in the process, as in the Makefile; and no library starts
threads of its own, whose idle turning would count as work where another process works beside."""

ENVIRONMENT = {
    "avx2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "", "ATEN_CPU_CAPABILITY": "avx2",
             "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}  # fmt: skip
"""Further variables of the process of a benchmark: those of `avx2` make a processor pass for one without AVX-512."""


def main() -> int:
    """Run the benchmarks that are named, or all; 1 if one of them failed or an expected line is missing."""
    known = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; default: all that can run")
    parser.add_argument("--out", type=Path, help="where the lines are kept; default: results/bench.jsonl if all ran")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return _run_here(arguments.child)
    if unknown := set(arguments.names) - set(known):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    lines, failed = [], []
    for name in arguments.names or [name for name in known if name not in ON_REQUEST]:
        new, code = _run(name)
        lines += new
        if code:
            failed.append(name)
            print(f"benchmark {name} failed with exit code {code}", file=sys.stderr)
    if not arguments.names and (missing := set(EXPECTED) - {json.loads(line)["name"] for line in lines}):
        failed += sorted(missing)
        print(f"no lines {', '.join(sorted(missing))}", file=sys.stderr)
    out = arguments.out or (None if arguments.names else project_root() / "results" / "bench.jsonl")
    if out is not None and not failed:
        print(f"written to {write_text(out, ''.join([*_others(out, lines), *lines]))}", file=sys.stderr)
    return int(bool(failed))


def _others(out: Path, lines: list[str]) -> list[str]:
    """The lines of a file that no new line replaces."""
    new = {json.loads(line)["name"] for line in lines}
    old = out.read_text().splitlines(keepends=True) if out.exists() else []
    return [line for line in old if json.loads(line)["name"] not in new]


def _run(name: str) -> tuple[list[str], int]:
    """The lines of a benchmark, which are printed as they come, and the exit code of its process."""
    command = [sys.executable, "-m", "tests.benchmarks", "--child", name]
    environment = {**os.environ, **SAME, **ENVIRONMENT.get(name, {})}
    lines = []
    with subprocess.Popen(command, cwd=project_root(), stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return lines, process.returncode


def _run_here(name: str) -> int:
    import torch  # not in the process that only starts others

    common = {"isa": torch.backends.cpu.get_cpu_capability().lower(), "machine": _machine()}
    for figures in importlib.import_module(f"tests.benchmarks.bench_{name}").benchmarks():
        print(json.dumps({"threads": 1, **figures, **common}), flush=True)
    return 0


def _machine() -> str:
    """Processor, number of cores, system and versions of what computes."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    versions = [f"{name} {version(name)}" for name in ("torch", "numba", "onnxruntime", "uproot", "numpy")]
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return ", ".join([f"{model}, {os.cpu_count()} cores, {system}", *versions])


if __name__ == "__main__":
    sys.exit(main())
