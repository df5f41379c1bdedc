"""What a study found: a row for each trial, the recipes that may be recommended, the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from geotl.evaluation.metrics import Interval
from geotl.experiments.recipe import Recipe
from geotl.studies.study_effects import Effect, Errors
from geotl.studies.study_techniques import GENERATED, Start, Trial


@dataclass
class Row:
    """A trial and what was found of it; `refused` says why it could not be run.

    `dropped` marks one that a halving left out of the further folds.
    """

    start: Start
    trial: Trial
    effect: Effect | None = None
    refused: str = ""
    dropped: bool = False

    @property
    def name(self) -> str:
        """The trial's name."""
        return self.trial.name

    @property
    def word(self) -> str:
        """What it came to, in words."""
        if self.refused:
            return "could not be run"
        return self.effect.word if self.effect else "not reached"


@dataclass(frozen=True)
class Candidate:
    """A recipe that may be recommended.

    Attributes:
        name: in words.
        recipe: ready to run.
        changes: what it takes from the trials, as key=value.
        errors: on folds that chose nothing.
        against: its errors there minus those of the recipe as it is; None for that one.
    """

    name: str
    recipe: Recipe
    changes: tuple[str, ...] = ()
    errors: Errors | None = None
    against: Effect | None = None


@dataclass(frozen=True)
class Verdict:
    """Accuracies on the tiles that no trial saw, and their paired difference over these tiles."""

    default: Interval
    recommended: Interval
    difference: Interval
    tiles: int


@dataclass
class Found:
    """All that a study found.

    Attributes:
        recipe: as it is, with everything settled.
        bases: the starting points.
        tiles: learnt from and held out in the first fold, labels in all.
        seeds: folds, each with a seed of its own, that a trial is fitted on at most.
        fits: made anew in this run.
        finished: whether the time budget let every fit be made.
    """

    recipe: Recipe
    bases: Mapping[Start, Recipe]
    tiles: tuple[int, int, int] = (0, 0, 0)
    seeds: int = 0
    rows: list[Row] = field(default_factory=list)
    base_errors: dict[Start, Errors] = field(default_factory=dict)
    not_for_probe: list[str] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    recommended: Candidate | None = None
    verdict: Verdict | None = None
    fits: int = 0
    seconds: float = 0.0
    finished: bool = True

    def without_generator(self) -> None:
        """Leave generated tiles untried."""
        for row in self.rows:
            if row.trial.on == GENERATED:
                row.refused = "not tried: no generator of tiles was given"

    @property
    def folds(self) -> int:
        """Most folds behind a row."""
        return max((row.effect.parts for row in self.rows if row.effect), default=0)

    def ranked(self, start: Start) -> list[Row]:
        """Rows of a start, the greatest fall in validation error first; those without one last."""
        own = [row for row in self.rows if row.start == start]
        return sorted(own, key=lambda row: row.effect.validation.value if row.effect else 9.0)
