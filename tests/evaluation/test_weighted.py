"""Weighted scores agree with plain ones where all rows weigh alike; intervals go by blocks."""

from __future__ import annotations

import numpy as np
import pytest

from geotl.evaluation.evaluate import evaluate, fit_temperature
from geotl.evaluation.weighted import (
    WeightedRows,
    evaluate_weighted,
    weighted_accuracies,
    weighted_differences,
)


def test_rows_of_weight_one_score_as_ever() -> None:
    random = np.random.default_rng(0)
    truth, logits = random.integers(0, 3, 60), random.normal(size=(60, 3))
    rows = WeightedRows(truth, np.ones(60), np.arange(60) // 6)
    heat = np.full(60, 2.0)
    own = evaluate_weighted(logits, rows, list("abc"), temperature=heat, seed=0, rounds=50)
    plain = evaluate(logits, truth, list("abc"), temperature=heat)
    assert own.matrix.tolist() == plain.matrix.tolist()
    assert own.overall.value == pytest.approx(plain.overall.value)
    assert own.after.error == pytest.approx(plain.after.error)
    np.testing.assert_allclose(own.scores.f1, plain.scores.f1)


def test_a_label_of_many_pixels_counts_once() -> None:
    truth = np.array([0] * 10 + [1])
    rows = WeightedRows(truth, np.array([0.1] * 10 + [1.0]), truth)
    correct = {"only the many": truth == 0, "half of them": np.arange(11) < 5}
    found = weighted_accuracies(rows, correct, seed=0, rounds=0)
    assert found["only the many"].value == pytest.approx(0.5)
    assert found["half of them"].value == pytest.approx(0.25)


def test_a_difference_is_paired_over_blocks() -> None:
    random = np.random.default_rng(1)
    block = np.arange(200) // 10
    easy = random.random(20)[block]  # blocks differ, methods hardly
    first = random.random(200) < easy
    rows = WeightedRows(np.zeros(200, np.int64), np.ones(200), block)
    others = {"same": first, "worse": first & (np.arange(200) % 10 > 0)}
    same, worse = weighted_differences(rows, first, others, seed=0, rounds=500).values()
    assert tuple(same) == (0.0, 0.0, 0.0)
    alone = weighted_accuracies(rows, {"it": first}, seed=0, rounds=500)["it"]
    assert worse.low > 0
    assert worse.high - worse.low < (alone.high - alone.low) / 2


def test_the_temperature_of_weighted_rows_is_that_of_repeated_ones() -> None:
    logits, truth = np.array([[2.0, 0.0], [2.0, 0.0]]), np.array([0, 1])
    repeated = fit_temperature(np.repeat(logits, [3, 1], axis=0), np.array([0, 0, 0, 1]))
    assert fit_temperature(logits, truth, np.array([3.0, 1.0])) == pytest.approx(repeated)
