"""Whether stated confidences can be believed, in words: reliability in, a sentence out."""

from __future__ import annotations

import math

import numpy as np

from geotl.evaluation.evaluate import MIN_TILES, Reliability
from geotl.language import joined, msg

MAX_ERROR = 0.05  # calibration error beyond which a warning is given
MIN_TEST_TILES = 30  # tiles below which the error is noise for the most part


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


def distrust(bins: Reliability, what: str = msg("test tiles")) -> str:
    """A sentence on confidences that are too high or too low; empty where they can be believed.

    The warning is given where the calibration error exceeds MAX_ERROR and what chance explains, on
    MIN_TEST_TILES tiles or more.

    >>> from geotl.evaluation.evaluate import reliability
    >>> distrust(reliability([[0.99, 0.01]] * 75, [0] * 66 + [1] * 9))
    'Confidences are too high by 11 points after temperature scaling (calibration error 0.110 on \
75 test tiles; at 99 % confidence 88 % are correct): do not read them as probabilities.'
    """
    tiles, error = int(bins.count.sum()), bins.error
    if tiles < MIN_TEST_TILES or error <= max(MAX_ERROR, error_by_chance(bins)):
        return ""
    filled = bins.count > 0
    gaps = (bins.confidence - bins.accuracy)[filled] * bins.count[filled] / tiles
    gap = float(gaps.sum())
    off = 100 * (abs(gap) if abs(gap) > error / 2 else error)
    too_low, sides = gap < -error / 2, abs(gap) > error / 2
    found = _examples(
        bins,
        msg("calibration error {error:.3f} on {tiles} {what}", error=error, tiles=tiles, what=what),
        too_low=too_low,
    )
    if not sides:
        return msg(
            "Confidences are off by {off:.0f} points, some too high and some too low, after "
            "temperature scaling ({found}): do not read them as probabilities.",
            off=off,
            found=found,
        )
    if too_low:
        return msg(
            "Confidences are too low by {off:.0f} points after temperature scaling ({found}): do "
            "not read them as probabilities.",
            off=off,
            found=found,
        )
    return msg(
        "Confidences are too high by {off:.0f} points after temperature scaling ({found}): do not "
        "read them as probabilities.",
        off=off,
        found=found,
    )


def _examples(bins: Reliability, found: str, *, too_low: bool) -> str:
    """What was found with bins that show it.

    Confidences that are too low on the whole can be too high in the highest bins: said as well.
    """
    high, low = _worst(bins, 1), _worst(bins, -1)
    if not too_low:
        return msg("{found}; {high} are correct", found=found, high=high) if high else found
    if low and high:
        return msg("{found}; {low} are correct, but {high}", found=found, low=low, high=high)
    if low:
        return msg("{found}; {low} are correct", found=found, low=low)
    if high:
        return msg("{found}; too high in places: {high} are correct", found=found, high=high)
    return found


def _worst(bins: Reliability, sign: int) -> str:
    """The bin whose confidence is most above (sign 1) or below (-1) its accuracy.

    Empty where no bin is off by more than chance.
    """
    enough = np.flatnonzero(bins.count >= MIN_TILES)
    gaps = sign * (bins.confidence[enough] - bins.accuracy[enough])
    if not len(enough) or gaps.max() <= MAX_ERROR:
        return ""
    worst = enough[gaps.argmax()]
    sure, right = float(bins.confidence[worst]), float(bins.accuracy[worst])
    if gaps.max() <= 2 * math.sqrt(sure * (1 - sure) / float(bins.count[worst])):
        return ""
    return msg("at {sure:.0f} % confidence {right:.0f} %", sure=100 * sure, right=100 * right)


def calibration_caption(bins: Reliability) -> str:
    """Caption of the figure of confidence against accuracy."""
    text = msg(
        "Before and after temperature scaling. On the dashed line confidence equals the"
        " share of correct tiles; small pale dots have fewer than {min_tiles} tiles and"
        " mean little.",
        min_tiles=MIN_TILES,
    )
    doubt = distrust(bins)
    return joined([text, doubt], " ") if doubt else text
