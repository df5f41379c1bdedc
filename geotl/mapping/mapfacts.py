"""What is to be told beside a finished map, in words: its source, and how far to believe it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from geotl.arrays import Float64s
from geotl.mapping.layers import Areas


@dataclass(frozen=True)
class MapFacts:
    """What a finished map's figure and page tell.

    Attributes:
        scene: its name, with the date it was `acquired` if known.
        classes: names by value, with their `colours`.
        areas: of each class, and what was not mapped.
        tags: of the map: what it was made with.
        confidence: mean of the cells mapped, in percent.
        metrics: of the model, from its run; empty where it was not judged.
        outside: share of mapped cells outside the model's area of applicability; None if unknown.
        trained_on: dates of the training imagery.
        files: names of the map's files.
        forced: mapped although the values were unlike any in training.
    """

    scene: str
    acquired: str | None
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    areas: Areas
    tags: Mapping[str, str]
    confidence: float
    metrics: Mapping[str, Any] = field(default_factory=dict)
    outside: float | None = None
    trained_on: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    forced: bool = False

    @property
    def title(self) -> str:
        """The map's name."""
        return f"Land cover: {self.scene}"

    @property
    def shares(self) -> Float64s:
        """Percent of the valid ground by class, and at the end what was not mapped [K + 1]."""
        pixels = np.append(self.areas.pixels, self.areas.unmapped_pixels)
        return np.asarray(100 * pixels / max(int(pixels.sum()), 1))

    @property
    def mapped_m2(self) -> float:
        """Ground that was mapped; nan without a reference system."""
        return float(np.nansum(self.areas.square_metres)) if self._metric else math.nan

    @property
    def _metric(self) -> bool:
        return math.isfinite(self.areas.unmapped_square_metres)

    def ground(self, square_metres: float, pixels: int) -> str:
        """An area for people: in hectares or square kilometres, in pixels where metres fail."""
        return area_name(square_metres) if self._metric else f"{pixels:,} px"


def area_name(square_metres: float) -> str:
    """An area in the unit that suits it.

    >>> area_name(4_000_000), area_name(250_000_000), area_name(900)
    ('400 ha', '250 km²', '0.09 ha')
    """
    value, unit = (
        (square_metres / 1e6, "km²") if square_metres >= 1e8 else (square_metres / 1e4, "ha")
    )
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    text = f"{value:,.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if digits else text} {unit}"


def subtitle(facts: MapFacts) -> str:
    """One line under the title: date, ground, classes, and where the model does not apply."""
    there = int((facts.areas.pixels > 0).sum())
    ground = facts.ground(facts.mapped_m2, int(facts.areas.pixels.sum()))
    classes = f"{there} of {len(facts.classes)} classes found"
    when = f"imagery of {facts.acquired}" if facts.acquired else "imagery of unknown date"
    told = [when, f"{ground} mapped", classes]
    if facts.outside is not None:
        told.append(f"{100 * facts.outside:.3g} % of it unlike the training tiles")
    return "  ·  ".join(told)


def accuracy_line(facts: MapFacts) -> str:
    """The model's accuracy in one phrase."""
    if not facts.metrics.get("headline"):
        return "the model was not judged"
    tiles = facts.metrics.get("tiles")
    on = f" on {tiles:,} tiles that chose nothing" if isinstance(tiles, int) else ""
    return f"{facts.metrics['headline']}{on}"


def source_line(facts: MapFacts) -> str:
    """Where the map comes from, in a few sentences."""
    tags = facts.tags
    dated = f", {facts.acquired}" if facts.acquired else ""
    return (
        f"Scene {tags.get('GEOTL_SCENE', facts.scene)}{dated}. Model "
        f"{tags.get('GEOTL_MODEL_SHA256', '')[:12]}: {accuracy_line(facts)}. Windows of "
        f"{tags.get('GEOTL_WINDOW_PX', '?')} px every {tags.get('GEOTL_STEP_PX', '?')} px, "
        f"{tags.get('GEOTL_MODE', '?')} mode. Areas are counted from the map and carry its "
        f"errors. geotl {tags.get('GEOTL_VERSION', '')}, {tags.get('GEOTL_DATE', '')[:10]}."
    )


def honest_notes(facts: MapFacts) -> list[str]:
    """What a reader should know before believing the map."""
    found = []
    if facts.forced:
        found.append(
            "Mapped with --force: the scene's values were not held against what the model has "
            "seen. Trust it only if you know why they may differ."
        )
    found += _of_the_model(facts)
    found += _of_the_ground(facts)
    found.append(_of_the_windows(facts.tags))
    return found


def _of_the_model(facts: MapFacts) -> list[str]:
    found = []
    metrics = facts.metrics
    if not metrics.get("headline"):
        found.append("The model was never judged, so nothing is known of this map's accuracy.")
    else:
        found.append(
            f"The model's accuracy ({accuracy_line(facts)}) is of labelled tiles, each filled by "
            "one class, not of this map, where windows hold several. Judge the map itself: geotl "
            "sample, then geotl accuracy, which corrects the areas too."
        )
    if metrics.get("loses_to_a_baseline"):
        found.append("On the judged tiles a plain baseline was more accurate than this model.")
    if few := metrics.get("classes_with_few_tiles"):
        found.append(f"Judged on fewer than 5 tiles: {', '.join(few)}.")
    if facts.acquired and facts.trained_on and facts.acquired not in facts.trained_on:
        when = ", ".join(facts.trained_on[:3]) + (", …" if len(facts.trained_on) > 3 else "")
        found.append(
            f"The scene is of {facts.acquired}, the training imagery of {when}: another season, "
            "sun or atmosphere changes what a class looks like."
        )
    return found


def _of_the_ground(facts: MapFacts) -> list[str]:
    found = []
    if facts.outside is None:
        found.append(
            "Where the model applies was not looked into; --applicability maps it, and tells what "
            "share of the scene is unlike all training tiles."
        )
    else:
        found.append(
            f"{100 * facts.outside:.1f} % of the mapped cells lie outside the model's area of "
            "applicability: they are unlike all training tiles, and the accuracy says nothing of "
            "them, however confident the model is."
        )
    share = float(facts.shares[-1])
    if facts.areas.unmapped_pixels:
        left = facts.ground(facts.areas.unmapped_square_metres, facts.areas.unmapped_pixels)
        found.append(
            f"{left} ({share:.2g} %) of valid ground was not mapped: too few valid pixels in the "
            "windows around it."
        )
    return found


def _of_the_windows(tags: Mapping[str, str]) -> str:
    if tags.get("GEOTL_MODE") != "dense":
        return "Exact mode: every window went through the network by itself."
    try:
        agreed = f"named {100 * float(tags['GEOTL_DENSE_AGREEMENT']):.1f} % of them alike"
    except (KeyError, ValueError):  # "not measured"
        agreed = "was not compared with exact mode"
    corrected = (
        "" if tags.get("GEOTL_DENSE_CORRECTION", "none") == "none" else ", its features corrected,"
    )
    return (
        f"Dense mode: the network ran once over large blocks; on a sample of windows it{corrected} "
        f"{agreed}, set beside exact mode."
    )
