"""A finished map as a figure: classes, confidence, legend, scale bar, north, graticule.

Every place on the sheet is worked out here, in inches from its upper left corner, so that maps of
any shape and any number of classes fill it well.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import imsave
from matplotlib.patches import Polygon, Rectangle

from geotl.arrays import UInt8s
from geotl.io.geodesy import Ground, ground_of
from geotl.language import msg, numeral, translated
from geotl.mapping.graticule import bar_length, graticule, length_name
from geotl.mapping.map_words import MapFacts, source_line, subtitle
from geotl.mapping.preview import Look
from geotl.reporting.figures import FAINT, INK, RULE, canvas, encoded, shortened

SHEET_IN, _MARGIN, _GAP = 10.6, 0.4, 0.4
_ROW, _NAME_PT = 0.215, 9.0  # of the legend
_NARROW = 1.7  # the text below a map may be wider than it
_UNDER = 0.66  # below a map: names of meridians, scale bar
_HEAD = 0.26  # above a panel: its name


@dataclass(frozen=True)
class Box:
    """A rectangle on the sheet, in inches from its upper left corner."""

    left: float
    top: float
    width: float
    height: float

    @property
    def bottom(self) -> float:
        """Its right edge."""
        return self.top + self.height


@dataclass(frozen=True)
class MapLayout:
    """The layout: both panels, the legend with its columns, and the figure's height."""

    classes: Box
    confidence: Box
    legend: Box
    columns: int
    height: float


def confidence_ramp() -> UInt8s:
    """Colours [101,3] of confidence from 0 to 100 percent, from dark to light for any eye."""
    shades = np.asarray(colormaps["cividis"](np.linspace(0, 1, 101)))
    return np.asarray(np.rint(255 * shades[:, :3]), dtype=np.uint8)


def coloured(values: UInt8s, colours: UInt8s) -> UInt8s:
    """Values [h,w] as colours with opacity [h,w,4]; what has no colour [K,3] is see-through.

    >>> coloured(np.array([[1, 255]], np.uint8), np.array([[9, 9, 9], [1, 2, 3]], np.uint8))
    array([[[  1,   2,   3, 255],
            [  0,   0,   0,   0]]], dtype=uint8)
    """
    table = np.zeros((256, 4), np.uint8)
    table[: len(colours), :3], table[: len(colours), 3] = colours, 255
    colours_of_values: UInt8s = table[values]
    return colours_of_values


def rgb_of(colours: Sequence[str]) -> UInt8s:
    """Colours #rrggbb as numbers [K,3].

    >>> rgb_of(["#0072b2"]).tolist()
    [[0, 114, 178]]
    """
    numbers = [[int(text[i : i + 2], 16) for i in (1, 3, 5)] for text in colours]
    return np.array(numbers, dtype=np.uint8).reshape(-1, 3)


def jpeg(picture: UInt8s) -> bytes:
    """A picture [h,w,3] as JPEG."""
    stream = io.BytesIO()
    imsave(stream, picture, format="jpeg", pil_kwargs={"quality": 85})
    return stream.getvalue()


def map_figure(look: Look, facts: MapFacts) -> bytes:
    """The sheet as PNG.

    Args:
        look: the map in few pixels.
        facts: of the text around it.
    """
    entries = legend_entries(facts)
    ground = ground_of(look.grid)
    tall = 1.0 if ground is None else ground.down_m / ground.across_m
    ratio = look.grid.width / (look.grid.height * tall)
    figure = canvas(SHEET_IN, 1.0)
    figure.set_layout_engine("none")
    layout = laid_out(ratio, len(entries), _widest(figure, [name for name, _, _ in entries]))
    figure.set_size_inches(SHEET_IN, layout.height)
    _heading(figure, layout, facts)
    colours = coloured(look.classes, rgb_of(facts.colours))
    _panel(figure, layout, layout.classes, colours, look)
    _scale(figure, layout, ground, look)
    shades = coloured(look.confidence, confidence_ramp())
    axes = _panel(figure, layout, layout.confidence, shades, look)
    mean: str = msg("Confidence, none")
    if math.isfinite(facts.confidence):
        mean = msg("Confidence, mean {share:.0f} %", share=facts.confidence)
    axes.set_title(mean, loc="left", fontsize=9.5, color=INK, pad=5)
    _ramp(figure, layout)
    _legend(figure, layout, entries)
    return encoded(figure)


