"""Studies on CMS's own files: corrections made anew, regressions as models, neutrinos, and the raw pt as target."""

from __future__ import annotations

import awkward as ak
import nbformat
import numpy as np
import pytest
import uproot

from jetcorr_utils import physics
from jetcorr_utils.config import DataSettings, load_study
from jetcorr_utils.correct import correct_files, correct_jets, write_predictions
from jetcorr_utils.data import load_clouds, read_jets
from jetcorr_utils.data.features import FILE_PT, START_PT, as_seen, jet_matrix
from jetcorr_utils.errors import InputError
from jetcorr_utils.export import export_model
from jetcorr_utils.files import read_json
from jetcorr_utils.inference.open_predictors import open_predictors
from jetcorr_utils.jerc import CorrectionsChoice
from jetcorr_utils.jets.regressions import regressed
from jetcorr_utils.physics import explore
from jetcorr_utils.physics.published import PUBLISHED, SOURCES
from tests.nanoaod_files import with_regression, written_again
from tests.networks import METADATA, network


@pytest.fixture(scope="module")
def jerc(real_data):
    return str(real_data / "jet_jerc_2018UL_NanoV15.json.gz")


@pytest.fixture(scope="module")
def planted(real_data, tmp_path_factory):
    """The real jets with candidates, with a regression that their file does not have."""
    path = tmp_path_factory.mktemp("planted") / "planted.root"
    return written_again(real_data / "v15_ak4_names.root", path, with_regression("pnet", 1.25, 0.1))


def data(tmp_path, *files, **settings):
    cuts = {"selection": {"min_pt": 15.0, "min_gen_pt": 8.0}} | settings
    return DataSettings(files=tuple(map(str, files)), directory=str(tmp_path / "data"), **cuts)


def notes(settings, **more):
    """What a network notes that was trained in such a study."""
    return {"name": "pfn", **METADATA, "split": settings.split.model_dump(mode="json"), **more}


def test_a_study_has_jets_corrected_anew(real_data, jerc, tmp_path):
    file = real_data / "nano_tt_v15.root"
    own, anew = read_jets(file, data(tmp_path)), read_jets(file, data(tmp_path, corrections=jerc))
    expected = CorrectionsChoice(jerc).load().apply(read_jets(file))
    place = {key: row for row, key in enumerate(zip(expected["event"], expected["jetPtOrder"], strict=True))}
    rows = [place[key] for key in zip(anew["event"], anew["jetPtOrder"], strict=True)]
    np.testing.assert_allclose(anew["jetPt"], expected["jetPt"][rows], rtol=1e-6)
    np.testing.assert_array_equal(anew[FILE_PT], read_jets(file)["jetPt"][rows])
    assert 0.9 < np.median(ak.to_numpy(anew["jetPt"] / anew[FILE_PT])) < 0.999
    assert len(own) > 1000  # without candidates, and selected all the same
    assert FILE_PT not in own.fields
    with pytest.raises(InputError, match=r"data\.corrections absent\.json: there is no such file"):
        read_jets(file, data(tmp_path, corrections="absent.json"))


def test_regressions_and_the_files_own_pt_stand_beside_the_networks(planted, real_data, jerc, tmp_path):
    settings = data(tmp_path, planted, corrections=jerc)
    clouds = load_clouds(settings, progress=False)
    file = export_model(network("pfn"), tmp_path / "pfn.onnx", metadata=notes(settings))
    write_predictions(clouds, open_predictors(file), tmp_path / "out.root", progress=False)
    table = physics.load_predictions(tmp_path / "out.root")
    assert physics.model_names(table) == ["pnet", "pfn"]
    np.testing.assert_allclose(table["pnet_pt"], 1.25 * table["jetRawPt"], rtol=1e-5)
    np.testing.assert_allclose(table["pnet_sigma"], 0.08, rtol=1e-5)
    checked = physics.compare_with_file(table)
    ratio = table["jetPt"] / table["file_pt"]
    assert checked["median"].iloc[-1] == pytest.approx(np.median(ratio))
    assert checked["equal to 0.1 %"].iloc[-1] < 0.5
    both = load_clouds(data(tmp_path, planted, real_data / "v15_ak4_names.root"), progress=False)
    assert "PNetRegPtRawCorr" not in both.table  # not all files have it
    assert FILE_PT not in both.table
    assert both.key != clouds.key


