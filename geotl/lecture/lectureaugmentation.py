"""Augmentation shown: what it makes of a tile, whether it keeps its promises, what it changes."""

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
from geotl.experiments.draws import Draw, Source
from geotl.lecture.explicit import definition, pairs
from geotl.lecture.lecturepanels import Effect, Finding, Pictures, Shown
from geotl.lecture.recipes import Varied
from geotl.lecture.samples import Learnt, compared, draw, learn, network, sample, settings_of
from geotl.models.classifier import TileClassifier
from geotl.training.augment import Augmentation, augment
from geotl.training.batches import derived_seed

ZERO_DN = 1000.0  # of Sentinel-2 since baseline 04.00: brightness scales from there


def augmentation(numbers: Varied) -> Shown:
    """What an augmentation makes of a tile, whether it keeps its promises, and what it changes."""
    source, first = sample(numbers.region, numbers.bands), draw(numbers, 0)
    kind = Augmentation(**numbers.augment.model_dump(), zero_dn=ZERO_DN)
    harm = numbers.judge or numbers.augment
    altered = Augmentation(**harm.model_dump(), zero_dn=ZERO_DN)
    tile = _first_of(source, first, numbers.shown)
    images, captions = drawn_tiles(source, first, kind, tile=tile, seed=numbers.seed)
    promise = promises(source, first, kind)
    arms: list[list[Learnt]] = [[], []]
    robust = np.zeros((2, numbers.seeds))
    for number in range(numbers.seeds):
        rows, seed = draw(numbers, number), numbers.seed + number
        start = network(source, rows.split.train, numbers, seed)
        plain = settings_of(numbers, seed)
        for side, settings in enumerate((plain, replace(plain, augmentation=kind))):
            learnt = learn(start, source, rows, settings)
            arms[side].append(learnt)
            robust[side, number] = altered_accuracy(learnt.last, source, rows, altered, seed)
    found = Effect.of(*robust)
    judged, train = compared(arms, "judged"), compared(arms, "train")
    findings = {
        "promise": promise,
        "robust": Finding(found.rises, found.words("accuracy on judged tiles altered alike")),
        "definition": definition(train, judged),
    }
    names = ("judged tiles, altered", "judged tiles, as they are", "training tiles")
    effects = (found, judged, train)
    panels = (
        Pictures("one tile, as it is and in eight draws", tuple(images), tuple(captions)),
        pairs("accuracy without and with it", names, effects),
    )
    values = {n: e.values() for n, e in zip(("altered", "judged", "train"), effects, strict=True)}
    return Shown(findings, values, panels)


def _first_of(source: Source, rows: Draw, name: str) -> int:
    """Position among the training tiles of the first one of a class.

    Raises:
        RecipeError: there is no such class.
    """
    classes = source.index.classes
    if name not in classes:
        raise RecipeError(f"shown: given {name}; {nearest(name, classes)}")
    return int(np.flatnonzero(source.labels[rows.split.train] == classes.index(name))[0])


def altered_accuracy(
    model: TileClassifier, source: Source, rows: Draw, kind: Augmentation, seed: int
) -> float:
    """Accuracy on the judged tiles after an alteration, the same one for a seed."""
    part, right = rows.split.test, 0
    fill = model.normalise.fill.numpy().astype(np.float64)
    generator = torch.Generator().manual_seed(derived_seed(seed, 0, 0))
    model.eval()
    for start in range(0, len(part), 128):
        some = part[start : start + 128]
        held = batch(source.pack, some, fill=fill)
        sd, blank = model.normalise.sd, model.normalise.fill
        held = augment(held, kind, generator, band_sd=sd, fill=blank)
        with torch.inference_mode():
            said = model(held["image"]).argmax(1).numpy()
        right += int((said == source.labels[some]).sum())
    return right / len(part)


def promises(source: Source, rows: Draw, kind: Augmentation) -> Finding:
    """Whether an augmentation of a batch keeps what the toolkit promises of it."""
    some = rows.split.train[:32]
    own = statistics(source.pack, rows.split.train)
    held = batch(source.pack, some, fill=own.fill)
    before, fill = held["image"], torch.from_numpy(own.fill).float()
    sd = torch.from_numpy(own.sd).float()
    held["valid"] = held["valid"].expand(before.shape).clone()
    held["valid"][:, :, :2, :2] = False  # a corner that is no data
    known = held["valid"]
    generator = torch.Generator().manual_seed(0)
    after = augment(held, kind, generator, band_sd=sd, fill=fill)
    image, valid = after["image"], after["valid"]
    share = float((valid.float().mean((1, 2, 3)) / known.float().mean((1, 2, 3))).min())
    if kind.noise > 0:
        return _noise_promise(before, image, valid, sd * kind.noise)
    if kind.resamples:
        return Finding(
            image.shape == before.shape and share >= 0.8,
            f"the size stays {image.shape[-1]} px, at least {share:.0%} of each tile's pixels stay "
            f"valid, {'invented corners are marked and filled' if share < 1 else 'none invented'}",
        )
    if kind.erase > 0 or kind.band_dropout > 0:
        blank = torch.where(valid, 0.0, image - fill.view(1, -1, 1, 1))[:, :, 2:, 2:]
        return Finding(
            float(blank.abs().max()) == 0,
            f"what is taken away is marked and holds the training mean; down to {share:.0%} of a "
            "tile is left",
        )
    if kind.flips or kind.quarter_turns:
        alike = all(
            torch.equal(a.flatten().sort().values, b.flatten().sort().values)
            for a, b in zip(before, image, strict=True)
        )
        return Finding(alike, "pixels move and none changes, bit for bit")
    same = torch.equal(image[~valid], before[~valid])
    changed = float((image - before)[valid].abs().mean() / sd.mean())
    return Finding(
        same and changed > 0,
        f"valid pixels change by {changed:.2f} sd on average, invalid ones not at all",
    )


def _noise_promise(before: Tensor, image: Tensor, valid: Tensor, wanted: Tensor) -> Finding:
    """The noise's sd against the configured one, band by band; invalid pixels untouched."""
    added = torch.where(valid, image - before, torch.zeros(()))
    count = valid.float().sum((0, 2, 3))
    ratio = (added.square().sum((0, 2, 3)) / count).sqrt() / wanted
    worst = float((ratio - 1).abs().max())
    same = torch.equal(image[~valid], before[~valid])
    return Finding(
        same and worst < 0.02,
        f"its sd is the configured one to {worst:.1%} in every band; invalid pixels "
        f"{'stay' if same else 'change'}",
    )


DEMONSTRATIONS: Mapping[str, Callable[[Any], Shown]] = {"augmentation": augmentation}
