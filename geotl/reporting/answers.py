"""The first questions of a reader of a report, answered in a sentence each.

How accurate is it and how sure is that, compared with what, which classes fail, what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from geotl.evaluation.evaluate import Evaluation, Interval, Spread
from geotl.evaluation.next_steps import Step
from geotl.reporting.html import Answer
from geotl.reporting.templates import capital

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
    text = f"{100 * accuracy[0]:.1f} % of {tested} are classified correctly"
    if isinstance(accuracy, Interval):
        text += f"; the 95 % interval is {100 * accuracy.low:.1f} to {100 * accuracy.high:.1f} %."
    elif accuracy.draws > 1:
        text += f", as a mean of {accuracy.draws} repeats; their standard deviation is "
        text += f"{100 * accuracy.sd:.1f} points."
    return Answer("How accurate, and how sure?", text.rstrip(".") + ".", section)


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
    question = "Compared with what?"
    if not others:
        return Answer(question, "With nothing: the recipe asks for no baseline.", section)
    (best, value), *rest = sorted(others.items(), key=lambda pair: -pair[1])
    gap = 100 * (accuracy - value)
    word = "Better by" if gap >= 0 else "Worse by"
    text = f"{word} {abs(gap):.1f} points than {best} ({100 * value:.1f} %)"
    paired = (differences or {}).get(best)
    if paired is not None and paired.low <= 0 <= paired.high:
        text += f", which may be chance [{100 * paired.low:+.1f}, {100 * paired.high:+.1f}]"
    if rest:
        named = [f"{name} {100 * share:.1f} %" for name, share in rest[:MOST_OTHERS]]
        more = [f"{len(rest) - len(named)} more"] if len(rest) > len(named) else []
        text += f"; the others: {', '.join(named + more)}"
    return Answer(question, f"{text}.", section)


def classes_answer(result: Evaluation, what: str = "tiles") -> Answer:
    """Which classes fail, and with which other class they are mixed up most.

    Args:
        result: of the test.
        what: is tested: tiles or labels.
    """
    question, f1 = "Which classes fail?", result.scores.f1
    known = [k for k in np.argsort(f1, kind="stable").tolist() if np.isfinite(f1[k])]
    weak = [k for k in known if f1[k] < WEAK_F1]
    if not known:
        return Answer(question, "Unknown: no class has test labels.", "classes")
    names = [_failing(result, k, what) for k in (weak or known)[: MOST_CLASSES if weak else 1]]
    if not weak:
        text = f"None has an F1 below {WEAK_F1}; the lowest is {names[0]}."
        return Answer(question, text, "classes")
    more = len(weak) - len(names)
    others = f"; {more} more {'class has' if more == 1 else 'classes have'} an F1 below {WEAK_F1}"
    return Answer(question, f"{'; '.join(names)}{others if more else ''}.", "classes")


def _failing(result: Evaluation, k: int, what: str) -> str:
    """A class with its F1 and the class that most of its tiles are taken for."""
    row = result.matrix[k].copy()
    total, row[k] = int(row.sum()), 0
    text = f"{result.classes[k]} (F1 {result.scores.f1[k]:.2f}"
    if not row.any():
        return f"{text})"
    other = int(row.argmax())
    return f"{text}: {row[other]} of {total} {what} classified as {result.classes[other]})"


def next_answer(steps: Sequence[Step], doubtful: int = 0, labels: int = 0) -> Answer:
    """What to do next: the first step, and the labels to check.

    >>> next_answer([Step("Add labels of reed", "", "it is rare")], 3, 40).text
    'Add labels of reed. 3 of 40 labels look like another class: check the first ones.'
    """
    parts = [f"{capital(step.line().rstrip('.'))}." for step in steps[:1]]
    if doubtful:
        looks = "looks" if doubtful == 1 else "look"
        first = "it" if doubtful == 1 else "the first ones"
        parts.append(f"{doubtful} of {labels} labels {looks} like another class: check {first}.")
    if not parts:
        parts = ["Test the map on a random sample: geotl sample, then geotl accuracy."]
    section = "stand" if steps else "doubtful_labels" if doubtful else "use"
    return Answer("What to do next?", " ".join(parts), section)
