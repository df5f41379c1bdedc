"""`geotl run` of task pixels, all steps in order: read, fit and score each fold, save, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from geotl.arrays import Bools, Float64s, Int64s
from geotl.console import Log
from geotl.data.chip_files import rejected_csv
from geotl.evaluation.prediction_sets import HELD_OUT
from geotl.evaluation.weighted import (
    WeightedRows,
    evaluate_weighted,
    weighted_accuracies,
    weighted_differences,
)
from geotl.experiments.build import check_names
from geotl.experiments.draws import Draw, spatial_units
from geotl.experiments.experiment import Opened
from geotl.experiments.fold_records import kept_fold
from geotl.experiments.label_doubts import doubts_of_pixels
from geotl.experiments.named import recipe_sensor
from geotl.experiments.pixel_draws import (
    folded,
    kept_draw,
    lacking,
    near_test,
    pixel_draws,
    random_draws,
    settle_folds,
)
from geotl.experiments.pixel_networks import UNTRAINED
from geotl.experiments.pixel_page import publish_pixels
from geotl.experiments.pixel_report import (
    FOREST,
    FUSED,
    LAB,
    MAJORITY,
    RANDOM_WEIGHTS,
    FoldResult,
    PixelOutcome,
    RandomSplit,
    pixel_versions,
)
from geotl.experiments.pixel_samples import LOCAL, PixelSamples, read_pixels
from geotl.experiments.recipe import Recipe, dump
from geotl.experiments.results import Answers
from geotl.experiments.run_folder import finished_alike, holds_run, open_run, read_metrics
from geotl.experiments.run_sets import sets_of_pixels
from geotl.experiments.samples import stacked_scenes
from geotl.experiments.save import colours_of
from geotl.experiments.sections import PixelsSection
from geotl.io.files import write_text
from geotl.io.locks import locked
from geotl.models.pixel_decoder import DECODER
from geotl.models.pixel_features import BANDS, Features
from geotl.models.pixel_file import (
    PixelContract,
    PixelModelFile,
    TrainingPixels,
    save_pixel_model,
)
from geotl.models.pixel_model import title_of
from geotl.training.heads import Folds
from geotl.training.pixel_decoder import Marks
from geotl.training.pixel_fusion import (
    MemberRecipe,
    PixelFusion,
    fit_fusion,
    fit_member,
    members_for,
    since,
)
from geotl.training.pixel_members import SHRINKAGES, TREES, PixelRows, fit_discriminant, fit_forest
from geotl.training.soft_targets import SoftTargets, Teach

MAX_KEPT = 2000  # training pixels that are kept in the model file


PixelRun = Opened[PixelSamples]  # a recipe of task pixels, opened


@locked
def run_pixels(
    recipe: Recipe, out: Path, *, resume: bool = False, quiet: bool = False, log: Log = print
) -> dict[str, Any]:
    """Run a recipe of task pixels into a folder and return its metrics.

    Raises:
        GeoTLError: input or output that cannot be used; the message says what to do.
    """
    begun = time.perf_counter()
    sections = recipe.model_dump(mode="json", include={"seed", "task", "data", "labels"})
    again = resume or finished_alike(out, sections)
    opened = open_pixels(recipe, out, resume=again, log=log, quiet=quiet)
    if open_run(out, dump(opened.recipe), resume=resume):
        metrics = read_metrics(out)
        log(f"{out}: already finished. {metrics['headline']}")
        return metrics
    folds = list(score_folds(opened))
    fitting = time.perf_counter()
    final = kept_draw(opened.recipe, opened.samples)
    fusion = fit_on(opened, final)
    kept_seconds = since(fitting)
    random = score_random(opened, folds) if recipe.evaluate.random_split else None
    outcome = conclude(opened, folds, fusion, (since(begun), kept_seconds), random)
    save(opened, outcome, final)
    metrics = publish_pixels(outcome, out)
    for line in outcome.lines():
        log(line)
    log(f"model    {out / 'model.safetensors'}\nreport   {out / 'report.html'}")
    return metrics


def open_pixels(
    recipe: Recipe, folder: Path, *, log: Log, quiet: bool = False, resume: bool = False
) -> PixelRun:
    """Check the recipe's files and names, read its pixels, and resolve its split.

    Raises:
        GeoTLError: input or a folder that cannot be used; the message says what to do.
    """
    sensor = recipe_sensor(recipe)
    for scene in stacked_scenes(recipe, sensor):
        scene.close()
    holds_run(folder, resume=resume)
    samples = read_pixels(recipe, sensor, log, quiet=quiet)
    members = recipe.pixels.members or ()
    trained = [name for name in members if name.startswith(DECODER)]
    members_for(samples.blocks, members, trained)
    priors_of(recipe.pixels, samples.classes)
    return PixelRun(settle_folds(recipe, samples, log), samples, folder, log, quiet, resume)


def score_folds(opened: PixelRun) -> Iterator[FoldResult]:
    """Fit and score each fold, or read its record, and log its result."""
    draws = pixel_draws(opened.recipe, opened.samples)
    with opened.progress() as line:
        progress = line.counter("fitting folds")
        for draw in draws:
            result = kept_fold(opened, draw, partial(score_fold, opened))
            progress(draw.number + 1, len(draws))
            opened.log(result.line(len(draws)))
            yield result


def score_fold(opened: PixelRun, draw: Draw) -> FoldResult:
    """Fit the fusion and its baselines on a fold's training pixels, and predict its test pixels."""
    begun = time.perf_counter()
    samples, seed = opened.samples, opened.recipe.seed
    fusion = fit_on(opened, draw)
    seconds = {FUSED: since(begun)}
    train, test = (
        with_logits(samples, fusion, rows, seed) for rows in (draw.split.train, draw.split.test)
    )
    several = {title_of(name): one for name, one in fusion.members.items()}
    for name, (recipe, folds) in baselines_of(samples, draw).items():
        several[name] = fit_member(train, folds, recipe)
    methods = {FUSED: fusion.model(samples.of, samples.classes).log_probabilities}
    methods |= {name: one.member.log_probabilities for name, one in several.items()}
    answers = {name: method(test.features) for name, method in methods.items()}
    predicted = {name: one.argmax(axis=1) for name, one in answers.items()}
    most = np.bincount(train.labels, train.weight, len(samples.classes)).argmax()
    return FoldResult(
        draw=draw,
        predicted=predicted | {MAJORITY: np.full(len(test.labels), most)},
        training={name: _fit(method, train) for name, method in methods.items()},
        logits=answers[FUSED] * fusion.temperature,
        temperature=fusion.temperature,
        seconds=seconds | {name: one.seconds for name, one in several.items()},
        accuracy=float(np.average(predicted[FUSED] == test.labels, weights=test.weight)),
        labels=(fusion.labels, round(float(test.weight.sum()))),
        near=near_test(samples, draw),
        lacking=lacking(samples, draw),
    )


