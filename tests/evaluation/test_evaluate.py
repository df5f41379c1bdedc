"""Calibration, draws, the verdict and what metrics.json holds."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from geotl.errors import DataError
from geotl.evaluation.evaluate import (
    Spread,
    commonest,
    evaluate,
    expected_calibration_error,
    few_tiles,
    fit_temperature,
    headline,
    reliability,
    softmax,
    summarise_draws,
    wilson,
)


def made(seed: int, n: int = 600, classes: int = 4, heat: float = 1.0):
    """Logits whose softmax is right as often as it says, all multiplied by `heat`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=1.5, size=(n, classes))
    truth = np.array([rng.choice(classes, p=row) for row in softmax(logits)])
    return logits * heat, truth


def loss(logits, truth, temperature):
    p = softmax(logits, temperature)
    return -np.log(p[np.arange(len(p)), truth]).mean()


@pytest.mark.parametrize("bins", [10, 15])
def test_calibration_error_equals_torchmetrics(bins):
    logits, truth = made(0, heat=3.0)
    p = softmax(logits)
    theirs = multiclass_calibration_error(
        torch.from_numpy(p), torch.from_numpy(truth), num_classes=4, n_bins=bins, norm="l1"
    )
    assert expected_calibration_error(p, truth, bins) == pytest.approx(float(theirs), abs=1e-6)


def test_softmax_equals_torch_even_for_large_logits():
    logits = np.array([[1000.0, 1001.0, -50.0], [0.1, 0.2, 0.3]])
    theirs = torch.softmax(torch.from_numpy(logits) / 2.0, 1).numpy()
    np.testing.assert_allclose(softmax(logits, 2.0), theirs, rtol=1e-12)


@pytest.mark.parametrize("heat", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_heat_put_in(heat):
    logits, truth = made(1, n=6000, heat=heat)
    assert fit_temperature(logits, truth) == pytest.approx(heat, rel=0.07)


def test_the_temperature_is_the_lowest_loss():
    logits, truth = made(2, n=200, heat=2.0)
    best = fit_temperature(logits, truth)
    assert loss(logits, truth, best) < loss(logits, truth, best * 1.03)
    assert loss(logits, truth, best) < loss(logits, truth, best / 1.03)


def test_temperature_scaling_lowers_the_calibration_error_of_other_tiles():
    logits, truth = made(3, n=3000, heat=3.0)
    t = fit_temperature(logits[:1000], truth[:1000])
    found = evaluate(logits[1000:], truth[1000:], list("abcd"), temperature=t, rounds=10)
    assert found.after.error < 0.5 * found.before.error


def test_a_temperature_without_doubt_or_hope_or_tiles_stays_in_bounds():
    assert fit_temperature([[5.0, 0.0], [0.0, 5.0]], [0, 1]) == 1.0
    assert fit_temperature([[5.0, 0.0], [0.0, 5.0]], [1, 0]) == 1e4
    assert fit_temperature(np.zeros((0, 2)), []) == 1.0


def test_underflowed_log_probabilities_are_taken_and_divergence_is_named():
    with np.errstate(divide="ignore"):
        logits = np.log([[1.0, 0.0], [0.4, 0.6], [0.7, 0.3]])
    assert math.isfinite(fit_temperature(logits, [0, 1, 1]))
    with pytest.raises(DataError, match="diverged"):
        evaluate([[math.nan, 0.0]], [0], ["a", "b"])


def test_reliability_counts_each_tile_once_and_skips_the_unlabelled():
    found = reliability([[1.0, 0.0], [0.5, 0.5], [0.2, 0.8]], [0, 0, -1], bins=4)
    assert found.count.tolist() == [0, 1, 0, 1]
    assert np.isnan(found.accuracy[0])


def test_draws_are_summed_up_as_mean_and_sample_sd():
    found = summarise_draws([{"kappa": 0.1, "note": "x"}, {"kappa": 0.5}, {"kappa": math.nan}])
    assert set(found) == {"kappa"}
    assert found["kappa"] == pytest.approx((0.3, np.std([0.1, 0.5], ddof=1), 2))
    assert str(summarise_draws([{"a": 0.5}])["a"]) == "0.500 (one draw)"


def test_the_commonest_class_is_counted_on_the_tiles_judged():
    label, share = commonest([2, 2, 0, -1, -1, -1], 3)
    assert (label, share.value) == (2, pytest.approx(2 / 3))


def test_classes_with_fewer_than_five_tiles_are_named():
    assert few_tiles([5, 4, 0], ["a", "b", "c"]) == ("b", "c")


def test_the_first_line_of_a_losing_network_says_so_with_names_and_numbers():
    line = headline(wilson(34, 40), {"majority class": 0.2, "band statistics": 0.9, "probe": 0.95})
    assert line.startswith("The network loses to probe (0.950) and band statistics (0.900)")
    assert "majority" not in line
    assert line.endswith("overall accuracy 0.850 [0.709, 0.929]")


@pytest.mark.parametrize("rivals", [{}, {"probe": 0.85}, {"probe": 0.1, "empty": math.nan}])
def test_the_first_line_of_a_network_that_loses_to_nobody_is_its_accuracy(rivals):
    assert headline(wilson(34, 40), rivals) == "overall accuracy 0.850 [0.709, 0.929]"


def test_the_first_line_over_draws_gives_mean_and_sd():
    line = headline(Spread(0.88, 0.012, 20), {"probe": 0.9})
    assert line == "The network loses to probe (0.900): overall accuracy 0.880 ± 0.012 (20 draws)"


def test_the_evaluation_serialises_to_strict_json_with_null_for_the_undefined():
    logits = [[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [3.0, 0.0, 0.0]]
    found = evaluate(logits, [0, 1, 1], ["a", "b", "c"], rivals={"probe": wilson(3, 3)})
    text = json.dumps(found.to_dict(), allow_nan=False)
    kept = json.loads(text)
    assert kept["loses_to_a_baseline"] is True
    assert kept["headline"].startswith("The network loses to probe")
    assert kept["per_class"]["c"] == {"precision": None, "recall": None, "f1": None, "support": 0}
    assert kept["confusion"] == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert kept["overall_accuracy"]["value"] == pytest.approx(2 / 3)
    assert kept["classes_with_few_tiles"] == ["a", "b", "c"]
    assert kept["baselines"]["probe"]["low"] == pytest.approx(0.4385, abs=1e-3)


def test_a_temperature_changes_confidence_but_no_prediction():
    logits, truth = made(5)
    cold = evaluate(logits, truth, list("abcd"), temperature=0.5, rounds=10)
    hot = evaluate(logits, truth, list("abcd"), temperature=5.0, rounds=10)
    np.testing.assert_array_equal(cold.matrix, hot.matrix)
    assert cold.before.error == hot.before.error
    assert cold.after.error != hot.after.error


def test_class_names_that_do_not_match_the_logits_are_refused():
    with pytest.raises(DataError, match="must agree"):
        evaluate([[1.0, 0.0]], [0], ["a", "b", "c"])
