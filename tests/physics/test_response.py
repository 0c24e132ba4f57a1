"""Response histograms by coffea: equal for all executors and splits, and their quantiles are the exact ones."""

import shutil

import hist
import numpy as np
import pytest
import uproot

from jetcorr_utils.config import PhysicsSettings
from jetcorr_utils.errors import InputError
from jetcorr_utils.physics.profiles import profile
from jetcorr_utils.physics.response import fill_response, histogram_quantiles, quantile_table

CORRECTIONS = ("raw", "standard", "pfn")

#: a small histogram, which travels quickly between processes
FEW = {"corrections": ("standard", "pfn"), "pt_edges": (30, 100, 300, 1000, 3000), "replicas": 5, "progress": False}


@pytest.fixture(scope="module")
def filled(predictions_files):
    return fill_response(predictions_files, CORRECTIONS, replicas=40, progress=False)


def test_every_jet_is_counted_once(filled, predictions):
    assert filled["response"].sum(flow=True) == len(CORRECTIONS) * len(predictions)
    gluons = filled["response"][{"flavour": hist.loc(21), "correction": "pfn"}].sum(flow=True)
    assert gluons == (predictions["flavour"] == 21).sum()


@pytest.fixture(scope="module")
def few_replicas(predictions_files):
    """What the iterative executor fills in one go."""
    return fill_response(predictions_files, **FEW)


@pytest.mark.parametrize("options", [{"chunk_size": 1_234}, {"executor": "futures", "workers": 2, "chunk_size": 4_000}])
def test_executors_and_chunks_agree_exactly(predictions_files, few_replicas, options):
    other = fill_response(predictions_files, **FEW, **options)
    assert few_replicas["response"] == other["response"]
    assert few_replicas["bootstrap"] == other["bootstrap"]


def test_a_file_that_is_given_twice_is_counted_once(predictions_files, few_replicas, tmp_path):
    (tmp_path / "link.root").symlink_to(predictions_files[0])
    other = fill_response([*predictions_files, tmp_path / "link.root"], **FEW)
    assert few_replicas["response"] == other["response"]


@pytest.mark.parametrize("options", [{}, {"executor": "futures", "workers": 2}])
def test_files_have_any_names(predictions_files, few_replicas, tmp_path, options):
    folder = tmp_path / "été [1]"
    folder.mkdir()
    names = [folder / "a b: #%41.root", folder / "λ\n.root", *map(str, range(len(predictions_files)))]
    files = [shutil.copy(path, folder / name) for path, name in zip(predictions_files, names, strict=False)]
    other = fill_response(files, **FEW, **options)
    assert few_replicas["response"] == other["response"]


def test_a_file_without_a_jet_is_said(predictions_files, tmp_path):
    with uproot.open(predictions_files[0]) as file:
        columns = file["jets"].arrays(library="np", entry_stop=0)
    with uproot.recreate(tmp_path / "none.root") as file:
        file["jets"] = columns
    with pytest.raises(InputError, match=r"none\.root: no jet has a generator jet"):
        fill_response([tmp_path / "none.root"], **FEW)


def test_jets_without_generator_jets_are_said(predictions_files, tmp_path):
    """Of data, a table without a number would be printed."""
    with uproot.open(predictions_files[0]) as file:
        columns = file["jets"].arrays(library="np", entry_stop=100)
    with uproot.recreate(tmp_path / "data.root") as file:
        file["jets"] = columns | {"genJetPt": np.zeros_like(columns["genJetPt"])}
    with pytest.raises(InputError, match=r"data\.root: no jet has a generator jet"):
        fill_response([tmp_path / "data.root"], **FEW)


def test_dask_agrees_exactly(predictions_files, few_replicas, dask_client):
    other = fill_response(predictions_files, **FEW, executor="dask", client=dask_client, chunk_size=6_000)
    assert few_replicas["response"] == other["response"]
    assert few_replicas["bootstrap"] == other["bootstrap"]


def test_binned_medians_and_errors_are_the_exact_ones(filled, predictions):
    binned = quantile_table(filled, "pfn").set_index("low")
    exact = profile(predictions, ["pfn"], PhysicsSettings(replicas=40), min_jets=200).set_index("low")
    binned = binned.loc[exact.index]
    for name in ("median", "resolution"):
        assert (np.abs(binned[name] - exact[name]) < 0.3 * exact[f"{name}_error"]).all()
        np.testing.assert_allclose(binned[f"{name}_error"], exact[f"{name}_error"], rtol=0.1)


def test_quantiles_of_a_histogram_interpolate_and_count_what_lies_outside():
    filled = hist.Hist(hist.axis.Regular(4, 0, 4), storage=hist.storage.Int64())
    assert np.isnan(histogram_quantiles(filled)).all()
    filled.fill([0.5, 1.5, 2.5, 3.5])
    np.testing.assert_allclose(histogram_quantiles(filled), [1, 2, 3])
    filled.fill([9, 9, 9, 9, -1])
    np.testing.assert_allclose(histogram_quantiles(filled, (0.0, 0.05, 0.9)), [0, 0, 4])


def test_bad_input_is_refused(predictions_files, tmp_path):
    with pytest.raises(InputError, match="no predictions file"):
        fill_response([], CORRECTIONS, progress=False)
    with pytest.raises(InputError, match="executor 'slurm'"):
        fill_response(predictions_files, CORRECTIONS, executor="slurm", progress=False)
    with pytest.raises(InputError, match=r"nothing\.root"):
        fill_response([tmp_path / "nothing.root"], CORRECTIONS, progress=False)
    with pytest.raises(InputError, match="gnn_pt"):
        fill_response(predictions_files, ("gnn",), progress=False)


def test_the_command_prints_the_same_whatever_the_number_of_processes(cli, predictions_files, filled):
    one = cli("response", *predictions_files, "--replicas", 3).stdout
    rows = [line.split() for line in one.splitlines()[1:]]
    assert {row[0] for row in rows} == {"standard", "pfn", "particlenet"}
    known = quantile_table(filled, "pfn").dropna()
    printed = [float(row[3]) for row in rows if row[0] == "pfn" and len(row) == 7]
    assert printed == pytest.approx(known["median"].to_list(), abs=1e-4)
    assert cli("response", *predictions_files, "--replicas", 3, "--workers", 2).stdout == one
    refused = cli("response", predictions_files[0], "--model", "gnn", check=False)
    assert refused.returncode == 2
    assert "has no branch 'gnn_pt'" in refused.stderr
