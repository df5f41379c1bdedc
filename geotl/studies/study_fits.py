"""The fits of a study: folds, recorded fits, successive halving, and their results."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from geotl.arrays import Int64s, Pixels
from geotl.console import Progress
from geotl.data.samples import Samples
from geotl.data.splits import Split
from geotl.data.tile_array import Unread, packed
from geotl.errors import DataError, GeoTLError
from geotl.evaluation.metrics import Interval
from geotl.experiments.compare import FittedDraw, fit_draw, logits_of_test
from geotl.experiments.draws import Draw, folds_inside
from geotl.experiments.experiment import Experiment
from geotl.experiments.recipe import Recipe, dump
from geotl.experiments.samples import TileSamples
from geotl.io.files import scratch_folder
from geotl.io.records import finished_record, write_record
from geotl.studies.study_effects import Effect, Errors, better_half, effect, mean_errors, rungs
from geotl.studies.study_techniques import GENERATED, Start, Trial, changed, pair

Begin = Callable[[], Progress]

FORMAT = 1  # of the records; another number makes every fit anew
REFUSED = "refused"  # key of a record's reason why its recipe cannot be fitted


@dataclass(frozen=True)
class Part:
    """One way to hold tiles out: a fold of the labels, with the seed of all that is random.

    The tiles of `draw.split.train` are learnt from, those of `draw.split.test` held out.
    """

    number: int
    seed: int
    draw: Draw


@dataclass(frozen=True)
class Joined:
    """What is fitted, and on which tiles.

    Attributes:
        experiment: whose samples hold the synthetic tiles already.
        draw: who learns and who is held out.
        real: those learnt from that are real.
        seconds: that a generator's training took.
    """

    experiment: Experiment
    draw: Draw
    real: Int64s
    seconds: float = 0.0


def plain(experiment: Experiment, draw: Draw) -> Joined:
    """A draw of real tiles alone."""
    return Joined(experiment, draw, draw.split.train)


def is_generated(recipe: Recipe) -> bool:
    """Whether a recipe asks for tiles of a generator that learns anew."""
    return recipe.data.synthetic == GENERATED


def _is_fit(record: Mapping[str, Any]) -> bool:
    """Whether a record has what one of a fit holds."""
    own = {name: value for name, value in record.items() if name not in ("format", "part")}
    if own.keys() == {REFUSED}:
        return isinstance(own[REFUSED], str)
    numbers = all(isinstance(value, int | float) for value in own.values())
    return numbers and own.keys() == Errors.__dataclass_fields__.keys()


class TileGenerator(Protocol):
    """What makes synthetic tiles of a draw's training tiles; `synthetic` has the one there is."""

    def join(self, experiment: Experiment, draw: Draw) -> Joined:
        """The tiles of a draw with the synthetic ones behind them, on the training side alone.

        They are packed below the experiment's folder.
        """

    def keep(self, experiment: Experiment, draw: Draw, folder: Path) -> Recipe:
        """Write a draw's synthetic tiles into a folder; the recipe that reads them from there."""


def labelled_samples(samples: TileSamples, rows: Int64s, cache: Path) -> TileSamples:
    """Some tiles alone, packed below a cache folder."""
    whole = samples.pack
    key = hashlib.sha256(f"rows of {whole.fingerprint}".encode() + rows.tobytes()).hexdigest()

    def pixels() -> Generator[Pixels, None, None]:
        for row in rows:
            image = np.asarray(whole.images[row])
            known = np.ones(image.shape, bool) if whole.valid is None else whole.valid[row]
            yield image, np.asarray(known)

    def unread() -> Unread:
        return Unread(
            pixels(),
            (len(rows), *whole.images.shape[1:]),
            whole.images.dtype,
            whole.bands,
            [whole.footprints[row] for row in rows],
            [whole.crs[row] for row in rows],
            [whole.acquired[row] for row in rows],
        )

    tiles = tuple(samples.index.tiles[row] for row in rows)
    return TileSamples(
        replace(samples.index, tiles=tiles),
        samples.sensor,
        packed(cache / key[:32], key, unread),
    )


