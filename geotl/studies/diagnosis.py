"""`geotl diagnose`: measurements of a recipe, and whether its network under- or overfits."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from geotl.arrays import Floats, Int64s
from geotl.console import Log, Progress
from geotl.errors import DataError
from geotl.evaluation.metrics import wilson
from geotl.evaluation.next_steps import next_steps
from geotl.evaluation.overfitting import diagnose as verdict_of
from geotl.evaluation.regularisers import everything_off, regularisers
from geotl.experiments.build import (
    build_network,
    feature_source,
    make_plan,
    open_experiment,
    training_of,
)
from geotl.experiments.compare import (
    FittedDraw,
    features_of_test,
    fit_draw,
    head_logits,
    logits_of_test,
    training_count,
)
from geotl.experiments.draws import Draw
from geotl.experiments.experiment import Experiment
from geotl.experiments.recipe import Recipe, dump, shown_title, written_text
from geotl.experiments.run_folder import open_run
from geotl.io.locks import locked
from geotl.io.records import finished_record, write_record
from geotl.language import msg
from geotl.models.backbone import batchnorm_use
from geotl.models.classifier import TileClassifier
from geotl.models.device import choose_device, describe
from geotl.studies.diagnosis_report import Diagnosis, lines, write_diagnosis
from geotl.studies.learning_curve import kept_curve
from geotl.studies.measurements import (
    HeadPath,
    HeadSetting,
    Measurements,
    OverfitCheck,
    RateSweep,
    Standing,
)
from geotl.studies.pixel_diagnosis import PixelDiagnosis, diagnose_pixels
from geotl.studies.pixel_diagnosis_report import write_pixel_diagnosis
from geotl.training.capacity import Memorised, memorise, noise_tiles
from geotl.training.features import Tiles, frozen_bytes, raw_features
from geotl.training.heads import Linear, head_fit, logistic
from geotl.training.lr_finder import range_test
from geotl.training.settings import augmentation_keys
from geotl.training.strategies import (
    predict_rows,
    standardised,
    starting,
    with_head_chosen,
)

_Part = TypeVar("_Part", Standing, OverfitCheck, RateSweep)
NOISE, OWN = "overfitting noise", "overfitting training tiles"

FREE = 1e6  # inverse penalty of a head that is as good as free
MAX_PATH = 2000  # training tiles above which a probe's path is not fitted again
HELD_BYTES = 512 << 20  # of the tiles that are overfitted on purpose
PATHS: Mapping[str, Sequence[float]] = {
    "logistic": (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3),
    "discriminant": (0.8, 0.4, 0.2, 0.1, 0.05, 0.01, 0.001),
}


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    Attributes:
        test_tiles: test tiles, at most.
        noise_steps: steps for the tiles of noise, at most.
        own_tiles: training tiles to be overfitted on purpose, at most.
        own_epochs: passes over these, at most.
        rates: steps of the range test.
    """

    test_tiles: int = 1000
    noise_steps: int = 200
    own_tiles: int = 500
    own_epochs: int = 40
    rates: int = 100


QUICK = Extent(test_tiles=300, noise_steps=60, own_tiles=150, own_epochs=20, rates=40)


def sampled(draw: Draw, max_tiles: int, seed: int) -> Draw:
    """A split with at most `max_tiles` test tiles, drawn at random."""
    if len(draw.split.test) <= max_tiles:
        return draw
    random = np.random.default_rng([seed, draw.number, 11])
    sample = np.sort(random.permutation(draw.split.test)[:max_tiles])
    return replace(draw, split=replace(draw.split, test=sample))


