"""`geotl diagnose`: what is measured of a recipe, and where its network stands."""

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
from geotl.evaluation.overfitting import diagnose as judged_as
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
    fit_draw,
    head_logits,
    judge,
    judged_features,
    training_count,
)
from geotl.experiments.draws import Draw
from geotl.experiments.experiment import Experiment
from geotl.experiments.recipe import Recipe, dump
from geotl.experiments.run_folder import open_run
from geotl.io.locks import locked
from geotl.io.records import finished_record, write_record
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
from geotl.training.heads import Linear, logistic
from geotl.training.lr_finder import range_test
from geotl.training.settings import augmentation_keys
from geotl.training.strategies import (
    head_fit,
    predict_rows,
    standardised,
    starting,
    with_head_chosen,
)

_Part = TypeVar("_Part", Standing, OverfitCheck, RateSweep)
NOISE, OWN = "learning noise by heart", "learning the training tiles by heart"

FREE = 1e6  # inverse penalty of a head that is as good as free
MOST_PATH = 2000  # training tiles above which a probe's path is not fitted anew
HELD_BYTES = 512 << 20  # of the tiles that are learnt by heart
PATHS: Mapping[str, Sequence[float]] = {
    "logistic": (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3),
    "discriminant": (0.8, 0.4, 0.2, 0.1, 0.05, 0.01, 0.001),
}


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    Attributes:
        judged: tiles never learnt from that are judged, at most.
        noise_steps: steps for the tiles of noise, at most.
        own_tiles: training tiles to be learnt by heart, at most.
        own_epochs: passes over these, at most.
        rates: steps of the range test.
    """

    judged: int = 1000
    noise_steps: int = 200
    own_tiles: int = 500
    own_epochs: int = 40
    rates: int = 100


QUICK = Extent(judged=300, noise_steps=60, own_tiles=150, own_epochs=20, rates=40)


def sampled(draw: Draw, most: int, seed: int) -> Draw:
    """A draw with at most so many tiles to judge on, drawn at random."""
    if len(draw.split.test) <= most:
        return draw
    random = np.random.default_rng([seed, draw.number, 11])
    some = np.sort(random.permutation(draw.split.test)[:most])
    return replace(draw, split=replace(draw.split, test=some))


def standing(experiment: Experiment, draw: Draw) -> Standing:
    """Fit the recipe and count what it classifies correctly, of tiles learnt from and of others."""
    fitting = replace(experiment, folder=experiment.folder / "fit", resume=True)
    made = fit_draw(fitting, draw)
    truth = experiment.samples.labels[draw.split.test]
    right = int((judge(experiment, made).argmax(axis=1) == truth).sum())
    history = made.fitted.history
    return Standing(
        train=training_count(experiment, made),
        validation=(right, len(truth)),
        batchnorm=batchnorm_use(made.fitted.network.backbone),
        history=history.epochs if history else None,
        best_epoch=history.best_epoch if history else None,
        head=_head_path(experiment, made),
    )


def _head_path(experiment: Experiment, made: FittedDraw) -> HeadPath | None:
    """Accuracies of a probe's head from hard pressed to free: its learning curve."""
    recipe, samples, draw = experiment.recipe, experiment.samples, made.draw
    chosen, kind, features = made.fitted.chosen, recipe.probe.head, made.fitted.features
    if chosen is None or features is None or made.fitted.fusion is not None:
        return None  # a fused head has no single setting
    labels, folds = samples.labels[draw.split.train], chosen.fold_accuracy
    settings = set(folds) | {chosen.setting}
    if len(labels) <= MOST_PATH:
        settings |= set(PATHS[kind])
    pixels, truth = judged_features(experiment, made), samples.labels[draw.split.test]
    weights = training_of(recipe, samples, recipe.seed).head_weights
    fit = head_fit(kind, len(samples.classes), weights)
    path = []
    for setting in sorted(settings, reverse=kind == "discriminant"):
        row = HeadSetting(setting, folds.get(setting))
        if len(labels) <= MOST_PATH:
            head = fit(features, labels, setting)
            scores = _accuracy(head, features, labels), _accuracy(head, pixels, truth)
            row = HeadSetting(setting, row.folds, *scores)
        elif setting == chosen.setting:
            train = float(np.mean(head_logits(made.fitted, features).argmax(1) == labels))
            validation = float(np.mean(head_logits(made.fitted, pixels).argmax(1) == truth))
            row = HeadSetting(setting, row.folds, train, validation)
        path.append(row)
    return HeadPath(kind, chosen.setting, tuple(path))


