"""`geotl study`: every technique tried on a recipe's own labels, and what is recommended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from geotl.arrays import Bools
from geotl.console import Log, Progress
from geotl.errors import DataError, RecipeError
from geotl.evaluation.learning_curve import gain
from geotl.evaluation.metrics import Interval, wilson
from geotl.experiments.build import make_backbone, open_experiment
from geotl.experiments.compare import fit_draw, logits_of_test
from geotl.experiments.draws import Draw
from geotl.experiments.experiment import Experiment
from geotl.experiments.recipe import Recipe, dump
from geotl.experiments.run_folder import open_run
from geotl.io.files import cache_folder, scratch_folder
from geotl.io.locks import locked
from geotl.language import msg, translated
from geotl.studies.study_effects import FEWEST, effect, mean_errors
from geotl.studies.study_fits import (
    Begin,
    Candidate,
    FinalTest,
    Fits,
    Found,
    Part,
    Race,
    TileGenerator,
    TrialRow,
    is_generated,
    labelled_samples,
    make_part,
    plain,
    run_rows,
)
from geotl.studies.study_report import write_study
from geotl.studies.study_techniques import (
    AS_IT_IS,
    TRAINED,
    Start,
    Trial,
    alternative,
    changed,
    chosen,
    not_for_a_probe,
    probe_trials,
    trained_start,
    training_trials,
)
from geotl.studies.study_words import TITLES, found_lines, plan_lines

AS_GIVEN = TITLES[AS_IT_IS]


def recommend(results: Found, race: Race, parts: Sequence[Part], progress: Progress) -> None:
    """Compare the candidates on folds that chose nothing, and take one."""
    scratch = results.bases[TRAINED].strategy == "scratch"
    candidates = [
        Candidate(AS_GIVEN, results.recipe),
        *combined(results, AS_IT_IS, AS_GIVEN),
        *combined(results, TRAINED, msg("trained") if scratch else msg("fine-tuned")),
    ]
    confirm(
        race, [one.recipe for one in candidates] if len(candidates) > 1 else [], parts, progress
    )
    base = race.of(results.recipe)
    fresh = {part.number: base[part.number] for part in parts if part.number in base}
    results.candidates = []
    for one in candidates:
        by_part = {n: e for n, e in race.of(one.recipe).items() if n in fresh}
        errors = mean_errors([*by_part.values()]) if by_part else None
        against = None if one is candidates[0] else effect(by_part, fresh)
        results.candidates.append(replace(one, errors=errors, against=against))
    results.recommended = best_of(results.candidates)


def confirm(
    race: Race, recipes: Sequence[Recipe], parts: Sequence[Part], progress: Progress
) -> None:
    """Fit candidates to folds that chose nothing, as far as the time budget goes.

    One that cannot be fitted, such as a combination that contradicts the network, has no errors.
    """
    jobs = [(recipe, part) for part in parts for recipe in recipes]
    for done, (recipe, part) in enumerate(jobs, start=1):
        try:
            if not race.fit(recipe, part):
                return
        except DataError:  # kept in the fit's record, and reported as "not confirmed"
            continue
        progress(done, len(jobs))


def best_of(candidates: Sequence[Candidate]) -> Candidate:
    """The first, unless others are better beyond doubt: then the best of these in the mean."""
    better = [one for one in candidates[1:] if one.against is not None and one.against.falls]
    return min(
        better,
        key=lambda one: one.against.validation.value if one.against else 0.0,
        default=candidates[0],
    )


def combined(results: Found, start: Start, name: str) -> list[Candidate]:
    """A start with everything that visibly helped it; none for the start as it is.

    A key is taken once, from its best trial, and what contradicts a better one is left. The
    trained start is a candidate without help too.
    """
    base = results.bases[start]
    if start == TRAINED and start not in results.base_errors:
        return []
    recipe, taken = base, dict[str, Any]()
    for key, value in helpful(results, start):
        if any(
            key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.")
            for other in taken
        ):
            continue
        try:
            recipe = changed(recipe, {key: value})
        except RecipeError:  # such as a frozen stage with nothing frozen: the better one is in
            continue
        taken[key] = value
    if not taken and start == AS_IT_IS:
        return []
    words = msg("{start}, every regulariser off", start=name)
    if taken:
        words = msg("{start}, with what helped", start=name)
    return [Candidate(words, recipe, tuple(taken))]


def helpful(results: Found, start: Start) -> list[tuple[str, Any]]:
    """(key, value) of what lowers a start's validation error visibly, the best first."""
    base, changes = results.bases[start], list[tuple[float, str, Any]]()
    for row in results.rows:
        if row.start != start or row.effect is None or row.refused:
            continue
        other = alternative(base, row.trial)
        if other is None:
            continue
        change, turned_on = (
            row.effect.validation.value,
            _value(other, row.trial.key) == row.trial.on,
        )
        if turned_on and row.effect.falls:
            changes.append((change, row.trial.key, row.trial.on))
        elif not turned_on and row.effect.rises:
            changes.append((-change, row.trial.key, row.trial.off))
    return [(key, value) for _, key, value in sorted(changes, key=lambda one: one[0])]


def _value(recipe: Recipe, key: str) -> Any:
    """The value of a dotted key in a recipe."""
    at: Any = recipe
    for name in key.split("."):
        at = getattr(at, name)
    return at


