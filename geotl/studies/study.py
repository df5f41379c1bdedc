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
from geotl.studies.study_report import found_lines, plan_lines, write_study
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

AS_GIVEN, HELPED, BARE = "the recipe as it is", "with what helped", "every regulariser off"


def recommend(found: Found, race: Race, parts: Sequence[Part], told: Progress) -> None:
    """Set the candidates beside each other on folds that chose nothing, and take one."""
    scratch = found.bases[TRAINED].strategy == "scratch"
    made = [
        Candidate(AS_GIVEN, found.recipe),
        *combined(found, AS_IT_IS, AS_GIVEN),
        *combined(found, TRAINED, "trained" if scratch else "fine-tuned"),
    ]
    confirm(race, [one.recipe for one in made] if len(made) > 1 else [], parts, told)
    base = race.of(found.recipe)
    fresh = {part.number: base[part.number] for part in parts if part.number in base}
    found.candidates = []
    for one in made:
        own = {n: e for n, e in race.of(one.recipe).items() if n in fresh}
        errors = mean_errors([*own.values()]) if own else None
        against = None if one is made[0] else effect(own, fresh)
        found.candidates.append(replace(one, errors=errors, against=against))
    found.recommended = best_of(found.candidates)


def confirm(race: Race, recipes: Sequence[Recipe], parts: Sequence[Part], told: Progress) -> None:
    """Fit candidates to folds that chose nothing, as far as the time budget goes.

    One that cannot be fitted, such as a combination that contradicts the network, has no errors.
    """
    jobs = [(recipe, part) for part in parts for recipe in recipes]
    for done, (recipe, part) in enumerate(jobs, start=1):
        try:
            if not race.fit(recipe, part):
                return
        except DataError:  # kept in the fit's record, and told as "not confirmed"
            continue
        told(done, len(jobs))


def best_of(candidates: Sequence[Candidate]) -> Candidate:
    """The first, unless others are better beyond doubt: then the best of these in the mean."""
    better = [one for one in candidates[1:] if one.against is not None and one.against.falls]
    return min(
        better,
        key=lambda one: one.against.validation.value if one.against else 0.0,
        default=candidates[0],
    )


def combined(found: Found, start: Start, name: str) -> list[Candidate]:
    """A start with everything that visibly helped it; the start as it is gives none.

    A key is taken once, from its best trial, and what contradicts a better one is left. The
    trained start is a candidate without help too.
    """
    base = found.bases[start]
    if start == TRAINED and start not in found.base_errors:
        return []
    recipe, taken = base, dict[str, Any]()
    for key, value in helpful(found, start):
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
    return [Candidate(f"{name}, {HELPED if taken else BARE}", recipe, tuple(taken))]


def helpful(found: Found, start: Start) -> list[tuple[str, Any]]:
    """(key, value) of what lowers a start's validation error visibly, the best first."""
    base, told = found.bases[start], list[tuple[float, str, Any]]()
    for row in found.rows:
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
            told.append((change, row.trial.key, row.trial.on))
        elif not turned_on and row.effect.rises:
            told.append((-change, row.trial.key, row.trial.off))
    return [(key, value) for _, key, value in sorted(told, key=lambda one: one[0])]


def _value(recipe: Recipe, key: str) -> Any:
    """What a recipe says for a dotted key."""
    at: Any = recipe
    for name in key.split("."):
        at = getattr(at, name)
    return at


def judged_once(
    found: Found, experiment: Experiment, draw: Draw, generator: TileGenerator | None = None
) -> FinalTest:
    """Fit the recipe as it is and the recommended one to all labels; judge both on unseen tiles.

    Tiles that the recommended one asks a generator for are made of all labels and kept in the
    experiment's folder.
    """
    default = _right(experiment.of(found.recipe), draw)
    best, own = found.recommended, default
    if best is not None and best.name != AS_GIVEN:
        own = _right(experiment.of(best.recipe), draw, generator)
        if generator is not None and is_generated(best.recipe):
            chosen_by_it = experiment.of(best.recipe)
            runs = generator.keep(chosen_by_it, draw, experiment.folder / "synthetic")
            found.recommended = replace(best, recipe=runs)
    count = len(default)
    return FinalTest(
        wilson(int(default.sum()), count),
        wilson(int(own.sum()), count),
        Interval(0.0, 0.0, 0.0) if own is default else gain(default, own)[0],
        count,
    )