def _fit(method: Callable[[Features], Float64s], rows: PixelRows) -> float:
    """Accuracy on the pixels that a method was fitted to, each label counting once."""
    correct = method(rows.features).argmax(axis=1) == rows.labels
    return float(np.average(correct, weights=rows.weight))


def score_random(opened: PixelRun, folds: Sequence[FoldResult]) -> Bools:
    """Which pixels [N] the fused model classifies correctly in folds of labels anywhere."""
    samples, correct = opened.samples, np.zeros(len(opened.samples), bool)
    draws = random_draws(opened.recipe, samples, [one.draw for one in folds])
    with opened.progress() as line:
        progress = line.counter("fitting the random split")
        for draw in draws:
            fusion = fit_on(opened, draw)
            test = with_logits(samples, fusion, draw.split.test, opened.recipe.seed)
            model = fusion.model(samples.of, samples.classes)
            after = model.log_probabilities(test.features)
            correct[draw.split.test] = after.argmax(axis=1) == test.labels
            progress(draw.number + 1, len(draws))
    return correct


def accuracy_of(samples: PixelSamples, result: FoldResult, method: str) -> float:
    """Accuracy of a method in a fold, each label counting once."""
    rows = result.draw.split.test
    correct = result.predicted[method] == samples.labels[rows]
    return float(np.average(correct, weights=samples.weight[rows]))


