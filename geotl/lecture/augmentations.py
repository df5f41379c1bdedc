"""Augmentation shown: what it makes of a tile, what it promises, and what it gains.

Training and test tiles differ in what the augmentation varies: rows of fields from north to south
and in other directions, a sharp sensor and a blurred one. The network is trained without and with
the augmentation, from the same first weights and in the same order of batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geotl.arrays import Float64s, UInt8s
from geotl.data.tile_array import Statistics, batch, statistics
from geotl.errors import RecipeError, nearest
from geotl.experiments.augmentation_preview import LIKE, drawn_tiles
from geotl.experiments.draws import Draw
from geotl.experiments.samples import TileSamples
from geotl.lecture.fields import fields
from geotl.lecture.figures import Bars, ClaimResult, MeanChange, Pictures, Shown, sd_of
from geotl.lecture.recipes import Remedies, Shift, Varied
from geotl.lecture.samples import (
    accuracy,
    draw,
    network,
    plain_training,
    sample_of,
    tiles_of,
    trained,
)
from geotl.lecture.shifts import shifted
from geotl.lecture.texts import Both
from geotl.reporting.rendering import quicklook, stretch_limits
from geotl.training.augment import augment, check_order
from geotl.training.learner import Tiles
from geotl.training.settings import Augmentation, Light

AS_THEY_ARE = Both(fr="tuiles de test, telles quelles", en="test tiles, as they are")
TRAINING = Both(fr="tuiles d'entraînement", en="training tiles")
PLACES = 3  # changed test tiles, test tiles as they are, training tiles
ACCURACY = Both(fr="exactitude", en="accuracy")
SIDES = (Both(fr="sans", en="without"), Both(fr="avec", en="with"))
PLAIN = Augmentation(flips=False, quarter_turns=False)


@dataclass(frozen=True)
class Setting:
    """Tiles of one seed: where a network is trained, and two places where it is tested."""

    source: TileSamples
    rows: Draw
    stats: Statistics
    elsewhere: Tiles
    as_they_are: Tiles


def setting(numbers: Varied, number: int) -> Setting:
    """The tiles of one repetition; training tiles and test tiles are of other sites."""
    seed = numbers.seed + number
    if numbers.tiles == "fields":
        wanted = numbers.bands, numbers.shots, numbers.test_tiles
        source, rows = fields(*wanted, (0.0, 0.0), seed=seed)
        turned, _ = fields(*wanted, numbers.shift.rows_deg, seed=seed)
    else:
        source, rows = sample_of(numbers), draw(numbers, number)
        turned = source
    stats = statistics(source.pack, rows.split.train)
    elsewhere = shifted(turned, rows.split.test, numbers.shift, stats, seed=seed)
    return Setting(source, rows, stats, elsewhere, tiles_of(source, rows.split.test))


def accuracies(numbers: Varied, kinds: Sequence[Augmentation]) -> Float64s:
    """Accuracy by augmentation, place (changed test, test, training) and seed [A, 3, seeds]."""
    table = np.zeros((len(kinds), PLACES, numbers.seeds))
    for number in range(numbers.seeds):
        place, seed = setting(numbers, number), numbers.seed + number
        train = tiles_of(place.source, place.rows.split.train)
        start = network(place.source, train.rows, numbers, seed)
        plain = replace(plain_training(numbers, seed), light=Light.of(place.source.sensor))
        for arm, kind in enumerate(kinds):
            model = trained(start, train, replace(plain, augmentation=kind))
            for at, tiles in enumerate((place.elsewhere, place.as_they_are, train)):
                table[arm, at, number] = accuracy(model, tiles)
    return table


def augmentation(numbers: Varied) -> Shown:
    """What an augmentation makes of a tile, whether it keeps its promises, and what it changes."""
    check_order(numbers.augment)
    first = setting(numbers, 0)
    table = accuracies(numbers, (PLAIN, numbers.augment))
    effects = tuple(MeanChange.of(*table[:, at]) for at in range(PLACES))
    elsewhere, as_they_are, train = effects
    place = shift_words(numbers.shift)
    findings = {
        "promise": promises(first.source, first.rows, numbers.augment),
        "robust": ClaimResult(elsewhere.rises, on_tiles(elsewhere, place)),
        "definition": definition(place, elsewhere, train),
    }
    panels = (*pictures(numbers, first), bars(place, effects))
    values = {"altered": elsewhere, "test": as_they_are, "train": train}
    return Shown(findings, {name: one.values() for name, one in values.items()}, panels)


def noise_for_blur(numbers: Remedies) -> Shown:
    """Blurred test tiles: a network trained without anything, with noise, and with blur."""
    first, noise = setting(numbers, 0), numbers.augment
    blur = PLAIN.model_copy(update={"blur": numbers.remedy_px})
    table = accuracies(numbers, (PLAIN, noise, blur))
    off, noisy, blurred = table[:, 0]
    slide, straight = MeanChange.of(off, noisy), MeanChange.of(noisy, blurred)
    remedy = MeanChange.of(off, blurred)
    findings = {
        "promise": promises(first.source, first.rows, noise),
        "robust": ClaimResult(
            slide.rises,
            on_tiles(slide, Both(fr="tuiles de test floues", en="blurred test tiles")),
        ),
        "straight": ClaimResult(
            straight.rises and remedy.rises,
            both_of(
                straight.both(
                    Both(
                        fr="Sur les tuiles floues, du bruit au flou, l'exactitude passe de",
                        en="On blurred tiles, from noise to blur, the accuracy goes from",
                    )
                ),
                remedy.both(Both(fr="Sans rien, puis avec le flou :", en="Plain, then with blur:")),
            ),
        ),
    }
    title = straight.title(Both(fr="flou au lieu de bruit", en="blur instead of noise"))
    names = (
        Both(fr="tuiles de test floues", en="blurred test tiles"),
        Both(fr="tuiles de test nettes", en="sharp test tiles"),
    )
    arms = (
        SIDES[0],
        Both(fr="avec du bruit", en="with noise"),
        Both(fr="avec du flou", en="with blur"),
    )
    panel = grouped(title, names, {arm: table[at, :2] for at, arm in enumerate(arms)}, ACCURACY)
    values = {"slide": slide, "straight": straight, "remedy": remedy}
    return Shown(
        findings,
        {name: one.values() for name, one in values.items()},
        (*pictures(numbers, first), panel),
    )


def on_tiles(effect: MeanChange, place: Both) -> Both:
    """A sentence on the accuracy in one place."""
    return effect.both(
        Both(
            fr=f"L'exactitude ({place.fr}) passe de",
            en=f"The accuracy ({place.en}) goes from",
        )
    )


def both_of(*texts: Both) -> Both:
    """Sentences one after the other."""
    return Both(fr=". ".join(text.fr for text in texts), en=". ".join(text.en for text in texts))


def shift_words(kind: Shift) -> Both:
    """The changed test tiles, in words.

    >>> shift_words(Shift(blur_px=2.0)).en
    'blurred test tiles'
    """
    words = {
        "noise": Both(fr="tuiles de test bruitées", en="noisy test tiles"),
        "blur_px": Both(fr="tuiles de test floues", en="blurred test tiles"),
        "gain": Both(fr="test sous une autre lumière", en="test in another light"),
        "part": Both(fr="parties de tuiles de test", en="parts of test tiles"),
        "gaps": Both(fr="tuiles de test nuageuses", en="cloudy test tiles"),
        "rows_deg": Both(fr="test, rangs tournés", en="test, rows turned"),
    }
    usual = Shift()
    differs = [name for name in words if getattr(kind, name) != getattr(usual, name)]
    return words[differs[0]] if differs else AS_THEY_ARE


def definition(place: Both, test: MeanChange, train: MeanChange) -> ClaimResult:
    """The lecture's definition of a regulariser: the test error falls, the training error not."""
    return ClaimResult(
        test.rises and not train.rises,
        both_of(on_tiles(test, place), on_tiles(train, TRAINING)),
    )


