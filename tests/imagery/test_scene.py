"""Scenes: the same pixels whole or in windows, from any product; faults in one line."""

from __future__ import annotations

import functools
import gc
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.tiles import write_tile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin

from geotl.errors import BandError, DataError
from geotl.imagery.band_files import read_folder
from geotl.imagery.scene import open_scene, open_scenes
from geotl.imagery.sensors import SENSORS, custom_sensor, to_reflectance
from geotl.imagery.windows import Window, pixel_of
from geotl.io import images
from geotl.io.raster import read

L1C, L2A, N0400 = (SENSORS[f"sentinel2_{n}"] for n in ("l1c", "l2a", "l2a_n0400"))
LANDSAT = SENSORS["landsat8_sr"]
RNG = np.random.default_rng(4)
SIDES = {"B02": 48, "B8A": 24, "B01": 8}
WHOLE = Window(0, 0, 48, 48)


def band_file(path, data, **more):
    """One band over 480 m of ground, whatever its number of pixels."""
    side = 480 / data.shape[-1]
    place = {"transform": from_origin(500000, 4600000, side, side)} | more
    return write_tile(path, data[None], **place)


def planes(sides, high=5000):
    return {b: RNG.integers(1, high, (n, n)).astype(np.uint16) for b, n in sides.items()}


def folder_scene(folder, holes=True):
    """Three resolutions, with some nodata of the sensor's in each."""
    for band, data in planes(SIDES).items():
        if holes:
            data[RNG.random(data.shape) < 0.1] = 0
        band_file(folder / f"T33UUU_20200501T101010_{band}.tif", data)
    return folder


@pytest.fixture(scope="module")
def in_parts(tmp_path_factory):
    folder = folder_scene(tmp_path_factory.mktemp("parts") / "scene")
    scene = open_scene(folder, L2A, SIDES)
    return scene, read_folder(folder, L2A, list(SIDES))


# --- the same pixels in windows as whole -------------------------------------------------------


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(-9, 50), st.integers(-9, 50), st.integers(1, 30), st.integers(1, 30))
def test_a_window_is_what_the_whole_gives_when_cut(in_parts, row, col, height, width):
    scene, whole = in_parts
    data, valid = scene.read(Window(row, col, height, width))
    frame, known = np.zeros((3, 108, 108), np.uint16), np.zeros((3, 108, 108), bool)
    frame[:, 20:68, 20:68], known[:, 20:68, 20:68] = whole.data, whole.valid
    place = slice(None), slice(20 + row, 20 + row + height), slice(20 + col, 20 + col + width)
    np.testing.assert_array_equal(data, frame[place])
    np.testing.assert_array_equal(valid, known[place])
    assert data.dtype == scene.dtype == np.uint16


def test_a_folder_says_what_it_is(in_parts):
    scene, whole = in_parts
    assert scene.grid == whole.grid
    assert (scene.name, scene.bands) == ("scene", ("B02", "B8A", "B01"))
    assert scene.acquired == "2020-05-01"
    assert not scene.cloudy(WHOLE).any()


def test_types_of_several_bands_are_brought_to_one_that_holds_them(tmp_path):
    band_file(tmp_path / "s/a_B02.tif", np.full((48, 48), 200, np.uint8))
    band_file(tmp_path / "s/a_B03.tif", np.full((48, 48), -3, np.int16))
    data, _ = open_scene(tmp_path / "s", L2A, ["B02", "B03"]).read(WHOLE)
    assert data.dtype == np.int16
    assert data[:, 0, 0].tolist() == [200, -3]


# --- one file ----------------------------------------------------------------------------------


def two_bands(path, names=("B04", "B08"), **more):
    data = RNG.integers(1, 5000, (2, 48, 48)).astype(np.uint16)
    return write_tile(path, data, names=list(names), **more), data


def test_one_file_by_band_names_in_any_order(tmp_path):
    path, data = two_bands(tmp_path / "s_20200102.tif")
    scene = open_scene(path, L2A, ["nir", "red"])
    np.testing.assert_array_equal(scene.read(Window(3, 4, 5, 6))[0], data[[1, 0], 3:8, 4:10])
    assert (scene.name, scene.bands, scene.acquired) == (
        "s_20200102",
        ("B08", "B04"),
        "2020-01-02",
    )


