"""A reference sample that is labelled blind, and the file that comes of it."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely

from geotl.cli.main import main
from geotl.console import silent
from geotl.errors import DataError, OutputError
from geotl.evaluation.class_map import open_map
from geotl.imagery.scene import open_scene
from geotl.imagery.sensors import get_sensor
from geotl.io.geopackage_field import filled
from geotl.io.raster import Grid
from geotl.labelling.blind import BlindSample, SampleFinisher, SampleProject
from geotl.labelling.own_commands import OwnCommands
from geotl.labelling.reference import ReferenceSample, read_sample

SAMPLES = Path(__file__).resolve().parents[2] / "sample_tiles"
TRUTH = SAMPLES / "truth.tif"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drawn") / "points.gpkg"
    assert main(["sample", str(TRUTH), "-n", "60", "-o", str(path), "-q"]) == 0
    return path


@pytest.fixture(scope="module")
def grid() -> Grid:
    sensor = get_sensor("sentinel2_l2a_n0400")
    return open_scene(SAMPLES / "scene.tif", sensor, ["B02", "B03", "B04"]).grid


class Heard:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def __call__(self, kind: str, **values: object) -> None:
        self.events.append({"kind": kind, **values})


def project_of(folder: Path, sample: ReferenceSample, grid: Grid) -> SampleProject:
    folder.mkdir(exist_ok=True)
    return SampleProject(folder, grid, silent, sample)


def answer(project: SampleProject, number: int, name: str) -> None:
    now = project.snapshot().labels
    ids = {one.name: one.id for one in now.classes}
    project.change([{"op": "reclass", "id": number, "class": ids[name]}], now.revision)


def true_classes(sample: ReferenceSample) -> dict[int, str]:
    names = open_map(TRUTH)
    with rasterio.open(TRUTH) as stored:
        values = stored.read(1)
    return {p.number: names.name(int(values[int(p.row), int(p.col)])) for p in sample.points}


def test_points_come_in_random_order_without_their_strata(drawn: Path, grid: Grid) -> None:
    sample = read_sample(drawn, grid)
    stored = geopandas.read_file(drawn)
    assert sample.classes == tuple(sorted({*stored["stratum"]}))
    assert [point.number for point in sample.points] == [*range(1, 61)]
    assert sorted(point.feature for point in sample.points) == [*range(1, 61)]
    assert [point.feature for point in sample.points] != [*range(1, 61)]
    from geotl.labelling.label_set import LabelSet

    shown = sample.event(LabelSet())
    assert all(set(one) == {"id", "col", "row", "class"} for one in shown)
    text = json.dumps(shown)
    assert not [name for name in sample.classes if name in text]


def test_a_file_in_order_of_strata_does_not_give_them_away(tmp_path: Path, grid: Grid) -> None:
    places = [shapely.Point(grid.at(5.5 + i, 7.5)) for i in range(40)]
    strata = ["a"] * 20 + ["b"] * 20
    columns = {"stratum": strata, "reference": [None] * 40}
    table = geopandas.GeoDataFrame(columns, geometry=places, crs=grid.crs)
    table.to_file(tmp_path / "s.gpkg", driver="GPKG")
    sample = read_sample(tmp_path / "s.gpkg", grid)
    first = [strata[point.feature - 1] for point in sample.points[:20]]
    assert 4 < first.count("a") < 16


def test_answers_are_kept_undone_and_written(tmp_path: Path, drawn: Path, grid: Grid) -> None:
    sample = read_sample(drawn, grid)
    project = project_of(tmp_path / "p", sample, grid)
    heard = Heard()
    blind = BlindSample(sample, tmp_path / "sample.gpkg", heard)
    project.on_change = blind.changed
    names = true_classes(sample)
    for number in (1, 2, 3):
        answer(project, number, names[number])
    answer(project, 2, sample.classes[0])
    project.undo(project.snapshot().labels.revision)
    project.undo(project.snapshot().labels.revision)
    project.undo(project.snapshot().labels.revision)
    project.redo(project.snapshot().labels.revision)
    blind.close()
    project.close()
    again = project_of(tmp_path / "p", sample, grid)
    given = sample.answers(again.snapshot().labels)
    class_names = again.snapshot().labels.class_names
    assert {n: class_names[one.class_id] for n, one in given.items()} == {
        n: names[n] for n in (1, 2)
    }
    again.close()
    before, after = geopandas.read_file(drawn), geopandas.read_file(tmp_path / "sample.gpkg")
    assert before.drop(columns="reference").equals(after.drop(columns="reference"))
    values = {p.number: after["reference"].iloc[p.feature - 1] for p in sample.points}
    filled_in = {number: value for number, value in values.items() if isinstance(value, str)}
    assert filled_in == {number: names[number] for number in (1, 2)}
    assert heard.events[-1]["points"][0]["class"] is not None
    assert heard.events[-1]["points"][2]["class"] is None


def test_everything_else_in_the_file_stays(tmp_path: Path, drawn: Path) -> None:
    source = tmp_path / "styled.gpkg"
    shutil.copy(drawn, source)
    with sqlite3.connect(source) as database:
        database.execute("CREATE TABLE layer_styles (id INTEGER PRIMARY KEY, styleQML TEXT)")
        database.execute("INSERT INTO layer_styles VALUES (1, '<qgis/>')")
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles')"
        )
    filled(source.read_bytes(), tmp_path / "out.gpkg", "reference", {3: 'it\'s; "water"', 4: None})

    def dump(path: Path) -> list[str]:
        with sqlite3.connect(path) as database:
            return [*database.iterdump()]

    # iterdump leaves virtual tables out of what it can restore, so their content is read apart
    differing = {*dump(tmp_path / "out.gpkg")} ^ {*dump(source)}
    assert len(differing) == 2
    assert all("INSERT INTO" in line for line in differing)
    stored = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="points")
    assert stored["reference"].dropna().to_dict() == {2: 'it\'s; "water"'}
    box = tuple(stored.geometry.iloc[2].buffer(1).bounds)
    assert len(pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="points", bbox=box)) == 1


def test_a_file_that_another_program_left_in_its_own_mode_is_filled_in(
    tmp_path: Path, drawn: Path
) -> None:
    """QGIS lets SQLite write ahead, and a hostile file may hold triggers of its own."""
    source, result = tmp_path / "wal.gpkg", tmp_path / "out" / "out.gpkg"
    shutil.copy(drawn, source)
    with contextlib.closing(sqlite3.connect(source)) as database:
        assert database.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
        database.execute(
            "CREATE TRIGGER t AFTER UPDATE ON points BEGIN SELECT load_extension('x'); END"
        )
        database.commit()
    with pytest.raises(DataError, match=r"unsafe use|not authorized"):
        filled(source.read_bytes(), result, "reference", {3: "river"})
    assert not [*result.parent.iterdir()]
    with contextlib.closing(sqlite3.connect(source)) as database:
        database.execute("DROP TRIGGER t")
        database.commit()
    filled(source.read_bytes(), result, "reference", {3: "river"})
    assert [*result.parent.iterdir()] == [result]
    stored = pyogrio.read_dataframe(result)
    assert stored["reference"].dropna().to_dict() == {2: "river"}


def test_a_damaged_file_or_field_gets_one_line_and_leaves_nothing(
    tmp_path: Path, drawn: Path
) -> None:
    for content, field in [(drawn.read_bytes(), "absent"), (b"SQLite format 3\0" * 99, "class")]:
        with pytest.raises(DataError, match="could not be filled in"):
            filled(content, tmp_path / "out.gpkg", field, {1: "a"})
    assert not [*tmp_path.iterdir()]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        filled(drawn.read_bytes(), tmp_path / "file" / "out.gpkg", "reference", {})


def test_the_page_can_give_classes_and_nothing_else(
    tmp_path: Path, drawn: Path, grid: Grid
) -> None:
    sample = read_sample(drawn, grid)
    project = project_of(tmp_path / "p", sample, grid)
    now = project.snapshot().labels
    id_ = now.classes[0].id
    good = {"op": "reclass", "id": 1, "class": id_}
    point = {"type": "Point", "coordinates": [3.5, 3.5]}
    refused: list[Any] = [
        None,
        {},
        [None],
        [{"op": "add", "class": id_, "geometry": point}],
        [{"op": "delete", "id": 1}],
        [{"op": "merge_class", "id": id_, "into": id_ + 1}],
        [{**good, "id": 61}],
        [{**good, "id": "1"}],
        [{**good, "id": True}],
        [good, good],
    ]
    for changes in refused:
        with pytest.raises(DataError, match="one class for each of its points"):
            project.change(changes, now.revision)
    with pytest.raises(DataError, match="no class"):
        project.change([{**good, "class": 999}], now.revision)
    assert project.snapshot().labels == now
    project.close()


def test_answers_of_the_file_are_the_beginning(tmp_path: Path, drawn: Path, grid: Grid) -> None:
    filled(drawn.read_bytes(), tmp_path / "begun.gpkg", "reference", {5: "river", 6: "sea"})
    sample = read_sample(tmp_path / "begun.gpkg", grid)
    assert "sea" in sample.classes
    project = project_of(tmp_path / "p", sample, grid)
    features = {p.number: p.feature for p in sample.points}
    names = project.snapshot().labels.class_names
    answers = sample.answers(project.snapshot().labels)
    assert {features[n]: names[one.class_id] for n, one in answers.items()} == {
        5: "river",
        6: "sea",
    }
    project.undo(project.snapshot().labels.revision)
    project.close()
    again = project_of(tmp_path / "p", read_sample(tmp_path / "begun.gpkg", grid), grid)
    again.close()


def test_another_sample_is_refused(tmp_path: Path, drawn: Path, grid: Grid) -> None:
    sample = read_sample(drawn, grid)
    project = project_of(tmp_path / "p", sample, grid)
    answer(project, 1, sample.classes[0])
    project.close()
    other = tmp_path / "other.gpkg"
    assert main(["sample", str(TRUTH), "-n", "40", "--seed", "9", "-o", str(other), "-q"]) == 0
    with pytest.raises(DataError, match="answers to another sample"):
        project_of(tmp_path / "p", read_sample(other, grid), grid)


def test_files_that_are_no_sample_get_one_line(tmp_path: Path, drawn: Path, grid: Grid) -> None:
    with pytest.raises(DataError, match="is a GeoPackage"):
        read_sample(tmp_path / "points.csv", grid)
    far = Grid(grid.crs, (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), 10, 10)
    with pytest.raises(DataError, match="none of its 60 points lies in the scene"):
        read_sample(drawn, far)
    polygons = geopandas.GeoDataFrame(
        {"reference": ["a"]}, geometry=[shapely.box(*grid.bounds)], crs=grid.crs
    )
    polygons.to_file(tmp_path / "polygons.gpkg", driver="GPKG")
    with pytest.raises(DataError, match="contains Polygon"):
        read_sample(tmp_path / "polygons.gpkg", grid)


def test_points_outside_the_scene_stay_as_they_are(tmp_path: Path, drawn: Path, grid: Grid) -> None:
    small = Grid(grid.crs, grid.transform, grid.height // 2, grid.width)
    sample = read_sample(drawn, small)
    assert 0 < len(sample.points) < 60
    assert sample.outside == 60 - len(sample.points)
    project = project_of(tmp_path / "p", sample, small)
    answer(project, 1, sample.classes[0])
    sample.write(project.snapshot().labels, tmp_path / "sample.gpkg")
    project.close()
    assert geopandas.read_file(tmp_path / "sample.gpkg")["reference"].notna().sum() == 1


def test_who_labels_sees_no_map(tmp_path: Path, drawn: Path, grid: Grid) -> None:
    blind = BlindSample(read_sample(drawn, grid), tmp_path / "s.gpkg", Heard())
    assert blind.tile("classes", 1, 0, 0) is None
    assert not blind.at(1.0, 1.0)["probabilities"]
    blind.close()


def test_a_full_sample_gives_the_map_s_accuracy(tmp_path: Path, drawn: Path, grid: Grid) -> None:
    """Answers from the truth itself, but for one point: 59 of 60 agree with the map."""
    sample = read_sample(drawn, grid)
    project = project_of(tmp_path / "p", sample, grid)
    heard = Heard()
    blind = BlindSample(sample, tmp_path / "sample.gpkg", heard)
    project.on_change = blind.changed
    names = true_classes(sample)
    wrong = next(name for name in sample.classes if name != names[1])
    labels = project.snapshot().labels
    ids = {one.name: one.id for one in labels.classes}
    answers = [
        {"op": "reclass", "id": n, "class": ids[wrong if n == 1 else name]}
        for n, name in names.items()
    ]
    project.change(answers, labels.revision)
    assert SampleFinisher(blind, None)(project.folder, heard, OwnCommands()) == []
    assert heard.events[-1]["line"] == f"geotl accuracy MAP.tif {tmp_path / 'sample.gpkg'}"
    assert SampleFinisher(blind, TRUTH)(project.folder, heard, OwnCommands()) == ["areas.png"]
    record = json.loads((project.folder / "accuracy" / "accuracy.json").read_text())
    assert np.array(record["matrix"]).sum() == 60
    assert np.trace(np.array(record["matrix"])) == 59
    assert record["design"].startswith("stratified random, by the file's strata")
    assert heard.events[-1]["line"].startswith("overall accuracy 9")
    blind.close()
    project.close()
