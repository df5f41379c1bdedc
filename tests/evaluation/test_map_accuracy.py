"""Class maps beside reference points and rasters: what is read where, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from geotl.cli.main import main
from geotl.errors import DataError
from geotl.evaluation.area_estimation import estimate
from geotl.evaluation.class_map import open_map, random_pixels, read_names, survey, windows
from geotl.evaluation.map_accuracy import assess_points, assess_raster
from geotl.evaluation.reference_points import draw_sample, plan_sample
from geotl.io.geodesy import areal_scales, row_areas_m2
from geotl.io.raster import Grid
from geotl.reporting.accuracy_report import areas_figure

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "sample_tiles"
NAMES = ("forest", "water", "field")


def write_map(path: Path, values: np.ndarray, *, names=NAMES, tags=None, **profile) -> Path:
    """A class map of 10 m pixels with names as tags, nodata 255."""
    settings = {
        "driver": "GTiff",
        "count": 1,
        "height": values.shape[0],
        "width": values.shape[1],
        "dtype": values.dtype.name,
        "crs": "EPSG:32633",
        "nodata": 255,
        "transform": from_origin(500000, 4600000, 10, 10),
    } | profile
    with rasterio.open(path, "w", **settings) as to:
        to.write(values, 1)
        to.update_tags(**{f"CLASS_{i}": n for i, n in enumerate(names)}, **(tags or {}))
    return path


def write_points(path: Path, xy, labels, *, crs="EPSG:32633", field="class", **columns) -> Path:
    shapes = gpd.points_from_xy(*np.asarray(xy, dtype=float).T)
    gpd.GeoDataFrame({field: labels, **columns}, geometry=shapes, crs=crs).to_file(path)
    return path


def centre(row: float, col: float) -> tuple[float, float]:
    return 500000 + 10 * (col + 0.5), 4600000 - 10 * (row + 0.5)


def random_values(seed: int, shape=(60, 80)) -> np.ndarray:
    return np.random.default_rng(seed).choice(3, shape, p=[0.6, 0.1, 0.3]).astype(np.uint8)


@pytest.fixture(scope="module")
def patches(tmp_path_factory) -> Path:
    """A map of patches of 10 pixels, 200 x 300, with a corner of nodata."""
    values = np.kron(random_values(0, (20, 30)), np.ones((10, 10), np.uint8))
    values[:10, :10] = 255
    return write_map(tmp_path_factory.mktemp("maps") / "patches.tif", values)


def truth_at(path: Path, table: gpd.GeoDataFrame, wrong: float, seed: int = 0) -> list[str]:
    """The map's class at each point, a share of them changed."""
    with rasterio.open(path) as source:
        found = [int(v[0]) for v in source.sample([(p.x, p.y) for p in table.geometry])]
    random = np.random.default_rng(seed)
    return [NAMES[(v + int(random.random() < wrong)) % 3] for v in found]


def test_points_are_read_at_the_pixel_they_lie_in(tmp_path) -> None:
    values = np.arange(517 * 391, dtype=np.int64).reshape(517, 391) % 7
    of = open_map(write_map(tmp_path / "m.tif", values.astype(np.uint8), names=()))
    cols = np.array([0.0, 0.999, 1.0, 390.999, 391.0, -0.001])
    found = survey(of, cols, np.full(6, 1.5))
    assert found.value[:4].tolist() == [values[1, c] for c in (0, 0, 1, 390)]
    assert found.status.tolist() == [""] * 4 + ["outside"] * 2
    assert sum(found.pixels.values()) == values.size


