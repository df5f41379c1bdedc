"""A recipe opened: what travels through a run, a curve, a diagnosis or a study as one thing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Self, TypeVar

from geotl.console import Log, ProgressLine, silent
from geotl.data.samples import Samples
from geotl.experiments.draws import Draw, make_draw
from geotl.experiments.recipe import Recipe
from geotl.experiments.samples import TileSamples

Rows = TypeVar("Rows", bound=Samples)


@dataclass(frozen=True)
class Opened(Generic[Rows]):
    """A resolved recipe with its samples, the folder it writes into, and where its lines go.

    Attributes:
        recipe: resolved: nothing in it is left open.
        samples: the labelled tiles or pixels.
        folder: what is written goes into it, or below it.
        log: takes the lines of the result.
        quiet: show no progress.
        resume: go on with what an interrupted fit left in the folder.
    """

    recipe: Recipe
    samples: Rows
    folder: Path
    log: Log = silent
    quiet: bool = False
    resume: bool = False

    def progress(self) -> ProgressLine:
        """A line of progress, silent where the experiment is quiet."""
        return ProgressLine(quiet=self.quiet)

    def of(self, recipe: Recipe) -> Self:
        """Another recipe on the same samples."""
        return replace(self, recipe=recipe)

    def on(self, samples: Rows) -> Self:
        """The same recipe on other samples."""
        return replace(self, samples=samples)

    def inside(self, *folders: str) -> Self:
        """The same, fitted from the start and written into a folder inside this one."""
        return replace(self, folder=self.folder.joinpath(*folders), resume=False)


class Experiment(Opened[TileSamples]):
    """A recipe of task tiles, opened."""

    def draw(self, number: int) -> Draw:
        """The split of one draw of labels; see `make_draw`."""
        return make_draw(self.recipe, self.samples, number)
