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
from geotl.io.files import whole_file, write_text
from geotl.io.geodesy import ground_of
from geotl.mapping.cartography import confidence_ramp, jpeg, map_figure, rgb_of
from geotl.mapping.graticule import lattice
from geotl.mapping.layers import Areas
from geotl.mapping.preview import Look, counts_of, mean_of, picture_of, read_look
from geotl.mapping.provenance import (
    EXTRA_TAG,
    MEMBERS_TAG,
    MMU_TAG,
    SETS_TAG,
    SMOOTH_TAG,
    MapFacts,
    honest_notes,
    subtitle,
)
from geotl.mapping.task import PAGE, SHEET, Task
from geotl.reporting.html import Block, Code, ReportContent, Table
from geotl.reporting.templates import render, script, style

_LAYERS = {"classes": "Classes", "confidence": "Confidence", "picture": "Picture of the scene"}
_SCORES = {
    "overall": "Overall accuracy",
    "balanced": "Balanced accuracy",
    "kappa": "Kappa",
    "macro_f1": "Macro F1",
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
        unit="Hectares" if facts.metric else "Pixels",
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
            "Mapped",
            facts.ground(facts.mapped_m2, int(facts.areas.pixels.sum())),
            f"{100 - float(facts.shares[-1]):.1f} % of the valid ground",
        ),
        (
            "Mean confidence",
            f"{facts.confidence:.0f} %" if math.isfinite(facts.confidence) else "–",
            "of the cells mapped",
        ),
    ]
    headline = "The model was never tested"
    if overall:
        headline = f"Tests of the model, not of this map: {_tested(facts)}"
        keys.insert(
            0,
            (
                "Accuracy of the model",
                f"{overall['value']:.3f}",
                f"{overall['low']:.3f} to {overall['high']:.3f}, 95 % interval",
            ),
        )
    if facts.outside is not None:
        keys.append(
            (
                "Unlike the training",
                f"{100 * facts.outside:.1f} %",
                "of the cells, outside the area of applicability",
            )
        )
    return ReportContent(
        title=facts.title,
        headline=headline,
        kind="map",
        loses=bool(not overall or facts.metrics.get("loses_to_a_baseline")),
        summary=subtitle(facts),
        keys=tuple(keys),
        cautions=tuple(honest_notes(facts)),
    )


def _tested(facts: MapFacts) -> str:
    """The model's accuracy in a phrase: of pixels without the race that its run reports."""
    words, count = facts.metrics["headline"], facts.metrics.get(facts.samples)
    if facts.members:
        overall = facts.metrics["overall_accuracy"]
        words = f"accuracy {overall['value']:.3f} [{overall['low']:.3f}, {overall['high']:.3f}]"
    return f"{words}, on {f'{count:,} test ' if count else ''}{facts.samples}"


def _viewer(look: Look, facts: MapFacts) -> dict[str, Any]:
    """What the map to move about in shows."""
    picture = None if look.picture is None else jpeg(look.picture)
    stops = confidence_ramp()[::10].tolist()
    return {
        "layers": {n: text for n, text in _LAYERS.items() if n != "picture" or picture},
        "scene": picture,
        "name": facts.scene,
        "what": f"Land-cover map of {facts.scene}",
        "described": _described(facts),
        "ramp": ", ".join(f"rgb({red} {green} {blue})" for red, green, blue in stops),
        "each": look.each,
    }


