"""Figures of what a network's answers rest on: evidence, likeness of tiles, pairs mixed up."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D

from geotl.arrays import Bools, Floats, Int64s, UInt8s
from geotl.language import msg
from geotl.reporting.figures import (
    FAINT,
    GREY,
    INK,
    RULE,
    canvas,
    encoded,
    message,
    plain_axes,
    shortened,
)

_HEAT = LinearSegmentedColormap.from_list(
    "heat", [(1.0, 0.45, 0.0, 0.0), (1.0, 0.45, 0.0, 0.55), (1.0, 0.93, 0.2, 0.9)]
)
SIDE = 1.45  # inches of a tile
SHAPES = ("o", "s", "^", "D", "v", "P", "X")  # of classes, beside their colours
MOST_IN_COLUMN = 24  # classes that fit beside the plot, one under the other


def evidence_figure(
    tiles: Sequence[UInt8s], falls: Sequence[Floats], names: Sequence[str], sure: Sequence[float]
) -> bytes:
    """Tiles, and beside each the same in grey with what its class rests on laid over it.

    Args:
        tiles: uint8 [h,w,3].
        falls: of the log-odds of the class where the tile is covered [k,k].
        names: classes.
        sure: probabilities of these.
    """
    if not tiles:
        return message(msg("No tile was classified correctly, so there is nothing to explain."))
    columns = min(3, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    cell, high = 2 * SIDE + 0.3, SIDE + 0.42
    figure = canvas(columns * cell, rows * high)
    figure.set_layout_engine("none")
    width, height = columns * cell, rows * high
    for number, (tile, fall, name, share) in enumerate(zip(tiles, falls, names, sure, strict=True)):
        left = (number % columns) * cell
        low = height - (number // columns) * high - SIDE - 0.02
        for place in (0, 1):
            at = (left + place * (SIDE + 0.06)) / width
            axes = figure.add_axes((at, low / height, SIDE / width, SIDE / height))
            axes.set_axis_off()
            if place == 0:
                axes.imshow(tile, interpolation="nearest")
                _under(axes, shortened(name, 28), msg("{share:.0%} sure", share=share), FAINT)
            else:
                _overlay(axes, tile, fall)
                _under(
                    axes,
                    "",
                    msg("odds fall up to {times}", times=_times(float(fall.max()))),
                    FAINT,
                )
    return encoded(figure)


def _overlay(axes: Axes, tile: UInt8s, fall: Floats) -> None:
    grey = tile.astype(float).mean(axis=2)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    top = float(fall.max())
    shown = np.clip(fall / top, 0, 1) if top > 0 else np.zeros_like(fall)
    high, wide = grey.shape
    axes.imshow(
        shown,
        cmap=_HEAT,
        vmin=0,
        vmax=1,
        interpolation="bilinear",
        extent=(-0.5, wide - 0.5, high - 0.5, -0.5),
    )


def _times(fall: float) -> str:
    """A fall of log-odds in words.

    >>> _times(0.0), _times(1.0), _times(20.0)
    ('not at all', '2.7-fold', 'over 1,000-fold')
    """
    if fall <= 0:
        return msg("not at all")
    if fall > math.log(1000):
        return msg("over 1,000-fold")
    return msg("{times:.1f}-fold", times=math.exp(fall))


def _under(axes: Axes, first: str, second: str, colour: str) -> None:
    for line, (text, tint) in enumerate(((first, INK), (second, colour))):
        axes.annotate(
            text,
            (0, 0),
            xycoords="axes fraction",
            xytext=(0, -3 - 10 * line),
            textcoords="offset points",
            va="top",
            fontsize=7.5,
            color=tint,
        )


def embedding_figure(
    places: Floats,
    truth: Int64s,
    wrong: Bools,
    classes: Sequence[str],
    colours: Sequence[str],
) -> bytes:
    """Tiles in the plane, marked by their class; those classified incorrectly have a dark ring.

    Classes differ in colour and in shape, so that grey paper will do; their names stand beside the
    plot, where they hide no tile.
    """
    if len(places) < 3:
        return message(msg("Too few tiles to lay out."))
    figure = canvas(8.4, 5.6)
    axes = figure.add_subplot()
    shown = [k for k in range(len(classes)) if (truth == k).any()]
    for k in shown:
        _class_marks(
            axes, places[truth == k], wrong[truth == k], colours[k], SHAPES[k % len(SHAPES)]
        )
    marks = [_mark(SHAPES[k % len(SHAPES)], colours[k], shortened(classes[k], 24)) for k in shown]
    marks.append(_mark("o", "none", msg("incorrect"), INK))
    plain_axes(axes)
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.margins(0.05)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(RULE)
    figure.legend(
        handles=marks,
        loc="outside right upper",
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        ncols=math.ceil(len(marks) / MOST_IN_COLUMN),
        handletextpad=0.3,
    )
    return encoded(figure)


def _class_marks(axes: Axes, places: Floats, wrong: Bools, colour: str, shape: str) -> None:
    """The tiles of one class; the rings of those classified incorrectly lie on top of all."""
    for missed, size, edge, width in ((False, 20, GREY, 0.3), (True, 32, INK, 1.1)):
        some = places[wrong == missed]
        axes.scatter(
            some[:, 0],
            some[:, 1],
            s=size,
            color=colour,
            marker=shape,
            edgecolors=edge,
            linewidths=width,
            zorder=3 if missed else 2,
        )


def _mark(shape: str, colour: str, name: str, edge: str = GREY) -> Line2D:
    """A line of the legend."""
    return Line2D(
        [],
        [],
        linestyle="",
        marker=shape,
        markersize=6,
        markerfacecolor=colour,
        markeredgecolor=edge,
        markeredgewidth=0.4 if edge == GREY else 1.1,
        label=name,
    )


def pairs_figure(
    rows: Sequence[Sequence[UInt8s]], titles: Sequence[str], notes: Sequence[str]
) -> bytes:
    """A row of tiles for each pair of classes mixed up, what they are and were taken for before.

    Args:
        rows: of each pair the tiles, uint8 [h,w,3].
        titles: of each pair, such as `River → Highway`.
        notes: a remark under each title.
    """
    if not rows:
        return message(msg("No two classes were mixed up."))
    side, names = 1.1, 1.9
    columns = max(map(len, rows))
    width, height = names + columns * (side + 0.08), len(rows) * (side + 0.12)
    figure = canvas(width, height)
    figure.set_layout_engine("none")
    for number, (tiles, title, note) in enumerate(zip(rows, titles, notes, strict=True)):
        low = height - number * (side + 0.12) - side
        middle = (low + side / 2) / height
        for shift, text, colour, size in ((0.1, title, INK, 9), (-0.1, note, FAINT, 8)):
            figure.text(0, middle + shift / height, text, va="center", fontsize=size, color=colour)
        for at, tile in enumerate(tiles):
            left = names + at * (side + 0.08)
            axes = figure.add_axes((left / width, low / height, side / width, side / height))
            axes.imshow(tile, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_color(GREY)
            axes.spines[:].set_linewidth(0.5)
    return encoded(figure)
