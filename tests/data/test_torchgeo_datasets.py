"""torchgeo's data sets by name: copied once, with names, labels and splits; never downloaded."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.tiles import write_tile

from geotl.data import torchgeo_datasets
from geotl.data.manifest import index_tiles
from geotl.data.read_tile import TileReading
from geotl.data.tile_array import pack
from geotl.errors import DataError
from geotl.imagery.sensors import SENSORS

torchgeo = pytest.importorskip("torchgeo.datasets", reason="torchgeo is an optional extra")

BASE = "ds/images/remote_sensing/otherDatasets/sentinel_2/tif"
SIDES = ("train", "val", "test")
ORDER = SENSORS["eurosat_ms"].file_order
RNG = np.random.default_rng(2)


def laid_out(root, pictures):
    """EuroSAT as torchgeo expects it: one tile of each class on each side."""
    for side in SIDES:
        names = []
        for name, make in pictures.items():
            path = root / BASE / name / f"{name}_{SIDES.index(side) + 1}.tif"
            make(path, SIDES.index(side))
            names.append(path.with_suffix(".jpg").name)
        (root / f"eurosat-{side}.txt").write_text("\n".join(names))
    return f"torchgeo:EuroSAT:{root}"


def noise(path, turn):
    write_tile(path, RNG.integers(1, 4000, (13, 16, 16)).astype(np.uint16))


@pytest.fixture
def eurosat(tmp_path):
    return laid_out(tmp_path / "data", {"AnnualCrop": noise, "SeaLake": noise})


def index(root, tmp_path, say=lambda _: None):
    return index_tiles(root, cache=tmp_path / "cache", sensor=SENSORS["eurosat_ms"], log=say)


def test_a_data_set_is_indexed_with_its_classes_and_splits_and_packed(tmp_path, eurosat):
    found = index(eurosat, tmp_path)
    assert found.classes == ("AnnualCrop", "SeaLake")
    assert sorted((t.split, t.label) for t in found.tiles) == sorted(
        (side, label) for side in SIDES for label in (0, 1)
    )
    packed = pack(found, SENSORS["eurosat_ms"], TileReading(ORDER), folder=tmp_path / "p")
    assert packed.images.dtype == np.uint16
    for row, tile in enumerate(found.tiles):
        original = next(Path(tmp_path / "data").rglob(tile.path.name.split("_", 1)[1]))
        assert original.parent.name == found.classes[tile.label]
        with rasterio.open(original) as source:
            np.testing.assert_array_equal(packed.images[row], source.read())


def test_the_data_sets_own_band_names_come_with_it(tmp_path, eurosat):
    found = index(eurosat, tmp_path)
    with rasterio.open(found.tiles[0].path) as source:
        assert source.descriptions == ORDER


def test_it_is_copied_once_and_again_where_its_files_changed(tmp_path, eurosat, monkeypatch):
    told = []
    first = index(eurosat, tmp_path, told.append)
    assert index(eurosat, tmp_path, told.append) == first
    assert len(told) == 1
    noise(next((tmp_path / "data" / BASE).rglob("*_1.tif")), 0)
    assert index(eurosat, tmp_path, told.append) != first
    assert len(told) == 2
    held = [p for p in (tmp_path / "cache").iterdir() if p.name.startswith(".")]
    assert not held, "nothing half-made stays behind"
    shutil.rmtree(tmp_path / "cache")
    written = []

    def fails(*given):
        written.append(given)
        raise KeyboardInterrupt

    monkeypatch.setattr(torchgeo_datasets, "write_text", fails)
    with pytest.raises(KeyboardInterrupt):
        index(eurosat, tmp_path)
    assert not list((tmp_path / "cache").iterdir())


def test_nothing_is_downloaded(tmp_path, eurosat, monkeypatch):
    def refused(*_, **__):
        raise AssertionError("tried to download")

    monkeypatch.setattr("torchgeo.datasets.eurosat.download_url", refused)
    monkeypatch.setattr("torchgeo.datasets.eurosat.download_and_extract_archive", refused)
    (tmp_path / "data" / "eurosat-val.txt").unlink()
    with pytest.raises(DataError, match=r"cannot open its val .*nothing is downloaded") as caught:
        index(eurosat, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("torchgeo:EuroSAT", "allowed: torchgeo:NAME:FOLDER"),
        ("torchgeo:EuroSta:{}", "did you mean 'EuroSAT'"),
        ("torchgeo:os.system:{}", "no data set of tiles"),
        ("torchgeo:stack_samples:{}", "no data set of tiles"),
        ("torchgeo:EuroSAT:{}/nowhere", "no such folder"),
    ],
)
def test_names_that_mean_nothing_are_one_clear_line(tmp_path, root, said):
    with pytest.raises(DataError, match=said) as caught:
        index(root.format(tmp_path), tmp_path)
    assert "\n" not in str(caught.value)


def test_without_torchgeo_the_line_says_how_to_install_it(tmp_path, monkeypatch):
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchgeo"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchgeo", None)
    with pytest.raises(DataError, match=r"pip install 'geotl\[torchgeo\]'") as caught:
        index(f"torchgeo:EuroSAT:{tmp_path}", tmp_path)
    assert "\n" not in str(caught.value)


class Held:
    """A data set with one split and whatever samples it is given."""

    def __init__(self, samples, classes=("u", "v")):
        self.samples, self.classes = samples, classes

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, number):
        return self.samples[number]


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ({"image": np.zeros((3, 4, 4))}, "needs just one class"),
        ({"image": np.zeros((3, 4, 4)), "label": np.array([0, 1])}, "needs just one class"),
        ({"image": np.zeros((5, 3, 4, 4)), "label": 0}, r"no image \[C,H,W\]"),
        ({"image": np.zeros((3, 4, 4)), "label": 2}, "label 2 has no name"),
    ],
)
def test_samples_that_are_no_labelled_tiles_are_refused(tmp_path, sample, said):
    with pytest.raises(DataError, match=said):
        list(torchgeo_datasets._write_split(Held([sample]), None, tmp_path, "torchgeo:Held:x"))


def test_fractions_and_nan_are_kept_as_they_are(tmp_path):
    image = RNG.normal(0, 1, (2, 4, 4)).astype(np.float32)
    image[0, 0, 0] = np.nan
    ((path, label),) = torchgeo_datasets._write_split(
        Held([{"image": image, "label": 1}]), "train", tmp_path, "torchgeo:Held:x"
    )
    assert label == "v"
    with rasterio.open(tmp_path / path) as source:
        np.testing.assert_array_equal(source.read(), image)


@pytest.mark.real_data
def test_real_eurosat_tiles_through_torchgeo_equal_the_files(real_data, tmp_path):
    def turned(source):
        with rasterio.open(source) as held:
            data = held.read()
        return lambda path, turn: write_tile(path, np.rot90(data, turn, (1, 2)))

    kinds = {p.parent.name: turned(p) for p in (real_data / "eurosat_ms").glob("*/*.tif")}
    root = laid_out(tmp_path / "data", kinds)
    found = index(root, tmp_path)
    assert found.classes == ("AnnualCrop", "Pasture", "SeaLake")
    sensor = SENSORS["eurosat_ms"]
    packed = pack(found, sensor, TileReading(sensor.file_order), folder=tmp_path / "p")
    assert packed.images.shape == (9, 13, 64, 64)
    assert packed.images.dtype == np.uint16
    for row, tile in enumerate(found.tiles):
        name = found.classes[tile.label]
        with rasterio.open(next((real_data / "eurosat_ms" / name).iterdir())) as held:
            data = np.rot90(held.read(), SIDES.index(tile.split), (1, 2))
        np.testing.assert_array_equal(packed.images[row], data)


@pytest.mark.real_data
def test_real_uc_merced_tiles_through_torchgeo_are_8_bit_rgb(real_data, tmp_path):
    root, wanted = tmp_path / "data", ("harbor", "forest")
    for name in wanted:
        for i, file in enumerate(sorted((real_data / "ucmerced" / name).iterdir())[:3]):
            target = root / "UCMerced_LandUse" / "Images" / name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
            with (root / f"uc_merced-{SIDES[i]}.txt").open("a") as listing:
                listing.write(file.name + "\n")
    rgb = SENSORS["rgb"]
    found = index_tiles(f"torchgeo:UCMerced:{root}", cache=tmp_path / "cache", sensor=rgb)
    assert found.classes == ("forest", "harbor")
    packed = pack(found, rgb, folder=tmp_path / "p")
    assert packed.images.shape == (6, 3, 256, 256)
    assert packed.images.dtype == np.uint8
