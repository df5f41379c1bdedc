"""Extra rasters on a scene's grid: values, validity, windows, names, and files that do not go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.extra_rasters import SIDE, dem_of, height, made_dem, made_scene, middles
from helpers.labelled_scenes import BANDS
from helpers.tiles import write_tile
from rasterio.transform import from_origin

from geotl.errors import DataError
from geotl.imagery import resampling
from geotl.imagery.resampling import meets
from geotl.imagery.scene import Scene, open_scene
from geotl.imagery.sensors import get_sensor
from geotl.imagery.stacked import extra_sources, open_extras, own_bands, stacked
from geotl.imagery.windows import Window

L2A = get_sensor("sentinel2_l2a")
PLACE = from_origin(500000, 4600000, 10, 10)
WHOLE = Window(0, 0, SIDE, SIDE)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    path, _ = made_scene(tmp_path_factory.mktemp("scene"))
    return open_scene(path, L2A, BANDS)


@pytest.fixture(scope="module")
def dem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_dem(tmp_path_factory.mktemp("dem") / "dem.tif")


def with_(scene: Scene, *paths: Path) -> Scene:
    return stacked(scene, open_extras(paths, L2A))


def test_heights_in_degrees_are_laid_where_they_belong(scene: Scene, dem: Path) -> None:
    """Within what a straight line between middles 28 m apart may miss of these hills."""
    found = with_(scene, dem)
    data, valid = found.read(WHOLE)
    x, y = middles(PLACE, (SIDE, SIDE))
    assert found.bands == (*BANDS, "dem_1")
    assert data.dtype == np.float32
    far = np.s_[100:, :175]  # from nodata, beside which values are those of the nearest pixel
    assert valid[4][far].all()
    assert np.abs(data[4] - height(x, y))[far].max() < 4
    np.testing.assert_array_equal(data[:4], scene.read(WHOLE)[0])
    np.testing.assert_array_equal(valid[:4], scene.read(WHOLE)[1])


def test_nothing_is_valid_beyond_the_raster_at_nodata_and_without_the_scene(
    scene: Scene, dem: Path
) -> None:
    seen = with_(scene, dem).read(WHOLE)[1][4]
    assert not seen[:30, :30].any()  # the scene's own nodata
    assert not seen[:, 182:].any()
    assert seen[100:, :175].all()
    hole = ~seen[31:100, 31:175]
    assert 30 * 20 < hole.sum() < 36 * 30


def test_a_pixel_has_the_same_value_in_every_window(scene: Scene, dem: Path) -> None:
    found = with_(scene, dem)
    data, valid = found.read(WHOLE)
    for window in (Window(0, 0, 7, SIDE), Window(33, 41, 1, 1), Window(-5, 150, 90, 60)):
        part, seen = found.read(window)
        rows, cols = (
            slice(max(0, at), min(SIDE, at + n))
            for at, n in ((window.row, window.height), (window.col, window.width))
        )
        here = np.s_[
            :,
            rows.start - window.row : rows.stop - window.row,
            cols.start - window.col : cols.stop - window.col,
        ]
        np.testing.assert_array_equal(part[here], data[:, rows, cols])
        np.testing.assert_array_equal(seen[here], valid[:, rows, cols])


def test_a_raster_on_the_scenes_grid_keeps_its_values(scene: Scene, tmp_path: Path) -> None:
    """64-bit values become float32, and a declared scale is applied."""
    given = np.random.default_rng(0).normal(size=(2, SIDE, SIDE))
    given[0, 50, 50] = np.nan
    given[0, 60, 60] = 1e300
    path = write_tile(tmp_path / "emb.tif", given, names=["A00", "A01"])
    with rasterio.open(path, "r+") as target:
        target.scales, target.offsets = (1.0, 2.0), (0.0, 5.0)
    found = with_(scene, path)
    data, valid = found.read(WHOLE)
    assert found.bands[4:] == ("A00", "A01")
    assert not valid[4, 50, 50]
    assert not valid[4, 60, 60]
    good = valid[4]
    np.testing.assert_array_equal(data[4][good], given[0][good].astype(np.float32))
    want = (given[1] * 2 + 5).astype(np.float32)
    np.testing.assert_array_equal(data[5][good], want[good])


def test_integers_are_not_rounded_when_they_are_interpolated(scene: Scene, tmp_path: Path) -> None:
    """A height model of whole metres in pixels of 100 m would come in steps."""
    steps = np.arange(20, dtype=np.int16)[None, None].repeat(20, axis=1)
    path = write_tile(tmp_path / "d.tif", steps, transform=from_origin(500000, 4600000, 100, 100))
    data, _ = with_(scene, path).read(Window(100, 50, 1, 10))
    np.testing.assert_allclose(np.diff(data[4, 0]), 0.1, atol=1e-5)


def test_finer_pixels_are_averaged_strip_by_strip(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = dem_of(tmp_path / "d.tif", "EPSG:32633", from_origin(500000, 4600000, 2, 2), (500, 500))
    found = with_(scene, path)
    window = Window(40, 40, 30, 30)
    data, valid = found.read(window)
    with rasterio.open(path) as source:
        fine = source.read(1)[200:350, 200:350].astype(np.float64)
    mean = fine.reshape(30, 5, 30, 5).mean(axis=(1, 3))
    np.testing.assert_allclose(data[4], mean, rtol=1e-6)
    monkeypatch.setattr(resampling, "_POINTS_AT_ONCE", 1000)
    strips = found.read(window)
    np.testing.assert_array_equal(strips[0], data)
    np.testing.assert_array_equal(strips[1], valid)


def test_names_come_from_descriptions_unless_the_sensor_knows_them(
    scene: Scene, tmp_path: Path
) -> None:
    two = np.ones((2, SIDE, SIDE), np.float32)
    sar = write_tile(tmp_path / "sar.tif", two, names=["VV", "VH"])
    old = write_tile(tmp_path / "old.tif", two, names=["nir", "VX"])
    part = write_tile(tmp_path / "part.tif", two, names=["VZ", ""])
    found = with_(scene, sar, old, part)
    more = ("VV", "VH", "old_1", "old_2", "part_1", "part_2")
    assert found.bands == (*BANDS, *more)
    assert own_bands(found) == tuple(BANDS)
    assert extra_sources(found) == (sar, sar, old, old, part, part)
    assert found.parts == (scene.path, sar, old, part)


def test_few_pixels_to_look_at_have_any_band(scene: Scene, dem: Path) -> None:
    data, _ = with_(scene, dem).coarse(Window(100, 0, 50, 50), [4, 2], (10, 10))
    whole, _ = with_(scene, dem).read(Window(100, 0, 50, 50))
    assert data.shape == (2, 10, 10)
    assert np.corrcoef(data[0].ravel(), whole[4, 2::5, 2::5].ravel())[0, 1] > 0.95
    np.testing.assert_array_equal(
        data[1], scene.coarse(Window(100, 0, 50, 50), [2], (10, 10))[0][0]
    )


def bad(kind: str, folder: Path) -> Path:
    """A raster that cannot be laid on the scene."""
    one, path = np.ones((1, SIDE, SIDE), np.uint8), folder / "bad.tif"
    if kind == "no system":
        return write_tile(path, one, crs=None)
    if kind == "elsewhere":
        return write_tile(path, one, transform=from_origin(700000, 4600000, 10, 10))
    if kind == "another hemisphere":
        return write_tile(path, one, crs="EPSG:32760")
    if kind == "too fine":
        return write_tile(path, one, transform=from_origin(500900, 4599100, 0.1, 0.1))
    if kind == "text":
        path.write_text("no raster")
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no system", "gdal_edit.py -a_srs"),
        ("elsewhere", "does not meet the scene"),
        ("another hemisphere", "does not meet the scene"),
        ("too fine", "make it coarser first"),
        ("text", "bad.tif"),
        ("gone", "bad.tif"),
    ],
)
def test_rasters_that_do_not_go_are_named(
    scene: Scene, tmp_path: Path, kind: str, words: str
) -> None:
    path = bad(kind, tmp_path)
    with pytest.raises(DataError, match=words) as error:
        with_(scene, path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_two_bands_of_one_name_are_refused(scene: Scene, dem: Path) -> None:
    with pytest.raises(DataError, match="more than one extra band is called dem_1"):
        with_(scene, dem, dem)


def test_a_raster_within_one_pixel_of_a_large_scene_meets_it(scene: Scene, tmp_path: Path) -> None:
    small = from_origin(500903, 4599097, 1, 1)
    extra = open_extras([dem_of(tmp_path / "d.tif", "EPSG:32633", small, (4, 4))], L2A)[0]
    assert meets(extra, scene.grid)
    assert not meets(scene, from_far(extra))


def from_far(extra: Scene):
    """A grid like an extra raster's, beside the scene."""
    a, b, c, d, e, f = extra.grid.transform
    return replace(extra.grid, transform=(a, b, c - 5000, d, e, f))
