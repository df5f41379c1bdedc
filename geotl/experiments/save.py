"""A run's folder, and what its model file keeps."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from geotl.arrays import Floats, Int64s
from geotl.data.tile_array import Pack, pixel_marks
from geotl.errors import OutputError, RecipeError
from geotl.experiments.draws import Draw, Source
from geotl.experiments.recipe import Recipe, dump
from geotl.io import yaml
from geotl.io.files import write_text
from geotl.models.model_file import CORESET, EXAMPLES, MARKS, Companions, Contract, ModelFile, save
from geotl.models.weights import WeightReport
from geotl.reporting.rendering import default_colours
from geotl.training.features import raw_features
from geotl.training.heads import Linear
from geotl.training.strategies import Fitted, install, predict_rows, standardised

_BLOCK = 256


def save_models(
    recipe: Recipe,
    source: Source,
    draw: Draw,
    fitted: Fitted,
    *,
    report: WeightReport,
    metrics: Mapping[str, Any],
    out: Path,
    unlabelled: Linear | None,
) -> None:
    """Write model.safetensors, and beside it the one that saw unlabelled tiles, if asked for."""
    notes = {
        "recipe": dump(recipe),
        "metrics": dict(metrics),
        "weights": report.provenance(),
        "versions": versions(),
        "seed": recipe.seed,
        "training": training_notes(source, draw),
    }
    contract = make_contract(recipe, source, fitted)
    companions = make_companions(recipe, source, draw, fitted)
    save(out / "model.safetensors", ModelFile(fitted.network, contract, companions, notes))
    if unlabelled is None:
        return
    install(fitted.network, unlabelled, float(fitted.network.temperature))
    extra = make_companions(recipe, source, draw, fitted)
    save(out / "model_unlabelled.safetensors", ModelFile(fitted.network, contract, extra, notes))
    if fitted.chosen is not None:
        install(fitted.network, fitted.chosen.head, fitted.chosen.temperature)


def make_contract(recipe: Recipe, source: Source, fitted: Fitted) -> Contract:
    """What new imagery will be checked against."""
    network, packed = fitted.network, source.pack
    return Contract(
        backbone=recipe.model.backbone,
        cut_after=recipe.model.cut_after,
        frozen_until=network.frozen_until,
        bands=packed.bands,
        wavelengths=source.sensor.wavelengths(packed.bands),
        sensor=source.sensor,
        file_bands=recipe.data.file_bands,
        tile_px=packed.images.shape[-1],
        fit=recipe.data.fit,
        classes=source.index.classes,
        colours=colours_of(recipe, source),
        spec=network.spec,
    )


def make_companions(recipe: Recipe, source: Source, draw: Draw, fitted: Fitted) -> Companions:
    """Training tiles kept: real ones as examples with their logits and as features; footprints."""
    rows = draw.split.train
    random = np.random.default_rng([recipe.seed, 1])
    real = np.flatnonzero([source.index.tiles[row].sources is None for row in rows])
    some = np.sort(random.permutation(real)[:EXAMPLES])
    kept = np.sort(random.permutation(real)[:CORESET])
    packed = source.pack
    held = np.full(len(rows), -1, np.int64)
    for number, (_, out) in enumerate(draw.folds):
        held[out] = number
    valid = None if packed.valid is None else np.asarray(packed.valid[rows[some]])
    images = np.asarray(packed.images[rows[some]])
    unknown = (np.nan,) * 4
    return Companions(
        examples=images,
        example_valid=np.ones(images.shape, bool) if valid is None else valid,
        example_logits=predict_rows(fitted.network, packed, rows[some], precision="float32").astype(
            np.float32
        ),
        features=kept_features(fitted, source, kept, rows, recipe).mean(axis=1),
        labels=source.labels[rows[kept]],
        folds=held[kept],
        footprints=np.array([packed.footprints[i] or unknown for i in rows], np.float64),
    )


def kept_features(
    fitted: Fitted, source: Source, kept: Int64s, rows: Int64s, recipe: Recipe
) -> Floats:
    """Standardised features [n, V, D] of some training tiles: a probe's own, else computed anew."""
    if fitted.features is not None:
        return np.asarray(fitted.features[kept])
    raw = raw_features(fitted.network, source.pack, rows[kept], precision=recipe.train.precision)
    return standardised(fitted.network, raw)


