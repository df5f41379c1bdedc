"""What a finished map's figure and page say of it, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from geotl.arrays import Float64s
from geotl.language import joined, msg, numeral, sentence, stored
from geotl.mapping.layers import Areas
from geotl.mapping.provenance import (
    AREA_TAG,
    BANDS_TAG,
    MEMBERS_TAG,
    MMU_TAG,
    SMOOTH_TAG,
)
from geotl.models.pixel_model import title_of

SAMPLES = {"pixels": msg("pixels"), "tiles": msg("tiles")}


@dataclass(frozen=True)
class MapFacts:
    """Facts for a finished map's figure and page.

    Attributes:
        scene: its name, with the date it was `acquired` if known.
        classes: names by value, with their `colours`.
        areas: of each class, and what was not mapped.
        tags: of the map: what it was made with.
        confidence: mean of the cells mapped, in percent.
        metrics: of the model, from its run; empty where it was not tested.
        outside: share of mapped cells outside the model's area of applicability; None if unknown.
        trained_on: dates of the training imagery.
        files: names of the map's files.
        forced: mapped although values were out of the training range.
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
    def members(self) -> str:
        """Members of a model of pixels, with their weights; "" for a network's map."""
        return self.tags.get(MEMBERS_TAG, "")

    def members_words(self) -> str:
        """Members with their weights, for readers."""
        pairs = [one.rpartition(" ") for one in self.members.split(", ")]
        named = [(title_of(n) if "_" in n else n, numeral(share)) for n, _, share in pairs]
        return joined([msg("{member} {share}", member=n, share=s) for n, s in named], "; ")

    @property
    def samples(self) -> str:
        """What the model was tested on: tiles or pixels."""
        return "pixels" if self.members else "tiles"

    @property
    def title(self) -> str:
        """The map's name."""
        return msg("Land cover: {scene}", scene=self.scene)

    def test_words(self) -> str:
        """What the model was tested on, and how many there were, if that is known."""
        count = self.metrics.get(self.samples)
        if not isinstance(count, int):
            return SAMPLES[self.samples]
        if self.members:
            return msg("{n:,} test pixels", n=count)
        return msg("{n:,} test tiles", n=count)

    @property
    def shares(self) -> Float64s:
        """Percent of the valid area by class, and at the end of what was not mapped [K + 1]."""
        pixels = np.append(self.areas.pixels, self.areas.unmapped_pixels)
        return np.asarray(100 * pixels / max(int(pixels.sum()), 1))

    @property
    def mapped_m2(self) -> float:
        """Area that was mapped; nan without a reference system."""
        return float(np.nansum(self.areas.square_metres)) if self.metric else math.nan

    @property
    def metric(self) -> bool:
        """Whether areas are known in square metres."""
        return math.isfinite(self.areas.unmapped_square_metres)

    def ground(self, square_metres: float, pixels: int) -> str:
        """An area for people: in hectares or square kilometres, in pixels where metres fail."""
        return area_name(square_metres) if self.metric else msg("{pixels:,} px", pixels=pixels)


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
    text = text.rstrip("0").rstrip(".") if digits else text
    return numeral(f"{text} {unit}")


def subtitle(facts: MapFacts) -> str:
    """One line under the title: date, area, classes, and where the model does not apply."""
    there = int((facts.areas.pixels > 0).sum())
    ground = facts.ground(facts.mapped_m2, int(facts.areas.pixels.sum()))
    when = msg("imagery of unknown date")
    if facts.acquired:
        when = msg("imagery of {acquired}", acquired=stored(facts.acquired))
    classes = msg("{there} of {classes} classes found", there=there, classes=len(facts.classes))
    parts = [when, msg("{ground} mapped", ground=ground), classes]
    if facts.outside is not None:
        parts.append(
            msg(
                "{outside:.3g} % of it outside the model's area of applicability",
                outside=100 * facts.outside,
            )
        )
    return joined(parts, "  ·  ")


def accuracy_line(facts: MapFacts) -> str:
    """The model's accuracy in one phrase."""
    headline = facts.metrics.get("headline")
    if not headline:
        return msg("the model was not tested")
    if not isinstance(facts.metrics.get(facts.samples), int):
        return stored(headline)
    return msg("{headline} on {tested}", headline=stored(headline), tested=facts.test_words())


