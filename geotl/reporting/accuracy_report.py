"""A map's accuracy for people: text, JSON, CSV and figure of its assessment."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter
from numpy.typing import ArrayLike

from geotl.arrays import Float64s
from geotl.console import aligned
from geotl.evaluation.area_estimation import Estimated
from geotl.evaluation.map_accuracy import Assessment
from geotl.evaluation.reference_points import SamplePlan, some
from geotl.io.files import json_text, write_text
from geotl.io.tables import TableWriter
from geotl.language import msg, translated
from geotl.reporting.figures import (
    BLUE,
    FAINT,
    GREY,
    INK,
    ORANGE,
    canvas,
    encoded,
    plain_axes,
    shortened,
)

_HECTARE_M2 = 1e4
AREAS = "areas.png"
_STEP = 0.16  # how far the two marks of a class stand from its line


def as_text(assessment: Assessment) -> str:
    """An assessment as lines for the screen, at most 100 characters wide where classes allow."""
    result, unit = assessment.result, "ha" if assessment.in_metres else "pixels"
    areas = _areas(assessment)
    what = "points" if assessment.sampled else "pixels"
    head = ("class", "n", "share", "user's", "producer's", f"mapped {unit}", f"adjusted {unit}")
    rows = [
        (
            name,
            f"{result.matrix[i].sum():,}",
            f"{result.weights[i]:.4f}",
            _pm(result.users, 3, i),
            _pm(result.producers, 3, i),
            _amount(areas["mapped"].value[i]),
            _pm_amount(areas["adjusted"], i),
        )
        for i, name in enumerate(assessment.classes)
    ]
    lines = [
        f"map        {assessment.map}",
        f"reference  {assessment.reference}: {int(result.matrix.sum()):,} {what} used",
        f"design     {assessment.design}",
        *(f"left out   {len(ids)} {why}: {some(ids)}" for why, ids in assessment.rejected.items()),
        "",
        f"error matrix in {what} (rows: map, columns: reference)",
        *_matrix(assessment.classes, result.matrix, "{:,.0f}", total=True),
        "",
        "as shares of the map's area, in percent",
        *_matrix(assessment.classes, 100 * result.proportions, "{:.2f}", total=False),
        "",
        f"overall accuracy {_pm(result.overall, 4)}",
        "",
        *aligned([head, *rows], left=(0,)),
        "± is half a 95 % interval (1.96 standard errors; Olofsson et al. 2014)"
        if assessment.sampled
        else "no sampling error: every pixel is known",
    ]
    lines += (
        ["", *(f"WARNING: {line}" for line in assessment.warnings)] if assessment.warnings else []
    )
    lines += [f"note: {line}" for line in assessment.notes]
    return "\n".join(lines)


def plan_lines(plan: SamplePlan) -> str:
    """A plan of a sample as lines for the screen."""
    shares = plan.pixels / plan.pixels.sum()
    rows = [("class", "pixels", "share", "expected user's", "points")]
    rows += [
        (name, f"{size:,}", f"{share:.4f}", f"{user:.2f}", f"{number:,}")
        for name, size, share, user, number in zip(
            plan.classes, plan.pixels, shares, plan.expected, plan.points, strict=True
        )
    ]
    expected = (
        "unknown, as a class has fewer than 2 points; raise --min-per-class or -n"
        if math.isnan(plan.se_overall)
        else f"{plan.se_overall:.4f} (95 % interval ± {1.96 * plan.se_overall:.3f})"
    )
    return "\n".join(
        [
            *aligned(rows, left=(0,)),
            f"{plan.points.sum():,} points; standard error of overall accuracy {expected}",
        ]
    )


def as_json(assessment: Assessment) -> str:
    """An assessment as JSON: everything that is printed, unrounded; null for what is unknown."""
    result = assessment.result
    scale = _HECTARE_M2 if assessment.in_metres else 1.0
    record: dict[str, Any] = {
        "map": str(assessment.map),
        "reference": str(assessment.reference),
        "design": assessment.design,
        "sampled": assessment.sampled,
        "used": int(result.matrix.sum()),
        "left_out": {reason: list(ids) for reason, ids in assessment.rejected.items()},
        "warnings": list(assessment.warnings),
        "notes": list(assessment.notes),
        "classes": list(assessment.classes),
        "matrix": result.matrix,
        "proportions": result.proportions,
        "mapped_share": result.weights,
        "overall": _measure(result.overall),
        "users": _measure(result.users),
        "producers": _measure(result.producers),
        "area_unit": "ha" if assessment.in_metres else "pixel",
        "mapped_area": result.mapped_m2 / scale,
        "adjusted_area": _measure(_scaled(result.areas_m2, scale)),
    }
    return json_text(record)


def classes_csv(assessment: Assessment) -> str:
    """A line for each class: accuracies and areas with standard errors and intervals."""
    areas = _areas(assessment)
    unit = "ha" if assessment.in_metres else "pixels"
    measures = {
        "users": assessment.result.users,
        "producers": assessment.result.producers,
        f"adjusted_{unit}": areas["adjusted"],
    }
    head = ["class", "reference_points", "mapped_share", f"mapped_{unit}"]
    for name in measures:
        head += [name, f"{name}_se", f"{name}_low", f"{name}_high"]
    rows: list[list[Any]] = []
    for i, name in enumerate(assessment.classes):
        row = [name, int(assessment.result.matrix[i].sum()), assessment.result.weights[i]]
        row.append(areas["mapped"].value[i])
        for m in measures.values():
            row += [m.value[i], m.se[i], m.low[i], m.high[i]]
        rows.append(row)
    return _csv(head, rows)


def matrix_csv(assessment: Assessment) -> str:
    """The error matrix in counts: rows the map, columns the reference."""
    rows = [
        [name, *row] for name, row in zip(assessment.classes, assessment.result.matrix, strict=True)
    ]
    return _csv(["map \\ reference", *assessment.classes], rows)


_TEXTS = {"accuracy.json": as_json, "classes.csv": classes_csv, "matrix.csv": matrix_csv}
FILES = (*_TEXTS, AREAS)


def write_assessment(folder: Path, assessment: Assessment) -> list[Path]:
    """Write accuracy.json, classes.csv and matrix.csv, each whole or not at all."""
    for name, text_of in _TEXTS.items():
        write_text(folder / name, text_of(assessment))
    return [folder / name for name in _TEXTS]


def _areas(assessment: Assessment) -> dict[str, Estimated]:
    scale = _HECTARE_M2 if assessment.in_metres else 1.0
    mapped = assessment.result.mapped_m2 / scale
    return {
        "mapped": Estimated(mapped, np.zeros(len(mapped))),
        "adjusted": _scaled(assessment.result.areas_m2, scale),
    }


def _scaled(measure: Estimated, by: float) -> Estimated:
    return Estimated(measure.value / by, measure.se / by)


def _measure(measure: Estimated) -> dict[str, Any]:
    return {
        "value": measure.value,
        "se": measure.se,
        "low": measure.low,
        "high": measure.high,
    }


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    stream = io.StringIO()
    writer = TableWriter(stream)
    writer.writerow(head)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return stream.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return f"{value:.10g}" if math.isfinite(value) else ""


def _pm(measure: Estimated, digits: int, place: int | None = None) -> str:
    """A share with its margin; a dash for what is unknown."""
    value, margin = (
        float(held if place is None else held[place]) for held in (measure.value, measure.margin)
    )
    if math.isnan(value):
        return "-"
    shown = f"{value:.{digits}f}"
    return shown if math.isnan(margin) else f"{shown} ± {margin:.{digits}f}"


def _pm_amount(measure: Estimated, place: int) -> str:
    value, margin = float(measure.value[place]), float(measure.margin[place])
    shown = _amount(value)
    return shown if math.isnan(value) or math.isnan(margin) else f"{shown} ± {_amount(margin)}"


def _amount(value: float) -> str:
    """An area with as many decimals as a small one needs.

    >>> _amount(21157.76), _amount(3.456)
    ('21,158', '3.46')
    """
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


def _matrix(classes: Sequence[str], cells: ArrayLike, form: str, *, total: bool) -> list[str]:
    """A matrix whose columns are numbered, the numbers standing before the row's class."""
    table = np.asarray(cells, dtype=np.float64)
    head = ["", *(str(i + 1) for i in range(len(classes))), *(["total"] if total else [])]
    rows = []
    for i, (name, row) in enumerate(zip(classes, table, strict=True)):
        shown = [form.format(v) if v else "." for v in row.tolist()]
        rows.append((f"{i + 1} {name}", *shown, *([form.format(row.sum())] if total else [])))
    if total:
        sums = table.sum(axis=0).tolist()
        rows.append(("total", *(form.format(v) for v in sums), form.format(table.sum())))
    return aligned([head, *rows], left=(0,))