def test_figures_are_those_of_a_calculation_by_hand(tmp_path) -> None:
    values = np.zeros((10, 10), np.uint8)
    values[:, 7:] = 1  # 70 pixels forest, 30 water
    path = write_map(tmp_path / "m.tif", values)
    places = [centre(i, j) for i, j in [(0, 0), (1, 1), (2, 2), (3, 3), (0, 8), (5, 9)]]
    labels = ["forest", "forest", "forest", "water", "water", "field"]
    found = assess_points(
        open_map(path), write_points(tmp_path / "p.gpkg", places, labels), design="stratified"
    )
    assert found.classes == NAMES
    assert found.result.matrix.tolist() == [[3, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert float(found.result.overall.value) == pytest.approx(0.7 * 0.75 + 0.3 * 0.5)
    variance = 0.7**2 * 0.75 * 0.25 / 3 + 0.3**2 * 0.5 * 0.5 / 1
    assert float(found.result.overall.se) == pytest.approx(variance**0.5)
    assert found.result.areas_m2.value == pytest.approx([5250, 1750 + 1500, 1500])
    assert found.result.mapped_m2.tolist() == [7000, 3000, 0]


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "EPSG:3035"])
def test_the_points_system_makes_no_difference(patches, tmp_path, crs) -> None:
    random = np.random.default_rng(3)
    places = [centre(*p) for p in zip(*random.integers(0, (200, 300), (60, 2)).T, strict=True)]
    table = gpd.GeoDataFrame(geometry=gpd.points_from_xy(*np.array(places).T), crs="EPSG:32633")
    table["reference"] = truth_at(patches, table, 0.2)
    moved = tmp_path / "p.gpkg"
    table.to_crs(crs).to_file(moved)
    found = assess_points(open_map(patches), moved, design="simple")
    here = assess_points(open_map(patches), _saved(table, tmp_path / "q.gpkg"), design="simple")
    assert found.result.matrix.tolist() == here.result.matrix.tolist()
    assert found.rejected == here.rejected


def _saved(table: gpd.GeoDataFrame, path: Path) -> Path:
    table.to_file(path)
    return path


def test_what_cannot_be_judged_by_is_listed(patches, tmp_path) -> None:
    places = [centre(0, 0), centre(50, 50), centre(500, 5), centre(60, 60), centre(70, 70)]
    labels = ["forest", "water", "water", None, "field"]
    path = write_points(tmp_path / "p.gpkg", places, labels)
    found = assess_points(open_map(patches), path, design="none")
    assert found.rejected == {
        "on nodata of the map": ("1",),
        "outside the map": ("3",),
        "without a class": ("4",),
    }
    assert int(found.result.matrix.sum()) == 2


def test_a_csv_of_degrees_and_numbers_for_classes(patches, tmp_path) -> None:
    table = gpd.GeoSeries(gpd.points_from_xy(*np.array([centre(50, 50), centre(60, 60)]).T))
    degrees = table.set_crs("EPSG:32633").to_crs("EPSG:4326")
    path = tmp_path / "p.csv"
    lines = [f"{p.x:.9f},{p.y:.9f},{value}" for p, value in zip(degrees, (1, 2), strict=True)]
    path.write_text("\n".join(["lon,lat,class", *lines]))
    found = assess_points(open_map(patches), path, design="none")
    assert found.result.matrix.sum(axis=0).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("labels", "told"),
    [(["forrest", "water"], "did you mean 'forest'"), (["7", "water"], "no class of")],
)
def test_labels_that_the_map_does_not_know(patches, tmp_path, labels, told) -> None:
    path = write_points(tmp_path / "p.gpkg", [centre(50, 50), centre(60, 60)], labels)
    with pytest.raises(DataError, match=told):
        assess_points(open_map(patches), path)


def test_faults_of_points_are_one_line(patches, tmp_path, capsys) -> None:
    path = write_points(tmp_path / "p.gpkg", [centre(50, 50)], ["forest"], field="kind")
    assert main(["accuracy", str(patches), str(path), "-q"]) == 2
    assert "--field; there are: kind" in capsys.readouterr().err
    boxes = gpd.GeoDataFrame({"class": ["forest"]}, geometry=gpd.points_from_xy([0], [0]).buffer(9))
    boxes.set_crs("EPSG:32633").to_file(tmp_path / "b.gpkg")
    assert main(["accuracy", str(patches), str(tmp_path / "b.gpkg"), "-q"]) == 2
    assert "contains Polygon" in capsys.readouterr().err
    far = write_points(tmp_path / "f.gpkg", [(0, 0)], ["forest"])
    assert main(["accuracy", str(patches), str(far), "-q"]) == 2
    assert "no usable reference point" in capsys.readouterr().err
    lost = write_map(tmp_path / "lost.tif", random_values(1), crs=None)
    assert main(["accuracy", str(lost), str(far), "-q"]) == 2
    assert "no reference system" in capsys.readouterr().err


