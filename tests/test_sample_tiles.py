"""The sample tiles are what their README says, and their script makes them again."""

from __future__ import annotations

import csv
import importlib.util
import sys
from collections import Counter, defaultdict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import rasterio
from rasterio.features import rasterize

geopandas = pytest.importorskip("geopandas", reason="the scene's labels need geopandas")

HERE = Path(__file__).resolve().parent.parent / "sample_tiles"
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
COARSE = [3, 4, 5, 7, 8, 9]
REGIONS = ("source", "target")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """The script beside the tiles, imported from its own folder."""
    sys.path.insert(0, str(HERE))
    try:
        spec = importlib.util.spec_from_file_location(
            "make_sample_tiles", HERE / "make_sample_tiles.py"
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules["make_sample_tiles"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(HERE))
    return module


@pytest.fixture(scope="module")
def scene(maker):
    return maker.make_scene(maker.SEED)


def listed(region: str) -> list[dict[str, str]]:
    with (HERE / region / "tiles.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def largest_difference(left: np.ndarray, right: np.ndarray) -> int:
    return int(np.abs(left.astype(np.int64) - right.astype(np.int64)).max())


@pytest.fixture(scope="module")
def opened() -> dict[str, list[tuple[dict[str, str], np.ndarray, dict]]]:
    """Every tile read once: its row in tiles.csv, its pixels, and what its file says."""
    found = defaultdict(list)
    for region in REGIONS:
        for row in listed(region):
            with rasterio.open(HERE / region / row["path"]) as dataset:
                said = dataset.profile | {"names": dataset.descriptions}
                found[region].append((row, dataset.read(), said))
    return found


def test_the_folder_stays_within_24_megabytes():
    files = [p for p in HERE.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert sum(path.stat().st_size for path in files) <= 24_000_000


def test_both_regions_hold_the_same_classes_and_at_least_six():
    classes = [{row["path"].split("/")[0] for row in listed(region)} for region in REGIONS]
    assert classes[0] == classes[1]
    assert len(classes[0]) >= 6


@pytest.mark.parametrize("region", REGIONS)
def test_the_table_lists_every_tile_on_disk_and_no_other(region):
    on_disk = {
        path.relative_to(HERE / region).as_posix() for path in (HERE / region).rglob("*.tif")
    }
    assert on_disk == {row["path"] for row in listed(region)}


@pytest.mark.parametrize(("region", "least"), [("source", 60), ("target", 40)])
def test_every_class_has_as_many_tiles_as_promised(region, least):
    counts = Counter(row["path"].split("/")[0] for row in listed(region))
    assert min(counts.values()) >= least


@pytest.mark.parametrize(("region", "crs"), [("source", "EPSG:32633"), ("target", "EPSG:32631")])
def test_every_tile_names_its_bands_and_place(opened, region, crs):
    for row, data, said in opened[region]:
        assert said["names"] == BANDS, row["path"]
        assert (said["crs"].to_string(), said["nodata"]) == (crs, 0), row["path"]
        assert (said["transform"].a, said["transform"].e) == (10.0, -10.0), row["path"]
        assert (data.dtype, data.shape) == (np.uint16, (10, 40, 40)), row["path"]


@pytest.mark.parametrize("region", REGIONS)
def test_nodata_is_there_but_never_much(opened, region):
    valid = [float((data > 0).mean()) for _, data, _ in opened[region]]
    assert min(valid) >= 0.7
    assert 0.01 < np.mean(np.array(valid) < 1.0) < 0.25


@pytest.mark.parametrize("region", REGIONS)
def test_reflectance_is_plausible(opened, region):
    for row, data, _ in opened[region]:
        reflectance = (data[data > 0] / 10_000.0) - 0.1
        assert -0.01 < reflectance.min() < reflectance.max() < 1.2, row["path"]


@pytest.mark.parametrize("region", REGIONS)
def test_20_metre_bands_hold_20_metre_detail(opened, region):
    for row, data, _ in opened[region]:
        coarse = data[COARSE].reshape(6, 20, 2, 20, 2)
        assert (coarse == coarse[:, :, :1, :, :1]).all(), row["path"]
    fine = np.stack([data[2] for _, data, _ in opened[region]])
    assert (fine[:, :, 0::2] != fine[:, :, 1::2]).mean() > 0.5


@pytest.mark.parametrize("region", REGIONS)
def test_neighbouring_tiles_share_a_group_and_groups_lie_apart(opened, region):
    corners = np.array([(said["transform"].c, said["transform"].f) for *_, said in opened[region]])
    groups = np.array([row["group"] for row, _, _ in opened[region]])
    apart = np.abs(corners[:, None] - corners[None]).max(axis=2)
    same = groups[:, None] == groups[None]
    assert apart[same].max() <= 800.0
    assert apart[~same].min() > 800.0
    assert apart[~np.eye(len(groups), dtype=bool)].min() >= 400.0, "two tiles share pixels"


def test_a_group_holds_one_class_and_several_tiles():
    for region in REGIONS:
        classes, sizes = defaultdict(set), Counter()
        for row in listed(region):
            classes[row["group"]].add(row["path"].split("/")[0])
            sizes[row["group"]] += 1
        assert all(len(names) == 1 for names in classes.values())
        assert min(sizes.values()) >= 2


@pytest.mark.parametrize(
    ("region", "name", "site"),
    [
        ("source", "river", 3),
        ("source", "cropland", 31),
        ("target", "orchard", 0),
        ("target", "residential", 10),
        ("target", "wetland", 5),
    ],
)
def test_a_site_made_again_agrees_within_1_dn(maker, region, name, site):
    tiles = maker.make_site(maker.REGIONS[region], name, site, maker.SEED)
    for number, (dn, corner) in enumerate(tiles):
        with rasterio.open(HERE / region / name / f"{name}_{site:02d}_{number}.tif") as kept:
            assert largest_difference(dn, kept.read()) <= 1
            assert kept.transform == corner


def test_another_seed_makes_other_tiles(maker):
    first, other = (
        next(iter(maker.make_site(maker.REGIONS["target"], "pasture", 0, seed)))[0]
        for seed in (maker.SEED, maker.SEED + 1)
    )
    assert largest_difference(first, other) > 100


def test_the_scene_made_again_agrees_within_1_dn(scene):
    with rasterio.open(HERE / "scene.tif") as kept:
        assert largest_difference(scene.dn, kept.read()) <= 1
        assert kept.transform == scene.corner
    with rasterio.open(HERE / "truth.tif") as kept:
        assert np.mean(kept.read(1) != scene.truth) < 1e-4


def test_labels_made_again_are_the_same(maker, scene):
    for layer, table in maker.make_labels(scene, maker.SEED).items():
        kept = geopandas.read_file(HERE / "labels.gpkg", layer=layer)
        assert list(kept["class"]) == list(table["class"])
        assert kept.geometry.geom_equals_exact(table.geometry, 0.01).all()


def test_scene_and_truth_share_one_grid_and_nodata():
    with rasterio.open(HERE / "scene.tif") as image, rasterio.open(HERE / "truth.tif") as truth:
        assert image.descriptions == BANDS
        assert (image.dtypes[0], image.nodata, truth.nodata) == ("uint16", 0, 255)
        assert (image.crs, image.transform, image.shape) == (
            truth.crs,
            truth.transform,
            truth.shape,
        )
        classes = truth.read(1)
        assert ((image.read(1) == 0) == (classes == 255)).all()
        names = [truth.tags()[f"CLASS_{i}"] for i in range(9)]
        colours = [truth.colormap(1)[i] for i in range(9)]
    assert names == sorted({row["path"].split("/")[0] for row in listed("target")})
    assert len(set(colours)) == 9
    assert set(np.unique(classes)) == {*range(9), 255}
    assert min(np.bincount(classes.ravel())[:9]) > 5_000


def test_label_points_agree_with_the_truth():
    points = geopandas.read_file(HERE / "labels.gpkg", layer="points")
    with rasterio.open(HERE / "truth.tif") as truth:
        assert points.crs == truth.crs
        places = [(point.x, point.y) for point in points.geometry]
        seen = [truth.tags()[f"CLASS_{value[0]}"] for value in truth.sample(places)]
    assert seen == list(points["class"])
    assert set(Counter(seen).values()) == {30}


def test_label_polygons_agree_with_the_truth():
    polygons = geopandas.read_file(HERE / "labels.gpkg", layer="polygons")
    with rasterio.open(HERE / "truth.tif") as truth:
        classes, tags = truth.read(1), truth.tags()
        for name, form in zip(polygons["class"], polygons.geometry, strict=True):
            inside = rasterize([form], truth.shape, transform=truth.transform).astype(bool)
            assert inside.sum() >= 10
            assert {tags[f"CLASS_{value}"] for value in np.unique(classes[inside])} == {name}
    assert set(Counter(polygons["class"])) == {
        row["path"].split("/")[0] for row in listed("target")
    }
