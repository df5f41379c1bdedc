"""Augmentation of a batch on its own device: any number of bands, aware of validity.

Kornia is imported where it is called: networks that only turn views need none of it. Every random
figure is drawn from one torch.Generator on the CPU, so that a batch is the same on every device.
Flips and quarter turns move pixels and change none; a free rotation, a change of scale and a crop
are composed into one resampling. Blur, light, dropped bands and erased rectangles follow, and then
the augmentations of Kornia that a recipe names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from geotl.errors import DataError
from geotl.models.classifier import VIEWS, turn_view
from geotl.training.settings import Augmentation, Light

MARKS = ("marks", "hints")  # what moves with the image, pixel by pixel
MIN_VALID = 0.8  # share of the output's pixels that must come from inside the tile
ASPECT = (0.3, 1 / 0.3)  # height over width of an erased rectangle (Zhong et al. 2020)


def blur(image: Tensor, valid: Tensor, sigma_px: Tensor) -> Tensor:
    """Blur each tile with a Gaussian of its own width, from valid pixels alone.

    Values and validity are blurred alike and divided (normalised convolution, Knutsson & Westin
    1993), so that neither invalid pixels nor the world outside the tile bleed in.

    Args:
        image: [N, C, H, W].
        valid: bool [N, 1 or C, H, W].
        sigma_px: sd of each tile's Gaussian [N] in pixels; 0 changes nothing.
    """
    from kornia.filters import gaussian_blur2d

    side = 2 * math.ceil(3 * float(sigma_px.max())) + 1
    sigma = sigma_px.clamp(min=0.05).to(image)[:, None].expand(-1, 2)  # at 0.05 px: the identity
    mask = valid.to(image.dtype)
    filled = torch.where(valid, image, torch.zeros_like(image))
    values = gaussian_blur2d(filled, side, sigma, border_type="constant")
    weight = gaussian_blur2d(mask, side, sigma, border_type="constant")
    return torch.where(valid, values / weight.clamp(min=1e-6), image)


def relight(
    image: Tensor, valid: Tensor, brightness: Tensor, contrast: Tensor, zero_dn: float
) -> Tensor:
    """Scale reflectance by `brightness`, then its distance from the band's mean by `contrast`.

    Reflectance is scale * (DN - zero_dn), so scaling it moves a DN away from or towards zero_dn;
    contrast is about the mean of the tile's valid pixels and needs no origin. One pair of factors
    a tile, the same for all its bands, as light changes.

    Args:
        image: DN [N, C, H, W].
        valid: bool [N, 1 or C, H, W]; invalid pixels keep their value.
        brightness: factor of each tile [N].
        contrast: factor of each tile [N].
        zero_dn: the DN of zero reflectance.

    >>> ones = torch.ones(1, 1, 1, 2, dtype=torch.bool)
    >>> relight(torch.tensor([[[[1000.0, 3000]]]]), ones, torch.tensor([1.5]), torch.ones(1), 1000)
    tensor([[[[1000., 4000.]]]])
    """
    bright = zero_dn + (image - zero_dn) * brightness.to(image).view(-1, 1, 1, 1)
    count = valid.expand_as(image).sum(dim=(2, 3), keepdim=True).clamp(min=1)
    filled = torch.where(valid, bright, torch.zeros_like(bright))
    mean = filled.sum(dim=(2, 3), keepdim=True) / count
    lit = mean + (bright - mean) * contrast.to(image).view(-1, 1, 1, 1)
    return torch.where(valid, lit, image)


def blank(image: Tensor, valid: Tensor, where: Tensor, fill: Tensor) -> tuple[Tensor, Tensor]:
    """Make pixels invalid: they take the band's fill value, which standardises to 0.

    Args:
        image: [N, C, H, W].
        valid: bool [N, 1 or C, H, W].
        where: bool, broadcastable to the image.
        fill: value [C].
    """
    filled = torch.where(where, fill.to(image).view(1, -1, 1, 1), image)
    return filled, valid & ~where


def draw_dropped(count: int, bands: int, chance: float, generator: torch.Generator) -> Tensor:
    """Which bands a tile loses, bool [N, C, 1, 1]: each with this chance, but never all.

    Where all were drawn, the one with the largest draw stays; a single band always stays.

    >>> draw_dropped(4, 1, 0.9, torch.Generator()).any().item()
    False
    """
    draws = torch.rand((count, bands), generator=generator)
    dropped = draws < chance
    dropped[torch.arange(count), draws.argmax(dim=1)] &= ~dropped.all(dim=1)
    return dropped[:, :, None, None]


def draw_rectangles(
    count: int,
    size: tuple[int, int],
    chance: float,
    area: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Rectangles to erase, bool [N, 1, H, W], one in each tile with this chance.

    Area even between the shares given, height over width even in its logarithm between 0.3 and
    3.3, anywhere inside the tile (random erasing, Zhong et al. 2020, algorithm 1; one longer than
    the tile is cut instead of drawn again).
    """
    height, width = size
    draws = torch.rand((count, 5), generator=generator, dtype=torch.float64)
    share = area[0] + (area[1] - area[0]) * draws[:, 1]
    low, high = (math.log(a) for a in ASPECT)
    aspect = torch.exp(low + (high - low) * draws[:, 2])
    tall = (share * height * width * aspect).sqrt().round().clamp(1, height)
    wide = (share * height * width / aspect).sqrt().round().clamp(1, width)
    top = ((height - tall + 1) * draws[:, 3]).floor()
    left = ((width - wide + 1) * draws[:, 4]).floor()
    inside = rectangles(top, top + tall, left, left + wide, size=size)
    return inside & (draws[:, 0] < chance).view(-1, 1, 1, 1)


