"""Windows of scenes that could be labelled next, what a model predicts of them, and the choice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geotl.arrays import Bools, Float64s, Floats, Int64s
from geotl.console import Progress
from geotl.data.chips import ChipRules, Occupied, lattice_blocks
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
Block = tuple[NDArray[Any], Bools, Bools]  # pixels, valid, cloudy
_SLACK = 1e-6  # of a window's side: neighbours whose edges meet are apart


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


def normalised_entropy(chances: Floats) -> Float64s:
    """Uncertainty [n] of class probabilities [n, K]: Shannon entropy over log K, from 0 to 1.

    >>> normalised_entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).tolist()
    [1.0, 0.0]
    """
    known = np.asarray(chances, dtype=np.float64)
    terms = known * np.log(np.where(known > 0, known, 1.0))
    return np.asarray(np.abs(terms.sum(axis=1)) / np.log(max(known.shape[1], 2)))


def most_uncertain(uncertainty: Floats, most: int) -> Int64s:
    """Rows of the most uncertain, in rising order; of equals the first.

    >>> most_uncertain(np.array([0.1, 0.9, 0.5, 0.9]), 2).tolist()
    [1, 3]
    """
    return np.sort(np.argsort(-uncertainty, kind="stable")[:most])


def choose(
    features: Floats,
    uncertainty: Floats,
    known: Floats,
    boxes: Floats,
    inside: Bools,
    *,
    n: int,
    seed: int = 0,
) -> Int64s:
    """Rows of up to n windows, in the order chosen: those inside first, then the others.

    Each time the window with the largest product of uncertainty and distance to what is known
    already, training tiles and windows chosen before, is taken. Windows that share ground with a
    chosen one are out. Equals go by the seed.

    Args:
        features: of the windows [m, D].
        uncertainty: of each [m].
        known: distance of each to the nearest training tile's features [m].
        boxes: left, bottom, right, top on the ground [m, 4].
        inside: which lie in the area of applicability [m].
        n: how many are wanted.
        seed: of the order among equals.

    >>> places = np.array([[0.0, 0, 1, 1], [0, 0, 1, 1], [5, 0, 6, 1]])
    >>> rows, sure = np.array([[0.0], [0.1], [3.0]]), np.array([0.9, 0.8, 0.5])
    >>> choose(rows, sure, np.array([1.0, 1.0, 1.0]), places, np.ones(3, bool), n=3).tolist()
    [0, 2]
    """
    tied = np.random.default_rng(seed).permutation(len(features))
    rows = np.asarray(features, dtype=np.float64)[tied]
    weight, nearest, places = uncertainty[tied], known[tied].astype(np.float64), boxes[tied]
    free = np.ones(len(rows), dtype=bool)
    chosen: list[int] = []
    for stage in (inside[tied], ~inside[tied]):
        while len(chosen) < n and (free & stage).any():
            best = int(np.where(free & stage, weight * nearest, -1.0).argmax())
            chosen.append(best)
            free &= ~meeting(places[best], places)
            nearest = np.minimum(nearest, np.linalg.norm(rows - rows[best], axis=1))
    return tied[np.array(chosen, dtype=np.int64)]


def meeting(box: Floats, boxes: Floats) -> Bools:
    """Which boxes [m, 4] share ground with one box; edges may meet.

    >>> meeting(np.array([0.0, 0, 1, 1]), np.array([[0.5, 0, 1.5, 1], [1, 0, 2, 1]])).tolist()
    [True, False]
    """
    slack = _SLACK * (box[2:] - box[:2])
    over = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    return np.asarray((over > slack).all(axis=1))
