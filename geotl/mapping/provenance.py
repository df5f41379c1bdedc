"""Metadata of a map: its tags, the mark that identifies it, and the notes printed with it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from geotl._version import __version__
from geotl.arrays import Float64s
from geotl.errors import ModelError
from geotl.evaluation.sample_design import FOOTPRINTS_TAG
from geotl.imagery.scene import Scene
from geotl.imagery.stacked import extra_sources
from geotl.imagery.windows import Imagery
from geotl.inference.mapper import Mapper
from geotl.inference.onnx_pixels import ServedPixelModel
from geotl.inference.pixel_predictor import PixelPredictor
from geotl.inference.sliding_window import WindowPredictor
from geotl.io.files import sha256_of
from geotl.io.raster import opened
from geotl.mapping.blocks import SweepPlan
from geotl.mapping.layers import Areas
from geotl.mapping.options import MapOptions
from geotl.mapping.plan import ModeChoice, SweepNote
from geotl.mapping.task import Task
from geotl.mapping.window_store import Sheet
from geotl.models.pixel_file import PixelModelFile
from geotl.models.pixel_model import members_line

MARK_TAG = "GEOTL_JOB"
MEMBERS_TAG = "GEOTL_MEMBERS"  # of a model of pixels
BANDS_TAG = "GEOTL_MISSING_BANDS"  # likewise
AREA_TAG = "GEOTL_APPLICABILITY"  # likewise, where it was measured
EXTRA_TAG = "GEOTL_EXTRA"  # bands of extra rasters, where there are some
SMOOTH_TAG, MMU_TAG = "GEOTL_SMOOTH_PX", "GEOTL_MMU_HA"  # where a map was filtered
SETS_TAG = "GEOTL_SETS_COVERAGE"  # where a map has prediction sets


@dataclass(frozen=True)
class SweepInputs:
    """Everything that the pixels of a map depend on, in plain values; see `notes`.

    Attributes:
        geotl: version.
        model: SHA-256 of its file.
        scene: its path.
        state: size and time of change of the scene's files.
        mask: path of the mask of clouds, and the state of its files.
        bands: names of the scene's.
        grid: the scene's, as a dictionary.
        sensor: the scene's, as a dictionary.
        windows: side, step, posting and block in pixels.
        look: views, number format, the smallest valid share of a window, which pixels are valid,
            and how probabilities are smoothed.
        engine: what computes, and on what kind of device.
        options: of the map, without those that change no pixel.
        interest: the part mapped, in words.
    """

    geotl: str
    model: str
    scene: str
    state: list[tuple[str, int, int]]
    mask: list[Any]
    bands: tuple[str, ...]
    grid: dict[str, Any]
    sensor: dict[str, Any]
    windows: list[int]
    look: list[Any]
    engine: list[str]
    options: dict[str, Any]
    interest: str

    @property
    def key(self) -> str:
        """A name for these inputs: others, another name."""
        text = json.dumps(vars(self), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def notes(task: Task, plan: SweepPlan) -> SweepInputs:
    """Everything that the pixels of a map depend on, except the choice of `plan.settled`.

    Raises:
        ModelError: a model that is in no file.
    """
    scene, grid, sweep = task.scene, plan.grid, plan.sweep
    mask = scene.mask.path if isinstance(scene, Scene) and scene.mask else None
    return SweepInputs(
        geotl=__version__,
        model=model_digest(task.model),
        scene=str(scene.path),
        state=scene_states(scene),
        mask=[str(mask), file_states(mask) if mask else []],
        bands=scene.bands,
        grid=asdict(scene.grid),
        sensor=asdict(scene.sensor),
        windows=[grid.px, grid.step, grid.posting, plan.block_px],
        look=[sweep.views, sweep.precision, plan.min_valid, plan.some_bands, plan.smoothing],
        engine=[sweep.engine, sweep.device],
        options=asdict(task.options) | dict.fromkeys(["overwrite", "force", "page", "mark"]),
        interest=task.interest.description,
    )


def model_digest(model: Mapper) -> str:
    """SHA-256 of the file a model was loaded from.

    Raises:
        ModelError: it was made in memory and never saved.
    """
    if model.path is None:
        raise ModelError("a model without a file cannot be recorded in a map; save and load it")
    return sha256_of(model.path)


def scene_states(scene: Imagery) -> list[tuple[str, int, int]]:
    """Size and time of change of the files that a scene is read from."""
    parts = scene.parts if isinstance(scene, Scene) else ()
    return [state for path in parts or (scene.path,) for state in file_states(path)]


def file_states(path: Path) -> list[tuple[str, int, int]]:
    """Size and time of change of a scene's files, with the sources of a VRT."""
    if path.is_dir():
        files = [p for p in path.rglob("*") if p.is_file()]
    elif path.exists():
        with opened(path) as source:
            files = [p for p in map(Path, source.files) if p.is_file()]
    else:
        files = []
    states = [(str(p), p.stat()) for p in sorted(files)]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in states]


