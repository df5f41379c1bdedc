"""Tiles of the scene: what they show, where they are transparent, and that little is read."""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import Resampling
from rasterio.transform import from_origin

from geotl.errors import DataError
from geotl.imagery.cloud_masks import Span
from geotl.imagery.scene import PixelSource, Scene, Stack, open_scene
from geotl.imagery.sensors import custom_sensor, get_sensor
from geotl.labelling.scene_tiles import SceneTiles
from geotl.labelling.scene_views import SceneViews, averaged
from geotl.labelling.tiles import EMPTY, RecentValues, png_of

BANDS = ["B02", "B03", "B04", "B08"]
S2 = get_sensor("sentinel2_l2a_n0400")


def write(
    path: Path, data: np.ndarray, names: Sequence[str] = BANDS, pixel: float = 10.0, **profile: Any
) -> Path:
    height, width = data.shape[1:]
    place = from_origin(300000, 5900000, pixel, pixel)
    kind = {"driver": "GTiff", "dtype": data.dtype.name, "crs": "EPSG:32633", "transform": place}
    size = {"count": len(data), "height": height, "width": width}
    with rasterio.open(path, "w", **{**kind, **size, **profile}) as to:
        to.write(data)
        to.descriptions = tuple(names)
    return path


def shown(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.mode == "RGBA"
        return np.asarray(picture)


def noise(height: int, width: int, bands: int = 4) -> np.ndarray:
    made = np.random.default_rng(0).integers(1100, 5000, (bands, height, width))
    return made.astype(np.uint16)


def test_a_png_holds_what_it_was_given() -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (5, 7, 4)).astype(np.uint8)
    np.testing.assert_array_equal(shown(png_of(rgba)), rgba)


@pytest.mark.parametrize("each", [1, 2, 4, 8, 16, 64])
def test_a_tile_shows_the_mean_of_its_pixels_from_low_to_high(tmp_path: Path, each: int) -> None:
    data = noise(700, 900)
    scene = open_scene(write(tmp_path / "a.tif", data), S2, BANDS)
    rgba = shown(SceneTiles(scene).tile([2, 1, 0], each, 0, 0))
    padded = np.zeros((3, 256 * each, 256 * each))
    part = data[[2, 1, 0], : 256 * each, : 256 * each]
    padded[:, : part.shape[1], : part.shape[2]] = part
    squares = padded.reshape(3, 256, each, 256, each)
    count = np.maximum((squares[0] > 0).sum(axis=(1, 3)), 1)
    low, high = (np.percentile(data[[2, 1, 0]], q, axis=(1, 2)) for q in (2, 98))
    share = (squares.sum(axis=(2, 4)) / count - low[:, None, None]) / (high - low)[:, None, None]
    wanted = np.rint(np.clip(share, 0, 1) * 255).transpose(1, 2, 0)
    inside = (squares[0] > 0).any(axis=(1, 3))
    assert (np.abs(rgba[inside][:, :3] - wanted[inside]) <= 6).all()  # limits are of a sample
    np.testing.assert_array_equal(rgba[..., 3], np.where(inside, 255, 0))
    assert not rgba[~inside].any()


def test_coarse_squares_are_means_of_means(tmp_path: Path) -> None:
    """The level of 64 comes from the squares of 8, by way of several of them."""
    data = noise(2200, 2300, bands=1)
    scene = open_scene(write(tmp_path / "a.tif", data, ["B02"]), S2, ["B02"])
    values, valid = SceneViews(scene).read([0], 64, 0, 0)
    full = data[0, :2176, :2240].reshape(34, 64, 35, 64).mean(axis=(1, 3))
    assert (np.abs(values[0, :34, :35] - full) <= 1).all()
    assert valid[0].sum() == 35 * 36
    assert not values[0, 35:].any()


