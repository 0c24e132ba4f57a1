"""The JetNTuple reader: what it gives, what it fills, and how it refuses what it cannot use."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st

from jetcorr_utils.data import describe, iterate_jets, list_blocks, read_block, read_jets
from jetcorr_utils.data.reader import EventOrder
from jetcorr_utils.data.reading import open_jets
from jetcorr_utils.errors import InputError
from jetcorr_utils.jets.columns import JETS, PARTICLES, TREE, core, necessary, particle_columns

from .conftest import make_jets, write_jets


def test_jets_equal_what_was_written(ntuple):
    columns = make_jets()
    jets = read_jets(ntuple())
    assert len(jets) == 60
    for name, column in JETS.items():
        np.testing.assert_array_equal(ak.to_numpy(jets[name]), columns[name])
        assert ak.to_numpy(jets[name]).dtype == column.dtype
    for name in particle_columns("rich"):
        assert ak.all(jets["particles", name] == columns[name])
        assert ak.to_numpy(ak.flatten(jets["particles", name])).dtype == PARTICLES[name].dtype


@pytest.mark.parametrize("step", [1, 7, 60, 1000, "4 kB"])
def test_chunks_hold_the_jets_in_order(ntuple, step):
    chunks = list(iterate_jets(ntuple(), step))
    assert ak.array_equal(ak.concatenate(chunks), read_jets(ntuple()))


def test_files_follow_each_other(ntuple):
    paths = [ntuple("a.root", seed=1), ntuple("b.root", seed=2)]
    jets = read_jets(paths)
    assert ak.array_equal(jets, ak.concatenate([read_jets(path) for path in paths]))


def test_max_jets_reads_no_more_files_than_needed(ntuple, tmp_path):
    assert len(read_jets([ntuple(), tmp_path / "absent.root"], max_jets=10)) == 10


def test_only_the_columns_that_are_asked_for(ntuple):
    (jets,) = iterate_jets(ntuple(), scalars=["jetPt"], particles=["PF_pT"])
    assert jets.fields == ["jetPt", "particles"]
    assert jets["particles"].fields == ["PF_pT"]


def test_absent_columns_are_filled_by_the_stated_rules(ntuple):
    absent = ["QG_ptD", "QG_axis2", "QG_mult", "jetRawMass", "jetPtOrder", "eventWeight", "genJetPt", "hadronFlav"]
    path = ntuple(**dict.fromkeys(absent))
    jets = read_jets(path)
    assert set(core()) <= set(jets.fields)
    np.testing.assert_array_equal(jets["jetPtOrder"], make_jets()["jetPtOrder"])
    np.testing.assert_allclose(jets["jetRawMass"], jets["jetMass"] * jets["jetRawPt"] / jets["jetPt"], rtol=1e-6)
    assert ak.all(jets["eventWeight"] == 1)
    assert ak.all(jets["genJetPt"] == 0)
    notes = " ".join(describe(path).notes)
    assert all(name in notes for name in absent)


def test_filled_columns_do_not_depend_on_the_chunks(ntuple):
    path = ntuple(QG_ptD=None, jetPtOrder=None)
    whole = read_jets(path)
    pieces = ak.concatenate(list(iterate_jets(path, 4)))
    assert ak.array_equal(pieces, whole)


@pytest.mark.parametrize("step", [1, 7, "4 kB", 1000])
def test_blocks_read_by_themselves_are_all_jets(ntuple, step):
    paths = [ntuple("a.root", seed=1, jetPtOrder=None, QG_ptD=None), ntuple("b.root", seed=2)]
    blocks = list_blocks(paths, step)
    assert sum(block.stop - block.start for block in blocks) == 120
    columns = {"scalars": core(), "particles": particle_columns("open")}
    parts = ak.concatenate([read_block(block, **columns) for block in blocks])
    assert ak.array_equal(parts, ak.concatenate(list(iterate_jets(paths, **columns))))


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(0, 12))
def test_the_order_in_an_event_goes_on_in_the_next_chunk(events, cut):
    record = {name: np.array(events, dtype=np.int64) for name in ("run", "lumi", "event")}
    order, pieces = EventOrder(), (slice(None, cut), slice(cut, None))
    parts = [order({name: column[piece] for name, column in record.items()}) for piece in pieces]
    np.testing.assert_array_equal(np.concatenate(parts), EventOrder()(record))


def test_zero_jets(ntuple):
    path = write_empty(ntuple)
    info = describe(path)
    assert (info.jets, info.usable) == (0, False)
    assert "no jets" in info.reason
    with pytest.raises(InputError, match="no jets in"):
        read_jets(path)


def write_empty(ntuple):
    """A JetNTuple whose tree has no entries."""
    path = ntuple().with_name("empty.root")
    types = {name: ak.type(ak.Array(values)).content for name, values in make_jets().items()}
    with uproot.recreate(path) as file:
        file.mktree("AK4jets/jetTree", types, counter_name=lambda _: "nPF")
    return path


@pytest.mark.parametrize("name", necessary(JETS | PARTICLES))
def test_a_missing_necessary_branch_is_named(ntuple, name):
    with pytest.raises(InputError, match=f"jets.root: .*lacks the necessary branches {name}$"):
        read_jets(ntuple(**{name: None}))


@pytest.mark.parametrize(
    ("name", "values", "found"),
    [
        ("jetPt", np.arange(60), "int64_t"),
        ("run", np.arange(60.0), "double"),
        ("jetEta", ak.Array([[0.1]] * 60), "double[]"),
        ("PF_pT", np.arange(60.0), "double"),
        ("PF_id", None, None),
    ],
)
def test_a_branch_of_another_type_is_named(ntuple, name, values, found):
    columns = make_jets()
    if name == "PF_id":
        values, found = ak.values_astype(columns["PF_id"], "float32"), "float[]"
    changed = columns | {name: values}
    path = ntuple()
    if name == "jetEta":  # a second counter: these lists have other lengths
        types = {key: ak.type(ak.Array(column)).content for key, column in changed.items()}
        with uproot.recreate(path) as file:
            tree = file.mktree("AK4jets/jetTree", types, counter_name=lambda key: "nPF" if key[:2] == "PF" else "nEta")
            tree.extend(changed)
    else:
        write_jets(path, changed)
    with pytest.raises(InputError) as error:
        read_jets(path)
    assert f"branch {name} has type {found}, expected" in str(error.value)


def test_a_wider_type_is_accepted(ntuple):
    jets = read_jets(ntuple(jetPt=make_jets()["jetPt"].astype(np.float64)))
    np.testing.assert_array_equal(jets["jetPt"], make_jets()["jetPt"])


def test_a_counter_that_disagrees_with_the_arrays(ntuple):
    columns = make_jets()
    path = ntuple()
    counts = ak.to_numpy(ak.num(columns["PF_pT"])).astype(np.int32)
    counts[7] += 1
    types = {name: ak.type(ak.Array(values)).content for name, values in columns.items()}
    with uproot.recreate(path) as file:
        tree = file.mktree("AK4jets/jetTree", types | {"nPF": "int32"}, counter_name=lambda _: "nOther")
        tree.extend(columns | {"nPF": counts})
    with pytest.raises(InputError, match=f"branch nPF says {counts[7]} candidates, the arrays have {counts[7] - 1}"):
        read_jets(path)


def test_arrays_that_disagree_with_each_other(ntuple):
    columns = make_jets()
    columns["PF_mass"] = columns["PF_mass"][:, :-1]
    path = ntuple()
    types = {name: ak.type(ak.Array(values)).content for name, values in columns.items()}
    with uproot.recreate(path) as file:
        tree = file.mktree("AK4jets/jetTree", types, counter_name=lambda key: "nMass" if key == "PF_mass" else "nRest")
        tree.extend(columns)
    with pytest.raises(InputError, match=r"PF_\w+ and PF_mass have different numbers of candidates"):
        read_jets(path)


def test_a_colon_in_a_name(ntuple):
    assert len(read_jets(ntuple("run:7.root"))) == 60


def test_another_tree_is_named(ntuple):
    with pytest.raises(InputError, match=r"neither the tree AK4jets/jetTree.*its trees: AK8jets/jetTree"):
        read_jets(ntuple(tree="AK8jets/jetTree"))


def test_what_is_no_root_file(tmp_path):
    path = tmp_path / "jets.root"
    path.write_text("pt eta phi\n")
    with pytest.raises(InputError, match=r"jets\.root: is not a ROOT file"):
        read_jets(path)
    with pytest.raises(InputError, match="is a folder; give the files in it"):
        read_jets(tmp_path)
    with pytest.raises(InputError, match=r"absent\.root: there is no such file"):
        read_jets(tmp_path / "absent.root")


@pytest.mark.parametrize("share", [0.001, 0.05, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_file_is_refused(ntuple, share):
    path = ntuple(jets=500)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(
        InputError, match=r"jets\.root: (cannot be read, damaged or truncated|is not a ROOT file|has neither)"
    ):
        read_jets(path)


def test_damaged_bytes_are_refused(ntuple):
    path = ntuple(jets=500)
    content = bytearray(path.read_bytes())
    middle = len(content) // 3
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged or truncated"):
        read_jets(path)


def test_the_committed_sample(sample):
    info = describe(sample)
    assert info.format == "JetNTuple"
    assert info.usable
    assert "features: open, rich, full, paper, thesis" in info.text()
    with open_jets(sample) as source:
        assert source.jets == info.jets == len(read_jets(sample))
        assert source.made_by == "jetcorr simulation"


def test_a_tree_of_another_maker_is_not_taken_for_ours(sample, tmp_path):
    with uproot.open(sample) as file, uproot.recreate(tmp_path / "jets.root") as copy:
        tree = file[TREE]
        columns = {name: tree[name].array(entry_stop=5) for name in necessary(JETS | PARTICLES)}
        copy.mktree(TREE, {name: column.type for name, column in columns.items()}, title="jetTree").extend(columns)
    with open_jets(tmp_path / "jets.root") as source:
        assert source.made_by == "CMS open simulation"


def test_of_raw_jets_it_is_said(ntuple, caplog):
    columns = make_jets(60, 0)
    path = ntuple(jets=60, jetPt=columns["jetRawPt"])
    assert "its jets have no standard corrections: jetPt is the raw pt" in describe(path).notes
    assert not [note for note in describe(ntuple("b.root")).notes if "raw" in note]
    list(iterate_jets(path))
    assert "no standard corrections" in caplog.text


@pytest.mark.parametrize("name", ["vectors", "rntuple"])
def test_files_that_rdataframe_wrote_again(name, sample):
    """ROOT 6.40: ``RDataFrame(sample).Range(4)``, arrays redefined as vectors, ``Snapshot`` as TTree and RNTuple."""
    path = Path(__file__).parent / "rdataframe" / f"{name}.root"
    written, ours = read_jets(path), read_jets(sample, max_jets=4)
    assert ak.array_equal(written, ours)
    assert ak.array_equal(next(iterate_jets(path, candidates="jet")), next(iterate_jets(sample, candidates="jet"))[:4])
    assert ak.array_equal(ak.concatenate(list(iterate_jets(path, 3))), ours)
    assert describe(path).usable
