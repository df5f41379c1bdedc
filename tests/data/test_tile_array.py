"""Tiles packed and in batches: bands, sizes, validity, statistics; tiles that cannot be used."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from helpers.full_disk import full_disk
from helpers.tiles import write_tile
from rasterio.errors import NotGeoreferencedWarning

from geotl.data import tile_array
from geotl.data.read_tile import TileReading, to_image
from geotl.data.tile_array import batch, fingerprint, pack, read_tiles, statistics, to_batch
from geotl.data.tiles import index_folder
from geotl.errors import BandError, DataError, OutputError
from geotl.imagery.sensors import SENSORS, custom_sensor, to_reflectance
from geotl.io import images, raster

RNG = np.random.default_rng(0)
BANDS = ("B02", "B03", "B04", "B08")
PLAIN = custom_sensor("plain", [{"name": name} for name in BANDS], scale=1e-4)
L2A, L2A_0400 = SENSORS["sentinel2_l2a"], SENSORS["sentinel2_l2a_n0400"]


def noise(px=16, bands=4, dtype=np.uint16):
    return RNG.integers(1, 250, (bands, px, px)).astype(dtype)


def tiles_in(root, tiles, *, names=BANDS, **profile):
    """Two class folders with the given tiles in turn, and their index."""
    for i, data in enumerate(tiles):
        place = root / ("a", "b")[i % 2] / f"{i:02d}.tif"
        write_tile(place, data, names=list(names) if names else None, **profile)
    return index_folder(root)


def by_name(index, packed, name):
    return packed.images[index.names.index(name)]


@pytest.fixture
def where(tmp_path):
    return tmp_path / "pack"


def test_a_pack_holds_the_pixels_in_their_native_type(tmp_path, where):
    tiles = [noise() for _ in range(4)]
    index = tiles_in(tmp_path / "t", tiles)
    seen = []
    packed = pack(
        index, PLAIN, folder=where, progress=lambda done, total: seen.append((done, total))
    )
    assert isinstance(packed.images, np.memmap)
    assert packed.images.dtype == np.uint16
    assert packed.images.shape == (4, 4, 16, 16)
    assert packed.valid is None
    assert packed.bands == BANDS
    for i, data in enumerate(tiles):
        np.testing.assert_array_equal(by_name(index, packed, f"{'ab'[i % 2]}/{i:02d}.tif"), data)
    assert packed.crs == ("EPSG:32633",) * 4
    assert packed.footprints[0] == (500000, 4599840, 500160, 4600000)
    assert packed.acquired == (None,) * 4
    assert seen[-1] == (4, 4)
    assert sorted(p.name for p in where.iterdir()) == ["checksums.json", "images.npy", "pack.json"]
    with pytest.raises(ValueError, match="read-only"):
        packed.images[0] = 0


def test_bands_are_taken_by_name_in_the_order_asked_for(tmp_path, where):
    data = noise()
    write_tile(tmp_path / "t/a/0.tif", data, names=["B02", "B03", "B04", "B08"])
    write_tile(tmp_path / "t/b/0.tif", data[::-1], names=["nir", "Red", "green", "B2"])
    packed = pack(index_folder(tmp_path / "t"), L2A, TileReading(["red", "B08"]), folder=where)
    assert packed.bands == ("B04", "B08")
    np.testing.assert_array_equal(packed.images[0], data[[2, 3]])
    np.testing.assert_array_equal(packed.images[1], data[[2, 3]])


def test_each_files_pixels_are_read_once_and_not_again_for_the_same_fingerprint(
    tmp_path, where, monkeypatch
):
    index = tiles_in(tmp_path / "t", [noise() for _ in range(6)])
    reads = Counter()

    def counted(path, **options):
        reads[path] += 1
        return raster.read(path, **options)

    monkeypatch.setattr(images, "read", counted)
    first = pack(index, PLAIN, folder=where)
    assert reads == Counter(tile.path for tile in index.tiles)
    again = pack(index, PLAIN, folder=where)
    assert sum(reads.values()) == 6
    np.testing.assert_array_equal(first.images, again.images)
    assert replace(again, images=first.images) == first
    pack(index, PLAIN, TileReading(["B08"]), folder=where)
    assert sum(reads.values()) == 12


def test_the_fingerprint_follows_all_that_the_pixels_depend_on(tmp_path):
    root = tmp_path / "t"
    index = tiles_in(root, [noise(), noise()])
    plain = fingerprint(index, PLAIN)
    found = {
        plain,
        fingerprint(index, PLAIN, TileReading(["B02"])),
        fingerprint(index, PLAIN, TileReading(file_bands=BANDS)),
        fingerprint(index, PLAIN, TileReading(tile_px=8)),
        fingerprint(index, PLAIN, TileReading(fit="resize")),
        fingerprint(index, replace(PLAIN, nodata=7.0)),
    }
    assert len(found) == 6
    root.rename(tmp_path / "moved")
    moved = index_folder(tmp_path / "moved")
    assert fingerprint(moved, PLAIN) == plain, "where the folder lies makes no difference"
    first = moved.tiles[0].path
    first.with_name(first.name + ".msk").write_bytes(b"a mask beside the file")
    masked = fingerprint(moved, PLAIN)
    first.with_name(first.name + ".msk").unlink()
    first.rename(first.with_name("renamed.tif"))
    renamed = fingerprint(index_folder(tmp_path / "moved"), PLAIN)
    assert not {masked, renamed} & found


def test_sizes_are_brought_to_the_most_common_one(tmp_path, where):
    small, large = noise(12), noise(21)
    index = tiles_in(tmp_path / "t", [small, large, noise(16), noise(16)])
    packed = pack(index, PLAIN, folder=where)
    assert packed.images.shape[2:] == (16, 16)
    np.testing.assert_array_equal(by_name(index, packed, "a/00.tif")[:, 2:14, 2:14], small)
    np.testing.assert_array_equal(by_name(index, packed, "b/01.tif"), large[:, 2:18, 2:18])
    edge = np.ones((16, 16), bool)
    edge[2:14, 2:14] = False
    np.testing.assert_array_equal(packed.valid[0], np.repeat(~edge[None], 4, axis=0))
    assert packed.valid[1:].all()
    assert pack(index, PLAIN, TileReading(tile_px=10), folder=where).images.shape[2:] == (10, 10)


def test_tiles_that_are_not_square_are_centred(tmp_path, where):
    data = noise(16)[:, :, :11]
    index = tiles_in(tmp_path / "t", [data, noise(), noise()])
    packed = pack(index, PLAIN, folder=where)
    np.testing.assert_array_equal(packed.images[0][:, :, 2:13], data)
    assert packed.valid[0].sum() == data.size


def test_resized_tiles_take_nothing_from_invalid_pixels(tmp_path):
    data = np.full((4, 24, 24), 1000, np.uint16)
    data[:, :, :9] = 0
    image = raster.read(write_tile(tmp_path / "a.tif", data, names=list(BANDS), nodata=0))
    for px in (16, 24, 40):
        out, valid = to_image(image, PLAIN, BANDS, None, tile_px=px, fit="resize")
        assert out.dtype == np.uint16
        assert out.shape == valid.shape == (4, px, px)
        assert set(np.unique(out[valid])) == {1000}
        assert abs(valid.mean() - 15 / 24) <= 1 / px


def test_resizing_keeps_means_and_gradients(tmp_path):
    ramp = np.tile(np.linspace(0, 6000, 32), (1, 32, 1)).astype(np.uint16) + 10
    image = raster.read(write_tile(tmp_path / "a.tif", ramp, names=["B02"]))
    out, valid = to_image(image, PLAIN, ["B02"], None, tile_px=16, fit="resize")
    assert valid.all()
    assert abs(out.mean() - ramp.mean()) < 2
    np.testing.assert_allclose(out[0, 3], ramp[0, 0].reshape(16, 2).mean(1), atol=80)


def test_mixed_types_are_promoted(tmp_path, where):
    tiles = [noise(dtype=np.uint8), noise().astype(np.float32) / 4]
    packed = pack(tiles_in(tmp_path / "t", tiles), PLAIN, folder=where)
    assert packed.images.dtype == np.float32
    np.testing.assert_array_equal(packed.images[1], tiles[1])


# --- Validity ---------------------------------------------------------------------------------


def test_nodata_nan_and_masks_are_carried_into_the_batch(tmp_path, where):
    tiles = [noise().astype(np.float32) for _ in range(3)]
    tiles[0][1, :4] = -1
    tiles[1][2, 5, 5] = np.nan
    index = tiles_in(tmp_path / "t", tiles, nodata=-1)
    last = index.tiles[1].path
    mask = np.full((16, 16), 255, np.uint8)
    mask[:3] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(last, "r+") as target:
        target.write_mask(mask)
    index = index_folder(tmp_path / "t")
    expected = np.ones((3, 4, 16, 16), bool)
    order = [index.names.index(name) for name in ("a/00.tif", "b/01.tif", "a/02.tif")]
    expected[order[0], 1, :4] = False
    expected[order[1], 2, 5, 5] = False
    expected[index.names.index(last.relative_to(index.root).as_posix()), :, :3] = False
    packed = pack(index, PLAIN, folder=where)
    np.testing.assert_array_equal(packed.valid, expected)
    fill = np.array([1.0, 2.0, 3.0, 4.0])
    found = batch(packed, [2, 0, 1], fill=fill)
    known = expected[[2, 0, 1]]
    np.testing.assert_array_equal(found["valid"].numpy(), known)
    image = found["image"]
    assert image.dtype == torch.float32
    filled = np.broadcast_to(fill.reshape(1, -1, 1, 1), known.shape)
    np.testing.assert_array_equal(image.numpy()[~known], filled[~known])
    np.testing.assert_array_equal(image.numpy()[known], packed.images[[2, 0, 1]][known])


def test_the_sensors_own_nodata_counts_where_the_file_declares_none(tmp_path, where):
    data = noise()
    data[:, :5] = 0
    packed = pack(tiles_in(tmp_path / "t", [data, noise()]), L2A, TileReading(BANDS), folder=where)
    np.testing.assert_array_equal(packed.valid[0], data != 0)


def test_a_batch_of_whole_tiles_has_one_plane_of_validity(tmp_path, where):
    tiles = [noise() for _ in range(4)]
    packed = pack(tiles_in(tmp_path / "t", tiles), PLAIN, folder=where)
    found = batch(packed, np.array([3, 1]), fill=np.zeros(4))
    assert found["valid"].shape == (2, 1, 16, 16)
    assert found["valid"].all()
    np.testing.assert_array_equal(found["image"].numpy(), packed.images[[3, 1]].astype(np.float32))


def test_a_batch_does_not_write_into_the_pack(tmp_path, where):
    packed = pack(tiles_in(tmp_path / "t", [noise().astype("f4"), noise()]), PLAIN, folder=where)
    before = packed.images[0].copy()
    batch(packed, [0, 1], fill=np.zeros(4))["image"].fill_(7)
    np.testing.assert_array_equal(packed.images[0], before)
    images = noise().astype(np.float32)[None]
    to_batch(images, np.zeros(images.shape, bool), fill=np.zeros(4))
    assert images.min() >= 1


# --- Statistics -------------------------------------------------------------------------------


def halved(how):
    """Half of each band 1000 and half not there, for the reason given; and the file's profile."""
    data = np.full((4, 16, 16), 1000, np.float32 if how == "nan" else np.uint16)
    data[0::2, :8], data[1::2, 8:] = {"nan": (np.nan, np.nan)}.get(how, (0, 0))
    return data, ({"nodata": 0} if how == "nodata" else {})