def areas_figure(assessment: Assessment) -> bytes:
    """Draw mapped against error-adjusted areas, and user's and producer's accuracies, by class.

    Bars are 95 % intervals; where the reference is a census there are none.
    """
    classes, result = assessment.classes, assessment.result
    scale, unit = (1e4, "ha") if assessment.in_metres else (1.0, msg("pixels"))
    figure = canvas(9.6, 1.5 + 0.42 * len(classes))
    areas, shares = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
    adjusted = Estimated(result.areas_m2.value / scale, result.areas_m2.se / scale)
    _dots(areas, adjusted, -_STEP, BLUE)
    _mapped(areas, result.mapped_m2 / scale)
    _dots(shares, result.users, -_STEP, BLUE, most=1.0)
    _dots(shares, result.producers, _STEP, ORANGE, most=1.0)
    how = (
        msg("with 95 % intervals") if assessment.sampled else msg("at every pixel, not of a sample")
    )
    plain_axes(areas, msg("Area [{unit}]", unit=unit), grid="x")
    plain_axes(shares, msg("Accuracy"), grid="x")
    areas.set_yticks(range(len(classes)), [shortened(name, 32) for name in classes])
    areas.tick_params(axis="y", labelcolor=INK, labelsize=9.5)
    areas.set_ylim(len(classes) - 0.5, -0.5)
    areas.set_xlim(left=0.0)
    areas.xaxis.set_major_locator(MaxNLocator(5))
    areas.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    shares.set_xlim(0.0, 1.02)
    shares.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _legend(areas, [(msg("mapped"), GREY, False), (msg("adjusted for error"), BLUE, True)])
    _legend(shares, [(msg("user's"), BLUE, True), (msg("producer's"), ORANGE, True)])
    overall, margin = float(result.overall.value), float(result.overall.margin)
    title = _overall_words(overall, margin)
    title = msg("{overall}, {how}", overall=title, how=how)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK, fontweight="bold")
    if assessment.warnings:
        first = msg("Read with care: {warning}", warning=assessment.warnings[0])
        first = textwrap.fill(translated(first), 130)
        figure.supxlabel(first, x=0.01, ha="left", fontsize=8.5, color=ORANGE)
    return encoded(figure)


