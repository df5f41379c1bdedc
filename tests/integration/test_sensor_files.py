"""Files of the sensors read as tiles: band order, alpha that is no alpha, a sensor by recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.tiles import ROOT, write_tile

import geotl
from geotl.cli.main import main
from geotl.data.tile_array import read_tiles
from geotl.errors import BandError
from geotl.imagery.sensors import SENSORS


def pixels(path: Path, sensor: str, bands: list[str]) -> np.ndarray:
    images, valid = next(read_tiles([path], SENSORS[sensor], bands, None, tile_px=8))
    assert valid.all()
    return images[0, :, 0, 0]


@pytest.mark.parametrize("profile", [{"alpha": "yes"}, {"photometric": "minisblack"}])
def test_naips_fourth_band_is_infrared_whatever_gdal_calls_it(tmp_path, profile):
    """GDAL takes the fourth of four bytes for alpha unless it is told otherwise."""
    data = np.full((4, 8, 8), [[[10]], [[20]], [[30]], [[40]]], np.uint8)
    path = write_tile(tmp_path / "n.tif", data, **profile)
    with rasterio.open(path) as source:
        flagged = source.colorinterp[3] == rasterio.enums.ColorInterp.alpha
    assert flagged == ("alpha" in profile)
    np.testing.assert_array_equal(pixels(path, "naip", ["nir", "red"]), [40, 10])


def test_an_alpha_band_stays_one_for_a_sensor_of_three_bands(tmp_path):
    data = np.full((4, 8, 8), [[[10]], [[20]], [[30]], [[255]]], np.uint8)
    path = write_tile(tmp_path / "n.tif", data, alpha="yes")
    np.testing.assert_array_equal(pixels(path, "rgb", ["red", "blue"]), [10, 30])


def test_colours_that_contradict_the_stated_order_win(tmp_path):
    data = np.full((4, 8, 8), [[[10]], [[20]], [[30]], [[40]]], np.uint16)
    path = write_tile(tmp_path / "p.tif", data)
    np.testing.assert_array_equal(pixels(path, "planetscope4", ["red", "nir"]), [30, 40])
    with rasterio.open(path, "r+") as target:
        names = ("red", "green", "blue", "undefined")
        target.colorinterp = [rasterio.enums.ColorInterp[name] for name in names]
    np.testing.assert_array_equal(pixels(path, "planetscope4", ["red", "blue"]), [10, 30])
    with pytest.raises(BandError, match="band nir: missing"):
        pixels(path, "planetscope4", ["nir"])


@pytest.mark.parametrize(
    ("sensor", "names"),
    [("landsat5_sr", ["B1", "B2", "B3", "B4"]), ("landsat8_sr", ["SR_B2", "SR_B3", "B4", "B5"])],
)
def test_landsat_tiles_are_read_by_the_sensors_own_numbers(tmp_path, sensor, names):
    data = np.full((4, 8, 8), [[[1]], [[2]], [[3]], [[4]]], np.uint16)
    path = write_tile(tmp_path / "l.tif", data, names=names)
    np.testing.assert_array_equal(pixels(path, sensor, ["nir", "red", "blue"]), [4, 3, 1])


@pytest.mark.usefixtures("unrendered")
def test_a_sensor_by_recipe_goes_the_whole_way(tmp_path, monkeypatch):
    """docs/modis_sensor.yaml on made tiles of two covers: trained, saved, loaded, named."""
    monkeypatch.setenv("GEOTL_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(3)
    levels = {"forest": [300, 3500, 200, 500, 3000, 1800, 800], "snow": [8000] * 4 + [900] * 3}
    for name, level in levels.items():
        for i in range(8):
            noise = random.normal(0, 150, (7, 32, 32))
            data = (np.array(level)[:, None, None] + noise).clip(-100, 16000).astype(np.int16)
            bands = [f"sur_refl_b{n:02d}" for n in range(1, 8)]
            write_tile(tmp_path / "tiles" / name / f"{i}.tif", data, names=bands, nodata=-28672)
    recipe = ROOT / "docs" / "modis_sensor.yaml"
    out = tmp_path / "run"
    settings = [f"data.root={tmp_path / 'tiles'}", "split.shots=4", "split.inner_folds=2"]
    small = ["model.backbone=lenet5", "evaluate.bootstrap_rounds=20"]
    assert main(["run", str(recipe), *settings, *small, "--output", str(out), "-q"]) == 0
    model = geotl.load(out / "model.safetensors")
    assert model.bands[:2] == ("red", "nir")
    held = model.file.contract
    assert (held.sensor.scale, held.sensor.nodata) == (1e-4, -28672)
    assert held.wavelengths[0] == 645
    assert model.predict([tmp_path / "tiles" / "snow"]).labels == ["snow"] * 8
