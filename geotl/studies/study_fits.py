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
from geotl.language import msg
from geotl.studies.study_effects import Effect, Errors, better_half, effect, mean_errors, rungs
from geotl.studies.study_techniques import GENERATED, Start, Trial, changed, pair

Begin = Callable[[], Progress]

FORMAT = 1  # of the records; with another number every fit is computed again
REFUSED = "refused"  # key of a record's reason why its recipe cannot be fitted


@dataclass(frozen=True)
class Part:
    """One way to hold tiles out: a fold of the labels, with the seed of all that is random.

    `draw.split.train` are the training tiles, `draw.split.test` the held-out ones.
    """

    number: int
    seed: int
    draw: Draw


@dataclass(frozen=True)
class Joined:
    """What is fitted, and on which tiles.

    Attributes:
        experiment: its samples contain the synthetic tiles already.
        draw: training and held-out tiles.
        real: the real training tiles.
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
    """Whether a recipe asks for tiles of a generator that is trained for each fold."""
    return recipe.data.synthetic == GENERATED


def _is_fit(record: Mapping[str, Any]) -> bool:
    """Whether a record has what one of a fit holds."""
    values = {name: value for name, value in record.items() if name not in ("format", "part")}
    if values.keys() == {REFUSED}:
        return isinstance(values[REFUSED], str)
    numbers = all(isinstance(value, int | float) for value in values.values())
    return numbers and values.keys() == Errors.__dataclass_fields__.keys()


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
    pack = samples.pack
    key = hashlib.sha256(f"rows of {pack.fingerprint}".encode() + rows.tobytes()).hexdigest()

    def pixels() -> Generator[Pixels, None, None]:
        for row in rows:
            image = np.asarray(pack.images[row])
            mask = np.ones(image.shape, bool) if pack.valid is None else pack.valid[row]
            yield image, np.asarray(mask)

    def unread() -> Unread:
        return Unread(
            pixels(),
            (len(rows), *pack.images.shape[1:]),
            pack.images.dtype,
            pack.bands,
            [pack.footprints[row] for row in rows],
            [pack.crs[row] for row in rows],
            [pack.acquired[row] for row in rows],
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
    undivided = Draw(0, Split(everything, none, none), [])
    first = folds_inside(recipe, labelled, undivided)
    if not first:
        raise DataError(
            "one label per class: a study tests by folds inside the labels, for which each class "
            "needs two at least; label more, or raise split.shots"
        )
    seeded = changed(recipe, {"seed": recipe.seed + number})
    dealt = changed(recipe, {"seed": recipe.seed + number // len(first)})
    folds = folds_inside(dealt, labelled, undivided) or first
    fit, held_out = folds[number % len(folds)]
    draw = Draw(0, Split(everything[fit], everything[held_out], none), [])
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
        made: fits computed by this object, without those read from records.
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
        record = self._kept(place)
        if record is None:
            self.made += 1
            try:
                record = asdict(self._fit(of_part(recipe, part), part))
            except OSError:  # a full disk is no trait of the recipe
                raise
            except GeoTLError as error:
                record = {REFUSED: str(error)}
            write_record(place, {"format": FORMAT, "part": part.number} | record)
        if REFUSED in record:
            raise DataError(record[REFUSED])
        return Errors(**{name: record[name] for name in Errors.__dataclass_fields__})

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
            prepared = plain(fresh, part.draw)
            if is_generated(recipe) and self.generator is not None:
                prepared = self.generator.join(fresh, part.draw)
            begun = time.perf_counter()
            fit = fit_draw(prepared.experiment, prepared.draw)
            seconds = prepared.seconds + time.perf_counter() - begun
            held_out = prepared.draw.split.test
            shares = [
                wrong_share(prepared.experiment, fit, rows) for rows in (prepared.real, held_out)
            ]
        return Errors(shares[0], shares[1], len(prepared.real), len(held_out), seconds)


def wrong_share(experiment: Experiment, fit: FittedDraw, rows: Int64s) -> float:
    """Share of some tiles that a fitted network classifies incorrectly, in evaluation mode."""
    draw = replace(fit.draw, split=replace(fit.draw.split, test=rows))
    predicted = logits_of_test(experiment, replace(fit, draw=draw)).argmax(axis=1)
    return float(np.mean(predicted != experiment.samples.labels[rows]))


@dataclass
class TrialRow:
    """A trial and its results; `refused` is the reason why it could not be run.

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
    """All results of a study.

    Attributes:
        recipe: as it is, with everything resolved.
        bases: the starting points.
        tiles: training and held-out tiles of the first fold, labels in all.
        seeds: folds, each with a seed of its own, that a trial is fitted on at most.
        fits: computed in this run.
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
                row.refused = msg("not tried: there is no generator of tiles")

    @property
    def folds(self) -> int:
        """Most folds behind a row."""
        return max((row.effect.parts for row in self.rows if row.effect), default=0)

    def ranked(self, start: Start) -> list[TrialRow]:
        """Rows of a start, the greatest fall in validation error first; those without one last."""
        rows = [row for row in self.rows if row.start == start]
        return sorted(rows, key=lambda row: row.effect.validation.value if row.effect else 9.0)


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
    results: Found, race: Race, parts: Sequence[Part], counter: Callable[[str], Progress]
) -> None:
    """Fit both sides of every row, rung by rung, and note the effects.

    Raises:
        GeoTLError: a starting point cannot be fitted to these tiles.
    """
    done = 0
    steps = rungs(len(parts))
    for number, rung in enumerate(steps, start=1):
        alive = [row for row in results.rows if not (row.refused or row.dropped)]
        progress = counter(f"rung {number}/{len(steps)}, fits")
        _run_rung(results, race, parts[done:rung], alive, progress)
        for row in alive:
            off, on = pair(results.bases[row.start], row.trial) if not row.refused else (None, None)
            if off is not None and on is not None:
                row.effect = effect(race.of(on), race.of(off))
        if race.over:
            break
        if number < len(steps):
            halve(alive)
        done = rung
    for start, base in results.bases.items():
        if errors := race.of(base):
            results.base_errors[start] = mean_errors(list(errors.values()))


def _run_rung(
    results: Found, race: Race, parts: Sequence[Part], rows: Sequence[TrialRow], progress: Progress
) -> None:
    """Fit starting points and rows on some more parts, a part after the other."""
    total, count = len(parts) * (len(results.bases) + len(rows)), 0
    for part in parts:
        for base in results.bases.values():
            if not race.fit(base, part):
                return
            count += 1
            progress(count, total)
        for row in rows:
            if not row.refused and not _fit_row(results, race, part, row):
                return
            count += 1
            progress(count, total)


def _fit_row(results: Found, race: Race, part: Part, row: TrialRow) -> bool:
    """Fit both sides of a row on a part; a row that cannot be run keeps the reason."""
    try:
        return all(race.fit(side, part) for side in pair(results.bases[row.start], row.trial))
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
    better = {start: better_half(scored) for start, scored in scores.items()}
    for row in rows:
        row.dropped = row.name not in better.get(row.start, set())
