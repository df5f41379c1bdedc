"""The figures of a run, as PNG bytes: confusion, curves, mistakes, baselines, calibration.

Matplotlib's object-oriented interface on the Agg canvas is used throughout, so that no display
is needed and no global state is left behind. Right and wrong are separated by blue against
orange and by place, never by red against green.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    Formatter,
    MaxNLocator,
    PercentFormatter,
)
from numpy.typing import ArrayLike

from geotl.arrays import Float64s, Int64s, UInt8s
from geotl.evaluation.evaluate import MIN_TILES, Reliability
from geotl.io.files import whole_file
from geotl.language import Message, current, local_number, msg, numeral, translated
from geotl.reporting.rendering import default_colours, quicklook, stretch_limits

__all__ = [
    "baselines_figure",
    "calibration_figure",
    "confusion_figure",
    "curves_figure",
    "default_colours",
    "mistakes_figure",
    "penalties_figure",
    "quicklook",
    "sheet_figure",
    "stretch_limits",
    "write_png",
]

DPI = 144  # twice the 72 points an inch has: sharp on dense screens and on paper
INK, FAINT, RULE = "#1d2733", "#5b6773", "#d5dbe1"
BLUE, ORANGE, GREY = "#0b5fa5", "#c8560a", "#7b8794"
PALE = "#a9c4dc"  # blue, for what says next to nothing
RIGHT = LinearSegmentedColormap.from_list("right", ["#f3f8fc", "#a9cdea", "#2f7fc1", "#08457e"])
WRONG = LinearSegmentedColormap.from_list("wrong", ["#fff4ea", "#fcc48d", "#e8832c", "#a83f00"])


def write_png(path: Path, png: bytes) -> None:
    """Write PNG bytes whole or not at all."""
    with whole_file(path) as part:
        part.write_bytes(png)


def canvas(width_in: float, height_in: float) -> Figure:
    """Open an empty figure of a size in inches, laid out so that nothing overlaps."""
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


class _Translated(Formatter):
    """Tick labels in the language of the page: names that are messages, and numbers."""

    def __init__(self, inner: Formatter, *, numbers: bool) -> None:
        self.inner, self.numbers = inner, numbers

    def set_axis(self, axis: Any) -> None:
        self.inner.set_axis(axis)

    def set_locs(self, locs: Any) -> None:
        self.inner.set_locs(locs)

    def get_offset(self) -> str:
        return self.inner.get_offset()

    def __call__(self, x: float, pos: int | None = None) -> str:
        return self._local(self.inner(x, pos))

    def format_ticks(self, values: Any) -> list[str]:
        return [self._local(label) for label in self.inner.format_ticks(values)]

    def _local(self, label: str) -> str:
        named = isinstance(label, Message) or not self.numbers
        return translated(label) if named else local_number(label)


def _translate(figure: Figure) -> None:
    """Set every text of a figure in the language of the page."""
    for text in figure.findobj(Text):
        text.set_text(translated(text.get_text()))
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            inner = axis.get_major_formatter()
            if isinstance(inner, _Translated):  # of shared axes
                continue
            named = isinstance(inner, FixedFormatter) or getattr(inner, "func", None) is not None
            named = isinstance(axis.get_major_locator(), FixedLocator) and named
            axis.set_major_formatter(_Translated(inner, numbers=not named))


def encoded(figure: Figure) -> bytes:
    """Encode a figure; no software or date in it, so that equal figures are equal bytes."""
    if current() != "en":
        _translate(figure)
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a class may be called "$5$"
    stream = io.BytesIO()
    figure.savefig(
        stream, format="png", facecolor="white", bbox_inches="tight", metadata={"Software": None}
    )
    return stream.getvalue()


def plain_axes(axes: Axes, title: str = "", grid: str = "both") -> None:
    """Set the quiet look that all plots share."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(RULE)
    axes.tick_params(which="both", colors=FAINT, labelsize=9, length=0)
    axes.xaxis.label.set_color(FAINT)
    axes.yaxis.label.set_color(FAINT)
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=RULE, linewidth=0.6)  # type: ignore[arg-type]
    if title:
        axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold")


def message(text: str, width_in: float = 7.0) -> bytes:
    """Say in a figure why there is nothing to draw."""
    figure = canvas(width_in, 1.2)
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=11, color=FAINT)
    return encoded(figure)