def provenance(
    task: Task, inputs: SweepInputs, note: SweepNote, plan: SweepPlan, sheet: Sheet
) -> dict[str, str]:
    """The provenance of a map, for its tags.

    Args:
        task: what was mapped with what.
        inputs: what the pixels depend on.
        note: kept when the sweep began.
        plan: of the windows.
        sheet: the predictions.
    """
    contract, model = task.model.contract, task.model
    agreement = note.choice.agreement
    versions = model.notes.get("versions", {})
    boxes = model.ground.get(str(task.scene.grid.crs), [])
    return {
        "GEOTL_VERSION": inputs.geotl,
        "GEOTL_DATE": note.date,
        "GEOTL_MODEL_SHA256": inputs.model,
        "GEOTL_SCENE": Path(inputs.scene).name,
        "GEOTL_MODE": plan.sweep.mode,
        "GEOTL_ENGINE": plan.sweep.engine,
        "GEOTL_VIEWS": str(plan.sweep.views),
        "GEOTL_WINDOW_PX": str(plan.grid.px),
        "GEOTL_STEP_PX": str(plan.grid.step),
        "GEOTL_DENSE_AGREEMENT": "not measured" if agreement is None else f"{agreement:.4f}",
        "GEOTL_DENSE_CORRECTION": _corrected(note.choice),
        "GEOTL_RECIPE": str(model.notes.get("recipe", "")),
        "GEOTL_TRAINED_WITH": ", ".join(f"{k} {v}" for k, v in versions.items()),
        **_of_pixels(model, sheet, plan.sweep),
        **_of_extras(task.scene),
        **_filters(task.options),
        **({MARK_TAG: task.options.mark} if task.options.mark else {}),
        **({FOOTPRINTS_TAG: json.dumps(boxes)} if boxes else {}),
        **{f"CLASS_{value}": name for value, name in enumerate(contract.classes)},
    }


def _of_pixels(model: Mapper, sheet: Sheet, sweep: WindowPredictor) -> dict[str, str]:
    """What a model of pixels is made of, how it took missing bands, and what was compared, as tags.

    Nothing for a network.
    """
    if not isinstance(model, PixelModelFile | ServedPixelModel):
        return {}
    rule = model.features.missing_bands
    words = f"{rule}: {partial_words(sheet)}" if rule == "use" else rule
    likeness = sweep.likeness if isinstance(sweep, PixelPredictor) else None
    tags = {MEMBERS_TAG: members_line(model.weights), BANDS_TAG: words}
    return tags | ({} if likeness is None else {AREA_TAG: likeness.words})


def _of_extras(scene: Imagery) -> dict[str, str]:
    """The bands of extra rasters and the files they came from, as a tag; nothing without any."""
    files = extra_sources(scene)
    bands = scene.bands[len(scene.bands) - len(files) :]
    words = ", ".join(f"{band} ({path.name})" for band, path in zip(bands, files, strict=True))
    return {EXTRA_TAG: words} if words else {}


def partial_words(sheet: Sheet) -> str:
    """How many of the pixels that have a class lack some bands."""
    count, total = int(sheet.partial.sum()), int(sheet.seen.sum())
    if not count:
        return "every pixel with a class has all bands"
    return f"{count:,} pixels ({100 * count / max(total, 1):.2g} %) lack some bands"


