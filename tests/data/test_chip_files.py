"""Chips written and read back as tiles, and folders that may not be written into."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import shapely
from helpers.memory_scene import UTM, MadeScene
from helpers.tiles import ROOT

from geotl.cli.data import mapping_of
from geotl.cli.main import main
from geotl.data.chip_files import write_chips
from geotl.data.chips import ChipRules, place_chips
from geotl.data.labels import Label, Labels, Rejection
from geotl.data.manifest import index_manifest
from geotl.errors import DataError, OutputError
from geotl.imagery.windows import Window
from geotl.io import raster
from geotl.io.vector import read_features


def placed_in(scene: MadeScene):
    """Two points, one of them beyond the scene, two polygons, and a label without a place."""
    shapes = [
        ("forêt / mixte", shapely.Point(scene.grid.at(50, 50))),
        ("farm", shapely.Point(scene.grid.at(-500, 50))),
        ("farm", shapely.box(500800, 4599500, 501000, 4599700)),
        ("forêt . mixte", shapely.box(500000, 4599900, 500100, 4600000)),
    ]
    labels = tuple(Label(str(n), *pair) for n, pair in enumerate(shapes))
    lost = Rejection("9", "missing geometry", "it has no position", "farm")
    return place_chips([scene], Labels(Path("a.gpkg"), labels, (lost,), UTM), ChipRules(8))


def test_chips_are_tiles_that_training_takes_as_they_are(tmp_path) -> None:
    scene = MadeScene()
    scene.valid[49, 50] = False
    placed = placed_in(scene)
    manifest = write_chips([scene], placed, tmp_path / "out")
    index = index_manifest(manifest)
    assert index.classes == ("farm", "forêt . mixte", "forêt / mixte")
    assert len(index) == len(placed.chips) == 6
    with manifest.open(encoding="utf-8", newline="") as stream:
        rows = {row["path"]: row for row in csv.DictReader(stream)}
    for tile in index.tiles:
        row = rows[tile.path.relative_to(tmp_path / "out").as_posix()]
        assert tile.group == row["label_id"]
        chip = next(
            c
            for c in placed.chips
            if (c.window.row, c.window.col, c.scene)
            == (int(row["row"]), int(row["col"]), row["scene"])
        )
        held = raster.read(tile.path)
        data, valid = scene.read(chip.window)
        assert held.grid == chip.window.on(scene.grid)
        assert (tile.centre, tile.crs) == (held.grid.centre, UTM)
        assert (held.band_names, held.acquired) == (scene.bands, scene.acquired)
        assert (held.valid == valid).all()
        assert (held.data[valid] == data[valid]).all()


def test_the_rejected_are_listed_by_id_and_lie_on_a_map(tmp_path) -> None:
    write_chips([scene := MadeScene()], placed_in(scene), tmp_path)
    told = (tmp_path / "rejected.csv").read_text(encoding="utf-8")
    assert told.splitlines() == [
        "id,reason,class,detail",
        "9,missing geometry,farm,it has no position",
        "1,outside,farm,its window reaches 504 px beyond made",
    ]
    found = read_features(tmp_path / "rejected.gpkg", fields=["label_id", "reason"])
    assert (found.columns["label_id"], found.crs) == (("9", "1"), UTM)
    assert [shape is None for shape in found.geometries] == [True, False]


def test_a_value_that_no_valid_pixel_has_marks_the_others(tmp_path) -> None:
    scene = MadeScene()
    scene.data[:, 45:55, 45:55] = 0
    scene.data[0, 46, 46] = 65535
    scene.valid[49, 50] = False
    scene.valid[49, 51] = False
    write_chips([scene], placed_in(scene), tmp_path / "a")
    held = raster.read(next((tmp_path / "a").glob("for*/0.1.tif")))
    assert held.valid.sum() == 3 * 62
    assert (held.data[held.valid] == scene.read(_window(held, scene))[0][held.valid]).all()


def _window(held, scene):
    left, _, _, top = held.grid.bounds
    row = round((4600000 - top) / 10)
    return Window(row, round((left - 500000) / 10), 8, 8)


def test_only_a_folder_of_chips_is_replaced(tmp_path) -> None:
    scene = MadeScene()
    placed = placed_in(scene)
    out = tmp_path / "out"
    first = write_chips([scene], placed, out).read_bytes()
    with pytest.raises(OutputError, match=r"already contains chips; .* --overwrite"):
        write_chips([scene], placed, out)
    assert write_chips([scene], placed, out, overwrite=True).read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    (out / "farm" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"contains farm/notes.txt, which is not a chip"):
        write_chips([scene], placed, out, overwrite=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"is not empty and has no chips.csv"):
        write_chips([scene], placed, other)
    with pytest.raises(OutputError, match="is a file"):
        write_chips([scene], placed, other / "a.txt")


def test_an_interrupted_writing_leaves_what_was_there(tmp_path) -> None:
    scene = MadeScene()
    placed = placed_in(scene)
    write_chips([scene], placed, tmp_path / "out")
    before = sorted(p.name for p in (tmp_path / "out").rglob("*"))

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_chips([scene], placed, tmp_path / "out", overwrite=True, progress=stop)
    assert sorted(p.name for p in (tmp_path / "out").rglob("*")) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_no_chips_is_an_error_that_says_why(tmp_path) -> None:
    scene = MadeScene()
    scene.valid[:] = False
    with pytest.raises(DataError, match=r"0 chips from 0 of 5 labels: none; rejected 5:.*nodata"):
        write_chips([scene], placed_in(scene), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_are_mapped_on_the_command_line(capsys) -> None:
    assert mapping_of(["a=b", "c=", "*="]) == {"a": "b", "c": None, "*": None}
    for words in (["a"], ["=b"], ["a=b", "a=c"]):
        with pytest.raises(DataError, match="allowed: old=new"):
            mapping_of(words)
    assert main(["chips", "scene.tif", "a.gpkg", "-o", "out", "--purity", "2"]) == 2
    assert "purity: given 2.0; allowed: 0 to 1" in capsys.readouterr().err


def test_the_command_cuts_the_sample_scene_and_tells_what_it_left(tmp_path, capsys) -> None:
    folder = ROOT / "sample_tiles"
    bands = ["--bands", "B02", "B03", "B04", "B08"]
    told = ["-o", str(tmp_path), "--sensor", "sentinel2_l2a_n0400", "--chip-px", "32", *bands]
    points = ["chips", str(folder / "scene.tif"), str(folder / "labels.gpkg"), "--layer", "points"]
    assert main([*points, *told, "--rename", "river=", "--rename", "pasture=grass"]) == 0
    out = capsys.readouterr().out
    assert "221 chips from 221 of " in out
    assert "dropped class 30: river 30" in out
    index = index_manifest(tmp_path / "chips.csv")
    assert len(index) == 221
    assert "grass" in index.classes
    assert raster.read(index.tiles[0].path).band_names == ("B02", "B03", "B04", "B08")
    assert main([*points, *told, "--field", "clas"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    squares = ["chips", str(folder / "scene.tif"), str(folder / "truth.tif")]
    assert main([*squares, *told]) == 2
    assert "already contains chips" in capsys.readouterr().err
    assert main([*squares, *told, "--overwrite"]) == 0
    assert "424 chips from 424 " in capsys.readouterr().out


@pytest.mark.real_data
def test_the_command_cuts_band_files_of_three_resolutions(real_data, tmp_path, capsys) -> None:
    folder = real_data / "sentinel2_l1c_havel"
    labels = next(folder.glob("gis_osm_*.gpkg"))
    words = ["-o", str(tmp_path), "--sensor", "sentinel2_l1c", "--field", "fclass"]
    words += ["--chip-px", "32", "--bands", "B02", "B8A", "B10", "--rename", "scrub="]
    assert main(["chips", str(folder), str(labels), *words]) == 0
    index = index_manifest(tmp_path / "chips.csv")
    assert f"{len(index)} chips from 67 " in capsys.readouterr().out
    assert len({tile.group for tile in index.tiles}) == 67


def test_floats_are_marked_by_nan(tmp_path) -> None:
    scene = MadeScene()
    scene.data = scene.data.astype("float32")
    scene.valid[49, 50] = False
    write_chips([scene], placed_in(scene), tmp_path)
    held = raster.read(next(tmp_path.glob("for*/0.1.tif")))
    assert np.isnan(held.data).sum() == 3 == (~held.valid).sum()
