"""Classes that lose all labels to chip size or purity: a warning that stands first, and a size."""

from __future__ import annotations

import re
from pathlib import Path

import geopandas
import numpy as np
import pandas
import pytest
import shapely
from helpers.labelled_scenes import BANDS, PX, SMALL, made_scene
from helpers.tiles import write_tile

from geotl.cli.main import main
from geotl.data.chips import ChipRules, place_chips
from geotl.data.labels import raster_labels, read_labels
from geotl.imagery.scene import open_scene
from geotl.imagery.sensors import get_sensor

UTM = "EPSG:32633"
PX_M = 10.0


def square(col: int, row: int, side: int) -> shapely.Polygon:
    """A square of so many pixels, its upper left corner at a column and row."""
    x, y = 500000 + PX_M * col, 4600000 - PX_M * row
    return shapely.box(x, y - PX_M * side, x + PX_M * side, y)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory):
    data = np.random.default_rng(1).integers(1, 900, (1, 128, 128)).astype(np.uint16)
    path = write_tile(tmp_path_factory.mktemp("s") / "s.tif", data, names=["B04"])
    return open_scene(path, get_sensor("sentinel2_l2a"), ["B04"])


def placed(scene, folder: Path, shapes: dict[str, list[shapely.Geometry]], rules: ChipRules):
    names = [name for name, group in shapes.items() for _ in group]
    every = [shape for group in shapes.values() for shape in group]
    geopandas.GeoDataFrame({"class": names}, geometry=every, crs=UTM).to_file(folder / "l.gpkg")
    return place_chips([scene], read_labels(folder / "l.gpkg", field="class", crs_to=UTM), rules)


def test_the_size_that_would_keep_a_lost_class_is_said_and_holds(scene, tmp_path):
    """Red before: the class was one count among the rejected."""
    shapes = {
        "wood": [square(0, 0, 40)],
        "pond": [square(60, 20 * k, side) for k, side in enumerate((10, 10, 6))],
    }
    (line,) = placed(scene, tmp_path, shapes, ChipRules(16)).lost
    assert line.startswith("Class pond lost all its labels (impure 3): the model does not know")
    assert "labels.purity" in line
    found = re.search(r"A chip size of (\d+) px .* would keep (\d) of its 3 labels", line)
    assert found is not None
    assert found.groups() == ("11", "2")  # 100 of 121 pixels are 0.826
    again = placed(scene, tmp_path, shapes, ChipRules(11))
    assert again.lost == ()
    assert len({chip.label_id for chip in again.chips if chip.class_name == "pond"}) == 2


def test_points_near_the_edge_are_kept_by_a_smaller_size(scene, tmp_path):
    point = shapely.Point(500000 + 55, 4600000 - 605)
    shapes = {"wood": [square(40, 40, 40)], "pond": [point]}
    (line,) = placed(scene, tmp_path, shapes, ChipRules(16)).lost
    assert "(outside 1)" in line
    assert "A chip size of 11 px (labels.chip_px) would keep 1 of its 1 labels" in line
    assert placed(scene, tmp_path, shapes, ChipRules(11)).lost == ()


def test_a_class_that_no_size_keeps_is_said_to_be_for_pixels(scene, tmp_path):
    shapes = {"wood": [square(0, 0, 40)], "ditch": [square(90, 90, 2)]}
    (line,) = placed(scene, tmp_path, shapes, ChipRules(16)).lost
    assert "No chip size from 4 px on keeps one of 1 labels; task=pixels" in line


def test_a_class_of_a_raster_is_lost_and_kept_by_the_size_said(scene, tmp_path):
    classes = np.ones((1, 128, 128), np.uint8)
    classes[0, 64:72, 64:72] = 2
    labels = raster_labels(write_tile(tmp_path / "c.tif", classes), names={"2": "pond"})
    (line,) = place_chips([scene], labels, ChipRules(16)).lost
    assert line.startswith("Class pond lost all its labels (impure")
    size = int(re.search(r"size of (\d+) px", line)[1])
    assert size == 8
    assert place_chips([scene], labels, ChipRules(size)).lost == ()


@pytest.mark.usefixtures("one_thread", "own_cache", "unrendered")
def test_the_warning_stands_first_in_terminal_and_report(tmp_path, capsys):
    scene, path = made_scene(tmp_path)
    labels = geopandas.read_file(path)
    small = {"class": ["pond"] * 2}
    ponds = geopandas.GeoDataFrame(
        small, geometry=[square(30, 30, 5), square(60, 60, 5)], crs=labels.crs
    )
    path.unlink()

    pandas.concat([labels, ponds]).to_file(path)
    keys = [f"data.scenes={scene}", f"labels.path={path}", f"labels.chip_px={PX}"]
    (tmp_path / "small.yaml").write_text("title: small\n")
    folder = str(tmp_path / "run")
    settings = [*SMALL, *keys, "split.shots=3"]
    assert main(["run", str(tmp_path / "small.yaml"), *settings, "--out", folder]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Class pond lost all its labels (impure 2)")
    page = (tmp_path / "run" / "report.html").read_text()
    cautions = page[page.index("Read with care") :]
    assert cautions.index("Class pond lost all its labels") < 200
    words = ["--chip-px", "12", "--sensor", "sentinel2_l2a", "--bands", *BANDS]
    words += ["-o", str(tmp_path / "chips")]
    assert main(["chips", str(scene), str(path), *words]) == 0
    assert capsys.readouterr().out.startswith("Class pond lost all its labels")
