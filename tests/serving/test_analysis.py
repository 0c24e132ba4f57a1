"""The corrector for coffea: a processor's jets, by a server and in process, and those of a corrected file."""

from __future__ import annotations

import json
import pickle

import awkward as ak
import numpy as np
import pandas as pd
import pytest
import uproot
from coffea import processor
from coffea.nanoevents import NanoAODSchema, NanoEventsFactory, PFNanoAODSchema
from hypothesis import event, given, settings
from hypothesis import strategies as st

from jetcorr_utils.correct import JetCorrector, correct_files, correct_jets, correct_met
from jetcorr_utils.data import read_jets
from jetcorr_utils.errors import InputError
from jetcorr_utils.export import export_model
from jetcorr_utils.inference.open_predictors import open_predictors
from jetcorr_utils.jerc import CorrectionsChoice, is_variation
from jetcorr_utils.physics import derive_closure, save_closure
from tests.networks import METADATA

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


@pytest.fixture(scope="module")
def eager(path):
    """The events in memory, and the jets that the network makes of them."""
    return NanoEventsFactory.from_root({str(path): "Events"}, schemaclass=PFNanoAODSchema, mode="eager").events()


@pytest.fixture(scope="module")
def corrector(files):
    return JetCorrector(files["pfn"])


@pytest.fixture(scope="module")
def corrected(eager, corrector):
    return corrector(eager)


def with_jets(events, jets):
    """The events with other jets; what the fixtures hold stays as it is."""
    return ak.with_field(events, jets, "Jet")


RESULTS = ("pt", "mass", "rawFactor", "pt_resolution", "in_training_range", "pt_orig")


def assert_same(found, expected, rtol=1e-6):
    """Equal values, also None and not a number, at equal places."""
    assert len(found) == len(expected)
    for name in RESULTS:
        one, other = (ak.to_list(jets[name]) for jets in (found, expected))
        if one != other:  # not equal where they are not a number, or differ in the last digit
            assert ak.to_list(ak.num(found[name])) == ak.to_list(ak.num(expected[name]))
            assert ak.to_list(ak.is_none(found[name], axis=1)) == ak.to_list(ak.is_none(expected[name], axis=1))
            flat = (ak.to_numpy(ak.drop_none(ak.flatten(jets[name], axis=None))) for jets in (found, expected))
            np.testing.assert_allclose(*flat, rtol=rtol)


def test_a_path_without_a_model_is_refused_at_once(tmp_path):
    with pytest.raises(InputError, match=r"absent: no model there"):
        JetCorrector(tmp_path / "absent")
    with pytest.raises(InputError, match=r"closure: .*closure.json: .*; notebook 06 makes it"):
        JetCorrector("grpc://nowhere:1/pfn", closure=tmp_path)


def _closure(path, names=("pfn",)):
    """A residual correction of 3 % at all pt, and of 10 % on sigma."""
    rng = np.random.default_rng(1)
    gen = rng.uniform(60, 2000, 4000)
    table = pd.DataFrame({"jetEta": rng.uniform(-2.4, 2.4, len(gen)), "genJetPt": gen, "jetPt": gen})
    for name in names:
        table[f"{name}_pt"], table[f"{name}_sigma"] = gen / 1.03, 0.1
    save_closure(derive_closure(table, names, min_jets=500), path)


@pytest.mark.parametrize("given", ["file", "run"])
def test_the_residual_correction_of_a_run_is_applied(eager, files, corrected, tmp_path, given):
    _closure(tmp_path / "closure.json")
    where = tmp_path / "closure.json" if given == "file" else tmp_path
    found = pickle.loads(pickle.dumps(JetCorrector(files["pfn"], closure=where)))(eager)
    done = ak.flatten(np.isfinite(corrected.pt_resolution))
    ratio = ak.to_numpy(ak.flatten(found.pt / corrected.pt))
    np.testing.assert_allclose(ratio[done], 1.03, rtol=1e-5)
    assert (ratio[~done] == 1).all()
    raw = [ak.flatten(jets.pt * (1 - jets.rawFactor)) for jets in (found, corrected)]
    np.testing.assert_allclose(*raw, rtol=1e-5)


def test_a_residual_correction_of_another_model_is_refused(files, tmp_path):
    _closure(tmp_path / "closure.json", names=("other",))
    with pytest.raises(InputError, match="closure: has no residual correction of pfn, but of other, other_sigma"):
        JetCorrector(files["pfn"], closure=tmp_path)


