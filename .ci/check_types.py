"""The package's types, checked by mypy: strictly everywhere but in the files that untyped.txt lists.

That list may only shrink. A file in it that has become clean is an error, too, until `--shrink` takes it off; files
that are not in it have to be clean. mypy sees the packages of the environment whose Python runs this script.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

LIST = Path(__file__).with_name("untyped.txt")


def main(mypy: str, *options: str) -> int:
    """Run mypy and compare the files in which it finds something with the list."""
    done = subprocess.run(
        [mypy, "--python-executable", sys.executable, "--no-error-summary"], capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1):
        print(done.stdout + done.stderr, file=sys.stderr)
        return done.returncode
    found = {line: line.partition(":")[0] for line in done.stdout.splitlines() if re.match(r"\S+\.py:\d+: error", line)}
    listed = set(LIST.read_text(encoding="utf-8").split())
    errors = [line for line, file in found.items() if file not in listed]
    clean = sorted(listed - set(found.values()))
    if clean and "--shrink" in options:
        LIST.write_text("".join(f"{name}\n" for name in sorted(listed - set(clean))), encoding="utf-8")
    elif clean:
        errors += [f"{name}: has no errors of types any more; take it off with --shrink" for name in clean]
    print("\n".join(errors or [f"types: {len(listed) - len(clean)} files are not yet checked"]))
    return bool(errors)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
