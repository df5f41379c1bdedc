"""Labels and classes from files: formats, systems, parts, edges, and what is not taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from helpers.label_sessions import GRID, opened

from geotl.errors import DataError
from geotl.io.raster import Grid
from geotl.labelling.changes import draft_of
from geotl.labelling.import_labels import MAX_LINES, imported, read_classes, with_classes
from geotl.labelling.label_set import LabelSet, to_crs, to_pixels

EMPTY = draft_of(LabelSet(), 0, 0)
LEFT, TOP = 500000.0, 4600000.0


def square(col: float, row: float, side: float) -> shapely.Geometry:
    """In the scene's reference system, by its pixels."""
    left, top = LEFT + 10 * col, TOP - 10 * row
    return shapely.box(left, top - 10 * side, left + 10 * side, top)


def written(path: Path, rows: list[tuple[Any, Any]], crs: str = "EPSG:32633", **more: Any) -> Path:
    """A vector file of (class, geometry)."""
    names, shapes = zip(*rows, strict=True)
    table = geopandas.GeoDataFrame(
        {"class": names, **more}, geometry=list(shapes), crs="EPSG:32633"
    )
    table.to_crs(crs).to_file(path)
    return path


def names(draft: Any) -> list[str]:
    return [draft.classes[one.class_id].name for one in draft.labels.values()]


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "EPSG:3857"])
def test_points_and_areas_come_from_any_reference_system(
    tmp_path: Path, suffix: str, crs: str
) -> None:
    point = shapely.Point(LEFT + 35, TOP - 22.5)
    rows = [("water", point), ("forest", square(10, 10, 5))]
    reading = imported(EMPTY, written(tmp_path / f"a{suffix}", rows, crs), GRID)
    first, second = reading.draft.labels.values()
    assert names(reading.draft) == ["water", "forest"]
    assert first.geometry.equals_exact(shapely.Point(3.5, 2.25), 0.01)
    assert second.geometry.symmetric_difference(shapely.box(10, 10, 15, 15)).area < 0.05
    assert (reading.added, reading.rejected) == (2, ())


