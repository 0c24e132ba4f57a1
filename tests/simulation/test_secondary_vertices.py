"""Secondary vertices: found where tracks of a decay meet, written, read, and points of a cloud beside candidates."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import uproot

from jetcorr_utils.config import DataSettings
from jetcorr_utils.data import describe, iterate_jets, load_clouds, read_jets
from jetcorr_utils.data.dataset import clouds_from_jets
from jetcorr_utils.errors import InputError
from jetcorr_utils.jets.columns import BRANCHES, VERTICES, particle_columns
from jetcorr_utils.simulation.calibration import simulation_correction
from jetcorr_utils.simulation.ntuple import create_tree, ntuple
from jetcorr_utils.simulation.parameters import Tracking
from jetcorr_utils.simulation.particles import Particles
from jetcorr_utils.simulation.reconstruction import Candidates
from jetcorr_utils.simulation.secondary_vertices import secondary_vertices

TRACKING = Tracking()
WITH_VERTICES = ("open", "impact", "puppi", "secondary_vertices")


def two_tracks(origin=(7, 7), d0=0.02, flight=0.01, angle=0.1, pt=10.0):
    """Two tracks of 10 GeV, one to each side of eta 0.5, and their particles; distances in cm and (flight) in m."""
    n, ones = len(origin), np.ones(len(origin))
    eta = np.array([0.5 + (-1) ** k * angle / 2 for k in range(n)])
    particles = Particles(
        pt * ones, eta, 0 * ones, 0.13957 * ones, 211 * ones, ones, 0.01 * ones, np.zeros(n, int), np.array([0, n]),
        flight=flight * ones, origin=np.array(origin),
    )  # fmt: skip
    candidates = Candidates(
        pt * ones, eta, 0 * ones, 0.13957 * ones, 211 * ones, 3 * ones, ones, ones, np.array([0, n]),
        particle=np.arange(n),
    )  # fmt: skip
    further = {"d0": d0 * ones, "d0Err": 0.002 * ones}
    return secondary_vertices(particles, candidates, further, TRACKING, np.random.default_rng(1))


def test_two_tracks_of_a_decay_make_a_vertex():
    found = two_tracks()
    assert found.offsets.tolist() == [0, 1]
    column = {name: values[0] for name, values in found.columns.items()}
    assert {f"SV_{name}" for name in column} == {*VERTICES}
    assert column["ntracks"] == 2
    assert column["pt"] == pytest.approx(20)
    assert column["eta"] == pytest.approx(0.5, abs=0.01)
    assert column["mass"] == pytest.approx(10 * 0.1, rel=0.1)  # pt times the angle, and the masses
    # the error is that of a track over the root of their number and over the angle of 0.05 from their axis
    assert column["dlenSig"] == pytest.approx(1.0 / (0.002 / np.sqrt(2) / 0.05), abs=3)


@pytest.mark.parametrize("what", [
    {"origin": (7,)}, {"origin": (7, 8)}, {"origin": (-1, -1)}, {"d0": 0.001}, {"d0": 0.5}, {"flight": 1e-5},
])  # fmt: skip
def test_others_make_none(what):
    assert len(two_tracks(**what).columns["pt"]) == 0


@pytest.fixture(scope="module")
def file(events, tmp_path_factory):
    """Simulated jets in a file."""
    path = tmp_path_factory.mktemp("vertices") / "jets.root"
    jets = ntuple(events, simulation_correction(), 3, 0)
    with uproot.recreate(path) as out:
        create_tree(out).extend({name: jets[name] for name in BRANCHES})
    return path


def read(file, **options):
    """All jets with their vertices."""
    return ak.concatenate(list(iterate_jets(file, particles=particle_columns(WITH_VERTICES), **options)))


def test_the_vertices_of_a_jet_are_near_its_axis_and_the_hardest_first(file):
    jets = read(file)
    found = jets["vertices"]
    assert ak.sum(ak.num(found)) > 10
    distance = np.hypot(found["SV_eta"] - jets["jetEta"], (found["SV_phi"] - jets["jetPhi"] + 3.1416) % 6.2832 - 3.1416)
    assert ak.max(distance) < 0.41
    assert ak.all(found["SV_pt"][:, :-1] >= found["SV_pt"][:, 1:])
    assert ak.min(found["SV_ntracks"]) == 2
    assert ak.min(found["SV_dlenSig"]) > 2.9
    # K0S are the most common ones
    assert ak.mean(abs(found["SV_mass"] - 0.4976) < 0.05) > 0.2


def test_a_file_says_that_it_serves_every_set_and_chunks_have_their_own_vertices(file):
    assert "features: open, rich, full, paper, thesis" in describe(file).text()
    with uproot.open(file) as opened:
        expected = opened["AK4jets/jetTree/SV_pt"].array()
    assert ak.all(read(file, step_size=37)["vertices", "SV_pt"] == expected)


@pytest.mark.parametrize("features", ["thesis", WITH_VERTICES])
def test_vertices_are_points_of_the_cloud(file, tmp_path, features):
    jets = read(file)
    settings = DataSettings(files=(str(file),), directory=str(tmp_path))
    clouds = load_clouds(settings, features, progress=False)
    mark = clouds.particle("PF_vertex") > 0
    place = {event: row for row, event in enumerate(zip(jets["event"], jets["jetPtOrder"], strict=True))}
    rows = [place[key] for key in zip(clouds.table["event"], clouds.table["jetPtOrder"], strict=True)]
    own = ak.sum(jets["particles", "PF_fromAK4Jet"], axis=1)[rows]
    np.testing.assert_array_equal(clouds.multiplicity, own + ak.num(jets["vertices"])[rows])
    assert mark.sum() == ak.sum(ak.num(jets["vertices"])[rows])
    np.testing.assert_allclose(clouds.particle("PF_pT")[mark], ak.flatten(jets["vertices", "SV_pt"][rows]))
    assert np.abs(clouds.particle("PF_dPhi")[mark]).max() < 0.41


def test_features_without_vertices_leave_them_out(file):
    jets = read(file)
    plain, found = clouds_from_jets(jets, "open"), clouds_from_jets(jets, WITH_VERTICES).with_features("open")
    np.testing.assert_array_equal(found.ptr, plain.ptr)
    np.testing.assert_array_equal(found.particles, plain.particles)


def test_a_file_without_vertices_is_refused_in_one_line(sample):
    jets = read_jets(sample)  # where they are not asked for
    with pytest.raises(InputError, match="features 'thesis' need secondary vertices, which these jets do not have"):
        clouds_from_jets(jets, "thesis")
