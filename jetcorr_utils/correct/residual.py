"""The residual correction that notebook 06 derives (`physics.closure`), applied after a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..correction_files import read_corrections
from ..errors import InputError

if TYPE_CHECKING:
    import correctionlib

__all__ = ["load_residual", "residual_factors"]

Values = NDArray[np.float64]


def load_residual(path: str | Path) -> correctionlib.CorrectionSet:
    """The residual corrections of a run.

    Parameters
    ----------
    path
        Its folder, or its closure.json.

    Raises
    ------
    InputError
        If there are none.
    """
    path = Path(path)
    path = path / "closure.json" if path.is_dir() else path
    try:
        return read_corrections(path)
    except InputError as error:
        raise InputError(f"closure: {error}; notebook 06 makes it where the study has physics.closure: true") from None


def residual_factors(
    residual: correctionlib.CorrectionSet, name: str, abs_eta: Values, pt: Values
) -> tuple[Values, Values | None]:
    """The factors on pt and on the predicted resolution of jets that the correction `name` has corrected.

    The resolution also follows the slope of the correction: where it stretches pt, it stretches sigma.

    Parameters
    ----------
    residual, name
        The corrections, and which of them.
    abs_eta, pt
        `(B,)`, of the jets after the network; pt in GeV.

    Returns
    -------
    `(B,)` each; None for the resolution of what predicts none, such as ``standard``.
    """
    factor = residual[name]
    value = np.asarray(factor.evaluate(abs_eta, pt))
    if f"{name}_sigma" not in list(residual):
        return value, None
    above, below = factor.evaluate(abs_eta, pt * 1.01), factor.evaluate(abs_eta, pt / 1.01)
    stretch = 1 + np.log(above / below) / (2 * np.log(1.01))
    return value, np.asarray(residual[f"{name}_sigma"].evaluate(abs_eta, pt)) * stretch
