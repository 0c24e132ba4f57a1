"""The cache of clouds: content, keys, interruption, and what it refuses."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from jetcorr_utils.config import DataSettings
from jetcorr_utils.data import clouds as module
from jetcorr_utils.data import ensure_files, load_clouds, read_jets
from jetcorr_utils.data.features import jet_matrix, particle_matrix, regression_target
from jetcorr_utils.data.split import SPLITS, split_of
from jetcorr_utils.errors import InputError
from jetcorr_utils.files import MARK

from .conftest import make_jets


@pytest.fixture
def study(tmp_path):
    """The data settings of a study with a data directory of its own."""

    def make(*files, **settings) -> DataSettings:
        names = [str(file) for file in files]
        return DataSettings(**{"files": names, "directory": str(tmp_path / "data"), **settings})

    return make


@pytest.mark.parametrize("candidates", ["jet", "window"])
@pytest.mark.parametrize("features", ["open", "rich"])
@pytest.mark.parametrize("step", [7, 10_000])
def test_the_cache_holds_the_selected_jets(ntuple, study, features, candidates, step, monkeypatch):
    monkeypatch.setattr(module, "STEP", step)
    settings = study(ntuple("a.root", seed=1), ntuple("b.root", seed=2), candidates=candidates)
    data = load_clouds(settings, features, progress=False)
    jets = read_jets(settings.files, settings)
    part = split_of(jets["run"], jets["lumi"], jets["event"], settings.split)
    order = np.argsort(part, kind="stable")
    jets = jets[order]
    np.testing.assert_array_equal(data.part, part[order])
    np.testing.assert_array_equal(data.particles, particle_matrix(jets, features))
    np.testing.assert_array_equal(data.multiplicity, ak.num(jets["particles"]))
    np.testing.assert_array_equal(data.jets, jet_matrix(jets))
    np.testing.assert_array_equal(data.target, regression_target(jets))
    for name in data.table:
        np.testing.assert_array_equal(data.table[name], ak.to_numpy(jets[name]))


def test_splits_are_views_that_make_up_the_whole(ntuple, study):
    data = load_clouds(study(ntuple(jets=300)), progress=False)
    parts = [data.split(name) for name in SPLITS]
    assert sum(map(len, parts)) == len(data)
    for name, part in zip(SPLITS, parts, strict=True):
        assert (part.part == SPLITS[name]).all()
        assert np.shares_memory(part.particles, data.particles)
        assert part.ptr[0] == 0
        assert part.ptr[-1] == len(part.particles)
    np.testing.assert_array_equal(np.concatenate([part.particles for part in parts]), data.particles)
    assert len({part.key for part in parts}) == 3


@pytest.mark.parametrize("part", [None, "train", "test"])
def test_another_process_is_given_the_place_of_a_cache_and_not_its_content(ntuple, study, part):
    clouds = load_clouds(study(ntuple()), progress=False)
    clouds = clouds.split(part).slice(1, 3) if part else clouds
    text = pickle.dumps(clouds)
    assert len(text) < 1000
    same = pickle.loads(text)
    assert (same.key, same.features, same.info, len(same)) == (clouds.key, clouds.features, clouds.info, len(clouds))
    for name in ("particles", "ptr", "jets", "target", "part"):
        np.testing.assert_array_equal(getattr(same, name), getattr(clouds, name))
    for name, column in clouds.table.items():
        np.testing.assert_array_equal(same.table[name], column)
    for other in (clouds.select([1]), replace(clouds, jets=clouds.jets + 1)):
        copy = pickle.loads(pickle.dumps(other))
        np.testing.assert_array_equal(copy.jets, other.jets)
        np.testing.assert_array_equal(copy.particles, other.particles)


def test_selected_rows_are_those_jets(ntuple, study):
    data = load_clouds(study(ntuple()), progress=False)
    index = np.array([11, 3, 3, 40])
    chosen = data.select(index)
    for i, row in enumerate(index):
        np.testing.assert_array_equal(
            chosen.particles[chosen.ptr[i] : chosen.ptr[i + 1]], data.particles[data.ptr[row] : data.ptr[row + 1]]
        )
        assert chosen.table["event"][i] == data.table["event"][row]
    mask = data.target > 0
    np.testing.assert_array_equal(data.select(mask).target, data.target[mask])
    assert data.select(mask).key == data.select(np.flatnonzero(mask)).key != data.select(~mask).key
    shuffled = data.select(np.random.default_rng(0).permutation(len(data)))
    assert len(shuffled.split("test")) == len(data.split("test"))
    with pytest.raises(InputError, match="the index goes from 0 to 99"):
        data.select([0, 99])


def test_the_key_follows_content_and_settings(ntuple, study, tmp_path):
    path = ntuple("a.root")
    first = load_clouds(study(path), progress=False)
    renamed = tmp_path / "elsewhere.root"
    renamed.write_bytes(path.read_bytes())
    assert load_clouds(study(renamed), progress=False).key == first.key
    assert load_clouds(study(renamed, directory=str(tmp_path / "other")), progress=False).key == first.key
    keys = {
        first.key,
        load_clouds(study(path), "rich", progress=False).key,
        load_clouds(study(path, candidates="window"), progress=False).key,
        load_clouds(study(path, selection={"min_pt": 31}), progress=False).key,
        load_clouds(study(path, split={"seed": 1}), progress=False).key,
        load_clouds(study(ntuple("a.root", seed=5)), progress=False).key,  # the same name, other content
    }
    assert len(keys) == 6


def test_a_finished_cache_is_not_built_again(ntuple, study, monkeypatch):
    settings = study(ntuple())
    first = load_clouds(settings, progress=False)
    monkeypatch.setattr(module, "_build", lambda *_: pytest.fail("built again"))
    second = load_clouds(settings, progress=False)
    assert second.key == first.key
    np.testing.assert_array_equal(second.particles, first.particles)


def test_an_interrupted_build_goes_on_with_the_files_that_are_left(ntuple, study, tmp_path, monkeypatch):
    good, bad = ntuple("good.root", seed=1), ntuple("bad.root", seed=2, jets=500)
    content = bad.read_bytes()
    damaged = bytearray(content)
    with uproot.open(bad) as file:
        basket = int(file["AK4jets/jetTree/PF_pT"].member("fBasketSeek")[0])
    damaged[basket + 100 : basket + 2100] = bytes(2000)
    bad.write_bytes(damaged)
    with pytest.raises(InputError, match=r"bad\.root"):
        load_clouds(study(good, bad), progress=False)
    cache = tmp_path / "data" / "cache"
    assert not [path for path in cache.rglob("*") if path.name.startswith(".") and path.is_dir()]
    assert not [path for path in cache.iterdir() if path.is_dir() and path.name != "parts"]

    bad.write_bytes(content)
    read, iterate = [], module.iterate_jets
    monkeypatch.setattr(module, "iterate_jets", lambda file, *a, **k: read.append(file) or iterate(file, *a, **k))
    assert len(load_clouds(study(good, bad), progress=False)) == 560
    assert read == [str(bad)]
    assert not list((cache / "parts").iterdir())


def test_a_bad_file_is_named(ntuple, study):
    bad = ntuple("bad.root", jetPt=-make_jets()["jetPt"])
    with pytest.raises(InputError, match=r"bad\.root: 60 of 60 jets have"):
        load_clouds(study(ntuple("good.root", seed=1), bad), progress=False)


def test_all_candidates_need_a_column_that_tells_those_of_the_jet_apart(ntuple, study):
    settings = study(ntuple(), candidates="window")
    load_clouds(settings, ("kinematics", "class", "clustering"), progress=False)
    with pytest.raises(InputError, match=r"data\.candidates: window needs features of the group clustering"):
        load_clouds(settings, ("kinematics", "class"), progress=False)


def test_what_a_killed_run_left_is_removed(ntuple, study, tmp_path, monkeypatch):
    settings = study(ntuple())
    cache = tmp_path / "data" / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "rmtree", lambda *_, **__: None)  # as if it were killed before it tidied up
        key = load_clouds(settings, progress=False).key
    assert list((cache / "parts").iterdir())
    load_clouds(settings, progress=False)
    assert not list((cache / "parts").iterdir())
    (cache / key).rename(cache / f"{MARK}killed")
    load_clouds(settings, progress=False)
    assert not (cache / f"{MARK}killed").exists()


def test_globs_lists_and_relative_paths(ntuple, study, tmp_path, monkeypatch):
    files = [ntuple(f"{name}.root", seed=seed) for seed, name in enumerate("abc")]
    listing = tmp_path / "list.txt"
    listing.write_text(f"# the second and the first\n{files[1]}\n\n{files[0]}\n")
    assert ensure_files(study(tmp_path / "*.root")) == [str(file) for file in files]
    assert ensure_files(study(listing, files[2])) == [str(files[i]) for i in (1, 0, 2)]
    assert ensure_files(study(files[0], tmp_path / "[a].root")) == [str(files[0])]
    assert ensure_files(study(f"file://{files[0]}")) == [str(files[0])]
    monkeypatch.chdir(tmp_path)
    assert ensure_files(study("a.root")) == ["a.root"]
    (tmp_path / "link.root").symlink_to(files[0])  # by whatever name: its jets would be there twice
    assert ensure_files(study(files[0], tmp_path / "link.root", "a.root")) == [str(files[0])]
    assert len(ensure_files(study("data/sample/jets.root"))) == 1  # from the project's folder


@pytest.mark.parametrize(
    ("entry", "message"),
    [("absent.root", "absent.root: there is no such file"), ("nothing*.root", "no file matches"), (".", "is a folder")],
)
def test_entries_that_match_nothing_are_named(study, entry, message, tmp_path):
    with pytest.raises(InputError, match=message):
        ensure_files(study(tmp_path / entry))


def test_a_name_of_nothing_and_what_is_no_file_are_said(study, tmp_path):
    os.mkfifo(tmp_path / "pipe.root")
    for entry, message in (("", "a file with an empty name"), (tmp_path / "pipe.root", r"pipe\.root: is a pipe")):
        with pytest.raises(InputError, match=message):
            ensure_files(study(entry))


def test_the_same_content_twice_is_refused(ntuple, study, tmp_path):
    path = ntuple("a.root")
    twin = tmp_path / "twin.root"
    twin.write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"twin\.root: has the same content as .*a\.root"):
        load_clouds(study(path, twin), progress=False)


def test_a_selection_that_leaves_nothing_says_why(ntuple, study):
    with pytest.raises(InputError, match="no jets are left by the selection: 60 jetPt below 5000 GeV"):
        load_clouds(study(ntuple(), selection={"min_pt": 5000}), progress=False)


def test_a_few_impossible_jets_are_left_out_and_reported(ntuple, study, caplog):
    pt = make_jets(200)["jetPt"].copy()
    pt[7] = np.nan
    data = load_clouds(study(ntuple(jets=200, jetPt=pt)), progress=False)
    assert len(data) == 199
    assert "1 of 200 jets were left out: values that are not finite or not possible, or a negative pt" in caplog.text


def test_many_impossible_jets_are_an_error(ntuple, study):
    pt = make_jets(200)["jetPt"].copy()
    pt[:7] *= -1
    with pytest.raises(InputError, match=r"jets\.root: 7 of 200 jets have values that are not finite or"):
        load_clouds(study(ntuple(jets=200, jetPt=pt)), progress=False)


def test_filled_branches_are_reported_once(ntuple, study, caplog):
    caplog.set_level("INFO", logger="jetcorr_utils")
    files = [ntuple(f"{seed}.root", seed=seed, QG_ptD=None) for seed in range(2)]
    load_clouds(study(*files), progress=False)
    assert caplog.text.count("QG_ptD not in the file, filled: computed from the jet's candidates") == 1


def test_data_without_a_generator_cannot_train(ntuple, study):
    with pytest.raises(InputError, match="has no generator jets"):
        load_clouds(study(ntuple(genJetPt=None)), progress=False)


@pytest.mark.parametrize("share", [1, 70])
@pytest.mark.parametrize(("change", "why"), [(1e30, "not possible"), (15.0, "genJetPt more than 10 times jetPt")])
def test_generator_values_that_cannot_be_true_do_not_train(ntuple, study, caplog, share, change, why):
    columns = make_jets(210)
    pt = columns["genJetPt"].copy()
    pt[: 3 * share : 3] *= change
    settings = study(ntuple(jets=210, genJetPt=pt))
    if share > 1:
        with pytest.raises(InputError, match=rf"jets\.root: \d+ of 210 jets have .*{why}"):
            load_clouds(settings, progress=False)
    else:
        data = load_clouds(settings, progress=False)
        assert len(data) == 209
        assert np.abs(data.target).max() < np.log(10)
        assert f"1 of 210 jets were left out: {module.UNUSABLE if change == 1e30 else module.MISMATCHED}" in caplog.text


def shift(path):
    np.save(path, np.load(path) + np.float32(0.5))


def flip_a_bit(path):
    """With the time of change set back."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def drop_rows(path):
    np.save(path, np.load(path)[:-5])


