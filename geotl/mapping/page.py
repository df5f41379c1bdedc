"""The page of a finished map: one file that carries everything with it and asks no network."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from geotl.arrays import Pixels
from geotl.evaluation.metrics import Interval
from geotl.io.files import whole_file, write_text
from geotl.io.geodesy import ground_of
from geotl.language import current, joined, msg, numeral, stored, translated
from geotl.mapping.cartography import confidence_ramp, jpeg, map_figure, rgb_of
from geotl.mapping.graticule import lattice
from geotl.mapping.layers import Areas
from geotl.mapping.map_words import MapFacts, honest_notes, subtitle
from geotl.mapping.preview import Look, counts_of, mean_of, picture_of, read_look
from geotl.mapping.provenance import (
    EXTRA_TAG,
    MMU_TAG,
    SETS_TAG,
    SMOOTH_TAG,
)
from geotl.mapping.task import PAGE, SHEET, Task
from geotl.reporting.html import Block, Code, ReportContent, Table
from geotl.reporting.templates import render, script, style

_LAYERS = {
    "classes": msg("Classes"),
    "confidence": msg("Confidence"),
    "picture": msg("Picture of the scene"),
}
_SCORES = {
    "overall": msg("Overall accuracy"),
    "balanced": msg("Balanced accuracy"),
    "kappa": msg("Kappa"),
    "macro_f1": msg("Macro F1"),
}


@dataclass(frozen=True)
class Seen:
    """A map that has just been drawn: how it came about, and where its files will stand."""

    task: Task
    areas: Areas
    tags: Mapping[str, str]
    targets: Mapping[str, Path]
    outside: float | None  # share of mapped cells unlike the training tiles, None if unknown
    picture: Pixels | None = None  # of the scene, where mapping gathered it


def show(folder: Path, files: Mapping[str, Path], seen: Seen) -> dict[str, Path]:
    """Draw a finished map as a sheet and a page.

    Args:
        folder: to write into.
        files: the map's files so far.
        seen: what is known of it.

    Raises:
        OutputError: the disk is full.
    """
    task = seen.task
    scene, model, cells = task.scene, task.model, task.interest.cells
    look = read_look(files, cells.on(task.grid.on(scene.grid)))
    look = replace(look, picture=picture_of(scene, cells, task.grid.posting, seen.picture))
    facts = MapFacts(
        scene=scene.name,
        acquired=scene.acquired,
        classes=model.contract.classes,
        colours=model.contract.colours,
        areas=seen.areas,
        tags=seen.tags,
        forced=task.options.force,
        confidence=mean_of(counts_of(files["confidence"])),
        metrics=model.notes.get("metrics", {}),
        outside=seen.outside,
        trained_on=tuple(model.notes.get("training", {}).get("dates", ())),
        files=tuple(path.name for path in seen.targets.values()),
    )
    return write_sheet_and_page(folder, look, facts)


def write_sheet_and_page(folder: Path, look: Look, facts: MapFacts) -> dict[str, Path]:
    """Write map.png and map.html, each whole or not at all.

    Args:
        folder: to write into.
        look: of the map.
        facts: shown beside it.

    Raises:
        OutputError: the disk is full.
    """
    files = {SHEET: folder / "map.png", PAGE: folder / "map.html"}
    png = map_figure(look, facts)
    with whole_file(files[SHEET]) as part:
        part.write_bytes(png)
    write_text(files[PAGE], map_html(look, facts, png))
    return files


def map_html(look: Look, facts: MapFacts, sheet: bytes) -> str:
    """The page.

    Args:
        look: the map in few pixels; its size is that of the page.
        facts: shown beside it.
        sheet: the map as PNG, for paper and for browsers without scripts.
    """
    recipe = facts.tags.get("GEOTL_RECIPE")
    return render(
        "map.html",
        "geotl.mapping",
        style=style(("geotl.mapping", "map.css")),
        script=script("geotl.mapping", "map.js"),
        content=_top(facts),
        **_viewer(look, facts),
        sheet=sheet,
        legend=_legend(facts),
        unit=msg("Hectares") if facts.metric else msg("Pixels"),
        accuracy=_accuracy(facts),
        provenance=_provenance(facts),
        recipe=Code(recipe, long=True) if recipe else None,
        data=_data(look, facts),
    )


def _top(facts: MapFacts) -> ReportContent:
    """Title, accuracy in front, key figures and cautions."""
    overall = facts.metrics.get("overall_accuracy")
    keys = [
        (
            msg("Mapped"),
            facts.ground(facts.mapped_m2, int(facts.areas.pixels.sum())),
            msg("{shares:.1f} % of the valid ground", shares=100 - float(facts.shares[-1])),
        ),
        (
            msg("Mean confidence"),
            numeral(f"{facts.confidence:.0f} %") if math.isfinite(facts.confidence) else "–",
            msg("of the cells mapped"),
        ),
    ]
    headline = msg("The model was never tested")
    if overall:
        headline = msg("Tests of the model, not of this map: {tested}", tested=_tested(facts))
        keys.insert(
            0,
            (
                msg("Accuracy of the model"),
                numeral(overall["value"], ".3f"),
                msg(
                    "{low:.3f} to {high:.3f}, 95 % interval",
                    low=overall["low"],
                    high=overall["high"],
                ),
            ),
        )
    if facts.outside is not None:
        keys.append(
            (
                msg("Unlike the training"),
                numeral(f"{100 * facts.outside:.1f} %"),
                msg("of the cells, outside the area of applicability"),
            )
        )
    return ReportContent(
        title=facts.title,
        headline=headline,
        kind=msg("map"),
        loses=bool(not overall or facts.metrics.get("loses_to_a_baseline")),
        summary=subtitle(facts),
        keys=tuple(keys),
        cautions=tuple(honest_notes(facts)),
    )


def _tested(facts: MapFacts) -> str:
    """The model's accuracy in a phrase: of pixels without the race that its run reports."""
    words = stored(facts.metrics["headline"])
    if facts.members:
        overall = facts.metrics["overall_accuracy"]
        words = msg("accuracy {accuracy}", accuracy=Interval(**overall))
    return msg("{accuracy}, on {tested}", accuracy=words, tested=facts.test_words())


