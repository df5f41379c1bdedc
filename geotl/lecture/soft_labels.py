"""Softened labels shown: label smoothing makes a network modest, mixup makes it forget.

Both are measured on what theory says of them: label smoothing moves the cost's minimum away from
certainty (Szegedy et al. 2016; Müller et al. 2019), and mixup keeps a network from reproducing
wrong labels (Zhang et al. 2018).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import log_softmax, softmax

from geotl.arrays import Float64s, Int64s
from geotl.errors import RecipeError
from geotl.evaluation.evaluate import reliability
from geotl.experiments.augmentation_preview import drawn_tiles
from geotl.lecture.augmentations import PLAIN, SIDES, both_of, grouped
from geotl.lecture.figures import ClaimResult, Lines, MeanChange, Panel, Pictures, Series, Shown
from geotl.lecture.recipes import Softened
from geotl.lecture.samples import draw, network, plain_training, sample_of, trained
from geotl.lecture.texts import Both
from geotl.training.learner import Tiles
from geotl.training.settings import Training
from geotl.training.strategies import predict_rows

Change = Callable[[Training], Training]


@dataclass(frozen=True)
class Answers:
    """Logits of a trained network on training tiles [n, K] and test tiles [m, K], with labels.

    Attributes:
        train: logits of the training tiles.
        given: the labels that were trained on [n], some of them wrong.
        wrong: positions of the wrong ones.
        test: logits of the test tiles.
        truth: their labels [m].
    """

    train: Float64s
    given: Int64s
    wrong: Int64s
    test: Float64s
    truth: Int64s

    @property
    def figures(self) -> dict[str, float]:
        """What is compared between trainings."""
        right = float(np.mean(self.test.argmax(1) == self.truth))
        fitted = self.train.argmax(1) == self.given
        probabilities = softmax(self.test, axis=1)
        return {
            "train": float(np.mean(fitted)),
            "test": right,
            "gap": float(np.mean(fitted)) - right,
            "memorised": float(np.mean(fitted[self.wrong])) if len(self.wrong) else 0.0,
            "confidence": float(probabilities.max(1).mean()),
            "calibration": reliability(probabilities, self.truth).error,
            "cost_gap": cost(self.test, self.truth) - cost(self.train, self.given),
        }


def cost(logits: Float64s, labels: Int64s) -> float:
    """Mean cross-entropy with whole labels.

    >>> round(cost(np.zeros((2, 4)), np.array([0, 3])), 3)  # log 4
    1.386
    """
    rows = np.arange(len(labels))
    return float(-log_softmax(logits.astype(np.float64), axis=1)[rows, labels].mean())


def mislabelled(labels: Int64s, share: float, classes: int, *, seed: int) -> tuple[Int64s, Int64s]:
    """Labels of which a share is wrong, each of another class at random; positions of these.

    >>> given, wrong = mislabelled(np.zeros(10, int), 0.2, 3, seed=0)
    >>> len(wrong), int((given != 0).sum())
    (2, 2)
    """
    random = np.random.default_rng([seed, 1])
    wrong = np.sort(random.permutation(len(labels))[: round(share * len(labels))])
    given = labels.copy()
    given[wrong] = (labels[wrong] + random.integers(1, classes, len(wrong))) % classes
    return given, wrong


def answers(numbers: Softened, change: Change) -> tuple[list[Answers], list[Answers]]:
    """Trainings without and with a change, a pair for each seed, on the same labels."""
    source = sample_of(numbers)
    pairs: tuple[list[Answers], list[Answers]] = ([], [])
    for number in range(numbers.seeds):
        rows, seed = draw(numbers, number).split, numbers.seed + number
        labels, classes = source.labels[rows.train], len(source.index.classes)
        given, wrong = mislabelled(labels, numbers.wrong, classes, seed=seed)
        start = network(source, rows.train, numbers, seed)
        plain = plain_training(numbers, seed)
        for side, training in zip(pairs, (plain, change(plain)), strict=True):
            model = trained(start, Tiles(source.pack, rows.train, given), training)
            train, test = (
                predict_rows(model, source.pack, part, precision="float32").astype(np.float64)
                for part in (rows.train, rows.test)
            )
            side.append(Answers(train, given, wrong, test, source.labels[rows.test]))
    return pairs


def effects_of(pairs: tuple[list[Answers], list[Answers]]) -> dict[str, MeanChange]:
    """The change of each figure."""
    off, on = ([one.figures for one in side] for side in pairs)
    return {name: MeanChange.of(*([one[name] for one in s] for s in (off, on))) for name in off[0]}


def definition(effects: Mapping[str, MeanChange]) -> ClaimResult:
    """The lecture's definition of a regulariser, on test tiles as they are."""
    test, train = effects["test"], effects["train"]
    return ClaimResult(
        test.rises and not train.rises,
        both_of(
            test.both(
                Both(
                    fr="L'exactitude au test passe de",
                    en="The test accuracy goes from",
                )
            ),
            train.both(
                Both(
                    fr="L'exactitude à l'entraînement passe de",
                    en="The training accuracy goes from",
                )
            ),
        ),
    )


