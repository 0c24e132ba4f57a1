"""The hard collisions: flat-pt QCD events of Pythia 8 as flat columns, with partons and hadrons that name flavours.

One Pythia object serves a whole process. It is always initialised with the same seed, so that the estimates that
Pythia makes then are the same in every process, and set to the block's own seed before each block: a block of events
depends on nothing but its seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
import pythia8mc
from numpy.typing import NDArray

from ..errors import JetcorrError
from ..jets.ragged import offsets_of
from .parameters import Detector, Generator
from .particles import Particles

__all__ = ["Collisions", "charges", "generate", "make_pythia", "particles_of", "pythia_seed"]

_INITIAL_SEED = 1
_MAX_SEED = 900_000_000  # Pythia's own limit
_PROMPT = 2e-5  # m; what decays nearer than that to the collision makes no vertex of its own
_NEUTRINOS = (12, 14, 16)


@dataclass
class Collisions:
    """E hard collisions.

    Attributes
    ----------
    particles
        Final particles; neutrinos are left out, as from CMS's generator jets.
    ghosts
        Partons before hadronisation (pdg as generated), and hadrons with b or c quarks, last of their chain.
    outgoing
        The partons that leave the hard process.
    pthat, weight
        Transverse momentum of the hard process (GeV) and weight of the event (E,).
    """

    particles: Particles
    ghosts: Particles
    outgoing: Particles
    pthat: NDArray
    weight: NDArray

    def repeated(self, times: int) -> Collisions:
        """All collisions `times` times, one round after the other."""
        columns = (self.particles.repeated(times), self.ghosts.repeated(times), self.outgoing.repeated(times))
        return Collisions(*columns, np.tile(self.pthat, times), np.tile(self.weight, times))


def pythia_seed(sequence: np.random.SeedSequence) -> int:
    """A seed that Pythia accepts, 1 to 900 000 000."""
    return 1 + int(sequence.generate_state(1)[0]) % _MAX_SEED


def make_pythia(settings: Generator, detector: Detector, process: str = "HardQCD:all") -> Any:
    """A Pythia object for hard QCD collisions, or for `SoftQCD:inelastic`.

    Particles decay inside the tracker only: K0S and hyperons that live longer reach the calorimeters as such.
    """
    pythia = pythia8mc.Pythia("", False)
    commands = [
        "Print:quiet = on", "Random:setSeed = on", f"Random:seed = {_INITIAL_SEED}", f"{process} = on",
        f"Beams:eCM = {settings.energy}", f"Tune:pp = {settings.tune}",
        "ParticleDecays:limitTau0 = off", "ParticleDecays:limitCylinder = on",
        f"ParticleDecays:xyMax = {1e3 * detector.ecal_radius}", f"ParticleDecays:zMax = {1e3 * detector.ecal_z}",
    ]  # fmt: skip
    if process.startswith("HardQCD"):
        commands += [
            f"PhaseSpace:pTHatMin = {settings.min_pthat}", "PhaseSpace:bias2Selection = on",
            f"PhaseSpace:bias2SelectionPow = {settings.bias_power}",
            f"PhaseSpace:bias2SelectionRef = {settings.min_pthat}",
        ]  # fmt: skip
    for command in commands:
        if not pythia.readString(command):
            raise JetcorrError(f"Pythia does not know the setting {command!r}")
    if not pythia.init():
        raise JetcorrError("Pythia could not be initialised; its reason stands on the standard output")
    return pythia


def generate(pythia: Any, seed: int, events: int, max_abs_eta: float = 4.0) -> Collisions:
    """Generate `events` hard collisions that depend on `seed` only; particles beyond `max_abs_eta` are left out."""
    pythia.rndm.init(seed)
    batch = pythia.nextBatch(events)
    record = batch.prt
    status, pdg = abs(record.status), abs(record.id)
    final = (record.status > 0) & (pdg != _NEUTRINOS[0]) & (pdg != _NEUTRINOS[1]) & (pdg != _NEUTRINOS[2])
    partons = (status >= 71) & (status <= 79) & ((pdg <= 5) | (pdg == 21))
    return Collisions(
        particles=particles_of(pythia, record[final], max_abs_eta),
        ghosts=particles_of(pythia, record[partons | _last_heavy_hadrons(record)], max_abs_eta),
        outgoing=particles_of(pythia, record[status == 23], max_abs_eta),
        pthat=np.sqrt(ak.to_numpy(batch.info.pT2Hat)),
        weight=ak.to_numpy(batch.info.weights[:, 0]),
    )


def _last_heavy_hadrons(record: ak.Array) -> ak.Array:
    """Mask of hadrons with a b (c) quark whose daughters have none (E * var)."""
    quark = heavy_quark(abs(record.id))
    first, last = record.daughter1, record.daughter2
    count = ak.num(record)
    start = ak.where((first > 0) & (first < count), first, 0)
    end = ak.where((last > 0) & (last < count), last, start)
    second = ak.where(start + 1 <= end, start + 1, start)
    third = ak.where(start + 2 <= end, start + 2, start)
    kept = quark > 0
    for daughter in (start, second, third, end):
        kept = kept & ~((quark[daughter] == quark) & (daughter > 0))
    return kept


def heavy_quark(pdg: Any) -> Any:
    """5 for hadrons with a b quark, 4 for those with a c quark, else 0, from absolute PDG numbers of any shape."""
    meson, baryon = (pdg // 100) % 10, (pdg // 1000) % 10
    heaviest = meson * (baryon == 0) + baryon * (baryon > 0)
    return heaviest * ((pdg > 100) & ((heaviest == 4) | (heaviest == 5)))


def charges(pythia: Any, pdg: NDArray) -> NDArray:
    """Electric charges (n,) in units of e of the particles `pdg` (n,)."""
    kinds, where = np.unique(pdg, return_inverse=True)
    return np.array([pythia.particleData.charge(int(kind)) for kind in kinds])[where]


def particles_of(pythia: Any, record: ak.Array, max_abs_eta: float) -> Particles:
    """Flat columns of Pythia's particles (E * var), those within `max_abs_eta` only; all are given vertex 0."""
    offsets = offsets_of(ak.to_numpy(ak.num(record)))
    flat = ak.flatten(record)
    px, py, pz = (ak.to_numpy(flat.p[name]) for name in ("px", "py", "pz"))
    pt = np.hypot(px, py)
    pdg = ak.to_numpy(flat.id)
    x, y, z = (1e-3 * ak.to_numpy(ak.fill_none(flat.vProd[name], 0.0)) for name in ("px", "py", "pz"))
    with np.errstate(divide="ignore"):
        eta = np.arcsinh(pz / pt)
        d0, dz = (y * px - x * py) / pt, z - (x * px + y * py) * pz / pt**2
    charge, radius = charges(pythia, pdg), np.hypot(x, y)
    decayed = (charge != 0) & (radius > _PROMPT)
    origin = np.full(len(pt), -1)
    origin[decayed] = np.unique(x[decayed], return_inverse=True)[1]  # no two decays are at the same place
    everything = Particles(
        pt=pt, eta=eta, phi=np.arctan2(py, px), mass=np.maximum(ak.to_numpy(flat.m), 0.0), pdg=pdg,
        charge=charge, radius=radius, vertex=np.zeros(len(pt), np.int32), offsets=offsets,
        d0=d0, dz=dz, flight=np.sqrt(radius**2 + z**2), origin=origin,
    )  # fmt: skip
    return everything.select(np.abs(eta) < max_abs_eta)