def test_a_file_without_names_needs_them_told(tmp_path):
    path, data = two_bands(tmp_path / "s.tif", names=("", ""))
    with pytest.raises(BandError, match="bands without names"):
        open_scene(path, L2A, ["B04"])
    scene = open_scene(path, L2A, ["B04"], file_bands=["B08", "B04"])
    np.testing.assert_array_equal(scene.read(WHOLE)[0][0], data[1])


def test_jpeg2000_and_a_vrt_of_two_types(tmp_path):
    for band, dtype in (("B04", "uint16"), ("B08", "float32")):
        band_file(tmp_path / f"{band}.tif", np.full((48, 48), 7, dtype))
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{i}"><Description>{band}</Description>'
        f'<SimpleSource><SourceFilename relativeToVRT="1">{band}.tif</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for i, (band, kind) in enumerate([("B04", "UInt16"), ("B08", "Float32")], 1)
    )
    (tmp_path / "s.vrt").write_text(
        '<VRTDataset rasterXSize="48" rasterYSize="48"><SRS>EPSG:32633</SRS><GeoTransform>500000,'
        f"10,0,4600000,0,-10</GeoTransform>{bands}</VRTDataset>"
    )
    data, valid = open_scene(tmp_path / "s.vrt", L2A, ["B04", "B08"]).read(Window(1, 1, 2, 2))
    assert data.dtype == np.float32
    assert valid.all()
    assert set(data.ravel()) == {7}
    only = open_scene(tmp_path / "s.vrt", L2A, ["B04"])
    assert only.read(WHOLE)[0].dtype == only.dtype
    path, data = two_bands(
        tmp_path / "j.jp2", names=("", ""), driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES"
    )
    scene = open_scene(path, L2A, ["B08"], file_bands=["B04", "B08"])
    np.testing.assert_array_equal(scene.read(Window(7, 9, 30, 20))[0][0], data[1, 7:37, 9:29])


