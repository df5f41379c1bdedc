"""geotl check: every planted fault is found, and clean tiles are not accused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from geotl.cli.main import main
from geotl.data.checks import (
    balance_findings,
    check_tiles,
    outliers,
    twin_findings,
    validity_findings,
)
from geotl.data.radiometry_checks import radiometry_findings
from geotl.data.read_tile import TileReading
from geotl.data.tile_array import pack
from geotl.data.tile_statistics import (
    QUANTILES,
    TilePair,
    copies,
    near_copies,
    overlaps,
    tile_facts,
)
from geotl.data.tiles import index_folder
from geotl.imagery.sensors import SENSORS, Sensor, custom_sensor
from geotl.reporting.check_report import as_text, verdict

ROOT = Path(__file__).resolve().parents[2]
S2 = SENSORS["sentinel2_l2a_n0400"]
BANDS = ("B02", "B03", "B04")


def scenery(seed: int, size: int = 32, bands: int = 3) -> np.ndarray:
    """Something with shapes in it [C,H,W], DN about 1500 to 4500."""
    random = np.random.default_rng(seed)
    coarse = random.random((bands, size // 4, size // 4))
    return (1500 + 3000 * np.kron(coarse, np.ones((4, 4)))).astype(np.uint16)


def write(path: Path, data: np.ndarray, place: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(data),
        height=data.shape[1],
        width=data.shape[2],
        dtype=data.dtype.name,
        crs="EPSG:32633",
        nodata=0,
        transform=from_origin(500000 + 1000 * place, 4600000, 10, 10),
    ) as to:
        to.write(data)
        to.descriptions = BANDS[: len(data)]


def tiles(folder: Path, classes=("field", "wood"), each: int = 12) -> Path:
    for label, name in enumerate(classes):
        for i in range(each):
            write(folder / name / f"{i:02}.tif", scenery(100 * label + i), 100 * label + i)
    return folder


def checked(folder: Path, sensor: Sensor = S2):
    index = index_folder(folder)
    packed = pack(index, sensor, TileReading(BANDS), folder=folder.parent / f"{folder.name}-pack")
    return check_tiles(index, sensor, packed)


def kinds(found) -> set[str]:
    return {one.kind for one in found.findings}


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    return tiles(tmp_path_factory.mktemp("tiles") / "clean")


def test_clean_tiles_are_not_accused(clean) -> None:
    found = checked(clean)
    assert found.findings == []
    assert verdict(found).startswith("ready")


def test_each_planted_fault_is_found(tmp_path) -> None:
    folder = tiles(tmp_path / "bad")
    write(folder / "wood" / "copy.tif", scenery(0), 0)  # field/00 byte by byte, in another class
    write(folder / "field" / "turned.tif", np.rot90(scenery(3), axes=(1, 2)), 50)
    noisy = scenery(105) + np.random.default_rng(0).integers(0, 40, (3, 32, 32))
    write(folder / "field" / "noisy.tif", noisy.astype(np.uint16), 60)  # wood/05, nearly
    empty = scenery(70)
    empty[:, :, :20] = 0
    write(folder / "field" / "gap.tif", empty, 70)
    write(folder / "wood" / "cloud.tif", 20 * (scenery(71) // 10), 71)
    shifted = scenery(72)
    write(folder / "wood" / "neighbour.tif", shifted, 111)  # where wood/11 lies
    found = checked(folder)
    by_kind: dict[str, list] = {}
    for one in found.findings:
        by_kind.setdefault(one.kind, []).append(one)
    conflicts = {pair for one in by_kind["label conflict"] for pair in one.tiles}
    assert conflicts == {"field/00.tif = wood/copy.tif", "field/noisy.tif = wood/05.tif"}
    assert by_kind["near-duplicate"][0].tiles == ("field/03.tif = field/turned.tif",)
    assert "1 of them turned" in by_kind["near-duplicate"][0].said
    assert by_kind["nodata"][0].tiles == ("field/gap.tif",)
    assert by_kind["overlap"][0].tiles == ("wood/11.tif = wood/neighbour.tif",)
    assert found.findings[0].gravity == "wrong"
    assert verdict(found).startswith("mend")
    assert "label conflict" not in as_text(found).split("\n")[0]


def test_near_copies_are_found_turned_but_even_tiles_are_not_compared() -> None:
    random = np.random.default_rng(0)
    thumbs = random.random((40, 3, 16, 16)).astype(np.float32)
    thumbs[7] = 2 * np.rot90(thumbs[3, :, :, ::-1], 3, axes=(1, 2)) + 1  # another gain, too
    thumbs[20:30] = 0.01 * np.linspace(0, 1, 16)  # ten even shades
    assert [(p.first, p.second, p.turned) for p in near_copies(thumbs)] == [(3, 7, True)]


def test_overlaps_need_ground_in_common_and_one_system() -> None:
    boxes = [(0.0, 0.0, 10.0, 10.0), (10.0, 0.0, 20.0, 10.0), (9.0, 9.0, 19.0, 19.0), None]
    boxes += [(5.0, 5.0, 5.0, 5.0), (0.0, 0.0, 10.0, 10.0)]
    crs = ["EPSG:32633"] * 3 + [None, "EPSG:32633", "EPSG:32632"]
    found = [(p.first, p.second, round(p.share, 2)) for p in overlaps(boxes, crs)]
    assert found == [(0, 2, 0.01), (1, 2, 0.09)]
    assert copies(["a", "b", "b", "a", "c"]) == [[0, 3], [1, 2]]


def test_overlaps_across_a_given_split_leak(tmp_path) -> None:
    folder = tiles(tmp_path / "leak")
    write(folder / "field" / "near.tif", scenery(50), 0)
    (folder / "tiles.csv").write_text("path,split\nfield/00.tif,train\nfield/near.tif,test\n")
    assert "leak" in kinds(checked(folder))
    (folder / "tiles.csv").write_text("path,split\nfield/00.tif,train\nfield/near.tif,train\n")
    assert "leak" not in kinds(checked(folder))


def test_balance_is_told() -> None:
    labels = np.array([0] * 100 + [1] * 9 + [2] * 20 + [-1] * 3)
    found = {one.kind: one for one in balance_findings(labels, ("a", "b", "c"))}
    assert set(found) == {"few tiles", "imbalance", "no label"}
    assert found["few tiles"].gravity == "doubtful"
    assert "11 times" in found["imbalance"].said
    few = {one.kind: one for one in balance_findings(np.array([0] * 12 + [1] * 4), ("a", "b"))}
    assert few["few tiles"].gravity == "wrong"
    assert list(balance_findings(np.array([0] * 12 + [1] * 14), ("a", "b"))) == []


def ranges(*bands: tuple[float, float]) -> np.ndarray:
    """Quantiles of bands that go evenly from a lowest to a highest value."""
    return np.array([[low + q * (high - low) for low, high in bands] for q in QUANTILES])


@pytest.mark.parametrize(
    ("name", "low", "high", "dtype", "kind"),
    [
        ("sentinel2_l2a", 100, 6000, "uint16", None),
        ("sentinel2_l2a_n0400", 1050, 7000, "uint16", None),
        ("sentinel2_l2a", 0, 255, "uint8", "8-bit values"),
        ("sentinel2_l2a", 0.0, 0.9, "float32", "reflectance"),
        ("sentinel2_l2a", 1020, 7000, "uint16", "offset"),
        ("sentinel2_l2a_n0400", 60, 6000, "uint16", "offset"),
        ("sentinel2_l2a", 100, 40000, "uint16", "range"),
        ("sentinel2_l2a", 0, 0, "uint16", "constant band"),
        ("rgb", 0, 255, "uint8", None),
        ("rgb", 0, 4000, "uint16", "range"),
    ],
)
def test_the_range_is_held_against_the_sensor(name, low, high, dtype, kind) -> None:
    found = radiometry_findings(ranges(*[(low, high)] * 3), BANDS_OF[name], SENSORS[name], dtype)
    assert {one.kind for one in found} == ({kind} if kind else set())


BANDS_OF = {
    "sentinel2_l2a": BANDS,
    "sentinel2_l2a_n0400": BANDS,
    "rgb": ("red", "green", "blue"),
}


def test_kelvin_is_no_reflectance() -> None:
    sensor = custom_sensor("thermal", [{"name": "T", "wavelength_nm": 10900}], scale=0.1)
    assert radiometry_findings(ranges((2700, 3100)), ("T",), sensor, "uint16") == []
    cold = radiometry_findings(ranges((200, 900)), ("T",), sensor, "uint16")
    assert "kelvin" in cold[0].said


def test_figures_of_tiles_are_those_of_numpy() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 5000, (7, 2, 20, 20)).astype(np.uint16)
    valid = random.random((7, 2, 20, 20)) > 0.3
    images[2, :, :4], valid[2, :, :4] = 0, True
    facts = tile_facts(SimpleNamespace(images=images, valid=valid))
    mean = [[images[i, c][valid[i, c]].mean() for c in range(2)] for i in range(7)]
    sd = [[images[i, c][valid[i, c]].std() for c in range(2)] for i in range(7)]
    np.testing.assert_allclose(facts.mean, mean)
    np.testing.assert_allclose(facts.sd, sd)
    np.testing.assert_allclose(facts.valid, valid.mean(axis=(1, 2, 3)))
    assert facts.blank[2] >= 80 / 400
    plain = tile_facts(SimpleNamespace(images=images, valid=None))
    np.testing.assert_allclose(plain.quantiles[3], np.median(images, axis=(0, 2, 3)))
    blocks = images[:, :, :16, :16]
    thumbs = tile_facts(SimpleNamespace(images=blocks, valid=None)).thumbs
    np.testing.assert_allclose(thumbs, blocks, atol=1e-3)


def test_nodata_that_gives_a_class_away_is_told() -> None:
    valid = np.where(np.arange(40) < 20, 0.7, 1.0)
    facts = SimpleNamespace(valid=valid, blank=np.where(np.arange(40) == 3, 0.5, 0.0))
    labels, names = np.repeat([0, 1, 1, 1], 10), [str(i) for i in range(40)]
    labels[10:20] = 2
    facts.valid[10:20] = 1.0
    found = list(validity_findings(facts, labels, ("a", "b", "c"), names, SENSORS["rgb"]))
    assert [one.kind for one in found] == ["nodata by class", "zeros"]
    assert "30% of the pixels of a" in found[0].said
    assert found[1].tiles == ("3",)


def test_outliers_are_measured_within_their_class() -> None:
    random = np.random.default_rng(0)
    figures = random.normal(0, 1, (60, 4))
    figures[:30] += 100  # two classes far apart are none
    figures[5] += 40
    labels = np.repeat([0, 1], 30)
    assert [place for place, _ in outliers(figures, labels)] == [5]
    assert outliers(figures[:8], labels[:8]) == []


def test_pairs_without_a_class_are_no_conflict() -> None:
    found = list(twin_findings("overlap", [TilePair(0, 1, 1.0)], np.array([0, -1]), ["a", "b"]))
    assert [one.kind for one in found] == ["overlap"]


def test_the_command_writes_a_page_that_carries_everything(clean, tmp_path, capsys, own_cache):
    out = tmp_path / "out"
    line = ["check", str(clean), "--sensor", S2.name, "data.bands=[B02,B03,B04]"]
    assert main([*line, "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("ready to train on")
    held = json.loads((out / "check.json").read_text())
    assert held["tiles"] == 24
    assert held["classes"] == {"field": 12, "wood": 12}
    page = (out / "check.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page.replace("http-equiv", "")
    for name in ("contact.png", "centres.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert main(["check", str(tmp_path / "none.csv"), "-q"]) == 2
    assert main(["check", str(clean), "--sensor", "sentinel", "-q"]) == 2


@pytest.mark.real_data
def test_real_tiles(real_data, tmp_path, capsys, own_cache) -> None:
    folder = str(real_data / "eurosat_rgb")
    out = tmp_path / "out"
    assert main(["check", folder, "--sensor", "eurosat_rgb", "-q", "-o", str(out)]) == 0
    held = json.loads((out / "check.json").read_text())
    assert held["tiles"] == 1350
    assert held["copies"] == [["SeaLake/SeaLake_1736.jpg", "SeaLake/SeaLake_2090.jpg"]]
    assert held["near_duplicates"] == []
    assert not [one for one in held["findings"] if one["gravity"] == "wrong"]
    assert main(["check", folder, "--sensor", "sentinel2_l1c", "-q"]) == 2


def test_ground_partly_shared_by_two_classes_is_only_doubtful() -> None:
    labels, names = np.array([0, 1, 1]), ["a", "b", "c"]
    part = list(twin_findings("overlap", [TilePair(0, 1, 0.7), TilePair(1, 2, 0.9)], labels, names))
    assert [(one.gravity, one.kind, one.tiles) for one in part] == [
        ("doubtful", "label conflict", ("a = b",)),
        ("doubtful", "overlap", ("b = c",)),
    ]
    whole = list(twin_findings("overlap", [TilePair(0, 1, 0.99)], labels, names))
    assert [one.gravity for one in whole] == ["wrong"]


@pytest.mark.parametrize("kind", ["near-duplicate", "overlap"])
def test_a_spatial_split_is_not_advised_where_the_recipe_has_it(kind):
    pairs, labels = [TilePair(0, 1, 0.4)], np.array([0, 0])
    (random,) = twin_findings(kind, pairs, labels, ["a", "b"])
    (spatial,) = twin_findings(kind, pairs, labels, ["a", "b"], apart=True)
    assert "blocks" in random.remedy
    assert "blocks" not in spatial.remedy
    assert spatial.said == random.said


def test_the_sample_scenes_own_split_is_not_advised(capsys):
    assert main(["check", "sample_scene"]) == 0
    told = capsys.readouterr().out
    assert "blocks" not in told
    assert "the recipe's split excludes training tiles" in told
    assert main(["check", "sample_scene", "split.method=stratified"]) == 0
    assert "split.method=blocks" in capsys.readouterr().out


def test_backscatter_in_decibels_is_no_fault_and_intensity_under_its_name_is():
    bands = ["VV", "VH"]
    radar = custom_sensor("radar", [{"name": name} for name in bands], measures="decibel")
    spread = np.linspace(-28.0, 2.0, len(QUANTILES))[:, None].repeat(2, axis=1)
    assert radiometry_findings(spread, bands, radar, np.float32) == []
    found = radiometry_findings(spread * -100, bands, radar, np.float32)
    assert {finding.kind for finding in found} == {"range"}
    assert "decibel" in found[0].said
