"""The estimators of Olofsson et al. (2014) against the paper's own figures and against sampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotl.errors import DataError
from geotl.evaluation.area_estimation import allocate, estimate, sample_size, too_few

MATRIX = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
PIXELS = [2e5, 1.5e5, 3.2e6, 6.45e6]


def printed(values: np.ndarray, digits: int) -> list[str]:
    return [f"{v:.{digits}f}" for v in np.atleast_1d(values)]


def test_the_papers_example_to_all_printed_digits() -> None:
    found = estimate(MATRIX, PIXELS, 900.0)
    # The paper prints .947 ± .018; more digits of its own table's figures are .9465 ± .0185.
    assert printed(found.overall.value, 4) == ["0.9465"]
    assert printed(found.overall.margin, 4) == ["0.0185"]
    assert printed(found.users.value, 3) == ["0.880", "0.733", "0.927", "0.963"]
    assert printed(found.users.margin, 3) == ["0.074", "0.101", "0.040", "0.021"]
    assert printed(found.producers.value, 3) == ["0.749", "0.847", "0.935", "0.962"]
    assert printed(found.producers.margin, 3) == ["0.213", "0.254", "0.034", "0.018"]
    hectares = found.areas_m2
    assert printed(hectares.value / 1e4, 0) == ["21158", "11686", "285770", "581386"]
    assert printed(hectares.margin / 1e4, 0) == ["6158", "3756", "15510", "16282"]
    assert printed(found.mapped_m2 / 1e4, 0) == ["18000", "13500", "288000", "580500"]


def test_the_papers_sample_size_and_allocations() -> None:
    weights, users = [0.02, 0.015, 0.32, 0.645], [0.7, 0.6, 0.9, 0.95]
    assert sample_size(weights, users, 0.01) == 641
    # Table 5 of the paper: equal 160 each; proportional 13, 10, 205, 413.
    assert allocate(weights, 640, method="equal").tolist() == [160] * 4
    assert allocate(weights, 641).tolist() == [13, 10, 205, 413]
    neyman = allocate(weights, 641, method="neyman", expected_users=users)
    spread = np.array(weights) * np.sqrt(np.array(users) * (1 - np.array(users)))
    assert np.abs(neyman - 641 * spread / spread.sum()).max() < 1
    assert allocate([0.5, 0.5, 0.0], 10, 3).tolist() == [5, 5, 0]
    assert allocate([0.9, 0.1], 50, 10, available=[1000, 4]).tolist() == [46, 4]


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_areas_sum_to_the_total_and_shares_stay_shares(classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    matrix = random.integers(0, 20, (classes, classes)) + 2 * np.eye(classes, dtype=int)
    pixels = random.integers(1, 10**7, classes)
    found = estimate(matrix, pixels, 100.0)
    assert found.areas_m2.value.sum() == pytest.approx(100.0 * pixels.sum(), rel=1e-12)
    assert found.proportions.sum() == pytest.approx(1.0)
    for measure in (found.overall, found.users, found.producers):
        assert ((measure.value >= 0) & (measure.value <= 1 + 1e-12)).all()
        assert (measure.se >= 0).all()
    assert (found.areas_m2.se >= 0).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_a_proportional_matrix_gives_simple_proportions(classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    matrix = random.integers(0, 20, (classes, classes)) + 2 * np.eye(classes, dtype=int)
    found = estimate(matrix, 1000 * matrix.sum(axis=1), 1.0)
    total = matrix.sum()
    np.testing.assert_allclose(found.overall.value, np.trace(matrix) / total)
    np.testing.assert_allclose(found.producers.value, np.diag(matrix) / matrix.sum(axis=0))
    np.testing.assert_allclose(found.areas_m2.value, 1000 * matrix.sum(axis=0))


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 8),
    st.integers(0, 600),
    st.integers(0, 40),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["proportional", "equal", "neyman"]),
)
def test_allocations_sum_to_n_and_keep_their_bounds(classes, n, minimum, seed, method) -> None:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 300, classes)
    pixels[0] += 1
    users = random.random(classes)
    least = np.minimum(minimum, pixels) * (pixels > 0)
    if not least.sum() <= n <= pixels.sum():
        with pytest.raises(DataError, match="points for"):
            allocate(pixels, n, minimum, method=method, expected_users=users, available=pixels)
        return
    found = allocate(pixels, n, minimum, method=method, expected_users=users, available=pixels)
    assert found.sum() == n
    assert (found >= least).all()
    assert (found <= pixels).all()


def test_intervals_cover_what_they_estimate() -> None:
    """Stratified samples from a known population: 95 % intervals hold it about 95 % of the time."""
    random = np.random.default_rng(0)
    shares = np.array([[0.8, 0.15, 0.05], [0.1, 0.85, 0.05], [0.2, 0.1, 0.7]])
    pixels, n = np.array([50_000, 30_000, 20_000]), [150, 120, 90]
    truth = pixels @ shares
    producers = pixels * np.diag(shares) / truth
    hits = np.zeros((2, 3))
    for _ in range(600):
        matrix = np.stack([random.multinomial(k, p) for k, p in zip(n, shares, strict=True)])
        found = estimate(matrix, pixels, 1.0)
        hits[0] += (found.areas_m2.low <= truth) & (truth <= found.areas_m2.high)
        hits[1] += (found.producers.low <= producers) & (producers <= found.producers.high)
    assert ((hits / 600 > 0.91) & (hits / 600 < 0.98)).all()


def test_strata_without_points_leave_unknown_what_hangs_on_them() -> None:
    found = estimate([[5, 1, 0], [1, 6, 0], [0, 0, 0]], [10, 10, 10], 1.0)
    assert np.isnan(found.overall.value)
    assert np.isnan(found.areas_m2.value).all()
    assert np.isfinite(found.users.value).tolist() == [True, True, False]
    one = estimate([[5, 1], [0, 1]], [10, 10], 1.0)
    assert np.isfinite(one.overall.value)
    assert np.isnan(one.overall.se)
    assert np.isnan(one.users.se).tolist() == [False, True]
    assert too_few([[5, 1], [0, 1]], [10, 10]).tolist() == [1]


def test_classes_absent_from_the_map_or_the_reference() -> None:
    found = estimate([[8, 0, 2], [3, 0, 1], [0, 0, 0]], [60, 40, 0], 1.0)
    assert np.isnan(found.users.value[2])  # never mapped
    assert found.producers.value[2] == 0
    assert np.isnan(found.producers.value[1])  # never in the reference
    assert found.users.value[1] == 0
    assert found.areas_m2.value[1] == 0
    assert found.areas_m2.value[2] == pytest.approx(60 * 0.2 + 40 * 0.25)
    assert np.isfinite(found.areas_m2.se).all()


@pytest.mark.parametrize(
    ("matrix", "pixels", "told"),
    [
        ([[1, 2]], [3], "shape"),
        ([[1, -2], [0, 1]], [3, 3], "counts"),
        ([[2, 0], [0, 2]], [3, 0], "no mapped pixel"),
        ([[2, 0], [0, 2]], [0, 0], "not 0 for all"),
    ],
)
def test_what_cannot_be_is_refused(matrix, pixels, told) -> None:
    with pytest.raises(DataError, match=told):
        estimate(matrix, pixels, 1.0)


@pytest.mark.parametrize(
    ("users", "se"), [([0.5, 1.2], 0.01), ([0.5], 0.01), (0.8, 0.0), (0.8, -1.0)]
)
def test_plans_that_cannot_be_are_refused(users, se) -> None:
    with pytest.raises(DataError, match="allowed"):
        sample_size([0.5, 0.5], users, se)