def test_drift_is_warned_of_once(eager, files, caplog):
    corrector = JetCorrector(files["pfn"])
    summary = {"jetPt": {"edges": [1.0, 2.0], "below": [0.5, 1.0], "mean": 1.5, "jets": 1000}}
    corrector.predictor.metadata["training_summary"] = json.dumps(summary)
    for _ in range(3):
        corrector(eager)
    (record,) = [record for record in caplog.records if "not like those" in record.getMessage()]
    assert "1 feature differs:\n  jetPt: mean" in record.getMessage()


@pytest.mark.parametrize("key", ["eta", "phi", "mass", "btagDeepB"])
def test_jets_in_another_order_are_refused(eager, corrector, key):
    order = ak.argsort(eager.Jet[key])
    with pytest.raises(InputError, match=r"the events: the candidates do not belong to the jets: .* in the order of"):
        corrector(with_jets(eager, eager.Jet[order]))


def test_jets_sorted_by_another_pt_are_refused_where_only_two_changed_places(eager, corrector):
    """As after a variation of the energy scale."""
    many = int(ak.argmax(ak.sum(eager.Jet.pt > 30, axis=1)))
    order = ak.local_index(eager.Jet.pt, axis=1).to_list()
    order[many][:2] = [1, 0]
    with pytest.raises(InputError, match=r"for 2 of 36 .* in the order of"):
        corrector(with_jets(eager, eager.Jet[ak.Array(order)]))


@pytest.mark.parametrize("cut", ["pt > 30", "without the first", "eta"])
def test_selected_jets_are_refused(eager, corrector, cut):
    jets = eager.Jet
    keep = {"pt > 30": jets.pt > 30, "without the first": ak.local_index(jets.pt) > 0, "eta": abs(jets.eta) < 1}[cut]
    with pytest.raises(InputError, match="in the order of its file"):
        corrector(with_jets(eager, jets[keep]))


def test_jets_of_other_events_are_refused(eager, corrector):
    with pytest.raises(InputError, match=r"in the order of its file"):
        corrector(with_jets(eager, eager.Jet[::-1]))


@given(st.data())
@settings(max_examples=15)
def test_jets_in_any_order_are_corrected_as_in_their_own_or_refused(eager, corrector, corrected, data):
    counts = ak.num(eager.Jet.pt).to_list()
    order = [list(range(count)) for count in counts]
    for i in data.draw(st.sets(st.integers(0, len(counts) - 1), max_size=3)):
        order[i] = data.draw(st.permutations(order[i]))
    order = ak.values_astype(ak.Array(order), "int64")
    try:
        found = corrector(with_jets(eager, eager.Jet[order]))
    except InputError:
        event("refused")
        return
    # only jets that are not corrected, such as those below 30 GeV, have changed places
    np.testing.assert_allclose(*(ak.to_numpy(ak.flatten(jets.pt)) for jets in (found, corrected[order])), rtol=1e-6)


def _by_the_factory(events, real_data):
    """The jets as coffea's CorrectedJetsFactory gives them, by the official corrections of 2016."""
    from coffea.jetmet_tools import CorrectedJetsFactory, JECStack
    from coffea.lookup_tools import extractor

    reader = extractor()
    texts = real_data.glob("Summer16_23Sep2016V3_MC_*.jec.txt.gz")
    reader.add_weight_sets([f"* * {file}" for file in texts])
    reader.finalize()
    evaluator = reader.make_evaluator()
    stack = JECStack({name: evaluator[name] for name in dir(evaluator) if name.startswith("Summer16")})
    jets = events.Jet
    jets = ak.with_field(jets, (1 - jets.rawFactor) * jets.pt, "pt_raw")
    jets = ak.with_field(jets, (1 - jets.rawFactor) * jets.mass, "mass_raw")
    jets = ak.with_field(jets, ak.broadcast_arrays(events.fixedGridRhoFastjetAll, jets.pt)[0], "event_rho")
    names = stack.blank_name_map | {
        "JetPt": "pt", "JetMass": "mass", "JetEta": "eta", "JetA": "area", "Rho": "event_rho", "ptRaw": "pt_raw",
        "massRaw": "mass_raw", "ptGenJet": "pt",
    }  # fmt: skip
    return CorrectedJetsFactory(names, stack).build(jets)


