"""The guided filter: as He et al. define it, the same in every block, without what is invalid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.map_fixtures import made_pixels, patches
from helpers.pixel_models import made_pixel_model
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from geotl.inference import smoothing
from geotl.inference.smoothing import (
    EDGE,
    GuidedFilter,
    brightness,
    guided,
    packed,
    unpacked,
)
from geotl.models.pixel_file import load_pixel_model
from geotl.models.pixel_model import PixelModel

pytestmark = pytest.mark.usefixtures("one_thread")
HIGH, WIDTH, SIDE = 51, 63, 7


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> PixelModel:
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    return load_pixel_model(made_pixel_model(path, windows_px=(3, 7))).model


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Raw pixels float32 [4,51,63], NaN where invalid: a corner in all bands, a patch in one."""
    made = made_pixels(patches(3, 4), 16, noise=400)[:, :HIGH, :WIDTH].astype(np.float32)
    image = np.full((4, HIGH, WIDTH), np.nan, np.float32)
    image[:, : made.shape[1], : made.shape[2]] = made
    image[:, :9, :14] = np.nan
    image[1, 30:38, 40:45] = np.nan
    return image


@pytest.fixture(scope="module")
def how(model) -> GuidedFilter:
    return GuidedFilter(SIDE, model.features.mean, model.features.sd)


@pytest.fixture(scope="module")
def guide(model, image) -> np.ndarray:
    return brightness(image, model.features.mean, model.features.sd)


def some_probabilities(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet([0.4] * 3, (HIGH, WIDTH)).astype(np.float32)


def line(share: np.ndarray, guide: np.ndarray, row: int, col: int) -> tuple[float, float] | None:
    """Slope and level of one class in the window about a pixel, of valid pixels alone."""
    half = SIDE // 2
    box = np.s_[max(0, row - half) : row + half + 1, max(0, col - half) : col + half + 1]
    valid = np.isfinite(guide[box])
    x, y = guide[box][valid], share[box][valid].astype(float)
    slope = ((x * y).mean() - x.mean() * y.mean()) / (x.var() + EDGE)
    return slope, y.mean() - slope * x.mean()


def test_a_pixel_has_the_mean_line_of_its_windows(guide):
    """Equations 5, 6 and 8 of He et al. (2013), pixel by pixel."""
    probabilities = some_probabilities()
    found = guided(probabilities, guide, SIDE)
    half = SIDE // 2
    for row, col in [(0, 20), (9, 14), (12, 3), (29, 39), (25, 45), (40, 30)]:
        assert np.isfinite(guide[row, col])
        plain = []
        for k in range(3):
            lines = [
                line(probabilities[..., k], guide, r, c)
                for r in range(max(0, row - half), min(HIGH, row + half + 1))
                for c in range(max(0, col - half), min(WIDTH, col + half + 1))
                if np.isfinite(guide[r, c])
            ]
            slope, level = np.mean(lines, axis=0)
            plain.append(np.clip(slope * guide[row, col] + level, 0, 1))
        np.testing.assert_allclose(found[row, col], np.array(plain) / sum(plain), atol=2e-4)


def test_probabilities_add_up_to_one(guide):
    found = guided(some_probabilities(), guide, SIDE)[np.isfinite(guide)]
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-6)
    assert found.min() >= 0
    assert found.max() <= 1


def test_what_is_invalid_never_bleeds(guide):
    """Whatever is predicted there; holes of NaN are no edge either."""
    one, other = some_probabilities(), some_probabilities()
    valid = np.isfinite(guide)
    other[~valid] = (0, 0, 1)
    assert (one != other).any()
    first, second = guided(one, guide, SIDE), guided(other, guide, SIDE)
    np.testing.assert_array_equal(first[valid], second[valid])
    flat = np.full((HIGH, WIDTH, 3), (0.7, 0.2, 0.1), np.float32)
    flat[~valid] = (0, 0, 1)
    np.testing.assert_allclose(guided(flat, guide, SIDE)[valid], flat[valid], atol=1e-4)


def test_a_river_one_pixel_wide_survives():
    """Dark water in brighter fields that are mixed up at random; a mean filter removes it."""
    random = np.random.default_rng(1)
    truth = np.zeros((40, 40), int)
    truth[:, 20] = truth[10, :] = 1  # a river and its tributary
    guide = np.where(truth == 1, -1.0, 0.5) + random.normal(0, 0.1, truth.shape)
    water = np.where(truth == 1, 0.7, np.where(random.random(truth.shape) < 0.1, 0.6, 0.2))
    before = np.stack([1 - water, water], axis=-1).astype(np.float32)
    mean = uniform_filter(water, 5)
    after = guided(before, guide, 5).argmax(axis=-1)
    assert (mean[truth == 1] < 0.5).all()
    assert (after[truth == 1] == 1).mean() > 0.97
    assert (before.argmax(axis=-1)[truth == 0] == 1).mean() > 0.05
    assert (after[truth == 0] == 1).mean() < 0.002


