"""Where a map came from: what its pixels depend on, and what its tags say of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from geotl._version import __version__
from geotl.errors import ModelError
from geotl.evaluation.sample_design import FOOTPRINTS_TAG
from geotl.imagery.scene import Scene
from geotl.imagery.windows import Imagery
from geotl.inference.dense_correction import from_note
from geotl.inference.onnx_model import Mapper
from geotl.io.files import sha256_of
from geotl.io.raster import opened
from geotl.mapping.blocks import Plan
from geotl.mapping.task import Task

MARK_TAG = "GEOTL_JOB"


def notes(task: Task, plan: Plan) -> dict[str, Any]:
    """Everything that the pixels of a map depend on, but for what `mapplanning.settled` chose.

    Raises:
        ModelError: a model that is in no file.
    """
    scene, grid, sweep = task.scene, plan.grid, plan.sweep
    mask = scene.mask.path if isinstance(scene, Scene) and scene.mask else None
    return {
        "geotl": __version__,
        "model": model_digest(task.model),
        "scene": str(scene.path),
        "state": scene_states(scene),
        "mask": [str(mask), file_states(mask) if mask else []],
        "bands": scene.bands,
        "grid": asdict(scene.grid),
        "sensor": asdict(scene.sensor),
        "windows": [grid.px, grid.step, grid.posting, plan.block_px],
        "look": [sweep.views, sweep.precision, plan.min_valid],
        "engine": [sweep.engine, sweep.device],
        "options": asdict(task.options) | dict.fromkeys(["overwrite", "force", "page", "mark"]),
        "interest": task.interest.told,
    }


def key_of(told: Mapping[str, Any]) -> str:
    """A name for notes: other notes, another name."""
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def model_digest(model: Mapper) -> str:
    """SHA-256 of the file a model was loaded from.

    Raises:
        ModelError: it was made in memory and never saved.
    """
    if model.path is None:
        raise ModelError("a model that is in no file cannot be named in a map; save and load it")
    return sha256_of(model.path)


def scene_states(scene: Imagery) -> list[tuple[str, int, int]]:
    """Size and time of change of the files that a scene is read from."""
    parts = scene.parts if isinstance(scene, Scene) else ()
    return [state for path in parts or (scene.path,) for state in file_states(path)]


def file_states(path: Path) -> list[tuple[str, int, int]]:
    """Size and time of change of a scene's files, those that a VRT names too."""
    if path.is_dir():
        files = [p for p in path.rglob("*") if p.is_file()]
    elif path.exists():
        with opened(path) as source:
            files = [p for p in map(Path, source.files) if p.is_file()]
    else:
        files = []
    found = [(str(p), p.stat()) for p in sorted(files)]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]


def provenance(
    task: Task, told: Mapping[str, Any], note: Mapping[str, Any], plan: Plan
) -> dict[str, str]:
    """What a map's tags say of where it came from.

    Args:
        task: what was mapped with what.
        told: as `notes` gives them.
        note: kept when the sweep began: its date, and what `mapplanning.settled` gave.
        plan: how windows were looked at.
    """
    contract, model = task.model.contract, task.model
    agreement = note.get("agreement")
    versions = model.notes.get("versions", {})
    boxes = model.ground.get(str(task.scene.grid.crs), [])
    return {
        "GEOTL_VERSION": str(told["geotl"]),
        "GEOTL_DATE": str(note["date"]),
        "GEOTL_MODEL_SHA256": str(told["model"]),
        "GEOTL_SCENE": Path(str(told["scene"])).name,
        "GEOTL_MODE": plan.sweep.mode,
        "GEOTL_ENGINE": plan.sweep.engine,
        "GEOTL_VIEWS": str(plan.sweep.views),
        "GEOTL_WINDOW_PX": str(plan.grid.px),
        "GEOTL_STEP_PX": str(plan.grid.step),
        "GEOTL_DENSE_AGREEMENT": "not measured" if agreement is None else f"{agreement:.4f}",
        "GEOTL_DENSE_CORRECTION": _corrected(note),
        "GEOTL_RECIPE": str(model.notes.get("recipe", "")),
        "GEOTL_TRAINED_WITH": ", ".join(f"{k} {v}" for k, v in versions.items()),
        **({MARK_TAG: task.options.mark} if task.options.mark else {}),
        **({FOOTPRINTS_TAG: json.dumps(boxes)} if boxes else {}),
        **{f"CLASS_{value}": name for value, name in enumerate(contract.classes)},
    }


def _corrected(note: Mapping[str, Any]) -> str:
    """What was done to dense features, and how often both modes agreed without it."""
    correction = from_note(note["correction"])
    if correction is None:
        return "none"
    return (
        f"{correction.kind} of {len(correction.shift)} features by {note['windows']} windows, "
        f"without it {note['plain']:.4f}, values {correction.digest[:16]}"
    )
