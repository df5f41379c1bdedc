"""Prediction sets hold the true class as often as they say, in every class."""

from __future__ import annotations

import numpy as np
import pytest

from geotl.errors import ModelError
from geotl.evaluation.evaluate import softmax
from geotl.evaluation.prediction_sets import (
    HELD_OUT,
    MAX_STORED,
    HeldOutProbabilities,
    in_sets,
    score_sets,
    stored_limits,
)


def drawn(count: int, seed: int, *, hard: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [n,3] and classes [n], of which the last is the hardest to tell."""
    random = np.random.default_rng(seed)
    given = random.integers(0, 3, count)
    strength = np.array([3.0, 2.0, hard])[given]
    logits = random.normal(0, 1, (count, 3))
    logits[np.arange(count), given] += strength
    return np.asarray(softmax(logits, 1.0)), given


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_each_class_is_covered_as_stated(coverage: float) -> None:
    limits = HeldOutProbabilities.of(*drawn(3000, 0)).thresholds(coverage)
    probabilities, given = drawn(20000, 1)
    sets = in_sets(probabilities, limits)
    for k in range(3):
        own = score_sets(sets[given == k], given[given == k], coverage)
        assert own.covered == pytest.approx(coverage, abs=0.03) or own.covered > coverage


def test_few_labels_cover_on_average_as_stated() -> None:
    """Nine labels a class, the least that 90 % needs, over many draws."""
    probabilities, given = drawn(4000, 1)
    found = []
    for seed in range(200):
        few, labels = drawn(200, seed + 5)
        rows = np.concatenate([np.flatnonzero(labels == k)[:9] for k in range(3)])
        limits = HeldOutProbabilities.of(few[rows], labels[rows]).thresholds(0.9)
        found.append(score_sets(in_sets(probabilities, limits), given, 0.9).covered)
    assert np.mean(found) >= 0.895


def test_a_class_with_too_few_labels_takes_the_threshold_of_all() -> None:
    held = HeldOutProbabilities((np.linspace(0.05, 1, 20), np.array([0.9, 0.95])))
    first, second = held.thresholds(0.9)
    assert first == pytest.approx(0.1)
    assert second == HeldOutProbabilities((np.sort(np.concatenate(held.by_class)),)).thresholds(0.9)


@pytest.mark.parametrize("labels", [0, 1, 3, 5, 9, 19])
def test_a_higher_coverage_never_gives_smaller_sets(labels: int) -> None:
    """Red before with 5 labels a class: 90 % took a limit of all classes above that of 80 %."""
    for seed in range(20):
        probabilities, given = drawn(200, seed, hard=0.0)
        rows = np.concatenate([np.flatnonzero(given == k)[:labels] for k in range(3)])
        held = HeldOutProbabilities.of(probabilities[rows], given[rows])
        limits = [held.thresholds(coverage) for coverage in np.arange(0.5, 0.99, 0.01)]
        assert (np.diff(limits, axis=0) <= 0).all()


def test_with_hardly_any_label_a_set_holds_every_class() -> None:
    held = HeldOutProbabilities((np.array([0.9]), np.zeros(0)))
    assert held.thresholds(0.9).tolist() == [0.0, 0.0]


def test_a_set_is_never_empty() -> None:
    sets = in_sets(np.array([[0.4, 0.35, 0.25]]), np.array([0.99, 0.99, 0.99]))
    assert sets.tolist() == [[True, False, False]]


def test_pixels_of_one_label_count_once() -> None:
    probabilities = np.array([[0.2, 0.8], [0.4, 0.6], [0.9, 0.1], [0.5, 0.5]])
    held = HeldOutProbabilities.of(probabilities, np.array([0, 0, 0, 1]), ["a", "a", "a", "b"])
    assert [own.tolist() for own in held.by_class] == [[0.4], [0.5]]


def test_what_a_file_keeps_gives_the_same_thresholds() -> None:
    held = HeldOutProbabilities.of(*drawn(400, 2))
    again = HeldOutProbabilities.from_plain(held.plain(), 3)
    assert np.allclose(again.thresholds(0.9), held.thresholds(0.9), atol=1e-4)


def test_a_file_keeps_some_of_very_many_and_the_thresholds_stay() -> None:
    held = HeldOutProbabilities.of(*drawn(30000, 3))
    kept = held.plain()
    assert max(map(len, kept)) == MAX_STORED
    again = HeldOutProbabilities.from_plain(kept, 3).thresholds(0.9)
    assert np.allclose(again, held.thresholds(0.9), atol=0.01)


@pytest.mark.parametrize("notes", [{}, {HELD_OUT: [[0.5]]}, {HELD_OUT: [[0.5], [2.0]]}])
def test_a_file_without_them_or_with_others_is_told_in_a_line(notes: dict) -> None:
    with pytest.raises(ModelError, match="held-out probabilities"):
        stored_limits(notes, 2, 0.9, None)
