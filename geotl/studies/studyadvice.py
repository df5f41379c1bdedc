"""What a study recommends: the starting points with what helped them, confirmed on other folds.

The recipe as it is stands unless another one is better on folds that chose nothing, by an
interval that excludes 0. The tiles of the judged side are looked at once, after the choice.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from geotl.arrays import Bools
from geotl.console import Progress
from geotl.errors import DataError, RecipeError
from geotl.evaluation.learning_curve import gain
from geotl.evaluation.metrics import Interval, wilson
from geotl.experiments.compare import fit_draw, judge
from geotl.experiments.draws import Draw, Source
from geotl.experiments.recipe import Recipe
from geotl.studies.study_effects import effect, mean_errors
from geotl.studies.study_fits import Joined, Part, TileGenerator, is_generated, plain
from geotl.studies.study_techniques import AS_IT_IS, TRAINED, Start, alternative, changed
from geotl.studies.studyfound import Candidate, Found, Verdict
from geotl.studies.studyrace import Race

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
    found: Found, source: Source, draw: Draw, out: Path, generator: TileGenerator | None = None
) -> Verdict:
    """Fit the recipe as it is and the recommended one to all labels; judge both on unseen tiles.

    Tiles that the recommended one asks a generator for are made of all labels and kept in `out`.
    """
    default = _right(plain(found.recipe, source, draw))
    best, own = found.recommended, default
    if best is not None and generator is not None and is_generated(best.recipe):
        with tempfile.TemporaryDirectory(prefix="geotl-study-") as scratch:
            own = _right(generator.join(best.recipe, source, draw, Path(scratch) / "pack"))
        runs = generator.keep(best.recipe, source, draw, out / "synthetic")
        found.recommended = replace(best, recipe=runs)
    elif best is not None and best.name != AS_GIVEN:
        own = _right(plain(best.recipe, source, draw))
    count = len(default)
    return Verdict(
        wilson(int(default.sum()), count),
        wilson(int(own.sum()), count),
        Interval(0.0, 0.0, 0.0) if own is default else gain(default, own)[0],
        count,
    )


def _right(own: Joined) -> Bools:
    """Which of the judged tiles a recipe names rightly, fitted to all labels."""
    with tempfile.TemporaryDirectory(prefix="geotl-study-") as scratch:
        fitted, _ = fit_draw(
            own.recipe, own.source, own.draw, Path(scratch), resume=False, quiet=True
        )
    said = judge(own.recipe, own.source, own.draw, fitted).argmax(axis=1)
    return np.asarray(said == own.source.labels[own.draw.split.test])
