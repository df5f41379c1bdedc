"""Parcels planted in rows, drawn by code: only the distance between the rows tells them apart.

Colours, share of canopy, gaps and noise vary from parcel to parcel in the same way in every class,
so that a network has to see the rows, and sees them in the directions that it was trained on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from geotl.arrays import Float64s
from geotl.data.splits import Split
from geotl.data.tile_array import Pack
from geotl.data.tiles import Tile, TileIndex
from geotl.errors import RecipeError
from geotl.experiments.draws import Draw
from geotl.experiments.samples import TileSamples
from geotl.imagery.sensors import get_sensor

SENSOR = "sentinel2_l2a_n0400"  # the sample tiles' digital numbers: reflectance * 10000 + 1000
SIDE_PX = 32
SPACING_PX = {"vines": 4.0, "hops": 6.0, "orchard": 9.0, "walnuts": 14.0}
REFLECTANCE = {  # of bare soil, of leaves
    "B02": (0.07, 0.03),
    "B03": (0.10, 0.06),
    "B04": (0.14, 0.04),
    "B08": (0.24, 0.42),
}
JITTER_DEG = 4.0  # rows are never planted quite along a line of the map


def profile(spacing_px: float, direction_deg: float, share: float, phase: float) -> Float64s:
    """Share of leaves in each pixel [S, S]: soft rows in a direction, clockwise from north.

    >>> rows = profile(4.0, 0.0, 0.5, 0.0)  # north to south: each column is even
    >>> bool(np.ptp(rows, axis=0).max() < 1e-12), bool(np.ptp(rows, axis=1).min() > 0.5)
    (True, True)
    """
    south, east = np.mgrid[0:SIDE_PX, 0:SIDE_PX].astype(float)
    angle = np.deg2rad(direction_deg)
    across = east * np.cos(angle) + south * np.sin(angle)
    wave = np.cos(2 * np.pi * across / spacing_px + phase)
    return np.asarray(1 / (1 + np.exp(-4 * (wave - np.cos(np.pi * share)))))


def parcel(
    spacing_px: float, turn_deg: float, bands: tuple[str, ...], random: np.random.Generator
) -> Float64s:
    """One parcel as the sensor records it, DN [C, S, S]; one that is turned is otherwise the same.

    Args:
        spacing_px: distance between the middles of two rows.
        turn_deg: direction of its rows, clockwise from north; a few degrees are added.
        bands: names, each of REFLECTANCE.
        random: source of everything else.
    """
    direction = turn_deg + random.uniform(-JITTER_DEG, JITTER_DEG)
    leaves = profile(spacing_px, direction, random.uniform(0.35, 0.6), random.uniform(0, 2 * np.pi))
    patches = gaussian_filter(random.standard_normal((SIDE_PX, SIDE_PX)), 2.0, mode="wrap") * 7
    leaves = leaves * (patches < 1.2)  # plants that died
    light = 1 + 0.05 * gaussian_filter(random.standard_normal(leaves.shape), 4.0, mode="wrap") * 14
    levels = np.array([REFLECTANCE[name] for name in bands])
    soil, green = (levels * np.exp(0.2 * random.standard_normal(levels.shape))).T
    surface = soil[:, None, None] + (green - soil)[:, None, None] * leaves
    seen = gaussian_filter(surface * light, (0, 0.6, 0.6), mode="nearest")
    seen += 0.006 * random.standard_normal(seen.shape)
    return np.asarray(np.clip(np.rint(seen * 10_000 + 1000), 1, 65_535))


def parcels(
    bands: tuple[str, ...], count: int, directions_deg: tuple[float, float], *, seed: int
) -> tuple[Float64s, list[str]]:
    """Parcels of every class in turn, DN [n, C, S, S], and the class of each.

    With one seed, parcels of other directions differ in their directions alone.

    Raises:
        RecipeError: a band without reflectances.
    """
    if unknown := sorted(set(bands) - set(REFLECTANCE)):
        raise RecipeError(f"bands: given {unknown[0]}; allowed: {', '.join(REFLECTANCE)}")
    low, high = directions_deg
    names = [name for name in SPACING_PX for _ in range(count)]
    images = []
    for place, name in enumerate(names):
        random = np.random.default_rng([seed, place])
        turn = low + (high - low) * random.random()
        images.append(parcel(SPACING_PX[name], turn, bands, random))
    return np.stack(images), names


def fields(
    bands: tuple[str, ...],
    shots: int,
    tested: int,
    directions_deg: tuple[float, float],
    *,
    seed: int,
) -> tuple[TileSamples, Draw]:
    """Parcels with rows from north to south, and then as many to test, in the directions given.

    Args:
        bands: names.
        shots: training parcels per class.
        tested: test parcels, of all classes together.
        directions_deg: lowest and highest direction of the test parcels' rows.
        seed: of everything random.

    Returns:
        The parcels, and which of them are trained on and which are tested.
    """
    each = max(1, tested // len(SPACING_PX))
    sides = (
        parcels(bands, shots, (0.0, 0.0), seed=2 * seed),
        parcels(bands, each, directions_deg, seed=2 * seed + 1),
    )
    images = np.concatenate([images for images, _ in sides]).astype(np.uint16)
    names = [name for _, part in sides for name in part]
    classes, root = tuple(SPACING_PX), Path("fields")
    tiles = tuple(
        Tile(root / f"{name}_{row}", classes.index(name), None, None, f"{seed}_{row}")
        for row, name in enumerate(names)
    )
    key = f"fields of seed {seed}"
    empty = (None,) * len(names)
    stored = Pack(images, None, bands, key, root, empty, empty, empty)
    rows = np.arange(len(names))
    cut = shots * len(classes)
    split = Split(rows[:cut], rows[cut:], rows[:0])
    return TileSamples(TileIndex(root, classes, tiles), get_sensor(SENSOR), stored), Draw(
        0, split, []
    )
