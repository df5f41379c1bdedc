"""Tiles of a generator in a study: it learns anew from the tiles that each fold learns from."""

from __future__ import annotations

import time
from pathlib import Path

from geotl.data.manifest import write_synthetic
from geotl.experiments.draws import Draw, Source, with_synthetic
from geotl.experiments.recipe import Recipe
from geotl.studies.study_fits import Begin, Joined
from geotl.studies.study_techniques import GAN_TILES, changed
from geotl.synthetic.gan import GanSettings
from geotl.synthetic.trial import Made, beside, make_tiles

STEPS = 300  # of a generator's training, of which a study has many


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
                source,
                draw,
                GanSettings(steps=STEPS),
                per_class=GAN_TILES,
                seed=recipe.seed,
                told=self.begin() if self.begin else _nobody,
            )
            self._last = (key, made, time.perf_counter() - begun)
        return self._last[1:]

    def join(self, recipe: Recipe, source: Source, draw: Draw, scratch: Path) -> Joined:
        """The tiles of a draw with the made ones behind them, which are learnt from alone."""
        made, seconds = self.tiles(recipe, source, draw)
        both, alone = beside(source, draw, made, scratch)
        real_only = changed(recipe, {"data.synthetic": None})
        return Joined(
            real_only, both, with_synthetic(alone, both.index), alone.split.train, seconds
        )

    def keep(self, recipe: Recipe, source: Source, draw: Draw, folder: Path) -> Recipe:
        """Write the tiles that a recipe asks for, and name their folder in it, so that it runs."""
        made, _ = self.tiles(recipe, source, draw)
        write_synthetic(
            folder,
            made.images,
            made.labels,
            classes=source.index.classes,
            bands=source.pack.bands,
            sources=made.sources,
        )
        return changed(recipe, {"data.synthetic": str(folder)})
