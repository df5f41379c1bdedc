"""DataArrays as scenes: the same pixels as the file, whatever the order of their axes."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import rioxarray
import xarray as xr
from helpers.tiles import ROOT, write_tile

from geotl.errors import BandError, DataError
from geotl.imagery.scene import open_scene
from geotl.imagery.sensors import SENSORS, custom_sensor
from geotl.imagery.windows import Window
from geotl.imagery.xarray_scene import scene_of

L2A = SENSORS["sentinel2_l2a"]
NAMES = ["B04", "B08", "B02"]
WINDOWS = (Window(0, 0, 30, 40), Window(3, 5, 9, 7), Window(-2, 35, 8, 9))


@pytest.fixture
def path(tmp_path):
    data = np.random.default_rng(1).integers(0, 90, (3, 30, 40)).astype(np.uint16)
    return write_tile(tmp_path / "s_20210304.tif", data, names=NAMES)


def same(one, two):
    for window in WINDOWS:
        for a, b in zip(one.read(window), two.read(window), strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


def test_an_array_reads_as_its_file_whatever_its_axes(path):
    array, file = rioxarray.open_rasterio(path), open_scene(path, L2A, ["B02", "B04"])
    variants = (
        array,
        array.transpose("y", "x", "band"),
        array.isel(y=slice(None, None, -1)),
        array.isel(x=slice(None, None, -1)).load(),
        array.rename(y="lat", x="lon"),
    )
    for variant in variants:
        if "lat" in variant.dims:
            variant = variant.rio.set_spatial_dims("lon", "lat")  # noqa: PLW2901 - the same array
        scene = scene_of(variant, L2A, ["blue", "red"], name="mine")
        assert scene.grid == file.grid
        same(scene, file)
    assert (scene.name, scene.bands, scene.acquired) == ("mine", ("B02", "B04"), "2021-03-04")
    assert not scene.cloudy(WINDOWS[0]).any()
    scene.close()


def test_a_cut_array_keeps_its_place(path):
    cut = rioxarray.open_rasterio(path).isel(y=slice(4, 20), x=slice(6, 40))
    scene, file = scene_of(cut, L2A, ["B04"]), open_scene(path, L2A, ["B04"])
    assert scene.grid == Window(4, 6, 16, 34).on(file.grid)
    np.testing.assert_array_equal(
        scene.read(Window(1, 2, 5, 6))[0], file.read(Window(5, 8, 5, 6))[0]
    )


def test_nan_and_the_sensors_nodata_are_not_valid(path):
    masked = rioxarray.open_rasterio(path).astype("float32")
    masked[0, 0, 0], masked[0, 0, 1], masked[0, 0, 2] = np.nan, 0, -5
    masked = masked.rio.write_nodata(-5)
    _, valid = scene_of(masked, L2A, ["B04"]).read(Window(0, 0, 1, 4))
    assert valid[0, 0].tolist()[:3] == [False] * 3


def test_names_by_coordinate_by_order_or_for_one_plane(path):
    array = rioxarray.open_rasterio(path)
    array.attrs.pop("long_name")
    with pytest.raises(BandError, match="bands without names"):
        scene_of(array, L2A, ["B04"])
    file = open_scene(path, L2A, ["B02"])
    same(scene_of(array, L2A, ["B02"], file_bands=NAMES), file)
    same(scene_of(array.assign_coords(band=NAMES), L2A, ["B02"]), file)
    same(scene_of(array.isel(band=2).assign_attrs(long_name="B02"), L2A, ["B02"]), file)


def test_arrays_that_are_no_scene(path, monkeypatch):
    array = rioxarray.open_rasterio(path)
    bare = xr.DataArray(array.values, dims=("band", "y", "x"), attrs=array.attrs)
    uneven = array.assign_coords(x=np.array(array.x) + (np.arange(40) > 20) * 10)
    faults = {
        "no coordinate reference system": bare,
        "evenly spaced": uneven,
        "choose one entry": array.expand_dims(time=2),
        "no position": bare.rio.write_crs("EPSG:32633"),
        "none of them known": bare.rename(y="rows", x="columns"),
        r"sentinel2_l2a_n0400": array.assign_attrs(scale_factor=1e-4, add_offset=-0.1),
        "type bool": array > 3,
    }
    for words, wrong in faults.items():
        wrong.attrs.setdefault("long_name", tuple(NAMES))
        with pytest.raises(DataError, match=words) as caught:
            scene_of(wrong, L2A, ["B04"])
        assert "\n" not in str(caught.value)
    scaled = array.astype("float32")
    scaled.encoding.update(scale_factor=1e-4, add_offset=0.0)
    with pytest.raises(DataError, match="scaled on opening"):
        scene_of(scaled, L2A, ["B04"])
    own = custom_sensor("own", [{"name": "B04"}])
    assert scene_of(scaled, own).dtype == np.float32
    monkeypatch.setitem(sys.modules, "rioxarray.exceptions", None)
    with pytest.raises(DataError, match=r"geotl\[xarray\]"):
        scene_of(array, L2A, ["B04"])


def test_the_sample_scene():
    path = ROOT / "sample_tiles" / "scene.tif"
    sensor = SENSORS["sentinel2_l2a"]
    array = rioxarray.open_rasterio(path, chunks=None)
    same(scene_of(array, sensor, ["B04", "B12"]), open_scene(path, sensor, ["B04", "B12"]))