def test_a_raster_is_a_census(patches, tmp_path) -> None:
    with rasterio.open(patches) as source:
        values = source.read(1)
    worse = values.copy()
    worse[100:, :][worse[100:, :] == 0] = 2
    of = open_map(write_map(tmp_path / "worse.tif", worse))
    found = assess_raster(of, patches, None, None)
    matrix = np.array([[((worse == i) & (values == j)).sum() for j in range(3)] for i in range(3)])
    assert found.result.matrix.tolist() == matrix.tolist()
    assert float(found.result.overall.value) == pytest.approx(np.trace(matrix) / matrix.sum())
    assert found.result.producers.value == pytest.approx(np.diag(matrix) / matrix.sum(axis=0))
    assert found.result.areas_m2.value == pytest.approx(100 * matrix.sum(axis=0))
    assert np.isnan(found.result.overall.se)
    assert not found.sampled
    (counted,) = found.notes
    assert "pixels without a reference are left out" in counted
    taught = write_map(
        tmp_path / "taught.tif",
        worse,
        tags={"GEOTL_TRAINING_FOOTPRINTS": "[[500000, 4599000, 500100, 4599100]]"},
    )
    assert (
        "training areas are included"
        in assess_raster(open_map(taught), patches, None, None).notes[1]
    )


def test_a_reference_on_another_grid_is_laid_on_the_maps(tmp_path) -> None:
    values = random_values(2, (40, 40))
    fine = np.kron(values, np.ones((2, 2), np.uint8))
    of = open_map(write_map(tmp_path / "m.tif", values))
    half = write_map(tmp_path / "r.tif", fine, transform=from_origin(500000, 4600000, 5, 5))
    found = assess_raster(of, half, None, None)
    assert float(found.result.overall.value) == 1.0
    assert int(found.result.matrix.sum()) == values.size
    assert "another grid" in found.notes[0]
    part = write_map(
        tmp_path / "s.tif", values[:20], transform=from_origin(500000, 4600000, 10, 10)
    )
    assert int(assess_raster(of, part, None, None).result.matrix.sum()) == 20 * 40


def test_names_come_from_the_user_then_gdal_then_tags(tmp_path) -> None:
    path = write_map(tmp_path / "m.tif", random_values(0), names=("a", "b", "c"))
    assert open_map(path).names == {0: "a", 1: "b", 2: "c"}
    (tmp_path / "m.tif.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><CategoryNames><Category>wood</Category>"
        "<Category></Category><Category>field</Category></CategoryNames></PAMRasterBand></PAMDataset>"
    )
    assert open_map(path).names == {0: "wood", 2: "field"}
    assert open_map(path).name(1) == "1"
    (tmp_path / "names.txt").write_text("value,name\n# joined\n0,green\n1;blue\n2=green\n")
    joined = open_map(path, read_names(tmp_path / "names.txt"))
    assert set(random_pixels(joined, 3, 0)) == {"green", "blue"}
    (tmp_path / "bad.txt").write_text("value,name\nwood is green\n")
    with pytest.raises(DataError, match="line 2"):
        read_names(tmp_path / "bad.txt")


def test_maps_that_are_none_are_refused(tmp_path) -> None:
    three = np.zeros((3, 8, 8), np.uint8)
    with rasterio.open(
        tmp_path / "rgb.tif", "w", driver="GTiff", count=3, height=8, width=8, dtype="uint8"
    ) as to:
        to.write(three)
    with pytest.raises(DataError, match="one band"):
        open_map(tmp_path / "rgb.tif")
    with pytest.raises(DataError, match="whole numbers"):
        open_map(write_map(tmp_path / "f.tif", np.zeros((8, 8), np.float32), nodata=None))
    many = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    with pytest.raises(DataError, match="more than 1024 values"):
        survey(open_map(write_map(tmp_path / "n.tif", many, nodata=None)))
    empty = write_map(tmp_path / "e.tif", np.full((8, 8), 255, np.uint8))
    with pytest.raises(DataError, match="no valid pixel"):
        survey(open_map(empty))