def legend_entries(facts: MapFacts) -> list[tuple[str, str | None, str]]:
    """Name, colour and percent of what is on the map, largest first; None is the hatching."""
    shares = facts.shares
    there = [k for k in np.argsort(-shares[:-1], kind="stable") if facts.areas.pixels[k]]
    entries: list[tuple[str, str | None, str]] = [
        (facts.classes[k], facts.colours[k], _percent(float(shares[k]))) for k in there
    ]
    left = _percent(float(shares[-1])) if facts.areas.unmapped_pixels else ""
    return [*entries, (msg("not mapped"), None, left)]


def laid_out(ratio: float, entries: int, name_in: float) -> MapLayout:
    """Places on the sheet for maps `ratio` times as wide as high.

    Wide maps are above their confidence, others beside it; the legend goes where room is left.

    Args:
        ratio: width by height in metres.
        entries: of the legend.
        name_in: width of the longest name in it.
    """
    wide, top = SHEET_IN - 2 * _MARGIN, _MARGIN + 0.85
    column = min(name_in + 1.4, wide)
    if ratio >= 3.5:  # everything below each other
        main = Box(_MARGIN, top, wide, wide / ratio)
        second = Box(_MARGIN, main.bottom + _UNDER + _HEAD + 0.1, wide, wide / ratio)
        legend, columns = _block(_MARGIN, second.bottom + 0.75, wide, entries, column)
    elif ratio >= 1.3:  # confidence and legend share the row below
        main = Box(_MARGIN, top, wide, wide / ratio)
        second = Box(_MARGIN, main.bottom + _UNDER + _HEAD + 0.1, 4.4, 4.4 / ratio)
        left = second.left + second.width + _GAP
        legend, columns = _block(left, second.top - 0.1, wide + _MARGIN - left, entries, column)
    else:
        high = min(6.6, 6.2 / ratio)
        main = Box(_MARGIN, top, high * ratio, high)
        left = _MARGIN + max(main.width, _NARROW) + _GAP
        room = wide + _MARGIN - left
        if ratio >= 0.6:  # confidence above the legend, beside the map
            small = min(room, (0.52 * high) * ratio)
            second = Box(left, top, small, small / ratio)
            legend, columns = _block(left, second.bottom + 0.65, room, entries, column)
        else:  # three columns
            second = Box(left, top, main.width, high)
            left += max(main.width, _NARROW) + _GAP
            legend, columns = _block(left, top, wide + _MARGIN - left, entries, column)
        high_up = ratio < 0.6 or legend.bottom <= main.bottom + 2.5
        if column > legend.width or not high_up:
            legend, columns = _block(_MARGIN, main.bottom + _UNDER + 0.25, wide, entries, column)
    lowest = max(main.bottom + _UNDER, second.bottom + 0.6, legend.bottom)
    return MapLayout(main, second, legend, columns, lowest + 0.75)


def _block(left: float, top: float, width: float, entries: int, column: float) -> tuple[Box, int]:
    """The legend's box and columns: as many as fit, no more than leave six rows each."""
    columns = max(1, min(int(width / column), math.ceil(entries / 6)))
    return Box(left, top, width, 0.3 + _ROW * math.ceil(entries / columns)), columns


def _percent(share: float) -> str:
    return numeral(f"{share:.1f} %" if share >= 0.05 or share == 0 else "<0.1 %")


def _widest(figure: Figure, names: Sequence[str]) -> float:
    """Width of the widest name in inches."""
    return max(_width(figure, name) for name in names)