def _filters(options: MapOptions) -> dict[str, str]:
    """How probabilities and classes were filtered, and the coverage of sets, as tags."""
    smooth = {} if options.smooth_px is None else {SMOOTH_TAG: str(options.smooth_px)}
    sets = {SETS_TAG: f"{options.coverage:g}"} if options.sets else {}
    return smooth | sets | ({MMU_TAG: f"{options.mmu_ha:g}"} if options.mmu_ha else {})


def _corrected(choice: ModeChoice) -> str:
    """What was done to dense features, and how often both modes agreed without it."""
    correction = choice.correction
    if correction is None:
        return "none"
    return (
        f"{correction.kind} of {len(correction.shift)} features by {choice.windows} windows, "
        f"without it {choice.plain:.4f}, values {correction.digest[:16]}"
    )


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

    @property
    def samples(self) -> str:
        """What the model was tested on: tiles or pixels."""
        return "pixels" if self.members else "tiles"

    @property
    def title(self) -> str:
        """The map's name."""
        return f"Land cover: {self.scene}"

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
        return area_name(square_metres) if self.metric else f"{pixels:,} px"


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
    """One line under the title: date, area, classes, and where the model does not apply."""
    there = int((facts.areas.pixels > 0).sum())
    ground = facts.ground(facts.mapped_m2, int(facts.areas.pixels.sum()))
    classes = f"{there} of {len(facts.classes)} classes found"
    when = f"imagery of {facts.acquired}" if facts.acquired else "imagery of unknown date"
    parts = [when, f"{ground} mapped", classes]
    if facts.outside is not None:
        parts.append(f"{100 * facts.outside:.3g} % of it outside the model's area of applicability")
    return "  ·  ".join(parts)


def accuracy_line(facts: MapFacts) -> str:
    """The model's accuracy in one phrase."""
    if not facts.metrics.get("headline"):
        return "the model was not tested"
    count = facts.metrics.get(facts.samples)
    on = f" on {count:,} test {facts.samples}" if isinstance(count, int) else ""
    return f"{facts.metrics['headline']}{on}"


def source_line(facts: MapFacts) -> str:
    """Where the map comes from, in a few sentences."""
    tags = facts.tags
    dated = f", {facts.acquired}" if facts.acquired else ""
    how = (
        f"Windows of {tags.get('GEOTL_WINDOW_PX', '?')} px every {tags.get('GEOTL_STEP_PX', '?')} "
        f"px, {tags.get('GEOTL_MODE', '?')} mode"
    )
    if facts.members:
        how = f"A class for every pixel, by {facts.members}"
    how += "".join(f"; {text}" for text in filter_words(tags))
    return (
        f"Scene {tags.get('GEOTL_SCENE', facts.scene)}{dated}. Model "
        f"{tags.get('GEOTL_MODEL_SHA256', '')[:12]}: {accuracy_line(facts)}. {how}. Areas are "
        f"counted from the map and carry its errors. geotl "
        f"{tags.get('GEOTL_VERSION', '')}, {tags.get('GEOTL_DATE', '')[:10]}."
    )


def filter_words(tags: Mapping[str, str]) -> list[str]:
    """How a map was filtered, a phrase each; nothing where it was not.

    >>> filter_words({"GEOTL_SMOOTH_PX": "11", "GEOTL_MMU_HA": "0.5"})
    ['probabilities smoothed in windows of 11 px', 'patches below 0.5 ha merged']
    """
    words = {
        SMOOTH_TAG: "probabilities smoothed in windows of {} px",
        MMU_TAG: "patches below {} ha merged",
    }
    return [text.format(tags[tag]) for tag, text in words.items() if tag in tags]


def honest_notes(facts: MapFacts) -> list[str]:
    """Limits of the map, for its readers."""
    sentences = []
    if facts.forced:
        sentences.append(
            "Mapped with --skip-value-check: the scene's values were not compared with the model's "
            "training range. Trust it only if you know why they may differ."
        )
    sentences += _of_the_model(facts)
    sentences += _of_the_ground(facts)
    sentences += _of_the_filters(facts.tags)
    sentences.append(_of_the_windows(facts.tags) if not facts.members else _of_the_pixels(facts))
    return sentences