@pytest.mark.parametrize("how", ["nodata", "nan", "sensor nodata"])
def test_nodata_is_no_part_of_the_statistics(tmp_path, where, how):
    data, profile = halved(how)
    sensor = L2A if how == "sensor nodata" else PLAIN
    index = tiles_in(tmp_path / "t", [data, data + 0], **profile)
    found = statistics(pack(index, sensor, TileReading(BANDS), folder=where), [0, 1])
    np.testing.assert_array_equal(found.mean, [1000] * 4)
    np.testing.assert_array_equal(found.sd, [0] * 4)
    np.testing.assert_array_equal(found.fill, [1000] * 4)
    np.testing.assert_array_equal(found.count, [256] * 4)


def test_masked_pixels_and_padding_are_no_part_of_the_statistics(tmp_path, where):
    data, _ = halved("mask")
    data[:, :8], data[:, 8:] = 0, 1000
    index = tiles_in(tmp_path / "t", [data, data[:, 8:, :8], data])
    mask = np.zeros((16, 16), np.uint8)
    mask[8:] = 255
    for tile in (index.tiles[0], index.tiles[1]):
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(tile.path, "r+") as target:
            target.write_mask(mask)
    found = statistics(pack(index_folder(tmp_path / "t"), PLAIN, folder=where), [0, 1, 2])
    np.testing.assert_array_equal(found.mean, [1000] * 4)
    np.testing.assert_array_equal(found.sd, [0] * 4)
    np.testing.assert_array_equal(found.count, [128 + 128 + 64] * 4)


