"""A checkpoint says what it is, and a broken network is not loaded."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import torch

from jetcorr_utils.config import ParticleNetSettings, PfnSettings
from jetcorr_utils.errors import InputError
from jetcorr_utils.models import build_model
from jetcorr_utils.training import load_model, load_result
from jetcorr_utils.training.checkpoint import CHECKPOINT, read_state, save_model

SETTINGS = {
    "pfn": PfnSettings(architecture="pfn", conv_dim=8, fc_dim=8),
    "particlenet": ParticleNetSettings(architecture="particlenet", conv_dim=8, fc_dim=8, blocks=1, k=3),
}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", list(SETTINGS))
def test_a_weight_or_constant_that_is_not_finite_is_refused(tmp_path, name, value):
    state = build_model(SETTINGS[name]).state_dict()
    for key in state:
        model = build_model(SETTINGS[name])
        tensor = model.state_dict()[key]
        if tensor.is_floating_point():
            tensor.view(-1)[-1] = value
            save_model(model, tmp_path)
            with pytest.raises(InputError, match=rf"checkpoint\.pt: its {key} is not finite: a broken network"):
                load_model(tmp_path)


@pytest.mark.parametrize("number", [None, 0, 2, "1"])
def test_a_checkpoint_of_another_format_is_refused(tmp_path, number):
    save_model(build_model(SETTINGS["pfn"]), tmp_path)
    content = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    torch.save({**content, "format": number}, tmp_path / CHECKPOINT)
    with pytest.raises(InputError, match=rf"checkpoint\.pt: .*it is of format {number!r}, this version reads 1"):
        load_model(tmp_path)


@pytest.mark.parametrize("reader", [load_model, lambda path: read_state(path, "key")])
def test_a_checkpoint_is_not_unpacked(tmp_path, reader, caplog):
    path = tmp_path / "checkpoint.pt"
    torch.save({"weights": torch.zeros(1 << 20), "key": "key"}, tmp_path / "as_it_is.pt")
    with zipfile.ZipFile(tmp_path / "as_it_is.pt") as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    assert path.stat().st_size < 1 << 16
    assert torch.load(path, weights_only=True)["weights"].shape == (1 << 20,)
    said = ""
    try:
        assert reader(path) is None
    except InputError as error:
        said = str(error)
    assert "checkpoint.pt" in said + caplog.text
    assert "is compressed" in said + caplog.text


@pytest.mark.parametrize("name", ["history.csv", "result.json"])
@pytest.mark.parametrize("content", ["", "{}", "[1]", "\x00"])
def test_a_damaged_record_of_a_training_is_one_line(tmp_path, name, content):
    good = {"history.csv": "epoch,validation_mae\n1,0.1\n", "result.json": "{}"}
    for file, text in (good | {name: content}).items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="damaged") as error:
        load_result(tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("change", [{"conv_dim": 4096}, {"fc_dim": 4096}, {"conv_layers": 64}, {"fc_layers": 64}])
def test_a_network_that_is_larger_than_its_file_is_not_made(tmp_path, change):
    """It would take gigabytes, or many minutes, until its weights are seen to be others."""
    save_model(build_model(SETTINGS["pfn"]), tmp_path)
    content = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    settings = json.dumps(json.loads(content["settings"]) | change)
    few = {name: weight[..., :1].expand(weight.shape) for name, weight in content["weights"].items() if weight.ndim}
    torch.save(content | {"settings": settings, "weights": few}, tmp_path / CHECKPOINT)
    with pytest.raises(InputError, match=r"checkpoint\.pt: .*settings are those of a larger network than its weights"):
        load_model(tmp_path)
