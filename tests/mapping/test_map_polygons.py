"""Polygons of a class map: the same ground as its pixels, the small ones sieved, whole or none."""

from __future__ import annotations

import hashlib
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from helpers.full_disk import full_disk
from helpers.tiles import write_tile
from rasterio.features import rasterize
from rasterio.transform import from_origin

from geotl.errors import DataError, OutputError
from geotl.io.geodesy import row_areas_m2
from geotl.io.raster import describe
from geotl.mapping.outputs import write_polygons

CLASSES = ("field, wet", "town", "water")
PLACES = {
    "EPSG:32633": from_origin(500000, 4600000, 20, 20),
    "EPSG:4326": from_origin(20, 70, 0.02, 0.01),
    "EPSG:2263": from_origin(980000, 200000, 30, 30),  # US feet
}


def class_map(path: Path, crs: str | None = "EPSG:32633", values: np.ndarray | None = None) -> Path:
    if values is None:
        values = np.random.default_rng(2).integers(0, 3, (12, 15)).repeat(4, 0).repeat(4, 1)
        values[10:20, 30:44] = 255
    place = PLACES.get(str(crs), from_origin(0, 0, 1, 1))
    return write_tile(path, values.astype(np.uint8)[None], nodata=255, crs=crs, transform=place)


@pytest.mark.parametrize("crs", list(PLACES))
def test_polygons_are_the_pixels(tmp_path, crs):
    source = class_map(tmp_path / "m.tif", crs)
    count = write_polygons(source, tmp_path / "p.gpkg", CLASSES)
    table = geopandas.read_file(tmp_path / "p.gpkg", layer="classes")
    assert len(table) == count
    assert table.crs.to_string() == crs
    assert (table["class"] == [CLASSES[v] for v in table["value"]]).all()
    assert shapely.is_valid(table.geometry.array).all()
    held = describe(source)
    with rasterio.open(source) as stream:
        values = stream.read(1)
        again = rasterize(
            zip(table.geometry, table["value"], strict=True),
            values.shape,
            fill=255,
            transform=stream.transform,
            dtype="uint8",
        )
    np.testing.assert_array_equal(again, values)
    ground = np.repeat(row_areas_m2(held.grid)[:, None], values.shape[1], axis=1)
    for k in range(3):
        found = table["area_m2"][table["value"] == k].sum()
        assert found == pytest.approx(ground[values == k].sum(), rel=1e-9)


def test_small_regions_become_part_of_their_largest_neighbour(tmp_path):
    values = np.full((40, 40), 1)
    values[:, 20:] = 2
    values[5:8, 5:8] = 0  # 9 pixels: 3600 m2
    values[20:25, 5:10] = 0  # 25 pixels: 10000 m2
    values[30, 19:21] = 255
    source = class_map(tmp_path / "m.tif", values=values)
    for smallest, areas in (
        (0, [3600, 10000]),
        (3600, [3600, 10000]),
        (3601, [10000]),
        (10001, []),
    ):
        write_polygons(source, tmp_path / "p.gpkg", CLASSES, min_area_m2=smallest)
        table = geopandas.read_file(tmp_path / "p.gpkg")
        assert sorted(table["area_m2"][table["value"] == 0].round(3)) == areas
        assert table["area_m2"].sum() == pytest.approx(400 * (values != 255).sum())


def test_of_one_date_they_are_the_same_bytes(tmp_path):
    source = class_map(tmp_path / "m.tif")
    digests = set()
    for name in "ab":
        (tmp_path / name).mkdir()
        path = tmp_path / name / "p.gpkg"
        write_polygons(source, path, CLASSES, date="2024-05-01T10:00:00Z")
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize("room", [50_000, 90_000, 105_000])
def test_whole_or_not_at_all(tmp_path, room):
    """GDAL itself leaves the spatial index out where the disk fills up, and says nothing."""
    source, path = class_map(tmp_path / "m.tif"), tmp_path / "p.gpkg"
    path.write_text("mine")
    with full_disk(room), pytest.raises(OutputError):
        write_polygons(source, path, CLASSES)
    assert path.read_text() == "mine"
    assert {p.name for p in tmp_path.iterdir()} == {"m.tif", "p.gpkg"}


def test_a_map_that_lies_nowhere_is_refused(tmp_path):
    with pytest.raises(DataError, match="no reference system"):
        write_polygons(class_map(tmp_path / "m.tif", None), tmp_path / "p.gpkg", CLASSES)
