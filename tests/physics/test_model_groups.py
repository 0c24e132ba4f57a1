"""Which models of a study belong together."""

import pytest

from jetcorr_utils.config import PfnSettings, TrainingSettings
from jetcorr_utils.physics import (
    choose_weights,
    first_trainings,
    frontier_weights,
    learning_curve,
    main_models,
    seed_groups,
    variants,
    with_settings,
)

NAMES = ["pfn", "deep_sets", "lambda_3", "wide", "wide2", "few", "more", "again"]


def pfn(features="open", variant_of=None, scan=None, seed_of=None, **training):
    relations = {"variant_of": variant_of, "scan": scan, "seed_of": seed_of}
    return PfnSettings(architecture="pfn", features=features, training=TrainingSettings(**training), **relations)


JETS, WEIGHT = "training.max_jets", "training.flavour_balance"
MODELS = dict(
    zip(
        NAMES,
        [
            pfn(), pfn(flavour_balance=1), pfn(scan=WEIGHT, flavour_balance=3), pfn("rich", "pfn"),
            pfn("rich", "deep_sets", flavour_balance=1), pfn("open", "pfn", JETS, max_jets=10_000),
            pfn("open", "pfn", JETS, max_jets=50_000), pfn(seed=2, seed_of="pfn"),
        ],
        strict=True,
    )
)  # fmt: skip


def test_settings_say_what_belongs_together_and_names_do_not():
    assert main_models(NAMES, MODELS) == ["pfn", "deep_sets"]
    assert variants(NAMES, MODELS) == ["pfn", "deep_sets", "wide", "wide2"]
    assert first_trainings(NAMES, MODELS) == NAMES[:-1]
    assert seed_groups(NAMES, MODELS) == {"pfn": ["pfn", "again"]}
    assert seed_groups(["again", "deep_sets"], MODELS) == {}


def test_metrics_say_so_too():
    metrics = with_settings({name: {"mae": 0.1} for name in [*NAMES, "trees"]}, MODELS)
    assert metrics["trees"] == {"mae": 0.1}
    assert metrics["wide2"] == {
        "mae": 0.1, "architecture": "pfn", "inputs": ["rich"], "flavour_balance": 1.0, "variant_of": "deep_sets",
        "scan": None, "seed_of": None,
        "target": "gen pt without neutrinos / standard-corrected pt",
    }  # fmt: skip
    assert main_models(NAMES, metrics) == main_models(NAMES, MODELS)
    assert variants(NAMES, metrics) == variants(NAMES, MODELS)


def test_models_of_which_nothing_is_known_are_all_shown():
    names = ["edge_gat2", "pfn_seed2", "a_1"]
    assert main_models(names, {}) == variants(names, {}) == names


def test_a_frontier_has_one_of_each_training():
    assert frontier_weights(MODELS) == {
        "pfn": 0, "deep_sets": 1, "lambda_3": 3, "wide": 0, "wide2": 1
    }  # fmt: skip


def test_two_weights_alone_are_no_frontier():
    assert frontier_weights({name: MODELS[name] for name in ("pfn", "deep_sets", "few")}) == {}
    assert frontier_weights({}) == {}


def test_the_weight_to_take_costs_no_resolution():
    gains = {"pfn": 0.100, "deep_sets": 0.095, "lambda_3": 0.08, "wide": 0.12, "wide2": 0.11}
    metrics = {
        name: {
            quantity: {"0-2.5": {"30-inf": {"value": value, "error": 0.006, "jets": 5}}}
            for quantity, value in (("resolution_gain", gain), ("flavour_gain", 0.6))
        }
        for name, gain in gains.items()
    }
    table = choose_weights(metrics, MODELS, frontier_weights(MODELS))
    assert list(zip(table["features"], table["λ"], table["chosen"], strict=True)) == [
        ("open", 0, False), ("open", 1, True), ("open", 3, False), ("rich", 0, True), ("rich", 1, False)
    ]  # fmt: skip
    assert table["resolution gain [%]"].tolist() == pytest.approx([10, 9.5, 8, 12, 11])


def test_a_learning_curve_ends_with_the_training_on_all_jets():
    metrics = {
        name: {"resolution_gain": {"0-2.5": {"30-inf": {"value": 0.1, "error": 0.01, "jets": 5}}}}
        for name in NAMES if name != "again"
    }  # fmt: skip
    curve = learning_curve(metrics, MODELS, 150_000)
    assert sorted(zip(curve["model"], curve["jets"], strict=True)) == [
        ("pfn", 10_000), ("pfn", 50_000), ("pfn", 150_000)
    ]  # fmt: skip
    assert learning_curve(metrics, {"pfn": MODELS["pfn"]}, 150_000).empty