def _of_the_model(facts: MapFacts) -> list[str]:
    sentences = []
    metrics = facts.metrics
    if not metrics.get("headline"):
        sentences.append("The model was never tested, so this map's accuracy is unknown.")
    elif facts.members:
        sentences.append(
            "The model's accuracy is of labelled pixels, which may be purer than the area "
            "between them. Test the map itself: geotl sample, then geotl accuracy, which corrects "
            "the areas too."
        )
    else:
        sentences.append(
            "The model's accuracy is of labelled tiles, each filled by one class, not of this "
            "map, where windows contain several. Test the map itself: geotl sample, then geotl "
            "accuracy, which corrects the areas too."
        )
    if estimate := metrics.get("estimate"):
        sentences.append(str(estimate))
    if metrics.get("loses_to_a_baseline"):
        sentences.append(
            f"On the test {facts.samples} a plain baseline was more accurate than this model."
        )
    if few := metrics.get(f"classes_with_few_{facts.samples}"):
        sentences.append(f"Tested on fewer than 5 {facts.samples}: {', '.join(few)}.")
    if facts.acquired and facts.trained_on and facts.acquired not in facts.trained_on:
        when = ", ".join(facts.trained_on[:3]) + (", …" if len(facts.trained_on) > 3 else "")
        sentences.append(
            f"The scene is of {facts.acquired}, the training imagery of {when}: another season, "
            "sun or atmosphere changes what a class looks like."
        )
    return sentences


def _of_the_ground(facts: MapFacts) -> list[str]:
    sentences = []
    if facts.outside is None:
        sentences.append(
            "Where the model applies was not measured; --applicability maps it, and reports the "
            f"share of the scene that is dissimilar to all training {facts.samples}."
        )
    else:
        sentences.append(
            f"{100 * facts.outside:.1f} % of the mapped cells lie outside the model's area of "
            f"applicability: they are dissimilar to all training {facts.samples}, and the accuracy "
            f"does not hold for them, however confident the model is.{_compared(facts.tags)}"
        )
    share = float(facts.shares[-1])
    if facts.areas.unmapped_pixels:
        left = facts.ground(facts.areas.unmapped_square_metres, facts.areas.unmapped_pixels)
        sentences.append(
            f"{left} ({share:.2g} %) of the valid area was not mapped: too few valid pixels in the "
            "windows around it."
        )
    return sentences


def _compared(tags: Mapping[str, str]) -> str:
    """What a model of pixels was compared in, a sentence; nothing of a model of tiles."""
    words = tags.get(AREA_TAG)
    return f" Dissimilarity index: {words}." if words else ""


def _of_the_filters(tags: Mapping[str, str]) -> list[str]:
    """What smoothing and merging of patches mean for the layers."""
    sentences = []
    if side := tags.get(SMOOTH_TAG):
        sentences.append(
            f"A guided filter with windows of {side} px smoothed the probabilities. Classes and "
            "all layers of probabilities are those after the filter; the model's accuracy is "
            "that before it. Narrow things that are as bright as their surroundings can vanish."
        )
    if unit := tags.get(MMU_TAG):
        sentences.append(
            f"Patches below {unit} ha took the class of their largest neighbour. Areas are those "
            "after this step. Confidence stays that of the model and can belong to another class "
            "there."
        )
    return sentences


def _of_the_pixels(facts: MapFacts) -> str:
    rule, _, partial = facts.tags.get(BANDS_TAG, "exclude").partition(": ")
    valid = "in one band at least" if rule == "use" else "in all bands"
    lacking = f" {partial} and have a class from the others." if partial else ""
    return (
        f"Every pixel that is valid {valid} got a class of its own, from its values and those "
        f"of valid pixels around it: {facts.members} (members of the model and their weights)."
        f"{lacking}"
    )


def _of_the_windows(tags: Mapping[str, str]) -> str:
    if tags.get("GEOTL_MODE") != "dense":
        return "Exact mode: window by window."
    try:
        same = 100 * float(tags["GEOTL_DENSE_AGREEMENT"])
        agreed = f"gave {same:.1f} % of them the class of exact mode"
    except (KeyError, ValueError):  # "not measured"
        agreed = "was not compared with exact mode"
    corrected = (
        "" if tags.get("GEOTL_DENSE_CORRECTION", "none") == "none" else ", its features corrected,"
    )
    return (
        f"Dense mode: the network ran once over large blocks; on a sample of windows it{corrected} "
        f"{agreed}."
    )