def test_the_generated_pt_with_neutrinos(real_data, tmp_path):
    """Against one jet after the other, and by what CMS's regressions with neutrinos make of b jets."""
    file = real_data / "nano_tt_v15.root"
    jets = read_jets(file)
    with uproot.open(file) as opened:
        events = opened["Events"].arrays(filter_name=["GenPart_*", "event"], entry_stop=40)
    for event in events:
        kind, stable = np.abs(np.asarray(event["GenPart_pdgId"])), np.asarray(event["GenPart_status"]) == 1
        chosen = np.isin(kind, (12, 14, 16)) & stable
        pt, eta, phi = (np.asarray(event[f"GenPart_{name}"])[chosen].astype(float) for name in ("pt", "eta", "phi"))
        for jet in jets[(jets["event"] == event["event"]) & (jets["genJetPt"] > 0)]:
            turn = np.angle(np.exp(1j * (phi - jet["genJetPhi"])))
            near = np.hypot(eta - jet["genJetEta"], turn) < 0.4
            whole = jet["genJetPt"] * np.exp(1j * jet["genJetPhi"]) + (pt * np.exp(1j * phi))[near].sum()
            assert jet["genJetNuPt"] == pytest.approx(abs(whole), rel=1e-5)
    settings = data(tmp_path, selection={"min_gen_pt": 30.0}, neutrinos=True)
    b = read_jets(file, settings)
    np.testing.assert_array_equal(b["genJetPt"], b["genJetNuPt"])
    b = b[(b["hadronFlav"] == 5) & (b["chEmEF"] + b["muEF"] < 0.5)]
    for name in ("pnet", "upart"):
        truth, without = (
            np.median(b["jetPt"] * regressed(b, name, neutrinos=neutrinos)[0] / b["genJetPt"])
            for neutrinos in (True, False)
        )
        assert truth == pytest.approx(1, abs=0.015)
        assert without < 0.975
    with pytest.raises(InputError, match=r"v15_ak4_names\.root: data\.neutrinos: it has no generator particles"):
        read_jets(real_data / "v15_ak4_names.root", settings)


@pytest.mark.parametrize("neutrinos", [False, True])
def test_a_network_that_corrects_the_raw_pt(real_data, jerc, tmp_path, neutrinos):
    """The same factor on the raw pt, whatever correction the file has, and NanoAOD's names for it."""
    file = real_data / "pfnano.root"
    settings = data(tmp_path, file, target="raw", neutrinos=neutrinos)
    clouds = load_clouds(settings, progress=False)
    raw = clouds.table["jetRawPt"]
    np.testing.assert_array_equal(clouds.jet("jetPt"), raw)
    np.testing.assert_array_equal(clouds.table[START_PT], raw)
    np.testing.assert_allclose(clouds.target, np.log(clouds.table["genJetPt"] / raw), rtol=1e-4, atol=1e-6)
    assert (clouds.table["jetPt"] != raw).mean() > 0.9
    noted = notes(settings, target="raw", neutrinos="with" if neutrinos else "without")
    model = open_predictors(export_model(network("pfn"), tmp_path / "pfn.onnx", metadata=noted))
    assert "= raw ones * exp(output)" in model["pfn"].metadata["output"]
    log_factor, sigma = model["pfn"].predict(clouds)
    write_predictions(clouds, model, tmp_path / "predictions.root", progress=False)
    with uproot.open(tmp_path / "predictions.root") as opened:
        table = opened["jets"].arrays(library="np")
    np.testing.assert_allclose(table["pfn_pt"], raw * np.exp(log_factor), rtol=1e-5)
    np.testing.assert_allclose(table["pfn_factor"], table["pfn_pt"] / table["jetPt"], rtol=1e-5)
    corr = f"pfnRegPtRawCorr{'Neutrino' if neutrinos else ''}"
    np.testing.assert_allclose(table[corr], np.exp(log_factor), rtol=1e-5)
    np.testing.assert_allclose(table["pfnRegPtRawRes"], sigma * np.exp(log_factor), rtol=1e-5)
    frame = physics.predictions_table(clouds.table, {"pfn": (log_factor, sigma)})
    np.testing.assert_allclose(frame["pfn_pt"], table["pfn_pt"], rtol=1e-5)
    correct_files([file], tmp_path / "pfn.onnx", tmp_path / "own.root", progress=False)
    choice = CorrectionsChoice(jerc)
    correct_files([file], tmp_path / "pfn.onnx", tmp_path / "anew.root", corrections=choice, progress=False)
    corrected = []
    for name in ("own", "anew"):
        with uproot.open(tmp_path / f"{name}.root") as opened:
            found = opened["jets"].arrays(["event", "jetRawPt", "jetPt", "pfn_pt", corr], library="pd")
        corrected.append(found.set_index(["event", "jetRawPt"]))
    own, anew = (found.sort_index() for found in corrected)
    common = own.index.intersection(anew.index)
    assert len(common) > 20
    np.testing.assert_allclose(own.loc[common, "pfn_pt"], anew.loc[common, "pfn_pt"], rtol=1e-5)
    assert (own.loc[common, "jetPt"] != anew.loc[common, "jetPt"]).any()
    jets = read_jets(file)
    in_memory = correct_jets(jets, model)
    usable = np.isfinite(in_memory["pfn_sigma"])
    np.testing.assert_allclose(
        np.sort(in_memory["pfn_raw_factor"][usable]), np.sort(own[corr].to_numpy()), rtol=1e-5
    )  # fmt: skip