def _viewer(look: Look, facts: MapFacts) -> dict[str, Any]:
    """What the map to move about in shows."""
    picture = None if look.picture is None else jpeg(look.picture)
    stops = confidence_ramp()[::10].tolist()
    return {
        "layers": {n: text for n, text in _LAYERS.items() if n != "picture" or picture},
        "scene": picture,
        "name": facts.scene,
        "what": msg("Land-cover map of {scene}", scene=facts.scene),
        "described": _described(facts),
        "ramp": ", ".join(f"rgb({red} {green} {blue})" for red, green, blue in stops),
        "each": look.each,
    }


def _described(facts: MapFacts) -> str:
    """The map for who cannot see it: the largest classes."""
    order = np.argsort(-facts.areas.pixels, kind="stable")[:5]
    return joined(
        [
            msg("{name} {share:.1f} %", name=facts.classes[k], share=facts.shares[k])
            for k in order
            if facts.areas.pixels[k]
        ]
    )


class LegendRow(NamedTuple):
    """A class in the legend: its value, None for what was not mapped; `share` is in percent."""

    value: int | None
    colour: str
    name: str
    ground: str
    share: float


def _legend(facts: MapFacts) -> list[LegendRow]:
    """Every class with its area, the largest first, and what was not mapped."""
    areas, shares = facts.areas, facts.shares.tolist()
    rows = [
        LegendRow(
            k,
            facts.colours[k],
            facts.classes[k],
            _ground(facts, float(areas.square_metres[k]), int(areas.pixels[k])),
            shares[k],
        )
        for k in np.argsort(-areas.pixels, kind="stable").tolist()
    ]
    left = _ground(facts, float(areas.unmapped_square_metres), areas.unmapped_pixels)
    return [*rows, LegendRow(None, "", msg("valid, not mapped"), left, shares[-1])]


def _ground(facts: MapFacts, square_metres: float, pixels: int) -> str:
    """An area in the legend's unit: hectares, or pixels where metres are not known."""
    return numeral(square_metres / 1e4, ",.1f") if facts.metric else numeral(pixels, ",")


def _accuracy(facts: MapFacts) -> list[Block]:
    """The model's scores with intervals and by class, and what they do not say."""
    if not facts.metrics.get("headline"):
        return [msg("Nothing is known: the model was never tested.")]
    tables = [_scores(facts), _classes(facts), _sets(facts)]
    return [table for table in tables if table.rows]


def _scores(facts: MapFacts) -> Table:
    """Overall scores with their intervals."""
    metrics = facts.metrics
    intervals = {"overall": metrics["overall_accuracy"]} | {
        k: v for k, v in metrics.get("bootstrap", {}).items() if k != "overall"
    }
    note = msg(
        "On {tested} test tiles. A tile is filled by one class; a window of the map may "
        "hold several, so the map's own accuracy can differ, and is lower along "
        "borders.",
        tested=metrics.get("tiles", "?"),
    )
    if facts.members:
        note = msg(
            "On {tested} test labels. Labels tend to lie within purer ground, so the map's own"
            " accuracy can differ, and is lower along borders.",
            tested=metrics.get("labels", "?"),
        )
    rows = ((_SCORES.get(k, k), v.get("value"), _between(v)) for k, v in intervals.items())
    return Table((msg("Score"), msg("Value"), msg("95 % interval")), tuple(rows), note=note)


def _classes(facts: MapFacts) -> Table:
    """Precision and recall of each class."""
    scores = facts.metrics.get("per_class") or {}
    known = [k for k, name in enumerate(facts.classes) if name in scores]
    rows = []
    for name in (facts.classes[k] for k in known):
        own = scores[name]
        rows.append((name, _count(own), own.get("precision"), own.get("recall")))
    return Table(
        (
            msg("Class"),
            msg("Labels") if facts.members else msg("Tiles"),
            msg("Precision"),
            msg("Recall"),
        ),
        tuple(rows),
        swatches=tuple(facts.colours[k] for k in known),
        note=msg(
            "Precision: how often ground so classified is correct (user's accuracy). "
            "Recall: how much of the class is found (producer's accuracy)."
        ),
    )


