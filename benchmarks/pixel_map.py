"""Mapping every pixel of a scene with a pixel model: seconds, rate and peak memory, by part.

    python benchmarks/pixel_map.py [--side 2048] [--trees 200] [--rounds 3] [--parts-only]
        [--skip-forest] [--precisions auto float32]

A scene of side x side x 10 uint16 is made on the spot. Members and networks have random numbers
(speed does not depend on them): linear members on bands, on windows of 3, 7, 15 and 33 px and on a
ResNet-18's stem to layer3, and a forest of depth 12. First each part is timed on a block of 1,024
pixels, in seconds of the processor a megapixel (what else runs does not count), median and range
over the rounds. Then the rivals map a part of the scene in this process, seconds on the clock a
megapixel: scikit-learn's forest of 200 trees on bands and 3x3 and 5x5 windows, in strips, and
torchgeo's U-Net (ResNet-18) in patches that overlap by half. Last `geotl map` maps the scene
without and with the forest, each in a process of its own, so that its peak memory is its own (pages
of its files included); its rate is compared with the rivals' and with the bare network's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
import segmentation_models_pytorch as smp
import torch
from own_process import used_by
from pixel_peers import forest_map, seconds_of, unet_map
from rasterio.transform import from_origin
from sklearn.ensemble import RandomForestClassifier

from geotl.imagery.sensors import get_sensor
from geotl.inference.pixel_area import PixelArea
from geotl.inference.pixel_predictor import PixelPredictor
from geotl.models.deep_features import DeepFeatures
from geotl.models.device import dtype_of
from geotl.models.forest import ForestMember
from geotl.models.pixel_features import BlockFeatures, PixelFeatures
from geotl.models.pixel_file import (
    PixelContract,
    PixelModelFile,
    TrainingPixels,
    load_pixel_model,
    save_pixel_model,
)
from geotl.models.pixel_model import LinearMember, PixelModel
from geotl.models.registry import build_backbone

SENSOR = get_sensor("sentinel2_l2a")
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
CLASSES, DEPTH, BLOCK = 10, 12, 1024


def made_pixels(height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """Smooth fields with noise, uint16 [10,height,width]."""
    field = random.integers(500, 3000, (len(BANDS), height // 16 + 1, width // 16 + 1))
    part = field.repeat(16, axis=1).repeat(16, axis=2)[:, :height, :width]
    return (part + random.integers(0, 60, part.shape)).astype(np.uint16)


def make_scene(path: Path, side: int) -> Path:
    """A scene of 10 named bands, tiled and compressed as products are."""
    random = np.random.default_rng(0)
    profile = {
        "driver": "GTiff",
        "width": side,
        "height": side,
        "count": len(BANDS),
        "dtype": "uint16",
        "crs": "EPSG:32633",
        "transform": from_origin(5e5, 5e6, 10, 10),
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "deflate",
        "zlevel": 1,
        "predictor": 2,
        "nodata": 0,
    }
    with rasterio.open(path, "w", **profile) as to:
        to.descriptions = BANDS
        for row in range(0, side, 512):
            part = made_pixels(min(512, side - row), side, random)
            to.write(part, window=((row, row + part.shape[1]), (0, side)))
    return path


def forest_of(rows: np.ndarray, labels: np.ndarray, trees: int) -> ForestMember:
    """A forest of depth 12 on features [n,D]."""
    fitted = RandomForestClassifier(trees, max_depth=DEPTH, random_state=0).fit(rows, labels)
    trees_of = [one.tree_ for one in fitted.estimators_]
    start = np.cumsum([0, *(tree.node_count for tree in trees_of)])
    held: list[list[np.ndarray]] = [[], [], [], [], []]
    for tree, first in zip(trees_of, start, strict=False):
        leaf = tree.children_left < 0
        held[0].append(np.where(leaf, -1, tree.feature))
        held[1].append(tree.threshold)
        held[2].append(np.where(leaf, 0, tree.children_left + first))
        held[3].append(np.where(leaf, 0, tree.children_right + first))
        held[4].append(tree.value[:, 0] / tree.value[:, 0].sum(axis=1, keepdims=True))
    types = (np.int32, np.float32, np.int32, np.int32, np.float32)
    joined = (np.concatenate(x).astype(t) for x, t in zip(held, types, strict=True))
    return ForestMember(("bands", "wide"), start[:-1].astype(np.int64), *joined)


def network() -> DeepFeatures:
    """ResNet-18 to layer3, at random."""
    nm = SENSOR.wavelengths(BANDS)
    return DeepFeatures.of(build_backbone("resnet18", BANDS, nm, cut_after="layer3")[0])


def make_models(folder: Path, trees: int) -> dict[str, tuple[Path, PixelModel]]:
    """Model files without and with a forest, fitted to random labels."""
    random = np.random.default_rng(1)
    pixels = made_pixels(300, 300, random)
    flat = pixels.reshape(len(BANDS), -1).astype(float)
    features = PixelFeatures(
        BANDS,
        SENSOR.wavelengths(BANDS),
        tuple(flat.mean(axis=1).tolist()),
        tuple(flat.std(axis=1).tolist()),
        0.0,
    )
    rows, cols = random.integers(0, 300, (2, 4000))
    values = BlockFeatures(features, pixels, pixels > 0).at(rows, cols)
    labels = np.arange(4000) % CLASSES
    every = np.concatenate(list(values.values())).T
    width = len(values["bands"])
    linear = {
        name: LinearMember(
            blocks, random.normal(0, 0.1, (CLASSES, wide)), random.normal(0, 1, CLASSES)
        )
        for name, blocks, wide in (
            ("bands", ("bands",), width),
            ("wide", ("bands", "wide"), every.shape[1]),
            ("deep", ("deep",), len(network().names)),
        )
    }
    found = {}
    for name, members in (
        ("linear", linear),
        ("fused", linear | {"forest": forest_of(every, labels, trees)}),
    ):
        weights = dict.fromkeys(members, 1 / len(members))
        model = PixelModel(
            features,
            tuple(f"class {k}" for k in range(CLASSES)),
            members,
            dict.fromkeys(members, 1.0),
            weights,
            np.zeros(CLASSES),
            network(),
        )
        path = folder / f"{name}.safetensors"
        save_pixel_model(path, _file(model, every[:2000], labels[:2000]))
        found[name] = (path, model)
    return found


def _file(model: PixelModel, values: np.ndarray, labels: np.ndarray) -> PixelModelFile:
    contract = PixelContract(
        BANDS,
        model.features.wavelengths,
        SENSOR,
        None,
        model.classes,
        tuple(f"#{k:02x}{2 * k:02x}{3 * k:02x}" for k in range(CLASSES)),
        10.0,
    )
    count = len(labels)
    training = TrainingPixels(
        values.astype(np.float32), labels, np.arange(count) % 3, np.full((count, 2), np.nan)
    )
    return PixelModelFile(model, contract, training, {"metrics": {}, "recipe": "", "versions": {}})


def timed(what: str, megapixels: float, rounds: int, work: Callable[[], object]) -> None:
    """Print seconds a megapixel of some work, median and range, after it was done once."""
    work()
    spent = []
    for _ in range(rounds):
        begun = time.process_time()
        work()
        spent.append((time.process_time() - begun) / megapixels)
    line = f"{statistics.median(spent):.2f} ({min(spent):.2f} to {max(spent):.2f})"
    print(f"{what:45} {line} s a megapixel", flush=True)


def time_parts(models: dict[str, tuple[Path, PixelModel]], rounds: int) -> None:
    """Features, members and all, on one block held in memory."""
    linear, fused = models["linear"][1], models["fused"][1]
    of, halo = linear.features, linear.halo
    side, area = BLOCK + 2 * halo, BLOCK * BLOCK / 1e6
    image = made_pixels(side, side, np.random.default_rng(3)).astype(np.float32)
    valid = np.ones(image.shape, bool)
    block, cut = BlockFeatures(of, image, valid), slice(halo, halo + BLOCK)
    strips = [slice(row, row + 32) for row in range(halo, halo + BLOCK, 32)]
    timed("integral images", area, rounds, lambda: BlockFeatures(of, image, valid))
    timed("bands and windows", area, rounds, lambda: [block.strip(x, cut).clear() for x in strips])
    z, deep, weight = block.standardised(), linear.deep, linear.linear["deep"]
    assert deep is not None
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        timed(f"network alone, with its halo, {name}", area, rounds, partial(deep.maps, z, dtype))
        timed("and its member", area, rounds, partial(deep.logits, z, weight, dtype))
    strip = block.strip(strips[0], cut)
    flat = {
        name: np.ascontiguousarray(x.reshape(len(x), -1)[:, :8192]) for name, x in strip.items()
    }
    likeness = PixelArea.of(load_pixel_model(models["linear"][0]))
    compared = f"dissimilarity index, {len(likeness.area.features)} training pixels"
    timed(compared, 8192 / 1e6, rounds, lambda: likeness.index(flat))
    forest = fused.members["forest"]
    timed("forest", 8192 / 1e6, 1, lambda: forest.log_probabilities(flat))
    where = np.arange(halo, halo + BLOCK)
    whole = PixelPredictor(linear)
    timed(
        "all but reading and writing, without forest",
        area,
        rounds,
        lambda: whole.predict_windows(image, where, where, 1),
    )


def time_rivals(trees: int) -> dict[str, float]:
    """Seconds on the clock a megapixel, of rivals' maps and of the bare network."""
    image = made_pixels(BLOCK, BLOCK, np.random.default_rng(4)).astype(np.float32)
    flat = image.reshape(len(BANDS), -1)
    mean, sd = (tuple(x.tolist()) for x in (flat.mean(axis=1), flat.std(axis=1)))
    local = PixelFeatures(BANDS, SENSOR.wavelengths(BANDS), mean, sd, 0.0, (3, 5))
    z = BlockFeatures(local, image, np.ones(image.shape, bool)).standardised()
    unet = smp.Unet("resnet18", encoder_weights=None, in_channels=10, classes=CLASSES).eval()
    random = np.random.default_rng(5)
    width = len(local.names["bands"]) + 2 * len(local.names["wide"]) // 3
    forest = RandomForestClassifier(trees, max_depth=DEPTH, n_jobs=-1, random_state=0)
    forest.fit(random.normal(size=(2000, width)), np.arange(2000) % CLASSES)
    part, area = np.ascontiguousarray(image[:, :256]), BLOCK * BLOCK / 1e6
    bare, dtype = network(), dtype_of("auto", torch.device("cpu"))
    bare.maps(z, dtype)
    return {
        "scikit-learn's forest": 4 * seconds_of(lambda: forest_map(forest, local, part)) / area,
        "torchgeo's U-Net": seconds_of(lambda: unet_map(unet, z)) / area,
        "bare network": seconds_of(lambda: bare.maps(z, dtype)) / area,
    }