def _width(figure: Figure, text: str, points: float = _NAME_PT) -> float:
    text = translated(text)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    font = FontProperties(size=points)
    return float(renderer.get_text_width_height_descent(text, font, ismath=False)[0] / figure.dpi)


def _axes(figure: Figure, layout: MapLayout, box: Box) -> Axes:
    return figure.add_axes(
        (
            box.left / SHEET_IN,
            1 - box.bottom / layout.height,
            max(box.width, 0.01) / SHEET_IN,
            max(box.height, 0.01) / layout.height,
        )
    )


def _heading(figure: Figure, layout: MapLayout, facts: MapFacts) -> None:
    left, high = _MARGIN / SHEET_IN, layout.height
    title = shortened(facts.title, 78)
    figure.text(
        left, 1 - _MARGIN / high, title, va="top", fontsize=16, color=INK, fontweight="bold"
    )
    figure.text(
        left, 1 - (_MARGIN + 0.36) / high, subtitle(facts), va="top", fontsize=10, color=FAINT
    )
    text = textwrap.fill(translated(source_line(facts)), 172)
    figure.text(left, 0.5 / high, text, va="top", fontsize=7.5, color=FAINT, linespacing=1.4)


def _panel(figure: Figure, layout: MapLayout, box: Box, image: UInt8s, look: Look) -> Axes:
    """A picture of the map over hatched paper, with parallels and meridians."""
    axes = _axes(figure, layout, box)
    height, width = image.shape[:2]
    paper = Rectangle(
        (0, 0), width, height, facecolor="white", edgecolor="#c3cbd3", hatch="/////", linewidth=0
    )
    axes.add_patch(paper)
    axes.imshow(
        image, extent=(0, width, height, 0), interpolation="nearest", aspect="auto", zorder=2
    )
    line_counts = max(1, round(box.width / 1.5)), max(1, round(box.height / 1.5))
    for line in graticule(look.grid, line_counts):
        axes.plot(*line.places.T, color=INK, linewidth=0.5, alpha=0.35, zorder=3)
        if line.label_at is None or box is not layout.classes:
            continue
        if line.kind == "meridian":
            ends = _towards(line.label_at, width, box.width, ("left", "right"))
            axes.annotate(
                line.name,
                (line.label_at, height),
                xytext=(0, -3),
                textcoords="offset points",
                ha=ends,
                va="top",
                fontsize=7,
                color=FAINT,
                annotation_clip=False,
            )
        else:
            ends = _towards(line.label_at, height, box.height, ("top", "bottom"))
            axes.annotate(
                line.name,
                (0, line.label_at),
                xytext=(-3, 0),
                textcoords="offset points",
                ha="right",
                va=ends,
                rotation=90,
                fontsize=7,
                color=FAINT,
                annotation_clip=False,
            )
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    axes.spines[:].set_color("#8a96a2")
    axes.spines[:].set_linewidth(0.8)
    axes.spines[:].set_zorder(4)
    return axes


def _towards(place: float, length: float, inches: float, ends: tuple[str, str]) -> str:
    """Which way a name is set from its place on an edge: away from a corner that is near."""
    near = 0.3 * length / max(inches, 0.01)
    return ends[0] if place < near else ends[1] if place > length - near else "center"


def _scale(figure: Figure, layout: MapLayout, ground: Ground | None, look: Look) -> None:
    """Scale bar and north arrow under the class map; why not, where the place is not known."""
    box = layout.classes
    strip = Box(box.left, box.bottom + 0.22, max(box.width, _NARROW), 0.4)
    axes = _axes(figure, layout, strip)
    axes.set(xlim=(0, strip.width), ylim=(strip.height, 0))
    axes.set_axis_off()
    if ground is None:
        axes.text(
            0,
            0.1,
            msg("no reference system: no scale, no north"),
            fontsize=8,
            color=FAINT,
            va="top",
        )
        return
    per_inch = ground.across_m * look.grid.width / max(box.width, 0.01)
    longest = min(0.5 * strip.width, 2.6) * per_inch
    metres = bar_length(longest)
    long = metres / per_inch
    for part in range(4):
        axes.add_patch(
            Rectangle(
                (part * long / 4, 0.08),
                long / 4,
                0.07,
                linewidth=0.8,
                edgecolor=INK,
                facecolor=INK if part % 2 == 0 else "white",
            )
        )
    short = long < 0.75
    axes.text(0, 0.2, "" if short else "0", fontsize=8, color=INK, va="top", ha="left")
    axes.text(
        0 if short else long,
        0.2,
        length_name(metres),
        fontsize=8,
        color=INK,
        va="top",
        ha="left" if short else "right",
    )
    if ground.changes:
        axes.text(0, 0.36, msg("along the middle parallel"), fontsize=7, color=FAINT, va="top")
    _north(axes, strip.width - 0.25, 0.2, ground.north_deg)


