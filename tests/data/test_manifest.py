"""Tiles named one by one: labels, sides, places; and every fault with its line."""

import json
import re

import numpy as np
import pytest
from helpers.tiles import write_tile

from geotl.data.manifest import index_manifest, index_tiles, list_tiles
from geotl.data.tile_array import fingerprint, pack
from geotl.errors import DataError
from geotl.imagery.sensors import SENSORS, custom_sensor

L2A = SENSORS["sentinel2_l2a"]
PLAIN = custom_sensor("plain", [{"name": "B02"}, {"name": "B03"}])
NOWHERE = {"crs": None, "transform": (1, 0, 0, 0, 1, 0)}


def tile(path, seed=0, **more):
    data = np.random.default_rng(seed).integers(1, 99, (2, 8, 8)).astype(np.uint8)
    return write_tile(path, data, names=["B02", "B03"], **more)


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(["a", "b", "deep/c", "deep/d"]):
        tile(tmp_path / f"tiles/{name}.tif", i)
    return tmp_path


def csv(folder, *lines, name="m.csv"):
    path = folder / name
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def geojson(folder, features, **more):
    path = folder / "m.geojson"
    path.write_text(
        json.dumps({"type": "FeatureCollection", "features": features, **more}, indent=1)
    )
    return path


def feature(point=None, **told):
    where = None if point is None else {"type": "Point", "coordinates": list(point)}
    return {"type": "Feature", "geometry": where, "properties": told}


ROWS = [
    "path,label,split,group",
    "tiles/deep/d.tif,forêt & pré,test,north",
    "tiles/a.tif,water,train,",
    "./tiles/b.tif,forêt & pré,,south",
    "tiles/deep/c.tif,water,train,north",
]


def test_a_csv_gives_labels_sides_and_groups(folder):
    index = index_manifest(csv(folder, *ROWS))
    assert index.classes == ("forêt & pré", "water")
    assert index.names == ("tiles/a.tif", "tiles/b.tif", "tiles/deep/c.tif", "tiles/deep/d.tif")
    np.testing.assert_array_equal(index.labels, [1, 0, 1, 0])
    assert [t.split for t in index.tiles] == ["train", None, "train", "test"]
    assert [t.group for t in index.tiles] == [None, "south", "north", "north"]
    assert all(t.path.is_absolute() for t in index.tiles)


def test_the_order_of_the_rows_and_the_kind_of_table_make_no_difference(folder):
    plain = index_manifest(csv(folder, *ROWS))
    assert index_manifest(csv(folder, ROWS[0], *ROWS[:0:-1], name="other.csv")) == plain
    assert index_tiles(csv(folder, *(r.replace(",", ";") for r in ROWS)), cache=folder) == plain
    cells = [dict(zip(ROWS[0].split(","), row.split(","), strict=True)) for row in ROWS[1:]]
    assert index_manifest(geojson(folder, [feature(**c) for c in cells])) == plain


def test_tiles_may_lie_anywhere(folder):
    (folder / "lists").mkdir()
    rows = [ROWS[0], f"{folder}/tiles/a.tif,water,,", "../tiles/b.tif,wood,,"]
    index = index_manifest(csv(folder / "lists", *rows))
    assert index.names == ("../tiles/a.tif", "../tiles/b.tif")
    assert len(pack(index, PLAIN, folder=folder / "p")) == 2


def test_places_fill_in_for_files_that_have_none(folder):
    for name in ("a", "b"):
        tile(folder / f"tiles/{name}.tif", **NOWHERE)
    rows = ["path,label,x,y,crs", "tiles/a.tif,u,390600.5,5347800,epsg:32633"]
    rows += ["tiles/b.tif,v,,,", "tiles/deep/c.tif,v,1,2,EPSG:4326"]
    index = index_manifest(csv(folder, *rows))
    packed = pack(index, PLAIN, folder=folder / "p")
    assert packed.footprints[0] == (390600.5, 5347800, 390600.5, 5347800)
    assert packed.crs == ("EPSG:32633", None, "EPSG:32633")
    assert packed.footprints[1] is None
    assert packed.footprints[2] == (500000, 4599920, 500080, 4600000), "the file's own place"
    moved = index_manifest(csv(folder, *[r.replace("390600.5", "390601") for r in rows]))
    assert fingerprint(moved, PLAIN) != fingerprint(index, PLAIN)


@pytest.mark.parametrize(
    ("named", "crs"),
    [
        (None, "EPSG:4326"),
        ("urn:ogc:def:crs:OGC:1.3:CRS84", "EPSG:4326"),
        ("urn:ogc:def:crs:EPSG::32633", "EPSG:32633"),
    ],
)
def test_geojson_points_are_in_degrees_unless_it_says_otherwise(folder, named, crs):
    more = {"crs": {"type": "name", "properties": {"name": named}}} if named else {}
    told = [
        feature((13.5, 48.25, 400.0), path="tiles/a.tif", label=1),
        feature(path="tiles/b.tif", label=2),
    ]
    index = index_manifest(geojson(folder, told, **more))
    assert index.classes == ("1", "2")
    assert (index.tiles[0].centre, index.tiles[0].crs) == ((13.5, 48.25), crs)
    assert (index.tiles[1].centre, index.tiles[1].crs) == (None, None)


