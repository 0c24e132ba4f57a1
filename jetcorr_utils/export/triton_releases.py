"""Which release of NVIDIA's Triton container runs an exported model.

A model states its opset (the version of its operators) and its IR version (that of the file format); the ONNX Runtime
in a container refuses newer ones. Sources:

- ONNX Runtime in each Triton release: "ONNX Runtime Versions" in docs/introduction/compatibility.md of
  triton-inference-server/server, commit 0f963c9a8c6913aa4cd9b57ee04f9c2b76ee8d2a. It begins with 24.04.
- ONNX in each ONNX Runtime: its release is built with the ONNX release of its time
  (https://onnxruntime.ai/docs/reference/compatibility.html); where that page and a release differ, the lower one is
  taken here, so the opsets are ones that are sure to run.
- opset and IR version of each ONNX release: `onnx.helper.VERSION_TABLE`.
"""

from __future__ import annotations

import onnx
import pandas as pd

from ..errors import InputError

__all__ = [
    "ONNX_RUNTIME", "check_opset", "check_release", "container_image", "first_release", "highest_opset", "releases",
]  # fmt: skip

ONNX_RUNTIME = {
    "24.04": "1.17.3", "24.05": "1.18.0", "24.06": "1.18.0", "24.07": "1.18.1", "24.08": "1.18.1", "24.09": "1.19.2",
    "24.10": "1.19.2", "24.11": "1.19.2", "24.12": "1.20.1", "25.01": "1.20.1", "25.02": "1.20.1", "25.03": "1.21.0",
    "25.04": "1.21.0", "25.05": "1.22.0", "25.06": "1.22.0", "25.07": "1.22.0", "25.08": "1.23.0", "25.09": "1.23.0",
    "25.10": "1.23.1", "25.11": "1.23.2", "25.12": "1.23.2", "26.01": "1.23.2", "26.02": "1.24.1", "26.03": "1.24.2",
    "26.04": "1.24.4", "26.05": "1.24.4", "26.06": "1.24.4", "26.07": "1.27.0", "26.08": "1.28.0",
}  # fmt: skip
"""The version of ONNX Runtime in each release of the container."""

_ONNX = {"1.17": "1.15.0", "1.18": "1.16.0", "1.19": "1.16.0", "1.20": "1.16.0", "1.21": "1.17.0", "1.22": "1.17.0"}
"""The ONNX release that a minor version of ONNX Runtime knows in full; later ones know that of the newest here."""


def _limits(release: str) -> tuple[int, int]:
    """Highest IR version and opset that a release is sure to run."""
    if release not in ONNX_RUNTIME:
        first, *_, last = ONNX_RUNTIME
        raise InputError(f"Triton release {release!r}: not in the table, which has {first} to {last}")
    runtime = ONNX_RUNTIME[release].rpartition(".")[0]
    known = _ONNX.get(runtime, _ONNX["1.22"])
    versions = {row[0]: row for row in onnx.helper.VERSION_TABLE}
    return versions[known][1], versions[known][2]


def highest_opset(release: str) -> int:
    """The highest opset that a release, such as ``"24.10"``, is sure to run.

    Raises
    ------
    InputError
        If the release is not in the table.
    """
    return _limits(release)[1]


def releases() -> pd.DataFrame:
    """The table: for each version of ONNX Runtime, the ``releases`` that have it, and the highest ``opset``."""
    rows = pd.DataFrame({"release": list(ONNX_RUNTIME), "ONNX Runtime": list(ONNX_RUNTIME.values())})
    rows["opset"] = rows["release"].map(highest_opset)
    grouped = rows.groupby(["ONNX Runtime", "opset"], sort=False)["release"]
    return grouped.agg(releases=", ".join).reset_index().set_index("ONNX Runtime")


def container_image(release: str) -> str:
    """The container's image."""
    return f"nvcr.io/nvidia/tritonserver:{release}-py3"


def _versions(model: onnx.ModelProto) -> tuple[int, int]:
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return model.ir_version, opset


def check_opset(opset: int, release: str) -> None:
    """Make sure that a release runs an opset, before anything is exported.

    Raises
    ------
    InputError
        If it may not, or is not in the table.
    """
    highest = highest_opset(release)
    if opset > highest:
        raise InputError(
            f"Triton {release} (ONNX Runtime {ONNX_RUNTIME[release]}) runs up to opset {highest}, not {opset}: "
            f"export with --opset {highest}"
        )


def check_release(model: onnx.ModelProto, release: str) -> None:
    """Make sure that a release runs a model.

    Raises
    ------
    InputError
        If it may not; the message says what it runs, and which release to use.
    """
    (ir, opset), (highest_ir, highest) = _versions(model), _limits(release)
    if ir > highest_ir or opset > highest:
        raise InputError(
            f"Triton {release} (ONNX Runtime {ONNX_RUNTIME[release]}) runs up to opset {highest}, IR {highest_ir}; "
            f"this one has opset {opset}, IR {ir}: export with --opset {highest}, or use Triton {first_release(model)}"
        )


def first_release(model: onnx.ModelProto) -> str:
    """The oldest release in the table that is sure to run a model.

    Raises
    ------
    InputError
        If none is.
    """
    ir, opset = _versions(model)
    for release in ONNX_RUNTIME:
        highest_ir, highest = _limits(release)
        if ir <= highest_ir and opset <= highest:
            return release
    raise InputError(f"no Triton release in the table is sure to run opset {opset}, IR {ir}: export with a lower opset")
