"""What the draws of a run gave: each as one record, and figures over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from geotl.arrays import Bools, Float64s, Floats, Int64s
from geotl.evaluation.evaluate import Spread, commonest, softmax, summarise_draws
from geotl.evaluation.learning_curve import Gain, Optimism, gain, optimism
from geotl.evaluation.metrics import Interval, Scores, confusion, scores, wilson
from geotl.experiments.recipe import Recipe
from geotl.language import msg

BAND_STATISTICS = msg("band mean and sd, logistic")  # the baseline
NETWORK, RANDOM_SPLIT = msg("network"), msg("network, random split")
NETWORK_ALONE = msg("network alone")  # before it was fused with band statistics
FUSED = msg("network and band statistics")
LABELS_ALONE, POOL = (
    msg("network, labels alone"),
    msg("with pool of unlabelled tiles"),
)  # see tile_pool
ADDITIONS = {  # what a head or a curve takes beside labels -> its name alone
    "with unlabelled tiles": msg("unlabelled tiles"),
    "with unlabelled scene": msg("unlabelled scene"),
    "with pool of unlabelled tiles": msg("pool of unlabelled tiles"),
}
HOW = {"blocks": msg("blocked"), "group": msg("by group"), "scene": msg("by scene")}


@dataclass(frozen=True)
class Answers:
    """Predictions of a network for its test tiles.

    Attributes:
        rows: the tiles [n].
        truth: their classes [n].
        logits: [n, K].
        temperature: that each row of logits is divided by [n]; folds differ in it.
    """

    rows: Int64s
    truth: Int64s
    logits: Floats
    temperature: Float64s

    @property
    def probabilities(self) -> Float64s:
        """Calibrated probabilities [n, K]."""
        return softmax(self.logits, self.temperature)

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """Those of several folds, one after the other."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class Comparison:
    """Methods on the test tiles of one draw.

    Attributes:
        matrices: confusion matrix [K,K] of each method, the network's first.
        baselines: accuracy of each baseline with its interval.
        paired: whether each test tile was classified correctly by the head that saw the labelled
            tiles alone, and by the one that saw unlabelled pixels too [n]; None without the latter.
    """

    matrices: Mapping[str, Int64s]
    baselines: Mapping[str, Interval]
    paired: tuple[Bools, Bools] | None = None


@dataclass(frozen=True)
class DrawResult:
    """What one draw gave.

    Attributes:
        comparison: every method on its test tiles.
        answers: the network's own.
        training: training tiles that the finished network classifies correctly, of how many.
        seconds: that fitting took.
        epochs: that the folds chose for a training, None for a probe.
        share: of a fine-tuning from a probe that was kept, None without one.
    """

    comparison: Comparison
    answers: Answers
    training: tuple[int, int]
    seconds: float
    epochs: int | None = None
    share: float | None = None


