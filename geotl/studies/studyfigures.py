"""The figure of a study: what each technique did to validation error, and to training error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from geotl.evaluation.metrics import Interval
from geotl.reporting.figures import (
    BLUE,
    FAINT,
    GREY,
    INK,
    ORANGE,
    canvas,
    encoded,
    message,
    plain_axes,
)
from geotl.studies.study_effects import FEWEST

GOOD = ("a regulariser here", "fits better")


class EffectRow(NamedTuple):
    """A technique and its differences in error, on minus off, as shares."""

    name: str
    validation: Interval
    training: Interval
    folds: int
    word: str


def effects_figure(panels: Mapping[str, Sequence[EffectRow]]) -> bytes:
    """Draw changes in validation error with intervals, those in training error beside them.

    Panels stand one below the other, rows in the order given, first on top. Blue lowers
    validation error, orange raises it, grey has no visible effect; hollow dots stand on too few
    folds to say.
    """
    if not panels:
        return message("Nothing was measured.")
    counts = [len(rows) for rows in panels.values()]
    figure = canvas(8.2, 1.1 * len(panels) + 0.5 + 0.26 * sum(counts))
    grid = figure.add_gridspec(len(panels), 2, height_ratios=counts, width_ratios=(2.2, 1.0))
    for place, (title, rows) in enumerate(panels.items()):
        left = figure.add_subplot(grid[place, 0])
        right = figure.add_subplot(grid[place, 1], sharey=left)
        _changes(left, [row.validation for row in rows], rows)
        _changes(right, [row.training for row in rows], rows)
        plain_axes(left, title, grid="x")
        plain_axes(right, grid="x")
        left.set_yticks(range(len(rows)), [row.name for row in rows])
        left.tick_params(axis="y", labelcolor=INK, labelsize=8.5)
        right.tick_params(axis="y", labelleft=False)
        left.set_ylim(len(rows) - 0.4, -0.6)
        left.set_xlabel("change in validation error [points]")
        right.set_xlabel("in training error [points]")
    marks = {"lowers validation error": BLUE, "no visible effect": GREY, "raises it": ORANGE}
    figure.legend(
        handles=[
            Line2D([], [], color=c, marker="o", linewidth=2, label=n) for n, c in marks.items()
        ],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    return encoded(figure)


def _changes(axes: Axes, changes: Sequence[Interval], rows: Sequence[EffectRow]) -> None:
    """Dots with intervals around the line of no change."""
    axes.axvline(0, color=FAINT, linewidth=0.9)
    reach = 100 * _reach(changes, rows)
    for place, (found, row) in enumerate(zip(changes, rows, strict=True)):
        colour = BLUE if row.word in GOOD else ORANGE if row.word == "hurts here" else GREY
        value, low, high = (100 * part for part in found)
        if row.folds >= FEWEST and np.isfinite(low):
            axes.plot([low, high], [place, place], color=colour, linewidth=2.0, alpha=0.5)
        for end, mark, beyond in ((-reach, "<", low < -reach), (reach, ">", high > reach)):
            if beyond and row.folds >= FEWEST:  # the interval goes on past the axis
                axes.plot(end, place, mark, color=colour, markersize=5, clip_on=False)
        inside = colour if row.folds >= FEWEST else "white"  # hollow: too few folds yet
        axes.plot(value, place, "o", color=colour, markersize=5.5, markerfacecolor=inside)
    axes.set_xlim(-reach, reach)


def _reach(changes: Sequence[Interval], rows: Sequence[EffectRow]) -> float:
    """Half the width of the axis: all values, and the intervals but for the widest few."""
    values = np.abs([found.value for found in changes])
    ends = np.abs(
        [
            end
            for found, row in zip(changes, rows, strict=True)
            for end in found[1:]
            if row.folds >= FEWEST and np.isfinite(end)
        ]
    )
    wide = float(np.quantile(ends, 0.9)) if len(ends) else 0.0
    return max(0.02, 1.08 * float(values.max()), 1.08 * wide)