def _sets(facts: MapFacts) -> Table:
    """How often prediction sets held the class of test labels, where the map has such sets."""
    stated = facts.tags.get(SETS_TAG)
    scores = facts.metrics.get("sets", []) if stated else []
    rows = tuple((numeral(one["stated"], ".0%"), one["covered"], one["classes"]) for one in scores)
    mine = [place for place, one in enumerate(scores) if f"{one['stated']:g}" == stated]
    return Table(
        (msg("Stated coverage"), msg("Covered test labels"), msg("Classes in a set (mean)")),
        rows,
        strong=mine[0] if mine else None,
        note=msg(
            "Prediction sets of this map have a stated coverage of {coverage:.0%}. The table "
            "tests such sets on labels that had no part in their thresholds: the share of "
            "labels whose class is in the set.",
            coverage=float(stated or 0),
        ),
    )


def _count(scores: Mapping[str, Any]) -> int | None:
    """Labels of a class, whole: pixels of a polygon count as one together."""
    support = scores.get("support")
    return None if support is None else round(support)


def _between(score: Mapping[str, Any]) -> str:
    low, high = score.get("low"), score.get("high")
    return (
        "–" if low is None or high is None else msg("{low:.3f} to {high:.3f}", low=low, high=high)
    )


def _provenance(facts: MapFacts) -> Table:
    """What the map's tags say, in words, and the files that belong to it."""
    tags = facts.tags
    pairs = {
        msg("Scene"): tags.get("GEOTL_SCENE"),
        msg("Acquired"): _said(facts.acquired),
        msg("Model (sha256)"): tags.get("GEOTL_MODEL_SHA256"),
        **_how(facts),
        msg("Extra bands"): tags.get(EXTRA_TAG),
        msg("Smoothed in windows of [px]"): _said(tags.get(SMOOTH_TAG)),
        msg("Minimum mapping unit [ha]"): _said(tags.get(MMU_TAG)),
        msg("Coverage of the prediction sets, as stated"): _said(tags.get(SETS_TAG)),
        msg("Mapped"): _said(tags.get("GEOTL_DATE")),
        "geotl": tags.get("GEOTL_VERSION"),
        msg("Trained with"): tags.get("GEOTL_TRAINED_WITH"),
        msg("Files"): ", ".join(facts.files),
    }
    rows = tuple((name, value) for name, value in pairs.items() if value)
    return Table((msg("What"), msg("Value")), rows)


def _how(facts: MapFacts) -> dict[str, str | None]:
    """How a class came about: by members of pixels, or by windows that a network saw."""
    tags = facts.tags
    if facts.members:
        return {msg("Members and weights"): facts.members_words()}
    return {
        msg("Mode"): _said(tags.get("GEOTL_MODE")),
        msg("Window [px]"): _said(tags.get("GEOTL_WINDOW_PX")),
        msg("Step [px]"): _said(tags.get("GEOTL_STEP_PX")),
        msg("Views averaged"): _said(tags.get("GEOTL_VIEWS")),
        msg("Dense and exact agree"): _said(tags.get("GEOTL_DENSE_AGREEMENT")),
        msg("Dense features corrected"): _said(tags.get("GEOTL_DENSE_CORRECTION")),
    }


def _data(look: Look, facts: MapFacts) -> dict[str, Any]:
    """What the page's script draws and reads."""
    ground = ground_of(look.grid)
    places = lattice(look.grid)
    return {
        "width": look.grid.width,
        "height": look.grid.height,
        "classes": _packed(look.classes),
        "confidence": _packed(look.confidence),
        "names": list(facts.classes),
        "colours": rgb_of(facts.colours).tolist(),
        "ramp": confidence_ramp().tolist(),
        "transform": list(look.grid.transform),
        "metric": ground is not None,
        "words": _words(),
        "across": ground.across_m if ground else 1.0,
        "down": ground.down_m if ground else 1.0,
        "north": ground.north_deg if ground else 0.0,
        "lattice": None if places is None else places.round(7).tolist(),
    }


def _packed(values: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 9)).decode()


def _words() -> dict[str, str]:
    """What the page's script says, in the page's language."""
    words = {
        "beside": msg("Beside the map."),
        "unmapped": msg("not mapped"),
        "confidence": msg("confidence"),
        "swipe": msg("scene on the left"),
        "north": msg("N"),
        "south": msg("S"),
        "east": msg("E"),
        "west": msg("W"),
    }
    return {name: translated(text) for name, text in words.items()} | {"locale": current()}


def _said(text: str | None) -> str | None:
    """What a tag says in geotl's words, as a message; names and versions are not of these."""
    return stored(text) if text else None
