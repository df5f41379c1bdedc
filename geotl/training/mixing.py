"""Two tiles and their labels in one: mixup and cutmix, aware of validity.

Labels become shares of classes. Everything random comes from one NumPy generator, which, unlike
torch's, draws the Beta distribution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geotl.training.disturbances import rectangles


@dataclass(frozen=True)
class Mix:
    """What each tile of a batch is mixed with.

    Attributes:
        partner: position in the batch of the tile's partner [N].
        share: of the tile itself in the mix [N], the rest is its partner's.
        box: bool [N, 1, H, W], where the partner's pixels are pasted (cutmix); None for mixup.
    """

    partner: Tensor
    share: Tensor
    box: Tensor | None = None


def draw_mix(
    count: int, size: tuple[int, int], mixup: float, cutmix: float, random: np.random.Generator
) -> Mix:
    """Draw how a batch is mixed; with both kinds on, each batch gets one or the other evenly.

    Args:
        count: tiles in the batch.
        size: height and width in pixels.
        mixup: a of Beta(a, a), from which a tile's own share is drawn (Zhang et al. 2018, eq. 1).
        cutmix: a of Beta(a, a), from which the share left of a tile is drawn; the box is as wide
            to high as the tile, about any of its pixels, cut at the edges, and the share is
            then that of the pixels left (Yun et al. 2019, eq. 2).
        random: the source of every draw.
    """
    partner = torch.from_numpy(random.permutation(count))
    cut = cutmix > 0 and (mixup <= 0 or random.random() < 0.5)
    spread = cutmix if cut else mixup
    share = random.beta(spread, spread, size=count)
    if not cut:
        return Mix(partner, torch.from_numpy(share).float())
    height, width = size
    reach = np.sqrt(1 - share)[:, None] * np.array([height, width]) / 2
    centre = random.random((count, 2)) * [height, width]
    low = np.clip(np.rint(centre - reach), 0, [height, width])
    high = np.clip(np.rint(centre + reach), 0, [height, width])
    ends = [torch.from_numpy(e) for e in (low[:, 0], high[:, 0], low[:, 1], high[:, 1])]
    box = rectangles(*ends, size=size)
    return Mix(partner, 1 - box.float().mean(dim=(1, 2, 3)), box)


def mix_tiles(batch: Mapping[str, Tensor], mix: Mix, fill: Tensor) -> dict[str, Tensor]:
    """Mix the pixels of a batch.

    A pixel that is invalid in one of the two takes the other's value; one invalid in both stays
    invalid and takes the band's fill value.

    Args:
        batch: "image" [N, C, H, W] and "valid" bool [N, 1 or C, H, W].
        mix: with what, and how much.
        fill: value [C].
    """
    own, own_valid = batch["image"], batch["valid"]
    other, other_valid = own[mix.partner], own_valid[mix.partner]
    share = mix.share.to(own).view(-1, 1, 1, 1)
    if mix.box is not None:
        share = (~mix.box).to(own)
    both = share * own + (1 - share) * other
    either = torch.where(own_valid, own, other)
    blank = fill.to(own).view(1, -1, 1, 1)
    image = torch.where(own_valid & other_valid, both, either)
    valid = own_valid | other_valid
    return {**batch, "image": torch.where(valid, image, blank), "valid": valid}


def mix_values(values: Tensor, mix: Mix) -> Tensor:
    """Mix values [N, ...] of a batch by its shares: of labels, or of hidden features.

    For hidden features this is manifold mixup (Verma et al. 2019) at the layer they come from.

    >>> mix = Mix(torch.tensor([1, 0]), torch.tensor([0.75, 1.0]))
    >>> mix_values(torch.eye(2), mix).tolist()
    [[0.75, 0.25], [0.0, 1.0]]
    """
    share = mix.share.to(values).view(-1, *[1] * (values.ndim - 1))
    return share * values + (1 - share) * values[mix.partner]