def baselines_of(samples: PixelSamples, draw: Draw) -> dict[str, tuple[MemberRecipe, Folds]]:
    """Baselines outside the fusion, each with the folds that it needs."""
    baselines: dict[str, tuple[MemberRecipe, Folds]] = {
        LAB: (MemberRecipe(fit_forest, (BANDS, LOCAL), (TREES,)), []),
        FOREST: (MemberRecipe(fit_forest, (BANDS,), (TREES,)), []),
    }
    if UNTRAINED in samples.features:
        one = MemberRecipe(fit_discriminant, (UNTRAINED,), SHRINKAGES)
        baselines[RANDOM_WEIGHTS] = (one, draw.folds)
    return baselines


def with_logits(
    samples: PixelSamples, fusion: PixelFusion, positions: Int64s, seed: int
) -> PixelRows:
    """Some pixels with all features, those of the fusion's own decoder too."""
    rows = samples.rows(positions, tuple(samples.features), seed)
    if fusion.decoder is None or samples.decoders is None:
        return rows
    logits = samples.decoders.predict(fusion.decoder, positions)
    return replace(rows, features={**rows.features, DECODER: logits})


def fit_on(opened: PixelRun, draw: Draw) -> PixelFusion:
    """The fusion of a draw's training pixels."""
    samples, train, settings = opened.samples, draw.split.train, opened.recipe.pixels
    rows = samples.rows(train, samples.blocks, opened.recipe.seed)
    members, priors = settings.members or (), priors_of(settings, samples.classes)
    if samples.decoders is None:
        return fit_fusion(rows, draw.folds, members, priors)
    marks = Marks(train, rows.labels, rows.weight)
    teach = teacher(opened, draw, rows)
    decoder = samples.decoders.fit(marks, draw.folds, teach, quiet=opened.quiet)
    fusion = fit_fusion(rows, draw.folds, members, priors, {decoder.name: decoder.member})
    return replace(fusion, decoder=decoder.network)


def teacher(opened: PixelRun, draw: Draw, rows: PixelRows) -> Teach | None:
    """Soft targets of unlabelled pixels by the members that need no decoder; None for no teacher.

    A teacher is fitted, calibrated and weighed on some of the draw's training pixels alone.

    Args:
        opened: with the unlabelled pixels.
        draw: of the training pixels.
        rows: these, described.
    """
    samples, settings = opened.samples, opened.recipe.pixels
    source, priors = samples.decoders, priors_of(settings, samples.classes)
    if source is None or source.unlabelled is None:
        return None
    unlabelled, minimum = source.unlabelled, source.plan.settings.unlabelled_confidence
    members = [name for name in settings.members or () if not name.startswith(DECODER)]

    def teach(positions: Int64s) -> SoftTargets:
        part = replace(draw, split=replace(draw.split, train=draw.split.train[positions]))
        folds = folded(opened.recipe, samples, part).folds
        model = fit_fusion(rows.part(positions), folds, members, priors).model(
            samples.of, samples.classes
        )
        return unlabelled.targets(model.log_probabilities(unlabelled.features), minimum)

    return teach


def priors_of(settings: PixelsSection, classes: Sequence[str]) -> Float64s | None:
    """How likely the classes are [K], None for their shares of the labels.

    Raises:
        RecipeError: numbers that name another class, or not every one.
    """
    priors = settings.priors
    if not isinstance(priors, dict):
        return None if priors == "labels" else np.full(len(classes), 1 / len(classes))
    check_names("pixels.priors", priors, classes)
    likely = np.array([priors[name] for name in classes])
    return np.asarray(likely / likely.sum())


