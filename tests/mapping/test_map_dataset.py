"""Maps in Python: `load(path).map(scene)` gives what `geotl map` writes."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from helpers.map_fixtures import BANDS, CLASSES, COLOURS, made_pixels, patches, write_scene

import geotl
from geotl.cli.main import main
from geotl.errors import DataError
from geotl.mapping.options import MapOptions

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = MapOptions(mode="exact", step_px=8, precision="float32", probabilities=True, entropy=True)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    pixels = made_pixels(patches(3, 4), 40)[:, :101, :133]
    pixels[:, :40, :40] = 0
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.tif", pixels, nodata=0)


@pytest.fixture(scope="module")
def written(model, scene, tmp_path_factory):
    out = tmp_path_factory.mktemp("map") / "m.tif"
    words = [
        "map",
        str(model),
        str(scene),
        "-o",
        str(out),
        "-q",
        "--mode",
        "exact",
        "--stride-px",
        "8",
    ]
    assert main([*words, "--precision", "float32", "--probabilities", "--entropy"]) == 0
    return out


def same(found: xr.Dataset, written) -> None:
    for name, suffix in (
        ("classes", ""),
        ("confidence", "_confidence"),
        ("probabilities", "_probabilities"),
        ("entropy", "_entropy"),
    ):
        with rasterio.open(written.with_name(f"m{suffix}.tif")) as held:
            wanted = held.read()
            np.testing.assert_array_equal(
                np.atleast_3d(found[name].values).reshape(wanted.shape), wanted
            )
            assert found[name].rio.crs == held.crs
            assert found[name].rio.transform() == held.transform
            assert np.array_equal(found[name].rio.nodata, held.nodata, equal_nan=True)


def test_a_path_gives_what_the_command_writes(model, scene, written):
    found = geotl.load(model).map(scene, options=OPTIONS)
    same(found, written)
    assert next(iter(found)) == "classes"
    assert found["classes"].attrs["class_names"] == list(CLASSES)
    assert found["classes"].attrs["class_colors"] == list(COLOURS)
    assert found["classes"].attrs["flag_meanings"] == "field,_wet town water"
    assert list(found["probabilities"]["class"].values) == list(CLASSES)


@pytest.mark.parametrize("northwards", [False, True])
def test_a_dataarray_gives_the_same(model, scene, written, northwards):
    array = rioxarray.open_rasterio(scene).assign_coords(band=list(BANDS))
    array = array.isel(band=[2, 0, 3, 1])
    if northwards:
        array = array.isel(y=slice(None, None, -1))
    same(geotl.load(model).map(array, options=OPTIONS), written)


def test_files_are_kept_where_asked(model, scene, written, tmp_path):
    geotl.load(model).map(scene, tmp_path / "kept" / "m.tif", options=OPTIONS)
    assert {p.name for p in (tmp_path / "kept").iterdir()} == {
        p.name for p in written.parent.iterdir()
    }


def test_a_part_and_its_reference_system(model, scene, written):
    found = geotl.load(model).map(scene, bbox=(500400, 4599300, 500800, 4599600), options=OPTIONS)[
        "classes"
    ]
    with rasterio.open(written) as held:
        whole = held.read(1)
    np.testing.assert_array_equal(found.values, whole[5:9, 5:10])


def test_a_dataset_can_be_saved(model, scene, tmp_path):
    found = geotl.load(model).map(scene, options=OPTIONS)
    found["classes"].rio.to_raster(tmp_path / "again.tif")
    with rasterio.open(tmp_path / "again.tif") as held:
        np.testing.assert_array_equal(held.read(1), found["classes"].values)


def test_without_xarray_it_is_one_line(model, scene, monkeypatch):
    monkeypatch.setitem(sys.modules, "rioxarray", None)
    with pytest.raises(DataError, match=r"geotl\[xarray\]"):
        geotl.load(model).map(scene)
