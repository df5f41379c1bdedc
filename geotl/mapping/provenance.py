"""Metadata of a map: its tags, and the mark that identifies it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geotl._version import __version__
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
from geotl.language import msg
from geotl.mapping.blocks import SweepPlan
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
        "GEOTL_DENSE_AGREEMENT": msg("not measured") if agreement is None else f"{agreement:.4f}",
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
        return msg("every pixel with a class has all bands")
    return msg(
        "{count:,} pixels ({share:.2g} %) lack some bands",
        count=count,
        share=100 * count / max(total, 1),
    )


def _filters(options: MapOptions) -> dict[str, str]:
    """How probabilities and classes were filtered, and the coverage of sets, as tags."""
    smooth = {} if options.smooth_px is None else {SMOOTH_TAG: str(options.smooth_px)}
    sets = {SETS_TAG: f"{options.coverage:g}"} if options.sets else {}
    return smooth | sets | ({MMU_TAG: f"{options.mmu_ha:g}"} if options.mmu_ha else {})


def _corrected(choice: ModeChoice) -> str:
    """What was done to dense features, and how often both modes agreed without it."""
    correction = choice.correction
    if correction is None:
        return msg("none")
    return msg(
        "{kind} of {features} features by {windows} windows, without it {plain:.4f}, values "
        "{digest}",
        kind=correction.kind,
        features=len(correction.shift),
        windows=choice.windows,
        plain=choice.plain,
        digest=correction.digest[:16],
    )
