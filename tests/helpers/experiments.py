"""Recipes opened as experiments, without a word."""

from __future__ import annotations

from pathlib import Path

from geotl.console import silent
from geotl.experiments.build import settle
from geotl.experiments.experiment import Experiment
from geotl.experiments.named import recipe_sensor
from geotl.experiments.recipe import Recipe
from geotl.experiments.samples import TileSamples, read_samples


def samples_of(recipe: Recipe) -> TileSamples:
    """What a recipe learns from."""
    return read_samples(recipe, recipe_sensor(recipe), silent, quiet=True)


def quietly(recipe: Recipe, samples: TileSamples, folder: Path = Path("unwritten")) -> Experiment:
    """A resolved recipe and its samples as an experiment."""
    return Experiment(recipe, samples, folder, quiet=True)


def opened(recipe: Recipe, folder: Path = Path("unwritten")) -> Experiment:
    """A recipe read and resolved."""
    samples = samples_of(recipe)
    return quietly(settle(recipe, samples, silent), samples, folder)
