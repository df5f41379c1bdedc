"""A map's accuracy as a figure, in PNG bytes, in the look of `figures`."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from geotl.arrays import Float64s
from geotl.evaluation.area_estimation import Estimated
from geotl.evaluation.map_accuracy import Assessment
from geotl.reporting.figures import (
    BLUE,
    FAINT,
    GREY,
    INK,
    ORANGE,
    canvas,
    encoded,
    plain_axes,
    shortened,
)

_STEP = 0.16  # how far the two marks of a class stand from its line


def areas_figure(found: Assessment) -> bytes:
    """Draw mapped against error-adjusted areas, and user's and producer's accuracies, by class.

    Bars are 95 % intervals; where the reference is a census there are none.
    """
    classes, result = found.classes, found.result
    scale, unit = (1e4, "ha") if found.in_metres else (1.0, "pixels")
    figure = canvas(9.6, 1.5 + 0.42 * len(classes))
    areas, shares = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
    adjusted = Estimated(result.areas_m2.value / scale, result.areas_m2.se / scale)
    _dots(areas, adjusted, -_STEP, BLUE)
    _mapped(areas, result.mapped_m2 / scale)
    _dots(shares, result.users, -_STEP, BLUE, most=1.0)
    _dots(shares, result.producers, _STEP, ORANGE, most=1.0)
    how = "with 95 % intervals" if found.sampled else "at every pixel, not of a sample"
    plain_axes(areas, f"Area [{unit}]", grid="x")
    plain_axes(shares, "Accuracy", grid="x")
    areas.set_yticks(range(len(classes)), [shortened(name, 32) for name in classes])
    areas.tick_params(axis="y", labelcolor=INK, labelsize=9.5)
    areas.set_ylim(len(classes) - 0.5, -0.5)
    areas.set_xlim(left=0.0)
    areas.xaxis.set_major_locator(MaxNLocator(5))
    areas.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    shares.set_xlim(0.0, 1.02)
    shares.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _legend(areas, [("mapped", GREY, False), ("adjusted for error", BLUE, True)])
    _legend(shares, [("user's", BLUE, True), ("producer's", ORANGE, True)])
    overall, margin = float(result.overall.value), float(result.overall.margin)
    told = f"Overall accuracy {overall:.1%}" if math.isfinite(overall) else "Overall unknown"
    told += f" ± {100 * margin:.1f} points" if math.isfinite(margin) else ""
    figure.suptitle(f"{told}, {how}", x=0.01, ha="left", fontsize=11, color=INK, fontweight="bold")
    if found.warnings:
        first = textwrap.fill(f"Read with care: {found.warnings[0]}", 130)
        figure.supxlabel(first, x=0.01, ha="left", fontsize=8.5, color=ORANGE)
    return encoded(figure)


def _dots(
    axes: Axes, measure: Estimated, shift: float, colour: str, most: float = math.inf
) -> None:
    """One dot a class, with its interval, as far as it is possible, where there is one."""
    for place, (value, low, high) in enumerate(
        zip(measure.value.tolist(), measure.low.tolist(), measure.high.tolist(), strict=True)
    ):
        if math.isfinite(low):
            axes.plot(
                [max(low, 0.0), min(high, most)],
                [place + shift] * 2,
                color=colour,
                linewidth=3,
                alpha=0.4,
                solid_capstyle="butt",
            )
        axes.plot(value, place + shift, "o", color=colour, markersize=6)


def _mapped(axes: Axes, values: Float64s) -> None:
    places = [place + _STEP for place in range(len(values))]
    axes.plot(
        values,
        places,
        "D",
        markerfacecolor="white",
        markeredgecolor=GREY,
        markeredgewidth=1.5,
        markersize=5.5,
    )


def _legend(axes: Axes, entries: Sequence[tuple[str, str, bool]]) -> None:
    marks = [
        Line2D(
            [],
            [],
            linestyle="",
            marker="o" if filled else "D",
            markersize=6,
            label=name,
            markerfacecolor=colour if filled else "white",
            markeredgecolor=colour,
        )
        for name, colour, filled in entries
    ]
    axes.legend(
        handles=marks,
        frameon=False,
        fontsize=9,
        labelcolor=FAINT,
        ncols=2,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        handletextpad=0.1,
        columnspacing=1.0,
        borderaxespad=0.2,
    )
