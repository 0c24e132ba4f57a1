"""The search space: what it accepts, what it says of a mistake, and how a draw becomes settings."""

from __future__ import annotations

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from jetcorr_utils.config import PfnSettings, Space, load_study
from jetcorr_utils.errors import StudyError
from jetcorr_utils.tuning.space import apply_parameters, check_space, distributions, draw, inside, own_parameters

PFN = PfnSettings(architecture="pfn")
SPACE = TypeAdapter(dict[str, Space]).validate_python(
    {
        "conv_layers": {"min": 1, "max": 5},
        "fc_dim": {"choices": [50, 100, 200]},
        "dropout": {"min": 0.0, "max": 0.2},
        "training.learning_rate": {"min": 5e-5, "max": 5e-3, "log": True},
        "training.optimizer": {"choices": ["adam", "ranger"]},
    }
)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, r"^tuning.space is empty: name at least one setting"),
        (
            {"conv_dims": {"choices": [1]}},
            r"^tuning.space: 'conv_dims' is not a setting of pfn; there are fc_",
        ),
        ({"k": {"choices": [4]}}, r"^tuning.space: 'k' is not a setting of pfn"),
        ({"learning_rate": {"min": 1e-3, "max": 1e-2}}, r"'learning_rate' is not .* training.learning_rate"),
        ({"training.epochs": {"min": 1, "max": 2}}, r"^tuning.space: 'training.epochs' is not a setting"),
        ({"features": {"choices": ["open"]}}, r"^tuning.space: 'features' is not a setting"),
        ({"dropout": {"min": 0.0, "max": 1.0}}, r"^tuning.space: dropout = 1.0: Input should be less than 1$"),
        ({"conv_layers": {"min": 0, "max": 3}}, r"^tuning.space: conv_layers = 0: Input should be greater than 0$"),
        ({"conv_layers": {"min": 1.0, "max": 3.0}}, r"^tuning.space: conv_layers = 1.76.*valid integer"),
        ({"training.optimizer": {"choices": ["adam", "sgd"]}}, r"^tuning.space: training.optimizer = 'sgd'"),
    ],
)
def test_a_space_that_does_not_fit_the_model_is_refused_in_one_line(space, message):
    with pytest.raises(StudyError, match=message) as raised:
        check_space(PFN, TypeAdapter(dict[str, Space]).validate_python(space))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"choices": []}, r"tuning.space.dropout.*at least 1 item"),
        ({"min": 0.2, "max": 0.1}, r"tuning.space.dropout.*min 0.2 is above max 0.1"),
        ({"min": 0, "max": 0.1, "log": True}, r"tuning.space.dropout.*a log interval needs min above 0"),
    ],
)
def test_a_range_that_is_none_is_refused_in_one_line_when_the_study_is_read(values, message):
    with pytest.raises(StudyError, match=message) as raised:
        load_study("smoke", {"tuning.space": {"dropout": values}})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["quick", "default", "smoke"])
def test_the_space_of_each_study_fits_its_model(name):
    study = load_study(name)
    check_space(study.models[study.tuning.model], study.tuning.space)


@given(seed=st.integers(0, 2**32 - 1))
def test_each_draw_gives_settings_that_hold_it(seed):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed)).ask()
    values = draw(trial, SPACE)
    assert own_parameters(apply_parameters(PFN, values), SPACE) == values
    assert inside(values, SPACE) == values
    assert trial.distributions == distributions(SPACE)
    assert 1 <= values["conv_layers"] <= 5
    assert 5e-5 <= values["training.learning_rate"] <= 5e-3
    assert values["fc_dim"] in (50, 100, 200)


def test_the_models_own_settings_may_lie_outside():
    own = own_parameters(PFN, SPACE)
    assert own["fc_dim"] == 64
    assert inside(own, SPACE) == {"conv_layers": 3, "dropout": 0.0, "training.learning_rate": 2e-3}
