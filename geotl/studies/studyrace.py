"""The race of a study: every trial on a few folds, the better half on more, within a time budget.

Folds are dealt out one after the other to all trials, so that whatever the budget allows, the two
sides of a pair were fitted on the same folds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from geotl.console import Progress
from geotl.errors import GeoTLError
from geotl.experiments.recipe import Recipe, dump
from geotl.studies.study_effects import Errors, better_half, effect, mean_errors, rungs
from geotl.studies.study_fits import Fits, Part
from geotl.studies.study_techniques import pair
from geotl.studies.studyfound import Found, Row


class Race:
    """Fits in order, until the time budget is spent; what was fitted before costs nothing."""

    def __init__(self, fits: Fits, minutes: float | None) -> None:
        """Start the clock; None never ends."""
        self.fits, self.minutes, self.begun = fits, minutes, time.perf_counter()
        self.table: dict[str, dict[int, Errors]] = {}
        self.over = False

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self.begun

    def fit(self, recipe: Recipe, part: Part) -> bool:
        """Note a recipe's errors on a part; False where the budget does not allow the fit.

        Raises:
            DataError: the recipe cannot be fitted to these tiles.
        """
        late = self.minutes is not None and self.seconds > 60 * self.minutes
        if late and not self.fits.known(recipe, part):
            self.over = True
            return False
        self.of(recipe)[part.number] = self.fits.errors(recipe, part)
        return True

    def of(self, recipe: Recipe) -> dict[int, Errors]:
        """Errors of a recipe by part."""
        return self.table.setdefault(dump(recipe), {})


def run_rows(
    found: Found, race: Race, parts: Sequence[Part], counter: Callable[[str], Progress]
) -> None:
    """Fit both sides of every row, rung by rung, and note the effects.

    Raises:
        GeoTLError: a starting point cannot be fitted to these tiles.
    """
    done = 0
    steps = rungs(len(parts))
    for number, rung in enumerate(steps, start=1):
        alive = [row for row in found.rows if not (row.refused or row.dropped)]
        told = counter(f"rung {number}/{len(steps)}, fits")
        _run_rung(found, race, parts[done:rung], alive, told)
        for row in alive:
            off, on = pair(found.bases[row.start], row.trial) if not row.refused else (None, None)
            if off is not None and on is not None:
                row.effect = effect(race.of(on), race.of(off))
        if race.over:
            break
        if number < len(steps):
            halve(alive)
        done = rung
    for start, base in found.bases.items():
        if made := race.of(base):
            found.base_errors[start] = mean_errors(list(made.values()))


def _run_rung(
    found: Found, race: Race, parts: Sequence[Part], rows: Sequence[Row], told: Progress
) -> None:
    """Fit starting points and rows on some more parts, a part after the other."""
    total, count = len(parts) * (len(found.bases) + len(rows)), 0
    for part in parts:
        for base in found.bases.values():
            if not race.fit(base, part):
                return
            count += 1
            told(count, total)
        for row in rows:
            if not row.refused and not _fit_row(found, race, part, row):
                return
            count += 1
            told(count, total)


def _fit_row(found: Found, race: Race, part: Part, row: Row) -> bool:
    """Fit both sides of a row on a part; a row that cannot be run says why and is left at that."""
    try:
        return all(race.fit(side, part) for side in pair(found.bases[row.start], row.trial))
    except OSError:  # a full disk, not the trial's own fault
        raise
    except GeoTLError as error:
        row.refused = str(error)
        return True


def halve(rows: Iterable[Row]) -> None:
    """Drop the half of each start's rows whose validation error fell least."""
    scores: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.effect is not None and not row.refused:
            scores.setdefault(row.start, {})[row.name] = row.effect.validation.value
    kept = {start: better_half(own) for start, own in scores.items()}
    for row in rows:
        row.dropped = row.name not in kept.get(row.start, set())