def test_statistics_see_no_tile_but_those_named(tmp_path):
    tiles = [noise() for _ in range(6)]
    train, test = [0, 2, 4], [1, 3, 5]
    index = tiles_in(tmp_path / "t", tiles)
    before = statistics(pack(index, PLAIN, folder=tmp_path / "one"), train)
    for row in test:
        with rasterio.open(index.tiles[row].path, "r+") as target:
            target.write(target.read() * 100)
    packed = pack(index_folder(tmp_path / "t"), PLAIN, folder=tmp_path / "two")
    after = statistics(packed, train)
    for name in ("mean", "sd", "fill", "count"):
        assert getattr(before, name).tobytes() == getattr(after, name).tobytes()
    assert statistics(packed, test).mean.min() > 50 * before.mean.max()


def test_statistics_by_blocks_equal_numpys_in_any_order(tmp_path, where, monkeypatch):
    tiles = [(RNG.normal(5000, 3, (4, 16, 16)) + 900 * i).astype(np.uint16) for i in range(9)]
    for data in tiles[::2]:
        data[1, :3] = 0
    packed = pack(tiles_in(tmp_path / "t", tiles, nodata=0), PLAIN, folder=where)
    whole = statistics(packed, range(9))
    monkeypatch.setattr(tile_array, "_STATISTICS_BLOCK", 3000)
    blocks, shuffled = statistics(packed, range(9)), statistics(packed, RNG.permutation(9))
    pixels = np.ma.masked_array(packed.images, ~packed.valid).astype(np.float64)
    for found in (whole, blocks):
        np.testing.assert_allclose(found.mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
        np.testing.assert_allclose(found.sd, pixels.std(axis=(0, 2, 3)), rtol=1e-12)
    assert blocks.sd.tobytes() == shuffled.sd.tobytes()


def test_a_constant_band_has_a_sd_of_exactly_nothing(tmp_path, where):
    data = np.full((4, 16, 16), 0.1, np.float32)
    found = statistics(pack(tiles_in(tmp_path / "t", [data, data]), PLAIN, folder=where), [0, 1])
    np.testing.assert_array_equal(found.sd, [0] * 4)


def test_a_band_without_valid_training_pixels_is_an_error(tmp_path, where):
    data, whole = noise(), noise()
    data[2] = 0
    packed = pack(tiles_in(tmp_path / "t", [data, whole], nodata=0), PLAIN, folder=where)
    with pytest.raises(DataError, match=r"band B04: no valid pixel.*data\.bands"):
        statistics(packed, [0])
    assert statistics(packed, [0, 1]).count[2] == 256
    with pytest.raises(DataError, match="no valid training pixel"):
        statistics(packed, [])


def test_band_order_and_offset_make_no_difference_to_reflectance(tmp_path):
    levels = {"B02": 0.05, "B03": 0.08, "B04": 0.11, "B08": 0.35}
    found = []
    for sensor, names, offset in (
        (L2A, ["B02", "B03", "B04", "B08"], 0),
        (L2A_0400, ["B08", "B02", "B04", "B03"], 1000),
    ):
        digital = [round(levels[name] * 10000) + offset for name in names]
        data = np.tile(np.array(digital, np.uint16)[:, None, None], (1, 16, 16))
        index = tiles_in(tmp_path / sensor.name, [data, data], names=names)
        packed = pack(index, sensor, TileReading(BANDS), folder=tmp_path / f"p{offset}")
        image = batch(packed, [0, 1], fill=statistics(packed, [0]).fill)["image"]
        found.append(to_reflectance(image.numpy(), sensor))
    np.testing.assert_allclose(found[0], found[1], atol=1e-7)
    np.testing.assert_allclose(found[0][0, :, 0, 0], list(levels.values()), atol=1e-6)


# --- Which band is which ----------------------------------------------------------------------


def test_the_order_given_by_the_user_names_files_that_name_none(tmp_path, where):
    data = noise()
    index = tiles_in(tmp_path / "t", [data, noise()], names=None)
    given = ["B08", "B04", "B03", "B02"]
    packed = pack(index, L2A, TileReading(["B02", "B08"], file_bands=given), folder=where)
    np.testing.assert_array_equal(packed.images[0], data[[3, 0]])


def test_names_in_the_file_win_over_the_order_given(tmp_path, where):
    data = noise()
    index = tiles_in(tmp_path / "t", [data, noise()])
    packed = pack(index, L2A, TileReading(BANDS, file_bands=BANDS[::-1]), folder=where)
    np.testing.assert_array_equal(packed.images[0], data)


def test_the_order_given_wins_over_colours_and_meaningless_names(tmp_path, where):
    data = noise(dtype=np.uint8)
    write_tile(tmp_path / "t/a/0.tif", data, names=[f"Band_{i}" for i in range(4)])
    write_tile(tmp_path / "t/a/1.tif", data, names=["B02", "B02", "B02", "B08"])
    write_tile(tmp_path / "t/b/0.tif", data)  # GDAL flags the bands red, green, blue and alpha
    packed = pack(index_folder(tmp_path / "t"), PLAIN, TileReading(file_bands=BANDS), folder=where)
    for image in packed.images:
        np.testing.assert_array_equal(image, data)
    assert packed.valid is None


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        (None, {}, "bands without names"),
        (
            None,
            {"file_bands": ["B02", "B03", "B04"]},
            r"has 4 bands, but data\.file_bands names 3",
        ),
        (["B02", "B03", "B04", "B11"], {}, "band B08: missing"),
        (["B02", "B02", "B04", "B08"], {"bands": ["B02"]}, "B02: 2 times"),
    ],
)
def test_bands_that_do_not_fit_are_errors_that_name_the_file(tmp_path, where, names, options, said):
    write_tile(tmp_path / "t/a/0.tif", noise(), names=list(BANDS))
    bad = write_tile(tmp_path / "t/b/0.tif", noise(), names=names)
    if names is None:
        write_tile(tmp_path / "t/a/0.tif", noise())
    sensor = SENSORS["sentinel2_l2a"]
    reading = TileReading(**({"bands": BANDS} | options))
    with pytest.raises(BandError, match=said) as caught:
        pack(index_folder(tmp_path / "t"), sensor, reading, folder=where)
    assert str(bad) in str(caught.value) or names is None
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not where.exists()