def bars(place: Both, effects: Sequence[MeanChange]) -> Bars:
    """Accuracies without and with it, by place; the first one's effect is the title."""
    table = {
        side: np.stack([getattr(one, name) for one in effects])
        for side, name in zip(SIDES, ("off", "on"), strict=True)
    }
    return grouped(effects[0].title(place), (place, AS_THEY_ARE, TRAINING), table, ACCURACY)


def grouped(
    title: Both, names: tuple[Both, ...], table: Mapping[Both, Float64s], label: Both
) -> Bars:
    """Means of each arm [places, seeds] as bars, with sds and the means written out."""
    means = {arm: values.mean(axis=1) for arm, values in table.items()}
    return Bars(
        title,
        names,
        {arm: [float(one) for one in values] for arm, values in means.items()},
        label,
        sds={arm: [sd_of(row) for row in values] for arm, values in table.items()},
        words={arm: [f"{one:.0%}" for one in values] for arm, values in means.items()},
        percent=True,
    )


def pictures(numbers: Varied, place: Setting) -> tuple[Pictures, Pictures]:
    """A training tile over a test tile of its class, and what the augmentation makes of it."""
    source, rows = place.source, place.rows.split
    tile = _first_of(place, numbers.shown)
    drawn, _ = drawn_tiles(source, place.rows, numbers.augment, tile=tile, seed=numbers.seed)
    wanted = source.labels[rows.train[tile]]
    test = int(np.flatnonzero(place.elsewhere.labels == wanted)[0])
    ends = Pictures(
        Both(fr="ce qui change", en="what changes"),
        (drawn[0], shifted_picture(numbers, place, test)),
        (
            Both(fr="entraînement", en="training"),
            Both(fr="test", en="test"),
        ),
        columns=1,
    )
    captions = [Both(fr="telle quelle", en="as it is")]
    captions += [Both(fr=f"tirage {n}", en=f"draw {n}") for n in range(1, len(drawn))]
    previews = Pictures(
        Both(fr="ce que l'augmentation en fait", en="what the augmentation makes of it"),
        tuple(drawn),
        tuple(captions),
    )
    return ends, previews


