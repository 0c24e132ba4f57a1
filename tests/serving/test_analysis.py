"""The corrector for coffea: a processor's jets, by a server and in process, and those of a corrected file."""

from __future__ import annotations

import pickle

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea import processor
from coffea.nanoevents import NanoEventsFactory, PFNanoAODSchema

from jetcorr_utils.errors import InputError
from jetcorr_utils.serving import JetCorrector, correct_files

# coffea's schema looks for more than this file has
pytestmark = pytest.mark.filterwarnings("ignore:Missing cross-reference", "ignore:Branch Photon_")

COLUMNS = ("pt", "mass", "rawFactor", "pt_resolution", "in_training_range", "pt_orig", "eta")


class JetTable(processor.ProcessorABC):
    """A processor that keeps the corrected jets, in the order of the events."""

    def __init__(self, corrector):
        self.corrector = corrector

    def process(self, events):
        jets = self.corrector(events)
        assert ak.all(ak.num(jets) == ak.num(events.Jet))
        assert np.allclose(ak.flatten((jets + jets).pt), 2 * ak.flatten(jets.pt), rtol=1e-5)  # still vectors
        return {name: processor.column_accumulator(ak.to_numpy(ak.flatten(jets[name]))) for name in COLUMNS}

    def postprocess(self, accumulator):
        return accumulator


def _run(path, corrector):
    run = processor.Runner(processor.IterativeExecutor(status=False), schema=PFNanoAODSchema, chunksize=5)
    found = run({"dy": [str(path)]}, JetTable(corrector), treename="Events")
    return {name: column.value for name, column in found.items()}


@pytest.fixture(scope="module")
def path(real_data):
    return real_data / "pfnano.root"


@pytest.fixture(scope="module")
def in_process(path, files):
    return _run(path, JetCorrector(files["pfn"]))


@pytest.fixture
def events(path):
    return NanoEventsFactory.from_root({str(path): "Events"}, schemaclass=PFNanoAODSchema, mode="virtual").events()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_processor_gives_equal_jets_by_a_server_and_in_process(server, path, in_process, protocol):
    url = server.http_url if protocol == "http" else server.grpc_url
    corrector = JetCorrector(f"{protocol}://{url}/pfn")
    found = _run(path, corrector)
    corrector.close()
    assert len(found["pt"]) == 64
    for name, values in in_process.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5)


def test_the_jets_are_those_of_the_corrected_file(path, files, in_process, tmp_path):
    correct_files([path], files["pfn"], tmp_path / "out.root", progress=False)
    with uproot.open(tmp_path / "out.root") as file:
        expected = file["jets"].arrays(library="np")
    good = np.isfinite(in_process["pt_resolution"])
    np.testing.assert_array_equal(good, (in_process["pt_orig"] >= 30) & (np.abs(in_process["eta"]) <= 2.5))
    np.testing.assert_allclose(in_process["pt"][good], expected["pfn_pt"], rtol=1e-5)
    np.testing.assert_allclose(in_process["mass"][good], expected["pfn_mass"], rtol=1e-5)
    np.testing.assert_allclose(in_process["pt_resolution"][good], expected["pfn_sigma"], rtol=1e-5)
    np.testing.assert_array_equal(in_process["in_training_range"][good], expected["pfn_in_range"])
    raw = in_process["pt"] * (1 - in_process["rawFactor"])
    np.testing.assert_allclose(raw[good], expected["jetRawPt"], rtol=1e-5)
    np.testing.assert_array_equal(in_process["pt"][~good], in_process["pt_orig"][~good])
    assert not in_process["in_training_range"][~good].any()


def test_it_can_be_sent_to_a_worker_after_use(events, files):
    corrector = JetCorrector(files["pfn"])
    here = corrector(events)
    there = pickle.loads(pickle.dumps(corrector))(events)
    assert ak.array_equal(here.pt, there.pt)


def test_selected_events_give_their_jets(events, files):
    corrector = JetCorrector(files["pfn"])
    mask = np.arange(len(events)) % 3 == 1
    np.testing.assert_allclose(
        ak.to_numpy(ak.flatten(corrector(events[mask]).pt)), ak.flatten(corrector(events).pt[mask]), rtol=1e-6
    )


def test_by_choice_jets_beyond_the_training_range_keep_the_standard_correction(events, files, monkeypatch):
    corrector = JetCorrector(files["pfn"], outside="keep")
    monkeypatch.setitem(corrector.predictor.metadata, "training_range", '{"jetPt": [50, 900]}')
    jets = corrector(events)
    low = ak.flatten(jets.pt_orig < 50)
    assert ak.sum(~ak.flatten(jets.in_training_range) & ~low) < ak.sum(~low)
    assert ak.all(ak.flatten(jets.pt)[low] == ak.flatten(jets.pt_orig)[low])
    assert ak.any(ak.flatten(jets.pt)[~low] != ak.flatten(jets.pt_orig)[~low])


def test_events_without_candidates_are_refused(events, files):
    without = events[[name for name in events.fields if name != "PFCands"]]
    with pytest.raises(InputError, match="PFCands_pt"):
        JetCorrector(files["pfn"])(without)


def test_a_model_that_takes_more_than_nanoaod_has_is_refused(events, files):
    with pytest.raises(InputError, match="PF_caloFraction"):
        JetCorrector(files["particlenet"])(events)


def test_dask_arrays_are_refused(files):
    with pytest.raises(InputError, match='mode="virtual"'):
        JetCorrector(files["pfn"])("no array")
