"""Parcels made by code, and what differs in test tiles: each does what it says and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from geotl.data.tile_array import statistics
from geotl.errors import RecipeError
from geotl.lecture.fields import SIDE_PX, SPACING_PX, fields, parcels
from geotl.lecture.recipes import Shift
from geotl.lecture.shifts import clouds, shifted

BANDS = ("B02", "B03", "B04", "B08")


def rows_of(image: np.ndarray) -> tuple[float, float]:
    """Spacing [px] and direction [degrees from north] of the rows, by the strongest wave."""
    power = np.abs(np.fft.fft2(image - image.mean(), s=(256, 256))) ** 2
    cycles = np.fft.fftfreq(256)
    power[np.hypot(*np.meshgrid(cycles, cycles, indexing="ij")) < 1 / 20] = 0
    south, east = (cycles[i] for i in np.unravel_index(power.argmax(), power.shape))
    angle = np.rad2deg(np.arctan2(south, east)) % 180
    return 1 / np.hypot(south, east), float(min(angle, 180 - angle))


@pytest.mark.parametrize("turned", [0.0, 90.0])
def test_rows_have_the_spacing_of_their_class_and_the_direction_asked_for(turned: float) -> None:
    images, names = parcels(("B08",), 9, (turned, turned), seed=3)
    assert images.shape == (36, 1, SIDE_PX, SIDE_PX)
    found = np.array([rows_of(image[0]) for image in images])
    for name in SPACING_PX:
        spacing, direction = np.median(found[np.array(names) == name], axis=0)
        assert spacing == pytest.approx(SPACING_PX[name], rel=0.1)
        assert direction == pytest.approx(turned, abs=9)


def test_parcels_of_another_direction_differ_in_it_alone() -> None:
    straight, _ = parcels(BANDS, 5, (0.0, 0.0), seed=4)
    turned, names = parcels(BANDS, 5, (90.0, 90.0), seed=4)
    assert names == [name for name in SPACING_PX for _ in range(5)]
    means = [images.mean(axis=(2, 3)) for images in (straight, turned)]
    assert np.allclose(*means, rtol=0.06)
    assert np.abs(straight - turned).mean() > 100


def test_colours_do_not_tell_the_classes_apart() -> None:
    images, names = parcels(BANDS, 40, (0.0, 0.0), seed=5)
    means = images.mean(axis=(2, 3))
    by_class = np.stack([means[np.array(names) == name] for name in SPACING_PX])
    between = by_class.mean(axis=1).std(axis=0)
    assert (between < 0.4 * by_class.std(axis=1).mean(axis=0)).all()


def test_seeds_give_other_parcels_and_test_parcels_are_none_of_the_training() -> None:
    source, drawn = fields(BANDS, 3, 20, (0.0, 180.0), seed=1)
    other, _ = fields(BANDS, 3, 20, (0.0, 180.0), seed=2)
    again, _ = fields(BANDS, 3, 20, (0.0, 180.0), seed=1)
    assert np.array_equal(source.pack.images, again.pack.images)
    assert not (source.pack.images == other.pack.images).all(axis=(1, 2, 3)).any()
    assert (len(drawn.split.train), len(drawn.split.test)) == (12, 20)
    assert len({image.tobytes() for image in source.pack.images}) == 32
    assert np.bincount(source.labels[drawn.split.train]).tolist() == [3] * 4
    with pytest.raises(RecipeError, match="given B11"):
        fields(("B11",), 2, 8, (0.0, 0.0), seed=1)


@pytest.fixture(scope="module")
def change():
    source, drawn = fields(BANDS, 3, 20, (0.0, 0.0), seed=1)
    stats = statistics(source.pack, drawn.split.train)
    rows = drawn.split.test
    plain = source.pack.images[rows].astype(float)

    def changed(kind: Shift, seed: int = 0):
        tiles = shifted(source, rows, kind, stats, seed=seed)
        assert np.array_equal(tiles.labels, source.labels[rows])
        return plain, np.asarray(tiles.pack.images, float), tiles.pack.valid, stats

    return changed


def test_no_shift_changes_nothing_and_a_seed_repeats_its_own(change) -> None:
    plain, same, valid, _ = change(Shift())
    assert np.array_equal(plain, same)
    assert valid.all()
    noisy = [change(Shift(noise=1.0), seed)[1] for seed in (0, 0, 1)]
    assert np.array_equal(noisy[0], noisy[1])
    assert not np.array_equal(noisy[0], noisy[2])


def test_noise_has_its_sd_and_blur_takes_contrast_and_keeps_means(change) -> None:
    plain, noisy, _, stats = change(Shift(noise=2.0))
    assert np.allclose((noisy - plain).std(axis=(0, 2, 3)) / stats.sd, 2.0, rtol=0.03)
    plain, blurred, _, _ = change(Shift(blur_px=3.0))
    assert (blurred.std(axis=(2, 3)) < 0.8 * plain.std(axis=(2, 3))).all()
    assert np.allclose(blurred.mean(axis=(2, 3)), plain.mean(axis=(2, 3)), rtol=0.05)


def test_light_scales_reflectance_and_a_slope_shades_one_side(change) -> None:
    plain, dark, _, _ = change(Shift(gain=(0.5, 0.5)))
    assert np.allclose((dark - 1000) / (plain - 1000), 0.5, atol=1e-3)
    plain, shaded, _, _ = change(Shift(slope=0.3))
    ratio = (shaded - 1000) / (plain - 1000)
    assert np.allclose(ratio.mean(axis=(2, 3)), 1.0, atol=0.02)
    assert 0.25 < float((ratio.max(axis=(2, 3)) - 1).min()) < 0.45


def test_a_part_is_shown_larger_and_clouds_hide_their_share(change) -> None:
    plain, near, _, _ = change(Shift(part=0.25))
    for image, large in zip(plain[:, 0], near[:, 0], strict=True):
        small = large.reshape(16, 2, 16, 2).mean(axis=(1, 3))
        windows = np.lib.stride_tricks.sliding_window_view(image, (16, 16))
        away = np.abs(windows - small).mean(axis=(2, 3)).min()
        assert away < 0.35 * image.std()
    plain, cloudy, valid, stats = change(Shift(gaps=0.4))
    assert np.allclose(valid.mean(axis=(1, 2, 3)), 0.6, atol=1e-3)
    assert np.array_equal(cloudy[valid], plain[valid])
    fills = np.broadcast_to(stats.fill[:, None, None], plain.shape)
    assert np.allclose(cloudy[~valid], fills[~valid], rtol=1e-6)
    patches = clouds(4, 40, 0.4, np.random.default_rng(0))
    assert (patches[:, :, 1:] == patches[:, :, :-1]).mean() > 0.9  # rounded, no salt and pepper
