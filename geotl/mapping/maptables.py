"""Areas of a map's classes, as a table and as lines."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from geotl.mapping.layers import Areas

NOT_MAPPED = "(valid, not mapped)"


def areas_csv(areas: Areas, classes: Sequence[str]) -> str:
    """Pixels, square metres, hectares and share of each class, and what was not mapped.

    Pixels are the scene's valid ones; without a reference system there are no metres.
    """
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["value", "class", "pixels", "square_metres", "hectares", "percent"])
    for row in _rows(areas, classes):
        table.writerow(row)
    return stream.getvalue()


def areas_lines(areas: Areas, classes: Sequence[str]) -> list[str]:
    """The same for people."""
    width = max(map(len, (*classes, NOT_MAPPED)))
    lines = []
    for _, name, pixels, _, hectares, percent in _rows(areas, classes):
        if not pixels:
            continue
        ground = f"{float(hectares):14,.1f} ha" if hectares else f"{pixels:14,} px"
        lines.append(f"  {name.ljust(width)} {ground} {percent:>6} %")
    return lines


def _rows(areas: Areas, classes: Sequence[str]) -> list[tuple[int | str, str, int, str, str, str]]:
    told = [
        (value, name, int(pixels), float(metres))
        for value, (name, pixels, metres) in enumerate(
            zip(classes, areas.pixels, areas.square_metres, strict=True)
        )
    ]
    rows: list[tuple[int | str, str, int, float]] = [
        *told,
        ("", NOT_MAPPED, areas.unmapped_pixels, areas.unmapped_square_metres),
    ]
    total = sum(pixels for _, _, pixels, _ in rows)
    return [
        (
            value,
            name,
            pixels,
            _number(metres, 1, 2),
            _number(metres, 1e4, 4),
            f"{100 * pixels / max(total, 1):.2f}",
        )
        for value, name, pixels, metres in rows
    ]


def _number(metres: float, unit: float, digits: int) -> str:
    return "" if math.isnan(metres) else f"{metres / unit:.{digits}f}"
