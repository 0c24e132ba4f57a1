import gzip
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from jetcorr_utils.baseline import ETA_EDGES, derive, load_correction, response_table, write_correction
from jetcorr_utils.errors import InputError

UNDERLYING = 2.0  # GeV, rho without pileup


def response(gen_pt, eta):
    """A response like that of a real detector: low for soft and for forward jets."""
    return 0.97 - 0.5 / np.sqrt(gen_pt) - 0.02 * np.abs(eta)


def made_up(n=150_000, slope=0.4, seed=1):
    """Jets whose response, offset and spread are known."""
    rng = np.random.default_rng(seed)
    gen_pt = np.exp(rng.uniform(np.log(12), np.log(3000), n))
    eta, area, rho = rng.uniform(-2.6, 2.6, n), rng.uniform(0.45, 0.52, n), rng.uniform(2, 35, n)
    spread = np.hypot(0.8 / np.sqrt(gen_pt), 0.04)
    raw_pt = gen_pt * response(gen_pt, eta) * rng.normal(1, spread) + slope * area * (rho - UNDERLYING)
    return {"raw_pt": raw_pt, "eta": eta, "area": area, "rho": rho, "gen_pt": gen_pt}


@pytest.fixture(scope="module")
def correction(tmp_path_factory):
    path = tmp_path_factory.mktemp("corrections") / "made.json.gz"
    return load_correction(write_correction(derive(made_up(800_000), UNDERLYING, "made-up jets"), path))


def closure_table(correction, jets, pt_edges):
    """Median response after the corrections in bins of generator pt, for the barrel and the endcap."""
    corrected = jets["raw_pt"] * correction(*(jets[name] for name in ("raw_pt", "eta", "area", "rho")))
    regions = [abs(jets["eta"]) < 1.3, (abs(jets["eta"]) >= 1.3) & (abs(jets["eta"]) < 2.5)]
    return pd.concat([response_table(corrected[region], jets["gen_pt"][region], pt_edges) for region in regions])


def test_closure_on_other_jets_is_within_one_per_cent(correction):
    table = closure_table(correction, made_up(seed=2), pt_edges=np.geomspace(20, 2500, 12))
    assert len(table) == 22
    assert (abs(table["median"] - 1) < 0.01 + 2 * table.error).all(), table


def test_closure_does_not_depend_on_pileup(correction):
    jets = made_up(seed=3)
    for low, high in ((2, 10), (25, 35)):
        inside = (jets["rho"] > low) & (jets["rho"] < high)
        table = closure_table(correction, {k: v[inside] for k, v in jets.items()}, pt_edges=np.geomspace(30, 2500, 8))
        assert (abs(table["median"] - 1) < 0.01 + 2 * table.error).all(), table


@given(st.floats(40, 2500), st.floats(-2.5, 2.5))
def test_the_response_is_inverted(correction, gen_pt, eta):
    """A jet with exactly the median response gets its generator pt back."""
    raw = gen_pt * response(gen_pt, eta)
    factor = correction(np.array([raw]), np.array([eta]), np.array([0.5]), np.array([UNDERLYING]))
    # a bin in eta has the response of its middle: half its width x 0.02 of slope
    assert raw * factor[0] == pytest.approx(gen_pt, rel=0.012)


@given(st.floats(15, 3000), st.floats(0, 60), st.floats(0, 1))
def test_more_pileup_never_gives_more_pt(correction, raw_pt, rho, area):
    less, more = (
        correction(np.array([raw_pt]), np.array([0.3]), np.array([area]), np.array([r]))[0] for r in (rho, rho + 5)
    )
    assert 0 < more <= less * (1 + 1e-2)  # the L2L3 of the lower pt may be higher, but not by as much


@given(st.floats(0, 1e5), st.floats(-10, 10), st.floats(0, 2), st.floats(0, 500))
def test_factors_are_finite_and_positive_for_any_jet(correction, raw_pt, eta, area, rho):
    factor = correction(np.array([max(raw_pt, 1e-3)]), np.array([eta]), np.array([area]), np.array([rho]))
    assert np.isfinite(factor).all()
    assert 0 < factor[0] < 10


def test_the_compound_is_the_product_of_its_steps(correction):
    jets = made_up(100, seed=4)
    steps = correction.corrections
    l1 = steps["L1FastJet"].evaluate(jets["area"], jets["eta"], jets["raw_pt"], jets["rho"])
    l2l3 = steps["L2L3"].evaluate(jets["eta"], jets["raw_pt"] * l1)
    assert_allclose(correction(*(jets[k] for k in ("raw_pt", "eta", "area", "rho"))), l1 * l2l3)
    assert (l1 <= 1).all()


def test_both_sides_of_the_detector_are_corrected_alike(correction):
    eta = np.array([0.1, 1.0, 2.4, 9.0])
    columns = np.full(4, 50.0), np.full(4, 0.5), np.full(4, 20.0)
    assert_allclose(correction(columns[0], eta, *columns[1:]), correction(columns[0], -eta, *columns[1:]))


def test_stored_corrections_say_what_they_are(tmp_path):
    corrections = derive(made_up(40_000), UNDERLYING, "from a test")
    first, second = (write_correction(corrections, tmp_path / name) for name in ("a.json.gz", "b.json.gz"))
    assert first.read_bytes() == second.read_bytes()
    stored = json.loads(gzip.decompress(first.read_bytes()))
    assert stored["description"] == "from a test"
    assert all(c["description"] for c in stored["corrections"] + stored["compound_corrections"])


def test_response_table_measures_median_and_width():
    rng = np.random.default_rng(1)
    gen_pt = rng.uniform(50, 150, 40_000)
    table = response_table(gen_pt * rng.normal(0.9, 0.1, len(gen_pt)), gen_pt, np.array([50.0, 100, 150, 200]))
    assert table.low.tolist() == [50, 100]  # the empty bin is left out
    assert_allclose(table["median"], 0.9, atol=0.004)
    assert_allclose(table.width, 1.349 * 0.1 / 0.9, rtol=0.03)
    assert_allclose(table.error, 1.2533 * 0.1 / np.sqrt(table.jets), rtol=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda jets: jets.pop("rho"), "column rho is missing"),
        (lambda jets: jets["raw_pt"].__setitem__(3, np.nan), "1 of .* no finite values"),
        (lambda jets: jets["eta"].__setitem__(slice(None), 0.1), "need 300"),
    ],
)
def test_jets_that_cannot_be_used_are_an_error(change, message):
    jets = made_up(20_000)
    change(jets)
    with pytest.raises(InputError, match=message):
        derive(jets, UNDERLYING, "")


def test_files_that_are_no_corrections_are_an_error(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_correction(tmp_path / "absent.json")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(InputError, match="cannot be read as correctionlib"):
        load_correction(broken)
    other = tmp_path / "other.json"
    other.write_text('{"schema_version": 2, "corrections": []}')
    with pytest.raises(InputError, match="L1L2L3 is missing"):
        load_correction(other)


def test_eta_bins_cover_the_selection():
    assert ETA_EDGES[0] == 0
    assert ETA_EDGES[-1] > 2.5