@pytest.mark.parametrize("damage", [shift, flip_a_bit, cut, drop_rows, Path.unlink], ids=lambda way: way.__name__)
@pytest.mark.parametrize("column", ["target", "particles", "ptr", "table.genJetPt"])
def test_a_damaged_column_is_found_and_the_cache_is_built_again(ntuple, study, tmp_path, caplog, damage, column):
    settings = study(ntuple())
    first = load_clouds(settings, progress=False)
    path = tmp_path / "data" / "cache" / first.key / f"{column}.npy"
    expected = {name: file.read_bytes() for name, file in ((f.name, f) for f in path.parent.iterdir())}
    del first
    damage(path)
    load_clouds(settings, progress=False)
    assert f"{path.parent}: damaged, {column}.npy " in caplog.text
    assert "it is made again" in caplog.text
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == expected
    caplog.clear()
    load_clouds(settings, progress=False)
    assert not caplog.text


@pytest.mark.parametrize("text", ["", "[1]", '{"jets": {}}', None])
def test_a_cache_whose_description_was_changed_is_built_again(ntuple, study, tmp_path, caplog, text):
    settings = study(ntuple())
    first = load_clouds(settings, progress=False)
    meta = tmp_path / "data" / "cache" / first.key / "meta.json"
    expected = meta.read_text()
    # a jet of the test part would be one to train on
    meta.write_text(expected.replace('"train": ', '"train": 1') if text is None else text)
    np.testing.assert_array_equal(load_clouds(settings, progress=False).part, first.part)
    assert meta.read_text() == expected
    assert "damaged" in caplog.text