def test_a_band_the_sensor_does_not_know_is_an_error(tmp_path, where):
    index = tiles_in(tmp_path / "t", [noise(), noise()])
    with pytest.raises(BandError, match="B8B"):
        pack(index, L2A, TileReading(["B8B"]), folder=where)


# --- Tiles and folders that cannot be used ----------------------------------------------------


@pytest.mark.parametrize("fault", ["nodata", "nan", "short", "empty", "missing", "complex"])
def test_a_faulty_tile_is_named_and_leaves_no_pack(tmp_path, where, fault):
    index = tiles_in(tmp_path / "t", [noise() for _ in range(30)], nodata=0)
    path = index.tiles[17].path
    faulty = {
        "nodata": np.zeros((4, 16, 16), np.uint16),
        "nan": np.full((4, 16, 16), np.nan, np.float32),
        "complex": noise().astype(np.complex64),
    }
    if fault in faulty:
        write_tile(path, faulty[fault], names=list(BANDS), nodata=0 if fault == "nodata" else None)
    elif fault == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 900 if fault == "short" else 0])
    with pytest.raises(DataError) as caught:
        pack(index, PLAIN, folder=where)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not where.exists() or not list(where.iterdir())


@pytest.mark.parametrize("room", [100, 5000, 150_000])
def test_a_full_disk_leaves_no_half_written_pack(tmp_path, where, room):
    tiles = [noise(64) for _ in range(8)]
    tiles[5][:, :4] = 0
    index = tiles_in(tmp_path / "t", tiles, nodata=0)
    with full_disk(room), pytest.raises(OutputError, match="could not be written"):
        pack(index, PLAIN, folder=where)
    assert not list(where.parent.glob(f"*{where.name}*"))
    assert pack(index, PLAIN, folder=where).images.shape == (8, 4, 64, 64)