def source_line(facts: MapFacts) -> str:
    """Where the map comes from, in a few sentences."""
    tags = facts.tags
    scene: str = tags.get("GEOTL_SCENE", facts.scene)
    if facts.acquired:
        scene = msg("{scene}, {acquired}", scene=scene, acquired=stored(facts.acquired))
    how: str = msg(
        "Windows of {window} px every {step} px, {mode} mode",
        window=tags.get("GEOTL_WINDOW_PX", "?"),
        step=tags.get("GEOTL_STEP_PX", "?"),
        mode=stored(tags.get("GEOTL_MODE", "?")),
    )
    if facts.members:
        how = msg("A class for every pixel, by {members}", members=facts.members_words())
    return msg(
        "Scene {scene}. Model {model}: {accuracy}. {how}. Areas are counted from the map and carry "
        "its errors. geotl {version}, {date}.",
        scene=scene,
        model=tags.get("GEOTL_MODEL_SHA256", "")[:12],
        accuracy=accuracy_line(facts),
        how=joined([how, *filter_words(tags)], "; "),
        version=tags.get("GEOTL_VERSION", ""),
        date=stored(tags.get("GEOTL_DATE", "")[:10]),
    )


def filter_words(tags: Mapping[str, str]) -> list[str]:
    """How a map was filtered, a phrase each; nothing where it was not.

    >>> filter_words({"GEOTL_SMOOTH_PX": "11", "GEOTL_MMU_HA": "0.5"})
    ['probabilities smoothed in windows of 11 px', 'patches below 0.5 ha merged']
    """
    words = []
    if side := tags.get(SMOOTH_TAG):
        words.append(msg("probabilities smoothed in windows of {side} px", side=side))
    if unit := tags.get(MMU_TAG):
        words.append(msg("patches below {unit} ha merged", unit=numeral(unit)))
    return words


def honest_notes(facts: MapFacts) -> list[str]:
    """Limits of the map, for its readers."""
    sentences: list[str] = []
    if facts.forced:
        sentences.append(
            msg(
                "Mapped with --skip-value-check: the scene's values were not compared with the "
                "model's training range. Trust it only if you know why they may differ."
            )
        )
    sentences += _of_the_model(facts)
    sentences += _of_the_ground(facts)
    sentences += _of_the_filters(facts.tags)
    sentences.append(_of_the_windows(facts.tags) if not facts.members else _of_the_pixels(facts))
    return sentences


def _of_the_model(facts: MapFacts) -> list[str]:
    metrics = facts.metrics
    sentences = [_tested_words(facts)]
    if estimate := metrics.get("estimate"):
        sentences.append(stored(str(estimate)))
    if metrics.get("loses_to_a_baseline"):
        sentences.append(
            msg(
                "On the test {samples} a plain baseline was more accurate than this model.",
                samples=SAMPLES[facts.samples],
            )
        )
    if few := metrics.get(f"classes_with_few_{facts.samples}"):
        sentences.append(
            msg(
                "Tested on fewer than 5 {samples}: {classes}.",
                samples=SAMPLES[facts.samples],
                classes=", ".join(few),
            )
        )
    if facts.acquired and facts.trained_on and facts.acquired not in facts.trained_on:
        when = [stored(day) for day in facts.trained_on[:3]]
        when += ["…"] if len(facts.trained_on) > 3 else []
        sentences.append(
            msg(
                "The scene is of {acquired}, the training imagery of {when}: another season, sun "
                "or atmosphere changes what a class looks like.",
                acquired=stored(facts.acquired),
                when=joined(when),
            )
        )
    return sentences


def _tested_words(facts: MapFacts) -> str:
    """What the model's accuracy is of."""
    if not facts.metrics.get("headline"):
        return msg("The model was never tested, so this map's accuracy is unknown.")
    if facts.members:
        return msg(
            "The model's accuracy is of labelled pixels, which may be purer than the area between "
            "them. Test the map itself: geotl sample, then geotl accuracy, which corrects the "
            "areas too."
        )
    return msg(
        "The model's accuracy is of labelled tiles, each filled by one class, not of this map, "
        "where windows contain several. Test the map itself: geotl sample, then geotl accuracy, "
        "which corrects the areas too."
    )


