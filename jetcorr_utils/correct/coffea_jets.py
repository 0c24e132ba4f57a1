"""Corrected jets in a coffea analysis: one call in a processor, with the model in process or on a Triton server.

It can be sent to the workers of any of coffea's executors, each of which opens the model, or connects to the server,
when it first needs to. It needs no coffea itself: what counts is that the arrays are named as coffea names them.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from ..data.belonging import TOLERATED, refuse_strangers
from ..data.drift import DriftCheck
from ..data.nanoaod import AK4, NanoAOD, raw_share
from ..data.selection import EMPTY
from ..errors import InputError
from ..inference.open_predictors import open_predictor
from ..inference.predictor import Predictor, check_batch_size
from ..inference.triton_predictor import MemoryChoice
from ..jerc import JER, Corrections, CorrectionsChoice, is_variation
from ..jets.columns import features_of
from .jet_arrays import CorrectedChunk, Outside, check_outside, columns_needed, correct_chunk
from .residual import load_residual, residual_factors
from .root_files import drift_lines

__all__ = ["JetCorrector"]

log = logging.getLogger(__name__)


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
    collection
        Which of the events' jets: ``"Jet"``, ``"FatJet"``, ….
    tolerated
        Share of jets whose candidates may not sum up to them.
    corrections
        CMS's official corrections, from which the jets' standard correction is made anew first, and the uncertainties
        that are wanted, see `jerc`.
    closure
        A run's folder, or its closure.json: apply the residual correction of the model, too (`physics.closure`).

    Raises
    ------
    InputError
        If `model` is a path without a model, or `closure` has no residual correction of it. A server is first asked
        when there are jets.

    Examples
    --------
    In a processor::

        def __init__(self):
            self.corrector = JetCorrector("grpc://triton.example:8001/particlenet")

        def process(self, events):
            jets = self.corrector(events)
            good = jets[(jets.pt > 30) & (abs(jets.eta) < 2.5)]

    With systematic variations, and the missing momentum that belongs to them::

        choice = CorrectionsChoice("jet_jerc.json.gz", "L1L2L3Res", ("Total", "JER"))
        corrector = JetCorrector(model, corrections=choice)
        jets = corrector(events)
        jets.JES_Total.up.pt, jets.JER.down.mass
        met = correct_met(events.PuppiMET, jets)
        met.JES_Total.up.pt

    With the predicted resolution, simulated jets can be smeared until they are as wide as those of the data, which are
    wider by a factor ``scale``::

        width = jets.pt_resolution * (scale**2 - 1) ** 0.5
        smeared = jets.pt * (1 + width * random_normal)  # not a number where a jet was not corrected
    """

    def __init__(
        self,
        model: str | Path,
        *,
        batch_size: int = 1024,
        outside: Outside = "correct",
        shared_memory: MemoryChoice = "auto",
        collection: str = AK4,
        tolerated: float = TOLERATED,
        corrections: CorrectionsChoice | None = None,
        closure: str | Path | None = None,
    ) -> None:
        check_outside(outside)
        check_batch_size(batch_size)
        self.model, self.batch_size, self.outside = str(model), batch_size, outside
        self.shared_memory: MemoryChoice = shared_memory
        self.collection, self.tolerated, self.corrections = collection, tolerated, corrections
        self._predictor: Predictor | None = None
        self._drift: DriftCheck | None = None  # of all jets so far, until it has been warned of
        self._warned = False
        self._residual = None if closure is None else load_residual(closure)
        if "://" not in self.model:
            self._check_residual(self.predictor.name)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_predictor": None, "_drift": None, "_warned": False}

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

        With `corrections`, jets have for each uncertainty a record ``JES_<source>`` or ``JER`` of the jets ``up`` and
        ``down``, whose pt and mass are varied relative to the network's as the official correction is. With ``JER``, pt
        and mass are smeared in all; the variations of the energy scale are those of the smeared jets.

        Raises
        ------
        InputError
            If the events lack a column or have no candidates, if these are not those of the jets (`data.belonging`), if
            the jets are corrected already, or if the events are dask arrays.
        ServerError
            If the server does not answer.
        """
        in_memory = isinstance(events, ak.Array) and ak.backend(events) == "cpu"
        if not in_memory or self.collection not in events.fields:
            raise InputError(
                f"the events are no array of NanoAOD events in memory with a {self.collection}: "
                'load them with mode="virtual" or mode="eager"'
            )
        jets = events[self.collection]
        if {"pt_resolution", "in_training_range"} <= set(jets.fields):
            raise InputError("the events: their jets are corrected already: they have a pt_resolution")
        present = _present(events) & _present(jets)
        kept = _without_option(events if present.all() else events[present])
        if kept[self.collection].layout.is_option:
            kept = ak.with_field(kept, _without_option(kept[self.collection]), self.collection)
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
        model, reader = self.predictor.name, NanoAOD.of_events(events, self.collection)
        if missing := reader.lacks(features_of(self.predictor.metadata)):
            raise InputError(f"model {model}: takes {', '.join(missing)}, which NanoAOD does not have")
        if not reader.has_candidates:
            raise InputError(f"{reader.path}: their jets have no particle-flow candidates (those of PFNano type have)")
        needed = columns_needed({model: self.predictor})
        scalars = [*needed["scalars"], *(["jetRawMass"] if self.corrections else [])]
        flat = reader.convert(_without_missing(events, reader), scalars, needed["particles"])
        if self.corrections:
            flat = _officially_corrected(flat, self.corrections.load(simulation=reader.has_generator))
        chunk = correct_chunk(flat, {model: self.predictor}, self.batch_size, self.outside, reader.path)
        refuse_strangers(chunk.tally, reader.path, tolerated=self.tolerated)
        lowest = json.loads(self.predictor.metadata.get("selection", "{}")).get("min_pt", 0.0)
        if chunk.skipped[EMPTY] == len(flat) and ak.any(flat["jetPt"] >= lowest):
            raise InputError(f"{reader.path}: none of {len(flat)} jets has particle-flow candidates")
        jets = events[self.collection]
        self._watch_drift(chunk)
        values = [
            chunk.of_all(f"{model}_{name}", default)
            for name, default in (("factor", 1.0), ("sigma", np.nan), ("in_range", False))
        ]
        if self._residual is not None:
            self._check_residual(model)
            _close(self._residual, model, flat, *values[:2])
        factor, sigma, in_range = (ak.unflatten(column, ak.num(jets["pt"])) for column in values)
        raw, before = raw_share(jets), {name: jets[name] for name in ("pt", "mass")}
        standard = before
        if self.corrections:
            factor = factor * ak.unflatten(flat[_SMEARED], ak.num(jets["pt"]))
            standard = {name: ak.unflatten(flat[f"jet{name.capitalize()}"], ak.num(jets["pt"])) for name in before}
            raw = raw * before["pt"] / standard["pt"]
        columns = {
            **{f"{name}_orig": values for name, values in before.items()},
            **{name: values * factor for name, values in standard.items()},
            "rawFactor": 1 - raw / factor, "pt_resolution": sigma, "in_training_range": in_range,
        }  # fmt: skip
        for name, values in columns.items():
            jets = ak.with_field(jets, values, name)
        return _with_variations(jets, flat) if self.corrections else jets

    def _check_residual(self, model: str) -> None:
        if self._residual is not None and model not in list(self._residual):
            raise InputError(f"closure: has no residual correction of {model}, but of {', '.join(self._residual)}")

    def _watch_drift(self, chunk: CorrectedChunk) -> None:
        """Warn, once in a process, if the jets so far are not like those of the training."""
        for check in chunk.drift.values():
            if self._drift is None:
                self._drift = check
            elif not self._warned:
                self._drift.merge(check)
            if not self._warned and (lines := drift_lines({self.predictor.name: self._drift})):
                log.warning("%s", "\n".join(lines))
                self._warned = True


_SMEARED = "smeared"


def _officially_corrected(flat: ak.Array, corrections: Corrections) -> ak.Array:
    """Flat jets with the official correction; of the smearing, which no network was trained on, by itself a column."""
    new = corrections.renew(flat)
    return ak.with_field(new, new[JER] if JER in new.fields else np.ones(len(new), np.float32), _SMEARED)


def _with_variations(jets: ak.Array, flat: ak.Array) -> ak.Array:
    """Corrected jets with the jets up and down of each uncertainty, relative to the smeared ones."""
    names = sorted({name.rpartition("_")[0] for name in flat.fields if is_variation(name) and name != JER})
    varied = {}
    for name in names:
        sides = {}
        for side in ("up", "down"):
            factor = flat[f"{name}_{side}"] / (flat[_SMEARED] if name == JER else 1)
            factor = ak.unflatten(factor, ak.num(jets["pt"]))
            shifted = jets
            for column in ("pt", "mass"):
                shifted = ak.with_field(shifted, jets[column] * factor, column)
            sides[side] = shifted
        varied[name] = ak.zip(sides, depth_limit=2)
    for name, values in varied.items():
        jets = ak.with_field(jets, values, name)
    return jets


def _close(residual: Any, model: str, flat: ak.Array, factor: NDArray[Any], sigma: NDArray[Any]) -> None:
    """Apply the residual correction to factors and resolutions `(B,)` of jets, where the model has corrected them."""
    done = np.isfinite(sigma)
    abs_eta, pt = (ak.to_numpy(flat[name]).astype(np.float64)[done] for name in ("jetEta", "jetPt"))
    value, width = residual_factors(residual, model, np.abs(abs_eta), pt * factor[done])
    factor[done] *= value
    if width is not None:
        sigma[done] *= width


def _present(array: ak.Array) -> NDArray[np.bool_]:
    """Which entries `(E,)` are not None."""
    layout = array.layout
    return np.asarray(layout.mask_as_bool(valid_when=True)) if layout.is_option else np.ones(len(array), dtype=bool)


def _without_option(array: ak.Array) -> ak.Array:
    """An array that has no None, of the type that says so."""
    return ak.drop_none(array, axis=0) if array.layout.is_option else array


_NUMBERS = {"bool", "float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}


def _kind(values: ak.Array) -> str:
    """The type of what is in the lists of an array."""
    form = values.layout.form
    while form.parameter("__array__") not in ("string", "bytestring") and hasattr(form, "content"):
        form = form.content
    return str(getattr(form, "primitive", form.type))


def _without_missing(events: ak.Array, reader: NanoAOD) -> ak.Array:
    """The events with values in place of missing jets, which no model takes for jets.

    Raises
    ------
    InputError
        If something else is missing, or is no number.
    """
    jets = {}
    for (collection, *name), values in reader.columns_of(events).items():
        if (kind := _kind(values)) not in _NUMBERS:
            column = ".".join((collection, *name))
            raise InputError(f"{reader.path}: {column} has values of type {kind}, not numbers that can be corrected")
        if collection == reader.collection:
            if values.ndim != 2:
                raise InputError(f"{reader.path}: {collection} is not a list of the jets of each event")
            jets[name[0]] = ak.fill_none(values, -1, axis=1)
        elif any(ak.any(ak.is_none(values, axis=axis)) for axis in range(values.ndim)):
            column = ".".join((collection, *name))
            raise InputError(f"{reader.path}: {column} has missing values: mask jets or whole events only")
    return ak.with_field(events, ak.zip(jets, depth_limit=2), reader.collection)
