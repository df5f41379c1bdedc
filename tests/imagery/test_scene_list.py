"""What files, folders, lists and STAC items stand for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.map_fixtures import BANDS, made_pixels, patches, write_scene
from helpers.tiles import write_tile

from geotl.errors import BandError, DataError, OutputError
from geotl.imagery.scene import open_bands, open_scene
from geotl.imagery.scene_list import band_set, check_apart, is_one_scene, only_file, scenes_in
from geotl.imagery.sensors import get_sensor
from geotl.imagery.windows import Window

L2A = get_sensor("sentinel2_l2a")
PIXELS = made_pixels(patches(3, 3), 8)


def scene(path: Path) -> Path:
    return write_scene(path, PIXELS)


def band_folder(folder: Path) -> Path:
    for name, plane in zip(BANDS, PIXELS, strict=True):
        write_tile(folder / f"x_{name}.tif", plane[None])
    return folder


def names(*given: Path) -> list[str]:
    return [entry.name for entry in scenes_in(given, L2A).entries]


def item(folder: Path, number: int, hrefs: dict[str, str], **more) -> dict:
    bands = {key: {"href": href} | more.get(key, {}) for key, href in hrefs.items()}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"item/{number}",
        "properties": {"datetime": "2022-07-06T08:56:11Z"},
        "assets": bands,
    }


def collection(folder: Path, *items: dict) -> Path:
    path = folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}))
    return path


def test_one_file_and_one_folder_of_bands_are_one_scene(tmp_path: Path) -> None:
    one, folder = scene(tmp_path / "a" / "one.tif"), band_folder(tmp_path / "b" / "tile")
    for given in (one, folder):
        found = scenes_in([given], L2A)
        assert found.single
        assert [entry.path for entry in found.entries] == [given]
    assert not scenes_in([one, folder], L2A).single
    assert names(one, folder) == ["one", "tile"]


@pytest.mark.parametrize("inner", ["GRANULE/L2A_T33UUU/IMG_DATA/R10m", "R10m", "IMG_DATA"])
def test_products_are_one_scene(tmp_path: Path, inner: str) -> None:
    product = tmp_path / "S2A_MSIL2A_20220706T085611.SAFE"
    band_folder(product / inner)
    assert is_one_scene(product, L2A)
    assert is_one_scene(product.rename(tmp_path / "renamed"), L2A)
    assert scenes_in([tmp_path], L2A).single, "a folder around one scene alone is that scene"


def test_a_folder_of_scenes_holds_each_of_them(tmp_path: Path) -> None:
    for name in ("b.tif", "a.tif", "deep/er/c.tif", "deep/a.tif"):
        scene(tmp_path / "all" / name)
    band_folder(tmp_path / "all" / "tile")
    write_tile(tmp_path / "all" / "a_SCL.tif", np.ones((1, 24, 24), np.uint8))
    (tmp_path / "all" / "a.png").write_bytes(b"a picture of it")
    (tmp_path / "all" / ".hidden").mkdir()
    found = scenes_in([tmp_path / "all"], L2A)
    assert not found.single
    assert [entry.name for entry in found.entries] == ["all_a", "b", "deep_a", "c", "tile"]
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.png").write_bytes(b"a picture")
    with pytest.raises(DataError, match="contains no scenes"):
        scenes_in([tmp_path / "none"], L2A)


def test_a_list_is_read_from_where_it_lies(tmp_path: Path) -> None:
    scene(tmp_path / "data" / "a.tif")
    scene(tmp_path / "data" / "b.tif")
    listed = tmp_path / "list.txt"
    listed.write_text(f"# two of them\ndata/a.tif\n\n{tmp_path}/data/b.tif\n")
    assert names(listed) == ["a", "b"]
    assert not scenes_in([listed], L2A).single
    listed.write_text("data/a.tif\ndata/../data/a.tif\n")
    with pytest.raises(DataError, match="given more than once"):
        scenes_in([listed], L2A)
    listed.write_text("data/c.tif\n")
    with pytest.raises(DataError, match=r"c\.tif: no such file"):
        scenes_in([listed], L2A)
    listed.write_text("# nothing\n")
    with pytest.raises(DataError, match="lists no scene"):
        scenes_in([listed], L2A)


@pytest.mark.parametrize(
    "keys",
    [
        {"B02": {}, "B03": {}, "B04": {}, "B08": {}},
        {"blue": {}, "green": {}, "red": {}, "nir": {}},
        {
            "p1": {"eo:bands": [{"name": "B02"}]},
            "p2": {"eo:bands": [{"name": "B03"}]},
            "p3": {"bands": [{"name": "B04"}]},
            "p4": {"eo:bands": [{"common_name": "nir"}]},
        },
        {
            "one": {"bands": [{"name": "x", "eo:common_name": "blue"}]},
            "green": {},
            "red": {},
            "nir": {},
        },
    ],
)
def test_bands_are_found_by_key_by_name_and_by_common_name(tmp_path: Path, keys: dict) -> None:
    band_folder(tmp_path / "data" / "tile")
    hrefs = {key: f"./data/tile/x_{band}.tif" for key, band in zip(keys, BANDS, strict=True)}
    told = item(
        tmp_path,
        1,
        hrefs | {"thumbnail": "data/thumb.png", "visual": "data/tci.tif"},
        visual={"eo:bands": [{"name": "red"}, {"name": "green"}, {"name": "blue"}]},
        **keys,
    )
    (entry,) = scenes_in([collection(tmp_path, told)], L2A).entries
    assert entry.name == "item_1"
    of = band_set(entry, L2A, BANDS)
    assert [of.files[band].name for band in BANDS] == [f"x_{band}.tif" for band in BANDS]
    assert of.acquired == "2022-07-06"
    opened = open_bands(of, L2A, BANDS, name=entry.name)
    whole = open_scene(tmp_path / "data" / "tile", L2A, BANDS)
    for one, other in zip(
        opened.read(Window(0, 0, 24, 24)), whole.read(Window(0, 0, 24, 24)), strict=True
    ):
        assert (one == other).all()
    assert set(opened.parts) == set(of.files.values())


def test_a_mask_among_the_assets_counts(tmp_path: Path) -> None:
    band_folder(tmp_path / "tile")
    codes = np.full((1, 24, 24), 4, np.uint8)
    codes[:, :5] = 9
    write_tile(tmp_path / "x_SCL.tif", codes)
    hrefs = {band: f"tile/x_{band}.tif" for band in BANDS} | {"scl": "x_SCL.tif"}
    (entry,) = scenes_in([collection(tmp_path, item(tmp_path, 1, hrefs))], L2A).entries
    opened = open_bands(band_set(entry, L2A, BANDS), L2A, BANDS)
    _, valid = opened.read(Window(0, 0, 24, 24))
    assert not valid[:, :5].any()
    assert valid[:, 5:].all()


def test_an_asset_of_all_bands_is_a_file_like_others(tmp_path: Path) -> None:
    scene(tmp_path / "whole.tif")
    bands = [{"name": name} for name in BANDS]
    told = item(
        tmp_path, 1, {"image": "file://" + str(tmp_path / "whole.tif")}, image={"eo:bands": bands}
    )
    (entry,) = scenes_in([collection(tmp_path, told)], L2A).entries
    assert only_file(entry, L2A, BANDS) == tmp_path / "whole.tif"
    assert only_file(entry, L2A, [*BANDS, "B11"]) is None


@pytest.mark.parametrize(
    ("hrefs", "words"),
    [
        ({"B02": "a.tif", "B03": "b.tif", "B04": "c.tif"}, "band B08 .* in none of its assets"),
        (
            {"red": "a.tif", "B04": "b.tif", "B02": "c.tif", "B03": "d.tif", "B08": "e.tif"},
            r"band B04 .* in several assets \(red, B04\)",
        ),
        ({b: f"https://example.org/{b}.tif?sig=1" for b in BANDS}, "not on disk; download"),
        ({b: f"s3://bucket/{b}.tif" for b in BANDS}, "not on disk; download"),
    ],
)
def test_items_that_do_not_give_the_bands(tmp_path: Path, hrefs: dict, words: str) -> None:
    (entry,) = scenes_in([collection(tmp_path, item(tmp_path, 1, hrefs))], L2A).entries
    with pytest.raises(BandError, match=words):
        band_set(entry, L2A, BANDS)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"type": "Catalog", "links": []}',
        '{"type": "FeatureCollection", "features": []}',
        '{"type": "FeatureCollection", "features": [{"id": "x"}]}',
        '{"type": "FeatureCollection", "features": 0.5}',  # this and what follows by make fuzz
        '{"type": "Feature", "assets": [[1]]}',
        '{"type": "Feature", "assets": {"B02": true}}',
        '{"type": "Feature", "assets": {"B02": {"eo:bands": 1e999}}}',
        '{"type": "Feature", "assets": {"B02": {}}, "properties": [1]}',
    ],
)
def test_json_that_is_no_item_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "items.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"items\.json: (not a STAC item|cannot be read)") as told:
        scenes_in([path], L2A)
    assert "\n" not in str(told.value)


def test_items_of_one_name_keep_names_of_their_own(tmp_path: Path) -> None:
    hrefs = {band: f"x_{band}.tif" for band in BANDS}
    told = collection(tmp_path, item(tmp_path, 1, hrefs), item(tmp_path, 1, hrefs))
    scene(tmp_path / "ITEM_1.tif")
    assert names(told, tmp_path / "ITEM_1.tif") == ["item_1", "item_1-2", "ITEM_1-3"]


def test_maps_do_not_lie_among_scenes(tmp_path: Path) -> None:
    scene(tmp_path / "all" / "a.tif")
    scene(tmp_path / "all" / "b.tif")
    for out in (tmp_path / "all", tmp_path / "all" / "maps"):
        with pytest.raises(OutputError, match="choose a folder outside"):
            check_apart([tmp_path / "all"], out, L2A)
    check_apart([tmp_path / "all"], tmp_path / "maps", L2A)
    check_apart([tmp_path / "all" / "a.tif"], tmp_path / "all", L2A)
