"""Pixels and classes as colours: contrast stretch, quicklooks, and class colours that stay apart.

Kept apart from the figures, so that a model file can be given its colours without Matplotlib.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from geotl.arrays import Bools, Float64s, UInt8s

INVALID = 168  # the grey that pixels without data are shown in

# The first seven are Okabe and Ito's (2008); each next one is the colour, of moderate chroma,
# that lies farthest from all before it, from white and from the grey of missing data in CIELAB,
# the worst of normal, protanope and deuteranope sight counting (Machado et al. 2009).
PALETTE = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#5a2d0f"),
    *("#003c3c", "#0f2d96", "#a5f087", "#8787ff", "#871e78", "#d23c4b", "#00ffb4", "#b4a54b"),
    *("#3ce1f0", "#785a69", "#963c0f", "#96b478", "#78e1c3", "#5a784b", "#1e5ab4", "#c3d25a"),
)


def default_colours(n: int) -> tuple[str, ...]:
    """Give n distinct class colours as #rrggbb, the first ones easiest to tell apart.

    Beyond the 24 of the palette, hues follow at golden-ratio steps: distinct, but no longer
    safe for colour-blind readers, as no set of that size can be.

    >>> default_colours(2)
    ('#0072b2', '#e69f00')
    """
    colours = list(PALETTE[:n])
    step = 0
    while len(colours) < n:
        hue, light = step * 0.618034 % 1.0, (0.35, 0.5, 0.65)[step % 3]
        red, green, blue = (round(255 * v) for v in colorsys.hls_to_rgb(hue, light, 0.55))
        colour = f"#{red:02x}{green:02x}{blue:02x}"
        if colour not in colours:
            colours.append(colour)
        step += 1
    return tuple(colours)


def stretch_limits(images: ArrayLike, valid: ArrayLike | None, rgb: Sequence[int]) -> Float64s:
    """Find the 2nd and 98th percentile of three bands over valid pixels, as [2, 3].

    `images` is [..., C, H, W]; `valid` the same, or with one band, or None. Give several tiles
    at once for limits that make them comparable.

    >>> stretch_limits(np.arange(101.0).reshape(1, 1, 101), None, (0, 0, 0))[:, 0].tolist()
    [2.0, 98.0]
    """
    pixels = np.asarray(images)
    usable = _valid_like(valid, pixels.shape)
    limits = np.zeros((2, 3))
    for place, band in enumerate(rgb):
        values = pixels[..., band, :, :][usable[..., band, :, :]]
        values = values[np.isfinite(values)]
        if values.size:
            limits[:, place] = np.percentile(values, [2.0, 98.0])
    return limits


def _valid_like(valid: ArrayLike | None, shape: tuple[int, ...]) -> Bools:
    """Spread a validity mask ([H, W], one band or all bands) over every band."""
    mask = np.ones((1, 1), bool) if valid is None else np.asarray(valid, dtype=bool)
    if mask.ndim == len(shape) - 1 and mask.ndim > 2:  # [N, H, W]: the band axis is missing
        mask = mask[..., None, :, :]
    return np.broadcast_to(mask, shape)


def quicklook(
    image: ArrayLike,
    valid: ArrayLike | None,
    rgb: Sequence[int],
    limits: ArrayLike | None = None,
) -> UInt8s:
    """Render one tile [C, H, W] as uint8 [H, W, 3], stretched from its 2nd to 98th percentile.

    `rgb` are the positions of the bands shown as red, green and blue. `limits` [2, 3] replace
    the tile's own stretch, which exaggerates a tile as even as open water. A pixel that is
    invalid in any band shown is grey; so is a band without contrast.

    >>> quicklook(np.arange(101.0).reshape(1, 1, 101), None, (0, 0, 0))[0, ::50, 0].tolist()
    [0, 128, 255]
    """
    pixels = np.asarray(image)
    usable = _valid_like(valid, pixels.shape)
    ends = np.asarray(stretch_limits(pixels, usable, rgb) if limits is None else limits)
    shown = np.full((*pixels.shape[-2:], 3), INVALID, dtype=np.uint8)
    keep = usable[list(rgb)].all(axis=0) & np.isfinite(pixels[list(rgb)]).all(axis=0)
    for place, band in enumerate(rgb):
        low, high = ends[:, place]
        values = pixels[band][keep].astype(np.float64)
        share = (values - low) / (high - low) if high > low else np.full(values.shape, 0.5)
        shown[..., place][keep] = np.rint(np.clip(share, 0.0, 1.0) * 255.0).astype(np.uint8)
    return shown
