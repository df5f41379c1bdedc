"""Order and seeds of batches; mixup and cutmix of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geotl.arrays import Int64s
from geotl.training.augment import rectangles


def derived_seed(seed: int, epoch: int, step: int) -> int:
    """A 63-bit seed for one batch of one epoch.

    >>> derived_seed(0, 1, 2) != derived_seed(0, 2, 1)
    True
    """
    state = np.random.SeedSequence([seed, epoch, step]).generate_state(2, np.uint32)
    return int(state[0]) << 31 | int(state[1]) >> 1


def epoch_order(
    count: int, batch_size: int, seed: int, epoch: int, *, labels: Int64s | None = None
) -> list[Int64s]:
    """Positions of each batch of an epoch; a last batch of one tile joins the one before.

    With labels, every class is drawn equally often (see `balanced`).

    >>> [len(part) for part in epoch_order(9, 4, seed=0, epoch=0)]
    [4, 5]
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(count) if labels is None else balanced(labels, random)
    parts = [order[start : start + batch_size] for start in range(0, count, batch_size)]
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [np.concatenate(parts[-2:])]
    return parts


def balanced(labels: Int64s, random: np.random.Generator) -> Int64s:
    """As many positions as there are labels, each class as often as every other (or once more).

    The tiles of a class come round in a random order, so that none comes twice more often.

    >>> labels = np.array([0, 0, 0, 0, 0, 1])
    >>> np.bincount(labels[balanced(labels, np.random.default_rng(0))]).tolist()
    [3, 3]
    """
    classes = random.permutation(np.unique(labels))
    drawn = []
    for place, value in enumerate(classes):
        quota = len(labels) // len(classes) + (place < len(labels) % len(classes))
        members = np.flatnonzero(labels == value)
        rounds = [random.permutation(members) for _ in range(-(-quota // len(members)))]
        drawn.append(np.concatenate([members[:0], *rounds])[:quota])
    return random.permutation(np.concatenate(drawn))


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
    first, first_valid = batch["image"], batch["valid"]
    other, other_valid = first[mix.partner], first_valid[mix.partner]
    share = mix.share.to(first).view(-1, 1, 1, 1)
    if mix.box is not None:
        share = (~mix.box).to(first)
    both = share * first + (1 - share) * other
    either = torch.where(first_valid, first, other)
    blank = fill.to(first).view(1, -1, 1, 1)
    image = torch.where(first_valid & other_valid, both, either)
    valid = first_valid | other_valid
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
