"""Tiles of a generator in a study: it learns anew from the tiles that each fold learns from."""

from __future__ import annotations

import time
from pathlib import Path

from geotl.data.manifest import write_synthetic
from geotl.experiments.draws import Draw, with_synthetic
from geotl.experiments.experiment import Experiment
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

    def tiles(self, experiment: Experiment, draw: Draw) -> tuple[Made, float]:
        """Tiles of a generator that learnt from a draw's training side, and the seconds it took.

        Raises:
            DataError: tiles too small, or a class without tiles.
        """
        samples, seed = experiment.samples, experiment.recipe.seed
        key = (samples.pack.fingerprint, seed, draw.split.train.tobytes())
        if self._last is None or self._last[0] != key:
            begun = time.perf_counter()
            made = make_tiles(
                samples,
                draw,
                GanSettings(steps=STEPS),
                per_class=GAN_TILES,
                seed=seed,
                told=self.begin() if self.begin else _nobody,
            )
            self._last = (key, made, time.perf_counter() - begun)
        return self._last[1:]

    def join(self, experiment: Experiment, draw: Draw) -> Joined:
        """The tiles of a draw with the made ones behind them, which are learnt from alone."""
        made, seconds = self.tiles(experiment, draw)
        both, alone = beside(experiment.samples, draw, made, experiment.folder / "pack")
        real_only = changed(experiment.recipe, {"data.synthetic": None})
        inner = experiment.of(real_only).on(both)
        return Joined(inner, with_synthetic(alone, both), alone.split.train, seconds)

    def keep(self, experiment: Experiment, draw: Draw, folder: Path) -> Recipe:
        """Write the tiles that a recipe asks for, and name their folder in it, so that it runs."""
        made, _ = self.tiles(experiment, draw)
        samples = experiment.samples
        write_synthetic(
            folder,
            made.images,
            made.labels,
            classes=samples.classes,
            bands=samples.pack.bands,
            sources=made.sources,
        )
        return changed(experiment.recipe, {"data.synthetic": str(folder)})
