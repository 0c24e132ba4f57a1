"""Flavour labels: which parton a jet comes from, as the published calibration defines it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["FLAVOURS", "paper_flavour"]

FLAVOURS = {2: "u", 1: "d", 3: "s", 4: "c", 5: "b", 21: "g"}
"""Names of the flavours; 0 means that no parton was found."""


def paper_flavour(hadron: ArrayLike, parton: ArrayLike) -> NDArray[np.int64]:
    """The flavour of jets: the hadron flavour where it is not zero, else the absolute parton flavour.

    Hadron flavour knows b (5) and c (4) jets from their hadrons, parton flavour all the others (the definition of
    `deinal/jec-inference`, the code of the paper).

    Parameters
    ----------
    hadron, parton
        ``hadronFlav`` and ``partonFlav``, `(B,)`.

    Returns
    -------
    `(B,)`, values 0 to 5 and 21.
    """
    hadron, parton = np.asarray(hadron, dtype=np.int64), np.asarray(parton, dtype=np.int64)
    return np.where(hadron != 0, hadron, np.abs(parton))
