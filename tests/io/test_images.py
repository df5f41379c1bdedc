"""Arrays on disk as tiles: which axis holds the bands, what is never loaded, what is not valid."""

import io
import os
import pickle

import numpy as np
import pytest
from helpers.tiles import write_tile

from geotl.data.read_tile import TileReading
from geotl.data.tile_array import pack, read_tiles, statistics
from geotl.data.tiles import index_folder
from geotl.errors import BandError, DataError
from geotl.imagery.sensors import SENSORS, custom_sensor
from geotl.io.images import bands_first, describe, read

RNG = np.random.default_rng(4)
BANDS = ("B02", "B03", "B04", "B08")
PLAIN = custom_sensor("plain", [{"name": name} for name in BANDS], nodata=-9999)


def save(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, data)
    return path


def noise(px=16, bands=4, dtype=np.uint16):
    return RNG.integers(1, 250, (bands, px, px)).astype(dtype)


def test_arrays_are_tiles_whatever_their_axes_and_byte_order(tmp_path):
    data = noise()
    save(tmp_path / "t/a/0.npy", data)
    save(tmp_path / "t/a/1.npy", np.moveaxis(data, 0, -1))
    save(tmp_path / "t/b/0.npy", data.astype(">u2"))
    save(tmp_path / "t/b/1.npy", np.asfortranarray(data))
    index = index_folder(tmp_path / "t")
    packed = pack(index, PLAIN, TileReading(file_bands=BANDS[::-1]), folder=tmp_path / "p")
    for image in packed.images:
        np.testing.assert_array_equal(image, data[::-1])
    assert packed.images.dtype == np.dtype("uint16")
    assert packed.crs == packed.footprints == (None,) * 4
    paths = [tile.path for tile in index.tiles]
    images, _ = next(read_tiles(paths, PLAIN, BANDS, BANDS[::-1], 16))
    np.testing.assert_array_equal(images, packed.images)


def test_one_band_may_come_without_an_axis_of_its_own(tmp_path):
    data = noise(bands=1)
    image = read(save(tmp_path / "a.npy", data[0]), band_count=1)
    np.testing.assert_array_equal(image.data, data)


def test_the_sensors_stated_order_names_the_bands(tmp_path):
    for name in "ab":
        save(tmp_path / "t" / name / "0.npy", noise(bands=13))
    sensor = SENSORS["eurosat_ms"]
    packed = pack(
        index_folder(tmp_path / "t"), sensor, TileReading(["B8A", "B02"]), folder=tmp_path / "p"
    )
    held = np.load(tmp_path / "t/a/0.npy")
    np.testing.assert_array_equal(packed.images[0], held[[12, 1]])


@pytest.mark.parametrize(
    ("shape", "count", "said"),
    [
        ((4, 16, 4), 4, "more than one axis of 4"),
        ((5, 16, 16), 4, r"no axis of 4 bands.*data\.file_bands"),
        ((16, 4, 16), 4, "no axis of 4"),
        ((16, 16), 4, "no axis of 4"),
        ((4, 16, 16), None, r"names no bands.*data\.file_bands"),
        ((1, 4, 16, 16), 4, r"allowed: \[bands, rows, columns\]"),
        ((16,), 1, "allowed"),
        ((4, 0, 16), 4, "allowed"),
    ],
)
def test_axes_that_could_mean_several_things_are_not_guessed(tmp_path, shape, count, said):
    path = save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    for look in (read, describe):
        with pytest.raises(BandError, match=said) as caught:
            look(path, band_count=count)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def test_four_rows_and_four_bands_are_told_apart_where_they_can_be():
    assert bands_first((4, 4, 16), 4) == (0, 1, 2)
    assert bands_first((16, 4, 4), 4) == (2, 0, 1)


def test_nan_infinity_and_the_sensors_nodata_are_not_valid(tmp_path):
    data = RNG.normal(0.2, 0.1, (4, 16, 16)).astype(np.float32)
    data[0, 0, 0], data[1, 1, 1], data[2, 2, 2] = np.nan, np.inf, -9999
    for name in "ab":
        save(tmp_path / "t" / name / "0.npy", data)
    packed = pack(
        index_folder(tmp_path / "t"), PLAIN, TileReading(file_bands=BANDS), folder=tmp_path / "p"
    )
    expected = np.ones(data.shape, bool)
    expected[0, 0, 0] = expected[1, 1, 1] = expected[2, 2, 2] = False
    np.testing.assert_array_equal(packed.valid[0], expected)
    assert abs(statistics(packed, [0, 1]).mean - 0.2).max() < 0.05


class Harmful:
    """What a pickle does to whoever loads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_pickle_is_refused_and_nothing_in_it_runs(tmp_path):
    mark = tmp_path / "ran"
    pickle.loads(pickle.dumps(Harmful(mark)))
    assert mark.exists(), "the pickle really would have run"
    mark.unlink()
    plain, inside = tmp_path / "plain.npy", tmp_path / "inside.npy"
    plain.write_bytes(pickle.dumps(Harmful(mark)))
    np.save(inside, np.array([Harmful(mark)], dtype=object), allow_pickle=True)
    for path in (plain, inside):
        for look in (read, describe):
            with pytest.raises(
                DataError, match="pickled objects, which are never loaded"
            ) as caught:
                look(path, band_count=1)
            assert str(caught.value).startswith(str(path))
            assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_files_that_are_no_arrays_are_errors_that_name_them(tmp_path):
    whole = save(tmp_path / "whole.npy", noise()).read_bytes()
    stream = io.BytesIO()
    np.savez(stream, a=noise())
    cases = {
        "short.npy": (whole[:900], "cannot be read as an array"),
        "header.npy": (whole[:20], "cannot be read as an array"),
        "text.npy": (b"not an array", "cannot be read as an array"),
        "empty.npy": (b"", "0 bytes"),
        "zip.npy": (stream.getvalue(), "an archive of arrays"),
    }
    for name, (content, said) in cases.items():
        (tmp_path / name).write_bytes(content)
        for look in (read, describe):
            with pytest.raises(DataError, match=said) as caught:
                look(tmp_path / name, band_count=4)
            assert str(caught.value).startswith(str(tmp_path / name))
            assert "\n" not in str(caught.value)
    for name, data in {
        "c": noise().astype(complex),
        "b": noise() > 9,
        "s": noise().astype("U3"),
    }.items():
        with pytest.raises(DataError, match="allowed: integers and floats"):
            read(save(tmp_path / f"{name}.npy", data), band_count=4)


def test_complex_pixels_are_refused_when_predicting_too(tmp_path):
    path = write_tile(tmp_path / "a.tif", noise().astype(np.complex64))
    with pytest.raises(DataError, match="allowed: integers and floats"):
        read(path)
