"""Labels as pixels: every label by its pixels or among the rejected, a polygon as one label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from helpers.tiles import write_tile

from geotl.data.labels import Label, Labels
from geotl.data.pixel_labels import PixelPlacement, PixelRules, place_pixels, read_squares
from geotl.errors import DataError
from geotl.imagery.scene import Scene, open_scene
from geotl.imagery.sensors import get_sensor

BANDS = ["B02", "B03", "B04"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A scene of 64 px without data in its upper left corner, and under cloud at its lower left."""
    folder = tmp_path_factory.mktemp("scene")
    data = np.full((3, 64, 64), 500, np.uint16)
    data[:, :8, :8] = 0
    data[2, 30:40, 30:40] = 0
    cloud = np.zeros((1, 64, 64), np.uint8)
    cloud[:, 56:, :8] = 1
    mask = write_tile(folder / "mask.tif", cloud)
    path = write_tile(folder / "scene.tif", data, names=BANDS)
    return open_scene(path, get_sensor("sentinel2_l2a"), BANDS, mask=mask)


def box(left: float, top: float, right: float, bottom: float) -> shapely.Geometry:
    """A rectangle given in columns and rows, in the scene's metres."""
    return shapely.box(
        500000 + 10 * left, 4600000 - 10 * bottom, 500000 + 10 * right, 4600000 - 10 * top
    )


def point(col: float, row: float) -> shapely.Geometry:
    return shapely.Point(500000 + 10 * col, 4600000 - 10 * row)


def placed(scene: Scene, *labels: tuple[str, shapely.Geometry], **rules: int) -> PixelPlacement:
    own = tuple(Label(str(i), name, shape) for i, (name, shape) in enumerate(labels))
    found = Labels(Path("labels.gpkg"), own, (), "EPSG:32633")
    return place_pixels([scene], found, PixelRules(**rules))


def places(found: PixelPlacement, label_id: str = "0") -> list[tuple[int, int]]:
    return [(p.place.row, p.place.col) for p in found.pixels if p.label_id == label_id]


def test_a_point_gives_the_pixel_that_holds_it(scene: Scene) -> None:
    found = placed(scene, ("wood", point(20.5, 10.2)), ("farm", point(21.0, 10.0)))
    assert places(found) == [(10, 20)]
    assert places(found, "1") == [(10, 21)]
    assert [pixel.weight for pixel in found.pixels] == [1.0, 1.0]


def test_a_polygon_gives_inner_pixels_that_weigh_as_one_label(scene: Scene) -> None:
    found = placed(scene, ("wood", box(10, 20, 22, 30)), per_polygon=15)
    own = places(found)
    assert len(own) == len(set(own)) == 15
    assert all(21 <= row < 29 and 11 <= col < 21 for row, col in own)
    assert sum(pixel.weight for pixel in found.pixels) == pytest.approx(1)


def test_a_small_polygon_gives_all_its_inner_pixels(scene: Scene) -> None:
    assert places(placed(scene, ("wood", box(10, 20, 14, 23)))) == [(21, 11), (21, 12)]


def test_a_narrow_polygon_gives_whole_pixels_and_a_tiny_one_its_only_pixel(scene: Scene) -> None:
    river = placed(scene, ("river", box(10, 20, 11, 40)), per_polygon=100)
    assert places(river) == [(row, 10) for row in range(20, 40)]
    assert places(placed(scene, ("hut", box(10.2, 20.2, 10.7, 20.8)))) == [(20, 10)]


def test_a_hole_gives_no_pixel(scene: Scene) -> None:
    ring = box(10, 10, 30, 30) - box(15, 15, 25, 25)
    own = places(placed(scene, ("wood", ring), per_polygon=400))
    assert not [place for place in own if 14 <= place[0] < 26 and 14 <= place[1] < 26]
    assert len(own) == 18 * 18 - 12 * 12


