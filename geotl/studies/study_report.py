"""What a study writes: study.md, CSV, JSON, figure, recommended.yaml."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from geotl.console import aligned, duration
from geotl.evaluation.metrics import Interval
from geotl.experiments.recipe import Recipe
from geotl.experiments.schema import shown
from geotl.experiments.spellings import written, written_name, written_value
from geotl.io import yaml
from geotl.io.files import json_text, jsonable, write_text
from geotl.io.tables import TableWriter
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
    write_png,
)
from geotl.studies.study_effects import FEWEST, Effect, Errors
from geotl.studies.study_fits import Candidate, FinalTest, Found, TrialRow
from geotl.studies.study_techniques import AS_IT_IS, SAME, TRAINED, Start

GOOD = ("a regulariser here", "fits better")


class EffectRow(NamedTuple):
    """A technique and its differences in error, on minus off, as shares."""

    name: str
    validation: Interval
    training: Interval
    folds: int
    word: str


def effects_figure(panels: Mapping[str, Sequence[EffectRow]]) -> bytes:
    """Draw changes in validation error with intervals, those in training error beside them.

    Panels stand one below the other, rows in the order given, first on top. Blue lowers
    validation error, orange raises it, grey has no visible effect; hollow dots stand on too few
    folds to say.
    """
    if not panels:
        return message("Nothing was measured.")
    counts = [len(rows) for rows in panels.values()]
    figure = canvas(8.2, 1.1 * len(panels) + 0.5 + 0.26 * sum(counts))
    grid = figure.add_gridspec(len(panels), 2, height_ratios=counts, width_ratios=(2.2, 1.0))
    for place, (title, rows) in enumerate(panels.items()):
        left = figure.add_subplot(grid[place, 0])
        right = figure.add_subplot(grid[place, 1], sharey=left)
        _changes(left, [row.validation for row in rows], rows)
        _changes(right, [row.training for row in rows], rows)
        plain_axes(left, title, grid="x")
        plain_axes(right, grid="x")
        left.set_yticks(range(len(rows)), [row.name for row in rows])
        left.tick_params(axis="y", labelcolor=INK, labelsize=8.5)
        right.tick_params(axis="y", labelleft=False)
        left.set_ylim(len(rows) - 0.4, -0.6)
        left.set_xlabel("change in validation error [points]")
        right.set_xlabel("in training error [points]")
    marks = {"lowers validation error": BLUE, "no visible effect": GREY, "raises it": ORANGE}
    figure.legend(
        handles=[
            Line2D([], [], color=c, marker="o", linewidth=2, label=n) for n, c in marks.items()
        ],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    return encoded(figure)


def _changes(axes: Axes, changes: Sequence[Interval], rows: Sequence[EffectRow]) -> None:
    """Dots with intervals around the line of no change."""
    axes.axvline(0, color=FAINT, linewidth=0.9)
    reach = 100 * _reach(changes, rows)
    for place, (effect, row) in enumerate(zip(changes, rows, strict=True)):
        colour = BLUE if row.word in GOOD else ORANGE if row.word == "hurts here" else GREY
        value, low, high = (100 * part for part in effect)
        if row.folds >= FEWEST and np.isfinite(low):
            axes.plot([low, high], [place, place], color=colour, linewidth=2.0, alpha=0.5)
        for end, mark, beyond in ((-reach, "<", low < -reach), (reach, ">", high > reach)):
            if beyond and row.folds >= FEWEST:  # the interval goes on past the axis
                axes.plot(end, place, mark, color=colour, markersize=5, clip_on=False)
        inside = colour if row.folds >= FEWEST else "white"  # hollow: too few folds yet
        axes.plot(value, place, "o", color=colour, markersize=5.5, markerfacecolor=inside)
    axes.set_xlim(-reach, reach)


def _reach(changes: Sequence[Interval], rows: Sequence[EffectRow]) -> float:
    """Half the width of the axis: all values, and the intervals but for the widest few."""
    values = np.abs([effect.value for effect in changes])
    ends = np.abs(
        [
            end
            for effect, row in zip(changes, rows, strict=True)
            for end in effect[1:]
            if row.folds >= FEWEST and np.isfinite(end)
        ]
    )
    wide = float(np.quantile(ends, 0.9)) if len(ends) else 0.0
    return max(0.02, 1.08 * float(values.max()), 1.08 * wide)


TITLES: dict[Start, str] = {
    AS_IT_IS: "the recipe as it is",
    TRAINED: "its fine-tuned variant, every regulariser off",
}
CAPACITY = 0.05  # training error up to which a network has shown that it can overfit
RULE = (
    "No visible effect: the 95 % interval of the paired difference in validation error includes 0 "
    "(Student's t over folds, widened because folds share tiles: Nadeau & Bengio 2003)."
)
COLUMNS = (
    "Changes are on minus off, in points of per cent: mean ± sd over folds [95 % interval]. "
    "Clauses of a regulariser: validation error goes down / training error does not. Time: of a "
    "fit, on over off."
)
HEADER = ("technique", "validation error", "training error", "clauses", "folds", "time", "verdict")


def plan_lines(study: Found, unseen: int) -> Iterator[str]:
    """What is about to be tried, on what."""
    fit, held_out, labels = study.tiles
    yield (
        f"{labels} labels: {fit} for training and {held_out} held out in a fold, up to "
        f"{study.seeds} folds, each with a seed of its own; {unseen} test tiles are left alone "
        "until the end"
    )
    for start in study.bases:
        count = sum(row.start == start for row in study.rows)
        yield f"{count} {'trial' if count == 1 else 'trials'} on {title(study, start)}"


def title(study: Found, start: Start) -> str:
    """A starting point in words."""
    if start == TRAINED and study.bases[start].strategy == "scratch":
        return "its variant trained from random weights, every regulariser off"
    return TITLES[start]


def found_lines(study: Found, out: Path) -> Iterator[str]:
    """All that is printed when a study is done."""
    for start in study.bases:
        yield from ("", *start_lines(study, start))
    yield from ("", COLUMNS, RULE, chance_line(study), "")
    yield from advice_lines(study)
    if not study.finished:
        yield "the time budget is spent; --resume with a larger --budget goes on from there"
    yield f"{study.fits} fits made in {duration(study.seconds)}"
    yield f"table    {out / 'study.md'}"
    yield f"figure   {out / 'study.png'}"
    yield f"recipe   {out / 'recommended.yaml'}"


def start_lines(study: Found, start: Start) -> Iterator[str]:
    """A starting point and what each trial did to it, as aligned text."""
    yield base_line(study, start)
    table = [HEADER, *map(cells, study.ranked(start))]
    if len(table) > 1:
        yield from (f"  {line}" for line in aligned(table, left=range(len(HEADER))))
    if start == AS_IT_IS and study.not_for_probe:
        yield f"  does not apply to a probe: {', '.join(study.not_for_probe)}"


def base_line(study: Found, start: Start) -> str:
    """Errors of a starting point and the gap between them; of the trained one, its capacity."""
    errors = study.base_errors.get(start)
    if errors is None:
        return f"{title(study, start)}: not reached"
    line = f"{title(study, start)}: {errors_words(errors)}"
    if start == AS_IT_IS:
        return line
    if errors.training <= CAPACITY:
        return f"{line}; stage 1 is reached: it can overfit"
    return (
        f"{line}; stage 1 is NOT reached: it does not overfit yet, so that regularisers are "
        "compared on a network that underfits; raise train.epochs or train.lr"
    )


def errors_words(errors: Errors) -> str:
    """Both errors and their gap.

    >>> errors_words(Errors(0.0, 0.25, 80, 20, 2.0))
    'training error 0.0 %, validation error 25.0 %, gap 25.0 points, 2.0 s a fit'
    """
    gap = errors.validation - errors.training
    return (
        f"training error {100 * errors.training:.1f} %, validation error "
        f"{100 * errors.validation:.1f} %, gap {100 * gap:.1f} points, "
        f"{duration(errors.seconds)} a fit"
    )


def cells(row: TrialRow) -> tuple[str, ...]:
    """A row of the table, differences in points of per cent."""
    effect = row.effect
    if effect is None:
        return (
            row.name,
            "",
            "",
            "",
            "",
            "",
            f"{row.word}{': ' + row.refused if row.refused else ''}",
        )
    known = effect.parts >= FEWEST
    return (
        row.name,
        points(effect.validation, effect.sd, ends=known),
        points(effect.training, effect.training_sd, ends=known),
        f"{_yes(effect.falls)}/{_yes(effect.training_stays)}" if known else "",
        str(effect.parts),
        f"x{effect.on.seconds / max(effect.off.seconds, 1e-3):.1f}",
        row.word if not row.refused else f"{row.word}: {row.refused}",
    )


def _yes(reached: bool) -> str:
    return "yes" if reached else "no"


def points(difference: Interval, sd: float, *, ends: bool = True) -> str:
    """A difference of shares in points, its sd over folds and, of folds enough, its interval.

    >>> points(Interval(-0.05, -0.08, -0.02), 0.031)
    '-5.0 ± 3.1 [-8.0, -2.0]'
    >>> points(Interval(-1e-9, -0.08, 0.08), 0.1)
    '+0.0 ± 10.0 [-8.0, +8.0]'
    """
    value, low, high = (round(100 * part, 1) + 0.0 for part in difference)  # no minus before 0
    if not ends or math.isnan(low):
        return f"{value:+.1f}"
    return f"{value:+.1f} ± {100 * sd:.1f} [{low:+.1f}, {high:+.1f}]"


def chance_line(study: Found) -> str:
    """How many of the intervals exclude 0 by chance alone."""
    count = sum(row.effect is not None for row in study.rows)
    return (
        f"Of {count} such intervals {0.05 * count:.1f} exclude 0 by chance in the mean, so what "
        "helped is tried once more on folds that chose nothing."
    )


def advice_lines(study: Found) -> Iterator[str]:
    """The candidates, the recommendation, and what both recipes gave on unseen tiles."""
    for one in study.candidates:
        yield f"candidate: {candidate_words(one)}"
    best = study.recommended
    if best is not None:
        why = "" if best.against else " (no candidate is better beyond doubt)"
        yield f"recommended: {best.name}{why}"
    if study.verdict is not None:
        yield verdict_words(study.verdict)


def candidate_words(one: Candidate) -> str:
    """A candidate and its error on the folds that chose nothing."""
    changes = [f"{written_name(key)}={shown_key(one.recipe, key)}" for key in one.changes]
    line = one.name + (f" ({', '.join(changes)})" if changes else "")
    if one.errors is not None:
        line += f": {errors_words(one.errors)}"
    if one.against is not None:
        change = points(one.against.validation, one.against.sd)
        return f"{line}; validation error {change} against the recipe as it is"
    return line if one.errors is not None else f"{line}: not confirmed"


def verdict_words(verdict: FinalTest) -> str:
    """What both recipes gave on tiles that no trial saw.

    >>> same = Interval(0.8, 0.7, 0.9)
    >>> verdict_words(FinalTest(same, same, Interval(0.0, 0.0, 0.0), 40))
    'on 40 tiles that no trial saw: 0.800 [0.700, 0.900], the recipe as it is'
    """
    words = f"on {verdict.tiles} tiles that no trial saw: {verdict.default}, the recipe as it is"
    if verdict.recommended == verdict.default and verdict.difference == (0.0, 0.0, 0.0):
        return words
    value, low, high = verdict.difference
    word = "less accurate" if high < 0 else "at least as accurate, within the interval"
    return (
        f"{words}; {verdict.recommended}, the one recommended; difference {value:+.3f} "
        f"[{low:+.3f}, {high:+.3f}]: {word}"
    )


def shown_key(recipe: Recipe, key: str) -> str:
    """What a recipe says for a key, as on the command line; of a section, what differs."""
    section, _, name = key.rpartition(".")
    values = recipe.model_dump(mode="json", exclude_defaults=not section)
    value = values[section][name] if section else values.get(name, "default")
    return shown(written_value(tuple(key.split(".")), value))


def write_study(study: Found, out: Path) -> None:
    """Write the recommended recipe, the tables and the figure; study.json, with all, comes last."""
    write_text(out / "recommended.yaml", recommended_yaml(study, out / "recommended.yaml"))
    write_text(out / "study.md", study_md(study))
    write_text(out / "study.csv", study_csv(study))
    panels = {
        title(study, start): [_figure_row(row) for row in study.ranked(start) if row.effect]
        for start in study.bases
    }
    write_png(
        out / "study.png", effects_figure({name: rows for name, rows in panels.items() if rows})
    )
    write_text(out / "study.json", json_text(study_json(study)))


def _figure_row(row: TrialRow) -> EffectRow:
    effect: Effect | None = row.effect
    if effect is None:
        raise ValueError(f"{row.name}: nothing was measured")
    return EffectRow(row.name, effect.validation, effect.training, effect.parts, row.word)


def recommended_yaml(study: Found, path: Path) -> str:
    """The recommended recipe, stating only what differs from the defaults; its command first."""
    best = study.recommended or Candidate(TITLES[AS_IT_IS], study.recipe)
    stated = best.recipe.model_dump(mode="json", exclude_defaults=True)
    notes = [f"# Recommended by geotl study: {best.name}"]
    if study.verdict is not None:
        notes.append(f"# {verdict_words(study.verdict)}")
    return "\n".join([f"# geotl run {path}", *notes, yaml.write(written(stated))])


def study_md(study: Found) -> str:
    """The tables in Markdown."""
    lines = [f"# Study of {study.recipe.title or study.recipe.name}", ""]
    for start in study.bases:
        lines += [f"## From {title(study, start)}", "", base_line(study, start), ""]
        table = [cells(row) for row in study.ranked(start)]
        if table:
            lines += ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
            lines += ["| " + " | ".join(row) + " |" for row in table]
            lines += [""]
        if start == AS_IT_IS and study.not_for_probe:
            lines += [f"Does not apply to a probe: {', '.join(study.not_for_probe)}.", ""]
    lines += [
        COLUMNS,
        "",
        RULE,
        "",
        chance_line(study),
        "",
        "## Recommended",
        "",
        *(f"- {line}" for line in advice_lines(study)),
    ]
    return "\n".join(lines) + "\n"


def study_csv(study: Found) -> str:
    """A row for each trial, shares not percentages."""
    stream = io.StringIO()
    writer = TableWriter(stream)
    rows = [row_json(row) for start in study.bases for row in study.ranked(start)]
    writer.writerow(rows[0] if rows else ["trial"])
    writer.writerows(row.values() for row in rows)
    return stream.getvalue()


def row_json(row: TrialRow) -> dict[str, Any]:
    """A row as flat plain values; nothing where nothing was measured."""
    trial, effect = row.trial, row.effect
    sides = {"off": "as the start" if trial.off == SAME else trial.off, "on": trial.on}
    row_record: dict[str, Any] = {
        "start": row.start,
        "trial": row.name,
        "technique": trial.technique,
        "kind": trial.kind,
        "key": trial.key,
        **{name: _plain(value) for name, value in sides.items()},
        "context": ", ".join(f"{k}={_plain(v)}" for k, v in trial.context.items()),
        "note": trial.note,
        "verdict": row.word,
        "refused": row.refused,
    }
    for name in ("validation", "training"):
        ends: Sequence[float | None] = getattr(effect, name) if effect else (None, None, None)
        row_record |= {f"{name}_change": ends[0], f"{name}_low": ends[1], f"{name}_high": ends[2]}
    row_record |= {
        "validation_sd": effect.sd if effect else None,
        "training_sd": effect.training_sd if effect else None,
        "validation_falls": effect.falls if effect else None,
        "training_does_not_fall": effect.training_stays if effect else None,
        "folds": effect.parts if effect else 0,
        "dropped": row.dropped,
        "seconds_on": effect.on.seconds if effect else None,
        "seconds_off": effect.off.seconds if effect else None,
    }
    plain: dict[str, Any] = jsonable(row_record)
    return plain


def _plain(value: Any) -> str:
    """A value of a key, in short."""
    plain_value = (
        value.model_dump(mode="json", exclude_defaults=True)
        if hasattr(value, "model_dump")
        else value
    )
    return shown(plain_value)


def study_json(study: Found) -> dict[str, Any]:
    """All that was found, as plain values."""
    best, verdict = study.recommended, study.verdict
    return {
        "labels": study.tiles[2],
        "learnt_from": study.tiles[0],
        "held_out": study.tiles[1],
        "seeds": study.seeds,
        "finished": study.finished,
        "fits_made": study.fits,
        "starts": {start: asdict(errors) for start, errors in study.base_errors.items()},
        "does_not_apply_to_a_probe": study.not_for_probe,
        "rows": [row_json(row) for start in study.bases for row in study.ranked(start)],
        "candidates": [candidate_words(one) for one in study.candidates],
        "recommended": best.name if best else None,
        "unseen": None
        if verdict is None
        else {
            "tiles": verdict.tiles,
            "default": verdict.default._asdict(),
            "recommended": verdict.recommended._asdict(),
            "difference": verdict.difference._asdict(),
        },
    }
