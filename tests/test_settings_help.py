"""The list of settings, and the name that somebody may have meant."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from jetcorr_utils.cli import main
from jetcorr_utils.config import Study, load_study
from jetcorr_utils.errors import InputError, StudyError
from jetcorr_utils.plain_yaml import dump_yaml
from jetcorr_utils.settings_help import known_settings, settings_text


def test_every_setting_has_a_meaning_and_every_setting_of_a_study_is_listed():
    settings = {setting.name: setting for setting in known_settings(Study)}
    assert not [name for name, setting in settings.items() if not setting.meaning]
    dumped = load_study("smoke").model_dump(mode="json")
    for section in ("data", "tuning", "export", "serving", "physics", "cluster"):
        for name in dumped[section]:
            assert any(known.startswith(f"{section}.{name}") for known in settings), name
    for name in dumped["models"]["pfn"]:
        assert any(known.startswith(f"models.<name>.{name}") for known in settings), name


def test_the_settings_below_a_path():
    lines = settings_text(Study, "models.pfn.training").splitlines()
    assert lines[0].split()[:2] == ["models.<name>.training.epochs", "15"]
    assert all(line.startswith("models.<name>.training.") for line in lines)
    assert "30.0" in settings_text(Study, "data.selection.min_pt")
    assert "GeV" in settings_text(Study, "data.selection.min_pt")
    with pytest.raises(InputError, match=r"settings tunning: there is none of this name; did you mean tuning\?"):
        settings_text(Study, "tunning")


def test_the_command_prints_them():
    result = CliRunner().invoke(main, ["settings", "export"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()][:2] == ["export.opset", "export.triton_release"]


def test_all_mistakes_are_said_with_the_path_once_and_the_nearest_name(tmp_path):
    study = {"data": {"simulatoin": 3}, "tuning": {"trials": 0}, "cluster": {"namespace": "A B"}}
    study["models"] = {"pfn": {"architecture": "pfn"}}
    (tmp_path / "mine.yaml").write_text(dump_yaml(study), encoding="utf-8")
    with pytest.raises(StudyError) as error:
        load_study(tmp_path / "mine.yaml", {"models.pfn.training.epoch": 3, "models.pfn.training.epochs": "nan"})
    text = str(error.value)
    assert text.count("mine.yaml") == 1
    for part in (
        "parameter models.pfn.training.epoch: there is no such setting; did you mean models.pfn.training.epochs?",
        "parameter models.pfn.training.epochs: Input should be a valid integer",
        "data.simulatoin: there is no such setting; did you mean data.simulation?",
        "tuning.trials: Input should be greater than or equal to 1",
        "cluster.namespace: 'A B' is no name of one part: up to 63 small letters",
    ):
        assert text.count(part) == 1
        assert (text.index(part) < text.index("mine.yaml")) == part.startswith("parameter ")


@pytest.mark.parametrize(
    ("given", "message"),
    [({"models.pfn.scan": "depth"}, "models.pfn.scan: "), ({"tuning.model": "x"}, "tuning.m")],
)
def test_a_message_that_names_its_setting_is_not_told_where_it_is_again(given, message):
    with pytest.raises(StudyError, match=rf"smoke\.yaml: {message}"):
        load_study("smoke", given)