def rectangles(
    top: Tensor, bottom: Tensor, left: Tensor, right: Tensor, *, size: tuple[int, int]
) -> Tensor:
    """Rectangles as masks, bool [N, 1, H, W]; bottom and right are the first pixels outside.

    >>> one = torch.tensor([1])
    >>> rectangles(one, one + 1, one * 0, one + 1, size=(2, 3)).int().tolist()
    [[[[0, 0, 0], [1, 1, 0]]]]
    """
    rows, columns = torch.arange(size[0]), torch.arange(size[1])
    down = (rows >= top[:, None]) & (rows < bottom[:, None])
    across = (columns >= left[:, None]) & (columns < right[:, None])
    return (down[:, :, None] & across[:, None, :])[:, None]


def check_order(settings: Augmentation) -> None:
    """Make sure that ranges rise; a recipe's do, by its own rules.

    Raises:
        DataError: the larger figure comes first.
    """
    if settings.scale[0] > settings.scale[1]:
        raise DataError(
            f"augment: rotate_deg {settings.rotate_deg} must lie in 0..180, scale {settings.scale} "
            f"rise from above 0, crop {settings.crop} lie above 0 and at most 1"
        )
    if settings.erase_area[0] > settings.erase_area[1]:
        raise DataError(f"augment: erase_area {settings.erase_area} must rise between 0 and 1")


def augment(
    batch: Mapping[str, Tensor],
    settings: Augmentation,
    generator: torch.Generator,
    *,
    band_sd: Tensor,
    fill: Tensor,
    light: Light,
) -> dict[str, Tensor]:
    """Augment a batch; its other entries are handed on as they are.

    Args:
        batch: "image" float [N, C, S, S] and "valid" bool [N, 1 or C, S, S]; where there are
            "marks" or "hints" [N, M, S, S], 0 but at single pixels, they move with the image,
            each without the other.
        settings: what may happen.
        generator: on the CPU; source of every random number.
        band_sd: each band's sd [C], in the image's unit.
        fill: the value [C] that invalid pixels get.
        light: reflectance of digital numbers.

    Returns:
        The batch in the same sizes. Pixels that a rotation invents are invalid and filled. At
        least 80 % of a tile stays inside it; where a crop would still lose more than a fifth of
        the valid pixels, that tile is not resampled.

    Raises:
        DataError: quarter turns of tiles that are not square, or a range that falls.
    """
    check_order(settings)
    image, valid = batch["image"], batch["valid"]
    moved = {name: batch[name] for name in MARKS if name in batch}
    views = _draw_views(settings, len(image), generator)
    image, valid = _turned(image, views), _turned(valid, views)
    moved = {name: _turned(marks, views) for name, marks in moved.items()}
    if settings.resamples:
        size = (image.shape[-2], image.shape[-1])
        matrices = draw_warps(settings, len(image), size, generator)
        image, valid, warped = _warped(image, valid, matrices.to(image), fill.to(image))
        at = matrices.to(image)
        moved = {name: _moved(marks, at, warped) for name, marks in moved.items()}
    image = _disturbed(image, valid, settings, generator, light)
    if settings.noise > 0:
        noise = torch.randn(image.shape, generator=generator).to(image)
        sd = settings.noise * band_sd.to(image).view(1, -1, 1, 1)
        image = torch.where(valid, image + noise * sd, image)
    image, valid = _blanked(image, valid, settings, fill, generator)
    done = {**batch, "image": image, "valid": valid, **moved}
    if not settings.kornia:
        return done
    from geotl.training.kornia_steps import apply_steps

    return apply_steps(
        done, settings.kornia, generator, band_sd=band_sd, fill=fill, marks=tuple(moved)
    )


