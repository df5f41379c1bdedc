"""Tiles of a generator in a study: it learns anew from the tiles that each fold learns from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geotl.drawing import Draw, Source, with_synthetic
from geotl.generating import GanSettings
from geotl.generationparts import Made, Told, beside, make_tiles
from geotl.recipe import Recipe
from geotl.studytrials import GAN_TILES, GENERATED, changed
from geotl.syntheticfiles import write_synthetic

Begin = Callable[[], Told]

STEPS = 300  # of a generator's training, of which a study has many


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
    real: NDArray[np.int64]
    seconds: float = 0.0


def plain(recipe: Recipe, source: Source, draw: Draw) -> Joined:
    """A draw of real tiles alone."""
    return Joined(recipe, source, draw, draw.split.train)


def is_generated(recipe: Recipe) -> bool:
    """Whether a recipe asks for tiles of a generator that learns anew."""
    return recipe.data.synthetic == GENERATED


def _nobody(_done: int, _steps: int) -> None:
    """Nobody listens."""


class Generators:
    """Trains a generator for a draw, and holds the last one's tiles: several trials want them."""

    def __init__(self, begin: Begin | None = None) -> None:
        """Hold nothing yet; `begin` gives, for each generator, what is told of its steps."""
        self.begin = begin
        self._last: tuple[object, Made, float] | None = None

    def tiles(self, recipe: Recipe, source: Source, draw: Draw) -> tuple[Made, float]:
        """Tiles of a generator that learnt from a draw's training side, and the seconds it took.

        Raises:
            DataError: tiles too small, or a class without tiles.
        """
        key = (source.pack.fingerprint, recipe.seed, draw.split.train.tobytes())
        if self._last is None or self._last[0] != key:
            begun = time.perf_counter()
            made = make_tiles(
                source, draw, GanSettings(steps=STEPS), per_class=GAN_TILES, seed=recipe.seed,
                told=self.begin() if self.begin else _nobody,
            )  # fmt: skip
            self._last = (key, made, time.perf_counter() - begun)
        return self._last[1:]

    def join(self, recipe: Recipe, source: Source, draw: Draw, scratch: Path) -> Joined:
        """The tiles of a draw with the made ones behind them, which are learnt from alone."""
        made, seconds = self.tiles(recipe, source, draw)
        both, alone = beside(source, draw, made, scratch)
        real_only = changed(recipe, {"data.synthetic": None})
        return Joined(
            real_only, both, with_synthetic(alone, both.index), alone.split.train, seconds
        )  # fmt: skip


def kept(recipe: Recipe, source: Source, made: Made, folder: Path) -> Recipe:
    """Write the tiles that a recipe asks for, and name their folder in it, so that it runs."""
    write_synthetic(
        folder, made.images, made.labels, classes=source.index.classes,
        bands=source.pack.bands, sources=made.sources,
    )  # fmt: skip
    return changed(recipe, {"data.synthetic": str(folder)})
