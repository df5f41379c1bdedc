"""Sensors: names, aliases, radiometry, and bands found by name."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geotl.cli.main import main
from geotl.errors import BandError, DataError
from geotl.imagery.sensor_table import PRODUCTS, band_key
from geotl.imagery.sensors import (
    SENSORS,
    custom_sensor,
    get_sensor,
    match_bands,
    sensor_from,
    sensor_variant,
    to_reflectance,
)

ALL = sorted(SENSORS)
# sensor -> a DN and its value, then (another DN, its value)
KNOWN = {
    **dict.fromkeys(
        ("sentinel2_l1c", "sentinel2_l2a", "eurosat_ms", "planetscope4", "planetscope8"),
        (2500, 0.25, (10000, 1.0)),
    ),
    **dict.fromkeys(("sentinel2_l1c_n0400", "sentinel2_l2a_n0400"), (3500, 0.25, (1000, 0.0))),
    **dict.fromkeys(("rgb", "naip"), (51, 0.2, (255, 1.0))),
    "eurosat_rgb": (1, 0.0, (255, 0.275)),
    **dict.fromkeys(
        ("landsat5_sr", "landsat7_sr", "landsat8_sr", "landsat9_sr"),
        (10000, 0.075, (43636, 0.99999)),
    ),
    **dict.fromkeys(
        ("landsat5_toa", "landsat7_toa", "landsat8_toa", "landsat9_toa"),
        (0.25, 0.25, (293.15, 293.15)),
    ),
}


@pytest.mark.parametrize("name", ALL)
class TestTheContractOfEverySensor:
    def test_every_name_and_alias_leads_to_exactly_one_band(self, name):
        sensor = get_sensor(name)
        for band in sensor.bands:
            for word in band.words:
                assert sensor.band(word.upper()) is band
                assert sensor.band(f" {word.lower()} ") is band
        words = [band_key(word) for band in sensor.bands for word in band.words]
        assert len(words) == len(set(words))
        assert sensor.title
        assert sensor.source
        assert sensor.name == name

    def test_wavelengths_and_resolutions_are_those_of_light_and_ground(self, name):
        for band in SENSORS[name].bands:
            assert 400 < band.wavelength_nm < 13000
            assert band.resolution_m is None or 0.1 <= band.resolution_m <= 120
            thermal = band.wavelength_nm > 3500
            assert (SENSORS[name].unit(band.name) == "kelvin") == thermal
        colours = [SENSORS[name].band(c).wavelength_nm for c in ("blue", "green", "red")]
        assert colours == sorted(colours)

    def test_known_dn_become_the_value_they_stand_for(self, name):
        sensor = SENSORS[name]
        dn, value, highest = KNOWN[name]
        got = to_reflectance(np.array([dn, *highest[:1]], np.float64), sensor)
        np.testing.assert_allclose(got, [value, *highest[1:]], atol=1e-9)

    def test_bands_are_found_by_any_name_in_any_order(self, name):
        sensor = SENSORS[name]
        random = np.random.default_rng(1)
        order = random.permutation(len(sensor.bands))
        there = [sensor.bands[i].words[random.integers(len(sensor.bands[i].words))] for i in order]
        values = np.arange(len(order))[order]
        np.testing.assert_array_equal(
            values[list(match_bands(sensor, there, sensor.names))], np.arange(len(order))
        )

    def test_files_without_names_have_a_stated_order_or_are_refused(self, name):
        sensor = SENSORS[name]
        unnamed = [None] * len(sensor.bands)
        if sensor.file_order:
            assert sorted(sensor.canonical(sensor.file_order)) == sorted(sensor.names)
            found = match_bands(sensor, unnamed, sensor.file_order)
            assert found == tuple(range(len(unnamed)))
        else:
            with pytest.raises(BandError, match=r"bands without names.*data\.file_bands"):
                match_bands(sensor, unnamed, sensor.names)

    def test_it_comes_back_from_json(self, name):
        assert sensor_from(json.loads(json.dumps(asdict(SENSORS[name])))) == SENSORS[name]


def test_the_number_in_a_name_means_what_the_sensor_means_by_it():
    """Landsat 8 and 9 put a coastal band first, so every number moves up by one."""
    for level in ("sr", "toa"):
        for old in ("landsat5", "landsat7"):
            sensor = SENSORS[f"{old}_{level}"]
            for word in ("B4", "SR_B4", "B04", "b4"):
                assert sensor.band(word) is sensor.band("nir")
        for new in ("landsat8", "landsat9"):
            sensor = SENSORS[f"{new}_{level}"]
            for word in ("B4", "SR_B4", "B04", "b4"):
                assert sensor.band(word) is sensor.band("red")
    assert SENSORS["sentinel2_l2a"].band("B4") is SENSORS["sentinel2_l2a"].band("red")
    assert match_bands(SENSORS["landsat5_sr"], ["B3", "B4"], ["red", "nir"]) == (0, 1)
    assert match_bands(SENSORS["landsat8_sr"], ["B4", "B5"], ["red", "nir"]) == (0, 1)


def test_planetscope_and_naip_files_are_in_their_makers_order():
    assert match_bands(SENSORS["naip"], [None] * 4, ["nir", "red"]) == (3, 0)
    assert match_bands(SENSORS["planetscope4"], [None] * 4, ["red", "blue"]) == (2, 0)
    assert match_bands(SENSORS["planetscope8"], [None] * 8, ["red", "green"]) == (5, 3)


def test_landsats_scaling_is_the_example_that_usgs_gives():
    got = to_reflectance(np.array([18639], np.uint16), SENSORS["landsat9_sr"])
    assert got[0] == pytest.approx(0.313, abs=5e-4)


def test_sentinel_2_bands_rise_in_wavelength_and_l2a_lacks_cirrus():
    for name in ("sentinel2_l1c", "sentinel2_l1c_n0400", "sentinel2_l2a", "sentinel2_l2a_n0400"):
        sensor = SENSORS[name]
        lengths = sensor.wavelengths(sensor.names)
        assert list(lengths) == sorted(lengths)
        assert ("B10" in sensor.names) == ("l1c" in name)
        assert {band.resolution_m for band in sensor.bands} == {10, 20, 60}


def test_a_resampled_or_gdal_written_name_is_understood():
    sensor = SENSORS["sentinel2_l1c"]
    assert sensor.band("B4, central wavelength 665 nm").name == "B04"
    assert sensor.band("b08a").name == "B8A"
    assert sensor.band("Water_Vapour").name == "B09"
    assert sensor.band("B8").name == "B08"


def test_equal_reflectance_from_before_and_after_baseline_0400():
    old = np.array([[1, 2500, 10000]], np.uint16)
    for level in ("l1c", "l2a"):
        before = to_reflectance(old, SENSORS[f"sentinel2_{level}"])
        after = to_reflectance(old + 1000, SENSORS[f"sentinel2_{level}_n0400"])
        np.testing.assert_allclose(before, after, atol=1e-7)
        np.testing.assert_allclose(before, [[1e-4, 0.25, 1.0]], rtol=1e-5)


def test_dark_dn_below_the_offset_do_not_wrap_round():
    assert to_reflectance(np.array([900], np.uint16), SENSORS["sentinel2_l2a_n0400"])[0] < 0


def test_the_eurosat_rendering_spans_0_to_2750():
    got = to_reflectance(np.array([1, 255], np.uint8), SENSORS["eurosat_rgb"])
    np.testing.assert_allclose(got, [0, 0.275], atol=1e-7)


def test_plain_rgb_spans_0_to_1():
    got = to_reflectance(np.array([0, 255], np.uint8), SENSORS["rgb"])
    np.testing.assert_allclose(got, [0, 1])


def test_float64_input_keeps_its_precision():
    dn = np.array([1234.56789012])
    got = to_reflectance(dn, SENSORS["sentinel2_l1c"])
    assert got.dtype == np.float64
    assert got[0] == pytest.approx(0.123456789012, rel=1e-14)
    assert to_reflectance(dn.astype(np.float32), SENSORS["sentinel2_l1c"]).dtype == np.float32


@given(st.permutations(range(13)), st.integers(1, 13))
def test_bands_are_found_by_name_in_any_file_order(order, wanted):
    sensor = SENSORS["sentinel2_l1c"]
    values = np.arange(13)
    available = [sensor.bands[i].aliases[0] for i in order]
    positions = match_bands(sensor, available, sensor.names[:wanted])
    np.testing.assert_array_equal(values[list(order)][list(positions)], values[:wanted])


def test_eurosat_ms_files_without_names_have_b8a_last():
    sensor = SENSORS["eurosat_ms"]
    assert match_bands(sensor, [None] * 13, ["B08", "B8A", "B09", "B12"]) == (7, 12, 8, 11)


def test_names_in_the_file_win_over_the_stated_order():
    assert match_bands(SENSORS["rgb"], ["blue", "green", "red"], ["red", "blue"]) == (2, 0)


def test_unnamed_bands_are_never_taken_by_position():
    with pytest.raises(BandError, match=r"has 13 bands without names.*data\.file_bands"):
        match_bands(SENSORS["sentinel2_l1c"], [None] * 13, ["B02"])
    with pytest.raises(BandError, match="has 4 bands without names"):
        match_bands(SENSORS["rgb"], [None] * 4, ["red"])
    with pytest.raises(BandError, match=r"band green: missing.*red, \(unnamed\), \(unnamed\)"):
        match_bands(SENSORS["rgb"], ["red", None, None], ["red", "green"])


def test_a_missing_band_says_what_is_there():
    with pytest.raises(BandError, match="band B11, B12: missing from a file with B02, B8") as e:
        match_bands(SENSORS["sentinel2_l2a"], ["B02", "B8"], ["B02", "B11", "swir22"])
    assert "\n" not in str(e.value)


def test_a_band_held_twice_is_refused_only_if_wanted():
    sensor = SENSORS["sentinel2_l2a"]
    assert match_bands(sensor, ["B04", "red", "B03"], ["green"]) == (2,)
    with pytest.raises(BandError, match="band B04: 2 times in a file with B04, red"):
        match_bands(sensor, ["B04", "red", "B03"], ["B04"])


def test_an_unknown_band_names_the_nearest():
    with pytest.raises(BandError, match="did you mean 'coastal'"):
        SENSORS["sentinel2_l2a"].band("coast")
    with pytest.raises(BandError, match="not a band of sensor rgb; allowed: red, green, blue"):
        SENSORS["rgb"].band("thermal")
    with pytest.raises(BandError, match="B10"):
        SENSORS["sentinel2_l2a"].canonical(["B02", "B10"])


def test_a_band_asked_for_twice_is_refused():
    with pytest.raises(BandError, match="B04 is requested more than once"):
        SENSORS["sentinel2_l2a"].canonical(["B04", "red"])


def test_an_unknown_sensor_names_the_nearest():
    with pytest.raises(DataError, match="did you mean 'sentinel2_l2a'"):
        get_sensor("sentinel2_l2")


def test_a_custom_sensor_matches_its_own_bands():
    sensor = custom_sensor(
        "drone",
        [
            {"name": "pan"},
            {"name": "NIR-1", "wavelength_nm": 840, "resolution_m": 0.1, "aliases": ["n"]},
        ],
        scale=0.5,
        offset=1.0,
        nodata=-1,
    )
    assert match_bands(sensor, ["N", "Pan"], ["pan", "nir_1"]) == (1, 0)
    assert sensor.wavelengths(["n", "pan"]) == (840.0, None)
    assert to_reflectance(np.array([4.0]), sensor)[0] == 3.0
    assert sensor.nodata == -1
    with pytest.raises(BandError, match="states an order for no files"):
        match_bands(sensor, [None, None], ["pan"])


@pytest.mark.parametrize(
    ("bands", "says"),
    [
        ([], "no bands given"),
        ([{"wavelength_nm": 500}], "has no name"),
        ([{"name": "a", "wavelength": 500}], "did you mean 'wavelength_nm'"),
        ([{"name": "a"}, {"name": "b", "aliases": ["A"]}], "a names more than one band"),
    ],
)
def test_a_custom_sensor_that_makes_no_sense_is_refused(bands, says):
    with pytest.raises(BandError, match=says):
        custom_sensor("mine", bands)


def test_a_scale_of_zero_is_refused():
    with pytest.raises(DataError, match="scale 0"):
        custom_sensor("mine", [{"name": "a"}], scale=0)


def test_geotl_sensors_lists_and_describes_what_is_known(capsys) -> None:
    assert main(["sensors"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n{name} " in listed for name in SENSORS)
    assert main(["sensors", "landsat8_sr"]) == 0
    shown = capsys.readouterr().out
    assert all(band.name in shown for band in SENSORS["landsat8_sr"].bands)
    assert "DN x 2.75e-05 - 0.2; DN without data: 0" in shown
    assert main(["sensors", "landsat8"]) == 2
    assert "did you mean 'landsat8_sr'?" in capsys.readouterr().err


def test_a_radar_measures_decibels():
    bands = [{"name": "VV"}, {"name": "VH"}]
    radar = custom_sensor("radar", bands, measures="decibel")
    assert radar.unit("VV") == "decibel"
    assert sensor_from(asdict(radar)) == radar
    assert custom_sensor("optical", bands).unit("VV") == "reflectance"


def test_a_sensor_says_in_which_files_it_is_recognised(capsys) -> None:
    """Red before."""
    said = {
        "landsat7_sr": ("LE07_L2SP_*_02_T1", "scene_nn61.tif", "scene_SR_B1.tif"),
        "sentinel2_l2a_n0400": ("S2*_MSIL2A_*.SAFE", "MTD_MSIL2A.xml", "scene_B01_10m.tif"),
    }
    for name, words in said.items():
        assert main(["sensors", name]) == 0
        shown = capsys.readouterr().out
        assert all(word in shown for word in words)
    assert set(PRODUCTS) <= set(SENSORS)
    assert main(["sensors"]) == 0
    assert "{base: NAME, scale: 0.0001}" in capsys.readouterr().out


def test_thermal_bands_of_eight_bit_pictures_are_no_kelvin() -> None:
    toa = sensor_variant("landsat7_toa", {"dtype": "uint8"})
    assert toa.unit("B6_VCID_1") == "share"
    assert get_sensor("landsat7_toa").unit("B6_VCID_1") == "kelvin"