def standing(experiment: Experiment, draw: Draw) -> Standing:
    """Fit the recipe and count its correct training and test tiles."""
    fitting = replace(experiment, folder=experiment.folder / "fit", resume=True)
    fit = fit_draw(fitting, draw)
    truth = experiment.samples.labels[draw.split.test]
    right = int((logits_of_test(experiment, fit).argmax(axis=1) == truth).sum())
    history = fit.fitted.history
    return Standing(
        train=training_count(experiment, fit),
        validation=(right, len(truth)),
        batchnorm=batchnorm_use(fit.fitted.network.backbone),
        history=history.epochs if history else None,
        best_epoch=history.best_epoch if history else None,
        head=_head_path(experiment, fit),
    )


def _head_path(experiment: Experiment, result: FittedDraw) -> HeadPath | None:
    """Accuracies of a probe's head from strongly to weakly regularised."""
    recipe, samples, draw = experiment.recipe, experiment.samples, result.draw
    chosen, kind, features = result.fitted.chosen, recipe.probe.head, result.fitted.features
    if chosen is None or features is None or result.fitted.alone is not None:
        return None  # a fused head has no single setting
    labels, folds = samples.labels[draw.split.train], chosen.fold_accuracy
    settings = set(folds) | {chosen.setting}
    if len(labels) <= MAX_PATH:
        settings |= set(PATHS[kind])
    pixels, truth = features_of_test(experiment, result), samples.labels[draw.split.test]
    weights = training_of(recipe, samples, recipe.seed).head_weights
    fit = head_fit(kind, len(samples.classes), weights, chosen.parts)
    path = []
    for setting in sorted(settings, reverse=kind == "discriminant"):
        row = HeadSetting(setting, folds.get(setting))
        if len(labels) <= MAX_PATH:
            head = fit(features, labels, setting)
            scores = _accuracy(head, features, labels), _accuracy(head, pixels, truth)
            row = HeadSetting(setting, row.folds, *scores)
        elif setting == chosen.setting:
            train = float(np.mean(head_logits(result.fitted, features).argmax(1) == labels))
            validation = float(np.mean(head_logits(result.fitted, pixels).argmax(1) == truth))
            row = HeadSetting(setting, row.folds, train, validation)
        path.append(row)
    return HeadPath(kind, chosen.setting, tuple(path))


def _accuracy(head: Linear, features: Floats, labels: Int64s) -> float:
    return float(np.mean(head.logits(features).argmax(axis=1) == labels))


def without_regularisers(recipe: Recipe) -> Recipe:
    """The recipe with every regulariser off that has a switch, answers of one view among them."""
    changed_recipe = recipe
    for key, value in everything_off(augmentation_keys()).items():
        section, _, name = key.partition(".")
        inside = getattr(changed_recipe, section).model_copy(update={name: value})
        changed_recipe = changed_recipe.model_copy(update={section: inside})
    probe = changed_recipe.probe.model_copy(update={"views": 1, "unlabelled": "none", "pool": None})
    start = (
        "finetune" if changed_recipe.strategy == "probe_then_finetune" else changed_recipe.strategy
    )
    return changed_recipe.model_copy(update={"probe": probe, "strategy": start})


def overfit_noise(
    experiment: Experiment, draw: Draw, extent: Extent, progress: Progress
) -> OverfitCheck:
    """Whether the recipe's network, every regulariser off, can fit noise with random labels."""
    recipe, samples = experiment.recipe, experiment.samples
    bare = replace(experiment, recipe=without_regularisers(recipe), quiet=True)
    base, report = build_network(bare, draw)
    plan = make_plan(bare, report, draw)
    of = base.normalise
    mean, sd = (values.cpu().numpy().astype(np.float64) for values in (of.mean, of.sd))
    noise = noise_tiles(mean, sd, samples.tile_px, len(samples.classes), seed=recipe.seed)

    def features(network: TileClassifier, rows: Int64s) -> Floats:
        return raw_features(network, noise.pack, rows, precision=recipe.train.precision)

    if bare.recipe.strategy == "probe":
        base.eval()
        raw = features(base, noise.rows)
        progress(1, 1)
        return _solved(_scaled_by_itself(raw), noise.labels, len(samples.classes))
    network = starting(base, noise, plan, features)
    result = memorise(network, noise, steps=extent.noise_steps, seed=recipe.seed, progress=progress)
    return OverfitCheck.after(result)


