"""The fits of a study: on folds inside the training labels, each kept as a small file.

A study holds the labelled tiles of one draw and nothing else: the tiles that a run is judged on
are not in the source that its trials see.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from geotl.arrays import Int64s, Pixels
from geotl.console import Progress
from geotl.data.splits import Split
from geotl.data.tile_array import Unread, packed
from geotl.errors import DataError, GeoTLError
from geotl.experiments.compare import fit_draw, judge
from geotl.experiments.draws import Draw, Source, folds_inside
from geotl.experiments.recipe import Recipe, dump
from geotl.io.files import write_text
from geotl.studies.study_effects import Errors
from geotl.studies.study_techniques import GENERATED, changed
from geotl.training.strategies import Fitted

Begin = Callable[[], Progress]

FORMAT = 1  # of the records; another number makes every fit anew


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
        recipe: for a source that holds its synthetic tiles already.
        source: the tiles.
        draw: who learns and who is held out.
        real: those learnt from that are real.
        seconds: that a generator's training took.
    """

    recipe: Recipe
    source: Source
    draw: Draw
    real: Int64s
    seconds: float = 0.0


def plain(recipe: Recipe, source: Source, draw: Draw) -> Joined:
    """A draw of real tiles alone."""
    return Joined(recipe, source, draw, draw.split.train)


def is_generated(recipe: Recipe) -> bool:
    """Whether a recipe asks for tiles of a generator that learns anew."""
    return recipe.data.synthetic == GENERATED


class TileGenerator(Protocol):
    """What makes synthetic tiles of a draw's training tiles; `synthetic` has the one there is."""

    def join(self, recipe: Recipe, source: Source, draw: Draw, scratch: Path) -> Joined:
        """The tiles of a draw with the synthetic ones behind them, on the training side alone."""

    def keep(self, recipe: Recipe, source: Source, draw: Draw, folder: Path) -> Recipe:
        """Write a draw's synthetic tiles into a folder; the recipe that reads them from there."""


def labelled_source(source: Source, rows: Int64s, cache: Path) -> Source:
    """A source of some tiles alone, packed below a cache folder."""
    whole = source.pack
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

    tiles = tuple(source.index.tiles[row] for row in rows)
    return Source(
        replace(source.index, tiles=tiles),
        source.sensor,
        packed(cache / key[:32], key, unread),
        quiet=True,
    )


def make_part(recipe: Recipe, labelled: Source, number: int) -> Part:
    """Part n of a study: fold n of the first round of folds, then of a second round, and so on.

    Folds go by the units of a spatial split (blocks, groups, scenes), as everywhere.

    Raises:
        DataError: too few labels for folds.
    """
    everything, none = np.arange(len(labelled.index), dtype=np.int64), np.zeros(0, np.int64)
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
        self, labelled: Source, folder: Path, generator: TileGenerator | None = None
    ) -> None:
        """Keep the records in `folder`; recipes with generated tiles need a generator."""
        self.labelled, self.folder, self.made = labelled, folder, 0
        self.generator = generator

    def known(self, recipe: Recipe, part: Part) -> bool:
        """Whether this fit was made."""
        return self._place(recipe, part).exists()

    def errors(self, recipe: Recipe, part: Part) -> Errors:
        """Errors of a recipe on a part, from its record or by fitting.

        Raises:
            GeoTLError: the recipe cannot be fitted to these tiles; that is kept too.
        """
        place = self._place(recipe, part)
        if not place.exists():
            self.made += 1
            try:
                told = asdict(self._fit(of_part(recipe, part), part))
            except OSError:  # a full disk is no trait of the recipe
                raise
            except GeoTLError as error:
                told = {"refused": str(error)}
            write_text(place, json.dumps({"format": FORMAT, "part": part.number} | told) + "\n")
        found = json.loads(place.read_text(encoding="utf-8"))
        if "refused" in found:
            raise DataError(found["refused"])
        return Errors(**{name: found[name] for name in Errors.__dataclass_fields__})

    def _place(self, recipe: Recipe, part: Part) -> Path:
        """Where the record of a fit lies: under a hash of its resolved recipe and its tiles."""
        digest = hashlib.sha256(f"{FORMAT}\n{dump(of_part(recipe, part))}".encode())
        split = part.draw.split
        digest.update(self.labelled.pack.fingerprint.encode())
        digest.update(split.train.tobytes() + b"held out" + split.test.tobytes())
        return self.folder / f"{digest.hexdigest()[:32]}.json"

    def _fit(self, recipe: Recipe, part: Part) -> Errors:
        with tempfile.TemporaryDirectory(prefix="geotl-study-") as scratch:
            folder, own = Path(scratch), plain(recipe, self.labelled, part.draw)
            if is_generated(recipe) and self.generator is not None:
                own = self.generator.join(recipe, own.source, own.draw, folder / "pack")
            begun = time.perf_counter()
            fitted, _ = fit_draw(own.recipe, own.source, own.draw, folder, resume=False, quiet=True)
            seconds = own.seconds + time.perf_counter() - begun
            held = own.draw.split.test
            shares = [wrong_share(own, fitted, rows) for rows in (own.real, held)]
        return Errors(shares[0], shares[1], len(own.real), len(held), seconds)


def wrong_share(own: Joined, fitted: Fitted, rows: Int64s) -> float:
    """Share of some tiles that a fitted network names wrongly, in evaluation mode."""
    draw = replace(own.draw, split=replace(own.draw.split, test=rows))
    said = judge(own.recipe, own.source, draw, fitted).argmax(axis=1)
    return float(np.mean(said != own.source.labels[rows]))
