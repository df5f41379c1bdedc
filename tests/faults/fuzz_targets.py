"""Small whole files of every kind that geotl opens, and what opens them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
import torch
from helpers.map_fixtures import made_model
from helpers.pixel_models import made_pixel_model, without_checksum
from helpers.tiles import write_tile
from safetensors.numpy import load_file, save_file

from geotl.console import silent
from geotl.evaluation.class_map import open_map, read_block, read_names
from geotl.experiments import recipe
from geotl.experiments.run_folder import METRICS, RECIPE, finished_alike, open_run
from geotl.imagery.scene import open_scene
from geotl.imagery.scene_list import band_set, scenes_in
from geotl.imagery.sensors import get_sensor
from geotl.imagery.windows import Window
from geotl.inference.onnx_file import read_passport, seal
from geotl.io import images, yaml
from geotl.io.cache_entries import CHECKSUMS, fault_of, write_checksums
from geotl.io.records import finished_record, write_record
from geotl.io.tables import Faults, read_table
from geotl.io.vector import read_features, write_features
from geotl.mapping.window_store import SheetLayout, note_of, open_sheet
from geotl.models import model_file
from geotl.models.pixel_file import load_pixel_model
from geotl.models.weights import read_weight_file
from geotl.training.checkpoint_files import read_checkpoint, read_finished

L2A = get_sensor("sentinel2_l2a")
BANDS = ("B02", "B03", "B04", "B08")
ENTRY = np.arange(100)
LAYOUT = SheetLayout((4, 5), (4, 5), 3, 1, 2)


@dataclass(frozen=True)
class Target:
    """A whole file and what reads it.

    Attributes:
        whole: the file.
        load: reads a damaged copy; an error of geotl is no fault.
        head: how many bytes most of the damage goes to.
        names_itself: whether an error must name the copy; else it names a folder's file.
    """

    whole: Path
    load: Callable[[Path], Any]
    head: int = 4096
    names_itself: bool = True


def targets(folder: Path) -> Mapping[str, Target]:
    """A target of every kind, by name."""
    parts = (_images, _tables, _vectors, _models, _scenes, _records, _folders)
    return {name: target for part in parts for name, target in part(folder).items()}


def _images(folder: Path) -> dict[str, Target]:
    pixels = np.arange(4 * 32 * 32, dtype=np.uint16).reshape(4, 32, 32)
    tiff = write_tile(folder / "a.tif", pixels, compress="deflate")
    np.save(folder / "a.npy", pixels)
    found = {
        "tiff": Target(tiff, lambda path: images.read(path, band_count=4), 1000),
        "npy": Target(folder / "a.npy", lambda path: images.read(path, band_count=4), 128),
    }
    eight = (pixels[:3] % 251).astype(np.uint8)
    for name, driver in (("png", "PNG"), ("jpg", "JPEG"), ("jp2", "JP2OpenJPEG")):
        path = write_tile(folder / f"a.{name}", eight, driver=driver, crs=None)
        found[name] = Target(path, lambda path: images.read(path, band_count=3), 1000)
    classes = (pixels[:1] % 3).astype(np.uint8)
    path = write_tile(folder / "classes.tif", classes, tiled=True, blockxsize=16, blockysize=16)
    with rasterio.open(path, "r+") as source:
        source.write_colormap(1, {k: (k, 2 * k, 3 * k, 255) for k in range(3)})
        source.update_tags(1, class_0="field", class_1="town")
    return found | {"class_raster": Target(path, _classes, 1500)}


def _classes(path: Path) -> None:
    of = open_map(path)
    read_block(of, Window(0, 0, min(of.grid.height, 64), min(of.grid.width, 64)))


def _tables(folder: Path) -> dict[str, Target]:
    (folder / "a.yaml").write_text("a: &x [1, 2]\nb: {c: *x, d: 1e-3}\n" * 3)
    (folder / "recipe.yaml").write_text(
        "title: small\nseed: 3\ndata: {root: tiles, sensor: sentinel2_l2a, bands: [B02, B03]}\n"
        "model: {backbone: lenet5, input_px: [32]}\nsplit: {shots: 4, folds: 2}\n"
        "augment: {flips: true, noise: 0.1}\ntrain: {epochs: 3, lr: 1e-3}\n"
    )
    (folder / "a.csv").write_text("path,label,x,y,crs\na.tif,one,1,2,EPSG:4326\nb.tif,two,,,\n")
    (folder / "b.csv").write_text("lon,lat,label\n1,2,a\n3,4,b\n")
    (folder / "names.csv").write_text("value,name\n0,field\n1,town\n2,water\n")
    return {
        "yaml": Target(folder / "a.yaml", _parsed),
        "recipe": Target(folder / "recipe.yaml", recipe.load, names_itself=False),
        "manifest": Target(folder / "a.csv", _table),
        "points": Target(folder / "b.csv", _points),
        "class_names": Target(folder / "names.csv", read_names),
    }


def _parsed(path: Path) -> None:
    yaml.parse(path.read_text(encoding="utf-8", errors="replace"))


def _table(path: Path) -> None:
    faults = Faults(path)
    read_table(path, faults)
    faults.check()


def _points(path: Path) -> None:
    read_features(path, fields=["label"], crs="EPSG:4326")


def _vectors(folder: Path) -> dict[str, Target]:
    shapes = [shapely.Point(1, 2), shapely.box(0, 0, 1, 1)]
    write_features(folder / "a.gpkg", shapes, {"label": ["a", "b"]}, "EPSG:4326")
    feature = '{"type": "Feature", "properties": {"path": "a.tif", "label": "a"}, "geometry": '
    feature += '{"type": "Point", "coordinates": [1, 2]}}'
    text = f'{{"type": "FeatureCollection", "features": [{feature}, {feature}]}}'
    (folder / "a.geojson").write_text(text)
    return {
        "gpkg": Target(folder / "a.gpkg", _points, 100_000),
        "geojson": Target(folder / "a.geojson", _points),
        "geojson_table": Target(folder / "a.geojson", _table),
    }


def _models(folder: Path) -> dict[str, Target]:
    seal(_proto(), folder / "model.onnx", {"passport_version": 1, "contract": {}})
    state = {"conv.weight": torch.ones(4, 3, 3, 3), "conv.bias": torch.zeros(4)}
    torch.save({"state_dict": state}, folder / "w.pth")
    model = made_model(folder / "model.safetensors")
    pixels = made_pixel_model(folder / "px.safetensors", windows_px=(3,))
    return {
        "safetensors": Target(model, model_file.load),
        "pixels": Target(pixels, load_pixel_model),
        "earlier_model": Target(_earlier(model), model_file.load, 16_000),
        "earlier_pixels": Target(_earlier(pixels), load_pixel_model, 8_000),
        "weights": Target(model, read_weight_file),
        "pth": Target(folder / "w.pth", read_weight_file, 1 << 30),
        "onnx": Target(folder / "model.onnx", read_passport, 1 << 30),
    }


def _earlier(path: Path) -> Path:
    """A model file as earlier versions wrote it, without the checksum that finds all damage."""
    made = path.with_name(f"earlier_{path.name}")
    save_file(load_file(path), made, metadata=without_checksum(path))
    return made


def _proto() -> Any:
    """A graph that gives back what it takes."""
    import onnx

    ends = [onnx.helper.make_tensor_value_info(n, 1, [1]) for n in ("image", "probabilities")]
    node = onnx.helper.make_node("Identity", ["image"], ["probabilities"])
    return onnx.helper.make_model(onnx.helper.make_graph([node], "g", ends[:1], ends[1:]))


def _scenes(folder: Path) -> dict[str, Target]:
    pixels = np.arange(4 * 40 * 40, dtype=np.uint16).reshape(4, 40, 40)
    scene = write_tile(folder / "s.tif", pixels, names=list(BANDS), tiled=True, blockxsize=16)
    (folder / "list.txt").write_text("# scenes\ns.tif\na.tif\n")
    asset = {"href": "./s.tif", "type": "image/tiff", "eo:bands": [{"name": "B02"}]}
    item = {
        "type": "Feature",
        "id": "one",
        "properties": {"datetime": "2026-01-02T03:04:05Z"},
        "assets": {"B02": asset, "B03": asset | {"bands": [{"name": "B03"}]}},
    }
    (folder / "item.json").write_text(json.dumps(item))
    items = {"type": "FeatureCollection", "features": [item, item | {"id": "two"}]}
    (folder / "items.json").write_text(json.dumps(items))
    return {
        "scene": Target(scene, _scene, 1500),
        "scene_list": Target(folder / "list.txt", _listed, names_itself=False),
        "stac_item": Target(folder / "item.json", _listed, names_itself=False),
        "stac_items": Target(folder / "items.json", _listed, names_itself=False),
    }


def _scene(path: Path) -> None:
    scene = open_scene(path, L2A, BANDS)
    try:
        scene.read(Window(0, 0, min(scene.grid.height, 64), min(scene.grid.width, 64)))
    finally:
        scene.close()


def _listed(path: Path) -> None:
    for entry in scenes_in([path], L2A).entries:
        if entry.assets:
            band_set(entry, L2A, ("B02", "B03"))


def _records(folder: Path) -> dict[str, Target]:
    """Records of finished work, which are set aside or computed again where they are damaged."""
    write_record(folder / "fit.json", {"format": 1, "part": 0, "training": 0.25})
    state = {"epoch": 3, "state_dict": {"w": torch.ones(3, 3)}, "callbacks": {"a": [1, 2.5]}}
    torch.save(state, folder / "last.ckpt")
    (folder / "finished.json").write_text('{"kept": "best.ckpt", "history": [{"epoch": 1.0}]}')
    return {
        "fit_record": Target(folder / "fit.json", _fit),
        "checkpoint": Target(folder / "last.ckpt", _checkpoint, 1 << 30),
        "finished": Target(folder / "finished.json", lambda path: read_finished(path, silent)),
    }


def _fit(path: Path) -> None:
    found = finished_record(path, lambda record: "training" in record, log=silent)
    if found is not None and found["training"] != 0.25:
        raise AssertionError(f"a damaged record passes: {found}")


def _checkpoint(path: Path) -> None:
    state = read_checkpoint(path, silent)
    if state is not None and not torch.equal(state["state_dict"]["w"], torch.ones(3, 3)):
        raise AssertionError("a damaged checkpoint passes")


def _folders(folder: Path) -> dict[str, Target]:
    """Files of folders: a finished run, an entry of the cache, a map that was killed."""
    run = folder / "run"
    run.mkdir()
    (run / RECIPE).write_text("title: small\nseed: 0\n")
    (run / METRICS).write_text(json.dumps({"headline": "accuracy 0.9", "seconds": 1.5}))
    entry = folder / "entry"
    entry.mkdir()
    np.save(entry / "images.npy", ENTRY)
    write_checksums(entry)
    sheet = open_sheet(folder / "sweep", "key", {"n": 1}, LAYOUT)
    sheet.keep()
    return {
        "run_recipe": _inside(run / RECIPE, _run_folder),
        "run_metrics": _inside(run / METRICS, _run_folder),
        "cache_array": _inside(entry / "images.npy", _entry),
        "cache_sums": _inside(entry / CHECKSUMS, _entry),
        "sweep_note": _inside(folder / "sweep" / "sweep.json", _sweep),
        "sweep_array": _inside(folder / "sweep" / "probabilities.bin", _sweep),
    }


def _inside(whole: Path, load: Callable[[Path], Any]) -> Target:
    """A target that is read with the other files of its folder."""

    def loaded(path: Path) -> None:
        copy = path.with_name("copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole.parent, copy)
        shutil.copy(path, copy / whole.name)
        load(copy)

    return Target(whole, loaded, names_itself=False)


def _run_folder(folder: Path) -> None:
    finished_alike(folder, {"seed": 0})
    open_run(folder, "title: small\nseed: 0\n", resume=True)


def _entry(folder: Path) -> None:
    if fault_of(folder) is None and not np.array_equal(np.load(folder / "images.npy"), ENTRY):
        raise AssertionError("a damaged entry passes")


def _sweep(folder: Path) -> None:
    note_of(folder, "key")
    sheet = open_sheet(folder, "key", {"n": 2}, LAYOUT)
    if sheet.note not in ({"n": 1}, {"n": 2}):
        raise AssertionError(f"a damaged note passes: {sheet.note}")
