"""Whether stated confidences can be believed, in words: reliability in, a sentence out."""

from __future__ import annotations

import math

import numpy as np

from geotl.evaluation.evaluate import FEWEST_TILES, Reliability

MOST_ERROR = 0.05  # calibration error beyond which a reader is told
LEAST_JUDGED = 30  # tiles below which the error is noise for the most part


def error_by_chance(bins: Reliability) -> float:
    """Calibration error that sincere confidences show by chance: its mean and two sd.

    Of the n tiles of a bin with confidence c, then, c are right, give or take sqrt(c (1 - c) / n);
    the gaps are taken as normal.
    """
    filled = bins.count > 0
    share = bins.count[filled] / bins.count.sum()
    sure = bins.confidence[filled]
    sd = share * np.sqrt(sure * (1 - sure) / bins.count[filled])
    return float(
        math.sqrt(2 / math.pi) * sd.sum() + 2 * math.sqrt((1 - 2 / math.pi) * (sd**2).sum())
    )


def distrust(bins: Reliability) -> str:
    """A sentence on confidences that are too high or too low; empty where they can be believed.

    Told where the calibration error exceeds MOST_ERROR and what chance explains, on LEAST_JUDGED
    tiles or more.

    >>> from geotl.evaluation.evaluate import reliability
    >>> distrust(reliability([[0.99, 0.01]] * 75, [0] * 66 + [1] * 9))
    'Confidences are too high by 11 points after temperature scaling (calibration error 0.110 on \
75 test tiles; at 99 % confidence 88 % are right): do not read them as chances of being right.'
    """
    judged, error = int(bins.count.sum()), bins.error
    if judged < LEAST_JUDGED or error <= max(MOST_ERROR, error_by_chance(bins)):
        return ""
    filled = bins.count > 0
    gaps = (bins.confidence - bins.accuracy)[filled] * bins.count[filled] / judged
    gap = float(gaps.sum())
    if abs(gap) > error / 2:
        word = f"too {'high' if gap > 0 else 'low'} by {100 * abs(gap):.0f} points"
    else:
        word = f"off by {100 * error:.0f} points, some too high and some too low,"
    return (
        f"Confidences are {word} after temperature scaling (calibration error {error:.3f} on "
        f"{judged} test tiles{_too_sure(bins)}): do not read them as chances of being right."
    )


def _too_sure(bins: Reliability) -> str:
    """The bin whose confidence is most above its accuracy, where that is more than chance.

    Confidences can be too low on the whole and too high for those that are trusted most.
    """
    enough = np.flatnonzero(bins.count >= FEWEST_TILES)
    gaps = bins.confidence[enough] - bins.accuracy[enough]
    if not len(enough) or gaps.max() <= MOST_ERROR:
        return ""
    worst = enough[gaps.argmax()]
    sure, right = float(bins.confidence[worst]), float(bins.accuracy[worst])
    if sure - right <= 2 * math.sqrt(sure * (1 - sure) / float(bins.count[worst])):
        return ""
    return f"; at {100 * sure:.0f} % confidence {100 * right:.0f} % are right"


def calibration_caption(bins: Reliability) -> str:
    """What stands under the figure of confidence against accuracy."""
    told = (
        "Before and after temperature scaling. On the dashed line confidence is the share named "
        f"rightly; small pale dots are of fewer than {FEWEST_TILES} tiles and say next to nothing."
    )
    return f"{told} {distrust(bins)}".strip()