def test_python_in_a_vrt_is_never_run(tmp_path, monkeypatch):
    monkeypatch.setenv("GDAL_VRT_ENABLE_PYTHON", "YES")
    band_file(tmp_path / "B04.tif", np.full((48, 48), 7, np.uint16))
    (tmp_path / "s.vrt").write_text(
        '<VRTDataset rasterXSize="48" rasterYSize="48"><SRS>EPSG:32633</SRS><GeoTransform>500000,'
        '10,0,4600000,0,-10</GeoTransform><VRTRasterBand dataType="UInt16" band="1" '
        'subClass="VRTDerivedRasterBand"><Description>B04</Description>'
        "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python"
        "</PixelFunctionLanguage><PixelFunctionCode><![CDATA[\nimport pathlib\n"
        f"pathlib.Path({str(tmp_path / 'ran')!r}).touch()\ndef f(*a, **k):\n    pass\n]]>"
        '</PixelFunctionCode><SimpleSource><SourceFilename relativeToVRT="1">B04.tif'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    scene = open_scene(tmp_path / "s.vrt", L2A, ["B04"])
    with pytest.raises(DataError, match=r"s\.vrt: cannot be read"):
        scene.read(WHOLE)
    assert not (tmp_path / "ran").exists()


def test_everything_that_makes_a_pixel_invalid(tmp_path):
    data = np.ones((2, 48, 48), np.float32)
    data[0, 0, 0], data[0, 0, 1], data[1, 0, 2], data[1, 0, 3] = np.nan, 0, -9, np.inf
    path = write_tile(tmp_path / "s.tif", data, names=["B04", "B08"], nodata=-9)
    scene = open_scene(path, L2A, ["B04", "B08"])
    _, valid = scene.read(Window(0, 0, 1, 4))
    assert valid[:, 0].tolist() == [[False, False, True, True], [True, True, False, False]]
    _, valid = scene.read(Window(-1, -1, 4, 4))
    assert valid[:, 2:, 1:].all()
    assert not valid[:, 0].any()
    assert not valid[:, :, 0].any()
    data, valid = scene.read(Window(500, 0, 2, 2))
    assert not data.any()
    assert not valid.any()


def test_alpha_is_validity(tmp_path):
    data = np.full((4, 48, 48), 9, np.uint8)
    data[3, :5] = 0
    path = write_tile(tmp_path / "s.tif", data, photometric="rgb", ALPHA="YES")
    data, valid = open_scene(path, SENSORS["rgb"], ["blue", "red"]).read(Window(0, 0, 10, 3))
    assert data.shape == (2, 10, 3)
    assert valid[:, 5:].all()
    assert not valid[:, :5].any()


def test_half_a_pixel(tmp_path):
    """Trap 6: the point (500015, 4599985) lies in row 1, column 1, Point or Area."""
    data = np.arange(517 * 391, dtype=np.uint32).reshape(1, 517, 391)
    for kind in ("Area", "Point"):
        path = write_tile(tmp_path / f"{kind}.tif", data, names=["B04"])
        with rasterio.open(path, "r+") as target:
            target.update_tags(AREA_OR_POINT=kind)
            target.transform = from_origin(500000, 4600000, 10, 10)
        with rasterio.open(path) as source:
            assert source.tags()["AREA_OR_POINT"] == kind
        scene = open_scene(path, L2A, ["B04"])
        row, col = pixel_of(scene.grid, 500015, 4599985)
        assert (row, col) == (1, 1)
        assert scene.read(Window(row, col, 1, 1))[0].item() == 391 + 1
        last = pixel_of(scene.grid, 503905, 4594835)
        assert last == (516, 390)
        assert scene.read(Window(*last, 1, 1))[0].item() == 517 * 391 - 1


def test_band_order_and_offset_do_not_matter(tmp_path):
    """Trap 5: constant bands in two orders, with and without the offset, measure the same."""
    dn = {"B04": 1200, "B08": 3400, "B02": 700}
    read = []
    for shift, sensor in ((0, L2A), (1000, N0400)):
        for names in (list(dn), list(dn)[::-1]):
            data = np.stack([np.full((48, 48), dn[n] + shift, np.uint16) for n in names])
            path = write_tile(tmp_path / f"{shift}_{names[0]}.tif", data, names=names)
            pixels, _ = open_scene(path, sensor, ["B02", "B04", "B08"]).read(WHOLE)
            read.append(to_reflectance(pixels, sensor))
    for other in read[1:]:
        np.testing.assert_array_equal(other, read[0])
    np.testing.assert_allclose(read[0][:, 0, 0], [0.07, 0.12, 0.34], rtol=1e-6)


def test_south_up_files_are_turned_over(tmp_path):
    path, data = two_bands(tmp_path / "n.tif")
    place = rasterio.Affine(10, 0, 500000, 0, 10, 4599520)
    turned = write_tile(tmp_path / "s.tif", data[:, ::-1], names=["B04", "B08"], transform=place)
    north, south = (open_scene(p, L2A, ["B04", "B08"]) for p in (path, turned))
    assert south.grid == north.grid
    for window in (WHOLE, Window(5, 7, 20, 10), Window(-3, 40, 9, 20)):
        for one, two in zip(north.read(window), south.read(window), strict=True):
            np.testing.assert_array_equal(one, two)


# --- products ----------------------------------------------------------------------------------


def safe(root, level="2A", baseline="0400", told="04.00"):
    """A Sentinel-2 product of a few pixels; L2A holds a band at several resolutions."""
    product = root / f"S2A_MSIL{level}_20220706T085611_N{baseline}_R007_T33NZA_20220706T153419.SAFE"
    inside = product / "GRANULE" / "L2A_T33NZA_A036" / "IMG_DATA"
    name = "T33NZA_20220706T085611"
    drivers = {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES"}
    scl = np.full((24, 24), 4, np.uint8)
    scl[0, :6] = [0, 1, 3, 8, 9, 10]
    scl[1, :6] = [11, 2, 4, 5, 6, 7]
    sides = {"R10m": ("B02", 48), "R20m": ("B02", 24), "R60m": ("B02", 8)}
    for level_folder, (band, side) in sides.items():
        px = int(level_folder[1:-1])
        where = inside / level_folder
        band_file(
            where / f"{name}_{band}_{px}m.jp2", np.full((side, side), px, np.uint16), **drivers
        )
    band_file(inside / "R20m" / f"{name}_B8A_20m.jp2", np.full((24, 24), 88, np.uint16), **drivers)
    band_file(inside / "R60m" / f"{name}_B8A_60m.jp2", np.full((8, 8), 6, np.uint16), **drivers)
    band_file(inside / "R20m" / f"{name}_SCL_20m.jp2", scl, **drivers)
    band_file(inside / "R10m" / f"{name}_TCI_10m.jp2", np.full((48, 48), 1, np.uint8), **drivers)
    (product / "MTD_MSIL2A.xml").write_text(
        f"<?xml version='1.0'?><a><PROCESSING_BASELINE>{told}</PROCESSING_BASELINE></a>"
    )
    return product


def test_a_safe_gives_the_finest_file_of_each_band(tmp_path):
    product = safe(tmp_path)
    scene = open_scene(product, N0400, ["B8A", "B02"])
    data, valid = scene.read(WHOLE)
    assert scene.grid.resolution == (10, 10)
    assert set(data[0].ravel()) == {88}
    assert set(data[1].ravel()) == {10}
    assert scene.name == product.stem
    assert scene.acquired == "2022-07-06"
    gone = np.zeros((48, 48), bool)
    gone[:2, :12] = True
    np.testing.assert_array_equal(valid, ~np.stack([gone, gone]))
    cloudy = gone.copy()
    cloudy[:2, :2] = False  # no data, but no cloud
    np.testing.assert_array_equal(scene.cloudy(WHOLE), cloudy)
    np.testing.assert_array_equal(scene.cloudy(Window(-1, 1, 4, 5))[1:], cloudy[:3, 1:6])
    assert open_scene(product, N0400, ["B02"], mask=None).read(WHOLE)[1].all()
    only = open_scene(product, N0400, ["B8A"])
    assert only.grid.resolution == (20, 20)


@pytest.mark.parametrize(
    "inner", ["", "GRANULE/L2A_T33NZA_A036", "GRANULE/L2A_T33NZA_A036/IMG_DATA"]
)
def test_a_product_against_its_sensor_is_refused_wherever_it_is_entered(tmp_path, inner):
    product = safe(tmp_path)
    with pytest.raises(DataError, match=r"baseline 04\.00 .*set data\.sensor=sentinel2_l2a_n0400"):
        open_scene(product / inner, L2A, ["B02"])
    assert open_scene(product / inner, N0400, ["B02"]).grid.width == 48


def test_metadata_counts_more_than_a_name(tmp_path):
    product = safe(tmp_path, baseline="0301", told="05.11")
    with pytest.raises(DataError, match=r"05\.11"):
        open_scene(product, L2A, ["B02"])
    offsets = '<BOA_ADD_OFFSET band_id="0">-1000</BOA_ADD_OFFSET>'
    by_hand = "<a><PROCESSING_BASELINE>99.99</PROCESSING_BASELINE>{}</a>"
    (product / "MTD_MSIL2A.xml").write_text(by_hand.format(offsets))
    with pytest.raises(DataError, match=r"99\.99 .*- 1000"):
        open_scene(product, L2A, ["B02"])
    (product / "MTD_MSIL2A.xml").unlink()
    with pytest.raises(DataError, match=r"03\.01 .*DN / 10000.*set data\.sensor=sentinel2_l2a$"):
        open_scene(product, N0400, ["B02"])
    own = custom_sensor("own", [{"name": "B02"}], scale=1e-4)
    assert open_scene(product, own).bands == ("B02",)


def test_level_1_is_not_level_2(tmp_path):
    path, _ = two_bands(tmp_path / "S2A_MSIL1C_20170216T102101_N0204_R065_T33UUU_x.tif")
    with pytest.raises(DataError, match=r"Sentinel-2 L1C .*data.sensor=sentinel2_l1c"):
        open_scene(path, L2A, ["B04"])
    assert open_scene(path, L1C, ["B04"]).acquired == "2017-02-16"


ID = "LC08_L2SP_193023_20200401_20200410_02_T1"


def landsat(root):
    folder = root / ID
    qa = np.full((48, 48), 1 << 6, np.uint16)  # clear
    qa[0, :6] = [1 << bit for bit in (0, 1, 2, 3, 4, 5)]
    qa[1, :2] = [1 << 7, 21824]  # water; as files write clear land
    for band in (2, 4, 5):
        band_file(folder / f"{ID}_SR_B{band}.TIF", np.full((48, 48), 9000 + band, np.uint16))
    band_file(folder / f"{ID}_QA_PIXEL.TIF", qa)
    band_file(folder / f"{ID}_QA_RADSAT.TIF", qa)
    band_file(folder / f"{ID}_ST_B10.TIF", qa)
    (folder / f"{ID}_MTL.txt").write_text(f'LANDSAT_PRODUCT_ID = "{ID}"\n')
    return folder


def test_a_landsat_folder_with_its_quality_bits(tmp_path):
    folder = landsat(tmp_path)
    scene = open_scene(folder, LANDSAT, ["nir", "red"])
    data, valid = scene.read(WHOLE)
    assert data[:, 9, 9].tolist() == [9005, 9004]
    assert valid[0, 0, :7].tolist() == [False] * 5 + [True] * 2
    assert scene.cloudy(WHOLE)[0, :7].tolist() == [False] + [True] * 4 + [False] * 2
    assert valid[:, 1:].all()
    assert scene.acquired == "2020-04-01"
    for wrong in ("landsat8_toa", "landsat5_sr"):  # Landsat 5's B4 is near infrared
        with pytest.raises(DataError, match=r"Landsat 8 Collection 2 .*data.sensor=landsat8_sr"):
            open_scene(folder, SENSORS[wrong], ["B4"])
    assert open_scene(folder, SENSORS["landsat9_sr"], ["red"]).bands == ("SR_B4",)


def test_landsat_level_1_is_refused_as_numbers_but_not_as_fractions(tmp_path):
    one = "LC08_L1TP_193023_20200401_20200410_02_T1"
    toa = SENSORS["landsat8_toa"]
    band_file(tmp_path / "a" / f"{one}_B4.TIF", np.full((48, 48), 9000, np.uint16))
    with pytest.raises(DataError, match="take the Collection 2 Level-2 product"):
        open_scene(tmp_path / "a", toa, ["red"])
    band_file(tmp_path / "b" / f"{one}_B4.TIF", np.full((48, 48), 0.2, np.float32))
    assert open_scene(tmp_path / "b", toa, ["red"]).dtype == np.float32


def test_a_declared_scale_must_be_the_sensors(tmp_path):
    path, _ = two_bands(tmp_path / "s.tif")
    with rasterio.open(path, "r+") as target:
        target.scales, target.offsets = (1e-4, 1e-4), (-0.1, -0.1)
    with pytest.raises(DataError, match=r"offset -0\.1, .*data\.sensor=sentinel2_l2a_n0400"):
        open_scene(path, L2A, ["B04"])
    assert open_scene(path, N0400, ["B04"]).read(WHOLE)[1].all()


# --- masks -------------------------------------------------------------------------------------


def test_a_mask_file_of_another_resolution(tmp_path):
    path, _ = two_bands(tmp_path / "s.tif")
    mask = np.zeros((24, 24), np.uint8)
    mask[3, 5] = 7
    own = band_file(tmp_path / "clouds.tif", mask)
    scene = open_scene(path, L2A, ["B04"], mask=own)
    expected = np.kron(mask, np.ones((2, 2))) == 0
    np.testing.assert_array_equal(scene.read(WHOLE)[1][0], expected)
    for row in range(0, 48, 7):
        part = scene.read(Window(row, 9, 7, 5))[1][0]
        frame = np.pad(expected, ((0, 9), (0, 0)))
        np.testing.assert_array_equal(part, frame[row : row + 7, 9:14])


def test_a_mask_beside_the_file_or_inside_it(tmp_path):
    path, _ = two_bands(tmp_path / "a.tif")
    two_bands(tmp_path / "b.tif")
    scl = np.full((24, 24), 9, np.uint8)
    band_file(tmp_path / "a_SCL.tif", scl)
    assert not open_scene(path, L2A, ["B04"]).read(WHOLE)[1].any()
    assert open_scene(tmp_path / "b.tif", L2A, ["B04"]).read(WHOLE)[1].all()
    stack = np.full((2, 48, 48), 4, np.uint16)
    stack[1, 0, 0] = 8
    inside = write_tile(tmp_path / "c.tif", stack, names=["B04", "SCL"])
    scene = open_scene(inside, L2A, ["B04"])
    assert (~scene.read(WHOLE)[1]).sum() == 1
    assert scene.cloudy(WHOLE)[0, 0]


def test_masks_that_do_not_fit(tmp_path):
    path, _ = two_bands(tmp_path / "s.tif")
    clear = np.zeros((1, 48, 48), np.uint8)
    short = write_tile(tmp_path / "short.tif", clear[:, :40])
    other = write_tile(tmp_path / "other.tif", clear, crs="EPSG:32632")
    many = write_tile(tmp_path / "many.tif", np.zeros((2, 48, 48), np.uint8))
    codes = write_tile(tmp_path / "SCL.tif", clear.astype(np.float32))
    wide = write_tile(
        tmp_path / "wide.tif",
        np.zeros((1, 80, 80), np.uint8),
        transform=from_origin(499900, 4600100, 10, 10),
    )
    said = {short: "covers all of it", other: "warp the mask", many: "2 bands", codes: "float32"}
    for mask, words in said.items():
        with pytest.raises(DataError, match=words) as caught:
            open_scene(path, L2A, ["B04"], mask=mask)
        assert str(mask) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert open_scene(path, L2A, ["B04"], mask=wide).read(WHOLE)[1].all()


# --- faults ------------------------------------------------------------------------------------


def test_no_place_and_turned_grids_are_refused(tmp_path):
    nowhere, _ = two_bands(tmp_path / "a.tif", crs=None)
    turned, _ = two_bands(
        tmp_path / "b.tif", transform=from_origin(5e5, 46e5, 10, 10) @ rasterio.Affine.rotation(20)
    )
    mirrored, _ = two_bands(
        tmp_path / "c.tif", transform=rasterio.Affine(-10, 0, 5e5, 0, -10, 46e5)
    )
    unplaced, _ = two_bands(tmp_path / "d.tif", transform=rasterio.Affine.identity())
    for path, words in (
        (nowhere, "no coordinate reference system"),
        (turned, "rotated"),
        (mirrored, "mirrored"),
        (unplaced, "no position"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            open_scene(path, L2A, ["B04"])
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("missing", "band B8A: not in"),
        ("tiles", r"band B02: in 2 files \(T33UUT_\S+, T33UUU"),
        ("dates", r"bands of several dates: .*\(2020-05-01\).*\(2021"),
        ("empty", "no images"),
        ("elsewhere", "do not cover the same area"),
        ("zone", "lies in EPSG:32632"),
    ],
)
def test_folders_that_are_no_scene(tmp_path, fault, words):
    folder = folder_scene(tmp_path / "s")
    stem = "T33UUU_20200501T101010"
    old = folder / f"{stem}_B8A.tif"
    if fault == "tiles":
        shutil.copy(folder / f"{stem}_B02.tif", folder / "T33UUT_20200501T101010_B02.tif")
    elif fault == "dates":
        old.rename(folder / "T33UUU_20210501T101010_B8A.tif")
    elif fault == "empty":
        shutil.rmtree(folder)
        (folder / "notes").mkdir(parents=True)
    elif fault in {"elsewhere", "zone"}:
        at = {"transform": from_origin(500480, 4600000, 20, 20)} if fault == "elsewhere" else {}
        more = {"crs": "EPSG:32632"} if fault == "zone" else {}
        band_file(old, np.ones((24, 24), np.uint16), **at, **more)
    else:
        old.unlink()
    with pytest.raises(DataError, match=words) as caught:
        open_scene(folder, L2A, SIDES)
    assert "\n" not in str(caught.value)


def test_what_is_no_band_does_not_disturb(tmp_path):
    folder = folder_scene(tmp_path / "s")
    scene = open_scene(folder, L2A, SIDES)
    write_tile(folder / "thumbnail.png", np.ones((3, 9, 9), np.uint8), driver="PNG")
    (folder / "labels.gpkg").write_bytes(b"SQLite")
    (folder / "._B02.tif").write_bytes(b"junk")
    (folder / "README.txt").touch()
    np.testing.assert_array_equal(
        open_scene(folder, L2A, SIDES).read(WHOLE)[0], scene.read(WHOLE)[0]
    )


def test_a_damaged_or_missing_file_is_one_line(tmp_path):
    path, _ = two_bands(tmp_path / "s.tif", compress="deflate")
    scene = open_scene(path, L2A, ["B04"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-3000])
    with pytest.raises(DataError, match="truncated"):
        scene.read(WHOLE)
    path.unlink()
    with pytest.raises(DataError, match="no such file any more"):
        scene.read(WHOLE)
    with pytest.raises(DataError, match="check the path"):
        open_scene(path, L2A, ["B04"])


# --- several scenes, threads, handles -----------------------------------------------------------


def test_several_scenes_have_names_of_their_own(tmp_path):
    paths = [two_bands(tmp_path / place / "s.tif")[0] for place in ("a", "b", "c/a")]
    scenes = open_scenes(paths, L2A, ["B04"])
    assert [scene.name for scene in scenes] == ["a_s", "b_s", "a_s-2"]
    with pytest.raises(DataError, match="more than once"):
        open_scenes([paths[0], tmp_path / "a" / ".." / "a" / "s.tif"], L2A, ["B04"])


def open_files(folder: Path) -> int:
    held = [fd for fd in list(Path("/proc/self/fd").iterdir()) if fd.is_symlink()]
    return sum(str(fd.readlink()).startswith(str(folder)) for fd in held)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files through /proc")
def test_threads_read_alike_and_files_are_closed(tmp_path, in_parts, monkeypatch):
    monkeypatch.setattr(images, "_IDLE", 5)
    folder = folder_scene(tmp_path / "s")
    scene, whole = open_scene(folder, L2A, SIDES), read_folder(folder, L2A, list(SIDES))
    windows = [Window(r, c, 11, 13) for r in range(0, 37, 3) for c in range(0, 35, 5)] * 4

    def right(scene, window):
        data, valid = scene.read(window)
        rows, cols = slice(window.row, window.row + 11), slice(window.col, window.col + 13)
        return np.array_equal(data, whole.data[:, rows, cols]) and np.array_equal(
            valid, whole.valid[:, rows, cols]
        )

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(functools.partial(right, scene), windows))
    assert 1 <= open_files(folder) <= 5
    scene.close()
    assert open_files(folder) == 0
    assert scene.read(WHOLE)[1].any()
    assert open_files(folder) == 3
    del scene
    gc.collect()
    assert open_files(folder) == 0


# --- real data ---------------------------------------------------------------------------------


@pytest.mark.real_data
def test_havel_in_windows(real_data):
    folder = real_data / "sentinel2_l1c_havel"
    scene = open_scene(folder, L1C)
    whole = read_folder(folder, L1C, L1C.names)
    assert scene.acquired == "2017-02-16"
    assert (len(scene.bands), scene.grid.height, scene.grid.width) == (13, 768, 1536)
    for row, col in ((0, 0), (351, 777), (700, 1500)):
        data, valid = scene.read(Window(row, col, 64, 64))
        inside = whole.data[:, row : row + 64, col : col + 64]
        np.testing.assert_array_equal(data[:, : inside.shape[1], : inside.shape[2]], inside)
        assert valid.sum() == whole.valid[:, row : row + 64, col : col + 64].sum()


@pytest.mark.real_data
def test_the_cell_with_its_mask_and_baseline(real_data):
    folder = real_data / "sentinel2_l2a_cells"
    with pytest.raises(DataError, match=r"set data\.sensor=sentinel2_l2a_n0400$"):
        open_scene(folder, L2A)
    scene = open_scene(folder, N0400)
    assert scene.mask is not None
    assert (scene.grid.height, scene.acquired) == (1068, "2022-07-06")
    with rasterio.open(next(folder.glob("*/B04.tif"))) as source:
        red = source.read(1)
    data, valid = scene.read(Window(1000, 1000, 100, 100))
    np.testing.assert_array_equal(data[3, :68, :68], red[1000:, 1000:])
    np.testing.assert_array_equal(valid[3, :68, :68], red[1000:, 1000:] > 0)
    assert not scene.cloudy(Window(0, 0, 1068, 1068)).any()


@pytest.mark.real_data
def test_a_bigearthnet_patch_is_a_scene_too(real_data):
    patch = next(p for p in (real_data / "bigearthnet_s2_patch").rglob("*_B02.tif"))
    scene = open_scene(patch.parent, L2A, ["B04", "B05"], mask=None)
    np.testing.assert_array_equal(
        scene.read(Window(0, 0, 120, 120))[0][0],
        read(patch.with_name(patch.name.replace("B02", "B04"))).data[0],
    )