def test_every_fault_of_a_csv_is_told_with_its_line(folder):
    path = csv(
        folder,
        "path,label,x,y,crs",
        "tiles/a.tif,water,,,",
        "tiles/aa.tif,water,,,",
        "tiles/b.tif,,,,",
        "tiles/a.tif,wood,,,",
        "tiles/../tiles/a.tif,wood,,,",
        "nowhere/c.tif,wood,,,",
        "tiles/deep,wood,,,",
        "m.csv,wood,,,",
        ",wood,,,",
        "tiles/deep/c.tif,wood,12,north,EPSG:4326",
        "tiles/deep/d.tif,wood,1,2,",
        "tiles/deep/d.tif,wood,1,2,EPSG:999999",
    )
    with pytest.raises(DataError) as caught:
        index_manifest(path)
    said = str(caught.value).splitlines()
    expected = {
        3: "'tiles/aa.tif', which is not there; did you mean 'a.tif'",
        4: "'tiles/b.tif' no label",
        5: r"'tiles/a.tif' again \(first on line 2\)",
        6: "the tile of line 2; keep one line",
        7: "no folder .*nowhere",
        8: "a folder without one file for each band",
        9: "not an image by its ending",
        10: "names no path",
        11: "x '12', y 'north'; allowed: two numbers",
        12: "x and y but no crs",
        13: "crs 'EPSG:999999': not a known",
    }
    assert all(line.startswith(f"{path}: line ") for line in said)
    for line, told in expected.items():
        assert any(re.search(rf": line {line} .*{told}", found) for found in said), (line, told)


def test_every_fault_of_a_geojson_is_told_with_its_line(folder):
    told = [
        feature((1, 2), path="tiles/a.tif", label="water"),
        feature((1, 2), path="tiles/aa.tif", label="water"),
        feature((1, 2), path="tiles/b.tif"),
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": []},
            "properties": {"path": "tiles/deep/c.tif", "label": "x"},
        },
        {"type": "Feature", "geometry": None},
    ]
    path = geojson(folder, told, note={"features": [1, 2]})
    lines = [n for n, row in enumerate(path.read_text().splitlines(), 1) if row == "  {"]
    with pytest.raises(DataError) as caught:
        index_manifest(path)
    said = str(caught.value)
    for line, fault in zip(
        lines[1:],
        ["did you mean 'a.tif'", "no label", "Polygon", "without properties"],
        strict=True,
    ):
        assert re.search(rf"m\.geojson: line {line} .*{fault}", said), (line, fault, said)


def test_a_fault_that_repeats_is_one_line_with_its_count_and_first_rows(folder):
    """Red before: twenty lines, and "30 more faults like these"."""
    rows = [f"tiles/none{i}.tif,water,," for i in range(50)]
    rows += [f"tiles/{name}.tif,water,{x},5" for x, name in enumerate("ab", 1)]
    with pytest.raises(DataError) as caught:
        index_manifest(csv(folder, "path,label,x,y", *rows))
    said = str(caught.value).splitlines()
    assert len(said) == 2
    no_crs, missing = said
    assert "line 52 gives x and y but no crs; add a column crs, such as EPSG:4326" in no_crs
    assert no_crs.endswith("(2 lines have this fault: 52, 53)")
    assert "line 2 names 'tiles/none0.tif', which is not there" in missing
    assert missing.endswith("(50 lines have this fault: 2, 3, 4, 5, 6 and more)")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.csv", "file,label\n", "no column 'path'"),
        ("m.csv", "path,label\ntiles/a.tif,one\n", r"one class only \(one\)"),
        ("m.csv", "path,label\n", r"one class only \(none\)"),
        ("m.csv", "path,label\nforêt,x\n".encode("latin-1"), "UTF-8"),
        ("m.geojson", "{", "not JSON"),
        ("m.geojson", "[" * 100_000, "not JSON"),
        ("m.geojson", '{"type": "Point"}', "without a list of 'features'"),
        ("m.geojson", "__import__('os').system('touch ran')", "not JSON"),
        ("m.geojson", '{"features": [], "crs": {"properties": {"name": "moon"}}}', "crs 'moon'"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_one_line(folder, name, content, said):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=said) as caught:
        index_manifest(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="no such manifest"):
        index_manifest(folder / "missing.csv")


def test_a_manifest_names_the_tiles_to_predict_in_its_order_labelled_or_not(folder):
    path = csv(folder, "path", "tiles/b.tif", "tiles/a.tif")
    found = list_tiles([path, folder / "tiles" / "a.tif", folder / "tiles" / "deep"])
    assert [p.name for p in found] == ["b.tif", "a.tif", "c.tif", "d.tif"]
    with pytest.raises(DataError, match="line 2 names"):
        list_tiles([csv(folder, "path", "tiles/x.tif")])


def test_a_manifest_may_name_tiles_in_several_files(folder):
    for name, px in (("B02", 8), ("B03", 4)):
        side = 80 / px
        write_tile(
            folder / f"patch/x_{name}.tif",
            np.full((1, px, px), 5, np.uint8),
            transform=(side, 0, 500000, 0, -side, 4600000),
        )
    path = csv(folder, "path,label", "patch,u", "tiles/a.tif,v")
    index = index_manifest(path, sensor=PLAIN)
    assert pack(index, PLAIN, folder=folder / "p").images.shape == (2, 2, 8, 8)


def test_a_table_beside_class_folders_gives_places_too(folder):
    for name in ("u", "v"):
        tile(folder / "t" / name / "1.tif", **NOWHERE)
    csv(folder / "t", "path,x,y,crs", "u/1.tif,13.5,48.2,EPSG:4326", name="tiles.csv")
    packed = pack(index_tiles(folder / "t", cache=folder), PLAIN, folder=folder / "p")
    assert packed.crs == ("EPSG:4326", None)
    assert packed.footprints[0] == (13.5, 48.2, 13.5, 48.2)
