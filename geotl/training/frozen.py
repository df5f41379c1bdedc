"""What the frozen stages give for each training tile, computed once where that is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geotl.arrays import Int64s
from geotl.data.tile_array import Pack, batch
from geotl.models.classifier import VIEWS, Frozen, TileClassifier, turn_view
from geotl.training.augment import Augmentation


@dataclass(frozen=True)
class Tiles:
    """Rows of a pack with their labels; `labels[i]` belongs to `rows[i]`."""

    pack: Pack
    rows: Int64s
    labels: Int64s


class FrozenViews:
    """What the frozen stages give for every training tile and view, computed once."""

    def __init__(self, model: TileClassifier, tiles: Tiles, views: Sequence[int]) -> None:
        """Run the frozen stages over all tiles in each view, in blocks of 64."""
        self.views = tuple(views)
        self.parts = [
            [_stacked(_frozen_blocks(model, tiles, v), s) for s in range(len(model.sizes))]
            for v in self.views
        ]

    def take(self, positions: Tensor, choice: Tensor) -> list[Frozen]:
        """Frozen results of tiles at `positions`, each in the view numbered by `choice`."""
        chosen = []
        for size in range(len(self.parts[0])):
            picked = [self.parts[v][size] for v in choice.tolist()]
            pooled = torch.stack([p.pooled[i] for p, i in zip(picked, positions, strict=True)])
            maps = torch.stack([p.maps[i] for p, i in zip(picked, positions, strict=True)])
            chosen.append(Frozen(pooled, maps.contiguous(memory_format=torch.channels_last)))
        return chosen


def _frozen_blocks(model: TileClassifier, tiles: Tiles, view: int) -> Iterator[list[Frozen]]:
    device = next(model.parameters()).device
    fill = model.normalise.fill.cpu().numpy().astype(np.float64)
    for start in range(0, len(tiles.rows), 64):
        image = batch(tiles.pack, tiles.rows[start : start + 64], fill=fill, device=device)["image"]
        yield model.frozen_part(turn_view(image, view))


def _stacked(blocks: Iterator[list[Frozen]], size: int) -> Frozen:
    held = [block[size] for block in blocks]
    return Frozen(torch.cat([h.pooled for h in held]), torch.cat([h.maps for h in held]))


def frozen_bytes(model: TileClassifier, tiles: Tiles, views: int) -> int:
    """Memory that caching every view of the frozen stages' maps would take, in bytes."""
    probe = Tiles(tiles.pack, tiles.rows[:1], tiles.labels[:1])
    parts = next(_frozen_blocks(model, probe, 0))
    return 4 * views * len(tiles.rows) * sum(p.maps.numel() + p.pooled.numel() for p in parts)


def cacheable_views(kind: Augmentation) -> tuple[int, ...]:
    """The views an augmentation draws from, where it is nothing but views; () otherwise.

    >>> len(cacheable_views(Augmentation())), cacheable_views(Augmentation(noise=0.1))
    (8, ())
    """
    if kind.beyond_views or kind.flips != kind.quarter_turns:
        return ()
    return tuple(range(VIEWS)) if kind.flips else (0,)