def _accuracy(head: Linear, features: Floats, labels: Int64s) -> float:
    return float(np.mean(head.logits(features).argmax(axis=1) == labels))


def without_regularisers(recipe: Recipe) -> Recipe:
    """The recipe with every regulariser off that has a switch, answers of one view among them."""
    made = recipe
    for key, value in everything_off(augmentation_keys()).items():
        section, _, name = key.partition(".")
        inside = getattr(made, section).model_copy(update={name: value})
        made = made.model_copy(update={section: inside})
    probe = made.probe.model_copy(update={"views": 1, "unlabelled": "none", "pool": None})
    start = "finetune" if made.strategy == "probe_then_finetune" else made.strategy
    return made.model_copy(update={"probe": probe, "strategy": start})


def noise_by_heart(
    experiment: Experiment, draw: Draw, extent: Extent, told: Progress
) -> OverfitCheck:
    """Whether the recipe's network, every regulariser off, learns noise with random labels."""
    recipe, samples = experiment.recipe, experiment.samples
    bare = replace(experiment, recipe=without_regularisers(recipe), quiet=True)
    base, report = build_network(bare, draw)
    plan = make_plan(bare, report, draw)
    of = base.normalise
    mean, sd = (held.cpu().numpy().astype(np.float64) for held in (of.mean, of.sd))
    noise = noise_tiles(mean, sd, samples.tile_px, len(samples.classes), seed=recipe.seed)

    def features(network: TileClassifier, rows: Int64s) -> Floats:
        return raw_features(network, noise.pack, rows, precision=recipe.train.precision)

    if bare.recipe.strategy == "probe":
        base.eval()
        raw = features(base, noise.rows)
        told(1, 1)
        return _solved(_scaled_by_itself(raw), noise.labels, len(samples.classes))
    network = starting(base, noise, plan, features)
    found = memorise(network, noise, steps=extent.noise_steps, seed=recipe.seed, told=told)
    return OverfitCheck.after(found)