def test_a_river_as_bright_as_its_banks_does_not():
    """What the guide does not show is smoothed away: docs/PIXELS.md says so."""
    water = np.full((30, 30), 0.2)
    water[:, 15] = 0.7
    before = np.stack([1 - water, water], axis=-1).astype(np.float32)
    after = guided(before, np.zeros(water.shape), 5).argmax(axis=-1)
    assert (after == 0).all()


@settings(max_examples=12)
@given(
    st.integers(0, HIGH - 1), st.integers(0, WIDTH - 1), st.integers(1, HIGH), st.integers(1, WIDTH)
)
def test_a_pixel_has_the_same_bits_in_every_block(how, image, top, left, high, wide):
    kept, plain = how.guide(image), some_probabilities()
    whole = how.smooth(plain, kept)
    above, before = max(0, top - how.reach), max(0, left - how.reach)
    part = np.s_[above : top + high + how.reach, before : left + wide + how.reach]
    found = how.smooth(plain[part], kept[part])[top - above :, left - before :][:high, :wide]
    np.testing.assert_array_equal(found, whole[top : top + high, left : left + wide])


def test_the_reach_is_that_of_two_windows(how, guide):
    """A pixel so far away counts, and one beyond it does not."""
    row, col, far = 25, 20, how.reach
    one = some_probabilities()
    before = guided(one, guide, SIDE)[row, col]
    one[row, col + far + 1] = (1, 0, 0)
    np.testing.assert_array_equal(guided(one, guide, SIDE)[row, col], before)
    one[row, col + far] = (1, 0, 0)
    assert (guided(one, guide, SIDE)[row, col] != before).any()


def test_what_is_kept_of_the_guide_is_what_the_filter_uses(how, image, guide):
    """Packed in 16 bits: no other bit of the result, and the holes stay holes."""
    kept = how.guide(image)
    assert kept.dtype == np.uint16
    np.testing.assert_array_equal(kept == 0, np.isnan(guide))
    np.testing.assert_allclose(unpacked(kept), guide, atol=2**-11)
    plain, valid = some_probabilities(), np.isfinite(guide)
    np.testing.assert_array_equal(how.smooth(plain, kept)[valid], guided(plain, guide, SIDE)[valid])
    np.testing.assert_array_equal(packed(np.array([-1e9, 1e9])), packed(np.array([-31.0, 31.0])))


def test_windows_of_the_largest_side_are_summed_exactly():
    """Extreme brightness and shares: a block and the whole have the same bits."""
    random = np.random.default_rng(2)
    guide = random.normal(0, 40, (260, 9))
    probabilities = random.dirichlet([0.1] * 3, guide.shape).astype(np.float32)
    whole = guided(probabilities, guide, 101)
    part = guided(probabilities[20:], guide[20:], 101)
    np.testing.assert_array_equal(whole[120:], part[100:])


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_no_bit(guide, monkeypatch, threads):
    one = guided(some_probabilities(), guide, SIDE)
    monkeypatch.setattr(smoothing.torch, "get_num_threads", lambda: threads)
    np.testing.assert_array_equal(one, guided(some_probabilities(), guide, SIDE))


def test_brightness_is_that_of_the_bands_a_pixel_has(model, image):
    """Of all bands, or of those that are there where such pixels are to count."""
    mean, sd = (np.array(x)[:, None, None] for x in (model.features.mean, model.features.sd))
    z, there = (image - mean) / sd, np.isfinite(image)
    every = brightness(image, model.features.mean, model.features.sd)
    some = brightness(image, model.features.mean, model.features.sd, some_bands=True)
    np.testing.assert_array_equal(np.isfinite(every), there.all(axis=0))
    np.testing.assert_array_equal(np.isfinite(some), there.any(axis=0))
    np.testing.assert_allclose(some[35, 42], np.nanmean(z[:, 35, 42]))
    np.testing.assert_allclose(every[there.all(axis=0)], z.mean(axis=0)[there.all(axis=0)])


def test_pixels_that_lack_a_band_count_where_they_are_to(how, image):
    """With the guide of the bands they have, so that their neighbours change too."""
    lenient, plain = replace(how, some_bands=True), some_probabilities()
    there = np.isfinite(image)
    np.testing.assert_array_equal(lenient.guide(image) > 0, there.any(axis=0))
    np.testing.assert_array_equal(how.guide(image) > 0, there.all(axis=0))
    used, left_out = (f.smooth(plain, f.guide(image)) for f in (lenient, how))
    np.testing.assert_allclose(used[there.any(axis=0)].sum(axis=-1), 1, atol=1e-6)
    assert (used[29, 42] != left_out[29, 42]).any()