def test_a_mean_is_of_valid_pixels_alone_and_keeps_its_type() -> None:
    data = np.array([[[-5, -7], [100, 2]]], np.int16)
    mean, valid = averaged(data, data < 50, 2)
    assert (mean.tolist(), mean.dtype, valid.tolist()) == ([[[-3]]], np.int16, [[[True]]])
    none = averaged(np.full((1, 2, 2), np.nan, np.float32), np.zeros((1, 2, 2), bool), 2)
    assert (none[0].tolist(), none[1].tolist()) == ([[[0.0]]], [[[False]]])


def test_beyond_the_scene_and_without_data_a_tile_is_transparent(tmp_path: Path) -> None:
    data = noise(300, 300)
    data[1, 10:20, 30:40] = 0  # no data of one of the bands shown
    data[3, 50:60, 30:40] = 0  # of one that is not
    tiles = SceneTiles(open_scene(write(tmp_path / "a.tif", data), S2, BANDS))
    alpha = shown(tiles.tile([2, 1, 0], 1, 0, 0))[..., 3]
    assert (alpha == 0).sum() == 100
    assert not alpha[10:20, 30:40].any()
    corner = shown(tiles.tile([2, 1, 0], 1, 1, 1))[..., 3]
    assert corner[:44, :44].all()
    assert not corner[44:].any()
    assert not corner[:, 44:].any()
    for x, y in [(2, 0), (0, 2), (-1, 0), (0, -1), (10**9, 10**9)]:
        assert tiles.tile([2, 1, 0], 1, x, y) == EMPTY


def test_clouds_are_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(64, 64))
    cloudy = write(tmp_path / "m.tif", np.ones((1, 64, 64), np.uint8), ["mask"])
    scene = open_scene(path, S2, BANDS, mask=cloudy)
    assert not scene.read(scene_window(64))[1].any()
    assert shown(SceneTiles(scene).tile([2, 1, 0], 1, 0, 0))[:64, :64, 3].all()


def scene_window(side: int) -> Any:
    from geotl.imagery.windows import Window

    return Window(0, 0, side, side)


def test_overviews_are_read_where_there_are_any(tmp_path: Path) -> None:
    """What stands in the overviews is shown, and so the pixels below were not read."""
    path = write(tmp_path / "a.tif", noise(1024, 1024), tiled=True)
    with rasterio.open(path, "r+") as to:
        to.build_overviews([2, 4, 8], Resampling.average)
        to.write(np.full((4, 1024, 1024), 1200, np.uint16))
    with rasterio.open(path) as stored:
        assert stored.overviews(1) == [2, 4, 8]
    scene = open_scene(path, S2, BANDS)
    values, valid = SceneViews(scene).read([2, 0], 4, 0, 0)
    assert values.std() > 50
    assert valid.all()
    assert (SceneViews(scene).read([2, 0], 1, 0, 0)[0] == 1200).all()


def test_bands_of_several_resolutions_lie_on_each_other(tmp_path: Path) -> None:
    """A coarse band's part of a tile begins where the tile begins, not a pixel before."""
    folder = tmp_path / "scene"
    folder.mkdir()
    fine, coarse = np.indices((1, 600, 600))[2], np.indices((1, 300, 300))[2]
    for name, band, pixel in [("B02", fine, 10.0), ("B8A", coarse * 2, 20.0)]:
        write(folder / f"x_{name}.tif", (band + 1000).astype(np.uint16), [name], pixel)
    scene = open_scene(folder, S2, ["B02", "B8A"])
    for each, x in itertools.product([1, 2, 8], [0, 1]):
        (blue, infrared), valid = SceneViews(scene).read([0, 1], each, x, 0)
        both = valid.all(axis=0)
        assert both.any() == (x * 256 * each < 600)
        gap = np.abs(blue[both].astype(int) - infrared[both])
        assert gap.max(initial=0) <= 1


class _Counted:
    """A layer of a stack that notes what is asked of it."""

    def __init__(self, layer: Any, asked: list[tuple[Span, Span]]) -> None:
        self._layer, self._asked = layer, asked
        self.reader, self.places = layer.reader, layer.places

    def read(self, rows: Span, columns: Span) -> Any:
        self._asked.append((rows, columns))
        return self._layer.read(rows, columns)

    def coarse(self, *args: Any) -> Any:
        return self._layer.coarse(*args)


