"""Figures of learning curves, variograms and diagnoses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from geotl.data.spatial_splits import Variogram
from geotl.evaluation.learning_curve import LearningCurve
from geotl.evaluation.metrics import Interval
from geotl.evaluation.overfitting import Verdict
from geotl.language import msg, numeral
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

COLOURS = (BLUE, ORANGE, GREY)
DASHES = (0, (4, 3))
Part = Mapping[str, Any]


def variogram_figure(
    variogram: Variogram, block_m: float | None = None, unit: str = msg("tiles")
) -> bytes:
    """Draw dissimilarity against distance, the fitted model, its range and the side of blocks.

    A dot's area goes with the number of pairs in its bin.
    """
    figure = canvas(6.4, 3.4)
    axes = figure.add_subplot()
    furthest = float(variogram.lag_m[-1])
    right = max(furthest, block_m or 0.0) * 1.05
    across = np.linspace(0, furthest, 200)
    axes.plot(across, variogram.model(across), color=BLUE, linewidth=1.6)
    areas = 12 + 60 * np.sqrt(variogram.pairs / variogram.pairs.max())
    axes.scatter(variogram.lag_m, variogram.gamma, areas, color=BLUE, alpha=0.6, zorder=3)
    axes.axhline(1.0, color=GREY, linewidth=0.8, linestyle=(0, (2, 2)))
    if variogram.range_m > 0:
        _mark(axes, variogram.range_m, _range_words(variogram), GREY, 0.06)
    if block_m is not None:
        _mark(axes, block_m, msg("blocks {block_m:,.0f} m", block_m=block_m), ORANGE, 0.16)
    plain_axes(axes, msg("how unlike {unit} are, by distance", unit=unit))
    axes.set(xlim=(0, right), ylim=(0, max(1.1, 1.08 * float(variogram.gamma.max()))))
    axes.set_xlabel(msg("distance between {unit} [m]", unit=unit))
    axes.set_ylabel(msg("half mean squared difference"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    return encoded(figure)


def _range_words(variogram: Variogram) -> str:
    """How far tiles are alike, or that this is further than was measured."""
    if variogram.reached:
        return msg("range {range_m:,.0f} m", range_m=variogram.range_m)
    return msg("range beyond {range_m:,.0f} m", range_m=variogram.range_m)


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
    plain_axes(axes, msg("accuracy by labels a class"))
    axes.set_xticks(sorted(ticks), [numeral(tick, "g") for tick in sorted(ticks)])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(msg("labels a class"))
    axes.set_ylabel(msg("overall accuracy, 95 % interval"))
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
        label=msg("{name}, extrapolated", name=name),
    )
    for shots, ends in curve.extrapolated_intervals().items():
        axes.plot([shots, shots], ends, color=colour, linewidth=1, alpha=0.6)


def standing_figure(rows: Sequence[tuple[str, Interval, bool]], target: float | None) -> bytes:
    """Draw accuracies with their intervals against the target, one row each.

    Args:
        rows: (name, accuracy, whether it is of training tiles), top to bottom.
        target: the accuracy wanted.
    """
    figure = canvas(6.8, 0.9 + 0.42 * len(rows))
    axes = figure.add_subplot()
    for place, (_, accuracy, of_training) in enumerate(rows):
        colour = ORANGE if of_training else BLUE
        axes.plot(
            [accuracy.low, accuracy.high],
            [place, place],
            color=colour,
            linewidth=2.4,
            solid_capstyle="butt",
            alpha=0.55,
        )
        axes.plot(accuracy.value, place, "o", color=colour, markersize=7)
        axes.annotate(
            numeral(accuracy.value, ".3f"),
            (accuracy.value, place),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color=INK,
        )
    lows = [accuracy.low for _, accuracy, _ in rows] + ([target] if target else [])
    axes.set(ylim=(len(rows) - 0.4, -0.75), xlim=(max(0.0, min(lows) - 0.05), 1.02))
    plain_axes(axes, "", grid="x")
    _target(axes, target, across=True)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_xlabel(msg("accuracy in evaluation mode, 95 % interval"))
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return encoded(figure)


def epochs_figure(history: Sequence[Part], best: int | None, verdict: Verdict) -> bytes:
    """Draw accuracy and loss by epoch with the target, and where the finished network stands."""
    if not history:
        return message(msg("No epochs were trained, so there are no curves."))
    figure = canvas(8.6, 3.5)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    epochs = [row["epoch"] for row in history]
    for axes, kind in ((left, msg("accuracy")), (right, msg("loss"))):
        for name, colour, label in (
            ("train", ORANGE, msg("training, in training mode")),
            ("val", BLUE, msg("held out inside the labels")),
        ):
            values = [row.get(f"{name}_{kind}", math.nan) for row in history]
            if np.isfinite(values).any():
                axes.plot(
                    epochs,
                    values,
                    color=colour,
                    linewidth=1.8,
                    label=label,
                    marker="o" if len(epochs) < 15 else "",
                    markersize=3.5,
                )
        if best is not None:
            axes.axvline(
                best,
                color=GREY,
                linewidth=1,
                linestyle=(0, (2, 2)),
                zorder=1,
                label=msg("kept epoch"),
            )
        plain_axes(axes, kind)
        axes.set_xlabel(msg("epoch"))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    _finished(left, max(epochs), verdict)
    _target(left, verdict.target)
    _percent(left)
    figure.legend(
        *left.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    return encoded(figure)


def _finished(axes: Axes, last: float, verdict: Verdict) -> None:
    """The finished network's accuracies in evaluation mode, beside the curves."""
    place = last + max(0.6, 0.05 * last)
    for accuracy, colour, name in (
        (verdict.train, ORANGE, msg("finished, training tiles")),
        (verdict.validation, BLUE, msg("finished, test tiles")),
    ):
        ends = [[accuracy.value - accuracy.low], [accuracy.high - accuracy.value]]
        axes.errorbar(
            [place],
            [accuracy.value],
            yerr=ends,
            fmt="D",
            color=colour,
            markersize=5,
            elinewidth=1.4,
            label=name,
        )


