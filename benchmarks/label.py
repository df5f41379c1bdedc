"""How long after a click is the map of the view drawn from the new model in geotl label?

    python benchmarks/label.py [--side 4000] [--clicks 12] [--rest 1.0] [--weights FILE]

Makes a scene of ten bands of 16 bits with eight classes in patches, and asks the learner as the
page does: a label is added, the new model is waited for, and the tiles of the view are drawn by six
threads, as a browser asks for them. The clicks follow each other so closely that the measuring in
the background is at work each time. Two views: the complete scene at a coarse level, and 5 x 4
tiles at full resolution. Prints seconds on the clock and of the processor, the times to the first
picture and the first map, the memory at its peak (without pages of files, which the system takes
back), and the disk.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import rasterio
import shapely
from rasterio.transform import from_origin

from geotl.imagery.scene import Scene, open_scene
from geotl.imagery.sensors import get_sensor
from geotl.labelling.feature_tiles import TilePlace, levels_of, tiles_of
from geotl.labelling.label_set import LabelClass, LabelSet, PlacedLabel
from geotl.labelling.learner import Learner, LearnerOptions
from geotl.labelling.scene_tiles import SceneTiles

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
COUNTS, CLASSES, PATCH_PX, AT_ONCE = (10, 100, 1000), 8, 50, 6
Truth = np.ndarray


class Options(argparse.Namespace):
    """What was asked for."""

    side: int
    clicks: int
    rest: float
    weights: Path | None


def made_scene(path: Path, side: int, seed: int = 1) -> Truth:
    """Write a scene and return the class of each pixel [side,side]."""
    random = np.random.default_rng(seed)
    cells = random.integers(0, CLASSES, (side // PATCH_PX + 1,) * 2)
    truth = np.kron(cells, np.ones((PATCH_PX, PATCH_PX), np.int64))[:side, :side]
    spectra = random.uniform(1500, 4000, (len(BANDS), CLASSES))
    facts = {"driver": "GTiff", "height": side, "width": side, "count": len(BANDS)}
    facts |= {"dtype": "uint16", "nodata": 0, "crs": "EPSG:32633", "tiled": True}
    with rasterio.open(path, "w", transform=from_origin(5e5, 5e6, 10, 10), **facts) as image:
        for number, band in enumerate(BANDS, start=1):
            noise = random.normal(0, 400, (side, side)).astype(np.float32)
            values = spectra[number - 1][truth] + noise
            image.write(values.clip(1, 65535).astype(np.uint16), number)
            image.set_band_description(number, band)
    return truth.astype(np.uint8)


class Clicks:
    """Labels placed one after the other at random places, of the true class.

    The first ones are of three classes in turn, or there would be too few of each for a model.
    """

    def __init__(self, truth: Truth) -> None:
        """Of a scene's classes [H,W]."""
        self.truth, self.random = truth, np.random.default_rng(3)
        self.classes = tuple(LabelClass(k, f"class {k}", "#808080") for k in range(CLASSES))
        self.labels: tuple[PlacedLabel, ...] = ()

    def upto(self, count: int) -> LabelSet:
        """So many labels, those of before first."""
        while len(self.labels) < count:
            row, col = (int(self.random.integers(0, side)) for side in self.truth.shape)
            if len(self.labels) < 12 and self.truth[row, col] != len(self.labels) % 3:
                continue
            place = shapely.Point(col + 0.5, row + 0.5)
            label = PlacedLabel(len(self.labels) + 1, int(self.truth[row, col]), place)
            self.labels = (*self.labels, label)
        return LabelSet(count, self.classes, self.labels)


class Models:
    """What the page hears of models."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.revision, self.turn, self.filled = -1, threading.Condition(), threading.Event()

    def __call__(self, kind: str, **values: object) -> None:
        """Take an event."""
        if kind == "fault":
            raise SystemExit(values["message"])
        if kind == "progress" and values["total"] == 0:
            self.filled.set()
        if kind == "model":
            with self.turn:
                self.revision = int(str(values["revision"]))
                self.turn.notify_all()

    def wait_for(self, revision: int) -> None:
        """Wait for a model of these labels."""
        with self.turn:
            self.turn.wait_for(lambda: self.revision >= revision)


class Memory:
    """The process's own memory, watched by a thread."""

    def __init__(self) -> None:
        """Watch until the end of the process."""
        self.peak_mb = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            lines = Path("/proc/self/status").read_text().splitlines()
            own = next(line.split()[1] for line in lines if line.startswith("RssAnon"))
            self.peak_mb = max(self.peak_mb, int(own) / 1024)
            time.sleep(0.02)


