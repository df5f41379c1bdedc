"""Colours that stay apart, and quicklooks that show what is there."""

from __future__ import annotations

import re

import numpy as np
import pytest

from geotl.reporting.rendering import INVALID, default_colours, quicklook, stretch_limits

# Machado et al. 2009, severity 1: what a deuteranope sees, on linear RGB.
DEUTERANOPE = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
)


def lab(colours, sight):
    rgb = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.clip(linear @ sight.T, 0, 1) @ np.array(to_xyz).T / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@pytest.mark.parametrize("n", [0, 1, 10, 24, 60])
def test_colours_are_distinct_hex_and_the_first_ones_never_change(n):
    colours = default_colours(n)
    assert len(set(colours)) == len(colours) == n
    assert all(re.fullmatch("#[0-9a-f]{6}", c) for c in colours)
    assert default_colours(60)[:n] == colours


@pytest.mark.parametrize("sight", [np.eye(3), DEUTERANOPE], ids=["normal", "deuteranope"])
def test_ten_colours_stay_apart_in_either_sight(sight):
    places = lab(default_colours(10), sight)
    gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)
    assert gaps[~np.eye(10, dtype=bool)].min() > 11


def test_invalid_pixels_are_grey_and_stretch_nothing():
    tile = np.tile(np.linspace(100, 200, 64).reshape(8, 8), (4, 1, 1))
    tile[:, 0, 0] = 60000
    valid = np.ones((8, 8), bool)
    valid[0, 0] = False
    shown = quicklook(tile, valid, (2, 1, 0))
    assert shown.shape == (8, 8, 3)
    assert shown.dtype == np.uint8
    assert shown[0, 0].tolist() == [INVALID] * 3
    assert shown[7, 7].tolist() == [255] * 3
    assert shown[0, 1].tolist() == [0] * 3


def test_a_pixel_invalid_in_one_shown_band_is_grey_and_other_bands_do_not_matter():
    tile = np.random.default_rng(0).integers(0, 100, (4, 4, 4))
    valid = np.ones((4, 4, 4), bool)
    valid[1, 0, 0] = False
    valid[3, 2, 2] = False
    shown = quicklook(tile, valid, (0, 1, 2))
    assert shown[0, 0].tolist() == [INVALID] * 3
    assert (
        shown[2, 2].tolist()
        == quicklook(tile, None, (0, 1, 2), stretch(tile, valid))[2, 2].tolist()
    )


def stretch(tile, valid):
    return stretch_limits(tile, valid, (0, 1, 2))


def test_bands_are_taken_from_the_positions_given():
    tile = np.zeros((5, 4, 4))
    tile[3, :2] = 1.0
    shown = quicklook(tile, None, (3, 0, 0))
    assert shown[0, 0, 0] == 255
    assert shown[3, 3, 0] == 0
    assert (shown[..., 1] == 128).all()


def test_shared_limits_keep_tiles_comparable():
    dark, light = np.full((1, 4, 4), 10.0), np.full((1, 4, 4), 200.0)
    limits = stretch_limits(np.stack([dark, light]), None, (0, 0, 0))
    assert quicklook(dark, None, (0, 0, 0), limits).max() == 0
    assert quicklook(light, None, (0, 0, 0), limits).min() == 255


def test_nan_and_wholly_invalid_tiles_are_grey():
    assert (quicklook(np.full((3, 2, 2), np.nan), None, (0, 1, 2)) == INVALID).all()
    assert (quicklook(np.ones((3, 2, 2)), np.zeros((1, 2, 2)), (0, 1, 2)) == INVALID).all()


def test_masks_of_many_tiles_without_a_band_axis_are_understood():
    tiles = np.arange(2 * 3 * 16.0).reshape(2, 3, 4, 4)
    valid = np.zeros((2, 4, 4), bool)
    valid[0] = True
    np.testing.assert_allclose(
        stretch_limits(tiles, valid, (0, 1, 2)), stretch_limits(tiles[:1], None, (0, 1, 2))
    )
