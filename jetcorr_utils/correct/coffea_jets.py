"""Corrected jets in a coffea analysis: one call in a processor, with the model in process or on a Triton server.

It can be sent to the workers of any of coffea's executors, each of which opens the model, or connects to the server,
when it first needs to. It needs no coffea itself: what counts is that the arrays are named as coffea names them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from ..data.belonging import refuse_strangers
from ..data.nanoaod import NanoAOD, raw_share
from ..data.selection import EMPTY
from ..errors import InputError
from ..inference.open_predictors import open_predictor
from ..inference.predictor import Predictor, check_batch_size
from ..inference.triton_predictor import MemoryChoice
from ..jets.columns import features_of
from .jet_arrays import Outside, check_outside, columns_needed, correct_chunk

__all__ = ["JetCorrector"]


class JetCorrector:
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
        self.model, self.batch_size, self.outside = str(model), batch_size, outside
        self.shared_memory: MemoryChoice = shared_memory
        self._predictor: Predictor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_predictor": None}

    @property
    def predictor(self) -> Predictor:
        """The model, opened when it is first needed."""
        if self._predictor is None:
            self._predictor = open_predictor(self.model, shared_memory=self.shared_memory)
        return self._predictor

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
        jets = self._corrected(kept)
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

    def _corrected(self, events: ak.Array) -> ak.Array:
        """The corrected jets of events of which none is missing."""
        model, reader = self.predictor.name, NanoAOD.of_events(events)
        if missing := reader.lacks(features_of(self.predictor.metadata)):
            raise InputError(f"model {model}: takes {', '.join(missing)}, which NanoAOD does not have")
        if not reader.has_candidates:
            raise InputError(f"{reader.path}: their jets have no particle-flow candidates (those of PFNano type have)")
        needed = columns_needed({model: self.predictor})
        flat = reader.convert(_without_missing(events, reader), needed["scalars"], needed["particles"])
        chunk = correct_chunk(flat, {model: self.predictor}, self.batch_size, self.outside, reader.path)
        refuse_strangers(chunk.tally, reader.path)
        lowest = json.loads(self.predictor.metadata.get("selection", "{}")).get("min_pt", 0.0)
        if chunk.skipped[EMPTY] == len(flat) and ak.any(flat["jetPt"] >= lowest):
            raise InputError(f"{reader.path}: none of {len(flat)} jets has particle-flow candidates")
        jets = events["Jet"]
        factor, sigma, in_range = (
            ak.unflatten(chunk.of_all(f"{model}_{name}", default), ak.num(jets["pt"]))
            for name, default in (("factor", 1.0), ("sigma", np.nan), ("in_range", False))
        )
        columns = {
            "pt_orig": jets["pt"], "mass_orig": jets["mass"], "pt": jets["pt"] * factor, "mass": jets["mass"] * factor,
            "rawFactor": 1 - raw_share(jets) / factor, "pt_resolution": sigma, "in_training_range": in_range,
        }  # fmt: skip
        for name, values in columns.items():
            jets = ak.with_field(jets, values, name)
        return jets


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