def make_part(recipe: Recipe, labelled: Samples, number: int) -> Part:
    """Part n of a study: fold n of the first round of folds, then of a second round, and so on.

    Folds go by the units of a spatial split (blocks, groups, scenes), as everywhere.

    Raises:
        DataError: too few labels for folds.
    """
    everything, none = np.arange(len(labelled), dtype=np.int64), np.zeros(0, np.int64)
    whole = Draw(0, Split(everything, none, none), [])
    first = folds_inside(recipe, labelled, whole)
    if not first:
        raise DataError(
            "one label a class: a study judges by folds inside the labels, for which each class "
            "needs two at least; label more, or raise split.shots"
        )
    seeded = changed(recipe, {"seed": recipe.seed + number})
    dealt = changed(recipe, {"seed": recipe.seed + number // len(first)})
    folds = folds_inside(dealt, labelled, whole) or first
    fit, held = folds[number % len(folds)]
    draw = Draw(0, Split(everything[fit], everything[held], none), [])
    return Part(number, seeded.seed, replace(draw, folds=folds_inside(seeded, labelled, draw)))


def of_part(recipe: Recipe, part: Part) -> Recipe:
    """The recipe with a part's seed; a probe's features of all labelled tiles are shared."""
    draws = 2 if recipe.strategy == "probe" and not is_generated(recipe) else 1
    return changed(recipe, {"seed": part.seed, "split.kfold": None, "split.draws": draws})


class Fits:
    """Fits recipes to parts, and keeps what each gave: a fit is made once.

    Attributes:
        labelled: the labelled tiles.
        folder: for the records, one file each.
        made: fits made anew by this object.
    """

    def __init__(
        self, labelled: TileSamples, folder: Path, generator: TileGenerator | None = None
    ) -> None:
        """Keep the records in `folder`; recipes with generated tiles need a generator."""
        self.labelled, self.folder, self.made = labelled, folder, 0
        self.generator = generator

    def known(self, recipe: Recipe, part: Part) -> bool:
        """Whether this fit was made."""
        return self._kept(self._place(recipe, part)) is not None

    def errors(self, recipe: Recipe, part: Part) -> Errors:
        """Errors of a recipe on a part, from its record or by fitting.

        Raises:
            GeoTLError: the recipe cannot be fitted to these tiles; that is kept too.
        """
        place = self._place(recipe, part)
        found = self._kept(place)
        if found is None:
            self.made += 1
            try:
                found = asdict(self._fit(of_part(recipe, part), part))
            except OSError:  # a full disk is no trait of the recipe
                raise
            except GeoTLError as error:
                found = {REFUSED: str(error)}
            write_record(place, {"format": FORMAT, "part": part.number} | found)
        if REFUSED in found:
            raise DataError(found[REFUSED])
        return Errors(**{name: found[name] for name in Errors.__dataclass_fields__})

    @staticmethod
    def _kept(place: Path) -> dict[str, Any] | None:
        """The record of a fit; None where there is none, or one that is damaged."""
        return finished_record(place, _is_fit)

    def _place(self, recipe: Recipe, part: Part) -> Path:
        """Where the record of a fit lies: under a hash of its resolved recipe and its tiles."""
        digest = hashlib.sha256(f"{FORMAT}\n{dump(of_part(recipe, part))}".encode())
        split = part.draw.split
        digest.update(self.labelled.pack.fingerprint.encode())
        digest.update(split.train.tobytes() + b"held out" + split.test.tobytes())
        return self.folder / f"{digest.hexdigest()[:32]}.json"

    def _fit(self, recipe: Recipe, part: Part) -> Errors:
        with scratch_folder(self.folder / "fit") as scratch:
            fresh = Experiment(recipe, self.labelled, scratch, quiet=True)
            own = plain(fresh, part.draw)
            if is_generated(recipe) and self.generator is not None:
                own = self.generator.join(fresh, part.draw)
            begun = time.perf_counter()
            made = fit_draw(own.experiment, own.draw)
            seconds = own.seconds + time.perf_counter() - begun
            held = own.draw.split.test
            shares = [wrong_share(own.experiment, made, rows) for rows in (own.real, held)]
        return Errors(shares[0], shares[1], len(own.real), len(held), seconds)


def wrong_share(experiment: Experiment, made: FittedDraw, rows: Int64s) -> float:
    """Share of some tiles that a fitted network names wrongly, in evaluation mode."""
    draw = replace(made.draw, split=replace(made.draw.split, test=rows))
    said = logits_of_test(experiment, replace(made, draw=draw)).argmax(axis=1)
    return float(np.mean(said != experiment.samples.labels[rows]))


@dataclass
class TrialRow:
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
class FinalTest:
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
    rows: list[TrialRow] = field(default_factory=list)
    base_errors: dict[Start, Errors] = field(default_factory=dict)
    not_for_probe: list[str] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    recommended: Candidate | None = None
    verdict: FinalTest | None = None
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

    def ranked(self, start: Start) -> list[TrialRow]:
        """Rows of a start, the greatest fall in validation error first; those without one last."""
        own = [row for row in self.rows if row.start == start]
        return sorted(own, key=lambda row: row.effect.validation.value if row.effect else 9.0)


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
    found: Found, race: Race, parts: Sequence[Part], rows: Sequence[TrialRow], told: Progress
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


def _fit_row(found: Found, race: Race, part: Part, row: TrialRow) -> bool:
    """Fit both sides of a row on a part; a row that cannot be run says why and is left at that."""
    try:
        return all(race.fit(side, part) for side in pair(found.bases[row.start], row.trial))
    except OSError:  # a full disk, not the trial's own fault
        raise
    except GeoTLError as error:
        row.refused = str(error)
        return True


def halve(rows: Iterable[TrialRow]) -> None:
    """Drop the half of each start's rows whose validation error fell least."""
    scores: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.effect is not None and not row.refused:
            scores.setdefault(row.start, {})[row.name] = row.effect.validation.value
    kept = {start: better_half(own) for start, own in scores.items()}
    for row in rows:
        row.dropped = row.name not in kept.get(row.start, set())