def test_a_pack_cut_off_by_a_kill_is_made_anew(tmp_path, where):
    index = tiles_in(tmp_path / "t", [noise(), noise()])
    whole = pack(index, PLAIN, folder=where)
    expected = np.array(whole.images)
    shape = whole.images.shape
    (where / "pack.json").write_text(json.dumps({"geotl_pack": tile_array.PACK_FORMAT}))
    np.save(where / "images.npy", np.zeros(shape, np.uint16))
    (where / ".images-abc.npy").write_bytes(b"half")
    np.testing.assert_array_equal(pack(index, PLAIN, folder=where).images, expected)
    assert sorted(p.name for p in where.iterdir()) == ["checksums.json", "images.npy", "pack.json"]
    (where / "images.npy").write_bytes((where / "images.npy").read_bytes()[:-50])
    np.testing.assert_array_equal(pack(index, PLAIN, folder=where).images, expected)


def test_two_runs_that_pack_the_same_tiles_at_once_both_get_them(tmp_path, where):
    """The other one begins and ends while this one reads; it used to delete this one's files."""
    index = tiles_in(tmp_path / "t", [noise() for _ in range(4)])

    def other(done: int, _: int) -> None:
        if done == 2:
            pack(index, PLAIN, folder=where)

    found = pack(index, PLAIN, folder=where, progress=other)
    np.testing.assert_array_equal(found.images, pack(index, PLAIN, folder=where).images)
    assert len(list(where.parent.glob(f"*{where.name}*"))) == 1