def _disturbed(
    image: Tensor,
    valid: Tensor,
    settings: Augmentation,
    generator: torch.Generator,
    light: Light,
) -> Tensor:
    """Blur and light, each only if it is on."""
    count = len(image)
    if settings.blur > 0:
        image = blur(image, valid, settings.blur * torch.rand(count, generator=generator))
    if settings.brightness > 0 or settings.contrast > 0:
        about = 2 * torch.rand((2, count), generator=generator) - 1
        brightness, contrast = 1 + settings.brightness * about[0], 1 + settings.contrast * about[1]
        image = relight(image, valid, brightness, contrast, light.zero_dn)
    return image


def _blanked(
    image: Tensor, valid: Tensor, settings: Augmentation, fill: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Bands and rectangles taken away; after the noise, so that they are quite even."""
    if settings.band_dropout > 0:
        lost = draw_dropped(len(image), image.shape[1], settings.band_dropout, generator)
        image, valid = blank(image, valid, lost.to(image.device), fill)
    if settings.erase > 0:
        size = (image.shape[-2], image.shape[-1])
        gone = draw_rectangles(len(image), size, settings.erase, settings.erase_area, generator)
        image, valid = blank(image, valid, gone.to(image.device), fill)
    return image, valid


def _draw_views(settings: Augmentation, count: int, generator: torch.Generator) -> Tensor:
    """A view per tile: two flips are a mirror and a half turn, so the eight views hold all.

    It draws even where one view is allowed: later random numbers do not depend on settings.
    """
    allowed = {
        (False, False): [0],
        (True, False): [0, 2, 4, 6],
        (False, True): [0, 1, 2, 3],
        (True, True): list(range(VIEWS)),
    }[settings.flips, settings.quarter_turns]
    return torch.tensor(allowed)[torch.randint(len(allowed), (count,), generator=generator)]


def _turned(tiles: Tensor, views: Tensor) -> Tensor:
    """Each tile [N, ..., H, W] in its view, pixel values untouched."""
    if not bool(views.any()):
        return tiles
    if tiles.shape[-1] != tiles.shape[-2] and bool((views % 2).any()):
        raise DataError(
            f"tiles of {tiles.shape[-2]}x{tiles.shape[-1]} px cannot be turned by a quarter; set "
            "augment.quarter_turns to false or use square tiles"
        )
    turned = tiles.clone()
    for view in sorted(set(views.tolist())):
        rows = torch.nonzero(views == view).flatten().to(tiles.device)
        turned[rows] = turn_view(tiles[rows], view)
    return turned


def _moved(marks: Tensor, matrices: Tensor, warped: Tensor) -> Tensor:
    """Marks at the pixels that theirs went to: a single pixel is neither lost nor doubled.

    A mark that leaves the tile is gone.

    Args:
        marks: [N, M, H, W], 0 but at marked pixels.
        matrices: [N, 2, 3] from input to output pixels.
        warped: bool [N], which tiles were resampled.
    """
    tile, row, col = torch.nonzero((marks != 0).any(dim=1) & warped.view(-1, 1, 1), as_tuple=True)
    at = torch.stack([col, row, torch.ones_like(row)], dim=1).to(matrices)
    col_to, row_to = torch.einsum("nij,nj->in", matrices[tile], at).round().long()
    inside = (row_to >= 0) & (row_to < marks.shape[2]) & (col_to >= 0) & (col_to < marks.shape[3])
    moved = torch.where(warped.view(-1, 1, 1, 1), torch.zeros_like(marks), marks)
    values = marks[tile, :, row, col]
    moved[tile[inside], :, row_to[inside], col_to[inside]] = values[inside]
    return moved


def draw_warps(
    settings: Augmentation, count: int, size: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """Matrices [N, 2, 3] from input to output pixels: rotation, scale and crop in one.

    A crop of area share c is an enlargement by 1 / sqrt(c) about a centre chosen so that the
    window stays inside the tile. Where more than a fifth of the output would lie outside, the
    enlargement is raised until it does not: at 1 at the latest, which leaves at least
    2 (sqrt(2) - 1) = 83 % of a square inside at any angle.
    """
    draws = torch.rand((count, 5), generator=generator, dtype=torch.float64)
    angle = (2 * draws[:, 0] - 1) * settings.rotate_deg
    low, high = (math.log(s) for s in settings.scale)
    share = settings.crop + (1 - settings.crop) * draws[:, 2]
    zoom = torch.exp(low + (high - low) * draws[:, 1]) / share.sqrt()
    aim = 2 * draws[:, 3:] - 1
    return _affine(angle, _raised(angle, zoom, aim, size), aim, size)


def _raised(angle: Tensor, zoom: Tensor, aim: Tensor, size: tuple[int, int]) -> Tensor:
    """The enlargement, raised by halving intervals to where enough lies inside (to 2 %)."""

    def enough(at: Tensor) -> Tensor:
        return _inside_share(_affine(angle, at, aim, size), size) >= MIN_VALID + 0.02

    good = enough(zoom)
    if bool(good.all()):
        return zoom
    low, high = zoom, torch.where(good, zoom, zoom.clamp(min=1.0))
    for _ in range(5):
        middle = (low + high) / 2
        good = enough(middle)
        low, high = torch.where(good, low, middle), torch.where(good, middle, high)
    return high


def _affine(angle: Tensor, zoom: Tensor, aim: Tensor, size: tuple[int, int]) -> Tensor:
    """Turn by `angle` degrees and enlarge by `zoom` about a point that goes to the centre.

    `aim` in -1..1 (x, y) chooses the point within the room that the turned window has.
    """
    from kornia.geometry.transform import get_affine_matrix2d

    height, width = size
    cosine, sine = angle.deg2rad().cos().abs(), angle.deg2rad().sin().abs()
    reach_x = (width * cosine + height * sine) / zoom
    reach_y = (width * sine + height * cosine) / zoom
    room = torch.stack([width - reach_x, height - reach_y], dim=1).clamp(min=0) / 2
    middle = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)
    centre = middle + aim * room
    scale = zoom[:, None].expand(-1, 2)
    matrices: Tensor = get_affine_matrix2d(middle - centre, centre, scale, angle)
    return matrices[:, :2]


def _inside_share(matrices: Tensor, size: tuple[int, int]) -> Tensor:
    """Share of each output's pixels that come from inside the input [N]."""
    height, width = size
    rows = torch.linspace(0, height - 1, min(height, 32), dtype=torch.float64)
    columns = torch.linspace(0, width - 1, min(width, 32), dtype=torch.float64)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    output = torch.stack([x.flatten(), y.flatten()])
    source = torch.linalg.solve(matrices[:, :, :2], output - matrices[:, :, 2:])
    limit = torch.tensor([[width - 0.5], [height - 0.5]], dtype=torch.float64)
    inside = (source > -0.5) & (source < limit)
    share: Tensor = inside.all(dim=1).double().mean(dim=1)
    return share


def _warped(
    image: Tensor, valid: Tensor, matrices: Tensor, fill: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Resample once; only valid pixels have a part in a value. Which tiles were, bool [N], too.

    Values and validity are sampled with the same weights and divided (normalised convolution,
    Knutsson & Westin 1993), so neither fill values nor the outside bleed into what is valid. A
    pixel is valid where valid ones make up at least half of its weight.
    """
    mask = valid.to(image.dtype)
    size = (image.shape[-2], image.shape[-1])
    values = _sampled(torch.where(valid, image, torch.zeros_like(image)), matrices, size)
    weight = _sampled(mask, matrices, size)
    covered = weight >= 0.5
    blank = fill.view(1, -1, 1, 1)
    resampled = torch.where(covered, values / weight.clamp(min=0.5), blank)
    enough = covered.flatten(1).float().mean(1) >= MIN_VALID * mask.flatten(1).mean(1)
    warped_tiles = enough.view(-1, 1, 1, 1)
    return (
        torch.where(warped_tiles, resampled, image),
        torch.where(warped_tiles, covered, valid),
        enough,
    )


def _sampled(x: Tensor, matrices: Tensor, size: tuple[int, int]) -> Tensor:
    from kornia.geometry.transform import warp_affine

    sampled: Tensor = warp_affine(
        x, matrices, size, mode="bilinear", padding_mode="zeros", align_corners=True
    )
    return sampled
