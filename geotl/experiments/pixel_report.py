"""Results of a run of task pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from geotl.arrays import Bools, Floats, Int64s
from geotl.console import aligned
from geotl.data.labels import reason_counts
from geotl.evaluation.calibration import distrust
from geotl.evaluation.evaluate import Evaluation, plain
from geotl.evaluation.metrics import Interval
from geotl.evaluation.pixel_steps import near_words
from geotl.evaluation.weighted import WeightedRows, weighted_accuracies, weighted_differences
from geotl.experiments.draws import Draw
from geotl.experiments.label_doubts import DOUBTFUL, LabelDoubts
from geotl.experiments.pixel_samples import PixelSamples
from geotl.experiments.recipe import Recipe
from geotl.experiments.results import Answers, folds_words
from geotl.experiments.run_sets import SETS, RunSets
from geotl.experiments.save import versions
from geotl.language import capital, joined, msg, numeral
from geotl.models.pixel_model import title_of
from geotl.training.pixel_fusion import PixelFusion

FUSED, MAJORITY = msg("fused"), msg("majority class")
FOREST, LAB = title_of("forest_bands"), msg("forest, bands + 3x3 and 5x5")
RANDOM = msg("random split, optimistic")
RANDOM_WEIGHTS = msg("discriminant, deep at random")


@dataclass(frozen=True)
class FoldResult:
    """One fold, fitted and tested.

    Attributes:
        draw: its split.
        predicted: classes of the test pixels [n], by method.
        training: accuracy on the training pixels, by method, each label counting once.
        logits: of the fused model before its temperature [n,K].
        temperature: of the fused model.
        seconds: that fitting took, by method.
        accuracy: of the fused model, each label counting once.
        labels: for training and for testing.
        near: training labels within the features' windows of a test pixel.
        lacking: classes that are tested without a training label.
    """

    draw: Draw
    predicted: Mapping[str, Int64s]
    training: Mapping[str, float]
    logits: Floats
    temperature: float
    seconds: Mapping[str, float]
    accuracy: float
    labels: tuple[int, int]
    near: int
    lacking: tuple[str, ...]

    def line(self, folds: int) -> str:
        """How it went, in a line."""
        train, test = self.labels
        lost = f"; no training label of {', '.join(self.lacking)}" if self.lacking else ""
        return (
            f"fold {self.draw.number + 1}/{folds}: {self.accuracy:.1%} of {test} test labels "
            f"correct, {train} training labels{lost} ({self.seconds[FUSED]:.1f} s)"
        )


class RandomSplit(NamedTuple):
    """The fused model in folds of labels anywhere, instead of folds by place.

    Attributes:
        accuracy: with the interval of the block bootstrap.
        difference: from the accuracy in the folds by place, paired label by label.
    """

    accuracy: Interval
    difference: Interval

    @classmethod
    def of(
        cls, rows: WeightedRows, random: Bools, spatial: Bools, chance: Mapping[str, int]
    ) -> RandomSplit:
        """From the correct rows [n] of both; `chance` is seed and rounds of the bootstrap."""
        (accuracy,) = weighted_accuracies(rows, {RANDOM: random}, **chance).values()
        (gap,) = weighted_differences(rows, random, {RANDOM: spatial}, **chance).values()
        return cls(accuracy, gap)

    def words(self) -> str:
        """What the difference means, in a sentence."""
        gap = points(self.difference)
        if self.difference.low > 0:
            return msg(
                "A random split of the same sizes gives {accuracy}, {gap}: labels near training"
                " labels are easier, so this figure is too high for the rest of the scene",
                accuracy=self.accuracy,
                gap=gap,
            )
        return msg(
            "A random split of the same sizes gives {accuracy}, {gap}: it is not clearly "
            "more optimistic than the folds",
            accuracy=self.accuracy,
            gap=gap,
        )


@dataclass(frozen=True)
class PixelOutcome:
    """Results of a run, before they are written.

    Attributes:
        recipe: resolved.
        samples: the labelled pixels.
        folds: fitted and tested, in order.
        fusion: the model that is kept, fitted on all labels or on those that `keep` chooses.
        answers: fused predictions of all folds.
        evaluation: scores of these.
        race: accuracy of every method on the same folds, with intervals over blocks.
        differences: accuracy of the fused model minus that of each other method.
        blocks: how many blocks intervals are drawn from.
        colours: of the classes.
        seconds: of the complete run, and of fitting the model that is kept.
        doubts: labels that look like another class.
        sets: prediction sets.
        random: the fused model in a random split, if the recipe wants one.
    """

    recipe: Recipe
    samples: PixelSamples
    folds: tuple[FoldResult, ...]
    fusion: PixelFusion
    answers: Answers
    evaluation: Evaluation
    race: Mapping[str, Interval]
    differences: Mapping[str, Interval]
    blocks: int
    colours: tuple[str, ...]
    seconds: tuple[float, float]
    doubts: LabelDoubts
    sets: RunSets
    random: RandomSplit | None = None

    def ranked(self) -> list[str]:
        """The methods, the most accurate first; the fused model before its equals."""
        return sorted(self.race, key=lambda name: (-round(self.race[name].value, 9), name != FUSED))

    def headline(self) -> str:
        """The first line: which method is the most accurate, by how much, and whether by chance."""
        first, second = self.ranked()[:2]
        kept = first == FUSED
        gap = self.differences[second] if kept else negative(self.differences[first])
        values = {
            "first": first,
            "second": second if kept else FUSED,
            "accuracy": self.race[first],
            "folds": self.folds_words(),
            "gap": points(gap),
        }
        if gap.low <= 0 and round(100 * gap.value, 1) == 0:
            claim = msg(
                "{first} equals {second}: accuracy {accuracy}, {folds}; {gap} over {second}",
                **values,
            )
        elif gap.low > 0:
            claim = msg("{first} wins: accuracy {accuracy}, {folds}; {gap} over {second}", **values)
        else:
            claim = msg(
                "{first} leads within chance: accuracy {accuracy}, {folds}; {gap} over {second}",
                **values,
            )
        return claim if kept else msg("{claim}, which is kept", claim=claim)

    def folds_words(self) -> str:
        """How many folds there are, and how they were laid out."""
        return folds_words(self.recipe.split.method, len(self.folds))

    def estimate(self) -> str:
        """What the accuracy is of, and what the model was fitted on."""
        values = {"folds": self.folds_words(), "labels": self.fusion.labels}
        if self.recipe.keep == "first":
            return msg(
                "Accuracy is estimated by {folds}; this model is the first fold's, fitted on "
                "{labels} "
                "labels.",
                **values,
            )
        if self.recipe.split.shots and self.recipe.keep is None:
            return msg(
                "Accuracy is estimated by {folds}; this model was fitted on {labels} labels "
                "(split.shots).",
                **values,
            )
        return msg(
            "Accuracy is estimated by {folds}; this model was fitted on all {labels} labels.",
            **values,
        )

    def seconds_of(self, method: str) -> float | None:
        """Median time of fitting a method in a fold; None for what needs no fitting."""
        times = [one.seconds[method] for one in self.folds if method in one.seconds]
        return float(np.median(times)) if times else None

    def lines(self) -> list[str]:
        """The result in a few printed lines."""
        rows = []
        for name in self.ranked():
            gap = "" if name == FUSED else points(negative(self.differences[name]))
            spent = self.seconds_of(name)
            time_s = "" if spent is None else f"{spent:.1f} s"
            rows.append((name, str(self.race[name]), gap, time_s))
        if self.random is not None:
            gap = points(self.random.difference)
            rows.append((RANDOM, str(self.random.accuracy), gap, ""))
        table = [f"  {line}" for line in aligned(rows, left=(0, 1, 2))]
        return [self.headline(), *table, *self.warnings(), self.estimate(), *self.doubts.line()]

    def warnings(self) -> tuple[str, ...]:
        """What a reader must know of the labels and the folds."""
        close = max(one.near for one in self.folds)
        lines = [*self.samples.placement.lost_classes(), *self._untrained()]
        if close:
            setting = f"split.buffer_m={self.samples.reach_m:g}"
            near = capital(near_words(close))
            lines.append(
                msg("{near}; set {setting} to exclude such labels.", near=near, setting=setting)
            )
        if self.blocks < 20:
            lines.append(msg("Intervals come from {blocks} blocks only.", blocks=self.blocks))
        doubt = distrust(self.evaluation.after, msg("test labels"))
        return (*lines, doubt) if doubt else tuple(lines)

    def _untrained(self) -> list[str]:
        """A line on classes that are tested in a fold without a training label."""
        lost = [
            msg("fold {number} {names}", number=one.draw.number + 1, names=", ".join(one.lacking))
            for one in self.folds
            if one.lacking
        ]
        if not lost:
            return []
        return [
            msg(
                "Classes tested without a training label, so counted as incorrect: {folds}.",
                folds=joined(lost, "; "),
            )
        ]

    def metrics(self, *, timed: bool = True) -> dict[str, Any]:
        """What metrics.json holds; without times, the same in every run."""
        values = self.evaluation.to_dict()
        for key in ("tiles", "baselines", "loses_to_a_baseline", "classes_with_few_tiles"):
            values.pop(key)
        placement = self.samples.placement
        values |= {
            "headline": self.headline(),
            "task": "pixels",
            "estimate": self.estimate(),
            "labels": len(placement.labels),
            "pixels": len(placement.pixels),
            "rejected": dict(Counter(one.reason for one in placement.rejected)),
            "missing_bands": list(self.samples.missing()),
            "kfold": len(self.folds),
            "blocks": self.blocks,
            "race": dict(self.race),
            "differences": dict(self.differences),
            "members": self._members(),
            "fusion_temperature": self.fusion.temperature,
            "warnings": list(self.warnings()),
            DOUBTFUL: len(self.doubts),
            SETS: self.sets.to_dict(),
        }
        if self.random is not None:
            values["random_split"] = self.random._asdict()
        if timed:
            values["seconds"] = {"all": self.seconds[0], "kept": self.seconds[1]} | {
                name: self.seconds_of(name) for name in self.race
            }
        metrics: dict[str, Any] = plain(values)
        return metrics

    def _members(self) -> dict[str, dict[str, float]]:
        return {
            name: {
                "weight": self.fusion.weights[name],
                "setting": one.setting,
                "temperature": one.temperature,
            }
            for name, one in self.fusion.members.items()
        }

    def facts(self) -> dict[str, str]:
        """What a reader wants to know of the run."""
        samples = self.samples
        return {
            msg("Recipe"): self.recipe.name,
            msg("Scenes"): ", ".join(scene.name for scene in samples.imagery),
            msg("Labels"): self._labels_words(),
            msg("Bands"): ", ".join(samples.of.bands),
            msg("Windows"): ", ".join(f"{side} px" for side in samples.of.windows_px)
            or msg("none"),
            msg("Network"): self._network(),
            **({msg("Decoder"): samples.decoders.words()} if samples.decoders else {}),
            msg("Sensor"): samples.sensor.title,
            msg("Seed"): str(self.recipe.seed),
            msg("Time"): msg("{seconds:.0f} s in all", seconds=self.seconds[0]),
            msg("Versions"): ", ".join(
                f"{name} {number}" for name, number in pixel_versions().items()
            ),
        }

    def _labels_words(self) -> str:
        """How many labels are used, and why others are not."""
        placed = self.samples.placement
        lost = Counter(one.reason for one in placed.rejected)
        values = {
            "labels": len(placed.labels),
            "pixels": len(placed.pixels),
            "lost": sum(lost.values()),
        }
        if not lost:
            return msg("{labels} used, in {pixels} pixels; {lost} rejected", **values)
        return msg(
            "{labels} used, in {pixels} pixels; {lost} rejected ({reasons})",
            **values,
            reasons=reason_counts(lost.most_common()),
        )

    def _network(self) -> str:
        """The network whose stages describe pixels, and its weights."""
        networks = self.samples.networks
        if networks is None:
            return msg("none (model.weights is none)")
        deep = networks.pretrained
        source = Path(networks.report.source).name
        return msg(
            "{name} of {source}, read after {names}",
            name=deep.backbone.name,
            source=source,
            names=", ".join(deep.stages),
        )


def pixel_versions() -> dict[str, str]:
    """What the run was computed with."""
    return {**versions(), "scikit-learn": version("scikit-learn")}


def points(difference: Interval) -> str:
    """A difference of accuracies in percentage points, with its interval.

    >>> points(Interval(0.034, 0.01, 0.058))
    '+3.4 points [+1.0, +5.8]'
    >>> points(Interval(-0.0001, -0.0, 0.0))
    '0.0 points [0.0, 0.0]'
    """
    value, low, high = (numeral(_signed(share)) for share in difference)
    return msg("{value} points [{low}, {high}]", value=value, low=low, high=high)


def _signed(share: float) -> str:
    """A share in points with its sign, which 0.0 has none of."""
    return "0.0" if round(100 * share, 1) == 0 else f"{100 * share:+.1f}"


def negative(interval: Interval) -> Interval:
    """A difference the other way round, with its ends.

    >>> negative(Interval(0.25, -0.5, 1.0))
    Interval(value=-0.25, low=-1.0, high=0.5)
    """
    return Interval(-interval.value, -interval.high, -interval.low)


def method_named(name: str) -> str:
    """The name of a method as a message, of one that was read from a file.

    >>> method_named("fused"), method_named("forest, bands + wide")
    ('fused', 'forest, bands + wide')
    """
    known = {str.__str__(one): one for one in (FUSED, MAJORITY, LAB, RANDOM, RANDOM_WEIGHTS)}
    kind, _, blocks = name.partition(", ")
    return known.get(name) or title_of(f"{kind}_{blocks.replace(' + ', '_')}")
