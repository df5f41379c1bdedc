"""What may be done to the values of a batch: blur, light, missing bands, missing rectangles.

Split from `augment`, which draws how much of each a tile gets. Invalid pixels keep their value
and have no part in that of their neighbours; the number of bands is free.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

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
    known = valid.to(image.dtype)
    seen = torch.where(valid, image, torch.zeros_like(image))
    values = gaussian_blur2d(seen, side, sigma, border_type="constant")
    weight = gaussian_blur2d(known, side, sigma, border_type="constant")
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
    seen = torch.where(valid, bright, torch.zeros_like(bright))
    mean = seen.sum(dim=(2, 3), keepdim=True) / count
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