def _described(facts: MapFacts) -> str:
    """The map for who cannot see it: the largest classes."""
    order = np.argsort(-facts.areas.pixels, kind="stable")[:5]
    return ", ".join(
        f"{facts.classes[k]} {facts.shares[k]:.1f} %" for k in order if facts.areas.pixels[k]
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
    return [*rows, LegendRow(None, "", "valid, not mapped", left, shares[-1])]


def _ground(facts: MapFacts, square_metres: float, pixels: int) -> str:
    """An area in the legend's unit: hectares, or pixels where metres are not known."""
    return f"{square_metres / 1e4:,.1f}" if facts.metric else f"{pixels:,}"


def _accuracy(facts: MapFacts) -> list[Block]:
    """The model's scores with intervals and by class, and what they do not say."""
    if not facts.metrics.get("headline"):
        return ["Nothing is known: the model was never tested."]
    tables = [_scores(facts), _classes(facts), _sets(facts)]
    return [table for table in tables if table.rows]


def _scores(facts: MapFacts) -> Table:
    """Overall scores with their intervals."""
    metrics = facts.metrics
    intervals = {"overall": metrics["overall_accuracy"]} | {
        k: v for k, v in metrics.get("bootstrap", {}).items() if k != "overall"
    }
    note = (
        f"On {metrics.get('tiles', '?')} test tiles. A tile is filled by one class; a window of "
        "the map may hold several, so the map's own accuracy can differ, and is lower along "
        "borders."
    )
    if facts.members:
        note = (
            f"On {metrics.get('labels', '?')} test labels. Labels tend to lie within purer ground, "
            "so the map's own accuracy can differ, and is lower along borders."
        )
    rows = ((_SCORES.get(k, k), v.get("value"), _between(v)) for k, v in intervals.items())
    return Table(("Score", "Value", "95 % interval"), tuple(rows), note=note)


def _classes(facts: MapFacts) -> Table:
    """Precision and recall of each class."""
    scores = facts.metrics.get("per_class") or {}
    known = [k for k, name in enumerate(facts.classes) if name in scores]
    rows = []
    for name in (facts.classes[k] for k in known):
        own = scores[name]
        rows.append((name, _count(own), own.get("precision"), own.get("recall")))
    return Table(
        ("Class", "Labels" if facts.members else "Tiles", "Precision", "Recall"),
        tuple(rows),
        swatches=tuple(facts.colours[k] for k in known),
        note="Precision: how often ground so classified is correct (user's accuracy). Recall: how "
        "much of the class is found (producer's accuracy).",
    )


def _sets(facts: MapFacts) -> Table:
    """How often prediction sets held the class of test labels, where the map has such sets."""
    stated = facts.tags.get(SETS_TAG)
    scores = facts.metrics.get("sets", []) if stated else []
    rows = tuple((f"{one['stated']:.0%}", one["covered"], one["classes"]) for one in scores)
    mine = [place for place, one in enumerate(scores) if f"{one['stated']:g}" == stated]
    return Table(
        ("Stated coverage", "Covered test labels", "Classes in a set (mean)"),
        rows,
        strong=mine[0] if mine else None,
        note=f"Prediction sets of this map have a stated coverage of {float(stated or 0):.0%}. The "
        "table tests such sets on labels that had no part in their thresholds: the share of "
        "labels whose class is in the set.",
    )


def _count(scores: Mapping[str, Any]) -> int | None:
    """Labels of a class, whole: pixels of a polygon count as one together."""
    support = scores.get("support")
    return None if support is None else round(support)


def _between(score: Mapping[str, Any]) -> str:
    low, high = score.get("low"), score.get("high")
    return "–" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _provenance(facts: MapFacts) -> Table:
    """What the map's tags say, in words, and the files that belong to it."""
    tags = facts.tags
    pairs = {
        "Scene": tags.get("GEOTL_SCENE"),
        "Acquired": facts.acquired,
        "Model (sha256)": tags.get("GEOTL_MODEL_SHA256"),
        **_how(tags),
        "Extra bands": tags.get(EXTRA_TAG),
        "Smoothed in windows of [px]": tags.get(SMOOTH_TAG),
        "Minimum mapping unit [ha]": tags.get(MMU_TAG),
        "Coverage of the prediction sets, as stated": tags.get(SETS_TAG),
        "Mapped": tags.get("GEOTL_DATE"),
        "geotl": tags.get("GEOTL_VERSION"),
        "Trained with": tags.get("GEOTL_TRAINED_WITH"),
        "Files": ", ".join(facts.files),
    }
    rows = tuple((name, value) for name, value in pairs.items() if value)
    return Table(("What", "Value"), rows)


def _how(tags: Mapping[str, str]) -> dict[str, str | None]:
    """How a class came about: by members of pixels, or by windows that a network saw."""
    if MEMBERS_TAG in tags:
        return {"Members and weights": tags[MEMBERS_TAG]}
    return {
        "Mode": tags.get("GEOTL_MODE"),
        "Window [px]": tags.get("GEOTL_WINDOW_PX"),
        "Step [px]": tags.get("GEOTL_STEP_PX"),
        "Views averaged": tags.get("GEOTL_VIEWS"),
        "Dense and exact agree": tags.get("GEOTL_DENSE_AGREEMENT"),
        "Dense features corrected": tags.get("GEOTL_DENSE_CORRECTION"),
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
        "across": ground.across_m if ground else 1.0,
        "down": ground.down_m if ground else 1.0,
        "north": ground.north_deg if ground else 0.0,
        "lattice": None if places is None else places.round(7).tolist(),
    }


def _packed(values: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 9)).decode()
