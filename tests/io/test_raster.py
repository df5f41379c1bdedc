"""Images on disk: pixels, validity, place, names; files that cannot be used."""

import shutil
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from helpers.full_disk import full_disk
from helpers.tiles import write_tile
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from geotl.errors import DataError, OutputError
from geotl.io.raster import Grid, describe, read, write

RNG = np.random.default_rng(0)
SCENE = RNG.integers(1, 4000, (4, 48, 32)).astype(np.uint16)


def picture(path, data, driver, **settings):
    count, height, width = data.shape
    profile = {"driver": driver, "count": count, "height": height, "width": width}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a picture has no place
        with rasterio.open(path, "w", dtype=data.dtype.name, **profile, **settings) as target:
            target.write(data)
    return path


def smooth(bands=3, px=96):
    row, col = np.mgrid[:px, :px]
    return np.stack([(row * 2 + col + 40 * b) % 256 for b in range(bands)]).astype(np.uint8)


def test_a_named_geotiff_gives_pixels_place_names_and_date(tmp_path):
    path = write_tile(tmp_path / "a.tif", SCENE, names=["B02", "B03", "B04", "B08"])
    with rasterio.open(path, "r+") as target:
        target.update_tags(TIFFTAG_DATETIME="2017:02:16 10:21:01")
    image = read(path)
    assert image.data.dtype == np.uint16
    np.testing.assert_array_equal(image.data, SCENE)
    assert image.valid.all()
    assert image.valid.shape == SCENE.shape
    assert image.band_names == ("B02", "B03", "B04", "B08")
    assert image.names_from == "descriptions"
    assert image.acquired == "2017-02-16"
    assert image.grid.crs == "EPSG:32633"
    assert image.grid.bounds == (500000, 4599520, 500320, 4600000)
    assert image.grid.centre == (500160, 4599760)
    assert image.grid.resolution == (10, 10)


def test_the_header_says_the_same_as_the_image(tmp_path):
    path = write_tile(tmp_path / "a.tif", SCENE, names=["B02", "B03", "B04", "B08"], nodata=0)
    info, image = describe(path), read(path)
    assert (info.grid, info.band_names, info.dtype) == (image.grid, image.band_names, np.uint16)
    assert info.nodata == (0, 0, 0, 0)


def test_an_unnamed_geotiff_has_no_names_rather_than_guessed_ones(tmp_path):
    image = read(write_tile(tmp_path / "a.tif", SCENE[:2]))
    assert image.band_names == (None, None)
    assert image.names_from == "none"


@pytest.mark.parametrize(("driver", "end"), [("JPEG", "jpg"), ("PNG", "png")])
def test_pictures_are_named_by_their_colours_and_have_no_crs(tmp_path, driver, end, recwarn):
    image = read(picture(tmp_path / f"a.{end}", smooth(), driver))
    assert image.band_names == ("red", "green", "blue")
    assert image.names_from == "colours"
    assert image.grid.crs is None
    assert image.valid.all()
    assert not recwarn.list


def test_a_grey_picture_is_named_gray(tmp_path):
    assert read(picture(tmp_path / "a.png", smooth(1), "PNG")).band_names == ("gray",)


def test_alpha_becomes_validity_not_a_band(tmp_path):
    data = np.concatenate([smooth(), np.full((1, 96, 96), 255, np.uint8)])
    data[3, :10] = 0
    image = read(picture(tmp_path / "a.png", data, "PNG"))
    assert image.band_names == ("red", "green", "blue")
    np.testing.assert_array_equal(image.data, data[:3])
    assert not image.valid[:, :10].any()
    assert image.valid[:, 10:].all()


def test_a_band_flagged_alpha_stays_a_band_if_it_is_named_or_counted(tmp_path):
    near_infrared = smooth(4)
    near_infrared[3, :5] = 0
    named = write_tile(tmp_path / "named.tif", near_infrared, names=["B04", "B03", "B02", "B08"])
    plain = write_tile(tmp_path / "plain.tif", near_infrared)
    with rasterio.open(plain) as source:
        assert source.colorinterp[3] == ColorInterp.alpha, "GDAL's default, which this test is for"
    assert read(named).band_names == ("B04", "B03", "B02", "B08")
    assert read(named).valid.all()
    assert len(read(plain).data) == 3
    counted = read(plain, band_count=4)
    np.testing.assert_array_equal(counted.data, near_infrared)
    assert counted.valid.all()
    assert len(describe(plain, band_count=4).band_names) == 4


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # made in the test
def test_a_palette_picture_is_read_as_its_colours(tmp_path):
    path = tmp_path / "a.png"
    indices = np.array([[[0, 1], [2, 1]]], np.uint8)
    picture(path, indices, "PNG", photometric="palette")
    with rasterio.open(path, "r+") as target:
        target.write_colormap(1, {0: (10, 20, 30, 255), 1: (40, 50, 60, 255), 2: (7, 8, 9, 0)})
    image = read(path)
    assert image.band_names == describe(path).band_names == ("red", "green", "blue")
    assert image.data[:, 0, 0].tolist() == [10, 20, 30]
    assert image.data[:, 1, 1].tolist() == [40, 50, 60]
    np.testing.assert_array_equal(image.valid[0], [[True, True], [False, True]])


