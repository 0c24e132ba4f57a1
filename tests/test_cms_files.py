"""Each real file of another's: read and corrected, or refused with the right reason."""

from __future__ import annotations

import numpy as np
import pytest
import uproot

from jetcorr_utils.correct import correct_files
from jetcorr_utils.data import describe, read_jets
from jetcorr_utils.errors import InputError
from tests.networks import exported

CORRECTED = {"pfnano": 36, "pfnano_rntuple": 36, "v15_ak4_names": 36, "delphes_events": None}
WITHOUT = "its jets have no particle-flow candidates (a file of PFNano type has)"
REFUSED = {"nano_dy": WITHOUT, "nano_tt_v15": f"{WITHOUT}; it has CMS's own regressions pnet and upart"}


def test_these_are_all_the_files(real_data):
    assert {path.stem for path in real_data.glob("*.root")} == {*CORRECTED, *REFUSED}


@pytest.mark.parametrize("name", CORRECTED)
def test_a_file_that_is_corrected(real_data, tmp_path, name):
    path = real_data / f"{name}.root"
    assert describe(path).usable
    report = correct_files([path], exported("pfn"), tmp_path / "out.root", progress=False)
    assert report.corrected == (CORRECTED[name] or report.corrected) > 10
    assert report.corrected + report.skipped.total() == len(read_jets(path))
    with uproot.open(tmp_path / "out.root") as file:
        table = file["jets"].arrays(library="np")
    assert (np.isfinite(table["pfn_pt"]) & (table["pfn_pt"] > 0)).all()
    np.testing.assert_allclose(table["pfn_pt"], table["pfn_factor"] * table["jetPt"], rtol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_refused(real_data, tmp_path, name):
    path = real_data / f"{name}.root"
    with pytest.raises(InputError) as refused:
        correct_files([path], exported("pfn"), tmp_path / "out.root", progress=False)
    assert str(refused.value).startswith(f"{path}: {REFUSED[name]}")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out.root").exists()


def test_a_tree_and_an_rntuple_are_corrected_alike(real_data, tmp_path):
    tables = []
    for name in ("pfnano", "pfnano_rntuple"):
        correct_files([real_data / f"{name}.root"], exported("pfn"), tmp_path / f"{name}.root", progress=False)
        with uproot.open(tmp_path / f"{name}.root") as file:
            tables.append(file["jets"].arrays(library="np"))
    assert tables[0].keys() == tables[1].keys()
    for name, values in tables[0].items():
        np.testing.assert_array_equal(tables[1][name], values)