def _north(axes: Axes, x: float, y: float, degrees: float) -> None:
    """An arrow to true north about a place (y runs down), turned clockwise from the top."""
    turn = math.radians(degrees)

    def at(right: float, up: float) -> tuple[float, float]:
        return (
            x + right * math.cos(turn) + up * math.sin(turn),
            y + right * math.sin(turn) - up * math.cos(turn),
        )

    axes.add_patch(Polygon([at(0, 0.18), at(-0.08, -0.1), at(0, -0.04)], color=INK, linewidth=0))
    axes.add_patch(
        Polygon(
            [at(0, 0.18), at(0.08, -0.1), at(0, -0.04)],
            facecolor="white",
            edgecolor=INK,
            linewidth=0.7,
        )
    )
    axes.text(
        *at(0.17, 0.02), "N", fontsize=8.5, color=INK, ha="center", va="center", fontweight="bold"
    )


def _ramp(figure: Figure, layout: MapLayout) -> None:
    """The colours of confidence under its panel."""
    box = layout.confidence
    bar = Box(box.left, box.bottom + 0.12, min(max(box.width, 1.6), 2.6), 0.09)
    axes = _axes(figure, layout, bar)
    axes.imshow(confidence_ramp()[None], aspect="auto", extent=(0, 100, 0, 1))
    axes.set(xticks=[0, 50, 100], yticks=[])
    axes.set_xticklabels(["0", "50", "100 %"])
    axes.tick_params(length=0, labelsize=7.5, labelcolor=FAINT, pad=2)
    axes.spines[:].set_color(RULE)


def _legend(
    figure: Figure, layout: MapLayout, entries: Sequence[tuple[str, str | None, str]]
) -> None:
    """Swatch, name and percent of every class on the map, column by column."""
    box, columns = layout.legend, layout.columns
    axes = _axes(figure, layout, box)
    axes.set(xlim=(0, box.width), ylim=(box.height, 0))
    axes.set_axis_off()
    rows = math.ceil(len(entries) / columns)
    wide = box.width / columns
    longest = _widest(figure, [name for name, _, _ in entries])
    reach = min(wide - 0.1, longest + 1.2)  # where the percents end
    room = reach - 0.31 - 0.65  # for a name
    axes.text(0, 0.0, msg("Classes, share of valid area"), fontsize=9.5, color=INK, va="top")
    for place, (name, colour, share) in enumerate(entries):
        left, top = (place // rows) * wide, 0.3 + (place % rows) * _ROW
        axes.add_patch(
            Rectangle(
                (left + 0.01, top),
                0.22,
                0.14,
                linewidth=0.6,
                edgecolor="#c3cbd3" if colour is None else "#5b6773",
                facecolor=colour or "white",
                hatch="/////" if colour is None else None,
            )
        )
        text = translated(name)
        while len(text) > 4 and _width(figure, text) > room:
            text = shortened(name, len(text) - 1)
        axes.text(left + 0.31, top + 0.07, text, fontsize=_NAME_PT, color=INK, va="center_baseline")
        axes.text(
            left + reach,
            top + 0.07,
            share,
            fontsize=_NAME_PT,
            color=FAINT,
            ha="right",
            va="center_baseline",
        )
