"""Kornia's augmentations of a batch, for any number of bands and with validity.

Those that move pixels take validity along: values and validity are resampled with the same weights
and divided (normalised convolution, Knutsson & Westin 1993). Those that change values see, in
place of each invalid pixel, its nearest valid one, so that no fill value has a part in any other.
Kornia expects values from 0 to 1: a band's training mean less 3 sd is 0 to it, and plus 3 sd is 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from geotl.errors import DataError
from geotl.training.kornia_keys import KorniaStep
from geotl.training.kornia_names import UNBOUNDED, KorniaDraw, draw, trial_size

LIMIT_SD = 3.0  # of the band, about its mean: what 0 and 1 mean to Kornia
MIN_KEPT = 0.25  # share of a tile's valid pixels that a step leaves, or the tile stays as it is
REACH_PX = 1.0  # how far a mark may lie from the pixel that it moves to, in the input's pixels
COLOURS = 3


def apply_steps(
    batch: Mapping[str, Tensor],
    steps: Sequence[KorniaStep],
    generator: torch.Generator,
    *,
    band_sd: Tensor,
    fill: Tensor,
    marks: Sequence[str] = (),
) -> dict[str, Tensor]:
    """Apply Kornia's augmentations in turn; entries other than these are handed on.

    Args:
        batch: "image" float [N, C, H, W] and "valid" bool [N, 1 or C, H, W], and the marks.
        steps: each one name with its arguments, as `kornia_keys.checked_step` gives them.
        generator: on the CPU; each step draws its own seed from it.
        band_sd: each band's sd [C], in the image's unit.
        fill: each band's mean [C], the value that invalid pixels get.
        marks: names of entries [N, M, H, W], 0 but at single pixels, that move with the image.

    Raises:
        DataError: a step does not take so many bands, or tiles of this size.
    """
    done = dict(batch)
    for step in steps:
        shape = done["image"].shape
        seed = int(torch.randint(2**62, (), generator=generator))
        try:
            drawn = draw(*named(step), shape, seed)
            done |= _varied(done, drawn, band_sd, fill, marks)
        except DataError as error:
            reason = _reason(step, shape[1], (shape[2], shape[3]), error)
            raise DataError(f"augment.kornia: {reason}") from error
    return done


def named(step: KorniaStep) -> tuple[str, Mapping[str, Any]]:
    """Name and arguments of a step."""
    ((name, arguments),) = step.items()
    return name, arguments


def _varied(
    batch: Mapping[str, Tensor],
    drawn: KorniaDraw,
    band_sd: Tensor,
    fill: Tensor,
    marks: Sequence[str],
) -> dict[str, Tensor]:
    image = batch["image"]
    mean, sd = (x.to(image).view(1, -1, 1, 1) for x in (fill, band_sd))
    if drawn.behaviour == "moves":
        return moved(batch, drawn, mean, [name for name in marks if name in batch])
    if drawn.behaviour == "erases":
        return erased(batch, drawn, mean)
    return {"image": changed(image, batch["valid"], drawn, mean, sd)}


def moved(
    batch: Mapping[str, Tensor], drawn: KorniaDraw, fill: Tensor, marks: Sequence[str]
) -> dict[str, Tensor]:
    """Image, validity and marks after pixels have moved.

    A pixel is valid where valid ones make up at least half of its weight. A tile that would keep
    less than a quarter of its valid pixels stays as it is.
    """
    image, valid = batch["image"], batch["valid"]
    mask, bands = valid.to(image.dtype), image.shape[1]
    planes = [torch.where(valid, image, torch.zeros_like(image)), mask]
    if marks:
        planes.append(positions(image))
    varied = drawn.apply(torch.cat(planes, dim=1))
    values, weight, at = varied.tensor_split((bands, bands + mask.shape[1]), dim=1)
    covered = weight >= 0.5
    resampled = torch.where(covered, values / weight.clamp(min=0.5), fill.expand_as(image))
    kept = covered.flatten(1).float().mean(1) >= MIN_KEPT * mask.flatten(1).mean(1)
    chosen = kept & drawn.applied.to(image.device)
    tiles = chosen.view(-1, 1, 1, 1)
    done = {
        "image": torch.where(tiles, resampled, image),
        "valid": torch.where(tiles, covered, valid),
    }
    return done | {name: _moved_marks(batch[name], at, chosen) for name in marks}


def positions(image: Tensor) -> Tensor:
    """Column and row of each pixel, and 1 [N, 3, H, W]; resampled, where a pixel comes from."""
    count, _, height, width = image.shape
    row = torch.arange(height).to(image).view(1, 1, -1, 1).expand(count, 1, height, width)
    column = torch.arange(width).to(image).view(1, 1, 1, -1).expand(count, 1, height, width)
    return torch.cat([column, row, torch.ones_like(row)], dim=1)


def _moved_marks(marks: Tensor, at: Tensor, chosen: Tensor) -> Tensor:
    """Marks at the pixel that came from nearest to theirs: none is doubled.

    A mark that no pixel came from within `REACH_PX` has left the tile, and is gone.

    Args:
        marks: [N, M, H, W], 0 but at marked pixels.
        at: resampled positions [N, 3, H, W].
        chosen: bool [N], which tiles were resampled.
    """
    done, width = marks.clone(), marks.shape[-1]
    for tile in torch.nonzero(chosen).flatten().tolist():
        done[tile] = 0
        row, column = torch.nonzero((marks[tile] != 0).any(dim=0), as_tuple=True)
        weight = at[tile, 2].flatten()
        source = at[tile, :2].flatten(1) / weight.clamp(min=0.5)
        source = torch.where(weight >= 0.5, source, torch.full_like(source, -1e6))
        at_marks = torch.stack([column, row], dim=1).to(source)
        away = torch.cdist(at_marks, source.T, compute_mode="donot_use_mm_for_euclid_dist")
        least, pixel = away.min(dim=1)
        near = least <= REACH_PX
        done[tile][:, pixel[near] // width, pixel[near] % width] = marks[tile][
            :, row[near], column[near]
        ]
    return done


def changed(image: Tensor, valid: Tensor, drawn: KorniaDraw, mean: Tensor, sd: Tensor) -> Tensor:
    """The image with other values at valid pixels, which depend on valid pixels alone.

    What Kornia adds to the scaled values is added to the image, so what lies beyond the limits is
    not cut off.

    Args:
        image: [N, C, H, W].
        valid: bool [N, 1 or C, H, W].
        drawn: an augmentation that changes values in place.
        mean: of each band [1, C, 1, 1].
        sd: of each band [1, C, 1, 1].
    """
    span = 2 * LIMIT_SD * sd.clamp(min=1e-12)
    whole = nearest_valid(image, valid)
    scaled = (whole - mean) / span + 0.5
    given = scaled if drawn.name in UNBOUNDED else scaled.clamp(0, 1)
    varied = whole + (drawn.apply(given) - given) * span
    tiles = drawn.applied.to(image.device).view(-1, 1, 1, 1)
    return torch.where(tiles & valid, varied, image)


def erased(batch: Mapping[str, Tensor], drawn: KorniaDraw, fill: Tensor) -> dict[str, Tensor]:
    """Image and validity without what is taken away; a tile that would lose all keeps all."""
    image, valid = batch["image"], batch["valid"]
    gone = drawn.apply(torch.ones_like(image)) == 0
    if bool((gone == gone[:, :1]).all()):
        gone = gone[:, :1]
    left = valid & ~gone
    some = left.flatten(1).any(dim=1).view(-1, 1, 1, 1)
    return {
        "image": torch.where(gone & some, fill.expand_as(image), image),
        "valid": torch.where(some, left, valid),
    }


def nearest_valid(image: Tensor, valid: Tensor) -> Tensor:
    """Each invalid pixel as the nearest valid one in its row, or of the nearest row with any.

    Without any valid pixel a band stays as it is.

    Args:
        image: [N, C, H, W].
        valid: bool [N, 1 or C, H, W].

    >>> nearest_valid(torch.tensor([[[[7.0, 1, 2, 7]]]]),
    ...               torch.tensor([[[[False, True, True, False]]]]))
    tensor([[[[1., 1., 2., 2.]]]])
    """
    if bool(valid.all()):
        return image
    height, width = image.shape[-2:]
    own = torch.arange(height * width, device=image.device).view(height, width).expand(valid.shape)
    across, rows = _along(own, valid), valid.any(dim=3, keepdim=True).expand_as(valid)
    source = _along(across.mT, rows.mT).mT.flatten(2).expand(-1, image.shape[1], -1)
    return image.flatten(2).gather(2, source).view_as(image)


def _along(pixels: Tensor, valid: Tensor) -> Tensor:
    """Each invalid pixel as the nearest valid one of its row; rows without any stay."""
    width = pixels.shape[-1]
    at = torch.arange(width, device=pixels.device).expand_as(pixels)
    before = torch.where(valid, at, -width).cummax(dim=-1).values
    after = torch.where(valid, at, 2 * width).flip(-1).cummin(dim=-1).values.flip(-1)
    source = torch.where(at - before <= after - at, before, after)
    return pixels.gather(-1, torch.where(valid.any(dim=-1, keepdim=True), source, at))


def check_steps(
    steps: Sequence[KorniaStep], bands: int, size: tuple[int, int] | None = None
) -> None:
    """Make sure that Kornia's augmentations take tiles of so many bands.

    Args:
        steps: as of `apply_steps`.
        bands: number of bands.
        size: height and width [px]; None: such as their arguments are made for.

    Raises:
        DataError: one does not; it says why on one line.
    """
    for step in steps:
        side = size or trial_size(named(step)[1])
        try:
            some = _leaves_something(step, bands, side)
        except DataError as error:
            raise DataError(_reason(step, bands, side, error)) from error
        if not some:
            several = f"{bands} bands" if bands > 1 else "one band"
            raise DataError(f"{named(step)[0]}: leaves nothing of a tile of {several}")


def _reason(step: KorniaStep, bands: int, size: tuple[int, int], error: DataError) -> str:
    """Why a step does not take tiles: another number of bands is wanted, or as the error says."""
    wanted = [count for count in (1, COLOURS) if count != bands and _works(step, count, size)]
    if not wanted:
        return str(error)
    several = " or ".join(map(str, wanted)) + (" bands" if wanted != [1] else " band")
    colours = ", taken as red, green and blue" if COLOURS in wanted else ""
    return f"{named(step)[0]}: wants {several}{colours}; the tiles have {bands} (data.bands)"


def _works(step: KorniaStep, bands: int, size: tuple[int, int]) -> bool:
    try:
        return _leaves_something(step, bands, size)
    except DataError:
        return False


def _leaves_something(step: KorniaStep, bands: int, size: tuple[int, int]) -> bool:
    """Whether a step, applied to two even tiles, erases neither of them completely.

    Raises:
        DataError: it does not take them.
    """
    name, arguments = named(step)
    blank = torch.full((2, bands, *size), 0.5)
    drawn = draw(name, arguments, blank.shape, 0)
    varied = drawn.apply(blank)
    lost = (varied == 0).flatten(1).all(dim=1)
    return drawn.behaviour != "erases" or not bool(lost.any())