def test_jets_of_coffeas_factory_have_their_raw_pt_in_pt_raw(eager, corrector, real_data):
    jets = _by_the_factory(eager, real_data)
    change = ak.flatten(jets.pt / eager.Jet.pt)
    assert ak.std(change) > 0.01
    assert ak.all(jets.rawFactor == eager.Jet.rawFactor)  # it is old
    found = corrector(with_jets(eager, jets))
    plain = ak.with_field(ak.with_field(eager.Jet, jets.pt, "pt"), jets.mass, "mass")
    plain = ak.with_field(plain, 1 - jets.pt_raw / jets.pt, "rawFactor")
    assert_same(found, corrector(with_jets(eager, plain)), 1e-5)
    np.testing.assert_allclose(ak.flatten(found.pt * (1 - found.rawFactor)), ak.flatten(jets.pt_raw), rtol=1e-5)
    without = ak.without_field(with_jets(eager, jets), ("Jet", "rawFactor"))
    assert_same(corrector(without), found)


@pytest.mark.parametrize("scale", [0.9, 0.98, 1.02, 1.1])
def test_a_raw_pt_that_contradicts_the_candidates_is_refused(eager, corrector, scale):
    """A new pt and the old raw factor, or a pt_raw that is none."""
    jets = ak.with_field(eager.Jet, eager.Jet.pt * scale, "pt")
    with pytest.raises(InputError, match="the raw pt"):
        corrector(with_jets(eager, jets))
    jets = ak.with_field(eager.Jet, eager.Jet.pt * (1 - eager.Jet.rawFactor) * scale, "pt_raw")
    with pytest.raises(InputError, match="the raw pt"):
        corrector(with_jets(eager, jets))


def test_a_corrected_pt_taken_for_the_raw_one_is_refused(eager, corrector):
    """What coffea's factory does without a name for the raw pt."""
    with pytest.raises(InputError, match="the raw pt"):
        corrector(with_jets(eager, ak.with_field(eager.Jet, eager.Jet.pt, "pt_raw")))


def test_corrected_jets_are_not_corrected_again(eager, corrector, corrected):
    with pytest.raises(InputError, match="corrected already"):
        corrector(with_jets(eager, corrected))


EVENTS = 10


@given(
    events=st.lists(st.booleans(), min_size=EVENTS, max_size=EVENTS),
    lists=st.lists(st.booleans(), min_size=EVENTS, max_size=EVENTS),
    seed=st.integers(0, 9),
    mode=st.sampled_from(["as they are", "turned", "part", "twice", "option"]),
)
@settings(max_examples=25)
def test_none_stays_none_and_all_else_is_corrected(eager, corrector, corrected, events, lists, seed, mode):
    """Events, lists of jets, and jets that are masked, in any form of array."""
    jets_kept = ak.unflatten(np.random.default_rng(seed).random(64) > 0.3, ak.num(eager.Jet.pt))
    jets = ak.mask(ak.mask(eager.Jet, jets_kept), lists)
    given_events = ak.mask(with_jets(eager, jets), events)
    expected = ak.mask(ak.mask(ak.mask(corrected, jets_kept), lists), events)
    change = {
        "as they are": lambda array: array,
        "turned": lambda array: array[np.argsort(np.arange(EVENTS) % 3)],
        "part": lambda array: array[3:8],
        "twice": lambda array: ak.concatenate([array, array]),
        "option": lambda array: array[ak.Array([2, None, 5, 0, None])],
    }[mode]
    assert_same(corrector(change(given_events)), change(expected))


def test_masked_events_are_corrected_where_columns_are_loaded_later(events, corrector, corrected):
    mask = np.arange(EVENTS) % 3 > 0
    assert_same(corrector(ak.mask(events, mask)), ak.mask(corrected, mask))


def test_no_events_and_events_without_jets_give_no_jets(eager, corrector):
    assert len(corrector(eager[:0])) == 0
    assert corrector(ak.mask(eager, np.zeros(EVENTS, bool))).to_list() == [None] * EVENTS
    empty = with_jets(eager, eager.Jet[eager.Jet.pt < 0])
    for table in ("JetPFCands", "PFCands"):
        empty = ak.with_field(empty, empty[table][empty[table].pt < 0], table)
    assert ak.num(corrector(empty).pt).to_list() == [0] * EVENTS


