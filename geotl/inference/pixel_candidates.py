"""Pixels of scenes that could be labelled next, and what a pixel model predicts of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Bools, Float64s, Int64s
from geotl.console import Progress
from geotl.data.chips import Occupied
from geotl.data.pixel_labels import PixelRules, pixel_lattice, read_squares
from geotl.imagery.sensors import rescaled
from geotl.imagery.windows import Imagery, Window
from geotl.inference.candidates import Candidates, SearchedBlock
from geotl.inference.pixel_area import FeatureSpace
from geotl.models.deep_features import DEEP
from geotl.models.pixel_features import BlockFeatures, Features
from geotl.models.pixel_file import PixelModelFile
from geotl.models.pixel_model import PixelModel

NEAR_PX = 7  # side of the square about a labelled pixel in which no pixel is suggested


@dataclass(frozen=True)
class PixelSearch:
    """The search through the pixels of scenes.

    Attributes:
        file: the model.
        space: feature space of the comparison.
        step_px: side of the cells that give one candidate each.
        seed: seed of the choice of a pixel in each cell.
    """

    file: PixelModelFile
    space: FeatureSpace
    step_px: int
    seed: int

    def blocks(
        self,
        scenes: Sequence[Imagery],
        occupied: Sequence[Occupied],
        progress: Progress | None = None,
    ) -> Iterator[SearchedBlock]:
        """Go through the candidates of scenes, square by square.

        Left out are pixels near labelled ones, under cloud, and without the bands that the model
        wants.

        Args:
            scenes: scenes with the model's bands; DN are converted to those of its sensor.
            occupied: the labelled areas in each scene.
            progress: called with squares done and squares in all.
        """
        model = self.file.model
        stride = model.deep.stride if model.deep else 1
        places = [pixel_lattice(scene.grid, self.step_px, self.seed) for scene in scenes]
        squares = [
            (number, scene_places[rows], window)
            for number, scene_places in enumerate(places)
            for rows, window in read_squares(scene_places, model.halo, stride)
        ]
        for done, (number, some, window) in enumerate(squares):
            yield self._searched(scenes[number], number, some, window, occupied[number])
            if progress:
                progress(done + 1, len(squares))

    def _searched(
        self, scene: Imagery, number: int, places: Int64s, window: Window, occupied: Occupied
    ) -> SearchedBlock:
        """The candidates of a square."""
        data, valid = scene.read(window)
        at = (places - (window.row, window.col)).T
        rules = PixelRules(all_bands=self.file.model.features.missing_bands == "exclude")
        good = rules.good(valid[:, at[0], at[1]]) & ~scene.cloudy(window)[at[0], at[1]]
        free = ~occupied.meets([_square(place) for place in places[good].tolist()])
        usable = np.flatnonzero(good)[free]
        count, wanted = self.file.model.features.scene_band_count, self.file.contract.sensor
        image = np.concatenate([rescaled(data[:count], scene.sensor, wanted), data[count:]])
        features, probabilities = self._described(image, valid, at[:, usable])
        owner = np.full(len(usable), number, np.int64)
        candidates = Candidates(owner, places[usable], features, probabilities)
        return SearchedBlock(len(places), int((~free).sum()), int((~good).sum()), candidates)

    def _described(
        self, image: NDArray[np.generic], valid: Bools, at: Int64s
    ) -> tuple[Float64s, Float64s]:
        """Features in the space [n,D] and probabilities [n,K] of pixels of a window."""
        if not at.shape[1]:
            return np.zeros((0, len(self.space.mean))), np.zeros((0, len(self.file.model.classes)))
        features = pixel_features(self.file.model, image, valid, at)
        table = np.concatenate([features[name] for name in self.file.model.features.names]).T
        return self.space.place(table), self.file.model.probabilities(features).T.astype(np.float64)


def pixel_features(
    model: PixelModel, image: NDArray[np.generic], valid: Bools, at: Int64s
) -> Features:
    """Features [D,n] by block of pixels, at rows and columns [2,n] of a window with its halo."""
    block = BlockFeatures(model.features, image, valid)
    features = block.at(at[0], at[1])
    if model.deep is not None:
        features[DEEP] = model.deep.at(block.standardised(), at[0], at[1])
    return features


def _square(place: Sequence[int]) -> Window:
    """The square about a pixel that no labelled pixel may touch."""
    half = NEAR_PX // 2
    return Window(place[0] - half, place[1] - half, NEAR_PX, NEAR_PX)
