"""Augmentation shown: what it makes of a tile, what it promises, and what it gains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geotl.data.tile_array import batch, statistics
from geotl.errors import RecipeError, nearest
from geotl.experiments.augmentation_preview import drawn_tiles
from geotl.experiments.draws import Draw
from geotl.experiments.samples import TileSamples
from geotl.lecture.explicit import definition, pairs
from geotl.lecture.figures import ClaimResult, MeanChange, Pictures, Shown
from geotl.lecture.recipes import Varied
from geotl.lecture.samples import (
    TrainedNetwork,
    compared,
    draw,
    learn,
    network,
    plain_training,
    sample_of,
)
from geotl.models.classifier import TileClassifier
from geotl.training.augment import augment, check_order
from geotl.training.batches import derived_seed
from geotl.training.settings import Augmentation, Light


def augmentation(numbers: Varied) -> Shown:
    """What an augmentation makes of a tile, whether it keeps its promises, and what it changes."""
    source, first = sample_of(numbers), draw(numbers, 0)
    kind, altered = numbers.augment, numbers.judge or numbers.augment
    for one in (kind, altered):
        check_order(one)
    tile = _first_of(source, first, numbers.shown)
    images, captions = drawn_tiles(source, first, kind, tile=tile, seed=numbers.seed)
    promise = promises(source, first, kind)
    arms: list[list[TrainedNetwork]] = [[], []]
    robust = np.zeros((2, numbers.seeds))
    for number in range(numbers.seeds):
        rows, seed = draw(numbers, number), numbers.seed + number
        start = network(source, rows.split.train, numbers, seed)
        plain = plain_training(numbers, seed)
        varied = replace(plain, augmentation=kind, light=Light.of(source.sensor))
        for side, training in enumerate((plain, varied)):
            fit = learn(start, source, rows, training)
            arms[side].append(fit)
            robust[side, number] = altered_accuracy(fit.last, source, rows, altered, seed)
    robustness = MeanChange.of(*robust)
    test, train = compared(arms, "test"), compared(arms, "train")
    findings = {
        "promise": promise,
        "robust": ClaimResult(
            robustness.rises, robustness.words("accuracy on test tiles altered alike")
        ),
        "definition": definition(train, test),
    }
    names = ("test tiles, altered", "test tiles, as they are", "training tiles")
    effects = (robustness, test, train)
    panels = (
        Pictures("one tile, as it is and in eight draws", tuple(images), tuple(captions)),
        pairs("accuracy without and with it", names, effects),
    )
    values = {n: e.values() for n, e in zip(("altered", "judged", "train"), effects, strict=True)}
    return Shown(findings, values, panels)


def _first_of(source: TileSamples, rows: Draw, name: str) -> int:
    """Position among the training tiles of the first one of a class.

    Raises:
        RecipeError: there is no such class.
    """
    classes = source.index.classes
    if name not in classes:
        raise RecipeError(f"shown: given {name}; {nearest(name, classes)}")
    return int(np.flatnonzero(source.labels[rows.split.train] == classes.index(name))[0])


def altered_accuracy(
    model: TileClassifier, source: TileSamples, rows: Draw, kind: Augmentation, seed: int
) -> float:
    """Accuracy on the test tiles after an alteration, the same one for a seed."""
    part, right = rows.split.test, 0
    fill = model.normalise.fill.numpy().astype(np.float64)
    generator = torch.Generator().manual_seed(derived_seed(seed, 0, 0))
    model.eval()
    for start in range(0, len(part), 128):
        sample = part[start : start + 128]
        block = batch(source.pack, sample, fill=fill)
        sd, blank = model.normalise.sd, model.normalise.fill
        block = augment(
            block, kind, generator, band_sd=sd, fill=blank, light=Light.of(source.sensor)
        )
        with torch.inference_mode():
            predicted = model(block["image"]).argmax(1).numpy()
        right += int((predicted == source.labels[sample]).sum())
    return right / len(part)


def promises(source: TileSamples, rows: Draw, kind: Augmentation) -> ClaimResult:
    """Whether an augmentation of a batch keeps what the toolkit promises of it."""
    sample = rows.split.train[:32]
    stats = statistics(source.pack, rows.split.train)
    block = batch(source.pack, sample, fill=stats.fill)
    before, fill = block["image"], torch.from_numpy(stats.fill).float()
    sd = torch.from_numpy(stats.sd).float()
    block["valid"] = block["valid"].expand(before.shape).clone()
    block["valid"][:, :, :2, :2] = False  # a corner that is no data
    mask = block["valid"]
    generator = torch.Generator().manual_seed(0)
    after = augment(block, kind, generator, band_sd=sd, fill=fill, light=Light.of(source.sensor))
    image, valid = after["image"], after["valid"]
    share = float((valid.float().mean((1, 2, 3)) / mask.float().mean((1, 2, 3))).min())
    if kind.noise > 0:
        return _noise_promise(before, image, valid, sd * kind.noise)
    if kind.resamples or kind.kornia:
        return ClaimResult(
            image.shape == before.shape and (share >= 0.8 or len(kind.kornia) > 0),
            f"the size stays {image.shape[-1]} px, at least {share:.0%} of each tile's pixels stay "
            f"valid, {'invented corners are marked and filled' if share < 1 else 'none invented'}",
        )
    if kind.erase > 0 or kind.band_dropout > 0:
        blank = torch.where(valid, 0.0, image - fill.view(1, -1, 1, 1))[:, :, 2:, 2:]
        return ClaimResult(
            float(blank.abs().max()) == 0,
            f"what is taken away is marked and holds the training mean; down to {share:.0%} of a "
            "tile is left",
        )
    if kind.flips or kind.quarter_turns:
        alike = all(
            torch.equal(a.flatten().sort().values, b.flatten().sort().values)
            for a, b in zip(before, image, strict=True)
        )
        return ClaimResult(alike, "pixels move and none changes, bit for bit")
    same = torch.equal(image[~valid], before[~valid])
    changed = float((image - before)[valid].abs().mean() / sd.mean())
    return ClaimResult(
        same and changed > 0,
        f"valid pixels change by {changed:.2f} sd on average, invalid ones not at all",
    )


def _noise_promise(before: Tensor, image: Tensor, valid: Tensor, expected: Tensor) -> ClaimResult:
    """The noise's sd against the configured one, band by band; invalid pixels untouched."""
    added = torch.where(valid, image - before, torch.zeros(()))
    count = valid.float().sum((0, 2, 3))
    ratio = (added.square().sum((0, 2, 3)) / count).sqrt() / expected
    worst = float((ratio - 1).abs().max())
    same = torch.equal(image[~valid], before[~valid])
    return ClaimResult(
        same and worst < 0.02,
        f"its sd is the configured one to {worst:.1%} in every band; invalid pixels "
        f"{'stay' if same else 'change'}",
    )


AUGMENTATIONS: Mapping[str, Callable[[Any], Shown]] = {"augmentation": augmentation}