def _overall_words(overall: float, margin: float) -> str:
    """Overall accuracy with its margin, as far as they are known."""
    if not math.isfinite(overall):
        return msg("Overall unknown")
    if not math.isfinite(margin):
        return msg("Overall accuracy {overall:.1%}", overall=overall)
    return msg(
        "Overall accuracy {overall:.1%} ± {margin:.1f} points", overall=overall, margin=100 * margin
    )


def _dots(
    axes: Axes, measure: Estimated, shift: float, colour: str, most: float = math.inf
) -> None:
    """One dot a class, with its interval, as far as it is possible, where there is one."""
    for place, (value, low, high) in enumerate(
        zip(measure.value.tolist(), measure.low.tolist(), measure.high.tolist(), strict=True)
    ):
        if math.isfinite(low):
            axes.plot(
                [max(low, 0.0), min(high, most)],
                [place + shift] * 2,
                color=colour,
                linewidth=3,
                alpha=0.4,
                solid_capstyle="butt",
            )
        axes.plot(value, place + shift, "o", color=colour, markersize=6)


def _mapped(axes: Axes, values: Float64s) -> None:
    places = [place + _STEP for place in range(len(values))]
    axes.plot(
        values,
        places,
        "D",
        markerfacecolor="white",
        markeredgecolor=GREY,
        markeredgewidth=1.5,
        markersize=5.5,
    )


def _legend(axes: Axes, entries: Sequence[tuple[str, str, bool]]) -> None:
    marks = [
        Line2D(
            [],
            [],
            linestyle="",
            marker="o" if filled else "D",
            markersize=6,
            label=name,
            markerfacecolor=colour if filled else "white",
            markeredgecolor=colour,
        )
        for name, colour, filled in entries
    ]
    axes.legend(
        handles=marks,
        frameon=False,
        fontsize=9,
        labelcolor=FAINT,
        ncols=2,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        handletextpad=0.1,
        columnspacing=1.0,
        borderaxespad=0.2,
    )