def training_notes(source: Source, draw: Draw) -> dict[str, Any]:
    """Where and when the training tiles were taken, if known, and marks of their pixels."""
    rows = draw.split.train
    crs = [source.pack.crs[i] for i in rows]
    dates = sorted({d for d in (source.pack.acquired[i] for i in rows) if d})
    return {
        "tiles": len(rows),
        "crs": crs if any(crs) else [],
        "dates": dates,
        MARKS: tile_marks(source.pack, rows),
    }


def tile_marks(pack: Pack, rows: Int64s) -> list[str]:
    """Marks of some of a pack's tiles, by which a model knows again what it learnt from."""
    found: list[str] = []
    for start in range(0, len(rows), _BLOCK):
        part = rows[start : start + _BLOCK]
        found += pixel_marks(pack.images[part], None if pack.valid is None else pack.valid[part])
    return found


def colours_of(recipe: Recipe, source: Source) -> tuple[str, ...]:
    """A colour for each class: the recipe's, else the palette's."""
    given = recipe.data.colours or {}
    unknown = [name for name in given if name not in source.index.classes]
    if unknown:
        raise RecipeError(
            f"data.colours: given {unknown[0]}; allowed: {', '.join(source.index.classes)}"
        )
    standard = default_colours(len(source.index.classes))
    return tuple(given.get(n, c) for n, c in zip(source.index.classes, standard, strict=True))


def versions() -> dict[str, str]:
    """What the run was computed with."""
    names = ("geotl", "torch", "torchvision", "lightning", "kornia", "rasterio", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


RECIPE, METRICS = "recipe.yaml", "metrics.json"


def holds_run(folder: Path, *, resume: bool) -> bool:
    """Whether a folder holds a run to go on with; refuses one that may not be written into.

    A folder with nothing but a recipe was refused before it began, and may be had again.

    Raises:
        OutputError: it is a file, or holds other files, or another run and `resume` is not set.
    """
    if folder.is_file():
        raise OutputError(f"{folder}: is a file; choose a folder with --out")
    inside = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    if RECIPE not in inside and inside:
        raise OutputError(f"{folder}: holds files that are no run; choose another with --out")
    begun = bool(inside - {RECIPE})
    if begun and not resume:
        raise OutputError(
            f"{folder}: holds another run; go on with it by --resume, or choose another "
            "folder with --out"
        )
    return begun


def finished_alike(folder: Path, given: Mapping[str, Any]) -> bool:
    """Whether a folder's run is finished and is, or may be, of these sections of a recipe.

    Some keys are settled only when tiles are read, so `open_run` has the last word.
    """
    held, finished = folder / RECIPE, folder / METRICS
    if not (held.is_file() and finished.is_file()):
        return False
    told, faults = yaml.parse(held.read_text(encoding="utf-8"))
    same = isinstance(told, dict) and all(told.get(key) == own for key, own in given.items())
    return same and not faults


def open_run(folder: Path, recipe: str, *, resume: bool) -> bool:
    """Make a folder ready for a run with this resolved recipe; tell whether it is finished.

    Raises:
        OutputError: see `holds_run`; or a resumed run's recipe differs; or it is finished, and
            was not to be resumed.
    """
    held, finished = folder / RECIPE, folder / METRICS
    if finished.is_file() and not resume and held.read_text(encoding="utf-8") == recipe:
        raise OutputError(
            f"{folder}: this run is already finished; --resume prints its result again, and "
            "another folder with --out repeats it"
        )
    if not holds_run(folder, resume=resume):
        write_text(held, recipe)
        return False
    if held.read_text(encoding="utf-8") != recipe:
        raise OutputError(
            f"{folder}: holds a run of another recipe ({held}); repeat its settings to "
            "resume it, or choose another folder with --out"
        )
    return finished.exists()


def read_metrics(folder: Path) -> dict[str, Any]:
    """The metrics of a finished run."""
    told: dict[str, Any] = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    return told