def _of_the_ground(facts: MapFacts) -> list[str]:
    sentences = [_applicability_words(facts)]
    if facts.areas.unmapped_pixels:
        left = facts.ground(facts.areas.unmapped_square_metres, facts.areas.unmapped_pixels)
        sentences.append(
            msg(
                "{left} ({share:.2g} %) of the valid area was not mapped: too few valid pixels in "
                "the windows around it.",
                left=left,
                share=float(facts.shares[-1]),
            )
        )
    return sentences


def _applicability_words(facts: MapFacts) -> str:
    """Where the model applies."""
    samples = SAMPLES[facts.samples]
    if facts.outside is None:
        return msg(
            "Where the model applies was not measured; --applicability maps it, and reports the "
            "share of the scene that is dissimilar to all training {samples}.",
            samples=samples,
        )
    outside = msg(
        "{outside:.1f} % of the mapped cells lie outside the model's area of applicability: they "
        "are dissimilar to all training {samples}, and the accuracy does not hold for them, "
        "however confident the model is.",
        outside=100 * facts.outside,
        samples=samples,
    )
    words = facts.tags.get(AREA_TAG)
    if not words:
        return outside
    return joined([outside, msg("Dissimilarity index: {words}.", words=stored(words))], " ")


def _of_the_filters(tags: Mapping[str, str]) -> list[str]:
    """What smoothing and merging of patches mean for the layers."""
    sentences = []
    if side := tags.get(SMOOTH_TAG):
        sentences.append(
            msg(
                "A guided filter with windows of {side} px smoothed the probabilities. Classes and "
                "all layers of probabilities are those after the filter; the model's accuracy is "
                "that before it. Narrow things that are as bright as their surroundings can "
                "vanish.",
                side=side,
            )
        )
    if unit := tags.get(MMU_TAG):
        sentences.append(
            msg(
                "Patches below {unit} ha took the class of their largest neighbour. Areas are "
                "those after this step. Confidence stays that of the model and can belong to "
                "another class there.",
                unit=numeral(unit),
            )
        )
    return sentences


def _of_the_pixels(facts: MapFacts) -> str:
    rule, _, partial = facts.tags.get(BANDS_TAG, "exclude").partition(": ")
    members = facts.members_words()
    if rule != "use":
        return msg(
            "Every pixel that is valid in all bands got a class of its own, from its values and "
            "those of valid pixels around it: {members} (members of the model and their weights).",
            members=members,
        )
    own = msg(
        "Every pixel that is valid in one band at least got a class of its own, from its values "
        "and those of valid pixels around it: {members} (members of the model and their weights).",
        members=members,
    )
    if not partial:
        return own
    lacking: str = sentence(stored(partial))  # that every pixel has all bands
    if partial[0].isdigit():
        lacking = msg("{pixels} and have a class from the others.", pixels=stored(partial))
    return joined([own, lacking], " ")


def _of_the_windows(tags: Mapping[str, str]) -> str:
    if tags.get("GEOTL_MODE") != "dense":
        return msg("Exact mode: window by window.")
    try:
        same = 100 * float(tags["GEOTL_DENSE_AGREEMENT"])
    except (KeyError, ValueError):  # "not measured"
        same = math.nan
    corrected = tags.get("GEOTL_DENSE_CORRECTION", "none") != "none"
    if math.isnan(same):
        return _uncompared_words(corrected=corrected)
    if corrected:
        return msg(
            "Dense mode: the network ran once over large blocks; on a sample of windows it, its "
            "features corrected, gave {same:.1f} % of them the class of exact mode.",
            same=same,
        )
    return msg(
        "Dense mode: the network ran once over large blocks; on a sample of windows it gave "
        "{same:.1f} % of them the class of exact mode.",
        same=same,
    )


def _uncompared_words(*, corrected: bool) -> str:
    """Of a dense map that was not compared with exact mode."""
    if corrected:
        return msg(
            "Dense mode: the network ran once over large blocks; on a sample of windows it, its "
            "features corrected, was not compared with exact mode."
        )
    return msg(
        "Dense mode: the network ran once over large blocks; on a sample of windows it was not "
        "compared with exact mode."
    )
