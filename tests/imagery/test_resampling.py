"""A scene on another grid: exact where it can be, alike in any window, nothing bled."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from helpers.tiles import write_tile
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin
from rasterio.warp import Resampling, reproject, transform_bounds

from geotl.errors import DataError
from geotl.imagery.band_files import read_folder
from geotl.imagery.resampling import _places, resampled
from geotl.imagery.scene import open_scene
from geotl.imagery.sensors import SENSORS
from geotl.imagery.windows import Window
from geotl.io.raster import Grid

L2A, L1C = SENSORS["sentinel2_l2a"], SENSORS["sentinel2_l1c"]
RNG = np.random.default_rng(8)
LAT = Grid("EPSG:4326", (1e-4, 0.0, 14.9985, 0.0, -1e-4, 41.5515), 60, 70)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("warp")
    data = RNG.integers(1, 5000, (2, 48, 60)).astype(np.uint16)
    data[0][RNG.random((48, 60)) < 0.2] = 0
    path = write_tile(folder / "s.tif", data, names=["B04", "B08"])
    cloud = np.zeros((1, 48, 60), np.uint8)
    cloud[0, 10:20, 10:20] = 1
    write_tile(folder / "s_cloud_mask.tif", cloud)
    return open_scene(path, L2A, ["B04", "B08"])


def whole(scene):
    return scene.read(Window(0, 0, scene.grid.height, scene.grid.width))


def test_its_own_grid_gives_the_pixels_back(scene):
    same = resampled(scene, 10.0)
    assert same.grid == scene.grid
    (data, valid), (got, known) = whole(scene), whole(same)
    np.testing.assert_array_equal(known, valid)
    np.testing.assert_array_equal(got, np.where(valid, data, 0))
    window = Window(-3, -4, 30, 30)
    np.testing.assert_array_equal(same.cloudy(window), scene.cloudy(window))


def test_coarser_pixels_are_means_of_the_valid_ones(scene):
    coarse = resampled(scene, 20.0)
    assert (coarse.grid.height, coarse.grid.width) == (24, 30)
    data, valid = whole(scene)
    blocks = np.where(valid, data, 0).reshape(2, 24, 2, 30, 2).sum(axis=(2, 4))
    count = valid.reshape(2, 24, 2, 30, 2).sum(axis=(2, 4))
    seen = count >= 2
    expected = np.where(seen, np.rint(blocks / np.maximum(count, 1)), 0)
    got, known = whole(coarse)
    np.testing.assert_array_equal(known, seen)
    np.testing.assert_array_equal(got, expected)
    assert coarse.cloudy(Window(5, 5, 5, 5)).all()
    assert coarse.cloudy(Window(0, 0, 24, 30)).sum() == 25


def test_finer_pixels_are_those_of_a_folders_coarse_band(tmp_path):
    folder = tmp_path / "s"
    for band, side in (("B02", 48), ("B01", 8)):
        data = RNG.integers(0, 4, (1, side, side)).astype(np.uint16) * 700
        place = from_origin(500000, 4600000, 480 / side, 480 / side)
        write_tile(folder / f"a_{band}.tif", data, transform=place)
    fine = read_folder(folder, L2A, ["B02", "B01"])
    data, valid = whole(resampled(open_scene(folder, L2A, ["B01"]), 10.0))
    np.testing.assert_array_equal(valid[0], fine.valid[1])
    assert np.abs(data[0].astype(int) - fine.data[1]).max() <= 1


@pytest.mark.parametrize("onto", [7.0, 23.0, LAT])
def test_windows_agree_to_the_bit(scene, onto):
    view = resampled(scene, onto)
    data, valid = whole(view)
    frame = [np.pad(x, ((0, 0), (20, 20), (20, 20))) for x in (data, valid)]
    assert valid.any()

    @settings(max_examples=25, deadline=None)
    @given(st.integers(-15, 40), st.integers(-15, 40), st.integers(1, 20), st.integers(1, 20))
    def agree(row, col, height, width):
        part = view.read(Window(row, col, height, width))
        rows = slice(20 + row, 20 + min(row + height, view.grid.height))
        cols = slice(20 + col, 20 + min(col + width, view.grid.width))
        for got, full in zip(part, frame, strict=True):
            expected = full[:, rows, cols]
            np.testing.assert_array_equal(
                got[:, : expected.shape[1], : expected.shape[2]], expected
            )

    agree()


def test_nothing_bleeds_from_what_is_not_valid(tmp_path):
    data = np.full((1, 48, 48), 1000, np.uint16)
    data[0, 20:30, 20:30] = 0
    data[0, 5:8, 5:8] = 65535
    path = write_tile(tmp_path / "s.tif", data, names=["B04"], nodata=65535)
    for onto in (3.0, 13.0, 40.0, LAT):
        got, valid = whole(resampled(open_scene(path, L2A, ["B04"]), onto))
        assert set(np.unique(got[valid])) == {1000}
        assert not got[~valid].any()
        assert 0 < valid.mean() < 1


def test_another_reference_system_agrees_with_gdal(tmp_path):
    """A smooth surface, so that nothing but a shift or a wrong axis could tell them apart."""
    row, col = np.mgrid[:96, :80]
    data = (1000 + 10 * row + 7 * col + 50 * np.sin(row / 9)).astype(np.float32)[None]
    path = write_tile(tmp_path / "s.tif", data, names=["B04"])
    west, _, _, north = transform_bounds(
        "EPSG:32633", "EPSG:32632", 500000, 4599040, 500800, 4600000
    )
    grid = Grid("EPSG:32632", (12.0, 0.0, west, 0.0, -12.0, north), 70, 60)
    got, valid = whole(resampled(open_scene(path, L2A, ["B04"]), grid))
    theirs = np.zeros((70, 60), np.float32)
    reproject(
        data[0],
        theirs,
        src_transform=from_origin(500000, 4600000, 10, 10),
        src_crs="EPSG:32633",
        dst_transform=rasterio.Affine(*grid.transform),
        dst_crs="EPSG:32632",
        resampling=Resampling.bilinear,
        tolerance=0,
    )
    both = valid[0] & (theirs > 0)
    inner = both[5:-5, 5:-5]
    assert inner.mean() > 0.6
    assert np.abs(got[0] - theirs)[5:-5, 5:-5][inner].max() < 3  # 10 a pixel
    far = Grid("EPSG:32632", (*grid.transform[:2], west + 5e4, *grid.transform[3:]), 9, 9)
    assert not whole(resampled(open_scene(path, L2A, ["B04"]), far))[1].any()


def test_grids_that_cannot_be(scene, tmp_path):
    path = write_tile(
        tmp_path / "d.tif",
        np.ones((1, 9, 9), np.uint16),
        names=["B04"],
        crs="EPSG:4326",
        transform=from_origin(15, 41, 1e-4, 1e-4),
    )
    turned = Grid("EPSG:32633", (7.0, 7.0, 5e5, 7.0, -7.0, 46e5), 9, 9)
    faults = {
        "no unit of length": (open_scene(path, L2A, ["B04"]), 10.0),
        "positive number of metres": (scene, -3.0),
        "spans 100 of": (scene, 1000.0),
        "rotated": (scene, turned),
        "cannot convert": (scene, Grid("EPSG:32633", (1e9, 0.0, 1e12, 0.0, -1e9, 1e12), 9, 9)),
    }
    for words, (given_scene, onto) in faults.items():
        if words == "cannot convert":
            onto = Grid("EPSG:4326", (1.0, 0.0, 1e6, 0.0, -1.0, 1e6), 9, 9)  # noqa: PLW2901
        with pytest.raises(DataError, match=words) as caught:
            resampled(given_scene, onto)
        assert "\n" not in str(caught.value)


@pytest.mark.real_data
def test_havel_at_20_metres(real_data):
    scene = open_scene(real_data / "sentinel2_l1c_havel", L1C, ["B04", "B8A"])
    view = resampled(scene, 20.0)
    assert (view.grid.height, view.grid.width) == (384, 768)
    data, _ = scene.read(Window(200, 300, 64, 64))
    half, valid = view.read(Window(100, 150, 32, 32))
    assert valid.all()
    mean = data[0].reshape(32, 2, 32, 2).mean(axis=(1, 3))
    assert np.abs(half[0] - mean).max() <= 0.5


def test_places_that_no_system_expresses_are_infinite_without_a_warning():
    """Red before: inf * 0, whose warning was switched off, and nan in place of inf."""
    earth = Grid("EPSG:4326", (10.0, 0.0, -180.0, 0.0, -10.0, 90.0), 18, 36)
    utm = Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0), 48, 64)
    row, col = np.arange(18)[:, None] + 0.5, np.arange(36)[None] + 0.5
    with np.errstate(invalid="raise"):
        places = _places(earth, utm, row, col)
    lost = ~np.isfinite(places[0])
    assert lost.any()
    assert not lost.all()
    for place in places:
        assert not np.isnan(place).any()
        np.testing.assert_array_equal(np.isinf(place), lost)
