"""What a study writes: study.md, CSV, JSON, figure, recommended.yaml."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from geotl.evaluation.metrics import Interval
from geotl.experiments.recipe import shown_title
from geotl.experiments.schema import shown
from geotl.experiments.spellings import written
from geotl.io import yaml
from geotl.io.files import json_text, jsonable, write_text
from geotl.io.tables import TableWriter
from geotl.language import msg, sentence, translated
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
from geotl.studies.study_effects import FEWEST, Effect
from geotl.studies.study_fits import Candidate, Found, TrialRow
from geotl.studies.study_techniques import AS_IT_IS, SAME, Start
from geotl.studies.study_words import (
    COLUMNS,
    HEADER,
    RULE,
    TITLES,
    advice_lines,
    base_line,
    candidate_words,
    cells,
    chance_line,
    not_for_probe_line,
    title,
    verdict_words,
)

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
        return message(msg("Nothing was measured."))
    counts = [len(rows) for rows in panels.values()]
    figure = canvas(8.2, 1.1 * len(panels) + 0.5 + 0.26 * sum(counts))
    grid = figure.add_gridspec(len(panels), 2, height_ratios=counts, width_ratios=(2.2, 1.0))
    for place, (heading, rows) in enumerate(panels.items()):
        left = figure.add_subplot(grid[place, 0])
        right = figure.add_subplot(grid[place, 1], sharey=left)
        _changes(left, [row.validation for row in rows], rows)
        _changes(right, [row.training for row in rows], rows)
        plain_axes(left, heading, grid="x")
        plain_axes(right, grid="x")
        left.set_yticks(range(len(rows)), [row.name for row in rows])
        left.tick_params(axis="y", labelcolor=INK, labelsize=8.5)
        right.tick_params(axis="y", labelleft=False)
        left.set_ylim(len(rows) - 0.4, -0.6)
        left.set_xlabel(msg("change in validation error [points]"))
        right.set_xlabel(msg("in training error [points]"))
    marks = {
        msg("lowers validation error"): BLUE,
        msg("no visible effect"): GREY,
        msg("raises it"): ORANGE,
    }
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
    """The tables in Markdown, in the page's language."""
    lines = [msg("# Study of {title}", title=shown_title(study.recipe)), ""]
    for start in study.bases:
        lines += [msg("## From {start}", start=title(study, start)), ""]
        lines += [base_line(study, start), "", *_table_md(study, start)]
        if start == AS_IT_IS and study.not_for_probe:
            lines += [sentence(not_for_probe_line(study)), ""]
    lines += [COLUMNS, "", RULE, "", chance_line(study), "", msg("## Recommended"), ""]
    lines += [f"- {translated(line)}" for line in advice_lines(study)]
    return "\n".join(map(translated, lines)) + "\n"


def _table_md(study: Found, start: Start) -> list[str]:
    """The rows of a starting point as a table; nothing where there are none."""
    table = [cells(row) for row in study.ranked(start)]
    if not table:
        return []
    rows = [" | ".join(map(translated, row)) for row in (HEADER, *table)]
    rule = "|" + "---|" * len(HEADER)
    return [f"| {rows[0]} |", rule, *(f"| {row} |" for row in rows[1:]), ""]


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
