"""The page of a finished map: one file that carries everything with it and asks no network."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from geotl.arrays import Pixels
from geotl.io.files import asset, whole_file, write_text
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
from geotl.reporting.html import Cell, ReportContent, Table, page_html, table_html, top_html

_LAYERS = {"classes": "Classes", "confidence": "Confidence", "picture": "Picture of the scene"}


@dataclass(frozen=True)
class Seen:
    """A map that has just been drawn: how it came about, and where its files will stand."""

    task: Task
    areas: Areas
    tags: Mapping[str, str]
    targets: Mapping[str, Path]
    outside: float | None  # share of mapped cells unlike the training tiles, None if unknown
    picture: Pixels | None = None  # of the scene, where mapping gathered it


def show(folder: Path, made: Mapping[str, Path], seen: Seen) -> dict[str, Path]:
    """Draw a finished map as a sheet and a page.

    Args:
        folder: to write into.
        made: the map's files so far.
        seen: what is known of it.

    Raises:
        OutputError: the disk is full.
    """
    task = seen.task
    scene, model, cells = task.scene, task.model, task.interest.cells
    look = read_look(made, cells.on(task.grid.on(scene.grid)))
    look = replace(look, picture=picture_of(scene, cells, task.grid.posting, seen.picture))
    facts = MapFacts(
        scene=scene.name,
        acquired=scene.acquired,
        classes=model.contract.classes,
        colours=model.contract.colours,
        areas=seen.areas,
        tags=seen.tags,
        forced=task.options.force,
        confidence=mean_of(counts_of(made["confidence"])),
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
        facts: told beside it.

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
        facts: told beside it.
        sheet: the map as PNG, for paper and for browsers without scripts.
    """
    parts = [
        top_html(_top(facts)),
        _section("map", "The map", _viewer(look, facts, sheet)),
        _section("legend", "Classes and areas", _legend(facts)),
        _section("accuracy", "How accurate the model is", _accuracy(facts)),
        _section("provenance", "Where it comes from", _provenance(facts)),
    ]
    told = json.dumps(_data(look, facts), separators=(",", ":"), allow_nan=False)
    safe = told.replace("<", "\\u003c")  # a class may be called </script>
    data = f'<script type="application/json" id="map-data">{safe}</script>\n'
    return page_html(
        facts.title,
        "".join(parts) + data,
        kind="map",
        style=asset("geotl.mapping", "map.css"),
        script=asset("geotl.mapping", "map.js"),
    )


def _section(name: str, heading: str, body: str) -> str:
    return (
        f'<section id="{name}" aria-labelledby="{name}-heading">\n'
        f'<h2 id="{name}-heading">{heading}</h2>\n{body}</section>\n'
    )


