"""Labels read: formats, systems, mapping, and every feature that cannot be used by its reason."""

from __future__ import annotations

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from helpers.memory_scene import UTM
from helpers.tiles import ROOT, write_tile
from rasterio.warp import Resampling, reproject

from geotl.data.labels import classes_on, raster_labels, read_labels
from geotl.errors import DataError
from geotl.io.raster import Grid
from geotl.io.vector import read_features, transformed, write_features

SQUARE = shapely.box(500100, 4599700, 500300, 4599900)
BOWTIE = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
SPIKE = shapely.Polygon([(0, 0), (10, 10), (0, 0)])


def saved(path, rows, *, crs=UTM, **kind):
    """Write (class, geometry) rows to a vector file."""
    names, shapes = zip(*rows, strict=True)
    table = geopandas.GeoDataFrame({"kind": list(names)}, geometry=list(shapes), crs=crs)
    pyogrio.write_dataframe(table, path, **kind)
    return path


@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".geojson", ".fgb", ".kml"])
def test_every_format_gives_the_same_label(tmp_path, suffix) -> None:
    crs = UTM if suffix not in (".geojson", ".kml") else "EPSG:4326"
    point = transformed(np.array([shapely.Point(500105, 4599895)]), UTM, crs)[0]
    path = tmp_path / f"a{suffix}"
    table = geopandas.GeoDataFrame({"Name": ["farm"]}, geometry=[point], crs=crs)
    pyogrio.write_dataframe(table, path, driver="KML" if suffix == ".kml" else None)
    (label,) = read_labels(path, field="Name", crs_to=UTM).labels
    assert label.class_name == "farm"
    assert (label.geometry.x, label.geometry.y) == pytest.approx((500105, 4599895), abs=1e-3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x,y,crs,class\n500105,4599895,EPSG:32633,farm\n", {}),
        ("X;Y;class\n500105,0;4599895,0;farm\n", {"crs": "EPSG:32633"}),
        ("lon,lat,class\n15.001259029,41.550718741,farm\n", {}),
    ],
)
def test_coordinates_in_a_csv(tmp_path, text, told) -> None:
    (tmp_path / "a.csv").write_text(text)
    (label,) = read_labels(tmp_path / "a.csv", field="class", crs_to=UTM, **told).labels
    assert label.id == "2"
    assert label.geometry.distance(shapely.Point(500105, 4599895)) < 1e-3


def test_every_feature_is_a_label_or_rejected_by_its_reason(tmp_path) -> None:
    rows = [
        ("farm", SQUARE),
        ("farm", shapely.Point(500105, 4599895)),
        ("farm", None),
        ("farm", shapely.Point()),
        (None, SQUARE),
        ("  ", SQUARE),
        ("water", SQUARE),
        ("farm", shapely.LineString([(0, 0), (1, 1)])),
        ("farm", SPIKE),
        ("grass", BOWTIE),
    ]
    path = saved(tmp_path / "a.gpkg", rows, geometry_type="Unknown")
    rules = {"water": None, "grass": "meadow", "gras": "meadow"}
    found = read_labels(path, field="kind", crs_to=UTM, mapping=rules)
    assert [(one.id, one.class_name) for one in found.labels] == [
        ("1", "farm"),
        ("2", "farm"),
        ("10", "meadow"),
    ]
    assert [(one.label_id, one.reason) for one in found.rejected] == [
        ("3", "missing geometry"),
        ("4", "missing geometry"),
        ("5", "no class"),
        ("6", "no class"),
        ("7", "dropped class"),
        ("8", "unusable geometry"),
        ("9", "unusable geometry"),
    ]
    assert found.labels[2].geometry.area == pytest.approx(50)
    told = "\n".join(found.notes)
    assert "'gras', which no label has; did you mean 'grass'" in told
    assert "repaired: 10" in told


