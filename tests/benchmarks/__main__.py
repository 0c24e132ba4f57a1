"""Run all benchmarks, `python -m tests.benchmarks [NAME…]`: prints one JSON object a line, and keeps them in a file.

Each module `bench_NAME.py` of this folder has a generator `benchmarks()` of such objects and runs in a process of its
own, so that none inherits memory or threads of another. The lines go to results/bench.jsonl too, with the machine.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from jetcorr_utils.config import project_root
from jetcorr_utils.files import write_text

FOLDER = Path(__file__).parent


def main() -> int:
    """Run the benchmarks that are named, or all; 1 if one of them failed."""
    known = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; default: all")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return _run_here(arguments.child)
    if unknown := set(arguments.names) - set(known):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    lines, failed = [], []
    for name in arguments.names or known:
        command = [sys.executable, "-m", "tests.benchmarks", "--child", name]
        with subprocess.Popen(command, cwd=project_root(), stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line)
        if process.returncode:
            failed.append(name)
            print(f"benchmark {name} failed with exit code {process.returncode}", file=sys.stderr)
    if not arguments.names and not failed:
        print(f"written to {write_text(project_root() / 'results' / 'bench.jsonl', ''.join(lines))}", file=sys.stderr)
    return int(bool(failed))


def _run_here(name: str) -> int:
    machine = _machine()
    for figures in importlib.import_module(f"tests.benchmarks.bench_{name}").benchmarks():
        print(json.dumps({**figures, "machine": machine}), flush=True)
    return 0


def _machine() -> str:
    """Processor and number of cores of this machine."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


if __name__ == "__main__":
    sys.exit(main())
