"""Class rasters as labels of pixels: so many a class, spread, each once, on the scene's grid."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.tiles import write_tile
from rasterio.transform import from_origin

from geotl.data import raster_pixels
from geotl.data.labels import raster_labels
from geotl.data.pixel_labels import PixelPlacement, PixelRules
from geotl.data.raster_pixels import place_raster_pixels
from geotl.errors import DataError
from geotl.imagery.scene import Scene, open_scene
from geotl.imagery.sensors import get_sensor

BANDS = ["B02", "B03", "B04"]


def opened(path: Path, data: np.ndarray, mask: Path | None = None, **profile) -> Scene:
    scene = write_tile(path, data, names=BANDS, **profile)
    return open_scene(scene, get_sensor("sentinel2_l2a"), BANDS, mask=mask)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A scene of 100 px: no data in its first rows, no B04 in the next, cloud at its right."""
    folder = tmp_path_factory.mktemp("scene")
    data = np.full((3, 100, 100), 500, np.uint16)
    data[:, :10] = 0
    data[2, 10:20] = 0
    cloud = np.zeros((1, 100, 100), np.uint8)
    cloud[:, :, 90:] = 1
    return opened(folder / "scene.tif", data, write_tile(folder / "mask.tif", cloud))


@pytest.fixture(scope="module")
def classes() -> np.ndarray:
    """Class 0 everywhere but for 1 in the lower half, and a square of 2 at the lower left."""
    values = np.zeros((100, 100), np.uint8)
    values[50:] = 1
    values[90:, :5] = 2
    return values


def drawn(
    scenes: list[Scene], path: Path, values: np.ndarray, names=None, **rules: int
) -> PixelPlacement:
    raster = path if path.exists() else write_tile(path, values[None])
    return place_raster_pixels(scenes, raster_labels(raster, names=names), PixelRules(**rules))


def places(found: PixelPlacement, name: str) -> np.ndarray:
    return np.array([(p.place.row, p.place.col) for p in found.pixels if p.class_name == name])


def test_every_class_gives_so_many_pixels_of_its_own(scene, classes, tmp_path) -> None:
    found = drawn([scene], tmp_path / "c.tif", classes, per_class=60)
    counts = Counter(p.class_name for p in found.pixels)
    assert counts == {"0": 60, "1": 60, "2": 50}  # there are but 50 of the last
    for pixel in found.pixels:
        row, col = pixel.place.row, pixel.place.col
        assert classes[row, col] == int(pixel.class_name)
        assert row >= 10
        assert col < 90
        assert (pixel.label_id, pixel.weight) == (f"raster:{row},{col}", 1.0)
    assert len({p.label_id for p in found.pixels}) == 170
    assert [p.place for p in found.pixels] == sorted(p.place for p in found.pixels)