def test_positions_come_from_a_table(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x;y;crs;kind\n500035;4599977,5;EPSG:32633;water\n500035;1;EPSG:32633;water\n")
    reading = imported(EMPTY, path, GRID, field="kind")
    assert [one.geometry for one in reading.draft.labels.values()] == [shapely.Point(3.5, 2.25)]
    assert reading.rejected == ("feature 3: outside the scene",)


def test_parts_become_labels_and_areas_end_at_the_edge(tmp_path: Path) -> None:
    both = shapely.MultiPolygon([square(-2, -2, 4), square(10, 10, 2)])
    points = shapely.MultiPoint([(LEFT + 5, TOP - 5), (0, 0)])
    path = written(tmp_path / "a.gpkg", [("water", both), ("water", points)])
    reading = imported(EMPTY, path, GRID)
    shapes = [one.geometry for one in reading.draft.labels.values()]
    assert [shape.geom_type for shape in shapes] == ["Polygon", "Polygon", "Point"]
    assert [shape.bounds for shape in shapes[:2]] == [(0, 0, 2, 2), (10, 10, 12, 12)]


def test_what_cannot_be_a_label_is_a_line(tmp_path: Path) -> None:
    line = shapely.LineString([(LEFT, TOP), (LEFT + 90, TOP - 90)])
    bow = shapely.transform(
        shapely.Polygon([(0, 0), (9, 9), (9, 0), (0, 9)]), lambda xy: xy * 10 + [LEFT, TOP - 300]
    )
    rows = [
        ("water", square(1, 1, 2)),
        (None, square(1, 1, 2)),
        ("water", line),
        ("water", square(900, 900, 2)),
        ("x" * 61, square(3, 3, 2)),
        ("=cmd()", square(3, 3, 2)),
        ("water", bow),
    ]
    reading = imported(EMPTY, written(tmp_path / "a.gpkg", rows), GRID)
    assert reading.added == 3  # the bow-tie is repaired into two
    said = "\n".join(reading.rejected)
    for reason in ("no class", "LineString", "outside the scene", "more than 60", "formula"):
        assert reason in said
    assert "1 self-intersecting polygons were repaired" in said
    assert str(tmp_path) not in said


def test_labels_that_are_there_are_not_added_again(tmp_path: Path) -> None:
    path = written(tmp_path / "a.gpkg", [("water", square(1, 1, 2)), ("Water", square(1, 1, 2))])
    first = imported(EMPTY, path, GRID)
    assert (first.added, first.rejected) == (1, ("feature 2: twice in the file",))
    again = imported(first.draft, path, GRID)
    assert again.added == 0
    assert len(again.draft.labels) == 1


def test_many_labels_lost_for_one_reason_are_one_line(tmp_path: Path) -> None:
    rows = [("water", square(1, 1, 2)), *(("water", square(999, i, 1)) for i in range(80))]
    names = [("x" * (61 + i), square(3, 3, 2)) for i in range(3)]
    reading = imported(EMPTY, written(tmp_path / "a.gpkg", [*rows, *names]), GRID)
    assert reading.rejected[0] == "80 labels, such as feature 2: outside the scene"
    assert len(reading.rejected) == 4
    again = imported(reading.draft, tmp_path / "a.gpkg", GRID)
    assert "feature 1: it is there already" in again.rejected


def test_lines_have_a_limit(tmp_path: Path) -> None:
    rows = [("water", square(1, 1, 2)), *((f"={i}x", square(3, 3, 2)) for i in range(80))]
    reading = imported(EMPTY, written(tmp_path / "a.gpkg", rows), GRID)
    assert len(reading.rejected) == MAX_LINES + 1
    assert reading.rejected[-1] == "and 30 more"


def test_ten_thousand_labels_are_one_change(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    places = shapely.points(
        LEFT + random.uniform(0, 640, 10_000), TOP - random.uniform(0, 480, 10_000)
    )
    path = written(tmp_path / "many.gpkg", [("water", one) for one in places])
    with opened(tmp_path / "p") as project:
        assert project.import_file(path, field="class", layer=None).added == 10_000
        assert project.snapshot().labels.revision == 1
        assert not project.undo(1).labels.labels
    with opened(tmp_path / "p") as project:
        assert len(project.redo(2).labels.labels) == 10_000


def test_a_file_of_our_own_comes_back_to_the_bit(tmp_path: Path) -> None:
    path = written(tmp_path / "a.gpkg", [("water", square(1, 1, 2)), ("reed", square(5.1, 7.3, 3))])
    with opened(tmp_path / "p") as project:
        project.import_file(path, field="class", layer=None)
        labels = project.snapshot().labels.labels
    with opened(tmp_path / "q") as project:
        project.import_file(tmp_path / "p" / "labels.gpkg", field="class", layer=None)
        for old, new in zip(labels, project.snapshot().labels.labels, strict=True):
            assert old.geometry.equals_exact(new.geometry, 1e-7)


@pytest.mark.parametrize(
    "transform",
    [
        (10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0),
        (1e-4, 0.0, 15.0, 0.0, -2e-4, 42.0),
        (8.0, 6.0, 500000.0, 6.0, -8.0, 4600000.0),
    ],
)
def test_pixels_and_the_reference_system_agree(transform: tuple[float, ...]) -> None:
    grid = Grid("EPSG:32633", transform, 48, 64)  # type: ignore[arg-type]
    shapes = [shapely.Point(3.5, 2.25), shapely.box(1, 2, 30, 40)]
    there = to_crs(shapes, grid)
    assert (there[0].x, there[0].y) == pytest.approx(grid.at(3.5, 2.25), rel=1e-15)
    back = to_pixels(there, grid)
    assert all(a.equals_exact(b, 1e-6) for a, b in zip(shapes, back, strict=True))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "bog\n\n# not this\nreed bed\n"),
        ("a.txt", "\ufeffbog\r\nreed bed\r\n"),
        ("a.csv", "name,colour\nbog,\nreed bed,#010203\n"),
        ("a.csv", "bog\nreed bed,#010203\n"),
        ("a.json", '["bog", "reed bed"]'),
        ("a.json", '[{"id": 1, "name": "bog"}, {"name": "reed bed", "colour": "#010203"}]'),
    ],
)
def test_classes_come_from_text_table_and_json(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    classes = with_classes(EMPTY, read_classes(tmp_path / name)).classes
    assert [one.name for one in classes.values()] == ["bog", "reed bed"]
    assert classes[2].colour == "#010203" or "#010203" not in text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b""),
        ("a.txt", b"\xff\xfe\x00"),
        ("a.json", b"{"),
        ("a.json", b"3"),
        ("a.json", b'[{"title": "bog"}]'),
        ("a.json", b"[" * 100_000),
        ("a.csv", b"name,colour\n"),
        ("a.csv", b'"' + b"x" * 200_000),
        ("a.json", b'[{"name": 3}]'),
        ("a.txt", b"=cmd()\n"),
        ("a.txt", b"bog\n" + b"x" * 61),
    ],
)
def test_what_holds_no_classes_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name) as refused:
        read_classes(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_classes_of_a_project_serve_another(tmp_path: Path) -> None:
    with opened(tmp_path / "p") as project:
        project.add_classes([("bog", "#010203"), ("reed", None)])
        expected = project.snapshot().labels.classes
    there = read_classes(tmp_path / "p" / "classes.json")
    assert tuple(with_classes(EMPTY, there).classes.values()) == expected


def test_a_colour_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("bog,red\n")
    with pytest.raises(DataError, match=r"a\.csv: .*#rrggbb"):
        read_classes(tmp_path / "a.csv")


def test_json_with_numbers_as_names_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([1, 2]))
    assert read_classes(tmp_path / "a.json") == [("1", None), ("2", None)]
