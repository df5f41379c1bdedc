"""Smoothed probabilities and a minimum mapping unit: exact in blocks, and after a kill."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.map_fixtures import CLASSES, made_model, made_pixels, patches, write_scene
from helpers.pixel_models import made_pixel_model
from scipy.ndimage import label

import geotl
from geotl.cli.main import main
from geotl.console import ProgressLine
from geotl.errors import DataError
from geotl.evaluation.class_map import open_map
from geotl.imagery.windows import Window
from geotl.inference.pixel_predictor import PixelPredictor
from geotl.inference.smoothing import guided
from geotl.inference.window_grid import WindowGrid
from geotl.io.raster import Grid
from geotl.mapping import layers, sieving
from geotl.mapping.layers import Drawing
from geotl.mapping.options import MapOptions
from geotl.mapping.window_store import SheetLayout, open_sheet
from geotl.models.pixel_file import load_pixel_model, save_pixel_model
from geotl.models.pixel_model import PixelModel

pytestmark = pytest.mark.usefixtures("one_thread")
SMOOTH = ("--smooth-px", "7", "--probabilities", "--entropy", "--no-page")
SQUARE = np.ones((3, 3), int)  # patches are connected over corners too


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return made_pixel_model(tmp_path_factory.mktemp("model") / "m.safetensors", windows_px=(3, 7))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Noisy patches of three classes, 150 x 170 pixels, with holes in all bands and in one."""
    made = made_pixels(patches(7, 8), 24, noise=900)[:, :150, :170]
    made[:, 80:, 140:] = 0
    made[2, 20:40, 60:75] = 0
    return made


