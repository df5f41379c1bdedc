"""Scores against scikit-learn and torchmetrics; intervals against published and exact figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom
from sklearn import metrics
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_cohen_kappa

from geotl.errors import DataError
from geotl.evaluation.metrics import bootstrap, bootstrap_matrix, confusion, scores, wilson


def made(seed: int, n: int = 400, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Labels of unequal frequency and predictions right about two times in three."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(classes, n, p=np.arange(1, classes + 1) / sum(range(classes + 1)))
    wrong = rng.integers(0, classes, n)
    return truth, np.where(rng.random(n) < 0.6, truth, wrong)


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_scikit_learn(seed):
    truth, predicted = made(seed)
    found = scores(confusion(truth, predicted, 5))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(truth, predicted)
    np.testing.assert_array_equal(
        confusion(truth, predicted, 5), metrics.confusion_matrix(truth, predicted)
    )
    np.testing.assert_allclose(found.precision, precision)
    np.testing.assert_allclose(found.recall, recall)
    np.testing.assert_allclose(found.f1, f1)
    np.testing.assert_array_equal(found.support, support)
    assert found.overall == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert found.balanced == pytest.approx(metrics.balanced_accuracy_score(truth, predicted))
    assert found.kappa == pytest.approx(metrics.cohen_kappa_score(truth, predicted))
    assert found.macro_f1 == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))


def test_scores_equal_torchmetrics():
    truth, predicted = made(9)
    found = scores(confusion(truth, predicted, 5))
    t, p = torch.from_numpy(truth), torch.from_numpy(predicted)
    micro = multiclass_accuracy(p, t, 5, average="micro")
    macro = multiclass_accuracy(p, t, 5, average="macro")
    assert found.overall == pytest.approx(float(micro), abs=1e-6)
    assert found.balanced == pytest.approx(float(macro), abs=1e-6)
    assert found.kappa == pytest.approx(float(multiclass_cohen_kappa(p, t, 5)), abs=1e-6)


def test_a_class_without_tiles_is_nan_and_left_out_of_the_means():
    found = scores([[8, 2, 0], [1, 9, 0], [0, 0, 0]])
    assert math.isnan(found.recall[2])
    assert math.isnan(found.precision[2])
    assert found.balanced == pytest.approx(0.85)


def test_a_class_never_named_has_no_precision_but_an_f1_of_zero():
    found = scores([[5, 0], [3, 0]])
    assert math.isnan(found.precision[1])
    assert found.f1[1] == 0.0
    assert found.macro_f1 == pytest.approx((10 / 13) / 2)


def test_one_class_only_has_no_kappa_and_nothing_has_no_scores():
    assert math.isnan(scores([[4, 0], [0, 0]]).kappa)
    assert math.isnan(scores(np.zeros((2, 2), int)).overall)


def test_unlabelled_tiles_are_left_out():
    assert confusion([0, -1, 1], [0, 1, 1], 2).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("truth", "predicted", "words"),
    [
        ([0, 1], [0], "give one for each"),
        ([0, 2], [0, 1], "allowed: -1 to 1"),
        ([0, 1], [0, -1], "allowed: 0 to 1"),
        ([0.5, 1.0], [0, 1], "one row of integers"),
    ],
)
def test_labels_that_do_not_fit_are_refused_with_the_remedy(truth, predicted, words):
    with pytest.raises(DataError, match=words):
        confusion(truth, predicted, 2)


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [(34, 40, 0.7093, 0.9294), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (1, 2, 0.0945, 0.9055)],
)
def test_wilson_gives_the_published_ends(correct, n, low, high):
    found = wilson(correct, n)
    assert found.value == correct / n
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_wilson_prints_as_in_the_acceptance_list():
    assert str(wilson(34, 40)) == "0.850 [0.709, 0.929]"


def test_wilson_of_nothing_is_unknown_and_more_right_than_tiles_is_refused():
    found = wilson(0, 0)
    assert math.isnan(found.value)
    assert (found.low, found.high) == (0.0, 1.0)
    with pytest.raises(DataError, match="0 to 3"):
        wilson(4, 3)


def test_the_bootstrap_equals_resampling_the_tiles_one_by_one():
    truth, predicted = made(3, n=150, classes=3)
    rng = np.random.default_rng(0)
    rounds = [rng.integers(0, 150, 150) for _ in range(1500)]
    for name, judge in (
        ("overall", metrics.accuracy_score),
        ("kappa", metrics.cohen_kappa_score),
        ("macro_f1", lambda t, p: metrics.f1_score(t, p, average="macro")),
        ("balanced", metrics.balanced_accuracy_score),
    ):
        drawn = [judge(truth[rows], predicted[rows]) for rows in rounds[:400]]
        ends = np.percentile(drawn, [2.5, 97.5])
        found = bootstrap(truth, predicted, seed=1, rounds=4000)[name]
        assert found.value == pytest.approx(judge(truth, predicted))
        assert (found.low, found.high) == pytest.approx(tuple(ends), abs=0.03)


def test_the_bootstrap_depends_on_its_seed_alone():
    truth, predicted = made(4)
    first = bootstrap(truth, predicted, seed=7, rounds=300)
    assert first == bootstrap(truth, predicted, seed=7, rounds=300)
    assert first != bootstrap(truth, predicted, seed=8, rounds=300)


def test_no_rounds_and_no_tiles_leave_the_ends_open():
    assert math.isnan(bootstrap_matrix([[3, 1], [0, 4]], seed=0, rounds=0)["overall"].low)
    assert math.isnan(bootstrap_matrix([[0, 0], [0, 0]], seed=0)["overall"].value)


def test_the_bootstrap_of_accuracy_has_the_ends_of_the_exact_binomial():
    found = bootstrap_matrix([[425, 75], [75, 425]], seed=0, rounds=20000)["overall"]
    exact = binom.ppf([0.025, 0.975], 1000, 0.85) / 1000
    assert (found.low, found.high) == pytest.approx(tuple(exact), abs=0.0015)