def test_nodata_is_invalid_band_by_band(tmp_path):
    data = SCENE.copy()
    data[1, :4] = 0
    valid = read(write_tile(tmp_path / "a.tif", data, nodata=0)).valid
    np.testing.assert_array_equal(valid, data != 0)


def test_nan_and_infinity_are_invalid_with_and_without_declared_nodata(tmp_path):
    data = SCENE.astype(np.float32)
    data[0, 0, 0], data[1, 1, 1], data[2, 2, 2] = np.nan, np.inf, -9999
    plain = read(write_tile(tmp_path / "plain.tif", data)).valid
    assert not plain[0, 0, 0]
    assert not plain[1, 1, 1]
    assert (~plain).sum() == 2
    declared = read(write_tile(tmp_path / "declared.tif", data, nodata=-9999)).valid
    assert (~declared).sum() == 3
    as_nan = read(write_tile(tmp_path / "nan.tif", data, nodata=np.nan)).valid
    assert (~as_nan).sum() == 2


@pytest.mark.parametrize("inside", [True, False], ids=["internal mask", "mask beside the file"])
def test_masks_are_invalid(tmp_path, inside):
    path = write_tile(tmp_path / "a.tif", SCENE)
    mask = np.full(SCENE.shape[1:], 255, np.uint8)
    mask[:7] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(path, "r+") as target:
        target.write_mask(mask)
    assert (tmp_path / "a.tif.msk").exists() != inside
    valid = read(path).valid
    assert not valid[:, :7].any()
    assert valid[:, 7:].all()


def test_a_mask_does_not_hide_declared_nodata(tmp_path):
    data = SCENE.copy()
    data[:, -3:] = 0
    path = write_tile(tmp_path / "a.tif", data, nodata=0)
    mask = np.full(data.shape[1:], 255, np.uint8)
    mask[:7] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as target:
        target.write_mask(mask)
    valid = read(path).valid
    assert not valid[:, :7].any()
    assert not valid[:, -3:].any()
    assert valid[:, 7:-3].all()


def test_bands_may_have_different_nodata_values(tmp_path):
    source = write_tile(tmp_path / "a.tif", SCENE[:2])
    bands = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{b}"><NoDataValue>{SCENE[b - 1, 3, 3]}'
        f'</NoDataValue><SimpleSource><SourceFilename relativeToVRT="1">{source.name}'
        f"</SourceFilename><SourceBand>{b}</SourceBand></SimpleSource></VRTRasterBand>"
        for b in (1, 2)
    )
    path = tmp_path / "a.vrt"
    path.write_text(f'<VRTDataset rasterXSize="32" rasterYSize="48">{bands}</VRTDataset>')
    expected = SCENE[:2] != SCENE[:2, 3:4, 3:4]
    np.testing.assert_array_equal(read(path).valid, expected)


def cut(path, share):
    whole = path.read_bytes()
    short = path.with_name(f"cut{share}{path.suffix}")
    short.write_bytes(whole[: int(len(whole) * share)])
    return short


KINDS = ["jpg", "progressive.jpg", "png", "tif", "deflate.tif", "jpeg.tif"]


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.995])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_short_is_an_error_that_names_it(tmp_path, kind, share, capfd):
    data = RNG.integers(0, 255, (3, 96, 96)).astype(np.uint8)
    path = tmp_path / f"tile.{kind}"
    if kind.endswith("jpg"):
        picture(path, data, "JPEG", progressive=kind != "jpg")
    elif kind == "png":
        picture(path, data, "PNG")
    else:
        compress = {"tif": None, "deflate.tif": "deflate", "jpeg.tif": "jpeg"}[kind]
        write_tile(path, data, compress=compress)
    assert read(path).valid.all()
    short = cut(path, share)
    with pytest.raises(DataError, match=r"truncated|damaged") as caught:
        read(short)
    assert str(caught.value).startswith(str(short))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_png_with_a_flipped_byte_is_an_error(tmp_path):
    path = picture(tmp_path / "a.png", smooth(), "PNG")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        read(path)


def test_a_png_with_bytes_after_its_end_is_read(tmp_path):
    path = picture(tmp_path / "a.png", smooth(), "PNG")
    path.write_bytes(path.read_bytes() + b"appended")
    np.testing.assert_array_equal(read(path).data, smooth())


