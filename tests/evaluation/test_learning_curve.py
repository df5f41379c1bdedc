"""The power law and its bounds, intervals over draws, and what counts as gained."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from geotl.errors import DataError
from geotl.evaluation.learning_curve import fit_power_law, gain, learning_curve
from geotl.evaluation.metrics import mean_interval
from geotl.reporting import curve_figures
from geotl.reporting.curve_figures import learning_curve_figure
from geotl.studies.curve_plan import curve_csv, curve_lines

SHOTS = np.array([2, 5, 10, 20, 50])


@pytest.mark.parametrize(("a", "b", "c"), [(0.95, 0.6, 0.4), (0.7, 0.5, 1.2), (1.0, 0.5, 0.2)])
def test_a_known_law_is_found_again(a: float, b: float, c: float) -> None:
    law = fit_power_law(SHOTS, a - b * SHOTS**-c)
    np.testing.assert_allclose((law.a, law.b, law.c), (a, b, c), rtol=0.02)
    np.testing.assert_allclose(law.at([100, 250]), a - b * np.array([100.0, 250]) ** -c, atol=2e-3)


@pytest.mark.parametrize(
    "values",
    [[0.5, 0.6, 0.7, 0.8, 0.9], [0.9, 0.8, 0.8, 0.7, 0.7], [0.6] * 5, [0.2, 0.9, 0.3, 0.8, 1.0]],
)
def test_no_law_promises_more_than_one_or_falls(values: list[float]) -> None:
    law = fit_power_law(SHOTS, values)
    assert law.a <= 1
    assert law.b >= 0
    beyond = law.at([100, 1000, 1e6])
    assert (np.diff(beyond) >= -1e-12).all()
    assert beyond.max() <= 1


def test_noisy_draws_give_intervals_that_hold_the_truth_mostly() -> None:
    """Of 40 made curves, the law's interval at 5 times the labels holds the truth in most."""
    truth = 0.9 - 0.5 * np.array([2.0, 5, 10, 20, 50]) ** -0.6
    held = 0
    for seed in range(40):
        noise = np.random.default_rng(seed).normal(0, 0.015, (10, 5))
        low, high = learning_curve(SHOTS, truth + noise).extrapolated_intervals()[250.0]
        held += low <= 0.9 - 0.5 * 250.0**-0.6 <= high
    assert held >= 30


def test_the_interval_of_the_mean_is_students() -> None:
    found = mean_interval([0.1, 0.2, 0.3, 0.4])
    reach = 3.182446 * np.std([0.1, 0.2, 0.3, 0.4], ddof=1) / 2
    np.testing.assert_allclose((found.low, found.high), (0.25 - reach, 0.25 + reach), rtol=1e-6)
    assert math.isnan(mean_interval([0.5]).low)


def test_gains_are_paired() -> None:
    """A small gain in every draw shows through a large spread between draws."""
    random = np.random.default_rng(0)
    alone = random.uniform(0.5, 0.9, 8)
    assert gain(alone, alone + random.uniform(0.005, 0.015, 8))[1] == "gained"
    assert gain(alone, random.permutation(alone) + 0.01)[1] == "not gained"
    assert gain(alone, alone - 0.1)[1] == "not gained"


def test_two_sizes_have_no_law_and_shapes_are_checked() -> None:
    assert learning_curve([2, 5], [[0.5, 0.6]]).law is None
    with pytest.raises(DataError, match="at least 3"):
        fit_power_law([2, 5], [0.5, 0.6])
    with pytest.raises(DataError, match="for 3 sizes"):
        learning_curve([2, 5, 10], [[0.5, 0.6]])


def test_what_is_extrapolated_is_called_so_everywhere() -> None:
    draws = 0.9 - 0.5 * SHOTS**-0.6 + np.random.default_rng(0).normal(0, 0.01, (6, 5))
    found = {"labels alone": learning_curve(SHOTS, draws)}
    rows = [line.split(",") for line in curve_csv(found).splitlines()[1:]]
    assert [row[2] for row in rows] == ["measured"] * 5 + ["extrapolated"] * 2
    assert [row[1] for row in rows] == ["2", "5", "10", "20", "50", "100", "250"]
    (beyond,) = [line for line in curve_lines(found) if " at 100" in line or " at 250" in line]
    assert beyond.strip().startswith("extrapolated, not measured: ")
    one = {"labels alone": learning_curve(SHOTS, draws[:1])}
    assert "nan" not in "".join(curve_lines(one)) + curve_csv(one)


@pytest.mark.parametrize("shots", [[2, 5], [2, 5, 10], [1, 2, 5, 10, 20]])
def test_the_figure_spreads_the_sizes_over_its_width(shots: list[int], monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(curve_figures, "encoded", seen.append)
    truth = 0.9 - 0.5 * np.array(shots, float) ** -0.6
    draws = truth + np.random.default_rng(0).normal(0, 0.01, (6, len(shots)))
    curve = learning_curve(shots, draws)
    learning_curve_figure({"labels alone": curve})
    (axes,) = seen[0].axes
    low, high = axes.get_xlim()
    last = max([shots[-1], *(beyond for beyond, _ in curve.extrapolated())])
    np.testing.assert_allclose((low, high), (0.9 * shots[0], 1.08 * last))
    seen[0].draw_without_rendering()
    boxes = [tick.get_window_extent() for tick in axes.get_xticklabels()]
    assert not any(one.overlaps(two) for one, two in pairwise(boxes))
