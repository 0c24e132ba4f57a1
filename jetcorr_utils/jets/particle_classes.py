"""The classes of particle-flow candidates, by the PDG numbers that CMS gives them."""

__all__ = ["CLASSES", "FORWARD"]

CLASSES = {
    "charged hadrons": (211,), "neutral hadrons": (130,), "photons": (22,), "electrons": (11,), "muons": (13,),
}  # fmt: skip
"""Absolute numbers by class."""

FORWARD = {"neutral hadrons": (1,), "photons": (2,)}
"""Deposits in the forward calorimeter: hadronic and electromagnetic ones."""
