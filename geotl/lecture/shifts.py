"""What differs between training and test tiles: sensor, light, clouds, scale.

A shift is of the test alone and of its own code: nothing here is an augmentation. Each has one
strength, where an augmentation draws from a range.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, zoom

from geotl.arrays import Bools, Float64s, Int64s
from geotl.data.tile_array import Statistics, batch
from geotl.experiments.samples import TileSamples
from geotl.lecture.recipes import Shift
from geotl.training.augment import blur
from geotl.training.learner import Tiles


def shifted(
    source: TileSamples, rows: Int64s, kind: Shift, stats: Statistics, *, seed: int
) -> Tiles:
    """Test tiles as another sensor, season or sky would show them.

    Args:
        source: the tiles as they are.
        rows: the test tiles.
        kind: what differs.
        stats: of the training tiles, whose sd is the unit of noise and whose fill marks gaps.
        seed: of everything random; one seed gives the same tiles.
    """
    block = batch(source.pack, rows, fill=stats.fill)
    images = block["image"].numpy().astype(np.float64)
    valid = np.broadcast_to(block["valid"].numpy(), images.shape).copy()
    random = np.random.default_rng([seed, len(rows)])
    zero = source.sensor.zero_dn
    images = lit(images, kind, zero, random)
    if kind.blur_px > 0:
        sigma = torch.full((len(rows),), kind.blur_px)
        blurred = blur(torch.from_numpy(images), torch.from_numpy(valid), sigma)
        images = blurred.numpy()
    if kind.noise > 0:
        noise = random.standard_normal(images.shape)
        images = images + kind.noise * stats.sd[:, None, None] * noise
    if kind.part < 1:
        images, valid = enlarged(images, valid, kind.part, random)
    if kind.gaps > 0:
        valid &= ~clouds(len(rows), images.shape[-1], kind.gaps, random)[:, None]
    images = np.where(valid, images, stats.fill[:, None, None]).astype(np.float32)
    pack = replace(source.pack, images=images, valid=valid)
    return Tiles(pack, np.arange(len(rows)), source.labels[rows])


def lit(images: Float64s, kind: Shift, zero_dn: float, random: np.random.Generator) -> Float64s:
    """Reflectance times a factor of each tile's own, and light and shade of a slope across it."""
    count, side = len(images), images.shape[-1]
    low, high = kind.gain
    gain = low + (high - low) * random.random(count)
    angle = 2 * np.pi * random.random(count)
    along = np.linspace(-1, 1, side)
    ramp = np.cos(angle)[:, None, None] * along + np.sin(angle)[:, None, None] * along[:, None]
    light = gain[:, None, None] * (1 + kind.slope * ramp)
    return np.asarray(zero_dn + (images - zero_dn) * light[:, None])


def enlarged(
    images: Float64s, valid: Bools, share: float, random: np.random.Generator
) -> tuple[Float64s, Bools]:
    """A square part of each tile, anywhere in it, as large as the tile was."""
    side = images.shape[-1]
    part = max(2, round(side * share**0.5))
    corners = random.integers(side - part + 1, size=(len(images), 2))
    parts = [
        (slice(None), slice(top, top + part), slice(left, left + part)) for top, left in corners
    ]
    factor = (1, side / part, side / part)
    near = [
        zoom(image[where], factor, order=1, grid_mode=True, mode="nearest")
        for image, where in zip(images, parts, strict=True)
    ]
    kept = [
        zoom(mask[where].astype(np.uint8), factor, order=0, grid_mode=True, mode="nearest")
        for mask, where in zip(valid, parts, strict=True)
    ]
    return np.stack(near), np.stack(kept).astype(bool)


def clouds(count: int, side: int, share: float, random: np.random.Generator) -> Bools:
    """Masked clouds, bool [n, S, S]: rounded patches that cover this share of each tile.

    >>> random = np.random.default_rng(0)
    >>> clouds(3, 20, 0.4, random).mean(axis=(1, 2)).tolist()
    [0.4, 0.4, 0.4]
    """
    rough = gaussian_filter(random.standard_normal((count, side, side)), (0, side / 8, side / 8))
    flat = rough.reshape(count, -1)
    ranks = flat.argsort(axis=1).argsort(axis=1).reshape(rough.shape)
    return np.asarray(ranks < round(share * side * side))
