"""Make the lecture's source network: a ResNet-18 to layer2, trained until its kernels show edges.

    python sample_tiles/make_source_network.py --out geotl/lecture/assets/source_network.safetensors

It classifies tiles of the region `source`, made with a seed of their own (so that it has seen no
sample tile), and oriented patterns: edges and stripes in six directions. It needs about ten
minutes of a processor; another machine gives other bits of the same kind.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from make_sample_tiles import BANDS, NAMES, REGIONS, make_site
from numpy.random import Generator, default_rng
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from geotl.io.files import sha256_of
from geotl.lecture.stages import coherence
from geotl.models.backbone import first_conv_of
from geotl.models.registry import build_backbone

SEED = 7
BACKBONE, LAST, INPUT_PX = "resnet18", "layer2", 28
USED = ("B02", "B03", "B04", "B08")
SITES, KEPT = 50, 6  # sites of each class, tiles of each site
DIRECTIONS, KINDS = 6, 2  # of the oriented patterns: edges and stripes
EPOCHS, BATCH, RATE, DECAY = 20, 64, 0.02, 1e-3


def land_cover(sites: int = SITES, seed: int = SEED) -> tuple[Tensor, Tensor]:
    """Tiles of the source region, standardised [N, 4, 40, 40], and their classes [N]."""
    region = dataclasses.replace(REGIONS["source"], sites=sites, kept=KEPT)
    bands = [BANDS.index(name) for name in USED]
    tiles, labels = [], []
    for first in (0, 1):  # even sites, then odd ones: the order in which the shipped file saw them
        for label, name in enumerate(NAMES):
            for site in range(first, sites, 2):
                for numbers, _ in make_site(region, name, site, seed):
                    tiles.append(numbers[bands])
                    labels.append(label)
    return standardised(np.stack(tiles)), torch.tensor(labels)


def standardised(tiles: np.ndarray) -> Tensor:
    """Tiles [N, C, S, S] with mean 0 and sd 1 in each band, lost pixels at the mean."""
    values = np.where(tiles == 0, np.nan, tiles.astype(np.float64))
    mean, sd = (f(values, axis=(0, 2, 3), keepdims=True) for f in (np.nanmean, np.nanstd))
    return torch.from_numpy(np.nan_to_num((values - mean) / sd)).float()


def oriented(rng: Generator, count: int, side: int = INPUT_PX) -> tuple[Tensor, Tensor]:
    """Patterns [count, 4, side, side] and their classes [count]: the kind and the direction.

    Colour, place, width and sharpness are drawn, so that the direction alone tells the class.
    """
    labels = rng.integers(KINDS * DIRECTIONS, size=count)
    plane = (count, 1, 1)
    angle = np.pi * (labels % DIRECTIONS + rng.uniform(-0.3, 0.3, count)) / DIRECTIONS
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    across = x * np.cos(angle).reshape(plane) + y * np.sin(angle).reshape(plane)
    shift = rng.uniform(-5, 5, plane)
    edges = np.tanh((across - shift) / rng.uniform(0.4, 2.0, plane))
    stripes = np.sin(2 * np.pi * (across - shift) / rng.uniform(3.5, 10.0, plane))
    pattern = np.where((labels < DIRECTIONS).reshape(plane), edges, stripes)
    colour = rng.normal(0, 1, (count, 4, 1, 1)) + rng.normal(0, 1, (count, 1, 1, 1))
    ground = rng.normal(0, 0.7, (count, 4, 1, 1))
    noise = rng.normal(0, 1, (count, 4, side, side)) * rng.uniform(0.05, 0.5, (count, 1, 1, 1))
    image = ground + colour * pattern[:, None] + noise
    return torch.from_numpy(image).float(), torch.from_numpy(labels)


def varied(tiles: Tensor, rng: Generator) -> Tensor:
    """A batch flipped, turned, cropped to 28 to 40 px, resized, its bands brighter or darker."""
    if rng.random() < 0.5:
        tiles = tiles.flip(3)
    tiles = torch.rot90(tiles, int(rng.integers(4)), (2, 3))
    side = int(rng.integers(INPUT_PX, tiles.shape[-1] + 1))
    top, left = rng.integers(0, tiles.shape[-1] - side + 1, 2)
    tiles = tiles[:, :, top : top + side, left : left + side]
    tiles = F.interpolate(tiles, size=(INPUT_PX, INPUT_PX), mode="bilinear", antialias=True)
    gain, light = (torch.from_numpy(rng.normal(0, 0.2, (len(tiles), 4, 1, 1))) for _ in range(2))
    return tiles * (1 + gain.float()) + light.float()


def batches(tiles: Tensor, labels: Tensor, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """An epoch: each batch is half land cover and half oriented patterns."""
    for rows in torch.from_numpy(rng.permutation(len(tiles))).split(BATCH // 2):
        patterns, kinds = oriented(rng, len(rows))
        image = torch.cat([varied(tiles[rows], rng), patterns])
        yield image, torch.cat([labels[rows], kinds + len(NAMES)])


def source_network(tiles: Tensor, labels: Tensor, epochs: int = EPOCHS) -> nn.Module:
    """The trained backbone.

    Its first kernels begin a tenth as large, since batch normalisation undoes their size: what
    they show in the end comes from the tiles, not from the draw.
    """
    torch.manual_seed(SEED)
    rng = default_rng(SEED)
    backbone, _ = build_backbone(BACKBONE, list(USED), cut_after=LAST, seed=SEED)
    first_conv_of(backbone).weight.data.mul_(0.1)
    head = nn.Linear(backbone.channels[LAST], len(NAMES) + KINDS * DIRECTIONS)
    weights = [*backbone.parameters(), *head.parameters()]
    steps = epochs * -(-len(tiles) // (BATCH // 2))
    optimiser = torch.optim.SGD(weights, RATE, momentum=0.9, weight_decay=DECAY, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE * 5, total_steps=steps)
    backbone.train()
    for epoch in range(epochs):
        right = seen = 0
        for image, wanted in batches(tiles, labels, rng):
            logits = head(backbone(image)[LAST].mean(dim=(2, 3)))
            loss = F.cross_entropy(logits, wanted)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            right, seen = right + int((logits.argmax(1) == wanted).sum()), seen + len(wanted)
        edges = float(coherence(first_conv_of(backbone).weight.detach()).mean())
        print(f"epoch {epoch + 1}: {right / seen:.3f} right, coherence {edges:.3f}", flush=True)
    return backbone


def main() -> None:
    """Make the tiles, train, and write the weights in half precision."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the safetensors file")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--sites", type=int, default=SITES, help="sites of each class")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    backbone = source_network(*land_cover(arguments.sites), arguments.epochs)
    floats = {k: v for k, v in backbone.state_dict().items() if v.is_floating_point()}
    save_file({k: v.half().contiguous() for k, v in floats.items()}, arguments.out)
    print(sha256_of(arguments.out))


if __name__ == "__main__":
    main()
