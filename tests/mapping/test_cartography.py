"""The sheet of a map: what stands on it, and that everything on it is in its right place."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from helpers.finished_maps import UTM, made_facts, made_look, made_values, written_map
from helpers.memory_scene import MadeScene, made_grid
from helpers.tiles import write_tile
from pyproj import Geod, Transformer
from rasterio.transform import Affine, from_origin

from geotl.imagery.resampling import resampled
from geotl.imagery.scene import open_scene
from geotl.imagery.sensors import get_sensor
from geotl.imagery.windows import Window
from geotl.io.geodesy import ground_of
from geotl.io.raster import Grid
from geotl.mapping import preview
from geotl.mapping.cartography import laid_out, legend_entries, map_figure, rgb_of
from geotl.mapping.graticule import graticule, lattice
from geotl.mapping.map_words import MapFacts, area_name, source_line
from geotl.mapping.preview import Look, counts_of, each_of, mean_of, picture_of, read_look, thumb_of

DEGREES = Grid("EPSG:4326", (0.01, 0.0, 10.0, 0.0, -0.01, 66.0), 200, 300)
WEST = Grid("EPSG:32632", (10.0, 0, 1000400.0, 0, -10.0, 4617500.0), 70, 100)
LONG = "broadleaved or mixed woodland on wet soils and along rivers, with undergrowth"


def drawn(look: Look, facts: MapFacts) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(map_figure(look, facts)))


def share_of(image: np.ndarray, colour: str) -> float:
    wanted = np.array(rgb_of([colour])[0]) / 255
    return float((np.abs(image[..., :3] - wanted).max(axis=2) < 0.01).mean())


def test_the_sheet_shows_each_class_in_its_colour_and_no_other() -> None:
    look = made_look()
    facts = made_facts(look)
    image = drawn(look, facts)
    assert image.shape[1] > 1200
    shares = [share_of(image, colour) for colour in facts.colours]
    assert min(shares) > 0.03
    alone = made_facts(replace(look, classes=np.where(look.classes == 255, 255, 0).astype("uint8")))
    one = drawn(replace(look, classes=np.where(look.classes == 255, 255, 0).astype("uint8")), alone)
    assert share_of(one, facts.colours[0]) > 0.1
    assert share_of(one, facts.colours[1]) < 1e-4


def test_equal_maps_are_equal_bytes() -> None:
    look = made_look()
    assert map_figure(look, made_facts(look)) == map_figure(look, made_facts(look))


@pytest.mark.parametrize(
    ("height", "width", "classes"),
    [(1, 1, 2), (5, 4, 3), (12, 300, 9), (300, 12, 9), (200, 210, 45), (60, 150, 45), (90, 30, 45)],
)
@pytest.mark.parametrize("long", [True, False])
def test_maps_of_any_shape_fit_their_sheet(height, width, classes, long) -> None:
    grid = replace(UTM, height=height, width=width)
    look = made_look(grid, classes)
    names = [f"{LONG if long else 'class'} {k}" for k in range(classes)]
    image = drawn(look, made_facts(look, names))
    assert 300 < image.shape[0] < 3500
    assert 1200 < image.shape[1] < 1800  # nothing reaches beyond the sheet


@pytest.mark.parametrize("ratio", [0.01, 0.3, 0.7, 1.0, 1.29, 2.0, 3.6, 50.0])
@pytest.mark.parametrize("entries", [2, 10, 46, 254])
@pytest.mark.parametrize("name_in", [0.5, 2.0, 9.0])
def test_panels_and_legend_never_overlap(ratio, entries, name_in) -> None:
    found = laid_out(ratio, entries, name_in)
    boxes = [found.classes, found.confidence, found.legend]
    for i, one in enumerate(boxes):
        assert one.left >= 0.39
        assert one.left + one.width <= 10.6 - 0.39
        assert one.bottom <= found.height
        for other in boxes[i + 1 :]:
            across = one.left < other.left + other.width and other.left < one.left + one.width
            down = one.top < other.bottom and other.top < one.bottom
            assert not (across and down)
    for box in boxes[:2]:
        assert box.width / box.height == pytest.approx(ratio)


def test_the_legend_is_what_is_there_largest_first() -> None:
    look = made_look()
    look.classes[look.classes == 2] = 1
    entries = legend_entries(made_facts(look))
    names = [name for name, _, _ in entries]
    assert names[0] == "class 1"
    assert "class 2" not in names
    assert names[-1] == "not mapped"
    assert entries[-1][1:] == (None, "2.0 %")
    total = sum(float(share.rstrip(" %")) for _, _, share in entries)
    assert total == pytest.approx(100, abs=0.2)


def test_words_of_a_map_without_metres() -> None:
    look = made_look(replace(UTM, crs=None))
    facts = made_facts(look)
    nan = np.full(4, math.nan)
    facts = replace(
        facts, areas=replace(facts.areas, square_metres=nan, unmapped_square_metres=math.nan)
    )
    assert facts.ground(facts.mapped_m2, 1176) == "1,176 px"
    assert drawn(look, facts).size
    assert "0.886" in source_line(facts)
    assert area_name(1.234e12) == "1,234,000 km²"


def test_ground_is_that_of_the_ellipsoid() -> None:
    for grid in (UTM, DEGREES, replace(UTM, crs="EPSG:3857"), made_grid(turn=True)):
        found = ground_of(grid)
        assert found is not None
        x, y = grid.centre
        a, b, _, d, e, _ = grid.transform
        to_degrees = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform
        here, right, up = to_degrees(x, y), to_degrees(x + a, y + d), to_degrees(x - b, y - e)
        geod = Geod(ellps="WGS84")
        assert found.across_m == pytest.approx(geod.inv(*here, *right)[2], rel=1e-3)
        azimuth, _, down = geod.inv(*here, *up)
        assert found.down_m == pytest.approx(down, rel=1e-3)
        assert found.north_deg == pytest.approx(-azimuth, abs=0.01)
    turned = ground_of(made_grid(turn=True))
    assert turned is not None
    assert abs(turned.north_deg) == pytest.approx(math.degrees(math.atan(3 / 4)), abs=0.1)
    assert ground_of(DEGREES).across_m < 0.5 * ground_of(DEGREES).down_m
    assert ground_of(replace(UTM, crs=None)) is None


@pytest.mark.parametrize(
    "grid",
    [
        UTM,
        DEGREES,
        made_grid(turn=True),
        Grid("EPSG:4326", (1.0, 0, -180.0, 0, -1.0, 90.0), 180, 360),
    ],
)
def test_lines_of_the_graticule_lie_where_they_say(grid: Grid) -> None:
    lines = graticule(grid, (4, 4))
    assert 2 <= len(lines) <= 16
    to_degrees = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform
    for line in lines:
        places = [grid.at(*place) for place in line.places.tolist()]
        lonlat = np.array([to_degrees(*place) for place in places])
        steady = lonlat[:, 0 if line.kind == "meridian" else 1]
        assert np.ptp(steady) < 1e-6
        value, side = steady[0], line.name[-1]
        parts = [
            float(p)
            for p in line.name.rstrip("NESW").replace("′", "°").replace("″", "°").split("°")
            if p
        ]
        told = sum(part / 60**i for i, part in enumerate(parts))
        assert told == pytest.approx(abs(value), abs=1e-6)
        assert side in "°″′" or (side in "SW") == (value < 0)


def test_places_without_longitude_have_no_graticule() -> None:
    pole = Grid("EPSG:3413", (1000.0, 0.0, -50000.0, 0.0, -1000.0, 50000.0), 100, 100)
    assert graticule(pole) == []
    assert lattice(replace(UTM, crs=None)) is None
    date_line = Grid("EPSG:32601", (200.0, 0.0, 240000.0, 0.0, -200.0, 100000.0), 50, 900)
    assert graticule(date_line)


def test_a_look_is_read_in_few_pixels(tmp_path: Path) -> None:
    files = written_map(tmp_path)
    look = read_look(files, UTM)
    values, confidence = made_values()
    assert (look.classes == values).all()
    assert (look.confidence == confidence).all()
    small = read_look(files, UTM, most_px=16)
    assert small.each == each_of(30, 40, 16) == 4
    assert small.classes.shape == (8, 10) == (small.grid.height, small.grid.width)
    assert small.grid.transform[0] == 800.0
    counts = counts_of(files["confidence"])
    assert counts.sum() == 1200
    seen = confidence[confidence < 255]
    assert mean_of(counts) == pytest.approx(seen.mean())


def scene_file(folder: Path) -> Path:
    """60 x 80 pixels, red growing along the rows and green along the columns; a corner empty."""
    row, col = np.indices((60, 80))
    data = np.stack([1 + 2 * col, 1 + 2 * row, np.full_like(row, 50)]).astype(np.uint16)
    data[:, :8, :8] = 0
    place = from_origin(500000, 4600000, 10, 10)
    return write_tile(folder / "scene.tif", data, names=["B04", "B03", "B02"], transform=place)


def test_the_scene_is_seen_on_the_ground_of_the_map(tmp_path: Path) -> None:
    sensor = get_sensor("sentinel2_l2a")
    scene = open_scene(scene_file(tmp_path), sensor, ["B02", "B03", "B04"])
    cells = Window(1, 2, 4, 5)  # of 8 pixels each
    seen = picture_of(scene, cells, 8)
    assert seen is not None
    assert seen.shape == (32, 40, 3)
    assert (np.diff(seen[5, :, 0].astype(int)) >= 0).all()
    assert seen[5, -1, 0] == 255
    white = picture_of(scene, Window(0, 0, 8, 11), 8)
    assert white is not None
    assert white.shape == (64, 88, 3)
    assert (white[:8, :8] == 255).all()
    assert (white[60:] == 255).all()
    assert (white[:, 80:] == 255).all()
    assert picture_of(MadeScene(), cells, 8) is None
    near = open_scene(scene_file(tmp_path), sensor, ["B02", "B03"])
    assert picture_of(near, cells, 8) is None


def test_the_picture_gathered_while_mapping_is_the_one_that_would_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "MAX_PX", 16)  # so that several pixels become one
    scene = open_scene(scene_file(tmp_path), get_sensor("sentinel2_l2a"), ["B02", "B03", "B04"])
    thumb = thumb_of(scene, (8, 10), 8)
    assert thumb is not None
    assert (thumb.bands, thumb.each, thumb.shape) == ((2, 1, 0), 8, (7, 10))
    data, valid = scene.read(Window(0, 0, 60, 80))
    rows, cols = (np.arange(n) * thumb.each + thumb.each // 2 for n in thumb.shape)
    held = data[np.ix_(thumb.bands, rows, cols)], valid.all(axis=0)[np.ix_(rows, cols)]
    cells = Window(0, 0, 8, 10)
    np.testing.assert_array_equal(picture_of(scene, cells, 8, held), picture_of(scene, cells, 8))
    assert thumb_of(replace(scene, mask=object()), (8, 10), 8) is None  # clouds are to be seen
    assert thumb_of(MadeScene(), (8, 10), 8) is None


@pytest.mark.parametrize("onto", [20.0, WEST])
def test_a_scene_on_another_grid_is_seen_through_its_own(tmp_path: Path, onto) -> None:
    sensor = get_sensor("sentinel2_l2a")
    scene = resampled(open_scene(scene_file(tmp_path), sensor, ["B04", "B03", "B02"]), onto)
    window = Window(0, 0, scene.grid.height, scene.grid.width)
    shape = scene.grid.height // 2, scene.grid.width // 2
    coarse, seen = scene.coarse(window, [0, 1], shape)
    fine, valid = scene.read(window)
    assert coarse.shape == (2, *shape)
    pick = np.ix_([0, 1], np.arange(shape[0]) * 2 + 1, np.arange(shape[1]) * 2 + 1)
    both = seen & valid[pick]
    assert both.mean() > 0.2
    assert np.abs(coarse.astype(int) - fine[pick])[both].max(initial=0) <= 8


def test_band_files_of_two_resolutions_are_seen_alike(tmp_path: Path) -> None:
    folder = tmp_path / "tile"
    for name, side, value in (("B04", 40, 7), ("B03", 40, 8), ("B02", 20, 9)):
        data = np.full((1, side, side), value, np.uint16)
        data[:, side // 2 :] += 100
        place = Affine.from_gdal(500000, 400 / side, 0, 4600000, 0, -400 / side)
        write_tile(folder / f"x_{name}.tif", data, transform=place)
    scene = open_scene(folder, get_sensor("sentinel2_l2a"), ["B04", "B03", "B02"])
    data, valid = scene.coarse(Window(0, 0, 40, 40), [2, 0], (10, 10))
    assert valid.all()
    assert data[:, 0, 0].tolist() == [9, 7]
    assert data[:, 9, 9].tolist() == [109, 107]
    assert (data[0, :5] == 9).all()
    assert (data[0, 5:] == 109).all()
