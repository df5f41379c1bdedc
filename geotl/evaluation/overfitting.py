"""Where a network stands between under- and overfitting: two accuracies and a target in, words out.

The lecture's strategy: first overfit, so that capacity is certain, then regularise. So training
accuracy is compared with the target first, and only then accuracy on test tiles. Both are measured
in evaluation mode. An accuracy counts as on one side of the target when its whole 95 % interval is;
else more tiles are needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from geotl.errors import DataError
from geotl.evaluation.metrics import Interval

Word = Literal["under", "over", "just right", "undecided"]
Side = Literal["below", "above", "unknown"]
HARMLESS_GAP = 0.05  # without a target: a gap surely smaller is no sign of overfitting
MAX_TILES, Z = 10**6, 1.96

TITLES = {
    "under": "Underfitting",
    "over": "Overfitting",
    "just right": "Just right",
    "undecided": "Undecided",
}


@dataclass(frozen=True)
class Verdict:
    """Where a network stands, and what that rests on.

    Attributes:
        word: under, over, just right, or undecided.
        between: the possible verdicts, where undecided.
        train, validation: accuracies with their 95 % intervals.
        gap: training minus validation accuracy.
        target: accuracy wanted; None if none was stated.
        because: reasons for the word, in one or two sentences.
    """

    word: Word
    between: tuple[str, ...]
    train: Interval
    validation: Interval
    gap: Interval
    target: float | None
    because: str

    @property
    def title(self) -> str:
        """The word as a headline."""
        if self.between:
            return f"{TITLES[self.word]}: {' or '.join(map(_doing, self.between))}"
        return TITLES[self.word]

    @property
    def headline(self) -> str:
        """The word with the gap and what is wanted, in a few words.

        >>> diagnose(exact(.99), exact(.70), .9).headline
        'Overfitting: a gap of 29.0 points, validation accuracy 0.700 against a target of 0.9'
        """
        aim = "" if self.target is None else f" against a target of {self.target:g}"
        gap = f"a gap of {100 * self.gap.value:.1f} points"
        joint = "; " if self.between else ": "
        return f"{self.title}{joint}{gap}, validation accuracy {self.validation.value:.3f}{aim}"

    def to_dict(self) -> dict[str, Any]:
        """The verdict as JSON files hold it."""
        return {
            "word": self.word,
            "between": list(self.between),
            "train": self.train,
            "validation": self.validation,
            "gap": self.gap,
            "target": self.target,
            "because": self.because,
        }

    def line(self) -> str:
        """The verdict in one line.

        >>> diagnose(exact(.60), exact(.58), .9).line()
        'underfitting: training accuracy 0.600, validation 0.580, target 0.900, gap +2.0 points'
        """
        aim = "no target" if self.target is None else f"target {self.target:.3f}"
        title = self.title[0].lower() + self.title[1:]
        return (
            f"{title}: training accuracy {shown(self.train)}, validation "
            f"{shown(self.validation)}, {aim}, gap {100 * self.gap.value:+.1f} points"
        )


def exact(value: float) -> Interval:
    """An accuracy without uncertainty."""
    return Interval(value, value, value)


def shown(accuracy: Interval) -> str:
    """An accuracy with its interval, if it has any width."""
    return str(accuracy) if accuracy.low < accuracy.high else f"{accuracy.value:.3f}"


def diagnose(train: Interval, validation: Interval, target: float | None = None) -> Verdict:
    """Whether a network under- or overfits.

    Args:
        train: accuracy on the training tiles, in evaluation mode.
        validation: accuracy on tiles not trained on.
        target: the accuracy wanted; with None only the gap is used.

    Raises:
        DataError: a target outside (0, 1).

    >>> [diagnose(exact(a), exact(b), .9).word for a, b in ((.60, .58), (.99, .70), (.93, .91))]
    ['under', 'over', 'just right']
    >>> from geotl.evaluation.metrics import wilson
    >>> diagnose(exact(.95), wilson(44, 50), .9).between
    ('over', 'just right')
    """
    if target is not None and not 0 < target < 1:
        raise DataError(f"target: given {target:g}; allowed: above 0 and below 1, such as 0.9")
    gap = difference(train, validation)
    verdict = _by_gap(gap) if target is None else _by_target(train, validation, target)
    word, between, because = verdict
    return Verdict(word, between, train, validation, gap, target, because)


def difference(first: Interval, second: Interval) -> Interval:
    """First minus second accuracy, by Newcombe's hybrid of two Wilson intervals (1998, method 10).

    >>> from geotl.evaluation.metrics import wilson
    >>> print(difference(wilson(56, 70), wilson(48, 80)))
    0.200 [0.052, 0.334]
    """
    gap = first.value - second.value
    down = math.hypot(first.value - first.low, second.high - second.value)
    up = math.hypot(first.high - first.value, second.value - second.low)
    return Interval(gap, gap - down, gap + up)


def side(accuracy: Interval, target: float) -> Side:
    """On which side of the target an accuracy is, as far as is known.

    >>> from geotl.evaluation.metrics import wilson
    >>> side(wilson(70, 100), .9), side(wilson(88, 100), .9), side(exact(.9), .9)
    ('below', 'unknown', 'above')
    """
    if accuracy.low >= target:
        return "above"
    return "below" if accuracy.high < target else "unknown"


def tiles_to_separate(value: float, target: float) -> int | None:
    """How many tiles would separate this accuracy from the target; None: more than a million.

    Wilson's interval leaves the target t out where |value - t| > z sqrt(t (1 - t) / n).

    >>> tiles_to_separate(.88, .9), tiles_to_separate(.8, .9), tiles_to_separate(.9, .9)
    (865, 35, None)
    """
    apart = (value - target) ** 2
    if apart * MAX_TILES < Z**2 * target * (1 - target):
        return None
    return math.ceil(Z**2 * target * (1 - target) / apart)


def _by_target(
    train: Interval, validation: Interval, target: float
) -> tuple[Word, tuple[str, ...], str]:
    """Training accuracy against the target first, then validation accuracy."""
    fitted, general = side(train, target), side(validation, target)
    text = f"accuracy on the training tiles is {shown(train)}"
    if general == "above":
        easier = (
            "; the training tiles are harder than the test tiles: check how both were chosen"
            if fitted == "below"
            else ""
        )
        return "just right", (), f"accuracy on test tiles reaches the target{easier}"
    if fitted == "below":
        return (
            "under",
            (),
            (
                f"{text}, below the target of {target:g}: the network does not fit "
                "its training tiles, so accuracy on other tiles is not yet the question"
            ),
        )
    if fitted == "above" and general == "below":
        return (
            "over",
            (),
            (
                f"{text}, at or above the target of {target:g}, but accuracy on test "
                f"tiles is below it, {shown(validation)}: the network fits its training tiles, but "
                "does not generalise"
            ),
        )
    if fitted == "above":
        return (
            "undecided",
            ("over", "just right"),
            (
                f"{text}, above the target, but the interval on the test tiles, "
                f"{shown(validation)}, includes the target of {target:g}"
            ),
        )
    other = "over" if general == "below" else "just right"
    return (
        "undecided",
        ("under", other),
        f"the interval of the training accuracy, {shown(train)}, includes the target of {target:g}",
    )


def _by_gap(gap: Interval) -> tuple[Word, tuple[str, ...], str]:
    """Without a target only overfitting can be found, from the gap."""
    text = (
        f"no target was set, so this uses only the gap: {100 * gap.value:+.1f} points "
        f"[{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"
    )
    aim = f"{100 * HARMLESS_GAP:.0f} points"
    if gap.low > HARMLESS_GAP:
        return "over", (), f"{text}, surely more than {aim}"
    if gap.high < HARMLESS_GAP:
        return (
            "undecided",
            ("under", "just right"),
            (
                f"{text}, surely less than {aim}, so there is no sign of overfitting; "
                "whether the network fits well enough depends on a target (evaluate.target)"
            ),
        )
    return "undecided", ("over", "just right"), f"{text}, which may be {aim} or not"


def _doing(word: str) -> str:
    """A word of the verdict as a noun."""
    return {"under": "underfitting", "over": "overfitting"}.get(word, word)
