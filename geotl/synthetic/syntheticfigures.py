"""Real tiles beside synthetic ones, class by class, on one sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.patches import Rectangle

from geotl.arrays import UInt8s
from geotl.reporting.figures import FAINT, INK, ORANGE, canvas, encoded, shortened

CELL, GAP, NAME, HEAD, FOOT = 0.82, 0.05, 1.5, 0.62, 0.34  # inches


def synthetic_sheet(
    rows: Mapping[str, tuple[Sequence[UInt8s], Sequence[UInt8s]]],
    copies: Mapping[str, Sequence[bool]],
    title: str,
    note: str,
) -> bytes:
    """Draw a row for each class: its real tiles [h, w, 3] on the left, synthetic on the right.

    Args:
        rows: pictures of real and of synthetic tiles, by class.
        copies: which of the synthetic ones are flagged; they are framed.
        title: above all.
        note: below all.
    """
    left = max((len(real) for real, _ in rows.values()), default=1)
    right = max((len(made) for _, made in rows.values()), default=1)
    width = NAME + (left + right) * (CELL + GAP) + 4 * GAP
    height = HEAD + len(rows) * (CELL + GAP) + FOOT
    figure = canvas(width, height)
    figure.set_layout_engine("none")  # every tile's place is worked out here
    second = NAME + left * (CELL + GAP) + 3 * GAP
    for line, (name, (real, made)) in enumerate(rows.items()):
        low = height - HEAD - (line + 1) * (CELL + GAP)
        figure.text(
            0.06 / width,
            (low + CELL / 2) / height,
            shortened(name),
            va="center",
            fontsize=8,
            color=INK,
        )
        marks = [*[False] * len(real), *copies.get(name, [False] * len(made))]
        starts = [NAME + i * (CELL + GAP) for i in range(len(real))]
        starts += [second + i * (CELL + GAP) for i in range(len(made))]
        for start, tile, mark in zip(starts, [*real, *made], marks, strict=True):
            place = (start / width, low / height, CELL / width, CELL / height)
            axes = figure.add_axes(place)
            axes.imshow(np.asarray(tile), interpolation="nearest")
            axes.set_axis_off()
            if mark:
                frame = Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False)
                frame.set(edgecolor=ORANGE, linewidth=3, clip_on=False)
                axes.add_patch(frame)
    top = (height - HEAD + 0.06) / height
    figure.text(NAME / width, top, "real, learnt from", fontsize=8.5, color=FAINT)
    figure.text(second / width, top, "synthetic", fontsize=8.5, color=FAINT)
    figure.text(
        0.06 / width, 1 - 0.1 / height, title, va="top", fontsize=11, color=INK, fontweight="bold"
    )
    figure.text(0.06 / width, 0.08 / height, note, va="bottom", fontsize=7.5, color=FAINT)
    return encoded(figure)
