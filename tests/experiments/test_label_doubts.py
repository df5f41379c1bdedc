"""Wrong labels stand first in what a run writes about labels that look like another class."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import geopandas
import numpy as np
import pytest
from helpers.labelled_scenes import BANDS, PIXELS, SMALL, made_scene, over, run
from helpers.tiles import write_tile

from geotl.cli.main import main
from geotl.evaluation.doubtful_labels import Doubt
from geotl.experiments.label_doubts import MAX_LISTED, LabelDoubts, ringed

pytestmark = pytest.mark.usefixtures("one_thread", "unrendered", "own_cache")


def with_wrong_label(folder: Path) -> tuple[Path, Path, str]:
    """A scene, labels of which one water point is called town, and that label's id."""
    scene, labels = made_scene(folder)
    table = geopandas.read_file(labels)
    table["name"] = [f"p{i}" for i in range(len(table))]
    wrong = int(np.flatnonzero(table["class"] == "water")[20])
    table.loc[wrong, "class"] = "town"
    changed = folder / "changed.gpkg"
    table.to_file(changed)
    return scene, changed, f"p{wrong}"


@pytest.mark.usefixtures("few_trees")
def test_a_wrong_point_comes_first_in_the_geopackage_and_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene, labels, wrong = with_wrong_label(tmp_path)
    (tmp_path / "small.yaml").write_text("title: small\n")
    given = [*PIXELS, f"data.scenes={scene}", f"labels.path={labels}", "labels.id_field=name"]
    out = tmp_path / "out"
    assert main(["run", str(tmp_path / "small.yaml"), *given, "--output", str(out)]) == 0
    table = geopandas.read_file(out / "doubtful_labels.gpkg")
    assert table["label"][0] == wrong
    assert (table["class"][0], table["looks_like"][0]) == ("town", "water")
    own = geopandas.read_file(labels).set_index("name").geometry[wrong]
    assert table.crs == "EPSG:32633"
    assert table.geometry[0].distance(own) < 10
    assert json.loads((out / "metrics.json").read_text())["doubtful_labels"] == len(table)
    said = capsys.readouterr()
    assert "like another class, the most doubtful first in doubtful_labels.gpkg" in said.out
    assert "Labels that look like another class" in (out / "report.html").read_text()


def test_a_wrong_chip_comes_first(tmp_path: Path) -> None:
    scene, labels, wrong = with_wrong_label(tmp_path)
    out = tmp_path / "out"
    assert run(out, *over((scene, labels)), "labels.id_field=name", "split.shots=8") == 0
    table = geopandas.read_file(out / "doubtful_labels.gpkg")
    assert table["label"][0] == wrong
    assert table["looks_like"][0] == "water"


def test_tiles_without_a_place_are_listed_in_a_table(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    level = {"field": 300, "water": 3000}
    for name in level:
        for i in range(10):
            true = "water" if (name, i) == ("field", 3) else name
            pixels = random.normal(level[true], 40, (4, 12, 12)).astype(np.uint16)
            path = tmp_path / "tiles" / name / f"{i}.tif"
            write_tile(path, pixels, names=BANDS, crs=None, transform=None)
    (tmp_path / "small.yaml").write_text("title: small\n")
    given = [*SMALL, f"data.root={tmp_path / 'tiles'}", "split.shots=8", "-q"]
    out = tmp_path / "out"
    assert main(["run", str(tmp_path / "small.yaml"), *given, "--output", str(out)]) == 0
    rows = list(csv.DictReader((out / "doubtful_labels.csv").open()))
    assert (rows[0]["label"], rows[0]["looks_like"]) == ("field/3.tif", "water")
    assert not (out / "doubtful_labels.gpkg").exists()


def test_equal_lists_are_equal_bytes_whenever_they_are_written(tmp_path: Path) -> None:
    """A GeoPackage states when it was changed: that date is fixed."""
    several = tuple(Doubt(i, 0, 1, 0.1, 0.9) for i in range(5))
    names = tuple(str(i) for i in range(5))
    found = LabelDoubts(several, names, ("a", "b"), 9, np.ones((5, 2)), "EPSG:32633")
    files = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        found.write(tmp_path / name)
        files.append((tmp_path / name / "doubtful_labels.gpkg").read_bytes())
        time.sleep(1.1)
    assert files[0] == files[1]


def test_without_doubt_nothing_is_said_or_written() -> None:
    none = LabelDoubts((), (), ("a", "b"), 5, np.zeros((0, 2)), None)
    assert none.line() == []


def test_the_report_lists_the_first_of_many() -> None:
    many = tuple(Doubt(i, 0, 1, 0.1, 0.9) for i in range(40))
    names = tuple(str(i) for i in range(40))
    table = LabelDoubts(many, names, ("a", "b"), 50, np.zeros((40, 2)), "EPSG:4326").table()
    assert len(table.rows) == MAX_LISTED
    assert f"The first {MAX_LISTED} of 40." in table.note


def test_the_ring_leaves_the_pixel_itself_visible() -> None:
    picture = np.zeros((21, 21, 3), np.uint8)
    picture[10, 10] = 200
    drawn = ringed(picture)
    assert drawn[10, 10].tolist() == [200, 200, 200]
    assert drawn[6, 10].tolist() == [255, 170, 0]
    assert not picture[6, 10].any()