@pytest.mark.parametrize("name", ["PFCands", "JetPFCands", "GenJet"])
def test_other_masked_columns_are_refused(eager, corrector, name):
    table = eager[name]
    masked = ak.mask(table, ak.local_index(table.pt) > 0), ak.mask(table, np.arange(EVENTS) > 0)
    for values in masked:
        with pytest.raises(InputError, match=rf"{name}\.\w+ has missing values"):
            corrector(ak.with_field(eager, values, name))
    rho = ak.mask(eager.fixedGridRhoFastjetAll, np.arange(EVENTS) > 0)
    with pytest.raises(InputError, match="fixedGridRhoFastjetAll has missing values"):
        corrector(ak.with_field(eager, rho, "fixedGridRhoFastjetAll"))


@pytest.mark.parametrize("what", ["one event", "flat jets", "jets alone", "numbers"])
def test_what_are_no_events_is_one_line(eager, corrector, what):
    flat = with_jets(eager, ak.firsts(eager.Jet))
    wrong = {"one event": eager[0], "flat jets": flat, "jets alone": eager.Jet, "numbers": np.arange(3)}[what]
    with pytest.raises(InputError, match="the events"):
        corrector(wrong)


@pytest.mark.filterwarnings("ignore:Missing cross-reference", "ignore:Found duplicate branch")
def test_nanoaod_without_candidates_is_refused(real_data, corrector):
    file = {str(real_data / "nano_dy.root"): "Events"}
    events = NanoEventsFactory.from_root(file, schemaclass=NanoAODSchema, mode="virtual").events()
    with pytest.raises(InputError, match="have no particle-flow candidates"):
        corrector(events)


def test_events_whose_jets_have_no_candidates_are_refused(eager, corrector):
    links = eager.JetPFCands
    with pytest.raises(InputError, match="none of 64 jets has particle-flow candidates"):
        corrector(ak.with_field(eager, links[links.jetIdx < 0], "JetPFCands"))


@pytest.mark.parametrize("kind", ["string", "float16", "complex64"])
@pytest.mark.parametrize("column", ["Jet.pt", "Jet.rawFactor", "PFCands.pdgId", "JetPFCands.jetIdx"])
def test_columns_that_are_no_numbers_are_named(eager, corrector, column, kind):
    collection, name = column.split(".")
    values = eager[collection, name]
    if kind == "string":
        values = ak.unflatten(ak.Array(["?"] * int(ak.count(values))), ak.num(values))
    else:
        values = ak.values_astype(values, kind)
    changed = ak.with_field(eager[collection], values, name)
    with pytest.raises(InputError, match=rf"the events: {column} has values of type {kind}, not numbers"):
        corrector(ak.with_field(eager, changed, collection))


@pytest.mark.parametrize("number", ["float64", "int64", "uint8"])
def test_numbers_of_another_width_give_the_same_jets(eager, corrector, corrected, number):
    table, name = ("JetPFCands", "jetIdx") if number != "float64" else ("Jet", "pt")
    values = ak.values_astype(eager[table, name], number)
    assert_same(corrector(ak.with_field(eager, ak.with_field(eager[table], values, name), table)), corrected, 1e-6)


def test_events_without_values_are_refused_as_dask_arrays_are(eager, corrector):
    """What dask-awkward asks a function of such arrays with."""
    with pytest.raises(InputError, match=r'no array of NanoAOD events in memory .* mode="virtual"'):
        corrector(ak.to_backend(eager, "typetracer"))