def confusion_figure(
    matrix: ArrayLike, classes: Sequence[str], title: str = "", unit: str = msg("tiles")
) -> bytes:
    """Draw a confusion matrix [K, K]: counts, coloured by their share of the row (the truth).

    Right answers, on the diagonal, are blue, mistakes orange, so that a few mistakes show
    beside many right answers. Beside each class stands its number of tiles, or of other units.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    n, support = len(classes), counts.sum(axis=1)
    side = 2.6 + max(n * 0.42, 1.6)
    figure = canvas(side, side)
    axes = figure.add_subplot()
    share = counts / np.maximum(support, 1)[:, None]
    colours = np.where(np.eye(n, dtype=bool)[..., None], RIGHT(share), WRONG(np.sqrt(share)))
    colours[counts == 0] = (1.0, 1.0, 1.0, 1.0)
    axes.imshow(colours, aspect="equal", interpolation="nearest")
    _cell_counts(axes, counts, share)
    shown = [shortened(name, 40) for name in classes]
    named = [f"{c} ({s})" for c, s in zip(shown, support, strict=True)]
    axes.set_xticks(range(n), shown, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(n), named)
    axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=RULE, linewidth=0.6)
    axes.tick_params(which="both", length=0, labelsize=9, labelcolor=INK)
    axes.spines[:].set_color(RULE)
    axes.set_xlabel(msg("predicted"), color=FAINT)
    axes.set_ylabel(msg("truth ({unit})", unit=unit), color=FAINT)
    if title:
        axes.set_title(title, fontsize=11, color=INK, fontweight="bold")
    return encoded(figure)


def _cell_counts(axes: Axes, counts: Int64s, share: Float64s) -> None:
    """Write the counts into the cells, white where the colour below is dark."""
    size = 9 if counts.max(initial=0) < 1000 else 7
    for (row, column), count in np.ndenumerate(counts):
        if count:
            dark = share[row, column] > (0.55 if row == column else 0.4)
            axes.text(
                column,
                row,
                str(count),
                ha="center",
                va="center",
                fontsize=size,
                color="white" if dark else INK,
                fontweight="bold" if row == column else "normal",
            )


def _column(history: Sequence[Mapping[str, Any]], name: str) -> Float64s:
    """One column of a training history; nan where a row has none."""
    cells = [row.get(name) for row in history]
    return np.array([math.nan if c is None or c == "" else float(c) for c in cells])


def curves_figure(history: Sequence[Mapping[str, Any]], best_epoch: int | None = None) -> bytes:
    """Draw loss, accuracy and learning rate by epoch, training beside validation.

    Rows hold epoch, train_loss, val_loss, train_accuracy, val_accuracy and lr; what is missing
    is left out. `best_epoch` marks the epoch whose weights were kept.
    """
    wanted = {
        msg("loss"): ("train_loss", "val_loss"),
        msg("accuracy"): ("train_accuracy", "val_accuracy"),
        msg("learning rate"): ("lr",),
    }
    columns = {name: _column(history, name) for names in wanted.values() for name in names}
    panels = {
        label: [name for name in names if np.isfinite(columns[name]).any()]
        for label, names in wanted.items()
    }
    panels = {label: names for label, names in panels.items() if names}
    if not panels:
        return message(msg("No epochs were trained, so there are no curves."))
    figure = canvas(0.6 + 3.4 * len(panels), 3.2)
    epochs = _column(history, "epoch")
    for axes, (label, names) in zip(
        np.ravel(figure.subplots(1, len(panels))), panels.items(), strict=True
    ):
        _curve_panel(axes, epochs, {name: columns[name] for name in names}, label, best_epoch)
    return encoded(figure)


def _curve_panel(
    axes: Axes,
    epochs: Float64s,
    lines: Mapping[str, Float64s],
    label: str,
    best_epoch: int | None,
) -> None:
    """Draw one panel of the curves, a line for each column."""
    for name, values in lines.items():
        held_out = name.startswith("val")
        seen = np.isfinite(values)
        axes.plot(
            epochs[seen],
            values[seen],
            color=BLUE if held_out else (ORANGE if name.startswith("train") else GREY),
            linewidth=2.0 if held_out else 1.6,
            marker="o" if seen.sum() < 15 else "",
            markersize=3.5,
            label=msg("held out") if held_out else msg("training"),
        )
    if best_epoch is not None:
        axes.axvline(
            best_epoch,
            color=GREY,
            linewidth=1,
            linestyle=(0, (2, 2)),
            zorder=1,
            label=msg("kept epoch"),
        )
    plain_axes(axes, label)
    axes.set_xlabel(msg("epoch"))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if label == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylim(top=1.01)
    if label != "learning rate":
        axes.legend(frameon=False, fontsize=9, labelcolor=INK)


def penalties_figure(
    penalties: Sequence[float], accuracy: Sequence[float], chosen: float, name: str
) -> bytes:
    """Draw held-out accuracy by setting of the head: the curve of a probe, which has no epochs.

    `penalties` are the settings that were tried, `accuracy` their mean over the folds inside the
    training labels, and `name` says what the settings are. `chosen`, by the folds' log-loss, need
    not be where accuracy is highest.
    """
    if not len(penalties):
        return message(msg("No penalties were tried, so there is no curve."))
    figure = canvas(5.4, 3.2)
    axes = figure.add_subplot()
    order = np.argsort(penalties)
    across, up = np.asarray(penalties, float)[order], np.asarray(accuracy, float)[order]
    axes.plot(across, up, color=BLUE, linewidth=2, marker="o", markersize=4)
    late = chosen > float(np.median(across))  # its name goes where there is room
    axes.axvline(chosen, color=GREY, linewidth=1, linestyle=(0, (2, 2)))
    axes.annotate(
        msg("chosen by log-loss: {chosen:g}", chosen=chosen),
        (chosen, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if late else 4, -10),
        textcoords="offset points",
        ha="right" if late else "left",
        fontsize=9,
        color=FAINT,
    )
    axes.set_xscale("log")
    axes.set_xticks(across, [numeral(value, "g") for value in across])
    axes.set_xticks([], minor=True)
    axes.margins(y=0.25)
    plain_axes(axes, msg("accuracy in the folds inside the training labels"))
    axes.set_xlabel(name)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    return encoded(figure)


def mistakes_figure(
    quicklooks: Sequence[UInt8s] | UInt8s,
    truth: Sequence[str],
    predicted: Sequence[str],
    confidence: Sequence[float],
    most: int = 24,
    *,
    in_order: bool = False,
) -> bytes:
    """Show tiles that were classified incorrectly, the most confident first, at most `most`.

    With `in_order` they are shown as they come. `quicklooks` are uint8 [h, w, 3]; under each stand
    the truth and, in orange, what it was taken for and with what confidence.
    """
    sure = np.zeros(len(confidence)) if in_order else -np.asarray(confidence, dtype=np.float64)
    order = np.argsort(sure, kind="stable")[:most]
    if not len(order):
        return message(msg("No mistakes among the test tiles."))
    columns = min(6, len(order))
    width, height = 1.55 * columns, 2.0 * math.ceil(len(order) / columns)
    figure = canvas(width, height)
    figure.set_layout_engine("none")  # every tile's place is worked out here
    for cell, place in enumerate(order):
        left, top = 1.55 * (cell % columns), height - 2.0 * (cell // columns)
        axes = figure.add_axes(
            (left / width, (top - 1.45) / height, 1.45 / width, 1.45 / height), frame_on=False
        )
        axes.set_axis_off()
        axes.imshow(quicklooks[place], interpolation="nearest")
        lines = (
            shortened(truth[place]),
            f"→ {shortened(predicted[place])}",
            msg("{confidence:.0%} sure", confidence=confidence[place]),
        )
        for line, (text, colour) in enumerate(zip(lines, (INK, ORANGE, FAINT), strict=True)):
            axes.annotate(
                text,
                (0.0, 0.0),
                xycoords="axes fraction",
                xytext=(0, -3 - 10 * line),
                textcoords="offset points",
                va="top",
                fontsize=7.5,
                color=colour,
            )
    return encoded(figure)


def shortened(name: str, most: int = 21) -> str:
    """Cut a long class name so that it fits under a tile.

    >>> shortened("HerbaceousVegetationOnSand")
    'HerbaceousVegetation…'
    """
    name = translated(name)
    return name if len(name) <= most else name[: most - 1] + "…"


def baselines_figure(rows: Sequence[tuple[str, float, float, float]], network: str = "") -> bytes:
    """Draw overall accuracies with their intervals as a dot plot, best on top.

    Rows are (name, value, low, high); the one named `network` (else the first) is blue, and a
    thin line carries its value across the others. nan ends are drawn as a dot without a bar.
    """
    if not rows:
        return message(msg("Nothing was measured."))
    own = network or rows[0][0]
    ordered = sorted(rows, key=lambda row: row[1])
    figure = canvas(7.0, 0.9 + 0.36 * len(rows))
    axes = figure.add_subplot()
    for place, (name, value, low, high) in enumerate(ordered):
        colour = BLUE if name == own else GREY
        if math.isfinite(low) and math.isfinite(high):
            axes.plot([low, high], [place, place], color=colour, linewidth=2.2, alpha=0.55)
        axes.plot(value, place, "o", color=colour, markersize=8)
        axes.annotate(
            numeral(value, ".3f"),
            (1.01, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9.5,
            color=colour if name == own else INK,
            fontweight="bold" if name == own else "normal",
        )
        if name == own:
            axes.axvline(value, color=BLUE, linewidth=0.8, alpha=0.5, zorder=0)
    plain_axes(axes, grid="x")
    axes.set_yticks(range(len(ordered)), [row[0] for row in ordered])
    axes.tick_params(axis="y", labelcolor=INK, labelsize=9.5)
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.set_xlabel(msg("overall accuracy, with 95 % interval"))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return encoded(figure)


def calibration_figure(before: Reliability, after: Reliability, temperature: float) -> bytes:
    """Draw accuracy against confidence before and after temperature scaling.

    On the diagonal a stated 80 % is right in 80 of 100 cases. A dot's area goes with the number
    of tiles in its bin; bins of fewer than MIN_TILES are small and pale.
    """
    figure = canvas(7.0, 3.7)
    titles = (msg("as trained"), msg("temperature {temperature:.2f}", temperature=temperature))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, title, bins in zip(panels, titles, (before, after), strict=True):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (3, 3)))
        for few in (True, False):
            _bins(axes, bins, few=few)
        plain_axes(axes, msg("{title}: error {error:.3f}", title=title, error=bins.error))
        axes.set(xlim=(-0.06, 1.06), ylim=(-0.06, 1.06), aspect="equal", xlabel=msg("confidence"))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    panels[0].set_ylabel(msg("accuracy"))
    return encoded(figure)


def _bins(axes: Axes, bins: Reliability, *, few: bool) -> None:
    """Bins of confidence with their gaps: those of few tiles, or those that say something."""
    shown = (bins.count > 0) & ((bins.count < MIN_TILES) == few)
    sure, right = bins.confidence[shown], bins.accuracy[shown]
    areas = 14.0 if few else 24.0 + 220.0 * bins.count[shown] / max(int(bins.count.sum()), 1)
    axes.vlines(
        sure, sure, right, color=ORANGE, linewidth=0.8 if few else 1.6, alpha=0.3 if few else 0.8
    )
    axes.scatter(sure, right, areas, color=PALE if few else BLUE, zorder=3, clip_on=False)


def sheet_figure(
    quicklooks: Sequence[UInt8s], captions: Sequence[str], title: str, note: str, columns: int = 3
) -> bytes:
    """Lay tiles [h, w, 3] out in rows, a caption under each, a title above, a note below."""
    side, gap, head, foot = 2.0, 0.3, 0.42, 0.34
    rows = math.ceil(len(quicklooks) / columns)
    width, height = columns * (side + 0.12), rows * (side + gap) + head + foot
    figure = canvas(width, height)
    figure.set_layout_engine("none")  # every tile's place is worked out here
    for cell, (tile, caption) in enumerate(zip(quicklooks, captions, strict=True)):
        left = (cell % columns) * (side + 0.12) + 0.06
        low = height - head - (cell // columns) * (side + gap) - side
        axes = figure.add_axes((left / width, low / height, side / width, side / height))
        axes.imshow(tile, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(caption, y=0, pad=-4, va="top", loc="left", fontsize=7.5, color=INK)
    left = 0.06 / width
    figure.text(left, 1 - 0.1 / height, title, va="top", fontsize=11, color=INK, fontweight="bold")
    figure.text(left, 0.06 / height, note, va="bottom", fontsize=7.5, color=FAINT, linespacing=1.4)
    return encoded(figure)