@pytest.mark.parametrize("name", ["images.npy", "valid.npy", "pack.json"])
def test_a_users_own_files_are_not_overwritten(tmp_path, where, name):
    index = tiles_in(tmp_path / "t", [noise(), noise()])
    where.mkdir()
    (where / name).write_text('{"mine": 1}')
    with pytest.raises(OutputError, match="not written by geotl"):
        pack(index, PLAIN, folder=where)
    assert (where / name).read_text() == '{"mine": 1}'
    assert len(list(where.iterdir())) == 1


def test_a_folder_with_other_files_is_refused(tmp_path, where):
    """A pack takes its place as a whole folder, so that two runs cannot mix theirs."""
    index = tiles_in(tmp_path / "t", [noise(), noise()])
    pack(index, PLAIN, folder=where)
    (where / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt: not written by geotl"):
        pack(index, PLAIN, TileReading(["B02"]), folder=where)
    assert (where / "notes.txt").read_text() == "mine"


def test_a_later_pack_without_invalid_pixels_leaves_no_old_validity(tmp_path, where):
    gap = noise()
    gap[0, :3] = 0
    index = tiles_in(tmp_path / "t", [gap, noise()], nodata=0)
    assert pack(index, PLAIN, folder=where).valid is not None
    assert pack(index, PLAIN, TileReading(["B08"]), folder=where).valid is None
    assert not (where / "valid.npy").exists()


def test_a_pickled_array_is_never_loaded(tmp_path, where):
    index = tiles_in(tmp_path / "t", [noise(), noise()])
    pack(index, PLAIN, folder=where)
    np.save(where / "images.npy", np.array([{"code": 1}], dtype=object), allow_pickle=True)
    assert pack(index, PLAIN, folder=where).images.dtype == np.uint16


# --- Prediction -------------------------------------------------------------------------------


def test_tiles_read_for_prediction_equal_the_packed_ones(tmp_path, where):
    tiles = [noise(px) for px in (16, 16, 12, 20, 16, 16, 16)]
    tiles[1][2, :5] = 0
    index = tiles_in(tmp_path / "t", tiles, nodata=0)
    packed = pack(index, PLAIN, folder=where)
    paths = [tile.path for tile in index.tiles]
    blocks = list(read_tiles(paths, PLAIN, BANDS, None, tile_px=16, block=3))
    assert [len(images) for images, _ in blocks] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([images for images, _ in blocks]), packed.images)
    np.testing.assert_array_equal(np.concatenate([valid for _, valid in blocks]), packed.valid)