def counted(folder: Path, side: int, names: Sequence[str]) -> tuple[Scene, list[Any]]:
    folder.mkdir()
    for name in names:
        write(folder / f"x_{name}.tif", noise(side, side, 1), [name])
    scene, asked = open_scene(folder, S2, names), list[Any]()
    source: PixelSource = scene.source
    assert isinstance(source, Stack)
    layers: Any = tuple(_Counted(layer, asked) for layer in source.layers)
    return replace(scene, source=Stack(layers)), asked


def test_only_the_bands_shown_are_read_and_only_the_tile(tmp_path: Path) -> None:
    scene, asked = counted(tmp_path / "scene", 2100, BANDS)
    views = SceneViews(scene)
    views.read([2, 1, 0], 2, 1, 1)
    assert asked == [((512, 1024), (512, 1024))] * 3


def test_a_square_is_read_once_for_all_coarser_tiles(tmp_path: Path) -> None:
    scene, asked = counted(tmp_path / "scene", 2100, ["B02"])
    views = SceneViews(scene)
    for each in (8, 16, 64, 512):
        views.read([0], each, 0, 0)
    areas = [(r[1] - r[0]) * (c[1] - c[0]) for r, c in asked]
    assert sum(areas) == 2100 * 2100
    assert max(areas) == 2048 * 512  # memory for a part of a square


def test_contrast_of_a_large_scene_comes_from_a_small_part_of_it(tmp_path: Path) -> None:
    scene, asked = counted(tmp_path / "scene", 2100, ["B02"])
    table = SceneViews(scene).quantiles([0])
    assert sum((r[1] - r[0]) * (c[1] - c[0]) for r, c in asked) == 49 * 128 * 128
    np.testing.assert_allclose(table[0, [20, 500, 980]], [1178, 3050, 4922], atol=25)


def test_contrast_follows_what_is_asked(tmp_path: Path) -> None:
    data = np.broadcast_to(np.arange(200, dtype=np.uint16) * 10 + 1000, (1, 200, 200)).copy()
    tiles = SceneTiles(open_scene(write(tmp_path / "a.tif", data, ["B02"]), S2, ["B02"]))
    soft, hard = (shown(tiles.tile([0], 1, 0, 0, contrast=cut))[0, :200, 0] for cut in (0, 40))
    assert (soft == 255).sum() == 1
    assert (hard == 255).sum() > 75
    grey = shown(tiles.tile([0], 1, 0, 0))
    assert (grey[..., 0] == grey[..., 2]).all()
    for odd in (-1.0, 1e9, float("nan")):
        assert shown(tiles.tile([0], 1, 0, 0, contrast=odd)).shape == (256, 256, 4)


def test_a_band_without_contrast_or_data_is_shown_grey_or_not(tmp_path: Path) -> None:
    data = noise(64, 64)
    data[0], data[1] = 2000, 0
    tiles = SceneTiles(open_scene(write(tmp_path / "a.tif", data), S2, BANDS))
    assert (shown(tiles.tile([0], 1, 0, 0))[:64, :64, 0] == 128).all()
    assert tiles.tile([1], 1, 0, 0) == EMPTY


@pytest.mark.parametrize("bands", [[], [0, 1], [0, 1, 4], [-1, 0, 0], [0, 1, 2, 3]])
def test_bands_that_are_not_there_get_one_line(tmp_path: Path, bands: list[int]) -> None:
    tiles = SceneTiles(open_scene(write(tmp_path / "a.tif", noise(9, 9)), S2, BANDS))
    with pytest.raises(DataError, match=r"give three positions from 0 to 3"):
        tiles.tile(bands, 1, 0, 0)
    for each in (0, -1, 3, 1 << 40):
        with pytest.raises(DataError, match="power of two"):
            tiles.tile([0], each, 0, 0)