def _right(experiment: Experiment, draw: Draw, generator: TileGenerator | None = None) -> Bools:
    """Which of the test tiles a recipe classifies correctly, fitted to all labels."""
    with scratch_folder(experiment.folder / "fit") as scratch:
        own = plain(replace(experiment, folder=scratch, resume=False), draw)
        if generator is not None and is_generated(experiment.recipe):
            own = generator.join(own.experiment, draw)
        said = logits_of_test(own.experiment, fit_draw(own.experiment, own.draw)).argmax(axis=1)
    return np.asarray(said == own.experiment.samples.labels[own.draw.split.test])


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
    say: Log = print,
    generator: Callable[[Begin], TileGenerator] | None = None,
) -> Found:
    """Try every technique on the labels of a recipe's first draw; write table, figure and advice.

    Args:
        recipe: whose data, labels and network are taken.
        out: folder for study.md, study.csv, study.json, study.png, recommended.yaml and trials/.
        extent: techniques, folds and minutes.
        resume: go on with the study in that folder; fits that were made are not made again.
        quiet: no progress.
        say: told every line.
        generator: gives what makes synthetic tiles; without it generated tiles are not tried.

    Raises:
        GeoTLError: input that cannot be used.
    """
    _check(recipe, extent)
    experiment = open_experiment(recipe, out, log=say, quiet=quiet, resume=resume)
    draw = experiment.draw(0)
    labelled = labelled_samples(experiment.samples, draw.split.train, cache_folder() / "packs")
    parts = [make_part(experiment.recipe, labelled, number) for number in range(2 * extent.seeds)]
    found = plan(recipe, experiment, extent.only)
    if generator is None:
        found.without_generator()
    found.seeds, split = extent.seeds, parts[0].draw.split
    found.tiles = (len(split.train), len(split.test), len(draw.split.train))
    open_run(out, dump(experiment.recipe), resume=resume)
    for told in plan_lines(found, len(draw.split.test)):
        say(told)
    with experiment.progress() as line:
        learning = partial(line.counter, "training a fold's generator, steps")
        makes = generator(learning) if generator else None
        race = Race(Fits(labelled, out / "trials", makes), extent.budget)
        run_rows(found, race, parts[: extent.seeds], line.counter)
        recommend(found, race, parts[extent.seeds :], line.counter("confirming, fits"))
        line.show("judging on the tiles that no trial saw", now=True)
        found.verdict = judged_once(found, experiment, draw, makes)
    found.fits, found.seconds, found.finished = race.fits.made, race.seconds, not race.over
    write_study(found, out)
    for told in found_lines(found, out):
        say(told)
    return found


def _check(recipe: Recipe, extent: StudyExtent) -> None:
    """Refuse what cannot be studied, before anything is read."""
    if extent.seeds < FEWEST:
        raise DataError(f"--seeds: given {extent.seeds}; allowed: at least {FEWEST}")
    if recipe.data.synthetic is not None:
        raise DataError(
            "data.synthetic: given to geotl study, which makes its own of every fold's tiles; "
            "leave it out, and see what gan_tiles gives"
        )


def plan(recipe: Recipe, experiment: Experiment, only: Sequence[str]) -> Found:
    """The starting points and the trials of each.

    Args:
        recipe: as given; the trained start leaves what `strategy: auto` would settle.
        experiment: the same with everything settled.
        only: techniques; empty for all.

    Raises:
        RecipeError: `only` names a technique that is not tried.
    """
    settled, samples = experiment.recipe, experiment.samples
    _, report = make_backbone(settled, samples.sensor, samples.pack.bands)
    folded = report.folded_batchnorm
    given = recipe.model_copy(update={"split": settled.split})
    bases: dict[Start, Recipe] = {AS_IT_IS: settled, TRAINED: trained_start(given)}
    own: list[Trial] = []
    if settled.strategy == "probe":
        own = probe_trials(settled, samples.tile_px, folded=folded)
    trained = training_trials(given, bases[TRAINED], folded=folded)
    kept = chosen([*own, *trained], only)
    rows = [TrialRow(AS_IT_IS, trial) for trial in own if trial in kept]
    rows += [TrialRow(TRAINED, trial) for trial in trained if trial in kept]
    return Found(settled, bases, rows=rows, not_for_probe=not_for_a_probe(settled))