def test_others_are_dropped_or_joined_by_the_star(tmp_path) -> None:
    path = saved(tmp_path / "a.gpkg", [("a", SQUARE), ("b", SQUARE), (None, SQUARE)])
    dropped = read_labels(path, field="kind", crs_to=UTM, mapping={"a": "a", "*": None})
    assert (dropped.classes, dropped.notes) == (("a",), ())
    joined = read_labels(path, field="kind", crs_to=UTM, mapping={"a": "a", "*": "other"})
    assert joined.classes == ("a", "other")


def test_whole_numbers_serve_as_classes_and_gaps_do_not_break_them(tmp_path) -> None:
    path = saved(tmp_path / "a.gpkg", [(3, SQUARE), (None, SQUARE), (12, SQUARE)])
    assert read_labels(path, field="kind", crs_to=UTM).classes == ("12", "3")


def test_ids_come_from_a_field_if_they_tell_labels_apart(tmp_path) -> None:
    path = saved(tmp_path / "a.gpkg", [("a", SQUARE), ("b", SQUARE)])
    found = read_labels(path, field="kind", id_field="kind", crs_to=UTM)
    assert [one.id for one in found.labels] == ["a", "b"]
    path = saved(tmp_path / "b.gpkg", [("a", SQUARE), ("a", SQUARE)])
    with pytest.raises(DataError, match="'a' is there more than once"):
        read_labels(path, field="kind", id_field="kind", crs_to=UTM)


def test_what_cannot_be_had_is_one_line_with_the_remedy(tmp_path) -> None:
    sample = ROOT / "sample_tiles" / "labels.gpkg"
    silent = saved(tmp_path / "a.gpkg", [("a", SQUARE)], crs=None)
    (tmp_path / "b.csv").write_text("x,y,class\n1,2,a\n")
    (tmp_path / "c.csv").write_text("east,north,class\n1,2,a\n")
    (tmp_path / "d.gpkg").write_bytes(b"no vectors")
    faults = [
        (sample, {}, r"2 layers \(points, polygons\); choose one with labels.layer"),
        (sample, {"layer": "point"}, "no layer 'point'; did you mean 'points'"),
        (sample, {"layer": "points", "field": "clas"}, r"did you mean 'class'\? allowed: class"),
        (silent, {"field": "kind"}, "does not state its reference system; state it"),
        (silent, {"field": "kind", "crs": "EPSG:0"}, "not a known reference system"),
        (tmp_path / "b.csv", {}, "line 2 does not state its reference system"),
        (tmp_path / "c.csv", {}, "no columns x and y, or lon and lat"),
        (tmp_path / "d.gpkg", {}, "cannot be read as points or polygons"),
        (tmp_path / "e.gpkg", {}, "no such file"),
    ]
    for path, told, expected in faults:
        with pytest.raises(DataError, match=expected) as caught:
            read_labels(path, crs_to=UTM, **{"field": "class", **told})
        assert "\n" not in str(caught.value)
    assert read_labels(silent, field="kind", crs_to=UTM, crs=UTM).labels[0].geometry.equals(SQUARE)


def test_a_system_told_against_the_files_own_is_noted(tmp_path) -> None:
    path = saved(tmp_path / "a.gpkg", [("a", SQUARE)], crs="EPSG:32632")
    found = read_labels(path, field="kind", crs_to=UTM, crs=UTM)
    assert found.labels[0].geometry.equals(SQUARE)
    assert "although the file states EPSG:32632" in found.notes[0]


def test_long_edges_are_bent_as_the_other_system_bends_them() -> None:
    strip = shapely.box(14.0, 50.0, 16.0, 50.2)  # its lower edge bulges by 2.7 km in UTM
    there = transformed(np.array([strip]), "EPSG:4326", UTM)[0]
    middle = transformed(np.array([shapely.Point(15.0, 50.0)]), "EPSG:4326", UTM)[0]
    assert there.boundary.distance(middle) < 0.02
    lost = transformed(np.array([shapely.Point(np.inf, 0), None]), "EPSG:4326", UTM)
    assert lost.tolist() == [None, None]