def mapped(model: Path, scene: Path, out: Path, side: int, precision: str) -> float:
    """Print seconds, rate and peak memory of one `geotl map`; seconds a megapixel."""
    words = ["map", str(model), str(scene), "-o", str(out), "--no-page", "--skip-value-check", "-q"]
    words += ["--precision", precision, "--overwrite"]
    used, area = used_by(words), side * side / 1e6
    print(
        f"geotl map, {model.stem + ', ' + precision:34} {used.seconds:.1f} s, "
        f"{area / used.seconds:.2f} megapixels a second; of the processor "
        f"{used.processor_s:.1f} s, {used.processor_s / area:.2f} s a megapixel; "
        f"peak {used.peak_gb:.2f} GB; 120 megapixels: {120 * used.seconds / area:.0f} s",
        flush=True,
    )
    return used.seconds / area


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=2048, help="of the scene [px]")
    parser.add_argument("--trees", type=int, default=200, help="of the forest")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts-only", action="store_true", help="map no scene")
    parser.add_argument("--skip-forest", action="store_true", help="map without the forest alone")
    parser.add_argument("--precisions", nargs="+", default=["auto", "float32"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = make_models(folder, args.trees)
        time_parts(models, args.rounds)
        if args.parts_only:
            return
        rivals = time_rivals(args.trees)
        for rival, seconds in rivals.items():
            print(f"{rival:45} {seconds:.2f} s on the clock a megapixel", flush=True)
        scene = make_scene(folder / "scene.tif", args.side)
        for kind, (path, _) in models.items():
            if kind == "linear" or not args.skip_forest:
                for precision in args.precisions:
                    own = mapped(path, scene, folder / f"{kind}.tif", args.side, precision)
                    ratios = ", ".join(f"{name} {rivals[name] / own:.2f}" for name in rivals)
                    print(f"rate of this map over that of: {ratios}", flush=True)


if __name__ == "__main__":
    main()
