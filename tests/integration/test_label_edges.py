"""Labels and scenes at the edge, through the commands; and the traps of pixels cut from scenes."""

from __future__ import annotations

import csv
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from helpers.experiments import samples_of
from helpers.labelled_scenes import BANDS, SMALL, made_scene, over, run
from helpers.tiles import write_tile
from rasterio.transform import Affine
from safetensors.numpy import load_file

from geotl.cli.main import main
from geotl.data.tile_array import statistics
from geotl.experiments.draws import make_draw
from geotl.experiments.recipe import load

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered")

BLOCKS = [
    "split.method=blocks",
    "split.block_m=480",
    "split.kfold=3",
    "evaluate.random_split=false",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return made_scene(tmp_path_factory.mktemp("scene"))


def rewritten(labels: Path, into: Path, change, **options) -> Path:
    """The labels as another file, after a change of their table."""
    table = change(geopandas.read_file(labels))
    pyogrio.write_dataframe(table, into, **options)
    return into


def refused(capsys: pytest.CaptureFixture[str], code: int) -> str:
    """The one line that a command ended with."""
    line = capsys.readouterr().err.strip()
    assert code == 2
    assert len(line.splitlines()) == 1
    return line


def test_labels_of_every_kind_in_one_file_are_used_or_listed(made, tmp_path: Path) -> None:
    def spoil(table):
        shapes = list(table.geometry)
        shapes[0], shapes[1] = None, shapely.LineString([(500100, 4599900), (500200, 4599900)])
        shapes[2] = shapes[2].buffer(70, cap_style="square")  # a polygon among points
        shapes[3] = shapely.Point(500000, 4600000)  # the scene's very corner
        table = table.set_geometry(shapes, crs=table.crs)
        table.loc[4, "class"], table.loc[5, "class"] = None, "  "
        table.loc[6, "class"] = "unheard of"
        return table

    labels = rewritten(made[1], tmp_path / "l.gpkg", spoil, geometry_type="Unknown")
    recipe = tmp_path / "drop.yaml"
    recipe.write_text("labels: {names: {unheard of: null}}\n")
    out = tmp_path / "run"
    told = [*SMALL, *over((made[0], labels)), "--output", str(out), "-q"]
    assert main(["run", str(recipe), *told]) == 0
    with (out / "rejected.csv").open() as stream:
        found = {row["id"]: row["reason"] for row in csv.DictReader(stream)}
    assert {i: found.get(str(i)) for i in range(1, 8)} == {
        1: "missing geometry",
        2: "unusable geometry",
        3: None,
        4: "outside",
        5: "no class",
        6: "no class",
        7: "dropped class",
    }
    page = (out / "report.html").read_text()
    assert "Labels that gave no chip" in page
    assert "its window reaches 6 px beyond scene" in page


@pytest.mark.parametrize(
    ("crs", "words"),
    [
        (None, "labels.crs"),
        ("EPSG:32631", "no label is near the imagery"),
        ("EPSG:4326", "is EPSG:4326 the system of their coordinates?"),
    ],
)
def test_labels_in_no_system_or_a_wrong_one(made, tmp_path, capsys, crs, words) -> None:
    labels = rewritten(made[1], tmp_path / "l.gpkg", lambda t: t.set_crs(crs, allow_override=True))
    line = refused(capsys, run(tmp_path / "run", *over((made[0], labels))))
    assert "l.gpkg" in line
    assert words in line
    if crs is None:  # told, they serve
        assert run(tmp_path / "run", *over((made[0], labels)), "labels.crs=EPSG:32633") == 0
    else:
        told = [
            str(made[0]),
            str(labels),
            "-o",
            str(tmp_path / "c"),
            "--chip-px",
            "12",
            "--sensor",
            "sentinel2_l2a",
            "--bands",
            *BANDS,
            "-q",
        ]
        assert words in refused(capsys, main(["chips", *told]))


def test_labels_in_another_system_train_the_same_model(made, tmp_path: Path) -> None:
    moved = rewritten(made[1], tmp_path / "l.gpkg", lambda t: t.to_crs("EPSG:4326"))
    assert run(tmp_path / "a", *over(made)) == 0
    assert run(tmp_path / "b", *over((made[0], moved))) == 0
    same_tensors(tmp_path / "a", tmp_path / "b")


def same_tensors(a: Path, b: Path) -> None:
    first, second = (load_file(out / "model.safetensors") for out in (a, b))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        np.testing.assert_array_equal(tensor, second[name], err_msg=name)


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({"crs": None}, "states no coordinate reference system"),
        ({"transform": Affine(8.0, 6.0, 500000, 6.0, -8.0, 4600000)}, "rotated, sheared"),
        ({"transform": Affine(10.0, 2.0, 500000, 0.0, -10.0, 4600000)}, "rotated, sheared"),
    ],
)
def test_scenes_without_a_place_or_turned(made, tmp_path, capsys, profile, words) -> None:
    with rasterio.open(made[0]) as image:
        scene = write_tile(tmp_path / "odd.tif", image.read(), names=BANDS, **profile)
    line = refused(capsys, run(tmp_path / "run", *over((scene, made[1]))))
    assert "odd.tif" in line
    assert words in line


