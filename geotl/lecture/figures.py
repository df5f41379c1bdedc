"""A demonstration's panels as plain data, and their drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter
from numpy.typing import ArrayLike, NDArray

from geotl.arrays import Float64s
from geotl.evaluation.metrics import mean_interval
from geotl.lecture.axes import (
    LEGEND_IN,
    SMALL,
    TITLE,
    framed,
    french_axes,
    legend_below,
    legend_rows,
    marked,
    plain_powers,
    short,
    wrapped,
)
from geotl.lecture.texts import Both, Language, written
from geotl.reporting.figures import (
    BLUE,
    FAINT,
    GREY,
    INK,
    ORANGE,
    RULE,
    canvas,
    encoded,
)
from geotl.reporting.rendering import default_colours

Label = str | Both  # a plain string is a name, a formula or a number of both languages
PANEL_IN, HIGH_IN, TILE_IN = 3.7, 3.4, 1.25
COUNT = Both(fr="nombre", en="count")
FEW_DOTS = 100  # of a series; they are drawn larger
WHOLE_AXES = ("epoch", "époque", "step", "pas", "stage", "étage")


@dataclass(frozen=True)
class Series:
    """A line or (`dots`) a cloud of points: x and y [n], with the half height of a band, sd [n]."""

    name: Label
    x: ArrayLike
    y: ArrayLike
    sd: ArrayLike | None = None
    dots: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Lines:
    """A panel of series; `marks` are vertical lines with a word, `level` a horizontal one.

    `limits` are those of y, where panels are to be compared.
    """

    title: Label
    x: Label
    y: Label
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False
    percent: bool = False
    marks: Mapping[float, Label] = field(default_factory=dict)
    level: tuple[float, Label] | None = None
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Bars:
    """A panel of bars: for each group the values of `names`, with sds and words at their ends."""

    title: Label
    names: tuple[Label, ...]
    groups: Mapping[Label, Sequence[float]]
    label: Label = ""
    sds: Mapping[Label, Sequence[float]] = field(default_factory=dict)
    words: Mapping[Label, Sequence[Label]] = field(default_factory=dict)
    log: bool = False
    percent: bool = False


@dataclass(frozen=True)
class Histograms:
    """A panel of distributions over common bins; `marks` are as those of `Lines`."""

    title: Label
    x: Label
    values: Mapping[Label, ArrayLike]
    bins: int = 60
    log: bool = False
    y: Label = COUNT
    marks: Mapping[float, Label] = field(default_factory=dict)


@dataclass(frozen=True)
class Pictures:
    """A panel of small pictures: [h, w, 3] as they are, [h, w] in greys, a caption under each."""

    title: Label
    images: tuple[NDArray[Any], ...]
    captions: tuple[Label, ...] = ()
    columns: int = 3
    side_in: float = TILE_IN


Panel = Lines | Bars | Histograms | Pictures


@dataclass(frozen=True)
class ClaimResult:
    """Whether a claim held, and what was measured."""

    held: bool
    measured: str | Both


@dataclass(frozen=True)
class Shown:
    """Results of a demonstration.

    Attributes:
        findings: for each claim of the recipe, by its key.
        values: the figures behind them, plain enough for JSON.
        panels: what is drawn, side by side.
        columns: panels in a row; 0 for all.
    """

    findings: Mapping[str, ClaimResult]
    values: Mapping[str, Any]
    panels: tuple[Panel, ...]
    columns: int = 0


@dataclass(frozen=True)
class MeanChange:
    """A difference between pairs that differ in one key: mean and sd over seeds.

    >>> rise = MeanChange.of([0.5, 0.6, 0.7], [0.7, 0.8, 0.95])
    >>> rise.both(Both(fr="exactitude", en="accuracy")).en
    'accuracy 0.600 ± 0.100 -> 0.817 ± 0.126 (+0.217 [+0.145, +0.288], it rises)'
    >>> rise.both(Both(fr="exactitude", en="accuracy")).read("fr")
    'exactitude 0,600 ± 0,100 -> 0,817 ± 0,126 (+0,217 [+0,145 ; +0,288], hausse)'
    >>> rise.title(Both(fr="tourner", en="turning")).en
    'turning: +0.22 [+0.14, +0.29]'
    >>> rise.changes(Both(fr="L'exactitude", en="The accuracy")).fr
    "L'exactitude change de +0.22 [+0.14 ; +0.29]"
    >>> rise.both(Both(fr="Elle passe de", en="It goes from")).en[:38]
    'It goes from 0.600 ± 0.100 to 0.817 ± '
    >>> MeanChange.of([0.5, 0.6, 0.7], [0.6, 0.5, 0.7]).visible
    False
    """

    off: Float64s
    on: Float64s

    @classmethod
    def of(cls, off: ArrayLike, on: ArrayLike) -> MeanChange:
        """Of figures without and with, a pair for each seed."""
        return cls(np.asarray(off, np.float64), np.asarray(on, np.float64))

    @property
    def change(self) -> Float64s:
        """With minus without, for each seed."""
        return self.on - self.off

    @property
    def visible(self) -> bool:
        """Whether the 95 % interval of the mean change (Student's t) leaves zero out."""
        if len(self.off) < 2:
            return False
        interval = mean_interval(self.change)
        return interval.low > 1e-9 or interval.high < -1e-9

    @property
    def rises(self) -> bool:
        """A visible rise."""
        return self.visible and float(self.change.mean()) > 0

    @property
    def falls(self) -> bool:
        """A visible fall."""
        return self.visible and float(self.change.mean()) < 0

    def both(self, what: Both, digits: int = 3) -> Both:
        """Both means with their sd, and the mean change with its 95 % interval."""
        off, on = spread(self.off, digits), spread(self.on, digits)
        to = Both(
            fr="à" if what.fr.endswith("passe de") else "->",
            en="to" if what.en.endswith("goes from") else "->",
        )
        french = "hausse" if self.rises else "baisse" if self.falls else "aucun effet visible"
        english = "it rises" if self.rises else "it falls" if self.falls else "no visible effect"
        interval = self.interval(digits)
        return Both(
            fr=f"{what.fr} {off} {to.fr} {on} ({interval.fr}, {french})",
            en=f"{what.en} {off} {to.en} {on} ({interval.en}, {english})",
        )

    def interval(self, digits: int = 3) -> Both:
        """The mean change with its 95 % interval (Student's t); alone where there is one seed."""
        change = f"{float(self.change.mean()):+.{digits}f}"
        if len(self.off) < 2:
            return Both(fr=change, en=change)
        ends = mean_interval(self.change)
        low, high = f"{ends.low:+.{digits}f}", f"{ends.high:+.{digits}f}"
        return Both(fr=f"{change} [{low} ; {high}]", en=f"{change} [{low}, {high}]")

    def title(self, what: Both, digits: int = 2) -> Both:
        """A panel's title: what was done or where, then the effect with its interval."""
        interval = self.interval(digits)
        return Both(fr=f"{what.fr} : {interval.fr}", en=f"{what.en}: {interval.en}")

    def changes(self, subject: Both, digits: int = 2) -> Both:
        """A panel's title, a sentence: by how much its subject, a measured figure, changes."""
        by = self.interval(digits)
        return Both(fr=f"{subject.fr} change de {by.fr}", en=f"{subject.en} changes by {by.en}")

    def values(self) -> dict[str, Any]:
        """Its figures, for JSON."""
        return {"off": self.off, "on": self.on, "visible": self.visible}


def spread(values: ArrayLike, digits: int = 3, *, sign: bool = False) -> str:
    """Mean ± sample sd of some figures; without sd of a single one.

    >>> spread([1.0, 2.0, 3.0], 1), spread([0.5], 2, sign=True)
    ('2.0 ± 1.0', '+0.50')
    """
    array = np.asarray(values, np.float64)
    form = f"{'+' if sign else ''}.{digits}f"
    mean = format(float(array.mean()), form)
    return f"{mean} ± {sd_of(array):.{digits}f}" if len(array) > 1 else mean


def sd_of(values: ArrayLike) -> float:
    """Sample standard deviation; nan of a single figure.

    >>> sd_of([1, 2, 3]), sd_of([1])
    (1.0, nan)
    """
    array = np.asarray(values, np.float64)
    return float(array.std(ddof=1)) if array.size > 1 else math.nan


COLOURS = (BLUE, ORANGE, GREY, *default_colours(12)[2:])


def panels_figure(panels: Sequence[Panel], columns: int = 0, language: Language = "en") -> bytes:
    """Draw panels side by side in one language, `columns` in a row (0: all)."""
    panels = [translated(panel, language) for panel in panels]
    across = columns or len(panels)
    rows = [panels[start : start + across] for start in range(0, len(panels), across)]
    wide = max(sum(_width(panel) for panel in row) for row in rows)
    heights = [max(_height(panel) for panel in row) for row in rows]
    figure = canvas(wide, sum(heights))
    bands = np.ravel(figure.subfigures(len(rows), 1, squeeze=False, height_ratios=heights))
    for band, row in zip(bands, rows, strict=True):
        widths = [_width(panel) for panel in row]
        parts = np.ravel(band.subfigures(1, len(row), squeeze=False, width_ratios=widths))
        for part, panel in zip(parts, row, strict=True):
            _draw(part, panel)
    if language == "fr":
        french_axes(figure)
    return encoded(figure)


def translated(value: Any, language: Language) -> Any:
    """A panel, or what is inside one, with every text in one language.

    >>> translated(Histograms(Both(fr="poids", en="weights"), "w", {}), "fr").title
    'poids'
    """
    if isinstance(value, str | Both):
        return written(value, language)
    if isinstance(value, Mapping):
        return {translated(k, language): translated(v, language) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return tuple(translated(one, language) for one in value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {one.name: getattr(value, one.name) for one in fields(value)}
        return replace(value, **{name: translated(one, language) for name, one in parts.items()})
    return value


def _width(panel: Panel) -> float:
    """Width of a panel in inches."""
    if isinstance(panel, Pictures):
        return max(2.0, panel.side_in * min(panel.columns, len(panel.images)) + 0.2)
    if isinstance(panel, Bars):
        longest = max(len(line) for name in panel.names for line in str(name).split("\n"))
        return PANEL_IN + 0.085 * longest
    return PANEL_IN + (0.3 if isinstance(panel, Lines) else 0)


def _height(panel: Panel) -> float:
    if isinstance(panel, Pictures):
        captions = [_caption(text, panel) for text in panel.captions]
        caption = 0.21 * max([0, *(1 + text.count("\n") for text in captions)])
        rows = math.ceil(len(panel.images) / panel.columns)
        heading = wrapped(str(panel.title), _width(panel), TITLE, bold=True)
        return max(1.6, (panel.side_in + caption) * rows + 0.3 + 0.24 * (1 + heading.count("\n")))
    legend = LEGEND_IN * legend_rows(_named(panel), PANEL_IN)
    if isinstance(panel, Bars):
        bars = 0.27 * len(panel.names) * max(1.0, 0.75 * len(panel.groups))
        return max(2.6, 1.3 + bars + legend)
    return HIGH_IN + legend


def _named(panel: Lines | Bars | Histograms) -> list[str]:
    """Names that a panel's legend shows: none where there is one group alone."""
    if isinstance(panel, Lines):
        return [str(series.name) for series in panel.series if str(series.name)]
    groups = panel.groups if isinstance(panel, Bars) else panel.values
    return [str(name) for name in groups] if len(groups) > 1 else []


def _caption(text: Label, panel: Pictures) -> str:
    """A picture's caption in lines as wide as the picture."""
    return wrapped(str(text), panel.side_in, SMALL)


def _draw(part: SubFigure, panel: Panel) -> None:
    """Draw one panel into its part of the figure."""
    if isinstance(panel, Pictures):
        _pictures(part, panel)
        return
    axes = part.subplots()
    if isinstance(panel, Lines):
        _lines(axes, panel)
    elif isinstance(panel, Bars):
        _bars(axes, panel)
    else:
        _histograms(axes, panel)


def _lines(axes: Axes, panel: Lines) -> None:
    for colour, series in zip(COLOURS, panel.series, strict=False):
        _series(axes, series, colour)
    if panel.log_x:
        axes.set_xscale("log")
        _plain_ticks(axes, panel)
    if panel.log_y:
        axes.set_yscale("log")
        plain_powers(axes)
    framed(axes, str(panel.title), str(panel.x), str(panel.y), width_in=PANEL_IN)
    if panel.percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    if panel.limits is not None:
        axes.set_ylim(*panel.limits)
    if str(panel.x).split(" (")[0] in WHOLE_AXES:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    marked(axes, {at: str(text) for at, text in panel.marks.items()}, percent=panel.percent)
    if panel.level is not None:
        axes.axhline(panel.level[0], color=GREY, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
        axes.annotate(
            str(panel.level[1]),
            (0, panel.level[0]),
            xycoords=("axes fraction", "data"),
            xytext=(3, 3),
            textcoords="offset points",
            fontsize=SMALL,
            color=FAINT,
        )
    legend_below(axes, _named(panel), PANEL_IN)


def _plain_ticks(axes: Axes, panel: Lines) -> None:
    """Ticks of a logarithmic axis where there are values, written out; a marked one by its mark."""
    places = sorted({float(x) for series in panel.series for x in np.ravel(series.x)})
    names = [str(panel.marks[x]).split()[-1] if x in panel.marks else f"{x:g}" for x in places]
    axes.set_xticks(places, names)
    axes.set_xticks([], minor=True)


def _series(axes: Axes, series: Series, colour: str) -> None:
    """A line with its band, or dots."""
    x, y = np.asarray(series.x, float), np.asarray(series.y, float)
    if series.dots:
        size, alpha = (36, 0.85) if len(x) <= FEW_DOTS else (14, 0.6)
        axes.scatter(x, y, size, color=colour, alpha=alpha, linewidths=0, label=str(series.name))
        return
    few = "o" if len(x) <= 12 else ""
    style: str | tuple[int, tuple[int, int]] = (0, (4, 2)) if series.dashed else "-"
    axes.plot(
        x,
        y,
        color=colour,
        linewidth=2.2,
        linestyle=style,
        marker=few,
        markersize=5,
        label=str(series.name),
    )
    if series.sd is not None:
        sd = np.nan_to_num(np.asarray(series.sd, float))
        axes.fill_between(x, y - sd, y + sd, color=colour, alpha=0.15, linewidth=0)


def _bars(axes: Axes, panel: Bars) -> None:
    """Horizontal bars, the first name on top, the groups of a name beside each other."""
    count, places = len(panel.groups), np.arange(len(panel.names), dtype=float)
    thick = 0.78 / count
    for number, (name, values) in enumerate(panel.groups.items()):
        at = places + (number - (count - 1) / 2) * thick
        sds = panel.sds.get(name)
        axes.barh(
            at,
            values,
            thick * 0.92,
            color=COLOURS[number],
            label=str(name),
            xerr=sds,
            error_kw={"ecolor": INK, "elinewidth": 1, "capsize": 2},
        )
        ends = np.asarray(values, float) + (0 if sds is None else np.nan_to_num(sds))
        for place, end, word in zip(at, ends, panel.words.get(name, ()), strict=False):
            axes.annotate(
                str(word),
                (max(float(end), 0.0), place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=SMALL,
                color=INK,
            )
    axes.set_yticks(places, [str(name) for name in panel.names])
    axes.invert_yaxis()
    if panel.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    framed(axes, str(panel.title), str(panel.label), "", width_in=PANEL_IN, grid="x")
    axes.tick_params(axis="y", labelcolor=INK)
    if panel.percent:
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    if panel.words:
        _room_for_words(axes, panel)
    legend_below(axes, _named(panel), PANEL_IN)


def _room_for_words(axes: Axes, panel: Bars) -> None:
    """Widen the axis by what the longest word at a bar's end needs."""
    longest = max(len(str(word)) for words in panel.words.values() for word in words)
    factor = 1 / (1 - min(0.6, 0.03 + 0.034 * longest))
    low, high = axes.get_xlim()
    axes.set_xlim(low, low * (high / low) ** factor if panel.log else low + (high - low) * factor)
    if panel.percent:  # there is nothing beyond 100 %
        axes.set_xticks([tick for tick in axes.get_xticks() if low <= tick < 1.001])


def _histograms(axes: Axes, panel: Histograms) -> None:
    flat = {name: np.ravel(np.asarray(values, float)) for name, values in panel.values.items()}
    together = np.concatenate(list(flat.values()))
    bins = np.linspace(together.min(), together.max(), panel.bins + 1).tolist()
    for colour, (name, values) in zip(COLOURS, flat.items(), strict=False):
        axes.hist(values, bins, histtype="stepfilled", alpha=0.25, color=colour, linewidth=0)
        axes.hist(values, bins, histtype="step", color=colour, linewidth=1.4, label=str(name))
    if panel.log:
        axes.set_yscale("log")
        plain_powers(axes)
    framed(axes, str(panel.title), str(panel.x), str(panel.y), width_in=PANEL_IN)
    marked(axes, {at: str(text) for at, text in panel.marks.items()})
    legend_below(axes, _named(panel), PANEL_IN)


def _pictures(part: SubFigure, panel: Pictures) -> None:
    rows = math.ceil(len(panel.images) / panel.columns)
    title = wrapped(str(panel.title), _width(panel), TITLE, bold=True)
    part.suptitle(title, fontsize=TITLE, color=INK, fontweight="bold", ha="left", x=0.02)
    for place, axes in enumerate(np.ravel(part.subplots(rows, panel.columns, squeeze=False))):
        if place >= len(panel.images):
            axes.set_axis_off()
            continue
        image = np.asarray(panel.images[place])
        axes.imshow(image, cmap="gray", interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color(RULE)
        if place < len(panel.captions):
            caption = _caption(panel.captions[place], panel)
            axes.set_title(caption, y=0, pad=-4, va="top", fontsize=SMALL, color=INK)
