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
_SLACK = 1e-6  # of a window's side: neighbours that only touch do not overlap


@dataclass(frozen=True)
class Candidates:
    """Windows that may be labelled, and a model's predictions for them.

    Attributes:
        scene: number of the scene each lies in [n].
        corners: row and column of its upper left pixel [n, 2].
        features: standardised, averaged over the model's views [n, D].
        probabilities: calibrated class probabilities [n, K].
    """

    scene: Int64s
    corners: Int64s
    features: Floats
    probabilities: Floats

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.scene)

    def rows(self, rows: Int64s | Bools) -> Candidates:
        """The candidates of the given rows."""
        return Candidates(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Candidates]) -> Candidates:
        """Candidates of several parts, in their order."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class SearchedBlock:
    """A block: numbers of all windows, of labelled and of unseen ones, and the candidates."""

    windows: int
    taken: int
    unseen: int
    candidates: Candidates


def candidates(
    model: ModelFile,
    scenes: Sequence[Imagery],
    occupied: Sequence[Occupied],
    rules: ChipRules,
    *,
    progress: Progress | None = None,
) -> Iterator[SearchedBlock]:
    """Go through the windows of a lattice over scenes, block by block, the next one read ahead.

    Windows that overlap labelled areas are left out, and those that cannot be a chip around
    their centre pixel: too few valid pixels, too cloudy, or no data at that pixel.

    Args:
        model: model that gives features and classes of windows.
        scenes: scenes with the model's bands; DN are converted to its sensor.
        occupied: labelled areas in each scene.
        rules: side, step (None: the side), and the share of a window that must be valid.
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
        yield _searched(
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


def _searched(
    model: ModelFile,
    scene: Imagery,
    block: Window,
    pixels: Block,
    *,
    number: int,
    occupied: Occupied,
    rules: ChipRules,
) -> SearchedBlock:
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
        parts.append(features_and_probabilities(model, rescaled(stack, scene.sensor, wanted), seen))
    none = empty(model.network.head.in_features, len(model.contract.classes))
    parts.insert(0, (none.features, none.probabilities))
    features, probabilities = (np.concatenate(column) for column in zip(*parts, strict=True))
    return SearchedBlock(
        good.size,
        int((~free).sum()),
        int((~good).sum()),
        Candidates(
            np.full(len(corners), number, np.int64),
            corners + np.array([block.row, block.col]),
            features,
            probabilities,
        ),
    )


def empty(width: int, classes: int) -> Candidates:
    """No candidates, for a number of features and of classes."""
    zero = np.zeros(0, np.int64)
    return Candidates(
        zero, zero.reshape(0, 2), np.zeros((0, width), np.float32), np.zeros((0, classes))
    )


def seen_squares(valid: Bools, cloudy: Bools, rules: ChipRules) -> Bools:
    """Squares, by their upper left pixel, that a point in their centre pixel would get as a chip.

    Args:
        valid: validity of a block [C,h,w].
        cloudy: cloudy pixels [h,w].
        rules: side of a square, and how much of it must be seen.
    """
    share, half = valid.mean(axis=0), rules.chip_px // 2
    good = sight_of(share, cloudy, rules).good
    inner = np.s_[half : half + good.shape[0], half : half + good.shape[1]]
    return np.asarray(good & (share[inner] > 0) & ~cloudy[inner])


def features_and_probabilities(
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
    probabilities = softmax(logits.double().cpu().numpy(), float(network.temperature))
    return features.cpu().numpy(), probabilities


def normalised_entropy(probabilities: Floats) -> Float64s:
    """Uncertainty [n] of class probabilities [n, K]: Shannon entropy over log K, from 0 to 1.

    >>> normalised_entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).tolist()
    [1.0, 0.0]
    """
    p = np.asarray(probabilities, dtype=np.float64)
    terms = p * np.log(np.where(p > 0, p, 1.0))
    return np.asarray(np.abs(terms.sum(axis=1)) / np.log(max(p.shape[1], 2)))


def most_uncertain(uncertainty: Floats, most: int) -> Int64s:
    """Rows of the most uncertain, in rising order; of equals the first.

    >>> most_uncertain(np.array([0.1, 0.9, 0.5, 0.9]), 2).tolist()
    [1, 3]
    """
    return np.sort(np.argsort(-uncertainty, kind="stable")[:most])


def choose(
    features: Floats,
    uncertainty: Floats,
    training_distances: Floats,
    boxes: Floats,
    inside: Bools,
    *,
    n: int,
    seed: int = 0,
) -> Int64s:
    """Rows of up to n windows, in the order chosen: those inside first, then the others.

    Each time the window with the largest product of uncertainty and distance to the
    training tiles and the windows chosen before is chosen. Windows that overlap a
    chosen one are excluded. The seed decides between equals.

    Args:
        features: features of the windows [m, D].
        uncertainty: uncertainty of each [m].
        training_distances: distance of each to the nearest training tile's features [m].
        boxes: left, bottom, right, top in the reference system [m, 4].
        inside: windows in the area of applicability, bool [m].
        n: number of windows wanted.
        seed: seed of the order among equals.

    >>> places = np.array([[0.0, 0, 1, 1], [0, 0, 1, 1], [5, 0, 6, 1]])
    >>> rows, sure = np.array([[0.0], [0.1], [3.0]]), np.array([0.9, 0.8, 0.5])
    >>> choose(rows, sure, np.array([1.0, 1.0, 1.0]), places, np.ones(3, bool), n=3).tolist()
    [0, 2]
    """
    tied = np.random.default_rng(seed).permutation(len(features))
    rows = np.asarray(features, dtype=np.float64)[tied]
    weight, nearest, places = (
        uncertainty[tied],
        training_distances[tied].astype(np.float64),
        boxes[tied],
    )
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
    """Which boxes [m, 4] overlap one box; edges may touch.

    >>> meeting(np.array([0.0, 0, 1, 1]), np.array([[0.5, 0, 1.5, 1], [1, 0, 2, 1]])).tolist()
    [True, False]
    """
    slack = _SLACK * (box[2:] - box[:2])
    over = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    return np.asarray((over > slack).all(axis=1))