def _top(facts: MapFacts) -> ReportContent:
    """Title, accuracy in front, key figures and cautions."""
    judged = facts.metrics.get("overall_accuracy")
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
    headline = "The model was never judged"
    if judged:
        headline = (
            f"Tests of the model, not of this map: {facts.metrics['headline']}, on {facts.samples}"
        )
        keys.insert(
            0,
            (
                "Accuracy of the model",
                f"{judged['value']:.3f}",
                f"{judged['low']:.3f} to {judged['high']:.3f}, 95 % interval",
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
        loses=bool(not judged or facts.metrics.get("loses_to_a_baseline")),
        summary=subtitle(facts),
        keys=tuple(keys),
        cautions=tuple(honest_notes(facts)),
    )


def _viewer(look: Look, facts: MapFacts, sheet: bytes) -> str:
    """The map to move about in; the sheet stands in its place until the script has begun."""
    there = [n for n in _LAYERS if n != "picture" or look.picture is not None]
    radios = "".join(
        f'<label><input type="radio" name="layer" value="{name}"'
        f"{' checked' if name == 'classes' else ''}>{_LAYERS[name]}</label>"
        for name in there
    )
    still = base64.b64encode(sheet).decode("ascii")
    stops = ", ".join(f"rgb({r} {g} {b})" for r, g, b in confidence_ramp()[::10].tolist())
    opacity = (
        '<label>Opacity<input type="range" id="opacity" min="0" max="100" value="100"></label>'
    )
    what = escape(f"Land-cover map of {facts.scene}", quote=True)
    each = (
        ""
        if look.each == 1
        else (
            f" One pixel here stands for {look.each} x {look.each} cells of the map: the commonest "
            "class, and the confidence of one cell."
        )
    )
    return (
        '<div class="viewer"><div class="live">\n'
        f'<div class="tools"><fieldset><legend>Layer</legend>{radios}</fieldset>{opacity}'
        '<span class="zoom"><button type="button" id="in" aria-label="Zoom in">+</button>'
        '<button type="button" id="out" aria-label="Zoom out">−</button>'
        '<button type="button" id="all" aria-label="Show the whole map">All</button></span></div>\n'
        '<div class="stage"><canvas id="canvas" tabindex="0" role="application" '
        f'aria-label="{what}" aria-describedby="help here"></canvas>'
        '<div class="north" id="north"><svg id="needle" viewBox="0 0 34 34" role="img" '
        'aria-label="True north"><path d="M17 4l5 17-5-3.5z" fill="#fff" stroke="#1d2733"/>'
        '<path d="M17 4l-5 17 5-3.5z" fill="#1d2733"/><text x="17" y="31" font-size="9" '
        'text-anchor="middle" font-weight="700" fill="#1d2733">N</text></svg></div>'
        '<div class="bar-of-scale" id="scale"><span id="scale-name"></span>'
        '<i id="scale-bar"></i></div></div>\n'
        '<output class="here" id="here" aria-live="polite">Point at the map to read it.</output>\n'
        '<p class="note" id="help">Drag to move, wheel or pinch to zoom. By keyboard: arrows move '
        "(with Shift by one pixel), + and − zoom, 0 shows all; the cross is read out. "
        f'Confidence: 0 <span class="ramp" style="background:linear-gradient(90deg,{stops})">'
        f"</span> 100 %. Hatched: not mapped.{each}</p>\n</div>\n"
        f'<img class="still" src="data:image/png;base64,{still}" alt="{what}: '
        f'{escape(_described(facts), quote=True)}">\n</div>\n'
    )


def _described(facts: MapFacts) -> str:
    """The map for who cannot see it: the largest classes."""
    order = np.argsort(-facts.areas.pixels, kind="stable")[:5]
    return ", ".join(
        f"{facts.classes[k]} {facts.shares[k]:.1f} %" for k in order if facts.areas.pixels[k]
    )


def _legend(facts: MapFacts) -> str:
    """Every class with its area; a press of its name shows it alone."""
    metric = math.isfinite(facts.areas.unmapped_square_metres)
    rows = []
    for k in np.argsort(-facts.areas.pixels, kind="stable").tolist():
        metres, pixels = float(facts.areas.square_metres[k]), int(facts.areas.pixels[k])
        name = escape(facts.classes[k])
        button = (
            f'<button type="button" class="pick" data-value="{k}" aria-pressed="false">{name}'
            "</button>"
        )
        rows.append(
            _row(
                facts.colours[k], button, metres if metric else None, pixels, float(facts.shares[k])
            )
        )
    left = float(facts.areas.unmapped_square_metres)
    rows.append(
        _row(
            None,
            "valid, not mapped",
            left if metric else None,
            facts.areas.unmapped_pixels,
            float(facts.shares[-1]),
        )
    )
    unit = "Hectares" if metric else "Pixels"
    return (
        '<div class="scroll"><table class="legend">\n<thead><tr><th scope="col">Class</th>'
        f'<th scope="col" class="number">{unit}</th><th scope="col" class="number">Percent</th>'
        f"</tr></thead>\n<tbody>\n{''.join(rows)}</tbody>\n</table></div>\n"
        '<p class="note"><span class="noprint">Press a class to see it alone, several to see them '
        "together. </span>Areas are counted from the map, of the scene's valid pixels, and carry "
        "its errors; geotl accuracy estimates them without.</p>\n"
    )


def _row(colour: str | None, name: str, metres: float | None, pixels: int, share: float) -> str:
    swatch = (
        ' class="swatch none"'
        if colour is None
        else (f' class="swatch" style="background:{escape(colour, quote=True)}"')
    )
    ground = f"{pixels:,}" if metres is None else f"{metres / 1e4:,.1f}"
    return (
        f'<tr><th scope="row"><i{swatch}></i>{name}</th><td class="number">{ground}</td>'
        f'<td class="number">{share:.2f}</td></tr>\n'
    )


def _accuracy(facts: MapFacts) -> str:
    """The model's scores with intervals and by class, and what they do not say."""
    metrics = facts.metrics
    if not metrics.get("headline"):
        return "<p>Nothing is known: the model was not judged.</p>\n"
    names = {
        "overall": "Overall accuracy",
        "balanced": "Balanced accuracy",
        "kappa": "Kappa",
        "macro_f1": "Macro F1",
    }
    held = {"overall": metrics["overall_accuracy"]} | {
        k: v for k, v in metrics.get("bootstrap", {}).items() if k != "overall"
    }
    scores: list[tuple[Cell, ...]] = [
        (names.get(key, key), v.get("value"), _between(v)) for key, v in held.items()
    ]
    note = (
        f"On {metrics.get('tiles', '?')} test tiles. A tile is filled by "
        "one class; a window of the map may hold several, so the map's own accuracy can differ, "
        "and is lower along borders."
    )
    if facts.members:
        note = (
            f"On {metrics.get('labels', '?')} test labels. Labels tend to "
            "lie within purer ground, so the map's own accuracy can differ, and is lower along "
            "borders."
        )
    parts = [table_html(Table(("Score", "Value", "95 % interval"), tuple(scores), note=note))]
    if by_class := metrics.get("per_class"):
        rows: list[tuple[Cell, ...]] = [
            (name, _count(by_class[name]), *map(by_class[name].get, ("precision", "recall")))
            for name in facts.classes
            if name in by_class
        ]
        swatches = tuple(
            colour
            for name, colour in zip(facts.classes, facts.colours, strict=True)
            if name in by_class
        )
        parts.append(
            table_html(
                Table(
                    ("Class", "Labels" if facts.members else "Tiles", "Precision", "Recall"),
                    tuple(rows),
                    swatches=swatches,
                    note="Precision: how often ground so named is right (user's accuracy). "
                    "Recall: how much of the class is found (producer's accuracy).",
                )
            )
        )
    return "".join(parts)


def _count(scores: Mapping[str, Any]) -> int | None:
    """Labels of a class, whole: pixels of a polygon count as one together."""
    support = scores.get("support")
    return None if support is None else round(support)


def _between(score: Mapping[str, Any]) -> str:
    low, high = score.get("low"), score.get("high")
    return "–" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _provenance(facts: MapFacts) -> str:
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
        "Coverage of the prediction sets": tags.get(SETS_TAG),
        "Mapped": tags.get("GEOTL_DATE"),
        "geotl": tags.get("GEOTL_VERSION"),
        "Trained with": tags.get("GEOTL_TRAINED_WITH"),
        "Files": ", ".join(facts.files),
    }
    rows = tuple((name, value) for name, value in pairs.items() if value)
    found = table_html(Table(("What", "Value"), rows))
    if recipe := tags.get("GEOTL_RECIPE"):
        found += (
            "<details><summary>The recipe that trained the model</summary>"
            f'<pre class="recipe"><code>{escape(recipe.strip())}</code></pre></details>\n'
        )
    return found


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
    picture = None
    if look.picture is not None:
        picture = "data:image/jpeg;base64," + base64.b64encode(jpeg(look.picture)).decode("ascii")
    return {
        "width": look.grid.width,
        "height": look.grid.height,
        "classes": _packed(look.classes),
        "confidence": _packed(look.confidence),
        "names": list(facts.classes),
        "colours": rgb_of(facts.colours).tolist(),
        "ramp": confidence_ramp().tolist(),
        "picture": picture,
        "transform": list(look.grid.transform),
        "metric": ground is not None,
        "across": ground.across_m if ground else 1.0,
        "down": ground.down_m if ground else 1.0,
        "north": ground.north_deg if ground else 0.0,
        "lattice": None if places is None else places.round(7).tolist(),
    }


def _packed(values: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 9)).decode()