def test_a_network_of_another_target_is_refused(real_data, tmp_path):
    settings = data(tmp_path, real_data / "pfnano.root", target="raw")
    clouds = load_clouds(settings, progress=False)
    file = export_model(network("pfn"), tmp_path / "pfn.onnx", metadata=notes(settings))
    with pytest.raises(InputError, match=r"model pfn: corrects another pt than data\.target says"):
        write_predictions(clouds, open_predictors(file), tmp_path / "out.root", progress=False)
    wrong = notes(settings, target="best")
    with pytest.raises(InputError, match="takes target 'best'; there are corrected, raw"):
        open_predictors(export_model(network("pfn"), tmp_path / "wrong.onnx", metadata=wrong))


def test_jets_as_a_network_of_the_raw_pt_sees_them(real_data):
    jets = read_jets(real_data / "pfnano.root")
    seen = as_seen(jets, "raw")
    np.testing.assert_array_equal(seen["jetMass"], jets["jetRawMass"])
    assert as_seen(jets, "corrected") is jets
    names = [name for name in ("jetPt", "jetMass") if (jets[name] != seen[name]).to_numpy().any()]
    assert names == ["jetPt", "jetMass"]
    assert jet_matrix(seen).shape == jet_matrix(jets).shape


@pytest.mark.parametrize("draw", [explore.plot_pileup, explore.plot_spectrum, explore.plot_correlations])
def test_figures_have_the_label_and_the_energy_of_the_file(real_data, draw):
    figure = draw(read_jets(real_data / "nano_tt_v15.root", DataSettings())).complete("CMS Simulation", "13.6 TeV")
    texts = [text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]
    assert sum("CMS Simulation" in text for text in texts) == 1
    assert sum("13.6 TeV" in text for text in texts) == 1
    assert not any("13 TeV" in text for text in texts)


def test_each_published_figure_says_what_it_is_of():
    table, sources = physics.published_table(), physics.source_table().set_index("source")
    gains = table.drop(columns=["gain of", "abs(eta)", "model", "source"])
    assert (gains != "").to_numpy().sum() == len(PUBLISHED)
    assert list(gains) == ["30+", "30-100", "30-50", "50-100", "100-300", "300-1000", "500+", "1000+"]
    (paper,) = table.loc[
        (table["gain of"] == "flavour") & (table["abs(eta)"] == "0-1.3") & (table["model"] == "PFN")
    ].index
    assert list(gains.loc[paper]) == ["36", "8", "", "", "23", "58", "", "69"]
    assert list(sources) == list(SOURCES) == list(dict.fromkeys(table["source"]))
    assert list(sources.index) == ["experiment", "jets", "inputs", "target", "year", "reference"]
    assert sources.astype(bool).all(axis=None)
    assert "19 ± 4 (NanoAODv15, ParticleNet of CMS)" in physics.results_table(
        {"pfn": {"resolution_gain": {"0-2.5": {"30-inf": {"value": 0.1, "error": 0.01, "jets": 1}}}}}
    )["published"].iloc[0]  # fmt: skip


@pytest.mark.slow
def test_files_without_candidates_have_a_report(real_data, jerc, tmp_path, cli):
    """Notebooks 01 and 06 on NanoAODv15 as it is: its own label, the official correction, CMS's regressions."""
    study = tmp_path / "tt.yaml"
    files = f"[{real_data / 'nano_tt_v15.root'}]"
    study.write_text(
        f"data: {{files: {files}, corrections: {jerc}, directory: {tmp_path / 'data'}}}\n"
        "models: {pfn: {architecture: pfn}}\nphysics: {replicas: 50, closure: true}\n"
    )
    run = tmp_path / "run"
    output = cli("run", "--study", study, "--out", run).stdout
    for name in ("02_gnn_training", "03_tuning", "04_onnx_export", "05_triton_query"):
        assert f"{name}: left out, since the jets have no particle-flow candidates" in output
    assert "06_physics_plots: up to date" in cli("run", "--study", study, "--out", run).stdout
    made = read_json(run / "data.json")
    assert (made["made_by"], made["energy"]) == ("CMS Simulation (NanoAOD)", "13.6 TeV")
    metrics = read_json(run / "metrics.json")
    for name, gain in (("pnet", 0.18), ("upart", 0.19)):
        assert metrics[name]["resolution_gain"]["0-2.5"]["30-inf"]["value"] == pytest.approx(gain, abs=0.03)
        assert metrics[name]["target"] == "gen pt without neutrinos / raw pt"
        assert 0.8 < metrics[name]["pull_width"] < 1.4
    figures = {path.stem for path in (run / "figures").glob("*.png")}
    assert {"01_spectrum", "01_target", "06_resolution_0-1.3", "06_pull"} <= figures
    assert not figures & {"01_cloud_0", "01_jet_images", "01_substructure", "01_energy_fractions"}
    executed = nbformat.read(run / "notebooks" / "01_data_exploration.ipynb", as_version=4)
    said = [output.get("text", "") for cell in executed.cells for output in cell.get("outputs", [])]
    assert "not in study tt; needs files with particle-flow candidates\n" in said
    assert load_study(study).data.corrections == jerc