@pytest.mark.parametrize("damage", [shift, cut, Path.unlink], ids=lambda way: way.__name__)
def test_a_part_that_was_damaged_before_it_was_joined_is_made_again(
    ntuple, study, tmp_path, caplog, monkeypatch, damage
):
    good, other = ntuple("good.root", seed=1), ntuple("other.root", seed=2)
    expected = load_clouds(study(good, other, directory=str(tmp_path / "whole")), progress=False)
    with monkeypatch.context() as patch:  # stopped in the middle, between two files
        make = module._make_part
        patch.setattr(module, "_make_part", lambda part, file, *a: make(part, file, *a) if file == str(good) else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            load_clouds(study(good, other), progress=False)
    (part,) = (tmp_path / "data" / "cache" / "parts").iterdir()
    column = part / "train.target"
    if damage is shift:
        column.write_bytes((np.fromfile(column, np.float32) + np.float32(0.5)).tobytes())
    else:
        damage(column)
    data = load_clouds(study(good, other), progress=False)
    np.testing.assert_array_equal(data.target, expected.target)
    np.testing.assert_array_equal(data.particles, expected.particles)
    assert f"{part}: damaged, train.target " in caplog.text


def test_checksums_are_not_taken_again_while_nothing_is_written(ntuple, study, monkeypatch):
    settings = study(ntuple())
    load_clouds(settings, progress=False)
    monkeypatch.setattr("jetcorr_utils.data.fingerprints.checksum", lambda file: pytest.fail(f"{file} read again"))
    load_clouds(settings, progress=False)


@pytest.mark.parametrize("text", ["[]", "{", '{"x": 1}', "{PATH: 3}", "{PATH: [1, 2]}"])
def test_a_damaged_list_of_checksums_is_made_anew(ntuple, study, tmp_path, text):
    settings = study(ntuple())
    first = load_clouds(settings, progress=False)
    remembered = tmp_path / "data" / "cache" / "checksums.json"
    remembered.write_text(text.replace("PATH", json.dumps(settings.files[0])))
    assert load_clouds(settings, progress=False).key == first.key
