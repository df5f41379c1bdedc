"""The traps of reading: what was tested seen in training, nodata in figures, bands mixed up.

Each test goes red when its guard is taken out.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from helpers.tiles import write_tile
from rasterio.transform import from_origin
from rasterio.warp import Resampling, calculate_default_transform, reproject
from safetensors.numpy import load_file

import geotl
from geotl.cli.main import main
from geotl.data.read_tile import TileReading
from geotl.data.tile_array import batch, pack, statistics
from geotl.data.tiles import index_folder
from geotl.imagery.sensors import SENSORS, custom_sensor, to_reflectance

BANDS = ("B02", "B03", "B04", "B08")
PLAIN = custom_sensor("plain", [{"name": name} for name in BANDS])
L2A, L2A_0400 = SENSORS["sentinel2_l2a"], SENSORS["sentinel2_l2a_n0400"]


pytestmark = pytest.mark.usefixtures("unrendered")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOTL_CACHE", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def labelled(root: Path, factor: int = 1) -> Path:
    """Two classes of eight tiles, half of them tested, whose pixels are multiplied."""
    random, rows = np.random.default_rng(1), ["path,split"]
    for k, name in enumerate(("low", "high")):
        for i in range(8):
            image = random.integers(100 + 200 * k, 200 + 400 * k, (4, 16, 16)).astype(np.uint16)
            write_tile(root / name / f"{i}.tif", image * (factor if i % 2 else 1), names=BANDS)
            rows.append(f"{name}/{i}.tif,{'test' if i % 2 else 'train'}")
    (root / "tiles.csv").write_text("\n".join(rows))
    return root


def run(root: Path, out: Path, *more: str) -> dict[str, np.ndarray]:
    recipe = out.parent / "small.yaml"
    recipe.write_text("title: small\n")
    told = [
        f"data.root={root}",
        "data.sensor=sentinel2_l2a",
        "data.bands=[B02,B03,B04,B08]",
        "model.backbone=lenet5",
        "model.input_px=[32]",
        "split.method=column",
        "split.inner_folds=2",
        "evaluate.bootstrap_rounds=10",
        "evaluate.baselines=false",
        "train.precision=float32",
        "train.epochs=2",
        *more,
    ]
    assert main(["run", str(recipe), *told, "-q", "--output", str(out)]) == 0
    return load_file(out / "model.safetensors")


# --- 3: statistics that saw the test fold; a transform applied twice ---------------------------


@pytest.mark.parametrize("strategy", ["probe", "scratch"])
def test_tested_tiles_times_100_change_no_byte_of_the_model(tmp_path, strategy):
    plain = run(labelled(tmp_path / "one"), tmp_path / "a", f"strategy={strategy}")
    other = run(labelled(tmp_path / "two", 100), tmp_path / "b", f"strategy={strategy}")
    assert {"normalise.mean", "normalise.sd"} <= plain.keys()
    for name in plain:
        assert plain[name].tobytes() == other[name].tobytes(), name
    held = [np.genfromtxt(tmp_path / f / "predictions.csv", delimiter=",")[1:, 3] for f in "ab"]
    assert not np.array_equal(*held), "the tested tiles really were others"


def test_pixels_are_standardised_once_in_evaluation_and_in_prediction(tmp_path):
    root = labelled(tmp_path / "t")
    run(root, tmp_path / "r")
    model = geotl.load(tmp_path / "r" / "model.safetensors")
    with (tmp_path / "r" / "predictions.csv").open() as stream:
        judged = list(csv.DictReader(stream))
    found = model.predict([root / row["path"] for row in judged], precision="float32")
    told = [[float(row[f"p_{name}"]) for name in model.classes] for row in judged]
    np.testing.assert_allclose(found.probabilities, told, atol=2e-5)
    images = np.stack([rasterio.open(root / row["path"]).read() for row in judged])
    standard = model.network.normalise(torch.from_numpy(images.astype(np.float32)))
    own = statistics(
        pack(index_folder(root), L2A, TileReading(BANDS), folder=tmp_path / "p"),
        [i for i in range(16) if i % 2 == 0],
    )
    expected = (images - own.mean.reshape(-1, 1, 1)) / own.sd.reshape(-1, 1, 1)
    np.testing.assert_allclose(standard.numpy(), expected, atol=1e-5)


# --- 4: nodata in statistics -------------------------------------------------------------------


def half_known(dtype, gap):
    """Each band half 1000 and half not there, the halves changing sides band by band."""
    data = np.full((4, 16, 16), 1000, dtype)
    data[0::2, :8], data[1::2, 8:] = gap, gap
    return data


def beside(path: Path, valid: np.ndarray) -> None:
    """A mask for each band, in the .msk file that GDAL looks for."""
    write_tile(path.with_name(path.name + ".msk"), valid.astype(np.uint8) * 255)
    with rasterio.open(path.with_name(path.name + ".msk"), "r+") as target:
        target.update_tags(**{f"INTERNAL_MASK_FLAGS_{i + 1}": "0" for i in range(len(valid))})


def each_band_masked(path: Path) -> None:
    data = half_known(np.uint16, 7)
    write_tile(path, data, names=BANDS)
    beside(path, data == 1000)


def each_band_its_file(path: Path) -> None:
    """The halves not there are of another value, masked, in files of their own."""
    data = half_known(np.int16, -9999)
    for name, plane in zip(BANDS, data, strict=True):
        write_tile(path.with_suffix("") / f"x_{name}.tif", plane[None], nodata=-9999)


def warped(path: Path) -> None:
    """Turned into another zone's grid: the corners it leaves are not there."""
    source = np.full((4, 32, 32), 1000, np.uint16)
    old = from_origin(500000, 5300000, 10, 10)
    new, width, height = calculate_default_transform(
        "EPSG:32633", "EPSG:32631", 32, 32, 500000, 5299680, 500320, 5300000
    )
    data = np.zeros((4, height, width), np.uint16)
    for target, plane in zip(data, source, strict=True):
        reproject(
            plane,
            target,
            src_transform=old,
            src_crs="EPSG:32633",
            dst_transform=new,
            dst_crs="EPSG:32631",
            dst_nodata=0,
            resampling=Resampling.nearest,
        )
    assert 0.1 < (data == 0).mean() < 0.9
    write_tile(path, data, names=BANDS, nodata=0, crs="EPSG:32631", transform=new)