@pytest.mark.parametrize("tile", [(256, 256), (1, 6000), (7, 6000), (3000, 6000), (4096, 4096)])
def test_windows_reach_each_pixel_once_and_stay_small(tile) -> None:
    grid = Grid(None, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), 3000, 6000)
    seen = np.zeros((3000, 6000), np.uint8)
    for w in windows(tile, grid):
        assert w.inside(grid)
        assert w.height * w.width <= 1 << 22
        seen[w.row : w.row + w.height, w.col : w.col + w.width] += 1
    assert (seen == 1).all()


def test_cell_areas_in_degrees_are_those_on_the_ellipsoid() -> None:
    from pyproj import Geod

    geod = Geod(ellps="WGS84")
    grid = Grid("EPSG:4326", (0.5, 0.0, 10.0, 0.0, -0.25, 60.0), 4, 3)
    for row, area in enumerate(row_areas_m2(grid).tolist()):
        north, south = 60 - 0.25 * row, 60 - 0.25 * (row + 1)
        lon = np.linspace(10, 10.5, 400)  # a parallel is no geodesic: many short ones
        ring = np.r_[lon, lon[::-1]], np.r_[np.full(400, north), np.full(400, south)]
        assert area == pytest.approx(abs(geod.polygon_area_perimeter(*ring)[0]), rel=1e-7)
    world = Grid("EPSG:4326", (1.0, 0.0, -180.0, 0.0, -1.0, 90.0), 180, 360)
    assert row_areas_m2(world).sum() * 360 == pytest.approx(510_065_621_724_088.4, rel=1e-12)
    feet = Grid("EPSG:2263", (10.0, 0.0, 9e5, 0.0, -10.0, 2e5), 1, 1)
    assert row_areas_m2(feet)[0] == pytest.approx(100 * 0.3048006096**2)
    with pytest.raises(DataError, match="rotated"):
        row_areas_m2(Grid("EPSG:4326", (0.5, 0.1, 10.0, 0.1, -0.25, 60.0), 4, 3))


def test_areas_in_degrees_are_summed_by_row(tmp_path) -> None:
    values = random_values(4, (50, 30))
    path = write_map(
        tmp_path / "m.tif", values, crs="EPSG:4326", transform=from_origin(10, 70, 0.2, 0.2)
    )
    per_row = row_areas_m2(open_map(path).grid)
    found = survey(open_map(path))
    for value, area in found.areas_m2.items():
        assert area == pytest.approx(((values == value).sum(axis=1) * per_row).sum())


def test_web_mercator_is_told_to_enlarge(tmp_path) -> None:
    grid = Grid("EPSG:3857", (10.0, 0.0, 3e5, 0.0, -10.0, 6.1e6), 100, 100)
    assert areal_scales(grid)[0] == pytest.approx(2.23, abs=0.02)
    of = write_map(
        tmp_path / "m.tif",
        random_values(5),
        crs="EPSG:3857",
        transform=from_origin(3e5, 6.1e6, 10, 10),
    )
    found = assess_raster(open_map(of), of, None, None)
    assert "enlarges areas by 2.2" in found.warnings[0]


def test_a_drawn_sample_filled_in_is_known_for_what_it_is(patches, tmp_path) -> None:
    of, path = open_map(patches), tmp_path / "design.gpkg"
    plan = plan_sample(of, n=120, minimum=25)
    draw_sample(of, plan, path, seed=7)
    table = gpd.read_file(path)
    assert table.crs == "EPSG:32633"
    assert list(table.columns[:4]) == ["id", "stratum", "inclusion_probability", "reference"]
    assert table["reference"].isna().all()
    assert table["stratum"].value_counts().to_dict() == dict(
        zip(plan.classes, plan.points.tolist(), strict=True)
    )
    assert plan.points.min() == 25
    assert truth_at(patches, table, 0.0) == table["stratum"].tolist()
    table["reference"] = truth_at(patches, table, 0.15)
    filled = _saved(table, tmp_path / "filled.gpkg")
    found = assess_points(of, filled)
    assert found.warnings == ()
    assert found.design.startswith("stratified random")
    pixels = [plan.pixels[plan.classes.index(name)] for name in found.classes]
    again = estimate(found.result.matrix, pixels, 100.0)
    assert found.result.areas_m2.value == pytest.approx(again.areas_m2.value)
    assert found.result.areas_m2.se == pytest.approx(again.areas_m2.se)