@dataclass
class Results:
    """The results of a run's draws, in order.

    Attributes:
        draws: one record for each.
        what: the unlabelled pixels of the further head, in words.
    """

    draws: list[DrawResult] = field(default_factory=list)
    what: str = ""

    @property
    def seconds(self) -> list[float]:
        """Fitting time of each draw."""
        return [one.seconds for one in self.draws]

    def methods(self) -> list[str]:
        """Every method of any repeat, in order of appearance."""
        alone = [NETWORK, NETWORK_ALONE] if self.fused else []
        every = (name for one in self.draws for name in one.comparison.matrices)
        return list(dict.fromkeys([*alone, *every]))

    def matrices(self, method: str) -> list[Int64s]:
        """Confusion matrices of a method, draw by draw; an unfused network is alone itself."""
        several = [one.comparison.matrices for one in self.draws]
        if method == NETWORK_ALONE:
            return [own.get(NETWORK_ALONE, own[NETWORK]) for own in several]
        return [own[method] for own in several if method in own]

    @property
    def fused(self) -> int:
        """Number of draws whose network is fused with band statistics."""
        return sum(NETWORK_ALONE in one.comparison.matrices for one in self.draws)

    def title(self, method: str) -> str:
        """A method's name for people; metrics.json keeps `network` for the run's own model."""
        if not self.fused or method not in (NETWORK, RANDOM_SPLIT):
            return method
        if method == RANDOM_SPLIT:
            return msg("the same on a random split")
        some, draws = self.fused, len(self.draws)
        return (
            FUSED
            if some == draws
            else msg(
                "{fused} in {some} of {draws}, else alone", fused=FUSED, some=some, draws=draws
            )
        )

    def counts(self, method: str) -> list[tuple[int, int]]:
        """Tiles classified correctly and test tiles, draw by draw."""
        return [(int(np.trace(m)), int(m.sum())) for m in self.matrices(method)]

    def pooled(self) -> dict[str, Interval]:
        """Accuracy of every method, all folds together."""
        return {m: wilson(*np.sum(self.counts(m), axis=0).tolist()) for m in self.methods()}

    def pooled_baselines(self, truth: Int64s) -> dict[str, Interval]:
        """Intervals of the baselines, all folds together."""
        majority = commonest(truth, int(truth.max()) + 1)[1]
        pooled = self.pooled()
        return {name: pooled.get(name, majority) for name in self.draws[0].comparison.baselines}

    def optimism(self, recipe: Recipe) -> Optimism | None:
        """Random against spatial accuracy, where both were measured."""
        random = self.counts(RANDOM_SPLIT)
        if not random:
            return None
        how, pooled = HOW[recipe.split.method], recipe.split.kfold is not None
        return optimism(how, random, self.counts(NETWORK), pooled=pooled)

    def training(self, *, folds: bool) -> Interval:
        """Accuracy on the training tiles of the first draw, or of all folds.

        A tile is a training tile in every fold but one; for the interval it counts once.
        """
        counts = [one.training for one in self.draws]
        if not folds:
            return wilson(*counts[0])
        right, tried = np.sum(counts, axis=0).tolist()
        times = max(1, len(counts) - 1)
        return wilson(round(right / times), round(tried / times))

    def gain(self) -> Gain | None:
        """The gain from unlabelled pixels, paired over draws, or over the tiles of a single one."""
        paired = [one.comparison.paired for one in self.draws if one.comparison.paired]
        if not paired:
            return None
        alone, both = paired[0]
        if len(paired) > 1:
            alone, both = (
                np.array([np.mean(named) for named in side]) for side in zip(*paired, strict=True)
            )
        difference, word = gain(alone, both)
        return Gain(ADDITIONS.get(self.what, self.what), difference, word, len(paired))

    def spreads(self) -> dict[str, dict[str, Spread]]:
        """Mean and sd of every score, by method."""
        return {
            method: summarise_draws([_summary(scores(m)) for m in self.matrices(method)])
            for method in self.methods()
        }


def compared(
    truth: Int64s, methods: Mapping[str, Floats], baselines: Mapping[str, Floats], classes: int
) -> Comparison:
    """Methods and baselines by their logits [n,K] on the same test tiles.

    Args:
        truth: classes of the tiles [n].
        methods: logits of the network itself and of its further heads.
        baselines: logits of the baselines.
        classes: how many there are.
    """
    matrices = {
        name: confusion(truth, logits.argmax(1), classes)
        for name, logits in {**methods, **baselines}.items()
    }
    intervals = {
        name: wilson(int((logits.argmax(1) == truth).sum()), len(truth))
        for name, logits in baselines.items()
    }
    return Comparison(matrices, intervals)


def _summary(result: Scores) -> dict[str, float]:
    return {
        "overall": result.overall,
        "balanced": result.balanced,
        "kappa": result.kappa,
        "macro_f1": result.macro_f1,
    }


def folds_words(method: str, count: int) -> str:
    """How many folds there are, and how they were laid out.

    >>> folds_words("blocks", 5), folds_words("group", 4)
    ('5 blocked folds', '4 folds by group')
    """
    if method == "blocks":
        return msg("{n} blocked folds", n=count)
    if method == "group":
        return msg("{n} folds by group", n=count)
    if method == "scene":
        return msg("{n} folds by scene", n=count)
    return msg("{n} folds random", n=count)
