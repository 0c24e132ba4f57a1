"""The embedded default data: simulated proton collisions in a detector like CMS, written as JetNTuple files.

The chain, one module a link: `generator` (Pythia 8) and `pileup` → `detector` → `reconstruction` → `clustering` →
`flavour` → `ntuple`; `events` runs it for one block of events, `event_blocks` for many on several processes,
`production` writes files. `parameters` holds every number with its source, `calibration` derives the standard
corrections, and `jetcorr compare-cms` measures the result against CMS.
"""

from .parameters import SIMULATION_VERSION, Parameters, parameter_table
from .production import recorded_checksums, simulate

__all__ = ["SIMULATION_VERSION", "Parameters", "parameter_table", "recorded_checksums", "simulate"]
