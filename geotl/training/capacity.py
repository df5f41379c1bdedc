"""Whether a network can overfit at all: plain Adam on a few tiles, scored in evaluation mode.

Zhang et al. 2017 (Understanding deep learning requires rethinking generalization): a network that
is large enough also fits random labels. One that cannot will underfit real ones as well, so
this comes before any regulariser. It must be read in evaluation mode: with batch normalisation in
training mode a batch is standardised alone, and a ResNet-18 looks perfect after two steps when
in use it is right on one tile in five.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from geotl.arrays import Float64s, Int64s
from geotl.console import Progress
from geotl.data.tile_array import Pack
from geotl.models.backbone import parameter_groups
from geotl.models.classifier import Frozen, TileClassifier
from geotl.training.batches import epoch_order
from geotl.training.features import FrozenViews, Tiles

NOISE_TILES = 64
BLOCK = 128  # test tiles in one batch


@dataclass(frozen=True)
class Memorised:
    """How a network overfitted tiles on purpose.

    Attributes:
        tiles: how many there were.
        steps: optimiser steps taken.
        path: (step, accuracy in training mode, accuracy in evaluation mode) where it was scored.
            The first is that of the batches since the last scoring, as a training log shows it.
    """

    tiles: int
    steps: int
    path: tuple[tuple[int, float, float], ...]

    @property
    def accuracy(self) -> float:
        """Accuracy in evaluation mode, at the end."""
        return self.path[-1][2]

    @property
    def by_heart(self) -> bool:
        """Whether all tiles are classified correctly in evaluation mode."""
        return self.accuracy == 1.0

    @property
    def looked_perfect(self) -> int | None:
        """The step at which training mode would have shown 100 % too early; None if it did not."""
        early = [step for step, training, use in self.path if training == 1.0 and use < 1.0]
        return early[0] if early else None


def noise_tiles(
    mean: Float64s,
    sd: Float64s,
    px: int,
    classes: int,
    *,
    count: int = NOISE_TILES,
    seed: int = 0,
) -> Tiles:
    """Tiles of Gaussian noise [count, C, px, px] with random labels, every class among them.

    Args:
        mean: of the noise by band, in DN: the network's own, which then makes it standard noise.
        sd: likewise.
        px: side of the tiles.
        classes: number of classes.
        count: number of tiles.
        seed: of noise and labels.
    """
    random = np.random.default_rng([seed, 64])
    standard = random.standard_normal((count, len(mean), px, px), dtype=np.float32)
    plane = (1, -1, 1, 1)
    spread = np.where(sd > 0, sd, 1.0)
    images = (standard * spread.reshape(plane) + mean.reshape(plane)).astype(np.float32)
    nobody = (None,) * count
    pack = Pack(
        images,
        None,
        tuple(f"noise {i}" for i in range(len(mean))),
        f"noise-{seed}",
        Path(),
        nobody,
        nobody,
        nobody,
    )
    labels = random.permutation(np.arange(count) % classes).astype(np.int64)
    return Tiles(pack, np.arange(count, dtype=np.int64), labels)


def memorise(
    network: TileClassifier,
    tiles: Tiles,
    *,
    lr: float = 1e-3,
    steps: int = 300,
    batch_size: int = NOISE_TILES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Memorised:
    """Train in place with Adam and nothing else, until every tile is correct, or give up.

    One view, no decay, no dropout, one rate for all that is trainable; what is frozen stays. The
    network is scored in evaluation mode once an epoch.

    Args:
        network: trained in place; left in evaluation mode.
        tiles: to be overfitted on purpose.
        lr: learning rate.
        steps: the most steps.
        batch_size: tiles in a step.
        seed: of the order.
        progress: called with (steps done, maximum of steps).
    """
    network.eval()
    frozen = FrozenViews(network, tiles, (0,))
    labels = torch.from_numpy(tiles.labels).to(network.feature_mean.device)
    groups = parameter_groups(network.backbone, network.head, lr=lr, lr_decay=1.0, weight_decay=0.0)
    adam = torch.optim.Adam(groups)
    network.dropout.p = 0.0
    path: list[tuple[int, float, float]] = []
    done, epoch = 0, 0
    while done < steps and not (path and path[-1][2] == 1.0):
        hits = count = 0
        for positions in epoch_order(len(labels), batch_size, seed, epoch)[: steps - done]:
            hits += _step(network, adam, frozen, labels, positions)
            count, done = count + len(positions), done + 1
            if progress:
                progress(done, steps)
        path.append((done, hits / count, accuracy_of(network, frozen, labels)))
        epoch += 1
    return Memorised(len(labels), done, tuple(path))


def _step(
    network: TileClassifier,
    adam: torch.optim.Optimizer,
    frozen: FrozenViews,
    labels: Tensor,
    positions: Int64s,
) -> int:
    """One step of training; how many of the batch it classified correctly in training mode."""
    network.train()
    chosen = torch.from_numpy(positions)
    adam.zero_grad()
    logits = _logits(network, _taken(frozen, chosen))
    truth = labels[chosen]
    F.cross_entropy(logits, truth).backward()  # type: ignore[no-untyped-call]
    adam.step()
    return int((logits.argmax(1) == truth).sum())


@torch.inference_mode()
def accuracy_of(network: TileClassifier, frozen: FrozenViews, labels: Tensor) -> float:
    """Accuracy in evaluation mode, of what the frozen stages gave for some tiles."""
    network.eval()
    right = 0
    for start in range(0, len(labels), BLOCK):
        chosen = torch.arange(start, min(start + BLOCK, len(labels)))
        logits = _logits(network, _taken(frozen, chosen))
        right += int((logits.argmax(1) == labels[chosen]).sum())
    return right / len(labels)


def _taken(frozen: FrozenViews, chosen: Tensor) -> list[Frozen]:
    return frozen.take(chosen, torch.zeros(len(chosen), dtype=torch.int64))


def _logits(network: TileClassifier, parts: list[Frozen]) -> Tensor:
    return network.classify(network.standardise(network.finish(parts)))