@pytest.mark.parametrize("look", [read, describe])
def test_files_that_are_no_images_are_errors_that_name_them(tmp_path, look):
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "folder.tif").mkdir()
    cases = {
        "missing.tif": "no such file",
        "empty.tif": r"0 bytes.*copy it again",
        "text.png": r"cannot be read as an image.*another format",
        "folder.tif": "a folder",
    }
    for name, said in cases.items():
        with pytest.raises(DataError, match=said) as caught:
            look(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_reading_in_threads_gives_the_same_and_warns_of_nothing(tmp_path, recwarn):
    paths = [picture(tmp_path / f"{i}.png", np.roll(smooth(), i, 1), "PNG") for i in range(24)]
    with ThreadPoolExecutor(6) as pool:
        images = list(pool.map(read, paths))
    for i, image in enumerate(images):
        np.testing.assert_array_equal(image.data, np.roll(smooth(), i, 1))
    assert not recwarn.list
    assert threading.active_count() < 50


def test_what_is_written_is_read_back(tmp_path):
    grid = Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0), 48, 32)
    path = tmp_path / "new" / "a.tif"
    names = ("B04", None, "B02", "B08")
    write(path, SCENE, grid, names, nodata=0, tags={"acquired": "2020-05-17"})
    image = read(path)
    np.testing.assert_array_equal(image.data, SCENE)
    assert image.grid == grid
    assert image.band_names == names
    assert image.acquired == "2020-05-17"
    assert describe(path).nodata == (0, 0, 0, 0)
    assert [p.name for p in path.parent.iterdir()] == ["a.tif"]


def test_four_bytes_a_pixel_are_written_as_four_bands(tmp_path):
    write(tmp_path / "a.tif", smooth(4), Grid(None, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), 96, 96))
    image = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.data, smooth(4))
    assert image.grid.crs is None


def test_data_that_does_not_fit_its_grid_or_names_is_refused(tmp_path):
    grid = Grid(None, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), 48, 32)
    with pytest.raises(DataError, match="does not fit a grid"):
        write(tmp_path / "a.tif", SCENE[:, :10], grid)
    with pytest.raises(DataError, match="2 names for 4 bands"):
        write(tmp_path / "a.tif", SCENE, grid, ["a", "b"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("room", [0, 1000, 50_000, 500_000])
def test_a_full_disk_leaves_what_was_there(tmp_path, room):
    grid = Grid(None, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), 256, 256)
    path = tmp_path / "a.tif"
    write(path, np.zeros((1, 256, 256), np.uint8), grid)
    before = path.read_bytes()
    noise = RNG.integers(0, 60000, (4, 256, 256)).astype(np.uint16)
    with full_disk(room), pytest.raises(OutputError, match="could not be written"):
        write(path, noise, grid)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_the_bounds_of_a_turned_grid_hold_all_its_corners():
    turned = Grid("EPSG:32633", (0.0, 10.0, 0.0, 10.0, 0.0, 0.0), 3, 5)
    assert turned.bounds == (0, 0, 30, 50)
    assert turned.centre == (15, 25)
    assert turned.resolution == (10, 10)


def test_a_png_chunk_longer_than_the_file_is_cut_short(tmp_path):
    head = b"\x89PNG\r\n\x1a\n"
    body = b"IHDR" + struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    path = tmp_path / "a.png"
    path.write_bytes(head + chunk + struct.pack(">I", 10**9) + b"IDAT")
    with pytest.raises(DataError, match=r"truncated|damaged"):
        read(path)


@pytest.mark.real_data
def test_bigearthnet_bands_are_read_one_file_each(real_data):
    files = sorted((real_data / "bigearthnet_s2_patch").glob("*.tif"))
    assert len(files) == 12
    for file in files:
        image = read(file)
        with rasterio.open(file) as source:
            np.testing.assert_array_equal(image.data, source.read())
        side = image.data.shape[1]
        assert side in (20, 60, 120)
        assert image.grid.resolution[0] == 1200 / side
        assert image.grid.crs == "EPSG:32633"
        np.testing.assert_array_equal(image.valid, image.data != 0)


@pytest.mark.real_data
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.98])
@pytest.mark.parametrize("folder", ["eurosat_rgb", "eurosat_ms", "ucmerced"])
def test_real_tiles_cut_short_are_errors(real_data, tmp_path, folder, share):
    file = sorted(p for p in (real_data / folder).glob("*/*") if p.is_file())[0]
    path = tmp_path / file.name
    shutil.copy(file, path)
    assert read(path).valid.all()
    with pytest.raises(DataError, match=r"truncated|damaged"):
        read(cut(path, share))
