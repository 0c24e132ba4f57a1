"""Corrected jets in a coffea analysis: one call in a processor, with the model in process or on a Triton server.

A wrapper in the sense of `coffea.ml_tools`: it can be sent to the workers of any of coffea's executors, each of which
opens the model, or connects to the server, when it first needs to.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from coffea.ml_tools import numpy_call_wrapper
from coffea.ml_tools.helper import nonserializable_attribute
from numpy.typing import NDArray

from ..data.nanoaod import NanoAOD, raw_share
from ..data.selection import EMPTY
from ..errors import InputError
from ..export.padding import Clouds
from ..export.predictor import Predictor, check_batch_size
from .client import MemoryChoice
from .jets import Outside, check_outside, columns_needed, usable_clouds, usable_jets, within_range
from .opening import open_predictor

__all__ = ["JetCorrector"]


class JetCorrector(nonserializable_attribute, numpy_call_wrapper):
    """Corrects the jets of NanoAOD events with particle-flow candidates, as coffea's NanoEvents gives them.

    Parameters
    ----------
    model
        What `open_predictor` takes: ``http://host:port/name`` or ``grpc://host:port/name`` of a Triton server, or the
        path of an ONNX file or of a model in a repository.
    batch_size
        Jets in a request.
    outside
        What to do with jets beyond the range of the training jets: ``"correct"`` them, or ``"keep"`` the standard
        correction.
    shared_memory
        Of a server's predictor, see `TritonPredictor`.

    Examples
    --------
    In a processor::

        def __init__(self):
            self.corrector = JetCorrector("grpc://triton.example:8001/particlenet")

        def process(self, events):
            jets = self.corrector(events)
            good = jets[(jets.pt > 30) & (abs(jets.eta) < 2.5)]
    """

    def __init__(
        self,
        model: str | Path,
        *,
        batch_size: int = 1024,
        outside: Outside = "correct",
        shared_memory: MemoryChoice = "auto",
    ) -> None:
        check_outside(outside)
        check_batch_size(batch_size)
        nonserializable_attribute.__init__(self, ["predictor"])
        self.model, self.batch_size, self.outside = str(model), batch_size, outside
        self.shared_memory: MemoryChoice = shared_memory

    def __call__(self, events: ak.Array) -> ak.Array:
        """The jets of some events, corrected.

        Parameters
        ----------
        events
            With the collections of NanoAOD's jets and of their candidates (PFNano, BTVNano, JMENano), `(E,)`. Events
            may have been selected; the jets must be all that an event has in the order of its file, because candidates
            name them by their place. Events and jets may be masked. The raw pt is ``pt_raw`` where jets have it, as
            those of coffea's CorrectedJetsFactory, else pt · (1 - rawFactor).

        Returns
        -------
        The jets of the events, `(E, var)`, with new ``pt`` and ``mass`` (GeV) and ``rawFactor`` (NanoAOD's: 1 - raw pt
        / pt); the old ones in ``pt_orig`` and ``mass_orig``; the relative resolution of pt in ``pt_resolution``; and
        ``in_training_range``. They have the order of the old ones; None stays None. A jet that cannot be corrected,
        such as a forward one, keeps the standard correction, has no resolution (not a number), and is not in range.

        Raises
        ------
        InputError
            If the events lack a column or have no candidates, if these are not those of the jets (`data.belonging`), if
            the jets are corrected already, or if the events are dask arrays.
        ServerError
            If the server does not answer.
        """
        if not isinstance(events, ak.Array) or "Jet" not in events.fields:
            raise InputError(
                'the events are no array of NanoAOD events in memory: load them with mode="virtual" or mode="eager"'
            )
        jets = events["Jet"]
        if {"pt_resolution", "in_training_range"} <= set(jets.fields):
            raise InputError("the events: their jets are corrected already: they have a pt_resolution")
        present = _present(events) & _present(jets)
        kept = _without_option(events if present.all() else events[present])
        if kept["Jet"].layout.is_option:
            kept = ak.with_field(kept, _without_option(kept["Jet"]), "Jet")
        jets = super().__call__(kept)
        if present.all():
            return jets
        place = ak.index.Index64(np.where(present, np.cumsum(present) - 1, -1))
        layout = ak.contents.IndexedOptionArray(place, jets.layout)
        return ak.Array(layout, behavior=jets.behavior, attrs=jets.attrs)

    def close(self) -> None:
        """Close the connections to the server."""
        if self._predictor is not None:
            self._predictor.close()
            self._predictor = None

    def prepare_awkward(self, events: ak.Array) -> tuple[tuple[ak.Array, ...], dict[str, Any]]:
        """The clouds of the jets that can be corrected, and which these are."""
        needed = columns_needed({self.predictor.name: self.predictor})
        missing = [name for name in needed["particles"] if name in ("PF_caloFraction", "PF_hcalFraction")]
        if missing:
            raise InputError(f"model {self.predictor.name}: takes {', '.join(missing)}, which NanoAOD does not have")
        reader = NanoAOD.of_events(events)
        if not reader.has_candidates:
            raise InputError(f"{reader.path}: their jets have no particle-flow candidates (those of PFNano type have)")
        events = _without_missing(events, reader)
        jets, problems = usable_jets(
            reader.convert(events, needed["scalars"], needed["particles"]), self.predictor.metadata
        )
        lowest = json.loads(self.predictor.metadata.get("selection", "{}")).get("min_pt", 0.0)
        if (problems == EMPTY).all() and ak.any(jets["jetPt"] >= lowest):
            raise InputError(f"{reader.path}: none of {len(jets)} jets has particle-flow candidates")
        model = self.predictor.name
        clouds = usable_clouds({model: jets}, {model: self.predictor}, problems, reader.path)[model]
        return tuple(ak.Array(part) for part in (clouds.particles, clouds.ptr, clouds.jets, problems == "")), {}

    def validate_numpy_input(self, particles: NDArray, ptr: NDArray, jets: NDArray, good: NDArray[np.bool_]) -> None:
        """Whatever `prepare_awkward` lets through has been checked."""

    def numpy_call(
        self, particles: NDArray, ptr: NDArray, jets: NDArray, good: NDArray[np.bool_]
    ) -> tuple[NDArray, NDArray, NDArray]:
        """Factor, resolution, and whether it is within the training range, for each jet `(B,)`."""
        clouds = Clouds(particles, ptr, jets)
        log_factor, sigma = self.predictor.predict(clouds, batch_size=self.batch_size)
        inside = within_range(clouds, self.predictor.metadata, log_factor)
        use = inside if self.outside == "keep" else np.ones_like(inside)
        factors, sigmas = np.ones(len(good), np.float32), np.full(len(good), np.nan, np.float32)
        factors[good], sigmas[good] = np.where(use, np.exp(log_factor), 1), np.where(use, sigma, np.nan)
        in_range = good.copy()
        in_range[good] = inside
        return factors, sigmas, in_range

    def postprocess_awkward(self, answers: tuple[ak.Array, ...], events: ak.Array) -> ak.Array:
        """The jets with the new columns."""
        jets = events["Jet"]
        factor, sigma, in_range = (ak.unflatten(answer, ak.num(jets["pt"])) for answer in answers)
        columns = {
            "pt_orig": jets["pt"],
            "mass_orig": jets["mass"],
            "pt": jets["pt"] * factor,
            "mass": jets["mass"] * factor,
            "rawFactor": 1 - raw_share(jets) / factor,
            "pt_resolution": sigma,
            "in_training_range": in_range,
        }
        for name, values in columns.items():
            jets = ak.with_field(jets, values, name)
        return jets

    def _create_predictor(self) -> Predictor:
        return open_predictor(self.model, shared_memory=self.shared_memory)


def _present(array: ak.Array) -> NDArray[np.bool_]:
    """Which entries `(E,)` are not None."""
    layout = array.layout
    return np.asarray(layout.mask_as_bool(valid_when=True)) if layout.is_option else np.ones(len(array), dtype=bool)


def _without_option(array: ak.Array) -> ak.Array:
    """An array that has no None, of the type that says so."""
    return ak.drop_none(array, axis=0) if array.layout.is_option else array


def _without_missing(events: ak.Array, reader: NanoAOD) -> ak.Array:
    """The events with values in place of missing jets, which no model takes for jets.

    Raises
    ------
    InputError
        If something else is missing.
    """
    jets = {}
    for (collection, *name), values in reader.columns_of(events).items():
        if collection == "Jet":
            if values.ndim != 2:
                raise InputError(f"{reader.path}: Jet is not a list of the jets of each event")
            jets[name[0]] = ak.fill_none(values, -1, axis=1)
        elif any(ak.any(ak.is_none(values, axis=axis)) for axis in range(values.ndim)):
            column = ".".join((collection, *name))
            raise InputError(f"{reader.path}: {column} has missing values: mask jets or whole events only")
    return ak.with_field(events, ak.zip(jets, depth_limit=2), "Jet")