def overfit_training_tiles(
    experiment: Experiment, draw: Draw, extent: Extent, progress: Progress
) -> OverfitCheck:
    """Stage one of the lecture: the training tiles with every regulariser off, and the gap then."""
    recipe, samples = experiment.recipe, experiment.samples
    if recipe.strategy == "probe":
        return _separable(experiment, draw, progress)
    bare = experiment.of(without_regularisers(recipe))
    base, report = build_network(bare, draw)
    plan = make_plan(replace(bare, quiet=True), report, draw)
    tiles = _sample_tiles(experiment, draw, base, extent.own_tiles)
    network = starting(base, tiles, plan, feature_source(bare))
    batch = min(recipe.train.batch_size, len(tiles.rows))
    steps = extent.own_epochs * -(-len(tiles.rows) // batch)
    result = memorise(
        network, tiles, steps=steps, batch_size=batch, seed=recipe.seed, progress=progress
    )
    test = draw.split.test
    logits = predict_rows(network, samples.pack, test, precision=recipe.train.precision)
    right = int((logits.argmax(axis=1) == samples.labels[test]).sum())
    return OverfitCheck.after(result, (right, len(test)))


def _sample_tiles(
    experiment: Experiment, draw: Draw, base: TileClassifier, max_tiles: int
) -> Tiles:
    """Training tiles to be overfitted, as many as wanted and as fit into memory."""
    samples, rows = experiment.samples, draw.split.train
    one = Tiles(samples.pack, rows[:1], samples.labels[rows[:1]])
    each = frozen_bytes(base, one, 1)
    max_tiles = min(max_tiles, max(1, HELD_BYTES // max(1, each)))
    random = np.random.default_rng([experiment.recipe.seed, draw.number, 13])
    sample = np.sort(random.permutation(rows)[:max_tiles])
    return Tiles(samples.pack, sample, samples.labels[sample])


def _separable(experiment: Experiment, draw: Draw, progress: Progress) -> OverfitCheck:
    """Whether a free linear head on the frozen features separates the training tiles."""
    samples, rows = experiment.samples, draw.split.train
    network, _ = build_network(experiment, draw)
    features = feature_source(experiment)
    random = np.random.default_rng([experiment.recipe.seed, draw.number, 13])
    sample = np.sort(random.permutation(len(rows))[:MAX_PATH])
    raw = np.array(features(network, rows), dtype=np.float32)
    network.set_feature_scale(_flat(raw, network))
    scaled = standardised(network, raw)[sample, :1]
    pixels = standardised(network, features(network, draw.split.test))[:, :1]
    truth, labels = samples.labels[draw.split.test], samples.labels[rows[sample]]
    head = logistic(scaled, labels, FREE, num_classes=len(samples.classes))
    right = int((head.logits(pixels).argmax(axis=1) == truth).sum())
    progress(1, 1)
    accuracy = _accuracy(head, scaled, labels)
    result = Memorised(len(sample), 0, ((0, accuracy, accuracy),))
    return OverfitCheck.after(result, (right, len(truth)))


def rate_range(experiment: Experiment, draw: Draw, extent: Extent, progress: Progress) -> RateSweep:
    """The range test of the recipe's own training; of a probe, why there is none."""
    if experiment.recipe.strategy == "probe":
        return RateSweep(
            None, msg("a probe has no learning rate: its head is solved for, not trained")
        )
    base, report = build_network(experiment, draw)
    plan = make_plan(replace(experiment, quiet=True), report, draw)
    samples, rows, features = experiment.samples, draw.split.train, feature_source(experiment)
    tiles = Tiles(samples.pack, rows, samples.labels[rows])
    plan = with_head_chosen(base, tiles, draw.folds, plan, features)
    network = starting(base, tiles, plan, features)
    return RateSweep(
        range_test(network, tiles, plan.training, steps=extent.rates, progress=progress)
    )


def _solved(features: Floats, labels: Int64s, classes: int) -> OverfitCheck:
    """How a free linear head fits features, as an overfit check."""
    accuracy = _accuracy(logistic(features, labels, FREE, num_classes=classes), features, labels)
    return OverfitCheck.after(Memorised(len(labels), 0, ((0, accuracy, accuracy),)))


def _scaled_by_itself(raw: Floats) -> Floats:
    """Features [n, 1, D] minus their mean, over their sd."""
    sd = raw.std(axis=0)
    return np.asarray((raw - raw.mean(axis=0)) / np.where(sd > 1e-6, sd, 1.0))


def _flat(raw: Floats, network: TileClassifier) -> torch.Tensor:
    """Features of all views as rows, where the network lies."""
    return torch.from_numpy(raw.reshape(-1, raw.shape[2])).to(network.feature_mean.device)


@dataclass(frozen=True)
class _Setup:
    """What all parts are measured with: the split has some of `all_test` test tiles."""

    experiment: Experiment
    draw: Draw
    all_test: int
    extent: Extent


@locked
def diagnose(
    recipe: Recipe,
    out: Path,
    *,
    quick: bool = False,
    test_tiles: int | None = None,
    with_curve: bool = False,
    quiet: bool = False,
    log: Log = print,
) -> Diagnosis | PixelDiagnosis:
    """Find out whether a recipe's model under- or overfits; write figures, page and JSON.

    Args:
        recipe: with `evaluate.target`, or none.
        out: folder; an interrupted diagnosis there goes on.
        quick: fewer tiles and steps; of task pixels no random split.
        test_tiles: maximum of test tiles; None for 1,000, or 300 when quick.
        with_curve: the label-count curve too.
        quiet: no progress.
        log: gets every line.

    Raises:
        GeoTLError: input, weights or output that cannot be used.
    """
    if test_tiles is not None and test_tiles < 1:
        raise DataError(f"--test-tiles: given {test_tiles}; allowed: at least 1")
    if recipe.task == "pixels":
        if test_tiles is not None:
            raise DataError(
                f"--test-tiles: given {test_tiles} with task pixels, whose folds test every label; "
                "leave it out"
            )
        return _of_pixels(recipe, out, quick=quick, with_curve=with_curve, quiet=quiet, log=log)
    opened = open_experiment(recipe, out, log=log, quiet=quiet, resume=True)
    setup = _setup(opened, quick=quick, test_tiles=test_tiles)
    measured = measure(setup)
    shown = None
    if with_curve:
        shown = kept_curve(setup.experiment.recipe, out / "curve", quiet=quiet)
    diagnosis = concluded(setup, opened.recipe, measured, shown)
    written = write_diagnosis(out, diagnosis)
    for text in lines(diagnosis):
        log(text)
    log(f"page     {written[0]}")
    return diagnosis


def _of_pixels(
    recipe: Recipe, out: Path, *, quick: bool, with_curve: bool, quiet: bool, log: Log
) -> PixelDiagnosis:
    """The diagnosis of a recipe of task pixels."""
    diagnosis = diagnose_pixels(
        recipe, out, quick=quick, with_curve=with_curve, quiet=quiet, log=log
    )
    path = write_pixel_diagnosis(out, diagnosis)
    for text in diagnosis.lines():
        log(text)
    log(f"page     {path}")
    return diagnosis


def _setup(opened: Experiment, *, quick: bool, test_tiles: int | None) -> _Setup:
    """The folder opened, and the test tiles drawn."""
    bare = replace(opened, recipe=_alone(opened.recipe), resume=False)
    open_run(opened.folder, dump(bare.recipe), resume=True)
    opened.log(f"computing on {describe(choose_device(), opened.recipe.train.precision)}")
    extent = QUICK if quick else Extent()
    full = opened.draw(0)
    draw = sampled(full, test_tiles or extent.test_tiles, opened.recipe.seed)
    return _Setup(bare, draw, len(full.split.test), extent)


def measure(setup: _Setup) -> Measurements:
    """Measure every part, or take it as it was kept."""
    of = (setup.experiment, setup.draw)
    with setup.experiment.progress() as line:

        def counted(part: Callable[..., _Part], what: str) -> Callable[[], _Part]:
            return lambda: part(*of, setup.extent, line.counter(what))

        return Measurements(
            _kept(setup, "standing", Standing.of, lambda: standing(*of)),
            _kept(setup, "noise", OverfitCheck.of, counted(overfit_noise, NOISE)),
            _kept(setup, "own", OverfitCheck.of, counted(overfit_training_tiles, OWN)),
            _kept(setup, "rates", RateSweep.of, counted(rate_range, "trying learning rates")),
        )


def _alone(recipe: Recipe) -> Recipe:
    """The recipe for a single split without baselines and without a target."""
    evaluate = recipe.evaluate.model_copy(update={"target": None, "random_split": False})
    split = recipe.split
    if not split.kfold:  # folds are the draws
        split = split.model_copy(update={"draws": 1})
    probe = recipe.probe.model_copy(update={"unlabelled": "none", "pool": None})
    return recipe.model_copy(update={"evaluate": evaluate, "split": split, "probe": probe})


def _kept(
    setup: _Setup,
    name: str,
    read: Callable[[Mapping[str, Any]], _Part],
    measure_it: Callable[[], _Part],
) -> _Part:
    """A part from its record, if that has the same extent, else measured now and recorded."""
    path = setup.experiment.folder / "parts" / f"{name}.json"
    key = [repr(setup.extent), len(setup.draw.split.test)]
    finished = finished_record(path, lambda record: _holds(record, read))
    if finished is None or finished["key"] != key:
        finished = json.loads(json.dumps({"key": key, "found": measure_it().to_dict()}))
        write_record(path, finished)
    return read(finished["found"])


def _holds(record: Mapping[str, Any], read: Callable[[Mapping[str, Any]], _Part]) -> bool:
    """Whether a part can be read from a record."""
    try:
        read(record["found"])
    except (AttributeError, LookupError, TypeError, ValueError):
        return False
    return record.keys() == {"key", "found"}


def concluded(
    setup: _Setup,
    recipe: Recipe,
    measured: Measurements,
    shown: tuple[bytes, tuple[str, ...]] | None = None,
) -> Diagnosis:
    """Verdict and advice from what was measured."""
    standing = measured.standing
    verdict = verdict_of(
        wilson(*standing.train), wilson(*standing.validation), recipe.evaluate.target
    )
    used = regularisers(recipe.model_dump(), augmentation_keys(), batchnorm=standing.batchnorm)
    tested = len(setup.draw.split.test)
    steps = next_steps(
        verdict,
        used,
        recipe.strategy,
        stage_one=measured.own.accuracy,
        more_tiles=tested < setup.all_test,
    )
    facts = {
        msg("Recipe"): recipe.name,
        msg("Strategy"): recipe.strategy,
        msg("Training tiles"): msg(
            "{train:,}; accuracy of {train_2:,}",
            train=len(setup.draw.split.train),
            train_2=standing.train[1],
        ),
        msg("Validation tiles"): msg(
            "{tested:,} of {all_test:,} test tiles", tested=tested, all_test=setup.all_test
        ),
        msg("Device"): describe(choose_device(), recipe.train.precision),
        msg("Seed"): str(recipe.seed),
    }
    return Diagnosis(
        title=shown_title(recipe),
        strategy=recipe.strategy,
        verdict=verdict,
        steps=steps,
        regularisers=tuple(used),
        parts=measured,
        lr=recipe.train.lr,
        facts=facts,
        curve=shown,
        recipe=written_text(recipe),
    )
