"""What is fitted to the labels of a project: the recipe of its run, its folds, its members.

The quick model is the fusion of the linear members alone, fitted as `geotl run` fits them, with
the same folds; the full one has every member. The folds are those of the recipe that the finished
project gets.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geotl.arrays import Int64s
from geotl.console import silent
from geotl.data.splits import Split
from geotl.errors import DataError
from geotl.experiments.draws import Draw
from geotl.experiments.pixel_draws import (
    NOTHING,
    folded_at_random,
    kept_draw,
    pixel_draws,
    settle_folds,
)
from geotl.experiments.pixel_samples import PixelSamples
from geotl.experiments.pixels import PixelRun, fit_on
from geotl.experiments.recipe import Recipe
from geotl.experiments.schema import SplitSection
from geotl.imagery.scene import Scene
from geotl.labelling.project_recipe import label_places, split_of
from geotl.training.pixel_fusion import MEMBERS, PixelFusion
from geotl.training.pixel_members import fit_discriminant

LINEAR = tuple(name for name, one in MEMBERS.items() if one.fitter is fit_discriminant)


def project_recipe(scene: Scene, weights: Path | None = None) -> Recipe:
    """The recipe of a project's run: task pixels, tested in five folds of blocks.

    Args:
        scene: that is labelled.
        weights: a file of weights for deep features; None for none.
    """
    return Recipe.model_validate(
        {
            "task": "pixels",
            "data": {
                "scenes": [str(scene.path)],
                "sensor": scene.sensor.name,
                "bands": list(scene.bands),
            },
            "labels": {"path": "labels.gpkg", "field": "class", "id_field": "id"},
            "split": {"method": "blocks", "kfold": 5},
            "model": {"weights": "none" if weights is None else str(weights)},
        }
    )


class Fitting:
    """The fits of one set of labels.

    Attributes:
        samples: pixels of the labels.
        recipe: with the split that so many labels allow.
        draws: its folds; none where the labels allow none.
        blocked: whether these are folds over blocks of the scene, no smaller than the windows that
            describe a pixel reach: in smaller ones neighbours would test each other.
    """

    def __init__(self, recipe: Recipe, samples: PixelSamples) -> None:
        """Resolve the folds of the labels."""
        self.samples, grid = samples, samples.imagery[0].grid
        split = split_of(label_places(samples.placement, grid))
        sections = recipe.split.model_dump() | split
        self.recipe = recipe.model_copy(update={"split": SplitSection.model_validate(sections)})
        try:
            self.recipe = settle_folds(self.recipe, samples, silent)
            self.draws = pixel_draws(self.recipe, samples)
        except DataError:  # labels that are all alike or all in one place
            self.draws = []
        side, reach = self.recipe.split.block_m, samples.of.halo * samples.footprints.sides.max()
        self.blocked = bool(self.draws) and side is not None and side >= reach

    @property
    def every(self) -> Draw:
        """All labels for training, with folds inside them."""
        if self.draws:
            return kept_draw(self.recipe, self.samples)
        rows = np.arange(len(self.samples), dtype=np.int64)
        return folded_at_random(
            self.recipe, self.samples, Draw(0, Split(rows, NOTHING, NOTHING), [])
        )

    @property
    def folds(self) -> Int64s:
        """The fold that each pixel is tested in [N]; -1 without folds."""
        fold = np.full(len(self.samples), -1, np.int64)
        for draw in self.draws:
            fold[draw.split.test] = draw.number
        return fold

    def fusion(self, draw: Draw, *, quick: bool) -> PixelFusion:
        """The fusion of a draw's training pixels, of linear members alone or of all."""
        available = {*self.samples.blocks}
        quick_names = tuple(name for name in LINEAR if {*MEMBERS[name].blocks} <= available)
        members = quick_names if quick else self.recipe.pixels.members
        settings = self.recipe.pixels.model_copy(update={"members": members})
        recipe = self.recipe.model_copy(update={"pixels": settings})
        return fit_on(PixelRun(recipe, self.samples, Path(), quiet=True), draw)