def conclude(
    opened: PixelRun,
    folds: list[FoldResult],
    fusion: PixelFusion,
    seconds: tuple[float, float],
    random: Bools | None = None,
) -> PixelOutcome:
    """The result of a run, from all folds together.

    Args:
        opened: the recipe.
        folds: fitted and tested.
        fusion: that is kept.
        seconds: of the complete run, and of fitting this fusion.
        random: which pixels [N] were correct in a random split, if there was one.
    """
    recipe, samples = opened.recipe, opened.samples
    answers = Answers.joined([_answers(samples, one) for one in folds])
    unit = spatial_units(recipe, samples, recipe.seed)[0][answers.rows]
    block = np.unique(unit, return_inverse=True)[1].reshape(-1).astype(np.int64)
    rows = WeightedRows(answers.truth, samples.weight[answers.rows], block)
    chance: dict[str, int] = {"seed": recipe.seed, "rounds": recipe.evaluate.bootstrap_rounds}
    evaluation = evaluate_weighted(
        np.asarray(answers.logits, np.float64),
        rows,
        samples.classes,
        temperature=answers.temperature,
        **chance,
    )
    correct = {
        name: np.concatenate([one.predicted[name] for one in folds]) == answers.truth
        for name in folds[0].predicted
    }
    others = {name: hits for name, hits in correct.items() if name != FUSED}
    return PixelOutcome(
        recipe=recipe,
        samples=samples,
        folds=tuple(folds),
        fusion=fusion,
        answers=answers,
        evaluation=evaluation,
        race=weighted_accuracies(rows, correct, **chance),
        differences=weighted_differences(rows, correct[FUSED], others, **chance),
        blocks=int(block.max()) + 1,
        colours=colours_of(recipe, samples),
        seconds=seconds,
        doubts=doubts_of_pixels(samples, answers),
        sets=sets_of_pixels(samples, [_answers(samples, one) for one in folds]),
        random=None
        if random is None
        else RandomSplit.of(rows, random[answers.rows], correct[FUSED], chance),
    )


def _answers(samples: PixelSamples, one: FoldResult) -> Answers:
    """A fold's fused predictions."""
    rows = one.draw.split.test
    temperatures = np.full(len(rows), one.temperature)
    return Answers(rows, samples.labels[rows], one.logits, temperatures)


def save(opened: PixelRun, outcome: PixelOutcome, final: Draw) -> None:
    """Write the model that is fitted on all labels, and a list of labels without a pixel."""
    recipe, samples, folder = opened.recipe, opened.samples, opened.folder
    if samples.placement.rejected:
        write_text(folder / "rejected.csv", rejected_csv(samples.placement.rejected))
    scene_bands = samples.of.scene_band_count
    contract = PixelContract(
        bands=samples.of.bands[:scene_bands],
        wavelengths=samples.of.wavelengths[:scene_bands],
        sensor=samples.sensor,
        file_bands=recipe.data.file_bands,
        classes=samples.classes,
        colours=outcome.colours,
        resolution_m=float(samples.footprints.sides[0]),
        extra_bands=samples.of.bands[scene_bands:],
        extra_files=samples.extra_files,
    )
    notes = {
        "recipe": dump(recipe),
        "metrics": outcome.metrics(timed=False),
        "versions": pixel_versions(),
        "seed": recipe.seed,
        HELD_OUT: outcome.sets.held_out.plain(),
        "training": {
            "labels": outcome.fusion.labels,
            "pixels": len(final.split.train),
            "crs": sorted({str(scene.grid.crs) for scene in samples.imagery}),
            "dates": sorted({scene.acquired for scene in samples.imagery if scene.acquired}),
            "accuracy": outcome.estimate(),
        },
    }
    if samples.networks is not None:
        notes["weights"] = samples.networks.report.provenance()
    deep = samples.networks.pretrained if samples.networks else None
    model = outcome.fusion.model(samples.of, samples.classes, deep)
    training = training_pixels(samples, final.split.train, list(outcome.folds), recipe.seed)
    path = folder / "model.safetensors"
    save_pixel_model(path, PixelModelFile(model, contract, training, notes))


def training_pixels(
    samples: PixelSamples, train: Int64s, folds: list[FoldResult], seed: int
) -> TrainingPixels:
    """What the model file keeps of training pixels: some of very many, drawn by the seed."""
    sample = np.sort(np.random.default_rng([seed, 1]).permutation(train)[:MAX_KEPT])
    fold = np.full(len(samples), -1, np.int64)
    for one in folds:
        fold[one.draw.split.test] = one.draw.number
    table = np.concatenate([samples.features[block] for block in samples.blocks])
    places: Float64s = samples.places[sample]
    return TrainingPixels(table[:, sample].T.copy(), samples.labels[sample], fold[sample], places)
