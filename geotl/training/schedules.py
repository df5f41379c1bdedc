"""How the learning rate moves through a training, as a factor of its peak, step by step."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["one_cycle", "cosine"]


def one_cycle(step: int, total: int) -> float:
    """Factor at a step: up over 30 % of the steps, then down, both along a cosine.

    From 1/25 to 1 and down to 1e-5, as in Smith & Topin 2018 and fastai; the arithmetic is that
    of torch's OneCycleLR with pct_start 0.3, div_factor 25 and final_div_factor 4000.

    >>> [round(one_cycle(step, 11), 3) for step in (0, 2, 6, 10)]
    [0.04, 0.96, 0.531, 0.0]
    """
    start, end, peak = 1 / 25, 1 / 25 / 4e3, 0.3 * total - 1
    if step <= peak:
        return _cosine(start, 1.0, step / peak if peak else 1.0)
    return _cosine(1.0, end, (step - peak) / (total - 1 - peak))


def cosine(step: int, total: int, warmup: float) -> float:
    """Factor at a step: a straight rise over a share `warmup` of the steps, then half a cosine.

    Cosine: Loshchilov & Hutter 2017, eq. 5 without restarts; warm-up: Goyal et al. 2017.

    >>> [round(cosine(step, 101, 0.1), 3) for step in (0, 9, 10, 55, 100)]
    [0.091, 0.909, 1.0, 0.5, 0.0]
    """
    rise = int(warmup * total)
    if step < rise:
        return (step + 1) / (rise + 1)
    return _cosine(1.0, 0.0, (step - rise) / max(1, total - 1 - rise))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (math.cos(math.pi * share) + 1)


def rate_factor(
    step: int, total: int, schedule: Schedule, warmup: float, level: tuple[int, float] | None
) -> float:
    """Factor of the peak rate at a step.

    Args:
        step: from 0.
        total: steps of the complete training.
        schedule: its shape.
        warmup: share of steps that a cosine rises over.
        level: (first step, factor) of a level end, at which weights are averaged: the schedule
            is drawn together to end there and never falls below that factor (Izmailov et al.
            2018, section 3.2).
    """
    end, minimum = level or (total, 0.0)
    if step >= end:
        return minimum
    if schedule == "one_cycle":
        factor, falling = one_cycle(step, end), step > 0.3 * end - 1
    else:
        factor, falling = cosine(step, end, warmup), step >= int(warmup * end)
    return max(factor, minimum) if falling else factor
