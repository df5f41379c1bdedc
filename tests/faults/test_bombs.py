"""Small files that tell of huge contents are refused by what their headers say, at once."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.io

from geotl.data.manifest import index_manifest
from geotl.data.tiles import index_folder
from geotl.errors import DataError
from geotl.io import images, raster, yaml


def refused(path: Path, words: str) -> None:
    began = time.perf_counter()
    with pytest.raises(DataError) as error:
        images.read(path)
    assert time.perf_counter() - began < 5
    assert str(error.value).startswith(f"{path}: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def sparse(path: Path, *, count: int = 1, side: int = 8) -> Path:
    profile = {"driver": "GTiff", "dtype": "uint16", "crs": "EPSG:32633"}
    profile |= {"transform": rasterio.Affine(10, 0, 0, 0, -10, 0), "SPARSE_OK": "TRUE"}
    with rasterio.open(path, "w", count=count, width=side, height=side, tiled=True, **profile):
        pass
    return path


def test_a_sparse_tile_of_20000_pixels_a_side_is_refused_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sparse(tmp_path / "tile.tif", side=20_000)
    monkeypatch.setattr(raster, "pixels", None)
    refused(path, "1 x 20,000 x 20,000 values")
    assert images.describe(path).grid.height == 20_000
    images.WindowReader(path)  # a scene may be so large


def test_thousands_of_bands_are_refused_before_they_are_looked_at(tmp_path: Path) -> None:
    refused(sparse(tmp_path / "tile.tif", count=5000, side=1), "5,000 bands")
    np.save(tmp_path / "tile.npy", np.zeros((5000, 1024, 1025), bool)[:, :1, :1])
    head = b"{'descr': '<u2', 'fortran_order': False, 'shape': (3000, 4000, 5000), }"
    (tmp_path / "long.npy").write_bytes(header(head))
    refused(tmp_path / "long.npy", "its header states")


def header(text: bytes) -> bytes:
    text = text.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "text",
    [
        b"{'descr': '<u2', 'fortran_order': False, 'shape': (-1, 4, 4), }",
        b"{'descr': '<u2', 'fortran_order': False, 'shape': (3, -4, -4), }",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': '<u2', 'fortran_order': False, 'shape': (9999999999999999999999,), }",
        b"{'descr': '<c8', 'fortran_order': False, 'shape': (1, 1), }",
        b"{'descr': 'x', 'fortran_order': False, 'shape': (1, 1), }",
        b"{'descr': [('a', '<u2')], 'fortran_order': False, 'shape': (4, 1), }",
        b"{'descr': '<u2', 'shape': (1, 1), }",
        b"((((((((((",
        b"__import__('os')",
        b"\xff\xfe",
    ],
)
def test_headers_of_arrays_that_cannot_be_so_give_one_line(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tile.npy"
    path.write_bytes(header(text) + bytes(8))
    refused(path, "")


def test_aliases_of_yaml_are_bounded() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    assert "aliases" in yaml.parse("\n".join(lines))[1][0]
    merged = ["m0: &m0 {a: 1}"]
    merged += [f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}" for n in range(1, 40)]
    assert "aliases" in yaml.parse("\n".join(merged))[1][0]
    endless, _ = yaml.parse("a: &a [*a]")
    assert endless["a"][0] is endless["a"]
    assert yaml.parse("a: &a {b: 1}\nc: *a") == ({"a": {"b": 1}, "c": {"b": 1}}, [])
    assert yaml.parse("- 1\n" * 5_000_000)[1]
    assert yaml.parse("[" * 20_000)[1]


def test_many_missing_rows_of_a_manifest_are_told_at_once(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"tile_{number:05d}.tif").touch()
    table = io.StringIO()
    table.write("path,label\n")
    table.writelines(f"tale_{number:05d}.tif,a\n" for number in range(3000))
    (tmp_path / "tiles.csv").write_text(table.getvalue())
    began = time.perf_counter()
    with pytest.raises(DataError, match=r"did you mean 'tile_\d{5}.tif'") as error:
        index_manifest(tmp_path / "tiles.csv")
    assert time.perf_counter() - began < 10
    assert "\n" not in str(error.value)
    assert "(3000 lines have this fault: 2, 3, 4, 5, 6 and more)" in str(error.value)


def test_many_rows_of_a_table_that_are_no_tiles_are_told_at_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(1500):
            (tmp_path / name / f"tile_{number:05d}.tif").touch()
    rows = "".join(f"a/tale_{number:05d}.tif,train\n" for number in range(3000))
    (tmp_path / "tiles.csv").write_text(f"path,split\n{rows}")
    began = time.perf_counter()
    with pytest.raises(DataError, match="3000 lines have this fault"):
        index_folder(tmp_path)
    assert time.perf_counter() - began < 10