def final_test(
    results: Found, experiment: Experiment, draw: Draw, generator: TileGenerator | None = None
) -> FinalTest:
    """Fit the recipe as it is and the recommended one to all labels; test both on new tiles.

    Tiles that the recommended one asks a generator for are made of all labels and kept in the
    experiment's folder.
    """
    default = _right(experiment.of(results.recipe), draw)
    best, best_hits = results.recommended, default
    if best is not None and best.name != AS_GIVEN:
        best_hits = _right(experiment.of(best.recipe), draw, generator)
        if generator is not None and is_generated(best.recipe):
            chosen_by_it = experiment.of(best.recipe)
            runs = generator.keep(chosen_by_it, draw, experiment.folder / "synthetic")
            results.recommended = replace(best, recipe=runs)
    count = len(default)
    return FinalTest(
        wilson(int(default.sum()), count),
        wilson(int(best_hits.sum()), count),
        Interval(0.0, 0.0, 0.0) if best_hits is default else gain(default, best_hits)[0],
        count,
    )


def _right(experiment: Experiment, draw: Draw, generator: TileGenerator | None = None) -> Bools:
    """Which of the test tiles a recipe classifies correctly, fitted to all labels."""
    with scratch_folder(experiment.folder / "fit") as scratch:
        prepared = plain(replace(experiment, folder=scratch, resume=False), draw)
        if generator is not None and is_generated(experiment.recipe):
            prepared = generator.join(prepared.experiment, draw)
        predicted = logits_of_test(
            prepared.experiment, fit_draw(prepared.experiment, prepared.draw)
        ).argmax(axis=1)
    return np.asarray(predicted == prepared.experiment.samples.labels[prepared.draw.split.test])


@dataclass(frozen=True)
class StudyExtent:
    """How much a study tries.

    Attributes:
        only: techniques to try; empty for all.
        seeds: folds, each with a seed of its own, that a trial is fitted on at most.
        budget: minutes that the fits of trials may take; None for no bound.
    """

    only: Sequence[str] = ()
    seeds: int = 10
    budget: float | None = None


WHOLE = StudyExtent()


@locked
def study(
    recipe: Recipe,
    out: Path,
    extent: StudyExtent = WHOLE,
    *,
    resume: bool = False,
    quiet: bool = False,
    log: Log = print,
    generator: Callable[[Begin], TileGenerator] | None = None,
) -> Found:
    """Try every technique on the labels of a recipe's first draw; write table, figure and advice.

    Args:
        recipe: its data, labels and network are used.
        out: folder for study.md, study.csv, study.json, study.png, recommended.yaml and trials/.
        extent: techniques, folds and minutes.
        resume: go on with the study in that folder; fits that were made are not made again.
        quiet: no progress.
        log: gets every line.
        generator: returns a maker of synthetic tiles; without it generated tiles are not tried.

    Raises:
        GeoTLError: input that cannot be used.
    """
    _check(recipe, extent)
    experiment = open_experiment(recipe, out, log=log, quiet=quiet, resume=resume)
    draw = experiment.draw(0)
    labelled = labelled_samples(experiment.samples, draw.split.train, cache_folder() / "packs")
    parts = [make_part(experiment.recipe, labelled, number) for number in range(2 * extent.seeds)]
    results = plan(recipe, experiment, extent.only)
    if generator is None:
        results.without_generator()
    results.seeds, split = extent.seeds, parts[0].draw.split
    results.tiles = (len(split.train), len(split.test), len(draw.split.train))
    open_run(out, dump(experiment.recipe), resume=resume)
    for text in map(translated, plan_lines(results, len(draw.split.test))):
        log(text)
    with experiment.progress() as line:
        learning = partial(line.counter, "training a fold's generator, steps")
        makes = generator(learning) if generator else None
        race = Race(Fits(labelled, out / "trials", makes), extent.budget)
        run_rows(results, race, parts[: extent.seeds], line.counter)
        recommend(results, race, parts[extent.seeds :], line.counter("confirming, fits"))
        line.show("testing on the tiles outside all trials", now=True)
        results.verdict = final_test(results, experiment, draw, makes)
    results.fits, results.seconds, results.finished = race.fits.made, race.seconds, not race.over
    write_study(results, out)
    for text in found_lines(results, out):
        log(text)
    return results


def _check(recipe: Recipe, extent: StudyExtent) -> None:
    """Reject recipes that cannot be studied, before anything is read."""
    if extent.seeds < FEWEST:
        raise DataError(f"--seeds: given {extent.seeds}; allowed: at least {FEWEST}")
    if recipe.data.synthetic is not None:
        raise DataError(
            "data.synthetic: given to geotl study, which makes its own of every fold's tiles; "
            "leave it out, and see the result of gan_tiles"
        )


def plan(recipe: Recipe, experiment: Experiment, only: Sequence[str]) -> Found:
    """The starting points and the trials of each.

    Args:
        recipe: of the user; the trained start ignores the choices of `strategy: auto`.
        experiment: the same with everything resolved.
        only: techniques; empty for all.

    Raises:
        RecipeError: `only` names a technique that is not tried.
    """
    resolved, samples = experiment.recipe, experiment.samples
    _, report = make_backbone(resolved, samples.sensor, samples.pack.bands)
    folded = report.folded_batchnorm
    unresolved = recipe.model_copy(update={"split": resolved.split})
    bases: dict[Start, Recipe] = {AS_IT_IS: resolved, TRAINED: trained_start(unresolved)}
    of_probe: list[Trial] = []
    if resolved.strategy == "probe":
        of_probe = probe_trials(resolved, samples.tile_px, folded=folded)
    trained = training_trials(unresolved, bases[TRAINED], folded=folded)
    selected = chosen([*of_probe, *trained], only)
    rows = [TrialRow(AS_IT_IS, trial) for trial in of_probe if trial in selected]
    rows += [TrialRow(TRAINED, trial) for trial in trained if trial in selected]
    return Found(resolved, bases, rows=rows, not_for_probe=not_for_a_probe(resolved))
