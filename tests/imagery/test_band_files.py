"""Tiles in several files: which file is which band, one grid for all, faults named."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.tiles import write_tile
from rasterio.transform import from_origin

from geotl.data.read_tile import TileReading
from geotl.data.tile_array import fingerprint, pack, read_tiles, statistics
from geotl.data.tiles import index_folder, list_images
from geotl.errors import BandError, DataError
from geotl.imagery.band_files import band_in_name, is_band_folder, read_folder
from geotl.imagery.scene import open_scene
from geotl.imagery.sensors import SENSORS, custom_sensor, sensor_variant
from geotl.imagery.windows import Window

L2A, L1C = SENSORS["sentinel2_l2a"], SENSORS["sentinel2_l1c"]
RGB = SENSORS["rgb"]
RNG = np.random.default_rng(9)
SIDES = {"B02": 24, "B8A": 12, "B01": 4}


def band_file(folder, band, data, *, px=None, prefix="x_", **more):
    side = 240 / data.shape[-1] if px is None else px
    place = {"transform": from_origin(500000, 4600000, side, side)} | more
    return write_tile(folder / f"{prefix}{band}.tif", data[None], **place)


def made(folder, sides=SIDES, low=1, **more):
    """One tile of 240 m in band files of several resolutions; its planes as written."""
    planes = {b: RNG.integers(low, 5000, (n, n)).astype(np.uint16) for b, n in sides.items()}
    for band, data in planes.items():
        band_file(folder, band, data, **more)
    return planes


def two_classes(root):
    return {name: made(root / name / f"tile_{name}") for name in ("forest", "water")}


def test_a_folder_of_band_files_is_one_tile_on_the_finest_grid(tmp_path):
    planes = two_classes(tmp_path / "t")
    index = index_folder(tmp_path / "t", sensor=L2A)
    assert index.names == ("forest/tile_forest", "water/tile_water")
    packed = pack(index, L2A, TileReading(["B8A", "B02", "B01"]), folder=tmp_path / "p")
    assert packed.images.shape == (2, 3, 24, 24)
    assert packed.images.dtype == np.uint16
    assert packed.bands == ("B8A", "B02", "B01")
    assert packed.footprints[0] == (500000, 4599760, 500240, 4600000)
    for image, own in zip(packed.images, planes.values(), strict=True):
        np.testing.assert_array_equal(image[1], own["B02"])
        np.testing.assert_allclose(image[2, 3::6, 3::6] * 1.0, own["B01"], atol=900)
        assert (
            np.corrcoef(image[0].ravel(), np.kron(own["B8A"], np.ones((2, 2))).ravel())[0, 1] > 0.8
        )


def test_the_finest_of_the_bands_wanted_decides(tmp_path):
    two_classes(tmp_path / "t")
    index = index_folder(tmp_path / "t", sensor=L2A)
    packed = pack(index, L2A, TileReading(["B8A", "B01"]), folder=tmp_path / "p")
    assert packed.images.shape == (2, 2, 12, 12)


def test_prediction_reads_the_same_pixels(tmp_path):
    two_classes(tmp_path / "t")
    bands = tuple(SIDES)
    index = index_folder(tmp_path / "t", sensor=L2A)
    packed = pack(index, L2A, TileReading(bands), folder=tmp_path / "p")
    paths = list_images([tmp_path / "t"], L2A)
    assert paths == [tile.path for tile in index.tiles]
    assert list_images([paths[1]], L2A) == paths[1:]
    images, _ = next(read_tiles(paths, L2A, bands, None, 24))
    np.testing.assert_array_equal(images, packed.images)


def test_nodata_of_a_coarse_band_does_not_bleed(tmp_path):
    """Declared in the file or by the sensor alone; one band may be gone where another is not."""
    for declared in (0, None):
        folder = tmp_path / f"{declared}"
        fine = np.full((24, 24), 1000, np.uint16)
        coarse = np.full((4, 4), 1000, np.uint16)
        coarse[:, :2] = 0
        for name in ("a", "b"):
            band_file(folder / "t" / name / "tile", "B02", fine, nodata=declared)
            band_file(folder / "t" / name / "tile", "B01", coarse, nodata=declared)
        index = index_folder(folder / "t", sensor=L2A)
        packed = pack(index, L2A, TileReading(["B02", "B01"]), folder=folder / "p")
        assert packed.valid[:, 0].all()
        assert not packed.valid[:, 1, :, :12].any()
        assert packed.valid[:, 1, :, 12:].all()
        found = statistics(packed, [0, 1])
        np.testing.assert_array_equal(found.mean, [1000, 1000])
        np.testing.assert_array_equal(found.sd, [0, 0])


@pytest.mark.parametrize(
    ("stem", "band"),
    [
        ("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_75_43_B01", "B01"),
        ("T33UUU_20170216T102101_B8A", "B8A"),
        ("T33UUU_20170216T102101_B02_10m", "B02"),
        ("B12", "B12"),
        ("HLS.S30.T10SEG.2020273T190109.v2.0.B03", "B03"),
        ("scene-nir", "B08"),
        ("scene_narrow_nir", "B8A"),
        ("cloud_mask", None),
        ("B02_mask", None),
        ("thumbnail", None),
        ("10m", None),
        ("", None),
    ],
)
def test_a_files_last_words_tell_its_band(stem, band):
    assert band_in_name(stem, L2A) == band


def test_a_landsat_products_files_are_told_apart():
    product = "LC08_L2SP_190026_20200401_20200822_02_T1"
    ends = ("SR_B4", "ST_B10", "QA_PIXEL", "SR_QA_AEROSOL")
    found = [band_in_name(f"{product}_{end}", SENSORS["landsat8_sr"]) for end in ends]
    assert found == ["SR_B4", None, None, None]
    assert band_in_name("LE07_x_B6_VCID_2", SENSORS["landsat7_toa"]) == "B6_VCID_2"


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    planes = made(tmp_path / "tile")
    write_tile(tmp_path / "tile" / "cloud_mask.tif", np.zeros((1, 5, 5), np.uint8))
    write_tile(tmp_path / "tile" / "thumbnail.png", np.zeros((3, 9, 9), np.uint8), driver="PNG")
    (tmp_path / "tile" / "labels.json").write_text("{}")
    (tmp_path / "tile" / ".x_B02.tif").write_bytes(b"hidden")
    image = read_folder(tmp_path / "tile", L2A, ["B02", "B01"])
    np.testing.assert_array_equal(image.data[0], planes["B02"])


def test_a_files_description_tells_its_band_where_the_name_does_not(tmp_path):
    planes = {"B02": np.full((24, 24), 7, np.uint16), "B8A": np.full((12, 12), 9, np.uint16)}
    for band, data in planes.items():
        file = band_file(tmp_path / "tile", "B03" if band == "B02" else "one", data, prefix="x")
        with rasterio.open(file, "r+") as target:
            target.descriptions = (band,)
    image = read_folder(tmp_path / "tile", L2A, ["B8A"])
    assert image.data.max() == image.data.min() == 9
    (tmp_path / "tile" / "xB03.tif").rename(tmp_path / "tile" / "x_B03.tif")
    with pytest.raises(BandError, match="named as band B03, but described inside as B02"):
        read_folder(tmp_path / "tile", L2A, ["B03"])


def test_arrays_and_jpeg_2000_may_be_band_files(tmp_path):
    data = RNG.integers(1, 99, (24, 24)).astype(np.uint16)
    (tmp_path / "tile").mkdir()
    np.save(tmp_path / "tile" / "B02.npy", data)
    np.save(tmp_path / "tile" / "B01.npy", data[:4, :4])
    image = read_folder(tmp_path / "tile", L2A, ["B02", "B01"])
    np.testing.assert_array_equal(image.data[0], data)
    assert image.data.shape == (2, 24, 24)
    band_file(tmp_path / "tile", "B8A", data)
    with pytest.raises(
        DataError, match=r"B02\.npy lies in no reference system.*EPSG:32633"
    ) as caught:
        read_folder(tmp_path / "tile", L2A, ["B8A", "B02"])
    assert str(caught.value).startswith(str(tmp_path / "tile"))


def test_types_are_promoted_and_dates_kept(tmp_path):
    band_file(tmp_path / "tile", "B02", np.full((24, 24), 3, np.uint8))
    file = band_file(tmp_path / "tile", "B01", np.full((4, 4), -3, np.int16))
    with rasterio.open(file, "r+") as target:
        target.update_tags(acquired="2020-05-17")
    image = read_folder(tmp_path / "tile", L2A, ["B02", "B01"])
    assert image.data.dtype == np.int16
    assert image.acquired == "2020-05-17"
    assert set(np.unique(image.data[1])) == {-3}


@pytest.mark.parametrize("fault", ["missing", "twice", "many", "elsewhere", "short", "turned"])
def test_faults_are_one_line_that_names_the_tile(tmp_path, fault):
    root = tmp_path / "t"
    two_classes(root)
    tile = root / "water" / "tile_water"
    said = {
        "missing": "band B01: not in x_B02.tif, x_B8A.tif",
        "twice": r"band B01: in 2 files \(x_B01.tif, y_B01.tif\)",
        "many": "has 2 bands",
        "elsewhere": "x_B01.tif covers .* do not cover the same area",
        "short": "truncated",
        "turned": "turned against",
    }[fault]
    if fault == "missing":
        (tile / "x_B01.tif").unlink()
    elif fault == "twice":
        shutil.copy(tile / "x_B01.tif", tile / "y_B01.tif")
    elif fault == "many":
        write_tile(tile / "x_B01.tif", np.ones((2, 4, 4), np.uint16))
    elif fault == "elsewhere":
        far = from_origin(500240, 4600000, 60, 60)
        write_tile(tile / "x_B01.tif", np.ones((1, 4, 4), np.uint16), transform=far)
    elif fault == "turned":
        turned = from_origin(500000, 4600000, 60, 60) @ rasterio.Affine.rotation(30)
        write_tile(tile / "x_B01.tif", np.ones((1, 4, 4), np.uint16), transform=turned)
    else:
        (tile / "x_B01.tif").write_bytes((tile / "x_B01.tif").read_bytes()[:-20])  # the pixels
    with pytest.raises(DataError, match=said) as caught:
        pack(index_folder(root, sensor=L2A), L2A, TileReading(tuple(SIDES)), folder=tmp_path / "p")
    assert str(tile) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_copies_are_found_whatever_their_files_are_called(tmp_path):
    root = tmp_path / "t"
    two_classes(root)
    copy = root / "water" / "again"
    copy.mkdir()
    for file in (root / "forest" / "tile_forest").iterdir():
        shutil.copy(file, copy / file.name.replace("x_", "other_"))
    index = index_folder(root, sensor=L2A)
    contents = dict(zip(index.names, index.contents, strict=True))
    assert contents["water/again"] == contents["forest/tile_forest"] != contents["water/tile_water"]
    before = fingerprint(index, L2A)
    (copy / "other_B02.tif.msk").write_bytes(b"a mask beside one band")
    assert fingerprint(index_folder(root, sensor=L2A), L2A) != before


def test_pictures_that_only_end_like_bands_stay_tiles_of_their_own(tmp_path):
    """a.png to h.png are no band files of red, green and blue, though b and g stand among them."""
    picture = RNG.integers(0, 255, (3, 8, 8)).astype(np.uint8)
    for name in ("city", "field"):
        for letter in "abcdefgh":
            write_tile(tmp_path / name / f"{name}_{letter}.png", picture, driver="PNG")
    assert not is_band_folder(tmp_path / "city", RGB)
    assert len(list_images([tmp_path], RGB)) == 16
    assert len(index_folder(tmp_path, sensor=RGB)) == 16
    drone = custom_sensor("drone", [{"name": n} for n in ("R", "G", "N")])
    for letter in "RGN":
        write_tile(tmp_path / "shot" / f"shot_{letter}.tif", picture[:1])
    assert is_band_folder(tmp_path / "shot", drone)


def test_without_the_right_sensor_the_folder_is_refused_with_the_remedy(tmp_path):
    two_classes(tmp_path / "t")
    for sensor in (None, RGB):
        with pytest.raises(DataError, match=r"contains folders, not tiles.*data\.sensor"):
            index_folder(tmp_path / "t", sensor=sensor)


# --- Real imagery -----------------------------------------------------------------------------


def mean_within(image, factor):
    return image.reshape(image.shape[0] // factor, factor, -1, factor).mean(axis=(1, 3))


@pytest.mark.real_data
def test_a_bigearthnet_patch_is_one_tile_of_twelve_bands(real_data, tmp_path):
    for name in ("Pastures", "Mixed forest"):
        shutil.copytree(real_data / "bigearthnet_s2_patch", tmp_path / "t" / name / "patch_75_43")
    index = index_folder(tmp_path / "t", sensor=L2A)
    assert index.contents[0] == index.contents[1]
    packed = pack(index, L2A, folder=tmp_path / "p")
    assert packed.images.shape == (2, 12, 120, 120)
    assert packed.crs == ("EPSG:32633",) * 2
    assert packed.footprints[0] == (390000, 5347200, 391200, 5348400)
    image = dict(zip(packed.bands, packed.images[0].astype(np.float64), strict=True))
    for file in (real_data / "bigearthnet_s2_patch").iterdir():
        with rasterio.open(file) as source:
            raw = source.read(1).astype(np.float64)
        found = image[band_in_name(file.stem, L2A)]
        factor = 120 // raw.shape[0]
        if factor == 1:
            np.testing.assert_array_equal(found, raw)
        else:
            back = mean_within(found, factor)
            np.testing.assert_allclose(back.mean(), raw.mean(), rtol=5e-3)
            shifted = [
                np.corrcoef(np.roll(back, (dy, dx), (0, 1)).ravel(), raw.ravel())[0, 1]
                for dy in (0, 1, -1)
                for dx in (0, 1, -1)
            ]
            assert shifted[0] == max(shifted) > 0.97
    near = np.corrcoef(image["B8A"].ravel(), image["B08"].ravel())[0, 1]
    assert near > 0.95, "narrow and wide infrared lie on each other"


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "sensor", "shape"),
    [
        ("sentinel2_l1c_havel", L1C, (13, 768, 1536)),
        ("sentinel2_l2a_cells", SENSORS["sentinel2_l2a_n0400"], (12, 1068, 1068)),
    ],
)
def test_a_sentinel_scene_is_read_as_one_tile(real_data, folder, sensor, shape):
    place: Path = real_data / folder
    tile = place if folder.endswith("havel") else next(place.iterdir())
    assert is_band_folder(tile, sensor)
    image = read_folder(tile, sensor, sensor.names)
    assert image.data.shape == shape
    assert image.data.dtype == np.uint16
    assert image.grid.resolution == (10, 10)
    for band, factor in (("B8A", 2), ("B01", 6)):
        with rasterio.open(next(tile.glob(f"*{band}.*"))) as source:
            raw = source.read(1)
        back = mean_within(image.data[sensor.names.index(band)].astype(float), factor)
        shifted = [np.corrcoef(np.roll(back, n, 1).ravel(), raw.ravel())[0, 1] for n in (0, 1, -1)]
        assert shifted[0] == max(shifted) > 0.98


GLS = {"10": "B1", "20": "B2", "30": "B3", "40": "B4", "50": "B5", "70": "B7"}


@pytest.mark.parametrize(
    ("sensor", "names"),
    [
        ("landsat7_sr", {f"lsat7_2000_{n}": b for n, b in GLS.items()}),
        ("landsat5_toa", {f"p016r035_5dt19870524_z17_nn{n}": b for n, b in GLS.items()}),
        ("landsat7_toa", {"a_nn61": "B6_VCID_1", "a_nn62": "B6_VCID_2", "a_nn80": "B8"}),
        ("landsat8_sr", {f"LC08_L2SP_193023_20200401_02_T1_SR_B{n}": f"B{n}" for n in "1234567"}),
        ("landsat8_sr", {"LC08_193023_2020_sr_band4": "B4"}),
        ("landsat7_sr", {"LE07_L2SP_016035_20020524_20200916_02_T1_SR_B7": "B7"}),
        ("landsat7_toa", {"LE07_L1TP_016035_20020524_02_T1_B6_VCID_2": "B6_VCID_2"}),
        ("sentinel2_l2a", {"T33UUU_20200501T101031_B04_10m": "B04", "T33_B8A_20m": "B8A"}),
    ],
)
def test_files_are_known_by_their_makers_numbers(sensor, names):
    """Red before: Global Land Survey's numbers and ESPA's names were nobody's."""
    known = SENSORS[sensor]
    for stem, band in names.items():
        assert band_in_name(stem, known) == known.band(band).name


def test_global_land_surveys_numbers_are_no_other_sensors_and_make_no_tile(tmp_path):
    for n in GLS:
        band_file(tmp_path / "forest", n, np.ones((8, 8), np.uint8), prefix="tile_")
    assert not is_band_folder(tmp_path / "forest", SENSORS["landsat7_sr"])
    assert band_in_name("tile_10", SENSORS["landsat8_toa"]) is None
    assert band_in_name("tile_40", L2A) is None


@pytest.mark.parametrize("stem", ["lsat7_2000_{}", "p016r035_7dt20020524_z17_nn{}"])
def test_a_scene_in_files_of_global_land_survey_is_opened(tmp_path, stem):
    planes = {n: RNG.integers(1, 200, (24, 24)).astype(np.uint8) for n in GLS}
    for n, data in planes.items():
        band_file(tmp_path / "scene", stem.format(n), data, prefix="")
    scene = open_scene(tmp_path / "scene", sensor_variant("landsat7_sr", {"dtype": "uint8"}))
    data, _ = scene.read(Window(0, 0, 24, 24))
    assert scene.bands == ("SR_B1", "SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B7")
    np.testing.assert_array_equal(data, np.stack(list(planes.values())))