@contextmanager
def opened(scene: Scene, folder: Path, models: Models, weights: Path | None) -> Iterator[Learner]:
    """A learner at work."""
    learner = Learner(scene, folder, models, weights=weights, options=LearnerOptions())
    learner.start()
    try:
        yield learner
    finally:
        learner.close()


def draw(learner: Learner, view: Sequence[TilePlace]) -> None:
    """Draw the tiles of a view, as a browser asks for them."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda place: learner.tile("classes", *place), view))


def first_picture(scene: Scene, view: Sequence[TilePlace]) -> tuple[float, float]:
    """Seconds to the first tile of the scene's picture, and to all tiles of a view."""
    begun, pictures = time.perf_counter(), SceneTiles(scene)
    shown = pictures.facts()["shown"]
    pictures.tile(shown, *view[0])
    first = time.perf_counter() - begun
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda place: pictures.tile(shown, *place), view))
    return first, time.perf_counter() - begun


def timed_clicks(
    learner: Learner, models: Models, clicks: Clicks, view: Sequence[TilePlace], options: Options
) -> tuple[list[float], list[float], list[float]]:
    """Seconds to the model, to the map of the view, and of the processor, of some clicks."""
    fits, maps, processor = [], [], []
    for _ in range(options.clicks):
        labels = clicks.upto(len(clicks.labels) + 1)
        begun, used = time.perf_counter(), time.process_time()
        learner.changed(labels)
        models.wait_for(labels.revision)
        fits.append(time.perf_counter() - begun)
        draw(learner, view)
        maps.append(time.perf_counter() - begun)
        processor.append(time.process_time() - used)
        time.sleep(options.rest)
    return fits, maps, processor


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4000)
    parser.add_argument("--clicks", type=int, default=12)
    parser.add_argument("--rest", type=float, default=1.0)
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args(namespace=Options())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # whose memory does not count
            truth = pool.submit(made_scene, folder / "scene.tif", options.side).result()
        clicks = Clicks(truth)
        scene = open_scene(folder / "scene.tif", get_sensor("sentinel2_l2a_n0400"), BANDS)
        memory, models = Memory(), Models()
        coarse = levels_of(scene.grid)[-3]
        views = {
            f"scene, {len(tiles_of(scene.grid, coarse))} tiles at {coarse} px": tiles_of(
                scene.grid, coarse
            ),
            "20 tiles at 1 px": [TilePlace(1, x, y) for y in range(1, 5) for x in range(1, 6)],
        }
        tile, picture = first_picture(scene, next(iter(views.values())))
        print(f"picture of the scene: first tile {tile:.1f} s, all {picture:.1f} s")
        begun = time.perf_counter()
        with opened(scene, folder / "features", models, options.weights) as learner:
            print(f"ready after {time.perf_counter() - begun:.1f} s")
            labels = clicks.upto(40)
            learner.changed(labels)
            models.wait_for(40)
            draw(learner, next(iter(views.values())))
            print(f"first map of the scene {time.perf_counter() - begun:.1f} s after the start")
            models.filled.wait()
            size = sum(one.stat().st_size for one in (folder / "features").rglob("*.npy"))
            print(f"all features after {time.perf_counter() - begun:.0f} s, {size / 1e9:.2f} GB")
            print(f"memory until then {memory.peak_mb:,.0f} MB")
            clicks.labels, models.revision = (), -1
            print("labels | view | model | map: median | 95 % | processor, median")
            for count in COUNTS:
                learner.changed(clicks.upto(count))
                learner.wait()
                for words, view in views.items():
                    draw(learner, view)
                    fits, maps, used = timed_clicks(learner, models, clicks, view, options)
                    print(
                        f"{count:,} | {words} | {np.median(fits):.2f} | {np.median(maps):.2f} | "
                        f"{np.quantile(maps, 0.95):.2f} | {np.median(used):.2f}",
                        flush=True,
                    )
            print(f"memory at its peak {memory.peak_mb:,.0f} MB")


if __name__ == "__main__":
    main()
