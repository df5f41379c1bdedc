"""Labelled tiles as PNG bytes, in the look of `figures`: a map, a contact sheet, pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from geotl.arrays import Float64s, Int64s, UInt8s
from geotl.reporting.figures import FAINT, INK, canvas, encoded, message, plain_axes, shortened
from geotl.reporting.rendering import default_colours


def centres_figure(places: Float64s, labels: Int64s, classes: Sequence[str], crs: str) -> bytes:
    """Draw where tiles lie [N,2], coloured by class; nan for those whose place is not known."""
    known = np.isfinite(places).all(axis=1) & (labels >= 0)
    if not known.any():
        return message("No tile tells where it lies.")
    wide = max(4.6, 7.4 if len(classes) <= 12 else 8.6)
    figure = canvas(wide, max(4.6, 0.26 * min(len(classes), 24)))
    axes = figure.add_subplot()
    size = float(np.clip(900 / max(int(known.sum()), 1), 5, 36))
    for label, (name, colour) in enumerate(
        zip(classes, default_colours(len(classes)), strict=True)
    ):
        mine = known & (labels == label)
        axes.scatter(
            places[mine, 0],
            places[mine, 1],
            size,
            color=colour,
            linewidths=0,
            label=f"{shortened(name, 28)} ({int(mine.sum())})",
        )
    plain_axes(axes, f"Where the tiles lie ({shortened(crs, 40)})")
    axes.set_aspect("equal", adjustable="datalim")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    decimals = "{x:,.2f}" if np.ptp(places[known], axis=0).max() < 50 else "{x:,.0f}"
    axes.xaxis.set_major_formatter(StrMethodFormatter(decimals))
    axes.yaxis.set_major_formatter(StrMethodFormatter(decimals))
    axes.legend(
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        markerscale=float(np.sqrt(30 / size)),
        handletextpad=0.2,
        borderaxespad=0.2,
    )
    return encoded(figure)


def contact_figure(rows: Sequence[tuple[str, Sequence[UInt8s]]]) -> bytes:
    """Lay tiles [h,w,3] out in rows, one for each class, its name and a second line before them."""
    side, gap, head = 0.92, 0.06, 1.75
    across = max((len(tiles) for _, tiles in rows), default=1)
    width, height = head + across * (side + gap), len(rows) * (side + gap)
    figure = canvas(width, height)
    figure.set_layout_engine("none")  # every tile's place is worked out here
    for line, (name, tiles) in enumerate(rows):
        low = height - (line + 1) * (side + gap) + gap
        first, _, second = name.partition("\n")
        figure.text(
            (head - 0.12) / width,
            (low + side / 2) / height,
            f"{shortened(first, 22)}\n{second}",
            ha="right",
            va="center",
            fontsize=8.5,
            color=INK,
        )
        for cell, tile in enumerate(tiles):
            left = head + cell * (side + gap)
            axes = figure.add_axes((left / width, low / height, side / width, side / height))
            axes.imshow(tile, interpolation="nearest")
            axes.set_axis_off()
    return encoded(figure)


def pairs_figure(pairs: Sequence[tuple[UInt8s, UInt8s, str, str]]) -> bytes:
    """Show pairs of tiles side by side, with a caption under each."""
    side, gap, foot, across = 1.1, 0.04, 0.42, 3
    cell = 2 * side + gap + 0.25
    lines = -(-len(pairs) // across)
    width, height = min(across, len(pairs)) * cell, lines * (side + foot)
    figure = canvas(width, height)
    figure.set_layout_engine("none")  # every tile's place is worked out here
    for place, (first, second, below, faint) in enumerate(pairs):
        left, low = (place % across) * cell, height - (place // across + 1) * (side + foot) + foot
        for shift, tile in enumerate((first, second)):
            at = left + shift * (side + gap)
            axes = figure.add_axes((at / width, low / height, side / width, side / height))
            axes.imshow(tile, interpolation="nearest")
            axes.set_axis_off()
        for line, (text, colour) in enumerate(((below, INK), (faint, FAINT))):
            figure.text(
                left / width,
                (low - 0.04 - 0.14 * line) / height,
                shortened(text, 46),
                va="top",
                fontsize=7,
                color=colour,
            )
    return encoded(figure)