def own_by_heart(
    experiment: Experiment, draw: Draw, extent: Extent, told: Progress
) -> OverfitCheck:
    """Stage one of the lecture: the training tiles with every regulariser off, and the gap then."""
    recipe, samples = experiment.recipe, experiment.samples
    if recipe.strategy == "probe":
        return _own_probe(experiment, draw, told)
    bare = experiment.of(without_regularisers(recipe))
    base, report = build_network(bare, draw)
    plan = make_plan(replace(bare, quiet=True), report, draw)
    tiles = _some(experiment, draw, base, extent.own_tiles)
    network = starting(base, tiles, plan, feature_source(bare))
    batch = min(recipe.train.batch_size, len(tiles.rows))
    steps = extent.own_epochs * -(-len(tiles.rows) // batch)
    found = memorise(network, tiles, steps=steps, batch_size=batch, seed=recipe.seed, told=told)
    test = draw.split.test
    said = predict_rows(network, samples.pack, test, precision=recipe.train.precision)
    right = int((said.argmax(axis=1) == samples.labels[test]).sum())
    return OverfitCheck.after(found, (right, len(test)))


def _some(experiment: Experiment, draw: Draw, base: TileClassifier, most: int) -> Tiles:
    """Training tiles to be learnt by heart, as many as are wanted and memory holds."""
    samples, rows = experiment.samples, draw.split.train
    one = Tiles(samples.pack, rows[:1], samples.labels[rows[:1]])
    each = frozen_bytes(base, one, 1)
    most = min(most, max(1, HELD_BYTES // max(1, each)))
    random = np.random.default_rng([experiment.recipe.seed, draw.number, 13])
    some = np.sort(random.permutation(rows)[:most])
    return Tiles(samples.pack, some, samples.labels[some])


def _own_probe(experiment: Experiment, draw: Draw, told: Progress) -> OverfitCheck:
    """Whether a free linear head on the frozen features separates the training tiles."""
    samples, rows = experiment.samples, draw.split.train
    network, _ = build_network(experiment, draw)
    features = feature_source(experiment)
    random = np.random.default_rng([experiment.recipe.seed, draw.number, 13])
    some = np.sort(random.permutation(len(rows))[:MOST_PATH])
    raw = np.array(features(network, rows), dtype=np.float32)
    network.set_feature_scale(_flat(raw, network))
    scaled = standardised(network, raw)[some, :1]
    pixels = standardised(network, features(network, draw.split.test))[:, :1]
    truth, labels = samples.labels[draw.split.test], samples.labels[rows[some]]
    head = logistic(scaled, labels, FREE, num_classes=len(samples.classes))
    right = int((head.logits(pixels).argmax(axis=1) == truth).sum())
    told(1, 1)
    accuracy = _accuracy(head, scaled, labels)
    found = Memorised(len(some), 0, ((0, accuracy, accuracy),))
    return OverfitCheck.after(found, (right, len(truth)))


def rate_range(experiment: Experiment, draw: Draw, extent: Extent, told: Progress) -> RateSweep:
    """The range test of the recipe's own training; of a probe, why there is none."""
    if experiment.recipe.strategy == "probe":
        return RateSweep(None, "a probe has no learning rate: its head is solved for, not trained")
    base, report = build_network(experiment, draw)
    plan = make_plan(replace(experiment, quiet=True), report, draw)
    samples, rows, features = experiment.samples, draw.split.train, feature_source(experiment)
    tiles = Tiles(samples.pack, rows, samples.labels[rows])
    plan = with_head_chosen(base, tiles, draw.folds, plan, features)
    network = starting(base, tiles, plan, features)
    return RateSweep(range_test(network, tiles, plan.training, steps=extent.rates, told=told))


def _solved(features: Floats, labels: Int64s, classes: int) -> OverfitCheck:
    """How a free linear head fits features, in the words of tiles learnt by heart."""
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
    """What all parts are measured with: `all_judged` tiles could be judged, the draw has some."""

    experiment: Experiment
    draw: Draw
    all_judged: int
    extent: Extent


@locked
def diagnose(
    recipe: Recipe,
    out: Path,
    *,
    quick: bool = False,
    judged: int | None = None,
    with_curve: bool = False,
    quiet: bool = False,
    say: Log = print,
) -> Diagnosis | PixelDiagnosis:
    """Say where a recipe's model stands, and write figures, page and JSON.

    Args:
        recipe: with `evaluate.target`, or none.
        out: folder; a diagnosis cut short there goes on.
        quick: fewer tiles and steps; of task pixels no random split.
        judged: judge on at most so many tiles; None for 1,000, or 300 when quick.
        with_curve: the label-count curve too.
        quiet: no progress.
        say: told every line.

    Raises:
        GeoTLError: input, weights or output that cannot be used.
    """
    if judged is not None and judged < 1:
        raise DataError(f"--judged: given {judged}; allowed: at least 1")
    if recipe.task == "pixels":
        if judged is not None:
            raise DataError(
                f"--judged: given {judged} with task pixels, whose folds test every label; leave it"
            )
        return _of_pixels(recipe, out, quick=quick, with_curve=with_curve, quiet=quiet, say=say)
    opened = open_experiment(recipe, out, log=say, quiet=quiet, resume=True)
    setup = _setup(opened, quick=quick, judged=judged)
    measured = measure(setup)
    shown = None
    if with_curve:
        shown = kept_curve(setup.experiment.recipe, out / "curve", quiet=quiet)
    found = concluded(setup, opened.recipe, measured, shown)
    written = write_diagnosis(out, found)
    for told in lines(found):
        say(told)
    say(f"page     {written[0]}")
    return found


def _of_pixels(
    recipe: Recipe, out: Path, *, quick: bool, with_curve: bool, quiet: bool, say: Log
) -> PixelDiagnosis:
    """The diagnosis of a recipe of task pixels."""
    found = diagnose_pixels(recipe, out, quick=quick, with_curve=with_curve, quiet=quiet, say=say)
    path = write_pixel_diagnosis(out, found)
    for text in found.lines():
        say(text)
    say(f"page     {path}")
    return found


def _setup(opened: Experiment, *, quick: bool, judged: int | None) -> _Setup:
    """The folder opened, and the tiles drawn that are judged."""
    bare = replace(opened, recipe=_alone(opened.recipe), resume=False)
    open_run(opened.folder, dump(bare.recipe), resume=True)
    opened.log(f"computing on {describe(choose_device(), opened.recipe.train.precision)}")
    extent = QUICK if quick else Extent()
    whole = opened.draw(0)
    draw = sampled(whole, judged or extent.judged, opened.recipe.seed)
    return _Setup(bare, draw, len(whole.split.test), extent)


def measure(setup: _Setup) -> Measurements:
    """Measure every part, or take it as it was kept."""
    of = (setup.experiment, setup.draw)
    with setup.experiment.progress() as line:

        def counted(part: Callable[..., _Part], what: str) -> Callable[[], _Part]:
            return lambda: part(*of, setup.extent, line.counter(what))

        return Measurements(
            _kept(setup, "standing", Standing.of, lambda: standing(*of)),
            _kept(setup, "noise", OverfitCheck.of, counted(noise_by_heart, NOISE)),
            _kept(setup, "own", OverfitCheck.of, counted(own_by_heart, OWN)),
            _kept(setup, "rates", RateSweep.of, counted(rate_range, "trying learning rates")),
        )


def _alone(recipe: Recipe) -> Recipe:
    """The recipe for a single draw with nothing beside it, and without a target."""
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
    """A part as it was kept, or measured now and kept, if it was measured to the same extent."""
    path = setup.experiment.folder / "parts" / f"{name}.json"
    key = [repr(setup.extent), len(setup.draw.split.test)]
    held = finished_record(path, lambda record: _holds(record, read))
    if held is None or held["key"] != key:
        held = json.loads(json.dumps({"key": key, "found": measure_it().to_dict()}))
        write_record(path, held)
    return read(held["found"])


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
    held = measured.standing
    verdict = judged_as(wilson(*held.train), wilson(*held.validation), recipe.evaluate.target)
    found = regularisers(recipe.model_dump(), augmentation_keys(), batchnorm=held.batchnorm)
    judged = len(setup.draw.split.test)
    steps = next_steps(
        verdict,
        found,
        recipe.strategy,
        stage_one=measured.own.accuracy,
        more_tiles=judged < setup.all_judged,
    )
    facts = {
        "Recipe": recipe.name,
        "Strategy": recipe.strategy,
        "Training tiles": f"{len(setup.draw.split.train):,}; accuracy read on {held.train[1]:,}",
        "Validation tiles": f"{judged:,} of {setup.all_judged:,}, never learnt from",
        "Device": describe(choose_device(), recipe.train.precision),
        "Seed": str(recipe.seed),
    }
    return Diagnosis(
        title=recipe.title or recipe.name,
        strategy=recipe.strategy,
        verdict=verdict,
        steps=steps,
        regularisers=tuple(found),
        parts=measured,
        lr=recipe.train.lr,
        facts=facts,
        curve=shown,
        recipe=dump(recipe),
    )