def test_a_drawn_sample_that_was_changed_is_told_of(patches, tmp_path) -> None:
    of, path = open_map(patches), tmp_path / "design.gpkg"
    draw_sample(of, plan_sample(of, n=90), path)
    table = gpd.read_file(path)
    table["reference"] = truth_at(patches, table, 0.1)
    fewer = assess_points(of, _saved(table.iloc[20:], tmp_path / "fewer.gpkg"))
    assert "added or removed" in fewer.warnings[0]
    table.loc[:9, "reference"] = None
    part = assess_points(of, _saved(table, tmp_path / "part.gpkg"))
    assert "10 of the 90 points drawn have no reference yet" in part.warnings[0]
    other = write_map(tmp_path / "other.tif", random_values(9, (200, 300)))
    foreign = assess_points(open_map(other), _saved(table, tmp_path / "f.gpkg"))
    assert "drawn from another map" in foreign.warnings[0]


def test_draws_hang_on_seed_and_place_alone(patches, tmp_path) -> None:
    with rasterio.open(patches) as source:
        values = source.read(1)
    tiled = open_map(
        write_map(tmp_path / "t.tif", values, tiled=True, blockxsize=16, blockysize=16)
    )
    first, again = random_pixels(open_map(patches), 40, 5), random_pixels(tiled, 40, 5)
    more, other = random_pixels(tiled, 60, 5), random_pixels(tiled, 40, 6)
    for name, (rows, cols) in first.items():
        assert rows.tolist() == again[name][0].tolist() == more[name][0][:40].tolist()
        assert cols.tolist() == again[name][1].tolist() == more[name][1][:40].tolist()
        assert (values[rows, cols] == NAMES.index(name)).all()
        assert len(set(zip(rows.tolist(), cols.tolist(), strict=True))) == 40
        assert rows.tolist() != other[name][0].tolist()