def head_figure(head: Part, target: float | None) -> bytes:
    """Draw a probe's accuracies from a head pressed hard to a free one, with the target."""
    path = head["path"]
    figure = canvas(6.4, 3.7)
    axes = figure.add_subplot()
    for name, colour, style, label in (
        ("train", ORANGE, "-", msg("training tiles")),
        ("folds", GREY, DASHES, msg("held out by folds inside the labels")),
        ("validation", BLUE, "-", msg("test tiles")),
    ):
        known = [(row["setting"], row[name]) for row in path if row.get(name) is not None]
        if known:
            axes.plot(
                *zip(*known, strict=True),
                color=colour,
                linestyle=style,
                marker="o",
                markersize=4,
                linewidth=1.8,
                label=label,
            )
    folds = any(row.get("folds") is not None for row in path)
    chosen: str = msg("taken: {setting:g}", setting=head["chosen"])
    if folds:
        chosen = msg("chosen by log-loss in the folds: {setting:g}", setting=head["chosen"])
    axes.axvline(
        head["chosen"],
        color=GREY,
        linewidth=1,
        linestyle=(0, (2, 2)),
        zorder=1,
        label=chosen,
    )
    plain_axes(axes, msg("accuracy, from a head pressed hard to a free one"))
    axes.set_xscale("log")
    if head["kind"] == "discriminant":
        axes.invert_xaxis()
    settings = [row["setting"] for row in path]
    axes.set_xticks(settings, [numeral(setting, "g") for setting in settings])
    axes.set_xticks([], minor=True)
    if head["kind"] == "discriminant":
        axes.set_xlabel(msg("shrinkage   (regularised → free)"))
    else:
        axes.set_xlabel(msg("C, inverse penalty   (regularised → free)"))
    _target(axes, target)
    _percent(axes)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    return encoded(figure)


def capacity_figure(parts: Mapping[str, Part]) -> bytes:
    """Draw the overfit check: accuracy as training mode shows it, and in use."""
    figure = canvas(0.8 + 3.7 * len(parts), 3.3)
    panels = np.ravel(figure.subplots(1, len(parts), sharey=True))
    for axes, (name, part) in zip(panels, parts.items(), strict=True):
        steps, training, use = zip(*part["path"], strict=True)
        mark = "o" if len(steps) < 25 else ""
        axes.plot(
            steps,
            training,
            color=ORANGE,
            linewidth=1.5,
            linestyle=DASHES,
            marker=mark,
            markersize=3,
            label=msg("in training mode"),
        )
        axes.plot(
            steps,
            use,
            color=BLUE,
            linewidth=2,
            marker=mark,
            markersize=3.5,
            label=msg("in evaluation mode"),
        )
        plain_axes(axes, name)
        axes.set_xlabel(msg("step"))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylim(-0.02, 1.04)
    panels[-1].legend(frameon=False, fontsize=9, labelcolor=INK, loc="lower right")
    return encoded(figure)


def rates_figure(part: Part, own: float) -> bytes:
    """Draw the loss by learning rate, the suggestions, and the recipe's own rate."""
    if not part["rates"]:
        return message(msg("The loss was not finite at the smallest rate, so there is no curve."))
    figure = canvas(6.4, 3.6)
    axes = figure.add_subplot()
    rates, smooth = np.asarray(part["rates"]), np.asarray(part["smooth"])
    axes.plot(rates, part["loss"], color=FAINT, linewidth=0.8, alpha=0.55, label=msg("each batch"))
    axes.plot(rates, smooth, color=BLUE, linewidth=2, label=msg("smoothed"))
    for rate, colour, name in (
        (part["steepest"], ORANGE, msg("steepest descent")),
        (part["tenth"], GREY, msg("a tenth of the minimum's")),
        (own, INK, msg("the recipe's train.lr")),
    ):
        if rate is not None:
            axes.axvline(
                rate,
                color=colour,
                linewidth=1.4,
                linestyle=DASHES,
                label=msg("{name}: {rate:.1e}", name=name, rate=rate),
            )
    plain_axes(axes, msg("loss while the learning rate rises"))
    axes.set_xscale("log")
    axes.set_ylim(0, 1.08 * float(smooth.max()))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}"))
    axes.set_xlabel(msg("learning rate of the head"))
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    return encoded(figure)


def _percent(axes: Axes) -> None:
    """Accuracies in whole percent, up to 100."""
    low = axes.get_ylim()[0]
    axes.set_ylim(max(-0.02, min(low, 0.9)), 1.02)
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _target(axes: Axes, target: float | None, *, across: bool = False) -> None:
    """The target as a line with its name."""
    if target is None:
        return
    draw = axes.axvline if across else axes.axhline
    draw(target, color=INK, linewidth=1.1, linestyle=(0, (5, 2)), zorder=1)
    place: tuple[float, float] = (target, 1.0) if across else (0.0, target)
    axes.annotate(
        msg("target {target:g}", target=target),
        place,
        xycoords=("data", "axes fraction") if across else ("axes fraction", "data"),
        xytext=(3, -9) if across else (3, 3),
        textcoords="offset points",
        fontsize=8.5,
        color=INK,
    )
