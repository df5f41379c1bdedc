"""From a model and a scene to map files: right, whole, the same again, and nothing lost."""

from __future__ import annotations

import csv
import errno
import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from helpers.full_disk import full_disk
from helpers.map_fixtures import (
    BANDS,
    CLASSES,
    COLOURS,
    LEVEL,
    PX,
    boxes,
    checkers,
    made_pixels,
    patches,
    write_scene,
)
from helpers.tiles import write_tile
from pyproj import Geod
from rasterio.transform import Affine, from_origin
from rio_cogeo import cog_validate

import geotl
from geotl.cli.main import main
from geotl.console import ProgressLine
from geotl.evaluation.class_map import open_map
from geotl.evaluation.sample_design import training_boxes
from geotl.inference.applicability import area_of_applicability
from geotl.io.raster import Grid
from geotl.mapping.plan import pixel_m

pytestmark = pytest.mark.usefixtures("one_thread")
STEP = 8
EXACT = ("--mode", "exact", "--stride-px", str(STEP), "--precision", "float32")


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Patches of three classes, 187 x 243 pixels, a part of them without data."""
    made = made_pixels(patches(4, 6), 48)[:, :187, :243]
    made[:, 100:, 200:] = 0
    return made


@pytest.fixture(scope="module")
def scene(pixels, tmp_path_factory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.tif", pixels, nodata=0)


def run(model: Path, scene: Path, out: Path, *more: str, exact: bool = True) -> int:
    return main(
        ["map", str(model), str(scene), "-o", str(out), "-q", *(EXACT if exact else ()), *more]
    )


def mapped(model: Path, scene: Path, out: Path, *more: str, exact: bool = True) -> np.ndarray:
    assert run(model, scene, out, *more, exact=exact) == 0
    return band(out)


def band(path: Path, index: int = 1) -> np.ndarray:
    with rasterio.open(path) as held:
        return held.read(index)


def refused(capsys: pytest.CaptureFixture[str], code: int, told: str) -> str:
    """An error of one line that says so much."""
    error = capsys.readouterr().err
    assert code == 2
    assert error.count("\n") == 1
    assert told in error, error
    return error


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
@pytest.mark.parametrize("command", ["map", "predict"])
def test_a_band_the_model_needs_cannot_be_left_out(model, tmp_path, capsys, command, folder):
    pixels, given = made_pixels(patches(2, 2), 48), tmp_path / "given"
    if folder:
        given.mkdir()
        for name, plane in zip(BANDS[:3], pixels, strict=False):
            write_tile(given / f"x_{name}.tif", plane[None])
    else:
        given = write_tile(given.with_suffix(".tif"), pixels[:3], names=list(BANDS[:3]))
    what = "a scene" if command == "map" else "tiles"
    out = tmp_path / ("out.tif" if command == "map" else "out.csv")
    code = main([command, str(model), str(given), "-o", str(out)])
    told = refused(capsys, code, f"{given}: no band B08, which this model needs; give {what} that")
    assert "data." not in told
    assert "x_" not in told


# --- what a map says -------------------------------------------------------------------------


def test_a_map_says_what_the_model_says_of_the_windows(model, pixels, scene, tmp_path):
    """Every layer against a plain computation, window by window."""
    got = mapped(
        model,
        scene,
        tmp_path / "m.tif",
        "--probabilities",
        "--entropy",
        "--applicability",
        "--views",
        "2",
    )
    chances, index, cover = plainly(model, pixels, views=2)
    drawn = np.isfinite(chances[..., 0]) & (2 * cover >= extent(pixels))
    said = chances.argmax(axis=-1)
    assert 0.5 < drawn.mean() < 1
    np.testing.assert_array_equal(got, np.where(drawn, said, 255))
    confidence = band(tmp_path / "m_confidence.tif")
    wanted = np.rint(100 * chances.max(axis=-1)[drawn])
    assert np.abs(confidence[drawn] - wanted).max() <= 1
    assert (confidence[~drawn] == 255).all()
    for k in range(3):
        held = band(tmp_path / "m_probabilities.tif", k + 1)
        np.testing.assert_allclose(held[drawn], chances[drawn, k], atol=3e-5)
        assert np.isnan(held[~drawn]).all()
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.nansum(chances * np.log(chances), axis=-1) / np.log(3)
    assert np.abs(band(tmp_path / "m_entropy.tif")[drawn] - 100 * entropy[drawn]).max() <= 1
    np.testing.assert_allclose(
        band(tmp_path / "m_dissimilarity.tif")[drawn], index[drawn], rtol=1e-3
    )
    held = geotl.load(model).file.training_samples
    limit = area_of_applicability(held.features, held.folds).threshold
    inside = band(tmp_path / "m_applicability.tif")
    np.testing.assert_array_equal(inside[drawn], index[drawn] <= limit)
    assert set(np.unique(inside)) == {0, 1, 255}


def plainly(model: Path, pixels: np.ndarray, *, views: int) -> tuple[np.ndarray, ...]:
    """Probabilities and index of cells, and their valid pixels, one window after the other."""
    loaded = geotl.load(model)
    network, held = loaded.network, loaded.file.training_samples
    area = area_of_applicability(held.features, held.folds)
    whole = (pixels > 0).all(axis=0)
    fill = network.normalise.fill.numpy()[:, None, None]
    image = torch.from_numpy(np.where(pixels > 0, pixels, fill).astype(np.float32))
    tall, wide = whole.shape
    cells = -(-tall // STEP), -(-wide // STEP)
    total = np.zeros((cells[0] * STEP, cells[1] * STEP, 4))
    weight = np.zeros(total.shape[:2])
    bump = np.sin(np.pi * (np.arange(PX) + 0.5) / PX) ** 2
    at = [sorted({*range(0, n - PX + 1, STEP), n - PX}) for n in (tall, wide)]
    for r, c in itertools.product(*at):
        here = np.s_[r : r + PX, c : c + PX]
        if whole[here].mean() < 0.5:
            continue
        tile = image[(None, slice(None), *here)]
        with torch.inference_mode():
            features = [network.features(t) for t in (tile, tile.flip(-1))[:views]]
            logits = torch.stack([network.classify(f) for f in features]).double().mean(dim=0)
            chances = torch.softmax(logits / network.temperature.double(), dim=1)[0].numpy()
        index = area.index(torch.cat(features).mean(dim=0, keepdim=True).numpy())
        total[here] += np.outer(bump, bump)[..., None] * np.append(chances, index)
        weight[here] += np.outer(bump, bump)
    split = (cells[0], STEP, cells[1], STEP)
    with np.errstate(invalid="ignore"):
        mean = total.reshape(*split, 4).sum((1, 3)) / weight.reshape(split).sum((1, 3))[..., None]
    padded = np.zeros((cells[0] * STEP, cells[1] * STEP), int)
    padded[:tall, :wide] = whole
    cover = padded.reshape(cells[0], STEP, cells[1], STEP).sum(axis=(1, 3))
    return mean[..., :3], mean[..., 3], cover


def extent(pixels: np.ndarray) -> np.ndarray:
    """Pixels of the scene in each cell."""
    sides = [np.minimum(STEP, n - np.arange(0, n, STEP)) for n in pixels.shape[1:]]
    return np.outer(*sides)


@pytest.mark.parametrize("profile", [{}, {"AREA_OR_POINT": "Point"}], ids=["area", "point"])
def test_a_checkerboard_keeps_its_edges(model, tmp_path, profile):
    """Squares of 64 pixels: every cell of the map is the square that it lies in."""
    squares = checkers(5, 6)
    path = write_scene(tmp_path / "s.tif", made_pixels(squares, 64))
    with rasterio.open(path, "r+") as held:
        held.update_tags(**profile)
    with rasterio.open(path) as held:
        place = held.transform
    for step in (16, 32):
        got = mapped(model, path, tmp_path / f"{step}.tif", "--stride-px", str(step))
        each = 64 // step
        right = got == squares.repeat(each, 0).repeat(each, 1)
        rows, cols = np.indices(got.shape)
        corner = np.isin(rows % each, (0, each - 1)) & np.isin(cols % each, (0, each - 1))
        # where four squares meet, windows of mixed ground outnumber the pure one
        assert right[~corner if step < PX else ...].all()
        with rasterio.open(tmp_path / f"{step}.tif") as held:
            assert held.transform.almost_equals(place @ Affine.scale(step))
    # a stride of 4 looks at every fourth pixel from the first: turned views undo that slant
    more = ("--stride-px", "8", "--resolution-px", "1", "--views", "4")
    full = mapped(model, path, tmp_path / "full.tif", *more).astype(int)
    for line, count in ((full[:, 30], 4), (full[30], 5)):
        found = np.flatnonzero(np.diff(line)) + 1
        np.testing.assert_allclose(found, 64 * np.arange(1, count + 1), atol=4)
        middles = (found[:-1] + found[1:]) / 2  # whichever class wins where both are seen
        np.testing.assert_allclose(middles, 64 * np.arange(1, count) + 32, atol=0.5)


@pytest.mark.parametrize("steps", [(1, 1), (3, 1), (3, 3), (PX, PX), (PX, 8)])
def test_steps_and_postings(model, tmp_path, steps):
    """Whatever they are, uniform ground stays uniform and the map lies on the scene's corner."""
    step, posting = steps
    path = write_scene(tmp_path / "s.tif", made_pixels(np.array([[2, 2]]), 41)[:, :41, :53])
    got = mapped(
        model, path, tmp_path / "m.tif", "--stride-px", str(step), "--resolution-px", str(posting)
    )
    assert got.shape == (-(-41 // posting), -(-53 // posting))
    assert (got == 2).all()
    with rasterio.open(tmp_path / "m.tif") as held:
        assert held.res == (10 * posting, 10 * posting)
        assert (held.bounds.left, held.bounds.top) == (500000, 4600000)


@pytest.mark.parametrize("steps", [("33", "33"), ("0", "1"), ("8", "3"), ("8", "16"), ("8", "0")])
def test_steps_that_do_not_go_are_refused(model, scene, tmp_path, capsys, steps):
    code = run(
        model, scene, tmp_path / "m.tif", "--stride-px", steps[0], "--resolution-px", steps[1]
    )
    refused(capsys, code, "allowed is")
    assert not list(tmp_path.iterdir())


def test_block_and_batch_sizes_change_nothing(model, scene, tmp_path):
    for mode in ("exact", "dense"):
        more = ("--mode", mode, "--resolution-px", "2", "--probabilities")
        first = mapped(model, scene, tmp_path / "a.tif", *more, "--block-px", "70", "--overwrite")
        second = mapped(model, scene, tmp_path / "b.tif", *more, "--overwrite")
        np.testing.assert_array_equal(first, second)
        chances = [band(tmp_path / f"{n}_probabilities.tif") for n in "ab"]
        np.testing.assert_allclose(*chances, atol=1e-4)


# --- where it lies ---------------------------------------------------------------------------


def test_areas_sum_to_the_valid_area(model, pixels, scene, tmp_path):
    run(model, scene, tmp_path / "m.tif")
    rows = table(tmp_path / "m_areas.csv")
    valid = int((pixels > 0).all(axis=0).sum())
    assert sum(int(row["pixels"]) for row in rows) == valid
    assert sum(float(row["square_metres"]) for row in rows) == pytest.approx(100 * valid, rel=1e-4)
    assert [row["class"] for row in rows] == [*CLASSES, "(valid, not mapped)"]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_geographic_scene_has_geodesic_areas(model, pixels, tmp_path):
    """Pixels of 10 m by 10 m in degrees, at 60 north."""
    down, across = 10 / 111412, 10 / 55800
    place = from_origin(24.0, 60.0, across, down)
    path = write_scene(tmp_path / "s.tif", pixels, nodata=0, crs="EPSG:4326", transform=place)
    run(model, path, tmp_path / "m.tif")
    valid = (pixels > 0).all(axis=0)
    geod, wanted = Geod(ellps="WGS84"), 0.0
    for row, count in enumerate(valid.sum(axis=1)):
        top, bottom = 60 - row * down, 60 - (row + 1) * down
        ring = [24, 24 + across, 24 + across, 24], [bottom, bottom, top, top]
        wanted += count * geod.polygon_area_perimeter(*ring)[0]
    found = sum(float(row["square_metres"]) for row in table(tmp_path / "m_areas.csv"))
    assert found == pytest.approx(wanted, rel=1e-4)
    with rasterio.open(tmp_path / "m.tif") as held:
        assert held.crs.to_epsg() == 4326
        assert (held.bounds.left, held.bounds.top) == (24, 60)
        assert held.res == pytest.approx((across * STEP, down * STEP))


@pytest.mark.parametrize("geographic", [False, True])
def test_another_resolution_is_brought_to_the_models(model, tmp_path, geographic):
    """The same ground at 5 m, or in pixels of a degree that are no squares, gives the same map."""
    squares = checkers(3, 4)
    plain = write_scene(tmp_path / "plain.tif", made_pixels(squares, 64, noise=20))
    wanted = mapped(model, plain, tmp_path / "plain_map.tif", "--stride-px", "32")
    if geographic:
        down, across = 10 / 111412, 20 / 111412  # 10 m by 10 m at 60 north
        profile = {"crs": "EPSG:4326", "transform": from_origin(24, 60, across / 2, down)}
        fine = made_pixels(squares, 128, noise=20)[:, ::2]
    else:
        profile = {"transform": from_origin(500000, 4600000, 5, 5)}
        fine = made_pixels(squares, 128, noise=20)
    path = write_scene(tmp_path / "fine.tif", fine, **profile)
    got = mapped(model, path, tmp_path / "fine_map.tif", "--stride-px", "32")
    assert got.shape[0] == wanted.shape[0]
    assert got.shape[1] - wanted.shape[1] in (0, 1)  # what rounding leaves at the right
    np.testing.assert_array_equal(got[:, : wanted.shape[1]], wanted)


@pytest.mark.parametrize(
    ("crs", "place", "ground"),
    [
        ("EPSG:3857", (0, 8399738, 20), 10),
        ("EPSG:2263", (980000, 200000, 32.8084), 10),
        ("EPSG:32633", (500000, 4600000, 10), 10),
    ],
)
def test_pixels_are_measured_on_the_ground(crs, place, ground):
    """Web Mercator at 60 north shows everything twice as large; US feet are no metres."""
    left, top, side = place
    grid = Grid(crs, (side, 0.0, left, 0.0, -side, top), 100, 100)
    assert pixel_m(grid) == pytest.approx((ground, ground), rel=0.005)


def test_a_south_up_scene_gives_the_same_map(model, pixels, scene, tmp_path):
    wanted = mapped(model, scene, tmp_path / "north.tif")
    bottom = 4600000 - 10 * pixels.shape[1]
    turned = write_scene(
        tmp_path / "s.tif",
        np.ascontiguousarray(pixels[:, ::-1]),
        nodata=0,
        transform=Affine(10, 0, 500000, 0, 10, bottom),
    )
    np.testing.assert_array_equal(mapped(model, turned, tmp_path / "south.tif"), wanted)
    with rasterio.open(tmp_path / "north.tif") as a, rasterio.open(tmp_path / "south.tif") as b:
        assert a.transform == b.transform


def test_a_rotated_scene_is_refused(model, pixels, tmp_path, capsys):
    path = write_scene(tmp_path / "s.tif", pixels, transform=Affine(8, 6, 500000, 6, -8, 4600000))
    refused(capsys, run(model, path, tmp_path / "m.tif"), "rotated")


# --- what a file holds -----------------------------------------------------------------------


def test_files_are_valid_cogs_that_say_what_they_are(model, scene, tmp_path):
    out = tmp_path / "m.tif"
    run(
        model, scene, out, "--resolution-px", "1", "--probabilities", "--entropy", "--applicability"
    )
    files = sorted(tmp_path.glob("*.tif"))
    assert len(files) == 6
    for path in files:
        valid, errors, warnings = cog_validate(path)
        assert valid, (path, errors)
        assert not warnings
    held = open_map(out)
    assert held.names == dict(enumerate(CLASSES))
    assert [held.colours[k] for k in range(3)] == list(COLOURS)
    assert (held.nodata, held.dtype) == (255, np.uint8)
    assert held.tags["GEOTL_MODEL_SHA256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert held.tags["GEOTL_RECIPE"] == "title: made\n"
    assert {"GEOTL_VERSION", "GEOTL_DATE", "GEOTL_TRAINED_WITH"} <= held.tags.keys()
    np.testing.assert_array_equal(training_boxes(held.tags), boxes(24))
    with rasterio.open(out) as source:
        assert [source.colormap(1)[k][:3] for k in (0, 2)] == [(17, 170, 34), (34, 68, 238)]
        assert source.profile["tiled"]
    with rasterio.open(tmp_path / "m_probabilities.tif") as source:
        assert source.descriptions == tuple(f"probability of {name}" for name in CLASSES)


def test_overviews_are_the_commonest_class(model, tmp_path):
    """A large map has coarser levels in which no class is invented by averaging."""
    path = write_scene(tmp_path / "s.tif", made_pixels(checkers(10, 10), 64))
    got = mapped(model, path, tmp_path / "m.tif", "--stride-px", "16", "--resolution-px", "1")
    assert set(np.unique(got)) == {0, 2}
    with rasterio.open(tmp_path / "m.tif") as held:
        assert held.overviews(1) == [2]
    with rasterio.open(tmp_path / "m.tif", overview_level=0) as held:
        assert set(np.unique(held.read(1))) == {0, 2}


def test_footprints_in_another_system_are_not_told(model, pixels, tmp_path):
    path = write_scene(tmp_path / "s.tif", pixels, crs="EPSG:32632")
    run(model, path, tmp_path / "m.tif")
    assert not len(training_boxes(open_map(tmp_path / "m.tif").tags))


# --- scenes as they come ---------------------------------------------------------------------


def test_shuffled_bands_and_another_offset_give_the_same_map(model, pixels, scene, tmp_path):
    more = ("--probabilities",)
    mapped(model, scene, tmp_path / "a.tif", *more)
    order = [2, 0, 3, 1]
    write_tile(tmp_path / "shuffled.tif", pixels[order], names=[BANDS[i] for i in order], nodata=0)
    offset = np.where(pixels > 0, pixels + 1000, 0).astype(np.uint16)
    write_scene(tmp_path / "offset.tif", offset, nodata=0)
    mapped(model, tmp_path / "shuffled.tif", tmp_path / "b.tif", *more)
    mapped(
        model, tmp_path / "offset.tif", tmp_path / "c.tif", *more, "--sensor", "sentinel2_l2a_n0400"
    )
    for name in "bc":
        for kind in ("", "_confidence", "_probabilities"):
            np.testing.assert_array_equal(
                band(tmp_path / f"{name}{kind}.tif"), band(tmp_path / f"a{kind}.tif")
            )


def test_wrong_radiometry_is_refused_and_force_maps(model, pixels, tmp_path, capsys):
    path = write_scene(tmp_path / "s.tif", (pixels / 10000).astype(np.float32))
    told = refused(
        capsys, run(model, path, tmp_path / "m.tif"), "outside the model's training range"
    )
    assert "--sensor" in told
    assert "--skip-value-check" in told
    assert list(tmp_path.iterdir()) == [path]
    assert run(model, path, tmp_path / "m.tif", "--skip-value-check") == 0
    offset = write_scene(tmp_path / "o.tif", (pixels + 4000).astype(np.uint16))
    refused(
        capsys, run(model, offset, tmp_path / "o_map.tif"), "outside the model's training range"
    )


def test_scenes_that_cannot_be_mapped_are_one_line(model, pixels, tmp_path, capsys):
    small = write_scene(tmp_path / "small.tif", pixels[:, :20, :90])
    empty = write_scene(tmp_path / "empty.tif", np.zeros_like(pixels), nodata=0)
    three = write_tile(tmp_path / "three.tif", pixels[:3], names=list(BANDS[:3]))
    for path, told in (
        (small, "smaller than the model's window"),
        (empty, "nothing to map"),
        (three, "B08"),
        (tmp_path / "none.tif", "no such file"),
    ):
        refused(capsys, run(model, path, tmp_path / "m.tif"), told)
        assert not (tmp_path / "m.tif").exists()
        assert not (tmp_path / ".m.tif.sweep").exists()


def test_a_file_cut_short_is_one_line(model, pixels, scene, tmp_path, capsys):
    path = tmp_path / "cut.tif"
    path.write_bytes(scene.read_bytes()[: scene.stat().st_size // 2])
    refused(capsys, run(model, path, tmp_path / "m.tif", "--skip-value-check"), "cut.tif")
    assert not (tmp_path / "m.tif").exists()


# --- areas of interest -----------------------------------------------------------------------


def test_an_area_of_interest_is_the_same_map_inside_and_nodata_outside(model, scene, tmp_path):
    import geopandas
    import shapely

    whole = mapped(model, scene, tmp_path / "whole.tif")
    shape = shapely.Polygon([(500300, 4599700), (501400, 4599500), (500900, 4598600)])
    table = geopandas.GeoDataFrame(geometry=[shape], crs="EPSG:32633")
    table.to_crs("EPSG:4326").to_file(tmp_path / "aoi.geojson")
    part = mapped(model, scene, tmp_path / "part.tif", "--aoi", str(tmp_path / "aoi.geojson"))
    with rasterio.open(tmp_path / "part.tif") as held:
        place = held.transform
    row, col = round((4600000 - place.f) / 80), round((place.c - 500000) / 80)
    assert (place.c, place.f) == (500000 + 80 * col, 4600000 - 80 * row)
    assert (row, col) == (3, 3)
    assert part.shape == (15, 15)
    xs = place.c + 80 * (np.arange(part.shape[1]) + 0.5)
    ys = place.f - 80 * (np.arange(part.shape[0]) + 0.5)
    inside = shapely.contains_xy(shape, *np.meshgrid(xs, ys))
    same = whole[row : row + part.shape[0], col : col + part.shape[1]]
    np.testing.assert_array_equal(part, np.where(inside, same, 255))
    box = mapped(
        model, scene, tmp_path / "box.tif", "--bbox", "500300", "4598600", "501400", "4599700"
    )
    assert box.shape == part.shape
    np.testing.assert_array_equal(box[inside], same[inside])


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--bbox", "1", "2", "3", "4"), "does not meet the scene"),
        (("--bbox", "3", "2", "1", "4"), "ascending"),
        (("--aoi", "nowhere.gpkg"), "nowhere.gpkg"),
        (("--aoi", "a.gpkg", "--bbox", "1", "2", "3", "4"), "give one of them"),
    ],
)
def test_areas_that_do_not_go_are_one_line(model, scene, tmp_path, capsys, more, told):
    refused(capsys, run(model, scene, tmp_path / "m.tif", *more), told)


# --- nothing lost ----------------------------------------------------------------------------


def test_an_existing_map_is_only_replaced_when_asked(model, scene, tmp_path, capsys):
    out = tmp_path / "m.tif"
    for path in (out, tmp_path / "m_confidence.tif", tmp_path / "m_areas.csv"):
        path.write_text("mine")
        refused(capsys, run(model, scene, out), "--overwrite")
        assert path.read_text() == "mine"
        path.unlink()
    assert run(model, scene, out) == 0
    assert run(model, scene, out, "--overwrite", "--stride-px", "16") == 0
    assert band(out).shape == (12, 16)


def test_an_output_that_is_read_is_refused(model, scene, tmp_path, capsys):
    before = scene.read_bytes()
    refused(capsys, run(model, scene, scene, "--overwrite"), "is among the inputs")
    assert scene.read_bytes() == before
    refused(capsys, run(model, scene, tmp_path / "m.png"), "give a name ending in .tif")
    (tmp_path / "d.tif").mkdir()
    refused(capsys, run(model, scene, tmp_path / "d.tif", "--overwrite"), "a folder")


def test_a_folder_that_cannot_be_written_is_one_line(model, scene, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    refused(capsys, run(model, scene, tmp_path / "file" / "m.tif"), "write elsewhere")


def test_a_read_only_folder_is_one_line(model, scene, tmp_path, capsys, monkeypatch):
    """Told by the system's word for it, as root may write everywhere else."""

    def denied(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", denied)
    refused(capsys, run(model, scene, tmp_path / "m.tif"), "cannot be written into (Read-only")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("room", [0, 4000, 16000, 90000])
def test_a_full_disk_is_one_line_and_the_old_map_survives(model, scene, tmp_path, capsys, room):
    out, more = tmp_path / "m.tif", ("--resolution-px", "1", "--probabilities", "--polygons")
    run(model, scene, out, *more)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with full_disk(room):
        code = run(
            model, scene, out, *more, "--stride-px", "16", "--resolution-px", "2", "--overwrite"
        )
    print(refused(capsys, code, str(tmp_path)))
    assert {n: (tmp_path / n).read_bytes() for n in before} == before
    assert (
        run(model, scene, out, *more, "--stride-px", "16", "--resolution-px", "2", "--overwrite")
        == 0
    )
    assert not (tmp_path / ".m.tif.sweep").exists()


class KilledError(Exception):
    """A run that ends before its time."""


def killed_after(monkeypatch: pytest.MonkeyPatch, what: str, times: int) -> None:
    """Let progress of `what` end a run."""
    plain = ProgressLine.counter

    def counter(line: ProgressLine, told: str) -> Callable[[int, int], None]:
        inner = plain(line, told)

        def tell(done: int, total: int) -> None:
            inner(done, total)
            if told == what and done == times:
                raise KilledError

        return tell

    monkeypatch.setattr(ProgressLine, "counter", counter)


MANY = ("--probabilities", "--applicability", "--entropy", "--polygons", "--block-px", "64")


@pytest.mark.parametrize("when", ["blocks", "drawing", "placing"])
def test_killed_and_run_again_every_file_is_identical(
    model, scene, tmp_path, monkeypatch, when, request
):
    run(model, scene, tmp_path / "whole" / "m.tif", *MANY)
    out = tmp_path / "cut" / "m.tif"
    with monkeypatch.context() as patch:
        if when == "placing":
            plain = Path.replace

            def replace(self: Path, target: Path) -> Path:
                if Path(target) == out:
                    raise KilledError
                return plain(self, target)

            patch.setattr(Path, "replace", replace)
        else:
            killed_after(patch, when, {"blocks": 5, "drawing": 1}[when])
        with pytest.raises(KilledError):
            run(model, scene, out, *MANY)
    assert not out.exists()
    first = json.loads((out.parent / ".m.tif.sweep" / "sweep.json").read_text())["note"]["date"]
    time.sleep(1.1)  # another second, another date
    assert run(model, scene, out, *MANY) == 0
    assert open_map(out).tags["GEOTL_DATE"] == first
    identical(tmp_path / "whole", out.parent, first)


def identical(whole: Path, again: Path, date: str) -> None:
    """The same files; bytes of those of the same date, values and tags of others."""
    names = sorted(p.name for p in whole.iterdir())
    assert sorted(p.name for p in again.iterdir()) == names
    for name in names:
        if name.endswith(".tif"):
            np.testing.assert_array_equal(band(whole / name), band(again / name))
        one, two = (whole / name).read_bytes(), (again / name).read_bytes()
        old = open_map(whole / "m.tif").tags["GEOTL_DATE"]
        assert len(one) == len(two)
        assert one.replace(old.encode(), b"") == two.replace(date.encode(), b""), name


def test_a_run_that_the_system_kills_goes_on(model, scene, tmp_path):
    """SIGKILL in another process, as soon as some blocks are done."""
    out = tmp_path / "cut" / "m.tif"
    words = ["map", str(model), str(scene), "-o", str(out), "-q", *EXACT, *MANY]
    child = subprocess.Popen([sys.executable, "-m", "geotl", *words])
    done = out.parent / ".m.tif.sweep" / "done.bin"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and child.poll() is None:
        if done.exists() and sum(done.read_bytes()) >= 2:
            break
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not out.exists()
    assert done.exists()
    first = json.loads((done.parent / "sweep.json").read_text())["note"]["date"]
    assert run(model, scene, out, *MANY) == 0
    assert run(model, scene, tmp_path / "whole" / "m.tif", *MANY) == 0
    identical(tmp_path / "whole", out.parent, first)


def test_a_changed_scene_is_mapped_anew(model, pixels, tmp_path, monkeypatch):
    path = write_scene(tmp_path / "s.tif", pixels)
    with monkeypatch.context() as patch:
        killed_after(patch, "blocks", 2)
        with pytest.raises(KilledError):
            run(model, path, tmp_path / "m.tif", "--block-px", "64")
    write_scene(path, np.ascontiguousarray(pixels[:, :, ::-1]))
    got = mapped(model, path, tmp_path / "m.tif", "--block-px", "64")
    np.testing.assert_array_equal(got, mapped(model, path, tmp_path / "anew.tif"))


def test_layers_of_an_earlier_map_are_named_and_left(model, scene, tmp_path, capsys):
    run(model, scene, tmp_path / "m.tif", "--entropy")
    before = (tmp_path / "m_entropy.tif").read_bytes()
    main(["map", str(model), str(scene), "-o", str(tmp_path / "m.tif"), *EXACT, "--overwrite"])
    assert "m_entropy.tif: left as it was" in capsys.readouterr().out
    assert (tmp_path / "m_entropy.tif").read_bytes() == before


def test_the_applicability_is_measured_over_the_models_own_views(model, scene, tmp_path, capsys):
    """Training features are means over two views; one view's would seem less like them."""
    words = ["map", str(model), str(scene), "-o", str(tmp_path / "m.tif"), *EXACT]
    assert main([*words, "--applicability"]) == 0
    told = capsys.readouterr().out
    assert "compares like with like" not in told
    assert "is dissimilar to all training tiles" in told
    assert open_map(tmp_path / "m.tif").tags["GEOTL_VIEWS"] == "2"
    assert main([*words, "--applicability", "--views", "1", "--overwrite"]) == 0
    assert "--views 2 compares like with like" in capsys.readouterr().out


# --- dense mode ------------------------------------------------------------------------------


def test_dense_mode_tells_how_often_it_agrees(model, scene, tmp_path, capsys):
    words = [str(model), str(scene), "-o"]
    for mode in ("dense", "auto"):
        out = tmp_path / f"{mode}.tif"
        assert main(["map", *words, str(out), "--mode", mode, "--stride-px", "8"]) == 0
        told = capsys.readouterr().out
        tags = open_map(out).tags
        assert f"{100 * float(tags['GEOTL_DENSE_AGREEMENT']):.1f} % of a sample" in told
        assert tags["GEOTL_MODE"] == ("dense" if "dense mode:" in told else "exact")
    exact = mapped(model, scene, tmp_path / "exact.tif")
    drawn = exact != 255
    share = (band(tmp_path / "dense.tif") == exact)[drawn].mean()
    assert share > 0.9
    assert abs(share - float(open_map(tmp_path / "dense.tif").tags["GEOTL_DENSE_AGREEMENT"])) < 0.1


def test_where_dense_mode_does_not_go_it_says_so(model, scene, tmp_path, capsys):
    code = run(model, scene, tmp_path / "m.tif", "--mode", "dense", "--stride-px", "6")
    refused(capsys, code, "stride of 6 px is no multiple")
    assert (
        main(["map", str(model), str(scene), "-o", str(tmp_path / "m.tif"), "--stride-px", "6"])
        == 0
    )
    told = capsys.readouterr().out
    assert "exact mode (dense mode needs a --stride-px that is a multiple of 4 px)\n" in told
    assert "choose" not in told
    assert re.search(r"[0-9,]+ windows, exact mode, 1 view, \d+ s\n", told)
    assert open_map(tmp_path / "m.tif").tags["GEOTL_MODE"] == "exact"


def test_levels_are_apart():
    """The classes differ by more than what the tests' noise may hide."""
    assert np.abs(LEVEL[0] - LEVEL[2]).max() > 1000