def shifted_picture(numbers: Varied, place: Setting, position: int) -> UInt8s:
    """A changed test tile [S, S, 3], stretched like the training tiles."""
    rows, pack = place.rows.split.train, place.source.pack
    some = np.random.default_rng(numbers.seed).permutation(rows)[:LIKE]
    like = batch(pack, some, fill=place.stats.fill)
    rgb = place.source.rgb
    limits = stretch_limits(like["image"].numpy(), like["valid"].numpy(), rgb)
    block = batch(place.elsewhere.pack, [position], fill=place.stats.fill)
    return quicklook(block["image"][0].numpy(), block["valid"][0].numpy(), rgb, limits)


def _first_of(place: Setting, name: str) -> int:
    """Position among the training tiles of the first one of a class.

    Raises:
        RecipeError: there is no such class.
    """
    classes, train = place.source.index.classes, place.rows.split.train
    if name not in classes:
        raise RecipeError(f"shown: given {name}; {nearest(name, classes)}")
    return int(np.flatnonzero(place.source.labels[train] == classes.index(name))[0])


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
            Both(
                fr=f"La taille reste de {image.shape[-1]} px. Au moins {100 * share:.0f} % des "
                "pixels de chaque tuile restent valides, et ce qui est inventé est marqué",
                en=f"The size stays {image.shape[-1]} px. At least {share:.0%} of each tile's "
                "pixels stay valid, and what is invented is marked",
            ),
        )
    if kind.erase > 0 or kind.band_dropout > 0:
        blank = torch.where(valid, 0.0, image - fill.view(1, -1, 1, 1))[:, :, 2:, 2:]
        return ClaimResult(
            float(blank.abs().max()) == 0,
            Both(
                fr="Ce qui est effacé est marqué et prend la moyenne d'entraînement. Il reste au "
                f"moins {100 * share:.0f} % d'une tuile",
                en="What is taken away is marked and takes the training mean. At least "
                f"{share:.0%} of a tile is left",
            ),
        )
    if kind.flips or kind.quarter_turns:
        alike = all(
            torch.equal(a.flatten().sort().values, b.flatten().sort().values)
            for a, b in zip(before, image, strict=True)
        )
        return ClaimResult(
            alike,
            Both(
                fr="Les pixels se déplacent, et aucun ne change, au bit près",
                en="Pixels move and none changes, bit for bit",
            ),
        )
    same = torch.equal(image[~valid], before[~valid])
    changed = float((image - before)[valid].abs().mean() / sd.mean())
    return ClaimResult(
        same and changed > 0,
        Both(
            fr=f"Les pixels valides changent de {changed:.2f} écart-type en moyenne, les autres "
            "pas du tout",
            en=f"Valid pixels change by {changed:.2f} sd on average, invalid ones not at all",
        ),
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
        Both(
            fr=f"L'écart-type du bruit est celui demandé, à {100 * worst:.1f} % près par bande. "
            f"Les pixels invalides {'restent invalides' if same else 'changent'}",
            en=f"The noise's sd is the configured one to {worst:.1%} in every band. Invalid pixels "
            f"{'stay invalid' if same else 'change'}",
        ),
    )


AUGMENTATIONS: Mapping[str, Callable[[Any], Shown]] = {
    "augmentation": augmentation,
    "noise_for_blur": noise_for_blur,
}
