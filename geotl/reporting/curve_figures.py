"""Figures of what depends on distance and on labels: the variogram and the learning curve."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, PercentFormatter

from geotl.data.variogram import Variogram
from geotl.evaluation.learning_curve import LearningCurve
from geotl.reporting.figures import BLUE, FAINT, GREY, INK, ORANGE, canvas, encoded, plain_axes

COLOURS = (BLUE, ORANGE, GREY)


def variogram_figure(found: Variogram, block_m: float | None = None) -> bytes:
    """Draw dissimilarity against distance, the fitted model, its range and the side of blocks.

    A dot's area goes with the number of pairs in its bin.
    """
    figure = canvas(6.4, 3.4)
    axes = figure.add_subplot()
    furthest = float(found.lag_m[-1])
    right = max(furthest, block_m or 0.0) * 1.05
    across = np.linspace(0, furthest, 200)
    axes.plot(across, found.model(across), color=BLUE, linewidth=1.6)
    areas = 12 + 60 * np.sqrt(found.pairs / found.pairs.max())
    axes.scatter(found.lag_m, found.gamma, areas, color=BLUE, alpha=0.6, zorder=3)
    axes.axhline(1.0, color=GREY, linewidth=0.8, linestyle=(0, (2, 2)))
    told = "range" if found.reached else "range beyond"
    if found.range_m > 0:
        _mark(axes, found.range_m, f"{told} {found.range_m:,.0f} m", GREY, 0.06)
    if block_m is not None:
        _mark(axes, block_m, f"blocks {block_m:,.0f} m", ORANGE, 0.16)
    plain_axes(axes, "how unlike tiles are, by distance")
    axes.set(xlim=(0, right), ylim=(0, max(1.1, 1.08 * float(found.gamma.max()))))
    axes.set_xlabel("distance between tiles [m]")
    axes.set_ylabel("half mean squared difference")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    return encoded(figure)


def _mark(axes: Axes, place: float, text: str, colour: str, height: float) -> None:
    """A vertical line with its name, on the side where there is room."""
    axes.axvline(place, color=colour, linewidth=1.2, linestyle=(0, (3, 2)))
    left = place > 0.6 * max(axes.get_xlim()[1], place)
    axes.annotate(
        text,
        (place, height),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if left else 4, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        fontsize=9,
        color=INK,
    )


def learning_curve_figure(curves: Mapping[str, LearningCurve]) -> bytes:
    """Draw accuracy against labels a class with 95 % intervals; what is extrapolated is dashed."""
    figure = canvas(6.4, 3.9)
    axes = figure.add_subplot()
    ticks: set[float] = set()
    for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
        axes.fill_between(curve.shots, *curve.interval, color=colour, alpha=0.15, linewidth=0)
        axes.plot(
            curve.shots, curve.mean, "o-", color=colour, linewidth=1.8, markersize=5, label=name
        )
        ticks |= {*curve.shots.tolist(), *(shots for shots, _ in curve.extrapolated())}
        _extrapolation(axes, curve, name, colour)
    last = max(float(curve.shots[-1]) for curve in curves.values())
    axes.set_xscale("log")
    axes.set_xlim(0.9 * min(ticks), 1.08 * max(ticks))
    if max(ticks) > last:
        axes.axvspan(last, 1.08 * max(ticks), color=FAINT, alpha=0.08, linewidth=0)
    plain_axes(axes, "accuracy by labels a class")
    axes.set_xticks(sorted(ticks), [f"{tick:g}" for tick in sorted(ticks)])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("labels a class")
    axes.set_ylabel("overall accuracy, 95 % interval")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="lower right")
    return encoded(figure)


def _extrapolation(axes: Axes, curve: LearningCurve, name: str, colour: str) -> None:
    """The fitted law beyond the sizes measured, dashed, with what resampled draws give."""
    if curve.law is None:
        return
    beyond = np.geomspace(curve.shots[-1], curve.extrapolated()[-1][0], 60)
    axes.plot(
        beyond,
        curve.law.at(beyond),
        color=colour,
        linewidth=1.6,
        linestyle=(0, (4, 3)),
        label=f"{name}, extrapolated",
    )
    for shots, ends in curve.extrapolated_intervals().items():
        axes.plot([shots, shots], ends, color=colour, linewidth=1, alpha=0.6)