def test_draws_are_even_over_the_map(tmp_path) -> None:
    from scipy.stats import chisquare

    of = open_map(write_map(tmp_path / "m.tif", np.zeros((400, 300), np.uint8)))
    rows, cols = random_pixels(of, 4000, 1)["forest"]
    cells = np.bincount((rows // 40) * 10 + cols // 30, minlength=100)
    assert chisquare(cells).pvalue > 0.001
    assert chisquare(np.bincount(rows % 8 * 8 + cols % 8)).pvalue > 0.001


def test_points_that_are_no_sample_are_told_of(patches, tmp_path) -> None:
    of, random = open_map(patches), np.random.default_rng(0)
    near = [centre(*p) for p in random.integers(100, 130, (40, 2))]
    far = [centre(*p) for p in random.integers(20, (200, 300), (40, 2))]

    def warnings(places, **options) -> str:
        path = write_points(tmp_path / "p.gpkg", places, ["forest"] * len(places))
        return "\n".join(assess_points(of, path, **options).warnings)

    assert "not known to be a probability sample" in warnings(far)
    assert "no probability sample" in warnings(far, design="none")
    assert "probability" not in warnings(far, design="simple")
    assert "clustered" not in warnings(far, design="stratified")
    assert "the points are clustered" in warnings(near, design="stratified")
    assert "chi-square" in warnings([centre(*p) for p in _water(patches)[:40]], design="simple")
    assert "1 points lie in a pixel" in warnings([*far, far[0]], design="simple")


def _water(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        places = np.argwhere(source.read(1) == 1)
    return np.random.default_rng(1).permutation(places)


def test_points_on_training_tiles_are_told_of(tmp_path) -> None:
    box = [500000, 4599900, 500100, 4600000]
    path = write_map(
        tmp_path / "m.tif", random_values(0), tags={"GEOTL_TRAINING_FOOTPRINTS": json.dumps([box])}
    )
    points = write_points(tmp_path / "p.gpkg", [centre(2, 2), centre(20, 20)], ["forest", "water"])
    found = assess_points(open_map(path), points, design="simple")
    assert any("trained on (1)" in line for line in found.warnings)


def test_a_class_with_too_few_points_is_told_of(patches, tmp_path) -> None:
    with rasterio.open(patches) as source:
        forest = np.argwhere(source.read(1) == 0)[:5]
    path = write_points(tmp_path / "p.gpkg", [centre(*p) for p in forest], ["forest"] * 5)
    found = assess_points(open_map(patches), path, design="stratified")
    assert "class water is mapped but has 0 reference points" in "\n".join(found.warnings)
    assert np.isnan(found.result.overall.value)


def test_the_command_writes_what_it_prints(tmp_path, capsys) -> None:
    out = tmp_path / "out"
    points = str(SAMPLE / "labels.gpkg")
    line = ["accuracy", str(SAMPLE / "truth.tif"), points, "--layer", "points", "-q"]
    assert main([*line, "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "WARNING: the reference is not known to be a probability sample" in said
    held = json.loads((out / "accuracy.json").read_text())
    assert f"overall accuracy {held['overall']['value']:.4f}" in said
    assert sum(map(sum, held["matrix"])) == held["used"] == 270
    assert sum(held["adjusted_area"]["value"]) == pytest.approx(sum(held["mapped_area"]))
    assert (out / "classes.csv").read_text().count("\n") == 10
    assert (out / "areas.png").read_bytes().startswith(b"\x89PNG")
    (out / "accuracy.json").unlink()
    (out / "classes.csv").write_text("3,wetland")  # names of one's own, such as --names takes
    assert main([*line, "-o", str(out)]) == 2
    assert f"{out / 'classes.csv'}: is there already" in capsys.readouterr().err
    assert (out / "classes.csv").read_text() == "3,wetland"
    assert not (out / "accuracy.json").exists()
    assert main([*line, "-o", str(out), "--overwrite"]) == 0
    capsys.readouterr()
    assert main([*line[:3], "--layer", "pints", "-q"]) == 2
    assert "did you mean 'points'" in capsys.readouterr().err


def test_sampling_by_command_plans_and_draws(patches, tmp_path, capsys) -> None:
    assert main(["sample", str(patches), "--target-se", "0.02", "-q"]) == 0
    assert "400 points; standard error of overall accuracy 0.0" in capsys.readouterr().out
    path = tmp_path / "d.gpkg"
    drawn = ["sample", str(patches), "-n", "60", "--allocation", "equal", "-o", str(path), "-q"]
    assert main(drawn) == 0
    assert gpd.read_file(path)["stratum"].value_counts().tolist() == [20, 20, 20]
    filled = gpd.read_file(path).assign(reference="wood")
    filled.to_file(path)
    capsys.readouterr()
    assert main(drawn) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert (
        told.err == f"geotl: {path}: is there already; choose another name, or give --overwrite\n"
    )
    assert set(gpd.read_file(path)["reference"]) == {"wood"}
    assert main([*drawn, "--overwrite"]) == 0
    assert gpd.read_file(path)["reference"].isna().all()
    assert main(["sample", str(patches), "-n", "60", "--expected", "wader=0.9", "-q"]) == 2
    assert "did you mean 'water'" in capsys.readouterr().err
    assert main(["sample", str(patches), "-n", "60", "--min-per-class", "30", "-q"]) == 2
    assert "60 points for 3 mapped classes; allowed: 90" in capsys.readouterr().err


def test_figures_are_drawn_where_little_is_known(patches, tmp_path) -> None:
    path = write_points(tmp_path / "p.gpkg", [centre(50, 50)], ["water"])
    found = assess_points(open_map(patches), path, design="none")
    assert areas_figure(found).startswith(b"\x89PNG")
