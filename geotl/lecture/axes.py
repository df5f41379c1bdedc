"""What the lecture's figures share: type for a projector, wrapped titles, French axes."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from geotl.lecture.texts import french_numbers
from geotl.reporting.figures import FAINT, GREY, INK, plain_axes

TITLE, TEXT, SMALL = 14, 12, 11  # points
POINTS = 72  # in an inch
BOLD, REGULAR = 0.62, 0.56  # mean width of a letter, over its size
LEGEND_IN, KEY_IN, LETTER_IN = 0.24, 0.6, 0.088  # a legend's row, sign and letter, in inches


def framed(axes: Axes, title: str, x: str, y: str, *, width_in: float, grid: str = "both") -> None:
    """Give axes the look, title and names of the lecture's figures."""
    plain_axes(axes, grid=grid)
    heading = wrapped(title, width_in, TITLE, bold=True)
    axes.set_title(heading, loc="left", fontsize=TITLE, color=INK, fontweight="bold")
    axes.tick_params(which="both", labelsize=SMALL)
    axes.set_xlabel(wrapped(x, width_in, TEXT), fontsize=TEXT)
    axes.set_ylabel(wrapped(y, 0.7 * width_in, TEXT), fontsize=TEXT)


def wrapped(text: str, width_in: float, size: float, *, bold: bool = False) -> str:
    r"""A text in lines of a width in inches; a figure stays beside its interval or deviation.

    >>> wrapped("accuracy on the test: +0.12 [+0.10, +0.14]", 3.0, 14, bold=True)
    'accuracy on the test:\n+0.12\xa0[+0.10,\xa0+0.14]'
    >>> wrapped("gap without: 0.48 ± 0.07", 2.3, 14, bold=True), wrapped("so under-fitted", 1, 12)
    ('gap without:\n0.48\xa0±\xa00.07', 'so\nunder-fitted')
    """
    kept = re.sub(r" ?\[[^\]\n]*\]", lambda found: found[0].replace(" ", "\u00a0"), text)
    kept = re.sub(r" (?=[:;?!%»±])|(?<=±) ", "\u00a0", kept)
    letters = int(width_in * POINTS / (size * (BOLD if bold else REGULAR)))
    lines = [
        textwrap.wrap(line, max(letters, 4), break_long_words=False, break_on_hyphens=False)
        for line in kept.split("\n")
    ]
    return "\n".join("\n".join(line) for line in lines)


def french_axes(figure: Figure) -> None:
    """Write the numbers on all axes of a figure as French does."""
    for axes in figure.findobj(Axes):
        if isinstance(axes, Axes):
            for axis in (axes.xaxis, axes.yaxis):
                _french_axis(axis)


def _french_axis(axis: Axis) -> None:
    formatter = axis.get_major_formatter()
    if not isinstance(formatter, NullFormatter):
        axis.set_major_formatter(FuncFormatter(_french(formatter, axis)))


def _french(formatter: Callable[[float, int | None], str], axis: Axis) -> Callable[..., str]:
    """A formatter's texts with French numbers; it sees all places, since it chooses by them."""

    def text(value: float, place: int | None = None) -> str:
        prepare = getattr(formatter, "set_locs", None)
        if prepare is not None:
            prepare(axis.get_majorticklocs())
        return french_numbers(formatter(value, place))

    return text


def plain_powers(axes: Axes) -> None:
    """Powers on a logarithmic y axis written out, since figures here parse no mathematics."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def short(value: float) -> str:
    """A figure on an axis: thousands as k, millions as M."""
    for unit, word in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{word}"
    return f"{value:g}"


def legend_columns(names: Sequence[str], width_in: float) -> int:
    """Columns of a legend as wide as its panel.

    >>> legend_columns(["training", "test"], 3.7), legend_columns(["a rather long name"] * 2, 3.7)
    (2, 1)
    """
    longest = max(map(len, names))
    return max(1, min(len(names), int(width_in / (KEY_IN + LETTER_IN * longest))))


def legend_rows(names: Sequence[str], width_in: float) -> int:
    """Rows of a legend as wide as its panel; 0 without names."""
    return math.ceil(len(names) / legend_columns(names, width_in)) if names else 0


def legend_below(axes: Axes, names: Sequence[str], width_in: float) -> None:
    """A legend under the axes and their name, where it covers nothing."""
    if names:
        axes.figure.legend(
            loc="outside lower left",
            ncols=legend_columns(names, width_in),
            frameon=False,
            fontsize=SMALL,
            labelcolor=INK,
        )


def marked(axes: Axes, marks: Mapping[float, str], *, percent: bool = False) -> None:
    """Vertical lines with a word at their top, above what is drawn; no tick above 100 %."""
    if not marks:
        return
    low, high = axes.get_ylim()
    room = 0.1 * len(marks)
    if axes.get_yscale() == "log":
        axes.set_ylim(low, high * (high / low) ** room)
    else:
        if percent:
            axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick < 1.001])
        axes.set_ylim(low, high + room * (high - low))
    for place, (at, text) in enumerate(marks.items()):
        axes.axvline(at, color=GREY, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
        axes.annotate(
            text,
            (at, 0.93 - 0.09 * place),
            xycoords=("data", "axes fraction"),
            xytext=(3, 0),
            textcoords="offset points",
            fontsize=SMALL,
            color=FAINT,
            bbox={"facecolor": "white", "alpha": 0.8, "pad": 1, "linewidth": 0},
        )
