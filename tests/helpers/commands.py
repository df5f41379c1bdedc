"""Every command that writes, on inputs so small that it ends in a second or a few."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import shapely
from helpers import labelled_scenes, runs
from helpers.map_fixtures import CORNER, made_model, made_pixels, patches, write_scene
from helpers.pixel_models import made_pixel_model
from helpers.tiles import write_tile

from geotl.cli.main import main


@dataclass(frozen=True)
class Command:
    """A command that writes: its words but for the output, then option and name of the output."""

    words: tuple[str, ...]
    option: str
    name: str

    def into(self, folder: Path, *more: str) -> list[str]:
        """The whole line, with an output in a folder."""
        return [*self.words, self.option, str(folder / self.name), *more]


def made_inputs(folder: Path) -> int:
    """Tiles, scenes, labels, points on a map, models and weights; 0 as an exit code."""
    runs.made_tiles(folder / "tiles", 6)
    labelled_scenes.made_scene(folder)
    classes = patches(6, 6, seed=1)
    write_scene(folder / "small.tif", made_pixels(classes, 16))
    write_tile(folder / "classes.tif", classes.repeat(16, 0).repeat(16, 1).astype(np.uint8)[None])
    _points(folder / "points.gpkg", classes)
    made_model(folder / "tiles.safetensors", backbone="lenet5", cut_after="c3", stages=("c3",))
    made_pixel_model(folder / "pixels.safetensors", windows_px=(3,))
    (folder / "small.yaml").write_text("title: small\n")
    words = _recipe(folder, "strategy=scratch", "train.epochs=1")
    code = main(["run", *words, "-o", str(folder / "weights"), "-q"])
    (folder / "weights" / "model.safetensors").rename(folder / "weights.safetensors")
    shutil.rmtree(folder / "weights")
    return code


def _points(path: Path, classes: np.ndarray) -> None:
    """The class in the middle of each square of a class raster."""
    rows, cols = np.divmod(np.arange(classes.size), classes.shape[1])
    left, top = CORNER
    where = shapely.points(left + 160 * cols + 85, top - 160 * rows - 85)
    table = {"reference": [str(k) for k in classes.ravel()]}
    geopandas.GeoDataFrame(table, geometry=where, crs="EPSG:32633").to_file(path)


def _recipe(folder: Path, *more: str) -> tuple[str, ...]:
    return (str(folder / "small.yaml"), f"data.root={folder / 'tiles'}", *runs.SMALL, *more)


def commands(folder: Path) -> Mapping[str, Command]:
    """By name, on the inputs of a folder."""
    at = {name: str(folder / name) for name in ("small.tif", "scene.tif", "classes.tif")}
    of_tiles, of_pixels = (str(folder / f"{name}.safetensors") for name in ("tiles", "pixels"))
    pixels = (str(folder / "small.yaml"), *labelled_scenes.PIXELS, f"data.scenes={at['scene.tif']}")
    pixels += (f"labels.path={folder / 'labels.gpkg'}",)
    weights = f"model.weights={folder / 'weights.safetensors'}"
    trained = ("strategy=finetune", "train.epochs=2", "train.checkpoint_every_steps=1", weights)
    probe = (*_recipe(folder, "strategy=probe"), "-q")
    looked = ("--mode", "exact", "--stride-px", "8", "--block-px", "32", "-q")
    onnx = ("--format", "onnx", "-q")
    labels = (str(folder / "labels.gpkg"), "--chip-px", "12", "--sensor", "sentinel2_l2a")
    few = ("--per-class", "2", "--steps", "3", "--repeats", "1", "--test-tiles", "6")
    tiles, sensor = str(folder / "tiles"), ("--sensor", "sentinel2_l2a")
    return {
        "run, probe": Command(("run", *probe), "-o", "run"),
        "run, finetune": Command(("run", *_recipe(folder, *trained), "-q"), "-o", "run"),
        "run, pixels": Command(("run", *pixels, "-q"), "-o", "run"),
        "map, tiles": Command(("map", of_tiles, at["small.tif"], *looked), "-o", "map.tif"),
        "map, pixels": Command(
            ("map", of_pixels, at["scene.tif"], "--block-px", "64", "-q"), "-o", "map.tif"
        ),
        "export, tiles": Command(("export", of_tiles, *onnx), "-o", "m.onnx"),
        "export, pixels": Command(("export", of_pixels, *onnx), "-o", "m.onnx"),
        "export, hub": Command(("export", of_tiles, "--format", "hub", "-q"), "-o", "hub"),
        "study": Command(("study", *probe, "--only", "head", "--seeds", "3"), "-o", "run"),
        "curve": Command(("curve", *probe, "--shots", "2", "3", "--repeats", "2"), "-o", "run"),
        "diagnose": Command(("diagnose", *probe, "--quick"), "-o", "run"),
        "generate": Command(("generate", *probe, *few), "-o", "made"),
        "chips": Command(
            ("chips", at["scene.tif"], *labels, "--bands", *runs.BANDS), "-o", "chips"
        ),
        "predict": Command(("predict", of_tiles, tiles), "-o", "named.csv"),
        "suggest": Command(
            ("suggest", of_tiles, at["small.tif"], "-n", "3", "--ignore-applicability", "-q"),
            "-o",
            "s.gpkg",
        ),
        "sample": Command(("sample", at["classes.tif"], "-n", "60", "-q"), "-o", "p.gpkg"),
        "accuracy": Command(
            ("accuracy", at["classes.tif"], str(folder / "points.gpkg"), "-q"), "-o", "judged"
        ),
        "check": Command(
            ("check", tiles, "data.bands=[B02,B03,B04,B08]", *sensor, "-q"), "-o", "checked"
        ),
        "augment": Command(("augment", *_recipe(folder, "augment.flips=true")), "-o", "sheet.png"),
        "label": Command(
            ("label", at["scene.tif"], "--no-browser", "--bands", *runs.BANDS, *sensor, "-q"),
            "-o",
            "project",
        ),
        "lecture": Command(("lecture", "residual_identity"), "-o", "lecture"),
    }
