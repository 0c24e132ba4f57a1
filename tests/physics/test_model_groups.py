"""Which models of a study belong together."""

import pytest

from jetcorr_utils.config import PfnSettings, TrainingSettings
from jetcorr_utils.physics import choose_weights, frontier_weights, learning_curve, seed_groups, variants

NAMES = ["pfn", "pfn_balanced", "pfn_lambda_3", "pfn_rich", "pfn_rich_balanced", "pfn_10k", "pfn_50k", "pfn_seed2"]


def pfn(features="open", **training):
    return PfnSettings(architecture="pfn", features=features, training=TrainingSettings(**training))


MODELS = dict(
    zip(
        NAMES,
        [
            pfn(), pfn(flavour_balance=1), pfn(flavour_balance=3), pfn("rich"), pfn("rich", flavour_balance=1),
            pfn(max_jets=10_000), pfn(max_jets=50_000), pfn(seed=2),
        ],
        strict=True,
    )
)  # fmt: skip


def test_names_with_numbers_are_no_variants():
    assert variants(NAMES) == ["pfn", "pfn_balanced", "pfn_rich", "pfn_rich_balanced"]
    assert seed_groups(NAMES) == {"pfn": ["pfn", "pfn_seed2"]}
    assert seed_groups(["pfn_seed2", "pfn_seed3"]) == {}


def test_a_frontier_has_one_of_each_training():
    assert frontier_weights(MODELS) == {
        "pfn": 0, "pfn_balanced": 1, "pfn_lambda_3": 3, "pfn_rich": 0, "pfn_rich_balanced": 1
    }  # fmt: skip


def test_two_weights_alone_are_no_frontier():
    assert frontier_weights({name: MODELS[name] for name in ("pfn", "pfn_balanced", "pfn_10k")}) == {}
    assert frontier_weights({}) == {}


def test_the_weight_to_take_costs_no_resolution():
    gains = {"pfn": 0.100, "pfn_balanced": 0.095, "pfn_lambda_3": 0.08, "pfn_rich": 0.12, "pfn_rich_balanced": 0.11}
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
    assert table["resolution gain / %"].tolist() == pytest.approx([10, 9.5, 8, 12, 11])


def test_a_learning_curve_ends_with_the_training_on_all_jets():
    metrics = {
        name: {"resolution_gain": {"0-2.5": {"30-inf": {"value": 0.1, "error": 0.01, "jets": 5}}}}
        for name in NAMES if name != "pfn_seed2"
    }  # fmt: skip
    curve = learning_curve(metrics, MODELS, 150_000)
    assert sorted(zip(curve["model"], curve["jets"], strict=True)) == [
        ("pfn", 10_000), ("pfn", 50_000), ("pfn", 150_000)
    ]  # fmt: skip
    assert learning_curve(metrics, {"pfn": MODELS["pfn"]}, 150_000).empty
