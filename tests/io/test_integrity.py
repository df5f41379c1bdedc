"""JPEG 2000 tiles: read to the bit, refused in one line where they are truncated or damaged."""

import logging

import numpy as np
import pytest
import rasterio
from helpers.tiles import write_tile

from geotl.data.read_tile import TileReading
from geotl.data.tile_array import pack
from geotl.data.tiles import index_folder
from geotl.errors import DataError
from geotl.imagery.sensors import custom_sensor
from geotl.io.raster import describe, read

RNG = np.random.default_rng(3)
BANDS = ("B02", "B03", "B04", "B08")
PLAIN = custom_sensor("plain", [{"name": name} for name in BANDS], scale=1e-4, nodata=0)


def jpeg2000(path, data, **more):
    codec = "J2K" if path.suffix == ".j2k" else "JP2"
    lossless = {"QUALITY": "100", "REVERSIBLE": "YES", "CODEC": codec}
    return write_tile(path, data, driver="JP2OpenJPEG", **lossless, **more)


def scene(px=64, dtype=np.uint16):
    return RNG.integers(1, 4000, (4, px, px)).astype(dtype)


@pytest.mark.parametrize("end", ["jp2", "j2k", "JP2"])
def test_jpeg_2000_tiles_are_packed_to_the_bit(tmp_path, end):
    data = [scene(32) for _ in range(4)]
    data[0][2, :4] = 0
    for i, image in enumerate(data):
        jpeg2000(tmp_path / "t" / "ab"[i % 2] / f"{i}.{end.lower()}", image)
    if end.isupper():
        for path in (tmp_path / "t").rglob("*.jp2"):
            path.rename(path.with_suffix(".JP2"))
    index = index_folder(tmp_path / "t")
    packed = pack(index, PLAIN, TileReading(file_bands=BANDS), folder=tmp_path / "pack")
    found = dict(zip((tile.path.stem for tile in index.tiles), range(4), strict=True))
    for i, image in enumerate(data):
        np.testing.assert_array_equal(packed.images[found[str(i)]], image)
        np.testing.assert_array_equal(packed.valid[found[str(i)]], image != 0)
    assert packed.images.dtype == np.uint16
    assert packed.crs == ("EPSG:32633",) * 4
    assert packed.footprints[0] == (500000, 4599680, 500320, 4600000)


@pytest.mark.parametrize("share", [0.0005, 0.02, 0.1, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("end", ["jp2", "j2k"])
@pytest.mark.parametrize("block", [64, 1024])
def test_one_cut_short_is_one_clear_line(tmp_path, end, share, block, capfd):
    """Of several tile parts, GDAL reads as many as there are and says nothing."""
    path = jpeg2000(tmp_path / f"a.{end}", scene(128), blockxsize=block, blockysize=block)
    assert read(path).valid.all()
    short = tmp_path / f"cut.{end}"
    short.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    for look in (read, describe):
        with pytest.raises(DataError, match=r"truncated or damaged|0 bytes") as caught:
            look(short)
        assert str(caught.value).startswith(str(short))
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("end", ["jp2", "j2k"])
def test_one_with_a_damaged_structure_is_an_error(tmp_path, end):
    path = jpeg2000(tmp_path / f"a.{end}", scene(128), blockxsize=64, blockysize=64)
    whole = path.read_bytes()
    second = whole.index(b"\xff\x90", whole.index(b"\xff\x90") + 2)
    for at in (0, second, second + 6, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[at] ^= 0x55
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"truncated|damaged"):
            read(path)


def test_a_picture_by_another_name_is_an_error(tmp_path):
    path = write_tile(tmp_path / "a.tif", scene(16)).rename(tmp_path / "a.jp2")
    with pytest.raises(DataError, match="JPEG 2000 file is truncated or damaged"):
        read(path)


@pytest.mark.real_data
@pytest.mark.parametrize("share", [0.1, 0.3, 0.7, 0.98, 0.9999])
def test_a_real_sentinel_band_cut_short_is_an_error(real_data, tmp_path, share):
    """This one GDAL itself reads without a word, with grey where the rest should be."""
    file = real_data / "sentinel2_l1c_havel" / "T33UUU_20170216T102101_B01.jp2"
    with rasterio.open(file) as source:
        np.testing.assert_array_equal(read(file).data, source.read())
    cut = tmp_path / "cut.jp2"
    cut.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    logging.getLogger("rasterio").setLevel(logging.CRITICAL)
    with pytest.raises(DataError, match="truncated"):
        read(cut)