def test_many_threads_see_the_same_tiles(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(2200, 2200), tiled=True, compress="deflate")
    wanted = [(e, x, y) for e in (1, 4, 16) for x in range(2) for y in range(2)] * 3
    alone = SceneTiles(open_scene(path, S2, BANDS))
    together = SceneTiles(open_scene(path, S2, BANDS))
    with ThreadPoolExecutor(8) as pool:
        many = list(pool.map(lambda key: together.tile([2, 1, 0], *key), wanted))
    assert many == [alone.tile([2, 1, 0], *key) for key in wanted]


def test_values_are_computed_once_and_dropped_by_size() -> None:
    kept: RecentValues[bytes] = RecentValues(10, len)
    begun, go, calls = threading.Event(), threading.Event(), []

    def slow() -> bytes:
        calls.append(1)
        begun.set()
        assert go.wait(10)
        return b"1234"

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(kept.get, "a", slow)
        assert begun.wait(10)
        others = [pool.submit(kept.get, "a", slow) for _ in range(2)]
        go.set()
        assert [one.result() for one in (first, *others)] == [b"1234"] * 3
    assert calls == [1]
    for name in "bc":
        kept.get(name, lambda: b"5678")
    assert kept.bytes == 8
    assert kept.get("a", lambda: b"new") == b"new"
    assert kept.get("huge", lambda: b"x" * 11) == b"x" * 11
    assert kept.bytes <= 10


def test_an_error_reaches_who_asked_and_is_not_kept() -> None:
    kept: RecentValues[int] = RecentValues(10, lambda _: 1)
    with pytest.raises(ZeroDivisionError):
        kept.get("a", lambda: 1 // 0)
    assert kept.get("a", lambda: 7) == 7


@pytest.mark.parametrize(
    ("bands", "true", "false", "first"),
    [
        ({"B02": 490, "B03": 560, "B04": 665, "B08": 842}, [2, 1, 0], [3, 2, 1], [2, 1, 0]),
        ({"nir": 840, "red": 660, "green": 550}, None, [0, 1, 2], [0, 1, 2]),
        ({"pan": 600}, None, None, [0, 0, 0]),
        ({"vv": None, "vh": None}, None, None, [0, 1, 0]),
        ({"red": None, "green": None, "blue": None}, [0, 1, 2], None, [0, 1, 2]),
        ({"tir": 10900, "swir": 1610, "x": None}, None, None, [0, 1, 2]),
    ],
)
def test_colours_follow_the_sensor(
    tmp_path: Path, bands: dict[str, Any], true: Any, false: Any, first: Any
) -> None:
    described = [{"name": name, "wavelength_nm": nm} for name, nm in bands.items()]
    path = write(tmp_path / "a.tif", noise(20, 30, len(bands)), list(bands))
    scene = open_scene(path, custom_sensor("drone", described))
    facts = SceneTiles(scene).facts()
    assert (facts["true_colour"], facts["false_colour"], facts["shown"]) == (true, false, first)
    assert (facts["name"], facts["width"], facts["height"]) == ("a", 30, 20)
    assert facts["pixel_m"] == pytest.approx(10, abs=0.02)
    assert facts["wavelengths"] == list(bands.values())
    assert facts["transform"] == list(scene.grid.transform)
    assert facts["geographic"] is False
    assert SceneTiles(scene).tile(facts["shown"], 1, 0, 0) != EMPTY


def test_float_scenes_with_nan_are_shown(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((1, 40, 40)).astype(np.float32)
    data[0, :10] = np.nan
    path = write(tmp_path / "a.tif", data, ["grey"])
    scene = open_scene(path, custom_sensor("radar", [{"name": "grey"}]))
    rgba = shown(SceneTiles(scene).tile([0], 1, 0, 0))
    assert not rgba[:10, :, 3].any()
    assert rgba[10:40, :40, 3].all()
    assert rgba[10:40, :40, 0].std() > 50
