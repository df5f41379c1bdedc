"""Where a network stands between under- and overfitting: two accuracies and a target in, words out.

The lecture's strategy: first overfit, so that capacity is certain, then regularise. So training
accuracy is compared with the target first, and only then accuracy on test tiles. Both are measured
in evaluation mode. An accuracy counts as on one side of the target when its whole 95 % interval is;
else more tiles are needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from geotl.errors import DataError
from geotl.evaluation.metrics import Interval
from geotl.language import msg, numeral, small

Word = Literal["under", "over", "just right", "undecided"]
Side = Literal["below", "above", "unknown"]
HARMLESS_GAP = 0.05  # without a target: a gap surely smaller is no sign of overfitting
MAX_TILES, Z = 10**6, 1.96

TITLES = {
    "under": msg("Underfitting"),
    "over": msg("Overfitting"),
    "just right": msg("Just right"),
    "undecided": msg("Undecided"),
}
DOING = {"under": msg("underfitting"), "over": msg("overfitting"), "just right": msg("just right")}


class Named(NamedTuple):
    """What a verdict is on: the nouns of its sentences.

    Attributes:
        training: what was trained on.
        test: what the model was tested on.
        tested: the same, once it is known.
        other: what it has not seen.
        model: what was trained.
    """

    training: str
    test: str
    tested: str
    other: str
    model: str


TILES = Named(
    msg("training tiles"), msg("test tiles"), msg("test tiles"), msg("other tiles"), msg("network")
)
LABELS = Named(
    msg("training labels"),
    msg("test labels in the folds"),
    msg("test labels"),
    msg("other pixels"),
    msg("model"),
)


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
        if not self.between:
            return TITLES[self.word]
        first, second = (DOING[word] for word in self.between)
        return msg("Undecided: {first} or {second}", first=first, second=second)

    @property
    def headline(self) -> str:
        """The word with the gap and what is wanted, in a few words.

        >>> diagnose(exact(.99), exact(.70), .9).headline
        'Overfitting: a gap of 29.0 points, validation accuracy 0.700 against a target of 0.9'
        """
        gap, accuracy = 100 * self.gap.value, self.validation.value
        found: str = msg(
            "a gap of {gap:.1f} points, validation accuracy {accuracy:.3f}",
            gap=gap,
            accuracy=accuracy,
        )
        if self.target is not None:
            found = msg(
                "a gap of {gap:.1f} points, validation accuracy {accuracy:.3f} against a target of "
                "{target:g}",
                gap=gap,
                accuracy=accuracy,
                target=self.target,
            )
        if self.between:
            return msg("{verdict}; {found}", verdict=self.title, found=found)
        return msg("{verdict}: {found}", verdict=self.title, found=found)

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
        aim: str = msg("no target")
        if self.target is not None:
            aim = msg("target {target:.3f}", target=self.target)
        return msg(
            "{verdict}: training accuracy {train}, validation {validation}, {aim}, gap {gap:+.1f} "
            "points",
            verdict=small(self.title),
            train=shown(self.train),
            validation=shown(self.validation),
            aim=aim,
            gap=100 * self.gap.value,
        )


def exact(value: float) -> Interval:
    """An accuracy without uncertainty."""
    return Interval(value, value, value)


def shown(accuracy: Interval) -> str:
    """An accuracy with its interval, if it has any width."""
    return str(accuracy) if accuracy.low < accuracy.high else numeral(accuracy.value, ".3f")


def diagnose(
    train: Interval, validation: Interval, target: float | None = None, named: Named = TILES
) -> Verdict:
    """Whether a network under- or overfits.

    Args:
        train: accuracy on the training tiles, in evaluation mode.
        validation: accuracy on tiles not trained on.
        target: the accuracy wanted; with None only the gap is used.
        named: what the verdict is on.

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
    verdict = _by_gap(gap) if target is None else _by_target(train, validation, target, named)
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
    train: Interval, validation: Interval, target: float, named: Named
) -> tuple[Word, tuple[str, ...], str]:
    """Training accuracy against the target first, then validation accuracy."""
    fitted, general = side(train, target), side(validation, target)
    if general == "above":
        return "just right", (), _reached_words(named, harder=fitted == "below")
    if fitted == "unknown":
        other = "over" if general == "below" else "just right"
        because = msg(
            "the interval of the training accuracy, {train}, includes the target of {target:g}",
            train=shown(train),
            target=target,
        )
        return "undecided", ("under", other), because
    values = named._asdict() | {"train": shown(train), "validation": shown(validation)}
    values |= {"target": target}
    if fitted == "below":
        because = msg(
            "accuracy on the {training} is {train}, below the target of {target:g}: the {model} "
            "does not fit its {training}, so accuracy on {other} is not yet the question",
            **values,
        )
        return "under", (), because
    if general == "below":
        because = msg(
            "accuracy on the {training} is {train}, at or above the target of {target:g}, but "
            "accuracy on {test} is below it, {validation}: the {model} fits its {training}, but "
            "does not generalise",
            **values,
        )
        return "over", (), because
    because = msg(
        "accuracy on the {training} is {train}, above the target, but the interval on the "
        "{tested}, {validation}, includes the target of {target:g}",
        **values,
    )
    return "undecided", ("over", "just right"), because


def _reached_words(named: Named, *, harder: bool) -> str:
    """That the target is reached, and that it is odd if it is not on what was trained on."""
    if not harder:
        return msg("accuracy on {test} reaches the target", test=named.test)
    return msg(
        "accuracy on {test} reaches the target; the {training} are harder than the {tested}: check "
        "how both were chosen",
        **named._asdict(),
    )


def _by_gap(gap: Interval) -> tuple[Word, tuple[str, ...], str]:
    """Without a target only overfitting can be found, from the gap."""
    text = msg(
        "no target was set, so this uses only the gap: {value:+.1f} points [{low:+.1f},"
        " {high:+.1f}]",
        value=100 * gap.value,
        low=100 * gap.low,
        high=100 * gap.high,
    )
    aim = msg("{harmless_gap:.0f} points", harmless_gap=100 * HARMLESS_GAP)
    if gap.low > HARMLESS_GAP:
        return "over", (), msg("{text}, surely more than {aim}", text=text, aim=aim)
    if gap.high < HARMLESS_GAP:
        return (
            "undecided",
            ("under", "just right"),
            (
                msg(
                    "{text}, surely less than {aim}, so there is no sign of overfitting; whether "
                    "the network fits well enough depends on a target (evaluate.target)",
                    text=text,
                    aim=aim,
                )
            ),
        )
    return (
        "undecided",
        ("over", "just right"),
        msg("{text}, which may be {aim} or not", text=text, aim=aim),
    )