GAPS = {
    "declared": lambda p: write_tile(p, half_known(np.uint16, 0), names=BANDS, nodata=0),
    "not a number": lambda p: write_tile(p, half_known(np.float32, np.nan), names=BANDS),
    "minus 9999": lambda p: write_tile(p, half_known(np.int16, -9999), names=BANDS, nodata=-9999),
    "each band masked": each_band_masked,
    "each band its file": each_band_its_file,
    "warped": warped,
}


@pytest.mark.parametrize("fit", ["pad_or_crop", "resize"])
@pytest.mark.parametrize("how", GAPS)
def test_half_nodata_and_half_1000_have_a_mean_of_1000_and_no_sd(tmp_path, how, fit):
    for name in ("a", "b"):
        GAPS[how](tmp_path / "t" / name / "0.tif")
    index = index_folder(tmp_path / "t", sensor=PLAIN)
    for px in (None, 40):
        packed = pack(index, PLAIN, TileReading(tile_px=px, fit=fit), folder=tmp_path / "p")
        assert 0.05 < packed.valid.mean() < 0.95
        found = statistics(packed, [0, 1])
        np.testing.assert_array_equal(found.mean, [1000] * 4)
        np.testing.assert_array_equal(found.sd, [0] * 4)
        image = batch(packed, [0, 1], fill=found.fill)["image"]
        assert (image == 1000).all(), "what is not there stands at the mean"


# --- 5: band order and radiometry --------------------------------------------------------------

LEVELS = {"B02": 0.05, "B03": 0.08, "B04": 0.11, "B08": 0.35}
ORDERS = (["B02", "B03", "B04", "B08"], ["B08", "B02", "B04", "B03"])


def constant(path: Path, order: list[str], sensor, way: str) -> None:
    """A tile whose every band is one level of reflectance."""
    planes = [
        round((LEVELS[n] - sensor.offset) / sensor.scale) * np.ones((1, 16, 16)) for n in order
    ]
    planes = [plane.astype(np.uint16) for plane in planes]
    if way == "one file":
        write_tile(path.with_suffix(".tif"), np.concatenate(planes), names=order)
    else:
        for name, plane in zip(order, planes, strict=True):
            write_tile(path / f"{order.index(name)}_{name}.tif", plane)


@pytest.mark.parametrize("way", ["one file", "band files"])
def test_constant_bands_in_two_orders_and_radiometries_give_equal_tensors(tmp_path, way):
    found = []
    for sensor in (L2A, L2A_0400):
        for number, order in enumerate(ORDERS):
            root = tmp_path / f"{sensor.name}{number}"
            for name in ("a", "b"):
                constant(root / name / "0", order, sensor, way)
            index = index_folder(root, sensor=sensor)
            packed = pack(index, sensor, TileReading(BANDS), folder=tmp_path / "p" / root.name)
            image = batch(packed, [0, 1], fill=statistics(packed, [0]).fill)["image"]
            found.append(to_reflectance(image.numpy(), sensor))
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
    np.testing.assert_allclose(found[0][0, :, 0, 0], list(LEVELS.values()), rtol=1e-6)


def test_a_model_sees_the_same_in_every_order_and_radiometry(tmp_path, monkeypatch):
    run(labelled(tmp_path / "t"), tmp_path / "r")
    model = geotl.load(tmp_path / "r" / "model.safetensors")
    seen, logits = [], []
    normalise = model.network.normalise.forward
    monkeypatch.setattr(
        model.network.normalise, "forward", lambda x, *a: (seen.append(x), normalise(x, *a))[1]
    )
    for sensor in (L2A, L2A_0400):
        for way in ("one file", "band files"):
            for number, order in enumerate(ORDERS):
                tile = tmp_path / "new" / f"{sensor.name}{way}{number}"
                constant(tile, order, sensor, way)
                given = tile if way == "band files" else tile.with_suffix(".tif")
                logits.append(model.predict(given, sensor=sensor, precision="float32").logits)
    assert len(seen) >= 8
    for image, answer in zip(seen[:: len(seen) // 8], logits, strict=True):
        torch.testing.assert_close(image, seen[0], rtol=0, atol=0)
        np.testing.assert_array_equal(answer, logits[0])