def test_reading_for_prediction_keeps_only_a_few_tiles_waiting(tmp_path, monkeypatch):
    index = tiles_in(tmp_path / "t", [noise() for _ in range(60)])
    started = []
    monkeypatch.setattr(
        images,
        "read",
        lambda path, **options: started.append(path) or raster.read(path, **options),
    )
    paths = [tile.path for tile in index.tiles]
    next(iter(read_tiles(paths, PLAIN, BANDS, None, 16, block=2)))
    assert len(started) < 30


# --- Real imagery -----------------------------------------------------------------------------


@pytest.mark.real_data
def test_eurosat_ms_loads_by_name_with_b8a_last(real_data, where):
    index = index_folder(real_data / "eurosat_ms")
    sensor = SENSORS["eurosat_ms"]
    packed = pack(index, sensor, folder=where)
    assert packed.images.shape == (3, 13, 64, 64)
    assert packed.images.dtype == np.uint16
    assert packed.bands == sensor.names
    assert packed.bands.index("B8A") == 8
    raw = np.stack([rasterio.open(tile.path).read() for tile in index.tiles])
    np.testing.assert_array_equal(packed.images[:, packed.bands.index("B8A")], raw[:, 12])
    np.testing.assert_array_equal(packed.images[:, packed.bands.index("B09")], raw[:, 8])
    released = pack(index, sensor, TileReading(sensor.file_order), folder=where)
    np.testing.assert_array_equal(released.images, raw)
    found = statistics(released, range(3))
    np.testing.assert_allclose(found.mean, raw.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(found.sd, raw.std(axis=(0, 2, 3)), rtol=1e-9)
    assert 0.05 < to_reflectance(found.mean, sensor)[1] < 0.15, "blue, of cloudless ground"
    assert all(crs.startswith("EPSG:32") for crs in packed.crs)
    # The narrow infrared band looks like its wide neighbour; the water-vapour band does not.
    near = [np.corrcoef(raw[:, b].ravel(), raw[:, 7].ravel())[0, 1] for b in (12, 8)]
    assert near[0] > 0.99 > near[1]


@pytest.mark.real_data
def test_ucmerceds_unequal_tiles_become_one_size(real_data, where):
    index = index_folder(real_data / "ucmerced")
    sizes = [raster.describe(tile.path).grid for tile in index.tiles]
    odd = [i for i, grid in enumerate(sizes) if (grid.height, grid.width) != (256, 256)]
    assert odd, "the release has a few smaller tiles"
    chosen = replace(index, tiles=tuple(index.tiles[i] for i in [*odd, *range(6)]))
    packed = pack(chosen, SENSORS["rgb"], folder=where)
    assert packed.images.shape[1:] == (3, 256, 256)
    for row, i in enumerate(odd):
        kept = min(sizes[i].height, 256) * min(sizes[i].width, 256)
        assert packed.valid[row].sum() == 3 * kept
    assert packed.valid[len(odd) :].any(axis=(1, 2, 3)).all()


@pytest.mark.real_data
def test_eurosat_rgb_packs_whole_and_reopens(real_data, where):
    index = index_folder(real_data / "eurosat_rgb")
    packed = pack(index, SENSORS["eurosat_rgb"], folder=where)
    assert packed.images.shape == (1350, 3, 64, 64)
    assert packed.images.dtype == np.uint8
    assert packed.valid is None
    assert packed.crs == (None,) * 1350
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(index.tiles[700].path) as source:
        np.testing.assert_array_equal(packed.images[700], source.read())
    found = statistics(packed, range(0, 1350, 3))
    part = np.asarray(packed.images[::3], dtype=np.float64)
    np.testing.assert_allclose(found.mean, part.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(found.sd, part.std(axis=(0, 2, 3)), rtol=1e-12)
    written = (where / "images.npy").stat().st_mtime_ns
    assert pack(index, SENSORS["eurosat_rgb"], folder=Path(where)).fingerprint == packed.fingerprint
    assert (where / "images.npy").stat().st_mtime_ns == written
