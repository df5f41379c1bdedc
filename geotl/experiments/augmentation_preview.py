"""What a recipe's augmentation makes of a training tile: the tile and eight draws on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geotl.arrays import UInt8s
from geotl.console import Log
from geotl.data.tile_array import batch, statistics
from geotl.errors import DataError
from geotl.experiments.draws import Draw, make_draw, settle_split
from geotl.experiments.named import recipe_sensor
from geotl.experiments.recipe import Recipe
from geotl.experiments.samples import TileSamples, read_samples
from geotl.reporting.figures import sheet_figure, write_png
from geotl.reporting.rendering import quicklook, stretch_limits
from geotl.training.augment import augment
from geotl.training.batches import Mix, derived_seed, draw_mix, mix_tiles
from geotl.training.settings import Augmentation, Light

DRAWS = 8
LIKE = 64  # training tiles whose values set the stretch from black to white
COMPANY = 8  # tiles of a batch, from which a mix takes its partner
STRIPES = (168, 222)  # two greys in turn: no data, invented by a rotation, or erased


def preview(recipe: Recipe, path: Path, *, tile: int = 0, log: Log = print) -> None:
    """Write a sheet of nine: a training tile as it is, and as eight batches would show it.

    Noise is in units of the bands' sd over the training tiles, also where a recipe normalises
    by the weights' own.

    Args:
        recipe: its data, split and augmentation are used.
        path: the PNG file.
        tile: which of the training tiles, from 0.
        log: gets a line on what was written.

    Raises:
        DataError: there is no such training tile.
    """
    sensor = recipe_sensor(recipe)
    samples = read_samples(recipe, sensor, log).real
    draw = make_draw(settle_split(recipe, samples, log), samples, 0)
    rows = draw.split.train
    if not 0 <= tile < len(rows):
        raise DataError(f"--tile: given {tile}; allowed: 0 to {len(rows) - 1}, the training tiles")
    kind = recipe.augment
    shown, captions = drawn_tiles(samples, draw, kind, tile=tile, seed=recipe.seed)
    name = f"{samples.names[rows[tile]]} ({samples.classes[samples.labels[rows[tile]]]})"
    names = [*_views(kind), *kind.beyond_views, *kind.kornia_names, *_features(kind)]
    on = ", ".join(name for name in names if name != "kornia") or "nothing is varied"
    note = (
        f"{on}\nseed {recipe.seed}, epoch 0, batches 1 to {DRAWS}; "
        "striped: no data, invented or erased; stretched like the training tiles"
    )
    write_png(path, sheet_figure(shown, captions, name, note))
    log(f"{path}: {name}, as it is and in {DRAWS} draws of seed {recipe.seed}")


def _views(kind: Augmentation) -> list[str]:
    return [name for name in ("flips", "quarter_turns") if getattr(kind, name)]


def _features(kind: Augmentation) -> list[str]:
    return ["mixup of features (not visible)"] if kind.mixup and kind.mixup_of != "tiles" else []


def drawn_tiles(
    samples: TileSamples, draw: Draw, kind: Augmentation, *, tile: int, seed: int
) -> tuple[list[UInt8s], list[str]]:
    """Pictures and captions of a training tile, as it is and in each draw.

    Returns:
        Nine pictures [S, S, 3], and nine captions.
    """
    rows = draw.split.train
    stats = statistics(samples.pack, rows)
    sd, fill = (torch.from_numpy(x).float() for x in (stats.sd, stats.fill))
    rgb = samples.rgb
    images, captions = [], []
    for number in range(DRAWS + 1):
        others = np.random.default_rng([seed, number]).permutation(np.delete(rows, tile))
        chosen = np.concatenate([rows[tile : tile + 1], others[: COMPANY - 1]])
        block = batch(samples.pack, chosen, fill=stats.fill)
        caption = "original"
        if number:
            origin, light = derived_seed(seed, 0, number), Light.of(samples.sensor)
            block, caption = _varied(block, kind, origin, sd=sd, fill=fill, light=light)
            caption = f"draw {number}{caption}"
        images.append((block["image"][0].numpy(), block["valid"][0].numpy()))
        lost = ~images[-1][1].any(axis=(1, 2))
        captions.append(caption + _missing(samples.pack.bands, np.flatnonzero(lost).tolist()))
    sample = np.random.default_rng(seed).permutation(rows)[:LIKE]
    stretched = batch(samples.pack, sample, fill=stats.fill)
    limits = stretch_limits(stretched["image"].numpy(), stretched["valid"].numpy(), rgb)
    return [_picture(image, valid, rgb, limits) for image, valid in images], captions


def _varied(
    block: dict[str, Tensor],
    kind: Augmentation,
    origin: int,
    *,
    sd: Tensor,
    fill: Tensor,
    light: Light,
) -> tuple[dict[str, Tensor], str]:
    """A batch as a training step would vary it, and what the first tile was mixed with."""
    generator = torch.Generator().manual_seed(origin)
    block = augment(block, kind, generator, band_sd=sd, fill=fill, light=light)
    if not (kind.cutmix or (kind.mixup and kind.mixup_of == "tiles")):
        return block, ""
    height, width = block["image"].shape[-2:]
    mix: Mix = draw_mix(
        len(block["image"]),
        (height, width),
        kind.mixup,
        kind.cutmix,
        np.random.default_rng([origin, 1]),
    )
    if mix.box is None and kind.mixup_of == "features":
        return block, ""
    share = 1.0 if int(mix.partner[0]) == 0 else float(mix.share[0])
    return mix_tiles(block, mix, fill), f", {share:.0%} this tile"


def _missing(bands: Sequence[str], lost: Sequence[int]) -> str:
    if not lost:
        return ""
    named = ", ".join(bands[i] for i in lost)
    return f", without {named if len(lost) <= 4 else f'{len(lost)} of {len(bands)} bands'}"


def _picture(
    image: np.ndarray, valid: np.ndarray, rgb: Sequence[int], limits: np.ndarray
) -> UInt8s:
    """A quicklook with stripes where no band shown has data; a single missing band is its fill."""
    shown = quicklook(image, None, rgb, limits)
    planes = np.broadcast_to(valid, image.shape)[list(rgb)]
    empty = ~planes.any(axis=0)
    rows, columns = np.indices(planes.shape[1:])
    stripe = (rows + columns) // max(2, planes.shape[1] // 24) % 2
    shown[empty] = np.array(STRIPES, np.uint8)[stripe][empty][:, None]
    return shown
