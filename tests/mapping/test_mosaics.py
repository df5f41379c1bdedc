"""Mosaics that GDAL reads, and sums of areas."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from geotl.errors import DataError
from geotl.imagery.windows import Window
from geotl.io.raster import Grid
from geotl.mapping.layers import map_writer, to_cog
from geotl.mapping.many_scenes import areas_table, overlapping, write_mosaics

CLASSES, COLOURS = ("field & <wet>", "town"), ("#11aa22", "#cc3344")


def a_map(
    path: Path,
    values: np.ndarray,
    left: float,
    top: float,
    *,
    side: float = 10.0,
    crs: str = "EPSG:32633",
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = Grid(crs, (side, 0.0, left, 0.0, -side, top), *values.shape)
    part = path.with_suffix(".part.tif")
    with map_writer(part, grid, "uint8", 1, 255) as file:
        file.put(values[None].astype(np.uint8), Window(0, 0, *values.shape))
    to_cog(
        part,
        path,
        overviews="mode",
        tags={},
        descriptions=("class",),
        names=CLASSES,
        colours=COLOURS,
    )
    part.unlink()
    return path


def test_a_mosaic_is_its_maps_the_later_on_top(tmp_path: Path) -> None:
    first, second = np.zeros((4, 6)), np.ones((5, 5))
    second[0, 0] = 255
    maps = [
        a_map(tmp_path / "a.tif", first, 500000, 4600000),
        a_map(tmp_path / "b.tif", second, 500040, 4599980),
    ]
    (path,) = write_mosaics(tmp_path, maps)
    assert path == tmp_path / "mosaic.vrt"
    with rasterio.open(path) as source:
        assert source.crs == "EPSG:32633"
        assert source.transform == Affine(10, 0, 500000, 0, -10, 4600000)
        assert source.nodata == 255
        found = source.read(1)
        assert {v: source.colormap(1)[v][:3] for v in (0, 1)} == {
            0: (17, 170, 34),
            1: (204, 51, 68),
        }
    wanted = np.full((7, 9), 255)
    wanted[:4, :6] = 0
    wanted[2:, 4:] = 1
    wanted[2, 4] = 0  # what the later one does not know does not hide the earlier
    assert (found == wanted).all()
    assert "field &amp; &lt;wet&gt;" in path.read_text()
    assert str(tmp_path) not in path.read_text(), "the folder can be moved as a whole"
    assert overlapping(maps)
    assert not overlapping(maps[:1])


def test_pixels_are_as_fine_as_the_finest(tmp_path: Path) -> None:
    maps = [
        a_map(tmp_path / "a.tif", np.zeros((2, 2)), 500000, 4600000, side=20),
        a_map(tmp_path / "b.tif", np.ones((3, 3)), 500040, 4600000),
    ]
    (path,) = write_mosaics(tmp_path, maps, "other")
    with rasterio.open(path) as source:
        assert source.shape == (4, 7)
        found = source.read(1)
    assert (found[:, :4] == 0).all()
    assert (found[:3, 4:] == 1).all()
    assert (found[3, 4:] == 255).all()
    assert not overlapping(maps)


def test_each_reference_system_has_a_mosaic_of_its_own(tmp_path: Path) -> None:
    there = {"a": "EPSG:32633", "b": "EPSG:32634"}
    maps = [
        a_map(tmp_path / f"{name}.tif", np.full((2, 2), value), 500000, 4600000, crs=crs)
        for value, (name, crs) in enumerate(there.items())
    ]
    paths = write_mosaics(tmp_path, maps)
    assert [p.name for p in paths] == ["mosaic_EPSG32633.vrt", "mosaic_EPSG32634.vrt"]
    for path, value in zip(paths, (0, 1), strict=True):
        with rasterio.open(path) as source:
            assert (source.read(1) == value).all()
    assert not overlapping(maps)


def table(path: Path, *pixels: int, metres: bool = True) -> Path:
    lines = ["value,class,pixels,square_metres,hectares,percent"]
    for value, count in enumerate(pixels):
        ground = f"{count * 100:.2f},{count / 100:.4f}" if metres else ","
        lines.append(f'{value},"class, {value}",{count},{ground},0')
    path.write_text("\n".join(lines) + "\n")
    return path


def test_areas_are_added_up_by_class(tmp_path: Path) -> None:
    tables = {"a": table(tmp_path / "a.csv", 30, 10), "b": table(tmp_path / "b.csv", 20, 40)}
    rows = list(csv.DictReader(io.StringIO(areas_table(tables))))
    assert [row["scene"] for row in rows] == ["a", "a", "b", "b", "(all scenes)", "(all scenes)"]
    total = {row["class"]: row for row in rows if row["scene"] == "(all scenes)"}
    assert total["class, 0"]["pixels"] == "50"
    assert total["class, 1"]["square_metres"] == "5000.00"
    assert total["class, 1"]["hectares"] == "0.5000"
    assert total["class, 1"]["percent"] == "50.00"
    unknown = areas_table({"a": table(tmp_path / "c.csv", 3, metres=False)})
    assert '(all scenes),0,"class, 0",3,,,100.00' in unknown


def test_a_table_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("what,ever\n1,2\n")
    for path in (tmp_path / "a.csv", tmp_path / "missing.csv"):
        with pytest.raises(DataError, match="not a table of areas"):
            areas_table({"a": path})