def test_trap_3_statistics_are_of_the_training_chips_alone(tmp_path: Path) -> None:
    """The ground under the tested chips times ten changes no tensor of the model."""
    made = made_scene(tmp_path)
    settings = [*over(made), *BLOCKS, "keep=first"]
    assert run(tmp_path / "a", *settings) == 0
    source, recipe = chips_of(tmp_path, *settings)
    split = make_draw(recipe, source, 0).split
    with rasterio.open(made[0], "r+") as image:
        pixels = image.read()
        before = pixels.copy()
        for row in split.test:
            left, bottom, right, top = source.pack.footprints[row]
            (r0, c0), (r1, c1) = image.index(left + 5, top - 5), image.index(right - 5, bottom + 5)
            pixels[:, r0 : r1 + 1, c0 : c1 + 1] *= 10
        assert (pixels != before).any()
        image.write(pixels)
    assert run(tmp_path / "b", *settings) == 0
    same_tensors(tmp_path / "a", tmp_path / "b")


def chips_of(folder: Path, *settings: str):
    """The chips that a recipe places, and the recipe."""
    path = folder / "small.yaml"
    path.write_text("title: small\n")
    recipe = load(str(path), [*SMALL, *settings])
    return samples_of(recipe), recipe


def test_trap_4_nodata_is_in_no_statistics(made, tmp_path: Path) -> None:
    with rasterio.open(made[0]) as image:
        pixels = np.full((4, image.height, image.width), 1000, np.uint16)
    pixels[:, :, 1::2] = 0
    scene = write_tile(tmp_path / "s.tif", pixels, names=BANDS, nodata=0)
    source, _ = chips_of(tmp_path, *over((scene, made[1])), "labels.min_valid=0.5")
    found = statistics(source.pack, np.arange(len(source.index)))
    np.testing.assert_allclose(found.mean, 1000, rtol=1e-6)
    np.testing.assert_allclose(found.sd / found.mean, 0, atol=1e-3)
    assert source.pack.valid is not None
    assert np.mean(source.pack.valid) == 0.5
    scant = ["labels.min_valid=0.6"]
    assert run(tmp_path / "run", *over((scene, made[1])), *scant) == 2


def test_trap_5_band_order_and_offset_of_a_scene_do_not_matter(made, tmp_path: Path) -> None:
    with rasterio.open(made[0]) as image:
        pixels = image.read()
    turned = write_tile(tmp_path / "scene.tif", pixels[::-1], names=BANDS[::-1])
    shifted = np.where(pixels > 0, pixels + 1000, 0).astype(np.uint16)
    later = write_tile(tmp_path / "later" / "scene.tif", shifted, names=BANDS)
    assert run(tmp_path / "a", *over(made)) == 0
    assert run(tmp_path / "b", *over((turned, made[1]))) == 0
    assert run(tmp_path / "c", *over((later, made[1])), "data.sensor=sentinel2_l2a_n0400") == 0
    same_tensors(tmp_path / "a", tmp_path / "b")
    first, third = (load_file(tmp_path / n / "model.safetensors") for n in "ac")
    np.testing.assert_allclose(third["normalise.mean"], first["normalise.mean"] + 1000, rtol=1e-5)
    np.testing.assert_allclose(third["normalise.sd"], first["normalise.sd"], rtol=1e-4)
    np.testing.assert_allclose(third["head.weight"], first["head.weight"], atol=2e-2)


def test_trap_6_a_points_pixel_is_the_same_by_area_and_by_point(made, tmp_path: Path) -> None:
    rows = []
    for kind in ("Area", "Point"):
        scene = tmp_path / kind / "scene.tif"
        with rasterio.open(made[0]) as image:
            write_tile(scene, image.read(), names=BANDS)
        with rasterio.open(scene, "r+") as image:
            image.update_tags(AREA_OR_POINT=kind)
        told = ["--chip-px", "3", "--sensor", "sentinel2_l2a", "--bands", *BANDS, "-q"]
        out = tmp_path / kind / "chips"
        with rasterio.open(scene) as image:
            grid = image.transform
        point = geopandas.GeoDataFrame(
            {"class": ["a", "b"]},
            crs="EPSG:32633",
            geometry=[shapely.Point(grid @ (1.5, 1.5)), shapely.Point(grid @ (40.5, 30.5))],
        )
        point.to_file(tmp_path / kind / "l.gpkg")
        assert (
            main(["chips", str(scene), str(tmp_path / kind / "l.gpkg"), "-o", str(out), *told]) == 0
        )
        with (out / "chips.csv").open() as stream:
            rows.append([(row["row"], row["col"]) for row in csv.DictReader(stream)])
    assert rows[0] == rows[1] == [("0", "0"), ("29", "39")]


def test_trap_7_no_footprint_is_on_both_sides_of_a_fold(made, tmp_path: Path) -> None:
    source, recipe = chips_of(tmp_path, *over(made), "labels.chip_px=20", *BLOCKS)
    boxes = shapely.box(*np.array(source.pack.footprints).T)
    assert (shapely.area(shapely.intersection(boxes[:-1], boxes[1:])) > 0).any()  # neighbours do
    tested = []
    for number in range(3):
        split = make_draw(recipe, source, number).split
        ground = shapely.union_all(boxes[split.test])
        assert shapely.area(shapely.intersection(boxes[split.train], ground)).max() == 0
        tested.extend(split.test.tolist())
    assert sorted(tested) == list(range(len(boxes)))
