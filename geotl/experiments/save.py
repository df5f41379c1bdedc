"""What a run's model file keeps."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from geotl.arrays import Floats, Int64s
from geotl.data.samples import Samples
from geotl.data.tile_array import Pack, pixel_marks
from geotl.errors import RecipeError
from geotl.experiments.compare import FittedDraw
from geotl.experiments.draws import Draw
from geotl.experiments.experiment import Experiment
from geotl.experiments.kept_model import KeptModel
from geotl.experiments.recipe import Recipe, dump
from geotl.experiments.samples import TileSamples
from geotl.models.model_file import (
    CORESET,
    EXAMPLES,
    MARKS,
    Contract,
    ModelFile,
    TrainingSamples,
    save,
)
from geotl.reporting.class_colours import class_colours
from geotl.training.features import raw_features
from geotl.training.strategies import Fitted, install, predict_rows, standardised

_BLOCK = 256


def save_models(
    experiment: Experiment,
    final: KeptModel,
    metrics: Mapping[str, Any],
    more: Mapping[str, Any],
) -> None:
    """Write model.safetensors, and the model trained on unlabelled tiles too, if asked for.

    Args:
        experiment: the recipe that was run.
        final: its model.
        metrics: of the run.
        more: notes on the model itself, which its unlabelled variant does not share.
    """
    recipe, fit, out = experiment.recipe, final.made, experiment.folder
    fitted, unlabelled = fit.fitted, final.unlabelled
    notes = {
        "recipe": dump(recipe),
        "metrics": dict(metrics),
        "weights": fit.weights.provenance(),
        "versions": versions(),
        "seed": recipe.seed,
        "training": training_notes(experiment.samples, fit.draw) | kept_notes(final),
    }
    contract = make_contract(experiment, fitted)
    training_samples = make_companions(experiment, fit)
    notes_of_file = {**notes, **more}
    save(
        out / "model.safetensors",
        ModelFile(fitted.network, contract, training_samples, notes_of_file),
    )
    if unlabelled is None:
        return
    install(fitted.network, unlabelled, float(fitted.network.temperature))
    extra = make_companions(experiment, fit)
    save(out / "model_unlabelled.safetensors", ModelFile(fitted.network, contract, extra, notes))
    if fitted.chosen is not None:
        install(fitted.network, fitted.chosen.head, fitted.chosen.temperature)


def make_contract(experiment: Experiment, fitted: Fitted) -> Contract:
    """What new imagery will be checked against."""
    recipe, samples = experiment.recipe, experiment.samples
    network, packed = fitted.network, samples.pack
    return Contract(
        backbone=recipe.model.backbone,
        cut_after=recipe.model.cut_after,
        frozen_until=network.frozen_until,
        bands=packed.bands,
        wavelengths=samples.sensor.wavelengths(packed.bands),
        sensor=samples.sensor,
        file_bands=recipe.data.file_bands,
        tile_px=packed.images.shape[-1],
        fit=recipe.data.fit,
        classes=samples.classes,
        colours=colours_of(recipe, samples),
        spec=network.spec,
    )


def make_companions(experiment: Experiment, fit: FittedDraw) -> TrainingSamples:
    """Training tiles kept: real ones as examples with their logits and as features; footprints."""
    samples, fitted = experiment.samples, fit.fitted
    rows = fit.draw.split.train
    random = np.random.default_rng([experiment.recipe.seed, 1])
    real = np.flatnonzero([samples.sources[row] is None for row in rows])
    examples = np.sort(random.permutation(real)[:EXAMPLES])
    chosen = np.sort(random.permutation(real)[:CORESET])
    packed = samples.pack
    folds = np.full(len(rows), -1, np.int64)
    for number, (_, out) in enumerate(fit.draw.folds):
        folds[out] = number
    valid = None if packed.valid is None else np.asarray(packed.valid[rows[examples]])
    images = np.asarray(packed.images[rows[examples]])
    unknown = (np.nan,) * 4
    return TrainingSamples(
        examples=images,
        example_valid=np.ones(images.shape, bool) if valid is None else valid,
        example_logits=predict_rows(
            fitted.network, packed, rows[examples], precision="float32"
        ).astype(np.float32),
        features=kept_features(experiment, fit, chosen).mean(axis=1),
        labels=samples.labels[rows[chosen]],
        folds=folds[chosen],
        footprints=np.array([packed.footprints[i] or unknown for i in rows], np.float64),
    )


def kept_features(experiment: Experiment, fit: FittedDraw, chosen: Int64s) -> Floats:
    """Standardised features [n, V, D] of some training tiles; computed again if not of a probe."""
    fitted, rows = fit.fitted, fit.draw.split.train[chosen]
    if fitted.features is not None:
        return np.asarray(fitted.features[chosen])
    precision = experiment.recipe.train.precision
    raw = raw_features(fitted.network, experiment.samples.pack, rows, precision=precision)
    return standardised(fitted.network, raw)


def training_notes(samples: TileSamples, draw: Draw) -> dict[str, Any]:
    """Where and when the training tiles were taken, if known, and marks of their pixels."""
    rows = draw.split.train
    crs = [samples.pack.crs[i] for i in rows]
    dates = sorted({d for d in (samples.pack.acquired[i] for i in rows) if d})
    return {
        "tiles": len(rows),
        "crs": crs if any(crs) else [],
        "dates": dates,
        MARKS: tile_marks(samples.pack, rows),
    }


def kept_notes(final: KeptModel) -> dict[str, Any]:
    """Notes in the file of a model that was fitted on all labels, or to unlabelled tiles too."""
    notes = {"labels": final.labels, "accuracy": final.estimate} if final.estimate else {}
    pool = final.made.fitted.pool
    return notes | ({} if pool is None else {"unlabelled": pool.tiles if pool.used else 0})


def tile_marks(pack: Pack, rows: Int64s) -> list[str]:
    """Marks of some of a pack's tiles, by which a model recognises its training tiles."""
    marks: list[str] = []
    for start in range(0, len(rows), _BLOCK):
        part = rows[start : start + _BLOCK]
        marks += pixel_marks(pack.images[part], None if pack.valid is None else pack.valid[part])
    return marks


def colours_of(recipe: Recipe, samples: Samples) -> tuple[str, ...]:
    """A colour for each class: the recipe's, else one by the meaning of its name."""
    colours = recipe.data.colours or {}
    unknown = [name for name in colours if name not in samples.classes]
    if unknown:
        raise RecipeError(
            f"data.colours: given {unknown[0]}; allowed: {', '.join(samples.classes)}"
        )
    standard = class_colours(samples.classes)
    return tuple(colours.get(n, c) for n, c in zip(samples.classes, standard, strict=True))


def versions() -> dict[str, str]:
    """What the run was computed with."""
    names = ("geotl", "torch", "torchvision", "lightning", "kornia", "rasterio", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