def label_smoothing(numbers: Softened) -> Shown:
    """A network that overfits its few labels, without and with label smoothing.

    Raises:
        RecipeError: a smoothing of 1 or more.
    """
    if numbers.value >= 1:
        raise RecipeError(f"value: given {numbers.value:g}; allowed: a smoothing below 1")
    pairs = answers(numbers, lambda plain: plain.changed(label_smoothing=numbers.value))
    effects = effects_of(pairs)
    sure, error, gap = (effects[name] for name in ("confidence", "calibration", "cost_gap"))
    findings = {
        "confident": ClaimResult(
            sure.falls,
            sure.both(
                Both(
                    fr="La confiance moyenne au test passe de",
                    en="The mean confidence on test tiles goes from",
                )
            ),
        ),
        "calibrated": ClaimResult(
            error.falls,
            error.both(
                Both(
                    fr="L'erreur de calibration au test passe de",
                    en="The calibration error on test tiles goes from",
                )
            ),
        ),
        "gap": ClaimResult(
            gap.falls,
            gap.both(
                Both(
                    fr="La perte au test moins la perte à l'entraînement passe de",
                    en="The test cost minus the training cost goes from",
                )
            ),
        ),
        "definition": definition(effects),
    }
    panels = (calibration_panel(pairs, error), modesty_panel(effects))
    return Shown(findings, {name: one.values() for name, one in effects.items()}, panels)


def calibration_panel(pairs: tuple[list[Answers], list[Answers]], error: MeanChange) -> Lines:
    """Share of correct tiles by stated confidence, of all seeds together."""
    series = []
    for name, side in zip(SIDES, pairs, strict=True):
        probabilities = np.concatenate([softmax(one.test, axis=1) for one in side])
        bins = reliability(probabilities, np.concatenate([one.truth for one in side]), bins=8)
        many = bins.count >= 10
        series.append(Series(name, bins.confidence[many], bins.accuracy[many]))
    series.append(Series(Both(fr="juste", en="right"), [0, 1], [0, 1], dashed=True))
    return Lines(
        error.changes(Both(fr="L'erreur de calibration", en="The calibration error")),
        Both(fr="confiance annoncée", en="stated confidence"),
        Both(fr="part de tuiles justes", en="share of correct tiles"),
        tuple(series),
        percent=True,
        limits=(0.0, 1.0),
    )


def modesty_panel(effects: Mapping[str, MeanChange]) -> Panel:
    """Mean confidence beside accuracy on the test tiles."""
    sure, right = effects["confidence"], effects["test"]
    return grouped(
        sure.changes(Both(fr="La confiance", en="The confidence")),
        (Both(fr="confiance", en="confidence"), Both(fr="exactitude", en="accuracy")),
        {
            side: np.stack([getattr(one, name) for one in (sure, right)])
            for side, name in zip(SIDES, ("off", "on"), strict=True)
        },
        Both(fr="tuiles de test", en="test tiles"),
    )


def mixup(numbers: Softened) -> Shown:
    """A share of the training labels is wrong; how many of them the network reproduces."""
    mixed = PLAIN.model_copy(update={"mixup": numbers.value})
    effects = effects_of(answers(numbers, lambda plain: replace(plain, augmentation=mixed)))
    memorised, gap = effects["memorised"], effects["gap"]
    findings = {
        "memorise": ClaimResult(
            memorised.falls,
            memorised.both(
                Both(
                    fr="La part des étiquettes fausses que le réseau reproduit passe de",
                    en="The share of wrong labels that the network reproduces goes from",
                )
            ),
        ),
        "gap": ClaimResult(
            gap.falls,
            gap.both(
                Both(
                    fr="L'exactitude à l'entraînement moins celle au test passe de",
                    en="The training accuracy minus the test accuracy goes from",
                )
            ),
        ),
        "definition": definition(effects),
    }
    names = (
        Both(fr="étiquettes fausses reproduites", en="wrong labels reproduced"),
        Both(fr="exactitude, entraînement", en="training accuracy"),
        Both(fr="exactitude, test", en="test accuracy"),
    )
    chosen = (memorised, effects["train"], effects["test"])
    panel = grouped(
        memorised.changes(Both(fr="La part reproduite", en="The share reproduced")),
        names,
        {
            side: np.stack([getattr(one, name) for one in chosen])
            for side, name in zip(SIDES, ("off", "on"), strict=True)
        },
        Both(fr="part", en="share"),
    )
    values = {name: one.values() for name, one in effects.items()}
    return Shown(findings, values, (mixed_tiles(numbers), panel))


def mixed_tiles(numbers: Softened) -> Pictures:
    """A training tile, and mixes of it with others of its batch."""
    kind = PLAIN.model_copy(update={"mixup": numbers.value})
    source, rows = sample_of(numbers), draw(numbers, 0)
    images, captions = drawn_tiles(source, rows, kind, tile=0, seed=numbers.seed)
    shares = [re.search(r"(\d+)%", caption) for caption in captions]
    return Pictures(
        Both(fr="une tuile et ses mélanges", en="a tile and its mixes"),
        tuple(images),
        tuple(
            Both(fr=f"{found[1]} % d'elle-même", en=f"{found[1]} % of itself")
            if found
            else Both(fr="telle quelle", en="as it is")
            for found in shares
        ),
    )


SOFT_LABELS: Mapping[str, Callable[[Any], Shown]] = {
    "label_smoothing": label_smoothing,
    "mixup": mixup,
}
