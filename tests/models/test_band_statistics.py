"""Statistics of bands: known arrays, turned tiles, windows of a block, and a network with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.networks import network

from geotl.models.band_statistics import band_statistics, band_statistics_of_windows
from geotl.models.classifier import turn_view, with_statistics

pytestmark = pytest.mark.usefixtures("one_thread")


def test_known_arrays() -> None:
    stripes = torch.tensor([0.0, 2.0]).repeat(4, 2)  # changes by 2 along rows, never down columns
    level = torch.full((4, 4), -3.0)
    found = band_statistics(torch.stack([stripes, level])[None])
    assert found.tolist() == [[1.0, -3.0, 1.0, 0.0, 1.0, 0.0]]


def test_they_are_those_of_numpy() -> None:
    image = torch.randn(3, 2, 7, 9)
    values = image.numpy().astype(np.float64)
    down = np.abs(np.diff(values, axis=2)).mean(axis=(2, 3))
    along = np.abs(np.diff(values, axis=3)).mean(axis=(2, 3))
    wanted = [values.mean(axis=(2, 3)), values.std(axis=(2, 3)), (down + along) / 2]
    np.testing.assert_allclose(band_statistics(image), np.hstack(wanted), rtol=1e-5, atol=1e-6)


def test_one_pixel_has_neither_spread_nor_gradient() -> None:
    assert band_statistics(torch.full((1, 1, 1, 1), 5.0)).tolist() == [[5.0, 0.0, 0.0]]


@pytest.mark.parametrize("view", range(8))
def test_flips_and_turns_change_nothing(view: int) -> None:
    image = torch.randn(2, 3, 6, 6)
    turned = band_statistics(turn_view(image, view))
    torch.testing.assert_close(turned, band_statistics(image))


@pytest.mark.parametrize(("side", "step"), [(1, 1), (4, 2), (5, 3), (8, 8)])
def test_windows_of_a_block_are_tiles(side: int, step: int) -> None:
    image = torch.randn(1, 3, 17, 22)
    found = band_statistics_of_windows(image, side, step)
    for row in range(found.shape[2]):
        for col in range(found.shape[3]):
            top, left = row * step, col * step
            tile = image[:, :, top : top + side, left : left + side]
            torch.testing.assert_close(
                found[:, :, row, col], band_statistics(tile), atol=1e-5, rtol=1e-5
            )
    assert found.shape[2:] == ((17 - side) // step + 1, (22 - side) // step + 1)


def test_windows_of_a_dark_level_band_keep_their_small_spread() -> None:
    image = 100 + 1e-3 * torch.randn(1, 1, 12, 12)
    found = band_statistics_of_windows(image, 12, 12)[0, 1, 0, 0]
    assert float(found) == pytest.approx(float(image.double().std(correction=0)), rel=1e-3)


def test_statistics_follow_the_features_of_the_stages_and_leave_them_as_they_are() -> None:
    plain = network().eval()
    plain.set_feature_scale(torch.randn(9, plain.deep_width))
    made, image = with_statistics(plain).eval(), 90 + 50 * torch.randn(2, 4, 32, 32)
    with torch.inference_mode():
        found, deep = made.features(image), plain.features(image)
    torch.testing.assert_close(found[:, : plain.deep_width], deep, rtol=0, atol=0)
    own = band_statistics(plain.normalise(image))
    torch.testing.assert_close(found[:, plain.deep_width :], own, rtol=0, atol=0)
    assert made.head.in_features == plain.deep_width + 12
    assert made.backbone is plain.backbone
