"""Statistics of windows about pixels, against the plain way of computing them."""

from __future__ import annotations

import numpy as np
import pytest

from geotl.models.window_statistics import UNIT, WindowSums

RANDOM = np.random.default_rng(0)
MEAN, SD = (1000.0, 50.0, 0.0), (200.0, 10.0, 1.0)
SIDES = (3, 7, 33)


def image_and_valid(holes: bool) -> tuple[np.ndarray, np.ndarray]:
    z = RANDOM.normal(size=(3, 40, 50))
    valid = RANDOM.random(z.shape) > (0.6 if holes else -1)
    valid[:2] = valid[0]  # two bands share their holes
    valid[:2, 5:30, 5:30] &= not holes
    return z * np.reshape(SD, (3, 1, 1)) + np.reshape(MEAN, (3, 1, 1)), valid


def plainly(z: np.ndarray, valid: np.ndarray, row: int, col: int, half: int) -> list[float]:
    """Mean, sd and gradient of one band in one window, from its valid pixels."""

    def mean(rows: slice, cols: slice, otherwise: float) -> float:
        inside = z[rows, cols][valid[rows, cols]]
        return float(inside.mean()) if inside.size else otherwise

    rows = slice(max(0, row - half), row + half + 1)
    cols = slice(max(0, col - half), col + half + 1)
    whole, inside = mean(rows, cols, 0.0), z[rows, cols][valid[rows, cols]]
    right = mean(rows, slice(col + 1, col + half + 1), whole)
    left = mean(rows, slice(max(0, col - half), col), whole)
    below = mean(slice(row + 1, row + half + 1), cols, whole)
    above = mean(slice(max(0, row - half), row), cols, whole)
    sd = float(inside.std()) if inside.size else 0.0
    return [whole, sd, float(np.hypot(right - left, below - above))]


@pytest.mark.parametrize("holes", [False, True])
def test_statistics_are_those_of_the_valid_pixels(holes: bool) -> None:
    image, valid = image_and_valid(holes)
    sums = WindowSums.of(image, valid, MEAN, SD, max(SIDES) // 2)
    assert [len(own) for own in sums.bands] == ([2, 1] if holes else [3])
    rows, cols = RANDOM.integers(0, 40, 30), RANDOM.integers(0, 50, 30)
    found = sums.of_pixels(rows, cols, SIDES).reshape(len(SIDES), 3, 3, 30)
    z = (image - np.reshape(MEAN, (3, 1, 1))) / np.reshape(SD, (3, 1, 1))
    z = np.rint(z * UNIT) / UNIT
    for k, side in enumerate(SIDES):
        for band in range(3):
            for i, at in enumerate(zip(rows, cols, strict=True)):
                expected = plainly(z[band], valid[band], *at, side // 2)
                np.testing.assert_allclose(found[k, :, band, i], expected, atol=2e-5)


@pytest.mark.parametrize("holes", [False, True])
def test_a_strip_has_the_bits_of_its_pixels(holes: bool) -> None:
    image, valid = image_and_valid(holes)
    sums = WindowSums.of(image, valid, MEAN, SD, max(SIDES) // 2)
    strip = sums.of_rows(slice(7, 20), slice(3, None), SIDES)
    rows, cols = (x.ravel() for x in np.meshgrid(np.arange(7, 20), np.arange(3, 50), indexing="ij"))
    single = sums.of_pixels(rows, cols, SIDES)
    np.testing.assert_array_equal(strip.reshape(len(strip), -1), single)


def test_sums_that_wrap_give_the_same_as_those_that_do_not() -> None:
    """A large window is summed in 64 bits, a small one in 32, which the whole image exceeds."""
    image = np.full((1, 200, 300), 60.0)
    valid = np.ones(image.shape, bool)
    assert image.size * 60 * UNIT > np.iinfo(np.int32).max
    small, large = (WindowSums.of(image, valid, (0.0,), (1.0,), halo) for halo in (16, 50))
    assert (small.first[0].dtype, large.first[0].dtype) == (np.int32, np.int64)
    at = np.array([150]), np.array([250])
    np.testing.assert_array_equal(small.of_pixels(*at, (7,)), large.of_pixels(*at, (7,)))
    assert small.of_pixels(*at, (7,))[0, 0] == 60.0