@pytest.fixture(scope="module")
def scene(pixels, tmp_path_factory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.tif", pixels, nodata=0)


def run(model: Path, scene: Path, out: Path, *more: str) -> int:
    out.parent.mkdir(exist_ok=True)
    return main(["map", str(model), str(scene), "-o", str(out), "-q", "--skip-value-check", *more])


def band(path: Path) -> np.ndarray:
    with rasterio.open(path) as stream:
        return stream.read()


def rasters(model: Path, scene: Path, out: Path, *more: str) -> dict[str, bytes]:
    """Bytes of a new map's pixels by layer."""
    assert run(model, scene, out, *more) == 0
    return {path.name: band(path).tobytes() for path in sorted(out.parent.glob("*.tif"))}


def refused(capsys: pytest.CaptureFixture[str], code: int, text: str) -> None:
    error = capsys.readouterr().err
    assert code == 2
    assert error.count("\n") == 1
    assert text in error, error


def sizes(classes: np.ndarray) -> np.ndarray:
    """The size of the patch in which each cell lies [H,W]; 0 for cells without a class."""
    found = np.zeros(classes.shape, np.int64)
    for value in np.unique(classes[classes != 255]):
        numbers, _ = label(classes == value, SQUARE)
        found += np.where(numbers > 0, np.bincount(numbers.ravel())[numbers], 0)
    return found


# --- smoothing -------------------------------------------------------------------------------


@pytest.mark.parametrize("block_px", [40, 64, 128])
def test_every_block_size_gives_the_same_smoothed_map(model, scene, tmp_path, block_px):
    whole = rasters(model, scene, tmp_path / "whole" / "m.tif", *SMOOTH)
    words = (*SMOOTH, "--block-px", str(block_px))
    assert whole == rasters(model, scene, tmp_path / "blocks" / "m.tif", *words)
    assert len(whole) == 4


def test_smoothing_takes_out_noise_and_shows_in_every_layer(model, scene, tmp_path):
    plain, smooth = tmp_path / "plain" / "m.tif", tmp_path / "smooth" / "m.tif"
    run(model, scene, plain, *SMOOTH[2:])
    run(model, scene, smooth, *SMOOTH)
    truth = patches(7, 8).repeat(24, 0).repeat(24, 1)[:150, :170]
    before, after = band(plain)[0], band(smooth)[0]
    np.testing.assert_array_equal(before == 255, after == 255)
    there = after != 255
    assert (after == truth)[there].mean() > (before == truth)[there].mean() + 0.02
    shares = band(smooth.with_name("m_probabilities.tif"))
    np.testing.assert_array_equal(shares.argmax(axis=0)[there], after[there])
    confidence = band(smooth.with_name("m_confidence.tif"))[0]
    np.testing.assert_array_equal(confidence[there], np.rint(100 * shares.max(axis=0)[there]))
    assert (np.isnan(shares[0]) == ~there).all()


def drawn_in_parts(monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    """Maps are drawn in blocks of so many pixels."""

    def parts(within: Window, _: int) -> Iterator[Window]:
        below, right = within.row + within.height, within.col + within.width
        for row in range(within.row, below, side):
            for col in range(within.col, right, side):
                yield Window(row, col, min(side, below - row), min(side, right - col))

    monkeypatch.setattr(layers, "_blocks", parts)


@pytest.mark.parametrize("side", [16, 64, 100])
def test_drawing_in_parts_gives_the_same_smoothed_map(model, scene, tmp_path, monkeypatch, side):
    whole = rasters(model, scene, tmp_path / "whole" / "m.tif", *SMOOTH)
    drawn_in_parts(monkeypatch, side)
    assert whole == rasters(model, scene, tmp_path / "parts" / "m.tif", *SMOOTH)


def filtered(members: PixelModel, pixels: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Smoothed probabilities of a whole scene without blocks, wrong at pixels that do not count."""
    image = np.where(pixels > 0, pixels, np.nan).astype(np.float32)
    rows, cols = (np.arange(length) for length in image.shape[1:])
    plain = PixelPredictor(members).predict_windows(image, rows, cols, 1).probabilities
    plain[~there] = (0, 0, 1)
    z = (image - column(members.features.mean)) / column(members.features.sd)
    guide = np.full(there.shape, np.nan)
    guide[there] = np.nanmean(z[:, there], axis=0)
    smooth = guided(plain, guide, 7)
    assert np.abs(smooth - plain)[there].max() > 0.2
    return smooth


def column(values: Sequence[float]) -> np.ndarray:
    return np.array(values)[:, None, None]


def test_a_map_has_the_probabilities_of_the_filter(model, pixels, scene, tmp_path):
    """But for the 16 bits in which they are kept."""
    run(model, scene, tmp_path / "m.tif", *SMOOTH, "--block-px", "64")
    there = (pixels > 0).all(axis=0)
    expected = filtered(load_pixel_model(model).model, pixels, there)
    found = np.moveaxis(band(tmp_path / "m_probabilities.tif"), 0, -1)
    np.testing.assert_allclose(found[there], expected[there], atol=5e-4)
    assert np.isnan(found[~there]).all()


def test_pixels_that_lack_some_bands_count_where_the_model_uses_them(
    model, pixels, scene, tmp_path
):
    """They are smoothed with the brightness of the bands they have, and smooth their neighbours."""
    file = load_pixel_model(model)
    lenient = replace(file.model, features=replace(file.model.features, missing_bands="use"))
    save_pixel_model(tmp_path / "m.safetensors", replace(file, model=lenient))
    run(tmp_path / "m.safetensors", scene, tmp_path / "m.tif", *SMOOTH, "--block-px", "64")
    there = (pixels > 0).any(axis=0)
    expected = filtered(lenient, pixels, there)
    found = np.moveaxis(band(tmp_path / "m_probabilities.tif"), 0, -1)
    np.testing.assert_allclose(found[there], expected[there], atol=5e-4)
    assert np.isnan(found[~there]).all()
    assert (there & (pixels == 0).any(axis=0)).sum() == 20 * 15


def test_an_area_of_interest_has_the_smoothed_pixels_of_the_whole_map(model, scene, tmp_path):
    run(model, scene, tmp_path / "whole.tif", *SMOOTH)
    box = ("--bbox", "500330", "4599000", "501010", "4599710", "--block-px", "50")
    run(model, scene, tmp_path / "part.tif", *SMOOTH, *box)
    whole = band(tmp_path / "whole.tif")[0]
    np.testing.assert_array_equal(band(tmp_path / "part.tif")[0], whole[29:100, 33:101])
    shares, part = (band(tmp_path / f"{name}_probabilities.tif") for name in ("whole", "part"))
    np.testing.assert_array_equal(part, shares[:, 29:100, 33:101])


def test_only_pixels_of_interest_are_told_of(model, scene, tmp_path, capsys):
    """Not those around them, which smoothing needs."""
    box = ("--bbox", "500330", "4599000", "501010", "4599710", "--smooth-px", "9", "--no-page")
    words = [
        "map",
        str(model),
        str(scene),
        "-o",
        str(tmp_path / "m.tif"),
        "--skip-value-check",
        *box,
    ]
    assert main(words) == 0
    count = (band(tmp_path / "m.tif") != 255).sum()
    assert f"{count:,} pixels, smoothed in windows of 9 px" in capsys.readouterr().out


class KilledError(Exception):
    """A run that ends before its time."""


def killed_at(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Maps end after two blocks, or before small patches are merged."""
    plain = ProgressLine.counter

    def counter(line: ProgressLine, what: str):
        inner = plain(line, what)

        def progress(done: int, total: int) -> None:
            inner(done, total)
            if what == when and done == 2:
                raise KilledError

        return progress

    def sieve(*_: object, **__: object) -> None:
        raise KilledError

    monkeypatch.setattr(ProgressLine, "counter", counter)
    if when == "sieving":
        monkeypatch.setattr(sieving.features, "sieve", sieve)


@pytest.mark.parametrize("when", ["blocks", "sieving"])
def test_killed_and_run_again_every_file_is_identical(model, scene, tmp_path, monkeypatch, when):
    whole, out = tmp_path / "whole" / "m.tif", tmp_path / "cut" / "m.tif"
    words = ("--smooth-px", "5", "--mmu-ha", "0.2", "--polygons", "--block-px", "64")
    with monkeypatch.context() as patch:
        killed_at(patch, when)
        with pytest.raises(KilledError):
            run(model, scene, out, *words)
    assert not out.exists()
    date = json.loads((out.parent / ".m.tif.sweep" / "sweep.json").read_text())["note"]["date"]
    time.sleep(1.1)  # another second, another date
    assert run(model, scene, whole, *words) == run(model, scene, out, *words) == 0
    first = open_map(whole).tags["GEOTL_DATE"]
    assert open_map(out).tags["GEOTL_DATE"] == date != first
    for path in sorted(whole.parent.iterdir()):
        again = (out.parent / path.name).read_bytes().replace(date.encode(), b"")
        assert path.read_bytes().replace(first.encode(), b"") == again, path.name


@pytest.mark.parametrize(("first", "then"), [(5, 9), (9, 5), (None, 5), (5, None)])
def test_another_side_begins_a_killed_map_from_the_start(
    model, scene, tmp_path, monkeypatch, first, then
):
    """Or smoothing where there was none, and none where there was: in an area of interest."""

    def words(side: int | None) -> tuple[str, ...]:
        box = ("--bbox", "500330", "4599000", "501010", "4599710", "--probabilities")
        return box if side is None else (*box, "--smooth-px", str(side))

    with monkeypatch.context() as patch:
        killed_at(patch, "blocks")
        with pytest.raises(KilledError):
            run(model, scene, tmp_path / "m.tif", "--block-px", "32", *words(first))
    assert (tmp_path / ".m.tif.sweep").exists()
    run(model, scene, tmp_path / "m.tif", "--block-px", "32", *words(then), "--no-page")
    run(model, scene, tmp_path / "whole.tif", *words(then), "--no-page")
    for name in ("", "_probabilities"):
        one, other = (band(tmp_path / f"{stem}{name}.tif") for stem in ("m", "whole"))
        np.testing.assert_array_equal(one, other)


# --- minimum mapping unit --------------------------------------------------------------------


def drawn(folder: Path, classes: np.ndarray) -> tuple[Drawing, Path]:
    """A class map of 10-m cells as it is drawn before it is finished."""
    high, wide = classes.shape
    sheet = open_sheet(folder / "s", "k", {}, SheetLayout((high, wide), (high, wide), 3, 1, 1))
    sheet.cover[:] = 1
    cells = Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0), high, wide)
    drawing = Drawing(
        sheet,
        WindowGrid(high, wide, 1, 1, 1),
        cells,
        Window(0, 0, high, wide),
        np.inf,
        lambda at: np.ones((at.height, at.width), bool),
    )
    path = folder / "classes.tif"
    with sieving.map_writer(path, cells, "uint8", 1, 255) as file:
        file.put(classes[None], drawing.within)
    return drawing, path


def test_small_patches_are_merged_and_others_stay(tmp_path):
    classes = np.zeros((600, 30), np.uint8)
    classes[5:7, 5:7] = 1  # 4 px: merged
    classes[5:8, 15:18] = 1  # 9 px: stays
    classes[20:24, 20:24] = 2  # 16 px with a hole of 1 px, which is merged into it
    classes[21, 21] = 1
    slanting = np.arange(40, 52)
    classes[slanting, slanting - 35] = 2  # 12 px that touch at corners alone: stays
    classes[560:562, 0:3] = 1  # 6 px, beyond the first block that is drawn: merged
    drawing, path = drawn(tmp_path, classes)
    sieved = sieving.sieve_classes(drawing, path, 9)
    expected = classes.copy()
    expected[5:7, 5:7] = expected[560:562, 0:3] = 0
    expected[21, 21] = 2
    np.testing.assert_array_equal(band(path)[0], expected)
    assert sieved.changed == 4 + 6 + 1
    assert sieved.areas.pixels.tolist() == np.bincount(expected.ravel()).tolist()
    assert sieved.areas.square_metres.sum() == pytest.approx(100 * classes.size, rel=1e-3)
    assert not path.with_name("sieved.tif").exists()


def test_cells_without_a_class_are_neither_filled_nor_spread(tmp_path):
    classes = np.full((20, 20), 255, np.uint8)
    classes[:, :10] = 0
    classes[4, 4] = 255  # a hole of one cell
    classes[8:10, 9] = 1  # small, at the border: merged into class 0
    classes[15, 15] = classes[15, 16] = 2  # small, alone: stays
    drawing, path = drawn(tmp_path, classes)
    sieved = sieving.sieve_classes(drawing, path, 5)
    expected = classes.copy()
    expected[8:10, 9] = 0
    np.testing.assert_array_equal(band(path)[0], expected)
    assert sieved.areas.unmapped_pixels == (classes == 255).sum()


@pytest.mark.parametrize("more", [(), ("--smooth-px", "5")])
def test_everything_beside_a_map_describes_the_merged_one(model, scene, tmp_path, more):
    plain, out = tmp_path / "plain" / "m.tif", tmp_path / "mmu" / "m.tif"
    run(model, scene, plain, "--no-page", *more)
    assert run(model, scene, out, "--mmu-ha", "0.3", "--polygons", *more) == 0
    before, after = band(plain)[0], band(out)[0]
    assert (sizes(before)[before != 255] < 30).any()
    assert (sizes(after)[after != 255] >= 30).all()
    np.testing.assert_array_equal(before == 255, after == 255)
    stays = sizes(before) >= 30
    np.testing.assert_array_equal(after[stays], before[stays])
    one, other = (band(path.with_name("m_confidence.tif")) for path in (plain, out))
    np.testing.assert_array_equal(one, other)
    with (out.parent / "m_areas.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    counts = [int(row["pixels"]) for row in rows[:3]]
    assert counts == [int((after == k).sum()) for k in range(3)]
    tags = open_map(out).tags
    assert tags["GEOTL_MMU_HA"] == "0.3"
    assert tags.get("GEOTL_SMOOTH_PX") == (more[1] if more else None)
    page = (out.parent / "m.html").read_text()
    assert "Patches below 0.3 ha took the class of their largest neighbour" in page
    assert "Minimum mapping unit [ha]" in page
    assert ("A guided filter with windows of 5 px" in page) == bool(more)
    assert "GEOTL_MMU_HA" not in open_map(plain).tags


def test_a_map_prints_how_much_was_merged(model, scene, tmp_path, capsys):
    words = ["--mmu-ha", "0.3", "--smooth-px", "3", "--no-page", "--skip-value-check"]
    assert main(["map", str(model), str(scene), "-o", str(tmp_path / "m.tif"), *words]) == 0
    printed = capsys.readouterr().out
    run(model, scene, tmp_path / "plain.tif", "--smooth-px", "3", "--no-page")
    merged = (band(tmp_path / "m.tif") != band(tmp_path / "plain.tif")).sum()
    assert f"patches below 0.3 ha (30 px): {merged:,} px took the class" in printed
    assert "smoothed in windows of 3 px" in printed


def test_accuracy_takes_a_filtered_map_like_any_other(model, scene, tmp_path, capsys):
    run(model, scene, tmp_path / "m.tif", "--smooth-px", "5", "--mmu-ha", "0.3", "--no-page")
    truth = patches(7, 8).repeat(24, 0).repeat(24, 1)[:150, :170].astype(np.uint8)
    with rasterio.open(tmp_path / "m.tif") as held:
        told = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 150, "width": 170}
        place = {"crs": held.crs, "transform": held.transform}
        with rasterio.open(tmp_path / "truth.tif", "w", **told, **place) as to:
            to.write(truth, 1)
            to.update_tags(**{f"CLASS_{k}": name for k, name in enumerate(CLASSES)})
    capsys.readouterr()
    assert main(["accuracy", str(tmp_path / "m.tif"), str(tmp_path / "truth.tif"), "-q"]) == 0
    found = band(tmp_path / "m.tif")[0]
    share = (found == truth)[found != 255].mean()
    assert f"overall accuracy {share:.4f}" in capsys.readouterr().out


# --- what does not go ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--smooth-px", "4"], "smooth-px 4: allowed are odd numbers from 3 to 101"),
        (["--smooth-px", "1"], "smooth-px 1: allowed are odd numbers from 3 to 101"),
        (["--smooth-px", "103"], "smooth-px 103: allowed are odd numbers from 3 to 101"),
        (["--mmu-ha", "-0.5"], "mmu-ha -0.5: allowed is 0 ha or more"),
        (["--mmu-ha", "inf"], "mmu-ha inf: allowed is 0 ha or more"),
        (["--mmu-ha", "nan"], "mmu-ha nan: allowed is 0 ha or more"),
    ],
)
def test_bad_values_are_one_line(model, scene, tmp_path, capsys, words, text):
    refused(capsys, run(model, scene, tmp_path / "m.tif", *words), text)
    assert not list(tmp_path.iterdir())


def test_models_of_tiles_take_a_mapping_unit_and_no_smoothing(pixels, tmp_path, capsys):
    """The unit counts cells of the map, here of 160 m."""
    model = made_model(tmp_path / "tiles.safetensors")
    scene = write_scene(tmp_path / "s.tif", made_pixels(patches(8, 8), 32))
    code = run(model, scene, tmp_path / "m.tif", "--smooth-px", "5")
    refused(capsys, code, "--smooth-px goes with a model of pixels alone")
    with pytest.raises(DataError, match="a model of pixels alone"):
        geotl.load(model).map(scene, options=MapOptions(smooth_px=5))
    assert run(model, scene, tmp_path / "plain.tif", "--no-page") == 0
    assert run(model, scene, tmp_path / "m.tif", "--mmu-ha", "10", "--no-page") == 0
    before, after = band(tmp_path / "plain.tif")[0], band(tmp_path / "m.tif")[0]
    assert (sizes(before) < 4).any()
    assert (sizes(after) >= 4).all()
