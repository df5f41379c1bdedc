"""The model that follows the labels: fitted after each change, drawn tile by tile.

Three threads do the work. One fits the quick model to the newest labels and lets the map be drawn
again. One waits until no label has changed for a while, and then fits all members and measures.
One fills the store of features. Tiles are drawn in the threads of those who ask, at most as many
at once as there are processors. An error in a thread is published as an event of kind "fault" and
logged, and the next change works as before.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from geotl.data.labels import name_of
from geotl.experiments.pixel_networks import deep_networks
from geotl.experiments.pixel_samples import PixelSamples, pixel_rules, scene_features
from geotl.experiments.recipe import Recipe
from geotl.imagery.scene import Scene
from geotl.imagery.stacked import own_bands
from geotl.imagery.windows import Window
from geotl.labelling.feature_store import GB, FeatureStore
from geotl.labelling.feature_tiles import TilePlace, levels_of
from geotl.labelling.fitting import Fitting, project_recipe
from geotl.labelling.label_set import LabelSet
from geotl.labelling.map_tiles import LAYERS, LiveModel, TrainingTable
from geotl.labelling.placed_pixels import PlacedPixels, waiting_for
from geotl.labelling.tile_png import EMPTY
from geotl.labelling.workers import Newest, Stale
from geotl.models.pixel_features import BANDS, WIDE
from geotl.training.pixel_fusion import PixelFusion

REST_S = 1.5  # without a change, after which all members are fitted
PROGRESS_EVERY_S = 0.5


class Publish(Protocol):
    """Takes events; any thread may call it."""

    def __call__(self, kind: str, **values: object) -> None:
        """Send an event, with values that JSON knows."""
        ...


@dataclass(frozen=True)
class LearnerOptions:
    """How a learner works.

    Attributes:
        cache_gb: what features may take of the disk [GB].
        rest_s: time without a change after which all members are fitted [s].
        recipe: of the project's run; None for `project_recipe`.
    """

    cache_gb: float = 10.0
    rest_s: float = REST_S
    recipe: Recipe | None = None


DEFAULTS = LearnerOptions()


class Learner:
    """Fits models to the newest labels of a scene and draws their maps."""

    def __init__(
        self,
        scene: Scene,
        folder: Path,
        publish: Publish,
        *,
        weights: Path | None = None,
        options: LearnerOptions = DEFAULTS,
    ) -> None:
        """Prepare features, networks and threads; `start` begins.

        Args:
            scene: scene that is labelled.
            folder: of the features; it may be deleted between sessions.
            publish: takes the events.
            weights: file of weights for deep features, as the recipe's key model.weights.
            options: how the learner works.

        Raises:
            DataError: a damaged scene, or no room for features.
            WeightsError: weights that do not fit.
            OutputError: a folder that cannot be written.
        """
        self.scene, self._publish = scene, publish
        self.recipe = options.recipe or project_recipe(scene, weights)
        of = scene_features([scene], scene.sensor, self.recipe.pixels)
        networks = deep_networks(self.recipe, scene.sensor, own_bands(scene))
        rules = pixel_rules(self.recipe)
        self.pixels = PlacedPixels(scene, of, rules, networks)
        limit = int(options.cache_gb * GB)
        self.store = FeatureStore(scene, of, folder, all_bands=rules.all_bands, limit=limit)
        self._model: LiveModel | None = None
        self._versions, self._drawing = itertools.count(1), threading.Semaphore(os.cpu_count() or 1)
        self._fits = Newest("fit", self._fit, self._fault)
        self._rest = Newest("full fit", self._fit_fully, self._fault, rest_s=options.rest_s)
        self._filling = Newest("features", self._fill, self._fault)

    def start(self) -> None:
        """Begin to compute features and to follow the labels."""
        words = self.store.plan.words(self.scene.grid, self.store.room)
        if words is not None:
            self._publish("notice", message=words)
        for worker in (self._fits, self._rest, self._filling):
            worker.start()
        self._filling.give(self.store)

    def close(self) -> None:
        """End all threads, after the step that each is at."""
        self.store.close()
        for worker in (self._fits, self._rest, self._filling):
            worker.close()

    def changed(self, labels: LabelSet) -> None:
        """Take newer labels; returns at once."""
        self._fits.give(labels)

    def wait(self, timeout_s: float = 60.0, *, full: bool = False) -> bool:
        """Wait until the newest labels are fitted, `full` by all members; whether they are."""
        return self._fits.wait(timeout_s) and (not full or self._rest.wait(timeout_s))

    def tile(self, layer: str, each: int, x: int, y: int) -> bytes | None:
        """A PNG [256,256] of a layer of the newest model; None before there is one.

        Args:
            layer: classes, confidence or applicability; see `map_tiles`.
            each: pixels of the scene, along a side, to a pixel of the tile: 1, 2, 4 and so on.
            x: number of the tile from the left.
            y: number of the tile from the top.

        Raises:
            DataError: a file of the scene is damaged or gone.
        """
        model, place = self._model, TilePlace(each, x, y)
        if model is None or layer not in LAYERS:
            return None
        if each not in levels_of(self.scene.grid) or min(x, y) < 0:
            return EMPTY
        with self.store.asking(), self._drawing:
            return model.picture(layer, self.store.tile(place))

    def at(self, col: float, row: float) -> dict[str, Any]:
        """What is known of the pixel at a place, counted from the scene's upper left corner.

        Returns:
            `bands`: value of each band, None where it is not valid; `probabilities`: of each
            class, empty before there is a model; `applicability`: dissimilarity over its threshold,
            above 1 outside the area of applicability, None where it is not known.
        """
        place = int(np.floor(row)), int(np.floor(col))
        grid = self.scene.grid
        if not (0 <= place[0] < grid.height and 0 <= place[1] < grid.width):
            return {"bands": {}, "probabilities": {}, "applicability": None}
        data, valid = self.scene.read(Window(*place, 1, 1))
        values = zip(self.scene.bands, data[:, 0, 0].tolist(), valid[:, 0, 0].tolist(), strict=True)
        facts: dict[str, Any] = {
            "bands": {band: value if good else None for band, value, good in values},
            "probabilities": {},
            "applicability": None,
        }
        model = self._model
        if model is None or not self.pixels.rules.good(valid[:, 0, 0]):
            return facts
        features, _ = self.pixels.described([place])
        chances = np.exp(model.model.log_probabilities(features)[0]).tolist()
        unlike = model.dissimilarity(features)
        facts["probabilities"] = dict(zip(model.model.classes, chances, strict=True))
        facts["applicability"] = None if unlike is None else float(unlike[0])
        return facts

    def _fit(self, labels: LabelSet, stale: Stale) -> None:
        """Fit the quick model to labels and publish it."""
        begun = time.perf_counter()
        with self.store.asking():
            samples = self.pixels.samples(labels)
            lacking = waiting_for(samples, labels)
            if lacking is not None:
                self._model = None
                self._publish("waiting", message=lacking)
                return
            fitting = Fitting(self.recipe, samples)
            fusion = fitting.fusion(fitting.every, quick=True)
            if not stale():
                self._show(labels, fitting, fusion, "quick", time.perf_counter() - begun)
        self._rest.give((labels, fitting))

    def _fit_fully(self, item: tuple[LabelSet, Fitting], stale: Stale) -> None:
        """Fit all members, when no label has changed for a while."""
        labels, fitting = item
        begun = time.perf_counter()
        fusion = fitting.fusion(fitting.every, quick=False)
        if not stale():
            self._show(labels, fitting, fusion, "full", time.perf_counter() - begun)

    def _show(
        self, labels: LabelSet, fitting: Fitting, fusion: PixelFusion, stage: str, seconds: float
    ) -> None:
        """Let a fusion be the newest model, and publish it."""
        samples = fitting.samples
        deep = samples.networks.pretrained if samples.networks else None
        model = LiveModel(
            next(self._versions),
            labels.revision,
            stage,
            fusion.model(samples.of, samples.classes, deep),
            colours_of(labels, samples),
            training_table(samples, fitting),
        )
        waited, self._model = self._model is None, model
        if waited:
            self._publish("waiting", message="")  # for nothing any more
        self._publish(
            "model",
            version=model.version,
            revision=model.revision,
            stage=stage,
            members={name: round(weight, 4) for name, weight in fusion.weights.items()},
            seconds=round(seconds, 3),
        )

    def _fill(self, store: FeatureStore, stale: Stale) -> None:
        """Fill the store and publish how far it is."""
        last, total = 0.0, 0
        for done, total in store.fill():
            if stale():
                return
            if time.monotonic() - last > PROGRESS_EVERY_S:
                last = time.monotonic()
                self._publish("progress", what="features of the scene", done=done, total=total)
        if total:
            self._publish("progress", what="features of the scene", done=total, total=0)

    def _fault(self, name: str, error: BaseException) -> None:
        self._publish("fault", message=f"{name}: {error}")


def colours_of(labels: LabelSet, samples: PixelSamples) -> tuple[str, ...]:
    """The colour of each class of the samples, as the labels have it."""
    by_name: Mapping[str, str] = {name_of(one.name) or "": one.colour for one in labels.classes}
    return tuple(by_name[name] for name in samples.classes)


def training_table(samples: PixelSamples, fitting: Fitting) -> TrainingTable:
    """What applicability is measured from."""
    blocks = [samples.features[name] for name in (BANDS, WIDE) if name in samples.features]
    return TrainingTable(np.concatenate(blocks).T.copy(), fitting.folds)
