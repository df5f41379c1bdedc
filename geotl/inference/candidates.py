"""Windows of scenes that could be labelled next, and what a model says of them, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geotl.arrays import Bools, Floats, Int64s
from geotl.console import Progress
from geotl.data.chips import ChipRules, lattice_blocks
from geotl.data.occupied import Occupied
from geotl.data.placement import sight_of
from geotl.data.read_tile import in_order
from geotl.data.tile_array import to_batch
from geotl.evaluation.evaluate import softmax
from geotl.imagery.sensors import rescaled
from geotl.imagery.windows import Imagery, Window
from geotl.models.classifier import over_views
from geotl.models.device import Precision, autocast, choose_device
from geotl.models.model_file import ModelFile

BATCH = 64  # windows that the network sees together


@dataclass(frozen=True)
class Candidates:
    """Windows that may be labelled, and what a model says of them.

    Attributes:
        scene: number of the scene each lies in [n].
        corners: row and column of its upper left pixel [n, 2].
        features: standardised, averaged over the model's views [n, D].
        chances: calibrated class probabilities [n, K].
    """

    scene: Int64s
    corners: Int64s
    features: Floats
    chances: Floats

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.scene)

    def rows(self, rows: Int64s | Bools) -> Candidates:
        """Some of them."""
        return Candidates(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Candidates]) -> Candidates:
        """Several together, one after the other."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class Looked:
    """One block: its windows in all, those taken already, those unseen, and the candidates."""

    windows: int
    taken: int
    unseen: int
    found: Candidates


def candidates(
    model: ModelFile,
    scenes: Sequence[Imagery],
    occupied: Sequence[Occupied],
    rules: ChipRules,
    *,
    progress: Progress | None = None,
) -> Iterator[Looked]:
    """Go through the windows of a lattice over scenes, block by block, the next one read ahead.

    Left out are windows on ground that is taken, and those that would be refused as a chip about
    their centre pixel: too little valid, too cloudy, or that pixel itself not seen.

    Args:
        model: that describes and names windows.
        scenes: with the model's bands; DN are brought to its sensor's.
        occupied: the ground taken in each scene.
        rules: side, step (None: the side), and what of a window must be seen.
        progress: called with blocks done and blocks in all.

    Raises:
        DataError: a scene that cannot be read.
    """
    blocks = [
        (number, block)
        for number, scene in enumerate(scenes)
        for block in lattice_blocks(scene, rules)
    ]
    read = in_order(partial(_read, scenes), blocks, readers=1)
    for done, ((number, block), pixels) in enumerate(zip(blocks, read, strict=True)):
        yield _looked(
            model,
            scenes[number],
            block,
            pixels,
            number=number,
            occupied=occupied[number],
            rules=rules,
        )
        if progress:
            progress(done + 1, len(blocks))


Block = tuple[NDArray[Any], Bools, Bools]  # pixels, valid, cloudy


def _read(scenes: Sequence[Imagery], at: tuple[int, Window]) -> Block:
    number, block = at
    return *scenes[number].read(block), scenes[number].cloudy(block)


def _looked(
    model: ModelFile,
    scene: Imagery,
    block: Window,
    pixels: Block,
    *,
    number: int,
    occupied: Occupied,
    rules: ChipRules,
) -> Looked:
    images, valid, cloudy = pixels
    size, step = rules.chip_px, rules.step_px or rules.chip_px
    good = seen_squares(valid, cloudy, rules)[::step, ::step]
    corners = np.argwhere(good) * step
    windows = [Window(block.row + r, block.col + c, size, size) for r, c in corners.tolist()]
    free = ~occupied.meets(windows)
    corners = corners[free]
    wanted = model.contract.sensor
    parts: list[tuple[Floats, Floats]] = []
    for start in range(0, len(corners), BATCH):
        some = [np.s_[:, r : r + size, c : c + size] for r, c in corners[start : start + BATCH]]
        stack = np.stack([images[part] for part in some])
        seen = np.stack([valid[part] for part in some])
        parts.append(look(model, rescaled(stack, scene.sensor, wanted), seen))
    none = empty(model.network.head.in_features, len(model.contract.classes))
    parts.insert(0, (none.features, none.chances))
    features, chances = (np.concatenate(told) for told in zip(*parts, strict=True))
    return Looked(
        good.size,
        int((~free).sum()),
        int((~good).sum()),
        Candidates(
            np.full(len(corners), number, np.int64),
            corners + np.array([block.row, block.col]),
            features,
            chances,
        ),
    )


def empty(width: int, classes: int) -> Candidates:
    """None, of features so wide and of so many classes."""
    zero = np.zeros(0, np.int64)
    return Candidates(
        zero, zero.reshape(0, 2), np.zeros((0, width), np.float32), np.zeros((0, classes))
    )


def seen_squares(valid: Bools, cloudy: Bools, rules: ChipRules) -> Bools:
    """Squares, by their upper left pixel, that a point in their centre pixel would get as a chip.

    Args:
        valid: validity of a block [C,h,w].
        cloudy: its clouds [h,w].
        rules: side of a square, and how much of it must be seen.
    """
    share, half = valid.mean(axis=0), rules.chip_px // 2
    good = sight_of(share, cloudy, rules).good
    own = np.s_[half : half + good.shape[0], half : half + good.shape[1]]
    return np.asarray(good & (share[own] > 0) & ~cloudy[own])


def look(
    model: ModelFile, images: NDArray[Any], valid: Bools, precision: Precision = "auto"
) -> tuple[Floats, Floats]:
    """Standardised features [n, D] and calibrated probabilities [n, K] of raw windows [n,C,S,S].

    The head is linear, so that logits of features averaged over views are averaged logits.
    """
    network = model.network
    device = choose_device()
    network.to(device).eval()
    fill = network.normalise.fill.cpu().numpy().astype(np.float64)
    image = to_batch(images, valid, fill=fill, device=device)["image"]
    with torch.inference_mode(), autocast(device, precision):
        features = over_views(network.features, image, network.spec.views).float().mean(dim=1)
        logits = network.classify(features)
    chances = softmax(logits.double().cpu().numpy(), float(network.temperature))
    return features.cpu().numpy(), chances
