"""The model that follows the labels: fitted after each change, drawn tile by tile.

Four threads do the work. One fits the quick model to the newest labels and lets the map be drawn
again. One waits until no label has changed for a while, measures the quick model, and then fits all
members and measures those. One chooses the places to label next. One fills the store of features.
The last three leave the processors to whoever clicks or looks. Tiles are drawn in a pool of as many
threads as there are processors. An error in a thread is published as an event of kind "fault" and
logged, and the next change works as before.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from geotl.arrays import Float32s
from geotl.data.labels import name_of
from geotl.experiments.pixel_networks import deep_networks
from geotl.experiments.pixel_samples import PixelSamples, pixel_rules, scene_features
from geotl.experiments.recipe import Recipe
from geotl.imagery.scene import Scene
from geotl.imagery.stacked import own_bands
from geotl.imagery.windows import Window
from geotl.inference.typical_choice import FEW_LABELS
from geotl.labelling.feature_store import GB, FeatureStore
from geotl.labelling.feature_tiles import TileFeatures, TilePlace, levels_of
from geotl.labelling.fitting import Fitting, project_recipe
from geotl.labelling.label_set import LabelSet
from geotl.labelling.map_tiles import LAYERS, LiveModel, TrainingTable
from geotl.labelling.measuring import Curve, measure, no_accuracy, too_few
from geotl.labelling.next_places import Candidates, Labelled, next_places
from geotl.labelling.parts import Publish
from geotl.labelling.placed_pixels import PlacedPixels, waiting_for
from geotl.labelling.tiles import EMPTY
from geotl.labelling.workers import Newest, Stale
from geotl.mapping.options import MapOptions
from geotl.mapping.plan import interest_in
from geotl.mapping.task import Reading
from geotl.models.pixel_features import BANDS, WIDE, Features
from geotl.models.pixel_model import title_of
from geotl.training.pixel_fusion import PixelFusion, since

REST_S = 1.5  # without a change, after which all members are fitted
MEASURE_S = 0.4  # without a change, after which the quick model is measured
PROGRESS_EVERY_S = 0.5


@dataclass(frozen=True)
class LearnerOptions:
    """How a learner works.

    Attributes:
        cache_gb: what features may take of the disk [GB].
        rest_s: time without a change after which all members are fitted [s].
        recipe: of the project's run; None for `project_recipe`.
        curve: file of accuracy against labels; None for accuracy.jsonl beside the features.
        area: the part of the scene that is labelled and drawn; None for all of it.
        smooth_px: side of the windows in which the map of all members is smoothed [px], odd;
            1 for none. The quick model's map, which follows each click, is not smoothed.
    """

    cache_gb: float = 10.0
    rest_s: float = REST_S
    recipe: Recipe | None = None
    curve: Path | None = None
    area: Window | None = None
    smooth_px: int = 1


DEFAULTS = LearnerOptions()


@dataclass(frozen=True)
class LiveFit:
    """A fusion that was fitted to labels.

    Attributes:
        labels: these.
        fitting: their pixels and folds.
        fusion: of these pixels.
        stage: quick or full.
        seconds: that the fit took.
    """

    labels: LabelSet
    fitting: Fitting
    fusion: PixelFusion
    stage: str
    seconds: float

    def event(self) -> dict[str, Any]:
        """The event `model`, without the version and the smoothing."""
        return {
            "revision": self.labels.revision,
            "stage": self.stage,
            "members": {title_of(n): round(weight, 4) for n, weight in self.fusion.weights.items()},
            "seconds": round(self.seconds, 3),
        }


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
        networks = deep_networks(without_random(self.recipe), scene.sensor, own_bands(scene))
        deep = None if networks is None else networks.pretrained
        rules = pixel_rules(self.recipe)
        self.pixels = PlacedPixels(scene, of, rules, networks)
        limit = int(options.cache_gb * GB)
        what = TileFeatures(scene, of, rules.all_bands, options.area)
        self.store = FeatureStore(scene, what, folder, limit=limit, deep=deep)
        self.curve = Curve(options.curve or folder.parent / "accuracy.jsonl")
        self._model: LiveModel | None = None
        self._newest, self._candidates = LabelSet(), list[Candidates]()
        self._tested = -1  # revision of the labels with which all members were measured
        self._versions, self._drawing = itertools.count(1), ThreadPoolExecutor(os.cpu_count() or 1)
        self._rest_s, self._showing = options.rest_s, threading.Lock()
        self._smooth_px = options.smooth_px
        self._limits: threadpool_limits | None = None
        first_s = min(MEASURE_S, options.rest_s)
        self._fits = Newest("fit", self._fit, self._fault)
        self._rest = Newest("full fit", self._follow, self._fault, rest_s=first_s, nice=True)
        self._places = Newest("next places", self._suggest, self._fault, nice=True)
        self._filling = Newest("features", self._fill, self._fault, nice=True)

    @property
    def _workers(self) -> tuple[Newest[Any], ...]:
        return self._fits, self._rest, self._places, self._filling

    def start(self) -> None:
        """Begin to compute features and to follow the labels."""
        words = self.store.notice()
        if words is not None:
            self._publish("notice", message=words)
        self._publish("curve", points=self.curve.points)
        # several threads work at once, which would wait for each other's threads
        self._limits = threadpool_limits(1)
        for worker in self._workers:
            worker.start()
        self._filling.give(self.store)

    def close(self) -> None:
        """End all threads, after the step that each is at."""
        self._model = None
        self.store.close()
        for worker in self._workers:
            worker.close()
        self._drawing.shutdown()
        if self._limits is not None:
            self._limits.restore_original_limits()

    def changed(self, labels: LabelSet) -> None:
        """Take newer labels; returns at once."""
        self._fits.give(labels)

    def wait(self, timeout_s: float = 60.0, *, full: bool = False) -> bool:
        """Wait until the newest labels are fitted, or until all work is done; whether it is."""
        workers = (self._fits, *self._workers) if full else (self._fits,)
        return all(worker.wait(timeout_s) for worker in workers)

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
        with self.store.asking():  # in few threads: each keeps memory for the next tile
            return self._drawing.submit(self._picture, model, layer, place).result()

    def _picture(self, model: LiveModel, layer: str, place: TilePlace) -> bytes:
        tile = self.store.tile(place)
        if model.smooths(layer, place.each) and place.each in self.store.plan.kept:
            return model.smooth_picture(layer, tile, model.smoothed(self.store, place))
        logits = None if layer == "applicability" else model.logits(self.store, place)
        return model.picture(layer, tile, logits)

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
        chances = self._probabilities(model, features, place)
        unlike = model.dissimilarity(features)
        facts["probabilities"] = dict(zip(model.model.classes, chances, strict=True))
        facts["applicability"] = None if unlike is None else float(unlike[0])
        return facts

    def _probabilities(
        self, model: LiveModel, features: Features, place: tuple[int, int]
    ) -> list[float]:
        """Probabilities of a pixel's classes, smoothed where its map is."""
        if model.smooths("classes", 1) and 1 in self.store.plan.kept:
            return [*map(float, model.probabilities_at(self.store, *place))]
        return [*map(float, np.exp(model.model.log_probabilities(features)[0]))]

    def _fit(self, labels: LabelSet, stale: Stale) -> None:
        """Fit the quick model to labels and publish it."""
        begun, self._newest = time.perf_counter(), labels
        self._rest.give(None)
        with self.store.asking():
            samples = self.pixels.samples(labels)
            lacking = waiting_for(samples, labels)
            if lacking is not None:
                self._model = None
                self._publish("waiting", message=lacking)
                self._publish("doubts", labels=[])
                few = too_few(len(samples.placement.labels))
                self._publish("accuracy", message=few or lacking, revision=labels.revision)
            else:
                fitting = Fitting(self.recipe, samples)
                fusion = fitting.fusion(fitting.every, quick=True)
                self._show(LiveFit(labels, fitting, fusion, "quick", since(begun)), stale)
                self._rest.give((labels, fitting))
        self._places.give(samples)

    def _follow(self, item: tuple[LabelSet, Fitting], stale: Stale) -> None:
        """Measure the quick model, then fit all members and measure them."""
        labels, fitting = item
        self._measure(labels, fitting, stale, quick=True)
        if stale.within(self._rest_s - MEASURE_S):
            return
        begun = time.perf_counter()
        fusion = fitting.fusion(fitting.every, quick=False)
        self._show(LiveFit(labels, fitting, fusion, "full", since(begun)), stale)
        self._measure(labels, fitting, stale, quick=False)

    def _measure(self, labels: LabelSet, fitting: Fitting, stale: Stale, *, quick: bool) -> None:
        """Publish accuracy and doubtful labels, and of the quick model a point of the curve."""
        message = no_accuracy(fitting)
        if message is not None:
            self._publish("accuracy", message=message, revision=labels.revision)
            self._publish("doubts", labels=[])
            return
        measured = measure(fitting, stale, quick=quick)
        if measured is None or stale():
            return
        if not quick:
            self._tested = labels.revision
        if not quick or labels.revision > self._tested:  # no quick value after one of all members
            stage = "quick" if quick else "full"
            self._publish("accuracy", revision=labels.revision, stage=stage, **measured.event())
            self._publish("doubts", labels=measured.doubtful())
        if quick:
            self.curve.add(measured)
            self._publish("curve", points=self.curve.points)

    def _suggest(self, samples: PixelSamples, stale: Stale) -> None:
        """Publish the places to label next."""
        if not self._candidates:  # until the coarsest features are there, which begins it again
            return
        places = [(pixel.place.row, pixel.place.col) for pixel in samples.placement.pixels]
        known = Labelled(
            np.array(places, np.int64).reshape(-1, 2),
            training_features(samples) if places else np.zeros((0, 0), np.float32),
            len(samples.placement.labels),
        )
        candidates, model = self._candidates[0], self._model
        few = model is None or known.labels < FEW_LABELS
        probabilities = None if model is None or few else candidates.predicted(model, self.store)
        chosen = next_places(candidates, known, self.pixels.of, probabilities)
        if not stale():
            numbered = [
                {"number": number, "col": place.col + 0.5, "row": place.row + 0.5, "why": place.why}
                for number, place in enumerate(chosen, start=1)
            ]
            self._publish("suggestions", places=numbered)

    def _show(self, fit: LiveFit, stale: Stale) -> None:
        """Let a fusion be the newest model, and publish it, unless its labels are out of date."""
        samples, networks = fit.fitting.samples, fit.fitting.samples.networks
        deep = networks.pretrained if networks else None
        with self._showing:
            if stale():
                return
            model = LiveModel(
                next(self._versions),
                fit.labels.revision,
                fit.stage,
                fit.fusion.model(samples.of, samples.classes, deep),
                colours_of(fit.labels, samples),
                TrainingTable(training_features(samples), fit.fitting.folds),
                self._smooth_px if fit.stage == "full" else 1,
            )
            waited, self._model = self._model is None, model
            if waited:
                self._publish("waiting", message="")  # for nothing any more
            self._publish("model", version=model.version, smooth_px=model.smooth_px, **fit.event())

    def _fill(self, store: FeatureStore, stale: Stale) -> None:
        """Fill the store and publish how far it is."""
        last, total = 0.0, 0
        for done, total in store.fill():
            if stale():
                return
            self._find_candidates(store)
            if time.monotonic() - last > PROGRESS_EVERY_S:
                last = time.monotonic()
                self._publish("progress", what="features of the scene", done=done, total=total)
        if total:
            self._publish("progress", what="features of the scene", done=total, total=0)
        self._find_candidates(store)

    def _find_candidates(self, store: FeatureStore) -> None:
        """Choose places to label next as soon as the coarsest features are there."""
        if self._candidates or not store.has_coarsest:
            return
        self._candidates.append(Candidates.of(store, self.recipe.seed))
        self._places.give(self.pixels.samples(self._newest))

    def _fault(self, name: str, error: BaseException) -> None:
        self._publish("fault", message=f"{name}: {error}")


def window_of(aoi: Path, scene: Scene) -> Window:
    """The least window of a scene that holds an area of interest.

    Args:
        aoi: file of polygons, in any reference system.
        scene: that is labelled.

    Raises:
        DataError: no polygons.
        OutsideError: none that meets the scene.
    """
    interest = interest_in(scene, 1, MapOptions(), Reading(aoi=aoi))
    return Window(0, 0, scene.grid.height, scene.grid.width) if interest is None else interest.cells


def without_random(recipe: Recipe) -> Recipe:
    """The recipe without a baseline of random weights, which the page does not show."""
    return recipe.model_copy(
        update={"evaluate": recipe.evaluate.model_copy(update={"random_weights": False})}
    )


def colours_of(labels: LabelSet, samples: PixelSamples) -> tuple[str, ...]:
    """The colour of each class of the samples, as the labels have it."""
    by_name: Mapping[str, str] = {name_of(one.name) or "": one.colour for one in labels.classes}
    return tuple(by_name[name] for name in samples.classes)


def training_features(samples: PixelSamples) -> Float32s:
    """Bands and windows of the labelled pixels [n,D]."""
    blocks = [samples.features[name] for name in (BANDS, WIDE) if name in samples.features]
    return np.concatenate(blocks).T.copy()
