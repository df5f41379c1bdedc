"""Chips of points, polygons and class rasters: every label covered or rejected, exactly once."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import shapely
from helpers.memory_scene import UTM, MadeScene, made_grid
from helpers.tiles import ROOT, write_tile
from hypothesis import given, settings
from hypothesis import strategies as st

from geotl.data.chips import Chip, ChipRules, Placement, place_chips
from geotl.data.coverage import pixel_shares
from geotl.data.labels import Label, Labels, raster_labels, read_labels
from geotl.data.placement import on_pixels, windows_of
from geotl.errors import DataError
from geotl.imagery.windows import Window
from geotl.io import raster
from geotl.io.vector import transformed

HAVEL = "sentinel2_l1c_havel"
OSM = "gis_osm_landuse-water_a_free_1_area-10000-to-500000.gpkg"


def at(scene: MadeScene, col: float, row: float) -> shapely.Point:
    return shapely.Point(scene.grid.at(col, row))


def box(scene: MadeScene, left: float, top: float, right: float, bottom: float):
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return shapely.Polygon([scene.grid.at(*corner) for corner in corners])


def labels_of(*pairs, crs=UTM) -> Labels:
    """Labels 1, 2, ... from (class, geometry)."""
    found = tuple(Label(str(n), name, shape) for n, (name, shape) in enumerate(pairs, 1))
    return Labels(Path("made.gpkg"), found, (), crs)


def reasons(placement: Placement) -> dict[str, str]:
    return {one.label_id: one.reason for one in placement.rejected}


def by_label(placement: Placement) -> dict[str, list[Window]]:
    found: dict[str, list[Window]] = {}
    for chip in placement.chips:
        found.setdefault(chip.label_id, []).append(chip.window)
    return found


@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize(("size", "first"), [(8, 36), (9, 36), (1, 40), (2, 39)])
def test_a_points_pixel_is_at_the_middle_of_its_window(size, first, turn) -> None:
    scene = MadeScene(grid=made_grid(turn=turn))
    for within in (0.0, 0.5, 0.999):  # on the pixel's own edge, in its middle, before the next
        labels = labels_of(("a", at(scene, 50 + within, 40 + within)))
        (chip,) = place_chips([scene], labels, ChipRules(size)).chips
        assert chip == Chip("1.1", "1", "a", "made", Window(first, first + 10, size, size))


def test_trap_6_the_pixel_of_a_point() -> None:
    """Origin (500000, 4600000), 10 m: (500015, 4599985) is row 1, column 1."""
    scene = MadeScene(grid=made_grid(391, 517))
    labels = labels_of(("a", shapely.Point(500015, 4599985)))
    assert place_chips([scene], labels, ChipRules(1)).chips[0].window == Window(1, 1, 1, 1)


def test_points_on_the_edge_are_outside_where_their_window_is() -> None:
    scene = MadeScene()
    spots = [(4, 4), (3.99, 4), (156, 116), (157, 116), (0, 0), (160, 60), (80, 120), (-5, 60)]
    labels = labels_of(*(("a", at(scene, *spot)) for spot in spots))
    placed = place_chips([scene], labels, ChipRules(8))
    assert by_label(placed) == {"1": [Window(0, 0, 8, 8)], "3": [Window(112, 152, 8, 8)]}
    assert set(reasons(placed).values()) == {"outside"}
    assert placed.rejected[0].detail == "its window reaches 1 px beyond made"
    only = labels_of(("a", at(scene, 0, 0)), ("b", at(scene, 160 - 1e-3, 120 - 1e-3)))
    edge = place_chips([scene], only, ChipRules(1))
    assert by_label(edge) == {"1": [Window(0, 0, 1, 1)], "2": [Window(119, 159, 1, 1)]}


def test_what_cannot_be_seen_is_told_from_what_is_not_there() -> None:
    scene = MadeScene()
    scene.valid[:, :40] = False
    scene.cloud[:, 120:] = True
    spots = [(20, 60), (41, 60), (43, 60), (80, 60), (116, 60), (117, 60), (140, 60)]
    labels = labels_of(*(("a", at(scene, *spot)) for spot in spots))
    placed = place_chips([scene], labels, ChipRules(8))
    assert reasons(placed) == {"1": "nodata", "2": "nodata", "6": "cloudy", "7": "cloudy"}
    assert set(by_label(placed)) == {"3", "4", "5"}
    own = MadeScene()
    own.valid[60, 80], own.cloud[60, 90] = False, True
    labels = labels_of(("a", at(own, 80.5, 60.5)), ("a", at(own, 90.5, 60.5)))
    placed = place_chips([own], labels, ChipRules(8))
    assert reasons(placed) == {"1": "nodata", "2": "cloudy"}
    assert [one.detail for one in placed.rejected] == [
        "its own pixel has no data",
        "its own pixel is under cloud",
    ]


def test_one_window_of_one_class_is_kept_once_and_of_two_classes_never() -> None:
    scene = MadeScene()
    spots = [
        ("a", 50, 50),
        ("a", 50.5, 50.5),
        ("a", 80, 80),
        ("b", 80, 80),
        ("a", 80.1, 80),
        ("b", 20, 20),
    ]
    placed = place_chips(
        [scene], labels_of(*((name, at(scene, x, y)) for name, x, y in spots)), ChipRules(8)
    )
    assert reasons(placed) == {"2": "duplicate", "3": "conflict", "4": "conflict", "5": "conflict"}
    assert set(by_label(placed)) == {"1", "6"}
    assert placed.rejected[1].detail == "no window of its own: shared with 4, 5"
    assert placed.summary() == (
        "2 chips from 2 of 6 labels: a 1, b 1",
        "rejected 4:",
        "  conflict 3: a 2, b 1",
        "  duplicate 1: a 1",
    )


def test_a_polygon_is_packed_at_the_best_offset() -> None:
    scene = MadeScene()
    exact = labels_of(("a", box(scene, 13, 7, 13 + 24, 7 + 16)))
    placed = place_chips([scene], exact, ChipRules(8, purity=1.0))
    assert by_label(placed)["1"] == [Window(r, c, 8, 8) for r in (7, 15) for c in (13, 21, 29)]
    step = place_chips([scene], exact, ChipRules(8, purity=1.0, step_px=4))
    assert len(step.chips) == 15
    assert {(w.row - 7) % 4 for w in by_label(step)["1"]} == {0}
    stairs = shapely.union_all([box(scene, 13, 7, 21, 15), box(scene, 24, 16, 32, 24)])
    placed = place_chips([scene], labels_of(("a", stairs)), ChipRules(8, purity=1.0))
    assert by_label(placed)["1"] == [Window(7, 13, 8, 8), Window(16, 24, 8, 8)]  # no one lattice


def test_few_chips_of_a_polygon_are_drawn_by_the_seed() -> None:
    scene = MadeScene()
    labels = labels_of(("a", box(scene, 0, 0, 100, 100)), ("b", box(scene, 100, 0, 160, 100)))
    some = [place_chips([scene], labels, ChipRules(8, per_polygon=3, seed=s)) for s in (0, 0, 1)]
    assert some[0] == some[1] != some[2]
    assert all(len(windows) == 3 for p in some for windows in by_label(p).values())


def test_a_polygon_drawn_twice_gives_the_chips_of_one_however_few_are_wanted() -> None:
    scene, twice = MadeScene(), ("a", "a", "b")
    shapes = [box(scene, 0, 0, 100, 100), box(scene, 0, 0, 100, 100), box(scene, 100, 0, 160, 100)]
    for few in (None, 3):
        rules = ChipRules(8, per_polygon=few)
        placed = place_chips([scene], labels_of(*zip(twice, shapes, strict=True)), rules)
        assert reasons(placed) == {"2": "duplicate"}
        assert len(by_label(placed)["1"]) == (few or 144)


def test_purity_is_by_area_and_impure_tells_how_near_it_came() -> None:
    scene = MadeScene()
    half = labels_of(("a", box(scene, 20, 20, 24.5, 28)), ("b", box(scene, 60, 20, 66.5, 28)))
    placed = place_chips([scene], half, ChipRules(8))
    assert reasons(placed) == {"1": "impure"}
    assert placed.rejected[0].detail == "at most 56% of a window of 8 px lies in it"
    assert by_label(placed) == {"2": [Window(20, 59, 8, 8)]}


def test_a_polygon_takes_the_windows_that_can_be_seen() -> None:
    scene = MadeScene()
    scene.cloud[:, :30] = True
    labels = labels_of(("a", box(scene, 10, 10, 50, 26)), ("b", box(scene, 2, 40, 28, 56)))
    placed = place_chips([scene], labels, ChipRules(8, max_cloud=0.0))
    assert len(by_label(placed)["1"]) == 4
    assert min(w.col for w in by_label(placed)["1"]) >= 30
    assert reasons(placed) == {"2": "cloudy"}
    scene.valid[:, :30], scene.cloud[:] = False, False
    assert reasons(place_chips([scene], labels, ChipRules(8))) == {"2": "nodata"}


def test_a_large_polygon_is_looked_at_in_blocks(monkeypatch) -> None:
    scene = MadeScene(grid=made_grid(300, 420))
    labels = labels_of(("a", at(scene, 200, 150).buffer(1400)))
    whole = place_chips([scene], labels, ChipRules(8, purity=1.0))
    monkeypatch.setattr("geotl.data.placement._BLOCK_PX", 50)
    scene.reads.clear()
    parts = place_chips([scene], labels, ChipRules(8, purity=1.0))
    assert max(max(w.height, w.width) for w in scene.reads) <= 57
    assert len(parts.chips) >= 0.97 * len(whole.chips) > 800
    windows = by_label(parts)["1"]
    assert not any(a.meets(b) for a, b in combinations(windows, 2))


def test_a_label_is_taken_from_the_first_scene_in_which_it_can_be_used() -> None:
    first, second = MadeScene(name="first"), MadeScene(name="second")
    second.grid = replace(first.grid, transform=(10.0, 0.0, 500800.0, 0.0, -10.0, 4600000.0))
    first.cloud[:, 100:] = True
    spots = [(50, 60), (120, 60), (200, 60), (300, 60), (120, 10)]
    second.valid[:20] = False
    labels = labels_of(*(("a", at(first, *spot)) for spot in spots))
    placed = place_chips([first, second], labels, ChipRules(8))
    assert {chip.label_id: chip.scene for chip in placed.chips} == {
        "1": "first",
        "2": "second",
        "3": "second",
    }
    assert reasons(placed) == {"4": "outside", "5": "cloudy"}


def test_scenes_are_read_from_top_to_bottom() -> None:
    scene = MadeScene()
    spots = np.random.default_rng(3).uniform(10, 100, (30, 2))
    place_chips([scene], labels_of(*(("a", at(scene, *spot)) for spot in spots)), ChipRules(8))
    rows = [w.row for w in scene.reads if w.height == 8]
    assert rows == sorted(rows)
    assert len(rows) == 30


def test_scenes_and_labels_that_cannot_meet_are_one_line() -> None:
    scene = MadeScene()
    far = labels_of(("a", shapely.Point(41.5, 15.0)), crs="EPSG:4326")  # latitude first
    with pytest.raises(DataError, match="no label is near the imagery") as caught:
        place_chips([scene], far, ChipRules(8))
    told = str(caught.value)
    assert "(41.5, 15) to (41.5, 15) in EPSG:4326" in told
    assert "made from (500000, 4598800) to (501600, 4600000) in EPSG:32633" in told
    assert "\n" not in told
    here = labels_of(("a", at(scene, 50, 50)))
    with pytest.raises(DataError, match="has no reference system"):
        place_chips([MadeScene(grid=made_grid(crs=None))], here, ChipRules(8))
    with pytest.raises(DataError, match="2 scenes are called so"):
        place_chips([scene, scene], here, ChipRules(8))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("chip_px", 0),
        ("purity", 0.0),
        ("purity", 1.5),
        ("step_px", 0),
        ("per_polygon", 0),
        ("min_valid", -1.0),
        ("max_cloud", 2.0),
    ],
)
def test_rules_out_of_range_are_refused(name, value) -> None:
    with pytest.raises(DataError, match=f"{name}: given {value}; allowed"):
        ChipRules(**{"chip_px": 8, name: value})


def test_a_class_raster_gives_squares_of_one_class(tmp_path) -> None:
    values = np.full((1, 32, 48), 2, "uint8")
    values[0, :, :20], values[0, :, 40:] = 1, 9
    path = write_tile(tmp_path / "a.tif", values, nodata=9)
    scene = MadeScene(grid=made_grid(32, 48))
    scene.valid[:8, 24:32], scene.cloud[8:16, 24:32] = False, True
    rules = {"1": "farm", "2": "wood"}
    placed = place_chips([scene], raster_labels(path, names=rules), ChipRules(8))
    found = {(c.window.row, c.window.col): c.class_name for c in placed.chips}
    whole = {(r, c) for r in (0, 8, 16, 24) for c in (0, 8, 24, 32)}
    assert found.keys() == whole - {(0, 24), (8, 24)}
    assert {found[0, 0], found[24, 8]} == {"farm"}
    assert reasons(placed) == {
        "made:0,24": "nodata",
        "made:8,24": "cloudy",
        **{f"made:{r},16": "impure" for r in (0, 8, 16, 24)},
    }
    joined = raster_labels(path, names={"1": "land", "2": "land"})
    assert len(place_chips([scene], joined, ChipRules(8)).chips) == 18
    dropped = raster_labels(path, names={"1": "farm", "*": None})
    assert {c.window.col for c in place_chips([scene], dropped, ChipRules(8)).chips} == {0, 8}


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32632", "EPSG:3857", "EPSG:3035"])
def test_reprojected_labels_give_the_same_chips(crs) -> None:
    scene = MadeScene()
    rng = np.random.default_rng(5)
    points = [at(scene, *np.floor(spot)) for spot in rng.uniform(8, 110, (40, 2))]  # pixels' edges
    hulls = [
        shapely.MultiPoint(
            [scene.grid.at(*xy) for xy in rng.uniform(0, 60, (6, 2)) + shift]
        ).convex_hull
        for shift in (0, 30, 60)
    ]
    shapes = np.array([*points, *shapely.segmentize(hulls, 20)], dtype=object)
    names = ["a"] * 40 + ["b", "c", "d"]
    rules = ChipRules(7, purity=0.77)
    here = place_chips([scene], labels_of(*zip(names, shapes, strict=True)), rules)
    there = transformed(shapes, UTM, crs)
    moved = place_chips([scene], labels_of(*zip(names, there, strict=True), crs=crs), rules)
    assert len(here.chips) > 60
    assert moved.chips == here.chips
    assert reasons(moved) == reasons(here)


spots = st.tuples(st.floats(-15, 175), st.floats(-15, 135))
POINTS = st.tuples(st.sampled_from("ab"), spots.map(shapely.Point))
HULLS = st.tuples(
    st.sampled_from("ab"),
    st.lists(spots, min_size=3, max_size=6).map(lambda xy: shapely.MultiPoint(xy).convex_hull),
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(st.one_of(POINTS, HULLS), min_size=1, max_size=12),
    st.sampled_from([4, 7, 16]),
    st.sampled_from([0.5, 0.8, 1.0]),
    st.booleans(),
)
def test_every_label_is_covered_or_rejected_once_and_chips_are_what_they_claim(
    pairs, size, purity, turn
) -> None:
    scene = MadeScene(grid=made_grid(turn=turn))
    scene.valid[:, 100:110], scene.cloud[70:90] = False, True
    usable = [p for p in pairs if p[1].geom_type in ("Point", "Polygon")]
    usable.append(("c", shapely.Point(80, 30)))  # so that labels and scene meet
    shapes = [
        shapely.transform(shape, lambda xy: np.array([scene.grid.at(*place) for place in xy]))
        for _, shape in usable
    ]
    labels = labels_of(*zip((name for name, _ in usable), shapes, strict=True))
    placed = place_chips([scene], labels, ChipRules(size, purity=purity))
    covered, rejected = set(by_label(placed)), [one.label_id for one in placed.rejected]
    assert sorted([*covered, *rejected], key=int) == [label.id for label in labels.labels]
    assert len({chip.id for chip in placed.chips}) == len(placed.chips)
    assert len({chip.window for chip in placed.chips}) == len(placed.chips)
    for label in labels.labels:
        windows = by_label(placed).get(label.id, [])
        assert not any(a.meets(b) for a, b in combinations(windows, 2))
        for window in windows:
            assert window.inside(scene.grid)
            assert scene.read(window)[1].mean() >= 0.8 - 1e-9
            if label.geometry.geom_type == "Polygon":
                corners = ((0, 0), (size, 0), (size, size), (0, size))
                square = shapely.Polygon([window.on(scene.grid).at(*at) for at in corners])
                inside = label.geometry.intersection(square).area / square.area
                assert inside >= purity - 1e-6


def test_the_sample_scene_with_its_points_and_polygons() -> None:
    folder = ROOT / "sample_tiles"
    scene = MadeScene(grid=raster.describe(folder / "scene.tif").grid)
    told = {"field": "class", "crs_to": scene.grid.crs}
    points = read_labels(folder / "labels.gpkg", layer="points", **told)
    placed = place_chips([scene], points, ChipRules(32))
    assert len(placed.chips) + len(placed.rejected) == 270
    assert len(placed.chips) > 240
    polygons = read_labels(folder / "labels.gpkg", layer="polygons", **told)
    placed = place_chips([scene], polygons, ChipRules(32))
    assert len(by_label(placed)) + len(placed.rejected) == 36
    truth = place_chips([scene], raster_labels(folder / "truth.tif"), ChipRules(32))
    assert len({chip.class_name for chip in truth.chips} & set(points.classes)) > 6


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("size", "centred", "anywhere"), [(64, 0, 3), (32, 45, 69), (16, 158, 228), (8, 317, 449)]
)
def test_havel_polygons_with_a_chip_four_fifths_inside(real_data, size, centred, anywhere) -> None:
    """The known counts are of one window about each polygon's representative point."""
    folder = real_data / HAVEL
    scene = MadeScene(grid=raster.describe(folder / "T33UUU_20170216T102101_B02.jp2").grid)
    labels = read_labels(folder / OSM, field="fclass", crs_to=scene.grid.crs)
    assert len(labels.labels) == 604
    found = {"centred": 0, "anywhere": 0}
    for label in labels.labels:
        shape = on_pixels(label.geometry, scene.grid)
        middle = on_pixels(label.geometry.representative_point(), scene.grid)
        left, top = middle.x - size / 2, middle.y - size / 2
        share = pixel_shares(
            shapely.transform(shape, lambda xy, at=(left, top): xy - at), Window(0, 0, size, size)
        ).mean()
        inside = min(left, top) >= 0 and left + size <= 1536 and top + size <= 768
        found["centred"] += bool(inside and share >= 0.8)
        got = windows_of(shape, scene, ChipRules(size))
        found["anywhere"] += isinstance(got[0], Window)
    assert found == {"centred": centred, "anywhere": anywhere}