def test_pixels_are_spread_over_the_scene(scene, tmp_path) -> None:
    """Every cell of the lattice gives one before any gives two."""
    found = drawn([scene], tmp_path / "c.tif", np.ones((100, 100), np.uint8), per_class=100)
    cells = Counter((row // 10, col // 10) for row, col in places(found, "1").tolist())
    assert len(cells) == 9 * 9  # those with data and without cloud
    assert sorted(cells.values()) == [1] * 62 + [2] * 19


@pytest.mark.parametrize("block_px", [30, 512])
def test_a_lattice_in_several_blocks_is_the_same_lattice(
    scene, tmp_path, monkeypatch: pytest.MonkeyPatch, block_px: int
) -> None:
    monkeypatch.setattr(raster_pixels, "_BLOCK_PX", block_px)
    found = drawn([scene], tmp_path / "c.tif", np.ones((100, 100), np.uint8), per_class=81)
    own = places(found, "1")
    side = 11  # isqrt(100 * 100 // 81)
    cells = Counter((row // side, col // side) for row, col in own.tolist())
    assert len(own) == 81
    assert max(cells.values()) == 1


def test_the_draw_is_that_of_the_seed(scene, classes, tmp_path) -> None:
    own = [drawn([scene], tmp_path / "c.tif", classes, per_class=9, seed=s) for s in (1, 1, 2)]
    assert own[0].pixels == own[1].pixels
    assert own[0].pixels != own[2].pixels


def test_names_nodata_and_floats_are_taken_as_for_tiles(scene, classes, tmp_path) -> None:
    values = classes.astype(np.float32)
    values[60:70] = np.nan
    values[70:80] = -1
    path = write_tile(tmp_path / "f.tif", values[None], nodata=-1)
    found = drawn([scene], path, values, {"0": None, "1": "wood"}, per_class=2000)
    assert {p.class_name for p in found.pixels} == {"wood", "2"}
    rows = set(places(found, "wood")[:, 0].tolist())
    assert rows == {*range(50, 60), *range(80, 100)}


def test_values_that_are_not_whole_are_refused(scene, tmp_path) -> None:
    values = np.ones((100, 100), np.float32)
    values[40, 40] = 0.25
    with pytest.raises(DataError, match=r"f\.tif: contains the value 0\.25; .* whole numbers"):
        drawn([scene], tmp_path / "f.tif", values)


def test_all_bands_leaves_pixels_out_that_lack_one(scene, classes, tmp_path) -> None:
    given = [scene], tmp_path / "c.tif", classes
    assert places(drawn(*given, per_class=9000), "0")[:, 0].min() == 10
    assert places(drawn(*given, per_class=9000, all_bands=True), "0")[:, 0].min() == 20
    (line,) = drawn(*given, per_class=9).notes
    assert line == "900 of 10000 pixels with a class in c.tif lack some bands"


def test_a_class_under_cloud_or_without_data_is_rejected(scene, classes, tmp_path) -> None:
    values = classes.copy()
    values[:5] = 7
    values[30:40, 95:] = 8
    found = drawn([scene], tmp_path / "c.tif", values)
    reasons = [(one.label_id, one.reason, one.class_name) for one in found.rejected]
    assert reasons == [("raster:7", "nodata", "7"), ("raster:8", "cloudy", "8")]
    assert [line.split(" lost")[0] for line in found.lost_classes()] == ["Class 7", "Class 8"]


def test_a_pixel_that_two_scenes_show_is_taken_once(scene, classes, tmp_path) -> None:
    """The second scene begins 40 pixels further east; where the first has cloud it has none."""
    east = opened(
        tmp_path / "east.tif",
        np.full((3, 100, 100), 500, np.uint16),
        transform=from_origin(500400, 4600000, 10, 10),
    )
    both = np.hstack([classes, classes])[:, :140]
    found = drawn([scene, east], tmp_path / "c.tif", both, per_class=20_000)
    ids = [pixel.label_id for pixel in found.pixels]
    assert len(ids) == len(set(ids)) == 140 * 100 - 40 * 10
    for pixel in found.pixels:
        col = pixel.place.col + 40 * pixel.place.scene
        assert pixel.label_id == f"raster:{pixel.place.row},{col}"
        assert both[pixel.place.row, col] == int(pixel.class_name)
    assert Counter(p.place.scene for p in found.pixels)[0] == 90 * 90


def test_a_raster_may_reach_further_than_the_scene(scene, tmp_path) -> None:
    values = np.ones((140, 150), np.uint8)
    values[20:120, 30:130] = 2
    path = write_tile(
        tmp_path / "c.tif", values[None], transform=from_origin(499700, 4600200, 10, 10)
    )
    found = drawn([scene], path, values, per_class=5)
    assert {p.class_name for p in found.pixels} == {"2"}
    first = found.pixels[0]
    assert first.label_id == f"raster:{first.place.row + 20},{first.place.col + 30}"


@pytest.mark.parametrize(
    "profile",
    [
        {"transform": from_origin(500005, 4600000, 10, 10)},
        {"transform": from_origin(500000, 4600000, 20, 20)},
        {"crs": "EPSG:32632"},
        {"crs": "EPSG:4326", "transform": from_origin(15, 41.5, 1e-4, 1e-4)},
    ],
    ids=["half a pixel apart", "coarser", "another zone", "degrees"],
)
def test_another_grid_is_refused_with_a_command(scene, classes, tmp_path, profile) -> None:
    path = write_tile(tmp_path / "c.tif", classes[None], **profile)
    with pytest.raises(DataError) as told:
        drawn([scene], path, classes)
    text = str(told.value)
    assert text.startswith(f"{path}: lies on another grid than {scene.path}")
    assert "gdalwarp -r near -t_srs EPSG:32633 -te 500000 4599000 501000 4600000" in text
    assert "\n" not in text


def test_a_raster_beside_the_scene_is_refused(scene, classes, tmp_path) -> None:
    path = write_tile(
        tmp_path / "c.tif", classes[None], transform=from_origin(510000, 4600000, 10, 10)
    )
    with pytest.raises(DataError, match="no pixel of a class lies within"):
        drawn([scene], path, classes)


def test_too_many_classes_are_refused(scene, tmp_path) -> None:
    values = np.arange(10_000, dtype=np.uint16).reshape(100, 100)
    with pytest.raises(DataError, match="more than 254 classes"):
        drawn([scene], tmp_path / "c.tif", values)


def test_memory_does_not_grow_with_the_scene(tmp_path) -> None:
    """Blocks are read one after the other, and no more pixels are kept than are wanted."""
    peaks = []
    for side in (600, 1800):
        folder = tmp_path / str(side)
        big = opened(folder / "s.tif", np.full((3, side, side), 500, np.uint16), tiled=True)
        path = write_tile(folder / "c.tif", np.ones((1, side, side), np.uint8))
        tracemalloc.start()
        assert len(drawn([big], path, np.zeros(0), per_class=50).pixels) == 50
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        big.close()
    assert peaks[1] < 1.3 * peaks[0]
