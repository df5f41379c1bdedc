"""Synthetic tiles in a study: the generator is trained again on the training tiles of each fold."""

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
from geotl.synthetic.trial import SyntheticTiles, join_samples, make_tiles

STEPS = 300  # of a generator's training, of which a study has many


def _no_progress(_done: int, _steps: int) -> None:
    """No progress is shown."""


class Generators:
    """Trains a generator for a repeat, and caches the last one's tiles for several trials."""

    def __init__(self, begin: Begin | None = None) -> None:
        """Start without tiles; `begin` gives the progress callback of each generator."""
        self.begin = begin
        self._last: tuple[object, SyntheticTiles, float] | None = None

    def tiles(self, experiment: Experiment, draw: Draw) -> tuple[SyntheticTiles, float]:
        """Tiles of a generator trained on a repeat's training side, and the seconds it took.

        Raises:
            DataError: tiles too small, or a class without tiles.
        """
        samples, seed = experiment.samples, experiment.recipe.seed
        key = (samples.pack.fingerprint, seed, draw.split.train.tobytes())
        if self._last is None or self._last[0] != key:
            begun = time.perf_counter()
            synthetic = make_tiles(
                samples,
                draw,
                GanSettings(steps=STEPS),
                per_class=GAN_TILES,
                seed=seed,
                progress=self.begin() if self.begin else _no_progress,
            )
            self._last = (key, synthetic, time.perf_counter() - begun)
        return self._last[1:]

    def join(self, experiment: Experiment, draw: Draw) -> Joined:
        """The tiles of a repeat, followed by the synthetic ones, which are only trained on."""
        synthetic, seconds = self.tiles(experiment, draw)
        both, alone = join_samples(experiment.samples, draw, synthetic, experiment.folder / "pack")
        real_only = changed(experiment.recipe, {"data.synthetic": None})
        inner = experiment.of(real_only).on(both)
        return Joined(inner, with_synthetic(alone, both), alone.split.train, seconds)

    def keep(self, experiment: Experiment, draw: Draw, folder: Path) -> Recipe:
        """Write the tiles of a repeat, and return the recipe with their folder, so that it runs."""
        synthetic, _ = self.tiles(experiment, draw)
        samples = experiment.samples
        write_synthetic(
            folder,
            synthetic.images,
            synthetic.labels,
            classes=samples.classes,
            bands=samples.pack.bands,
            sources=synthetic.sources,
        )
        return changed(experiment.recipe, {"data.synthetic": str(folder)})
