"""The verdict: COVERAGE's examples, doubt where tiles are few, and advice that fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geotl.errors import DataError
from geotl.evaluation.metrics import wilson
from geotl.evaluation.next_steps import next_steps
from geotl.evaluation.overfitting import diagnose, difference, exact, side, tiles_to_separate
from geotl.evaluation.regularisers import everything_off, regularisers, value_of
from geotl.experiments.recipe import Recipe
from geotl.training.settings import augmentation_keys


@pytest.mark.parametrize(
    ("train", "validation", "word"),
    [(0.60, 0.58, "under"), (0.99, 0.70, "over"), (0.93, 0.91, "just right")],
)
def test_the_three_examples_of_the_lecture(train: float, validation: float, word: str) -> None:
    assert diagnose(exact(train), exact(validation), 0.9).word == word
    many = 10_000
    found = diagnose(wilson(round(train * many), many), wilson(round(validation * many), many), 0.9)
    assert found.word == word
    assert found.between == ()


@pytest.mark.parametrize(
    ("train", "validation", "between"),
    [
        ((100, 100), (44, 50), ("over", "just right")),
        ((44, 50), (700, 1000), ("under", "over")),
        ((44, 50), (44, 50), ("under", "just right")),
    ],
)
def test_few_tiles_cannot_tell(
    train: tuple[int, int], validation: tuple[int, int], between: tuple[str, ...]
) -> None:
    found = diagnose(wilson(*train), wilson(*validation), 0.9)
    assert found.word == "undecided"
    assert found.between == between
    assert "includes the target" in found.because


def test_without_a_target_the_gap_alone_is_judged_and_that_is_said() -> None:
    wide = diagnose(wilson(990, 1000), wilson(700, 1000))
    narrow = diagnose(wilson(6000, 10000), wilson(5900, 10000))
    few = diagnose(wilson(20, 20), wilson(17, 20))
    assert (wide.word, narrow.word, few.word) == ("over", *["undecided"] * 2)
    assert narrow.between == ("under", "just right")
    assert few.between == ("over", "just right")
    assert all("no target was set" in found.because for found in (wide, narrow, few))


def test_newcombes_own_example() -> None:
    """Newcombe 1998, table II, method 10: 56/70 against 48/80 is 0.0524 to 0.3339."""
    found = difference(wilson(56, 70), wilson(48, 80))
    assert found.low == pytest.approx(0.0524, abs=2e-4)
    assert found.high == pytest.approx(0.3339, abs=2e-4)


@given(st.floats(0.02, 0.98), st.floats(0.05, 0.95))
def test_the_tiles_asked_for_would_tell_and_fewer_would_not(value: float, target: float) -> None:
    needed = tiles_to_separate(value, target)
    if needed is None:
        assert abs(value - target) < 0.001
        return
    ten = 10 * needed + 10_000  # rounding to whole tiles does not matter then
    assert side(wilson(round(value * ten), ten), target) != "unknown"
    if needed > 400:
        few = needed // 2
        assert side(wilson(round(value * few), few), target) == "unknown"


@pytest.mark.parametrize("target", [0.0, 1.0, 90.0])
def test_a_target_outside_its_range_is_refused(target: float) -> None:
    with pytest.raises(DataError, match=r"such as 0\.9"):
        diagnose(exact(0.9), exact(0.9), target)


def listed(*keys: str, batchnorm: str = "trained", **values: object) -> dict[str, str]:
    recipe = settings(**values)
    return {
        one.name: one.state
        for one in regularisers(recipe, augmentation_keys(), batchnorm=batchnorm)
    }


def settings(strategy: str = "full", **changes: object) -> dict:
    held = Recipe().model_dump() | {"strategy": strategy}
    for key, value in changes.items():
        section, _, name = key.partition("__")
        held[section] = held[section] | {name: value}
    return held


def test_explicit_and_implicit_regularisers_are_listed_as_the_lecture_sorts_them() -> None:
    found = regularisers(settings(), augmentation_keys(), batchnorm="trained")
    kinds = {one.name: one.kind for one in found}
    assert {kinds[n] for n in ("weight decay", "dropout", "free rotation")} == {"explicit"}
    implicit = ("early stopping", "batch normalisation", "gradient descent", "transfer")
    assert {kinds[n] for n in implicit} == {"implicit"}


def test_what_is_on_and_off_follows_from_the_recipe() -> None:
    states = listed()
    assert states["weight decay"] == states["flips"] == states["early stopping"] == "on"
    assert states["dropout"] == states["transfer"] == states["free rotation"] == "off"
    changed = listed(train__weight_decay=0.0, model__dropout=0.3, model__weights="a.pth")
    assert changed["weight decay"] == "off"
    assert changed["dropout"] == changed["transfer"] == "on"
    probe = listed(strategy="probe", batchnorm="held")
    assert probe["dropout"] == probe["early stopping"] == "not in play"
    assert probe["frozen stages"] == "on"


def test_everything_off_turns_every_explicit_regulariser_off() -> None:
    held = settings()
    for key, value in everything_off(augmentation_keys()).items():
        assert value_of(held, key) is not None or key == "train.swa_from"  # a key that there is
        section, _, name = key.partition(".")
        held[section] = held[section] | {name: value}
    states = regularisers(held, augmentation_keys(), batchnorm="none")
    assert {one.state for one in states if one.kind == "explicit"} == {"off"}
    assert next(one for one in states if one.name == "early stopping").state == "off"


def advice(train: float, validation: float, target: float | None = 0.9, **more: object) -> str:
    strategy = str(more.pop("strategy", "full"))
    stage_one = more.pop("stage_one", None)
    found = regularisers(settings(strategy, **more), augmentation_keys(), batchnorm="trained")
    verdict = diagnose(exact(train), exact(validation), target)
    steps = next_steps(verdict, found, strategy, stage_one=stage_one)  # type: ignore[arg-type]
    return "\n".join(f"{step.do} {step.change} {step.why}" for step in steps)


def test_underfitting_that_ends_without_regularisers_blames_them_and_not_the_network() -> None:
    blamed = advice(0.6, 0.58, stage_one=1.0)
    assert "train.weight_decay=0" in blamed
    assert "augment.flips=false" in blamed
    assert "larger network" not in blamed
    assert "larger network" in advice(0.6, 0.58, stage_one=0.7)
    assert "train.weight_decay=0" not in advice(0.6, 0.58, stage_one=0.7)


def test_overfitting_is_met_by_labels_first_then_by_what_is_off() -> None:
    said = advice(0.99, 0.7)
    assert said.startswith("Add labels")
    assert "augment.rotate_deg=20" in said
    assert "model.dropout=0.3" in said
    assert "train.weight_decay=0.1" in said  # ten times the 0.01 that is on
    assert "model.dropout" not in advice(0.99, 0.7, model__dropout=0.3)
    assert "dropout" not in advice(0.99, 0.7, strategy="probe").lower()


def test_only_a_discriminant_is_told_to_learn_from_unlabelled_tiles() -> None:
    for head, told in (("discriminant", True), ("logistic", False)):
        said = advice(0.99, 0.7, strategy="probe", probe__head=head)
        assert ("probe.semi_supervised=pseudo_labels" in said) == told
        assert "soft_labels" not in said  # red before: they lose where classes are unbalanced


def test_every_key_that_is_advised_is_a_key() -> None:
    cases = [(0.6, 0.58), (0.99, 0.7), (0.95, 0.93)]
    for strategy in ("probe", "full", "finetune"):
        words = " ".join(advice(*case, strategy=strategy) for case in cases).split()
        keys = {key for key, sign, _ in (word.partition("=") for word in words) if sign}
        known = {key for key in keys if "." in key}
        assert known  # some setting is advised for every strategy
        for key in known:
            section, name = key.split(".")
            assert name in Recipe().model_dump()[section], key