def test_the_draw_of_a_polygons_pixels_is_that_of_the_seed(scene: Scene) -> None:
    label = ("wood", box(10, 20, 40, 50))
    first, again, other = (places(placed(scene, label, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_rejected_labels_have_their_reason_and_no_label_is_lost(scene: Scene) -> None:
    found = placed(
        scene,
        ("wood", point(20, 20)),
        ("wood", point(2, 2)),
        ("wood", point(2, 60)),
        ("wood", point(900, 20)),
        ("wood", point(20.5, 20.5)),
        ("farm", point(40, 40)),
        ("wood", point(40.5, 40.5)),
    )
    reasons = {one.label_id: one.reason for one in found.rejected}
    wanted = {"1": "nodata", "2": "cloudy", "3": "outside", "4": "duplicate"}
    assert reasons == wanted | {"5": "conflict", "6": "conflict"}
    assert {*found.labels} | {*reasons} == {str(i) for i in range(7)}
    assert found.summary()[0] == "1 pixels from 1 of 7 labels: wood 1"
    assert "  conflict 2: farm 1, wood 1" in found.summary()


def test_a_pixel_with_one_valid_band_is_used(scene: Scene) -> None:
    assert places(placed(scene, ("wood", point(35, 35)))) == [(35, 35)]


def test_polygons_keep_what_no_other_label_claims(scene: Scene) -> None:
    overlap = ("wood", box(10, 10, 16, 16)), ("farm", box(13, 10, 19, 16))
    found = placed(scene, *overlap, per_polygon=100)
    assert not {*places(found)} & {*places(found, "1")}
    assert {*places(found)} == {(row, col) for row in range(11, 15) for col in range(11, 14)}


def test_labels_far_from_the_scene_are_told_in_one_line(scene: Scene) -> None:
    with pytest.raises(DataError, match="no label is near the imagery") as told:
        placed(scene, ("wood", point(90000, 90000)))
    assert "\n" not in str(told.value)


def test_squares_hold_every_pixel_once_with_its_surroundings() -> None:
    own = np.random.default_rng(0).integers(0, 2000, (300, 2))
    seen = []
    for rows, window in read_squares(own, 5):
        at = own[rows] - (window.row, window.col)
        assert (at >= 5).all()
        assert (at < (window.height - 5, window.width - 5)).all()
        assert max(window.height, window.width) <= 256 + 10
        seen += rows.tolist()
    assert sorted(seen) == list(range(300))
    assert not list(read_squares(own[:0], 5))


def test_a_point_of_uncertain_position_gives_its_square_as_one_label(scene: Scene) -> None:
    found = placed(scene, ("wood", point(20.5, 10.2)), ("farm", box(30, 10, 40, 20)), jitter_px=1)
    assert places(found) == [(row, col) for row in (9, 10, 11) for col in (19, 20, 21)]
    own = [pixel.weight for pixel in found.pixels if pixel.label_id == "0"]
    assert own == [1 / 9] * 9
    assert len(places(found, "1")) == 20


def test_a_square_is_cut_at_edges_and_holes_and_a_point_outside_gives_none(scene: Scene) -> None:
    found = placed(
        scene,
        ("wood", point(63.5, 30.5)),
        ("wood", point(7.5, 7.5)),
        ("wood", point(64.5, 50.5)),
        jitter_px=1,
    )
    assert places(found) == [(row, col) for row in (29, 30, 31) for col in (62, 63)]
    assert places(found, "1") == [(6, 8), (7, 8), (8, 6), (8, 7), (8, 8)]
    assert [(one.label_id, one.reason) for one in found.rejected] == [("2", "outside")]


def test_pixels_that_lack_a_band_are_excluded_where_all_bands_are_wanted(scene: Scene) -> None:
    labels = ("wood", point(35, 35)), ("farm", box(24, 31, 36, 37)), ("wood", point(2, 2))
    assert len(places(placed(scene, *labels, per_polygon=100), "1")) == 10 * 4
    found = placed(scene, *labels, per_polygon=100, all_bands=True)
    assert max(col for _, col in places(found, "1")) == 29
    reasons = [(one.label_id, one.reason, one.detail) for one in found.rejected]
    assert reasons[0] == ("0", "nodata", "its pixel has no data in B04")
    assert reasons[1][:2] == ("2", "nodata")
    assert found.without_bands == {"B04": 1}


def test_a_class_without_a_label_left_is_warned_of(scene: Scene) -> None:
    found = placed(
        scene,
        ("wood", point(20, 20)),
        ("farm", point(2, 2)),
        ("farm", point(2, 60)),
        ("farm", point(3, 60)),
        ("wood", point(900, 20)),
    )
    (line,) = found.lost_classes()
    assert line.startswith("Class farm lost all its labels (cloudy 2, nodata 1)")
    dropped = replace(found, rejected=(replace(found.rejected[0], reason="dropped class"),))
    assert not dropped.lost_classes()


@pytest.mark.parametrize("rules", [{"per_polygon": 0}, {"per_class": 0}, {"jitter_px": -1}])
def test_numbers_that_make_no_sense_are_refused(rules: dict[str, int]) -> None:
    with pytest.raises(DataError, match=f"{next(iter(rules))}: given"):
        PixelRules(**rules)