@pytest.mark.parametrize("column", ["Jet.pt", "Jet.eta", "PFCands.pt", "PFCands.pdgId"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_damaged_values_of_a_jet_keep_it_as_it_is(eager, corrector, corrected, column, value):
    """And without the remarks of NumPy, which are errors in these tests. A candidate may be of an unknown kind."""
    collection, name = column.split(".")
    values = ak.to_numpy(ak.flatten(eager[collection, name])).astype(np.float64)
    place = 0 if collection == "Jet" else int(eager.JetPFCands.pFCandsIdx[0][eager.JetPFCands.jetIdx[0] == 0][0])
    values[place] = value
    changed = ak.with_field(eager[collection], ak.unflatten(values, ak.num(eager[collection])), name)
    found = corrector(ak.with_field(eager, changed, collection))
    assert np.isfinite(found.pt_resolution[0, 0]) == (name == "pdgId")
    np.testing.assert_allclose(*(ak.to_numpy(ak.flatten(jets.pt))[1:] for jets in (found, corrected)), rtol=1e-6)


def test_soft_jets_may_have_no_candidates(eager, corrector):
    """Files keep candidates of jets above some pt."""
    soft = ak.flatten(eager.Jet.pt < 30)
    links = eager.JetPFCands
    place = links.jetIdx + (np.cumsum(ak.num(eager.Jet.pt)) - ak.num(eager.Jet.pt))
    events = ak.with_field(eager, links[ak.unflatten(~soft[ak.flatten(place)], ak.num(links.jetIdx))], "JetPFCands")
    assert_same(corrector(events), corrector(eager))
    some = events[ak.max(events.Jet.pt, axis=1) < 30]
    assert ak.all(corrector(some).pt == some.Jet.pt)


@pytest.fixture(scope="module")
def choice(real_data):
    return CorrectionsChoice(str(real_data / "jet_jerc_2018UL_NanoV15.json.gz"), uncertainties=("Total", "JER"))


class Varied(processor.ProcessorABC):
    """A processor that keeps the corrected jets, their variations, and the MET of both."""

    def __init__(self, corrector):
        self.corrector = corrector

    def process(self, events):
        jets = self.corrector(events)
        met = correct_met(events.MET, jets)
        found = {"pt": ak.flatten(jets.pt), "met": met.pt}
        for name in ("JES_Total", "JER"):
            for side in ("up", "down"):
                found |= {f"{name} {side}": ak.flatten(jets[name][side].pt), f"met {name} {side}": met[name][side].pt}
        order = ak.flatten(ak.broadcast_arrays(events.event, jets.pt)[0])
        found |= {"event": order, "met event": events.event}
        return {name: processor.column_accumulator(ak.to_numpy(values)) for name, values in found.items()}

    def postprocess(self, accumulator):
        return accumulator


def _varied(path, corrector, executor):
    run = processor.Runner(executor, schema=PFNanoAODSchema, chunksize=5)
    found = {
        name: column.value for name, column in run({"dy": [str(path)]}, Varied(corrector), treename="Events").items()
    }
    for key in ("event", "met event"):  # executors give chunks in any order
        order = np.argsort(found[key], kind="stable")
        names = [name for name in found if name.startswith("met") == key.startswith("met")]
        found |= {name: found[name][order] for name in names}
    return found


@pytest.fixture(scope="module")
def varied(path, files, choice):
    corrector = JetCorrector(files["pfn"], corrections=choice)
    return _varied(path, corrector, processor.IterativeExecutor(status=False))


def test_variations_are_those_of_the_official_correction(path, files, choice, varied):
    jets = read_jets(path)
    official = choice.load().apply(jets)
    (name, predictor), *_ = open_predictors(files["pfn"]).items()
    predicted = correct_jets(official, {name: predictor})
    order = np.argsort(jets["event"], kind="stable")
    network = ak.to_numpy(predicted[f"{name}_pt"])[order]
    factor = {column: ak.to_numpy(official[column])[order] for column in official.fields if is_variation(column)}
    np.testing.assert_allclose(varied["pt"], network * factor["JER"], rtol=1e-5)
    np.testing.assert_allclose(varied["JER up"], network * factor["JER_up"], rtol=1e-5)
    for side in ("up", "down"):
        np.testing.assert_allclose(varied[f"JES_Total {side}"], varied["pt"] * factor[f"JES_Total_{side}"], rtol=1e-5)
    assert (varied["JES_Total up"] > varied["pt"]).all()
    assert (varied["met JES_Total up"] != varied["met"]).any()


@pytest.mark.parametrize("where", ["in process", "server"])
@pytest.mark.parametrize("executor", ["iterative", "futures", "dask"])
def test_variations_are_equal_by_any_executor_and_by_a_server(
    executor, where, server, path, files, choice, varied, request
):
    model = f"http://{server.http_url}/pfn" if where == "server" else files["pfn"]
    corrector = JetCorrector(model, corrections=choice)
    if executor == "dask":
        client = request.getfixturevalue("dask_client")
        found = _varied(path, corrector, processor.DaskExecutor(client=client, status=False))
    elif executor == "futures":
        found = _varied(path, corrector, processor.FuturesExecutor(workers=2, status=False))
    else:
        found = _varied(path, corrector, processor.IterativeExecutor(status=False))
    corrector.close()
    for name, values in varied.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5)


def test_a_network_of_the_raw_pt_in_an_analysis(eager, models, path, choice, tmp_path):
    """Its jets do not depend on the correction before it, and are those of the corrected file."""
    notes = {"name": "pfn", **METADATA, "target": "raw"}
    model = export_model(models["pfn"], tmp_path / "pfn.onnx", metadata=notes)
    unsmeared = CorrectionsChoice(choice.path, choice.compound, ("Total",))
    own, anew = JetCorrector(model)(eager), JetCorrector(model, corrections=unsmeared)(eager)
    both = ak.flatten(own.in_training_range & anew.in_training_range)
    assert ak.sum(both) > 10
    np.testing.assert_allclose(ak.flatten(own.pt)[both], ak.flatten(anew.pt)[both], rtol=1e-5)
    correct_files([path], model, tmp_path / "out.root", progress=False)
    with uproot.open(tmp_path / "out.root") as file:
        table = file["jets"].arrays(["pfn_pt", "pfn_in_range"], library="np")
    expected = np.sort(table["pfn_pt"][table["pfn_in_range"]])
    np.testing.assert_allclose(np.sort(ak.flatten(own.pt[own.in_training_range])), expected, rtol=1e-5)


def test_missing_momentum_by_hand():
    """Of three events: a jet that gains 10 GeV, one that is soft, and one of photons that MET does not follow."""
    met = ak.zip({"pt": [50.0, 50.0, 50.0], "phi": [0.0, 0.0, 0.0]})
    jets = ak.zip({
        "pt": [[110.0, 40.0], [12.0], [120.0]], "pt_orig": [[100.0, 40.0], [10.0], [100.0]],
        "phi": [[np.pi / 2, 1.0], [1.0], [2.0]], "neEmEF": [[0.2, 0.2], [0.0], [0.95]],
        "chEmEF": [[0.0, 0.0], [0.0], [0.0]],
    })  # fmt: skip
    sides = {side: ak.with_field(jets, jets.pt * factor, "pt") for side, factor in (("up", 1.1), ("down", 0.9))}
    found = correct_met(met, ak.with_field(jets, ak.zip(sides, depth_limit=2), "JES_Total"))
    np.testing.assert_allclose(found.pt, [np.hypot(50, 10), 50, 50], rtol=1e-6)
    np.testing.assert_allclose(found.phi, [-np.arctan2(10, 50), 0, 0], rtol=1e-6)
    assert found.pt_orig.tolist() == [50, 50, 50]
    x, y = 50 - 4 * np.cos(1.0), -21 - 4 * np.sin(1.0)  # the jets gain 21 GeV along y and 4 along 1 radian
    np.testing.assert_allclose(found.JES_Total.up.pt[0], np.hypot(x, y), rtol=1e-6)
    np.testing.assert_allclose(found.JES_Total.up.phi[0], np.arctan2(y, x), rtol=1e-6)
    with pytest.raises(InputError, match="have no pt_orig"):
        correct_met(met, jets[["pt", "phi"]])


def test_missing_momentum_without_the_cut_on_electrons_and_photons_is_said(caplog):
    met = ak.zip({"pt": [50.0], "phi": [0.0]})
    jets = ak.zip({"pt": [[120.0]], "pt_orig": [[100.0]], "phi": [[0.0]], "neEmEF": [[0.5]], "chEmEF": [[0.0]]})
    assert correct_met(met, jets).pt.tolist() == [30.0]
    assert not caplog.messages
    for _ in range(2):
        assert correct_met(met, jets[["pt", "pt_orig", "phi", "neEmEF"]]).pt.tolist() == [30.0]
    (said,) = caplog.messages
    assert said.startswith("the jets: have no chEmEF: MET follows also jets that are electrons or photons")


def test_a_jet_whose_pt_is_no_number_leaves_the_missing_momentum_as_it_is():
    met = ak.zip({"pt": [50.0, 50.0, 50.0], "phi": [0.0, 0.0, 0.0]})
    broken = [[np.inf], [np.nan], [-np.inf]]
    jets = ak.zip({"pt": broken, "pt_orig": broken, "phi": [[0.0]] * 3, "neEmEF": [[0.0]] * 3, "chEmEF": [[0.0]] * 3})
    assert correct_met(met, jets).pt.tolist() == [50.0, 50.0, 50.0]
