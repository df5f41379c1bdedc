"""The first questions of a reader of a report, answered in a sentence each.

How accurate is it and how sure is that, compared with what, which classes fail, what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from geotl.evaluation.evaluate import Evaluation, Interval, Spread
from geotl.evaluation.next_steps import Step
from geotl.language import joined, msg, nmsg, sentence
from geotl.reporting.html import Answer

WEAK_F1 = 0.8  # below it a class is named among those that fail
MOST_CLASSES, MOST_OTHERS = 3, 3


def accuracy_answer(accuracy: Interval | Spread, tested: str, section: str = "scores") -> Answer:
    """How accurate, and how sure.

    Args:
        accuracy: overall, with its 95 % interval or its spread over repeats.
        tested: on what, such as "306 test tiles".
        section: that says more.

    >>> accuracy_answer(Interval(0.85, 0.7093, 0.9294), "40 test tiles").text
    '85.0 % of 40 test tiles are classified correctly; the 95 % interval is 70.9 to 92.9 %.'
    >>> accuracy_answer(Spread(0.8654, 0.0102, 20), "40 test tiles").text
    '86.5 % of 40 test tiles are classified correctly, as a mean of 20 repeats; their standard
    deviation is 1.0 points.'
    """
    share = 100 * accuracy[0]
    text: str = msg(
        "{share:.1f} % of {tested} are classified correctly.", share=share, tested=tested
    )
    if isinstance(accuracy, Interval):
        text = msg(
            "{share:.1f} % of {tested} are classified correctly; the 95 % interval is {low:.1f} to "
            "{high:.1f} %.",
            share=share,
            tested=tested,
            low=100 * accuracy.low,
            high=100 * accuracy.high,
        )
    elif accuracy.draws > 1:
        text = msg(
            "{share:.1f} % of {tested} are classified correctly, as a mean of {draws} repeats; "
            "their standard deviation is {sd:.1f} points.",
            share=share,
            tested=tested,
            draws=accuracy.draws,
            sd=100 * accuracy.sd,
        )
    return Answer(msg("How accurate, and how sure?"), text, section)


def comparison_answer(
    accuracy: float,
    others: Mapping[str, float],
    section: str = "baselines",
    differences: Mapping[str, Interval] | None = None,
) -> Answer:
    """Compared with what: the best of the other methods, and the others in order.

    Args:
        accuracy: of the model.
        others: accuracy of the other methods, by name.
        section: that says more.
        differences: of the model's accuracy from theirs, paired, by name; None where unknown.

    >>> comparison_answer(0.85, {"majority class": 0.3, "band statistics": 0.9}).text
    'Worse by 5.0 points than band statistics (90.0 %); the others: majority class 30.0 %.'
    >>> paired = {"forest": Interval(0.03, -0.01, 0.08)}
    >>> comparison_answer(0.85, {"forest": 0.82}, differences=paired).text
    'Better by 3.0 points than forest (82.0 %), which may be chance [-1.0, +8.0].'
    >>> comparison_answer(0.85, {}).text
    'With nothing: the recipe asks for no baseline.'
    """
    question = msg("Compared with what?")
    if not others:
        return Answer(question, msg("With nothing: the recipe asks for no baseline."), section)
    (best, value), *rest = sorted(others.items(), key=lambda pair: -pair[1])
    text = _gap_words(100 * (accuracy - value), best, 100 * value)
    paired = (differences or {}).get(best)
    if paired is not None and paired.low <= 0 <= paired.high:
        text = msg(
            "{claim}, which may be chance [{low:+.1f}, {high:+.1f}]",
            claim=text,
            low=100 * paired.low,
            high=100 * paired.high,
        )
    if rest:
        text = msg("{claim}; the others: {names}", claim=text, names=_other_methods(rest))
    return Answer(question, sentence(text), section)


def _gap_words(gap: float, best: str, share: float) -> str:
    """How far ahead of the best other method the model is, in points, or behind it."""
    if gap >= 0:
        return msg(
            "Better by {gap:.1f} points than {best} ({share:.1f} %)",
            gap=gap,
            best=best,
            share=share,
        )
    return msg(
        "Worse by {gap:.1f} points than {best} ({share:.1f} %)", gap=-gap, best=best, share=share
    )


def _other_methods(rest: Sequence[tuple[str, float]]) -> str:
    """The first of the other methods with their accuracies, and how many more there are."""
    named: list[str] = [
        msg("{name} {share:.1f} %", name=name, share=100 * share)
        for name, share in rest[:MOST_OTHERS]
    ]
    more = len(rest) - len(named)
    return joined([*named, nmsg("{n} more", "{n} more", more)] if more else named)


def classes_answer(result: Evaluation, what: str = msg("tiles")) -> Answer:
    """Which classes fail, and with which other class they are mixed up most.

    Args:
        result: of the test.
        what: is tested: tiles or labels.
    """
    question, f1 = msg("Which classes fail?"), result.scores.f1
    known = [k for k in np.argsort(f1, kind="stable").tolist() if np.isfinite(f1[k])]
    weak = [k for k in known if f1[k] < WEAK_F1]
    if not known:
        return Answer(question, msg("Unknown: no class has test labels."), "classes")
    names = [_failing(result, k, what) for k in (weak or known)[: MOST_CLASSES if weak else 1]]
    if not weak:
        text: str = msg(
            "None has an F1 below {limit}; the lowest is {name}.", limit=WEAK_F1, name=names[0]
        )
        return Answer(question, text, "classes")
    named, more = joined(names, "; "), len(weak) - len(names)
    if more:
        named = nmsg(
            "{classes}; {n} more class has an F1 below {limit}",
            "{classes}; {n} more classes have an F1 below {limit}",
            more,
            classes=named,
            limit=WEAK_F1,
        )
    return Answer(question, msg("{classes}.", classes=named), "classes")


def _failing(result: Evaluation, k: int, what: str) -> str:
    """A class with its F1 and the class that most of its tiles are taken for."""
    row = result.matrix[k].copy()
    total, row[k] = int(row.sum()), 0
    name, f1 = result.classes[k], float(result.scores.f1[k])
    if not row.any():
        return msg("{name} (F1 {f1:.2f})", name=name, f1=f1)
    other = int(row.argmax())
    return msg(
        "{name} (F1 {f1:.2f}: {count} of {total} {what} classified as {other})",
        name=name,
        f1=f1,
        count=row[other],
        total=total,
        what=what,
        other=result.classes[other],
    )


def next_answer(steps: Sequence[Step], doubtful: int = 0, labels: int = 0) -> Answer:
    """What to do next: the first step, and the labels to check.

    >>> next_answer([Step("Add labels of reed", "", "it is rare")], 3, 40).text
    'Add labels of reed. 3 of 40 labels look like another class: check the first ones.'
    """
    parts = [sentence(step.line()) for step in steps[:1]]
    if doubtful:
        parts.append(
            nmsg(
                "{n} of {labels} labels looks like another class: check it.",
                "{n} of {labels} labels look like another class: check the first ones.",
                doubtful,
                labels=labels,
            )
        )
    if not parts:
        parts = [msg("Test the map on a random sample: geotl sample, then geotl accuracy.")]
    section = "stand" if steps else "doubtful_labels" if doubtful else "use"
    return Answer(msg("What to do next?"), joined(parts, " "), section)