def test_a_geopackage_is_written_whole_and_read_back(tmp_path) -> None:
    shapes = [SQUARE, None, shapely.Point(1, 2)]
    write_features(tmp_path / "deep" / "a.gpkg", shapes, {"n": [1, None, 3]}, UTM)
    found = read_features(tmp_path / "deep" / "a.gpkg", fields=["n"])
    assert found.columns["n"] == (1, None, 3)
    assert found.geometries[0].equals(SQUARE)
    assert found.geometries[1] is None
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.gpkg"]


def test_a_class_raster_tells_its_names_by_tags_or_categories(tmp_path) -> None:
    sample = raster_labels(ROOT / "sample_tiles" / "truth.tif", names={"2": "farm", "river": None})
    assert [sample.name_of(v) for v in (0, 2, 7, 255)] == ["broadleaf_forest", "farm", None, None]
    path = write_tile(tmp_path / "a.tif", np.full((1, 4, 4), 1, "uint8"))
    (tmp_path / "a.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><CategoryNames><Category></Category>'
        "<Category>farm</Category></CategoryNames></PAMRasterBand></PAMDataset>"
    )
    told = raster_labels(path)
    assert [told.name_of(v) for v in (0, 1, 2)] == [None, "farm", "2"]
    with pytest.raises(DataError, match="did you mean 'farm'"):
        raster_labels(path, names={"frm": "x"})
    two = write_tile(tmp_path / "b.tif", np.ones((2, 4, 4), "uint8"))
    with pytest.raises(DataError, match="one band of whole numbers"):
        raster_labels(two)
    lost = write_tile(tmp_path / "c.tif", np.ones((1, 4, 4), "uint8"), crs=None)
    with pytest.raises(DataError, match="no reference system"):
        raster_labels(lost)


def test_a_fault_of_many_rows_of_labels_is_one_line(tmp_path) -> None:
    """Red before: the first row alone was named."""
    path = tmp_path / "labels.csv"
    rows = ["1,2,a,EPSG:32633", *("3,4,b," for _ in range(7)), "5,6,c,EPSG:0"]
    path.write_text("x,y,class,crs\n" + "\n".join(rows) + "\n")
    with pytest.raises(DataError) as caught:
        read_labels(path, field="class", crs_to=UTM)
    unknown, silent = str(caught.value).splitlines()
    assert "line 10 gives crs 'EPSG:0'" in unknown
    assert "line 3 does not state its reference system; add a column crs" in silent
    assert silent.endswith("(7 lines have this fault: 3, 4, 5, 6, 7 and more)")


def test_classes_are_looked_up_at_the_middles_of_pixels(tmp_path) -> None:
    values = np.arange(36, dtype="uint8").reshape(1, 6, 6)
    path = write_tile(tmp_path / "a.tif", values, nodata=35)
    labels = raster_labels(path)
    finer = Grid(UTM, (5.0, 0.0, 499990.0, 0.0, -5.0, 4600000.0), 12, 16)
    found, inside = classes_on(labels, finer)
    assert not inside[:, :2].any()
    assert not inside[:, 14:].any()
    assert not inside[10:, 12:14].any()  # nodata
    assert (found[inside] == np.kron(values[0], np.ones((2, 2)))[inside[:, 2:14]]).all()


def test_classes_in_another_system_are_those_that_warping_finds(tmp_path) -> None:
    rng = np.random.default_rng(1)
    path = write_tile(tmp_path / "a.tif", rng.integers(0, 200, (1, 60, 60)).astype("uint8"))
    there = Grid("EPSG:32632", (14.0, 0.0, 1000400.0, 0.0, -14.0, 4617500.0), 50, 50)
    found, inside = classes_on(raster_labels(path), there)
    expected = np.full((50, 50), 255, "uint8")
    with rasterio.open(path) as source:
        reproject(
            rasterio.band(source, 1),
            expected,
            dst_crs=there.crs,
            dst_nodata=255,
            tolerance=0,
            dst_transform=rasterio.Affine(*there.transform),
            resampling=Resampling.nearest,
        )
    assert inside.sum() > 300
    assert (inside == (expected != 255)).mean() > 0.99
    both = inside & (expected != 255)
    assert (found[both] == expected[both]).mean() > 0.97
