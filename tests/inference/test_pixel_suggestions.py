"""geotl suggest of a model of pixels: pixels to label next, spread over the scene."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from helpers.labelled_scenes import BANDS
from helpers.map_fixtures import made_pixels, patches
from helpers.pixel_models import made_pixel_model, small_network
from helpers.tiles import write_tile

from geotl.cli.main import main
from geotl.data.labels import read_labels
from geotl.data.pixel_labels import MAX_LATTICE, PixelRules, lattice_step, place_pixels
from geotl.imagery.scene import open_scenes
from geotl.imagery.sensors import get_sensor
from geotl.inference.active_learning import SuggestOptions, open_for, suggest
from geotl.inference.pixel_area import FeatureSpace
from geotl.inference.pixel_candidates import (
    NEAR_PX,
    PixelSearch,
)
from geotl.inference.pixel_predictor import PixelPredictor
from geotl.io.raster import Grid
from geotl.models.pixel_file import load_pixel_model

pytestmark = pytest.mark.usefixtures("one_thread")
HALO = 7  # of windows of 15 px


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose training pixels lie in the scene's upper left 72 x 72 pixels."""
    return made_pixel_model(tmp_path_factory.mktemp("model") / "model.safetensors")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Larger patches than those of training, with a corner without data."""
    pixels = made_pixels(patches(10, 12, seed=4), 16, seed=5)
    pixels[:, :30, -40:] = 0
    return write_tile(tmp_path_factory.mktemp("scene") / "scene.tif", pixels, names=BANDS)


def told(model: Path, scene: Path, out: Path, *more: str) -> int:
    return main(["suggest", str(model), str(scene), "-o", str(out), "--by", "uncertain", *more])


def test_points_are_pixels_that_labels_take(
    model: Path, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "next.gpkg"
    assert told(model, scene, out, "-n", "8", "--ignore-applicability") == 0
    printed = capsys.readouterr().out
    assert "pixels examined" in printed
    assert "train again: geotl run " in printed  # red before: no command
    assert "labels.path=LABELS task=pixels" in printed
    table = geopandas.read_file(out)
    assert table["rank"].tolist() == list(range(1, 9))
    assert table["class"].isna().all()
    table["class"] = ["a", "b"] * 4
    table.to_file(out)
    opened = open_scenes([scene], get_sensor("sentinel2_l2a"), BANDS)
    labels = read_labels(out, field="class", crs_to=opened[0].grid.crs)
    placed = place_pixels(opened, labels, PixelRules())
    assert not placed.rejected
    classes = map_probabilities(model, scene)
    for pixel, row in zip(placed.pixels, table.itertuples(), strict=True):
        own = classes[pixel.place.row, pixel.place.col]
        assert own.max() == pytest.approx(row.confidence, abs=1e-5)
        first, second = np.sort(own)[::-1][:2]
        assert row.reason.startswith(f"{row.suggested} {first:.2f} or ")
        assert row.reason.endswith(f"{second:.2f}")


def map_probabilities(model: Path, scene: Path) -> np.ndarray:
    """Probabilities [H,W,K] of all pixels, as maps have them."""
    file = load_pixel_model(model)
    with rasterio.open(scene) as image:
        data = image.read().astype(np.float32)
    data[:, (data == 0).all(axis=0)] = np.nan
    predictor = PixelPredictor(file.model)
    halo = -(-file.model.halo // predictor.lattice_px) * predictor.lattice_px
    wide = np.pad(data, ((0, 0), (halo, halo), (halo, halo)), constant_values=np.nan)
    rows, cols = (np.arange(side) + halo for side in data.shape[1:])
    return predictor.predict_windows(wide, rows, cols, 1).probabilities


def test_suggestions_keep_apart_from_each_other_and_from_labels(
    model: Path, scene: Path, tmp_path: Path
) -> None:
    known = tmp_path / "known.gpkg"
    spots = [shapely.Point(501205, 4599005), shapely.Point(501505, 4598705)]
    geopandas.GeoDataFrame({"class": ["a", "b"]}, geometry=spots, crs="EPSG:32633").to_file(known)
    out = tmp_path / "next.gpkg"
    more = ["-n", "40", "--ignore-applicability", "--stride-px", "2", "--labels", str(known)]
    assert told(model, scene, out, *more) == 0
    points = geopandas.read_file(out).geometry
    xy = np.stack([points.x, points.y], axis=1)
    assert chebyshev(xy, xy)[~np.eye(len(xy), dtype=bool)].min() >= 10 * (2 * HALO + 1)
    trained = load_pixel_model(model).training.places
    labelled = np.concatenate([trained, [[p.x, p.y] for p in spots]])
    assert chebyshev(xy, labelled).min() > 10 * (NEAR_PX // 2)
    assert np.ptp(xy, axis=0).min() > 1000  # of 1,600 and 1,920 m


def chebyshev(ours: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.abs(ours[:, None] - others[None]).max(axis=2)


def test_the_first_are_less_certain_than_pixels_at_random(model: Path, scene: Path) -> None:
    file = load_pixel_model(model)
    found = suggest(file, open_for(file, [scene]), 10, SuggestOptions(by="uncertain", outside=True))
    every = map_probabilities(model, scene).max(axis=2)
    assert np.mean(found.confidence) < np.nanmean(every) - 0.1


def test_no_pixel_without_data_is_suggested(model: Path, scene: Path) -> None:
    file = load_pixel_model(model)
    opened = open_for(file, [scene])
    found = suggest(file, opened, 60, SuggestOptions(by="uncertain", outside=True, step_px=4))
    rows = np.array([(4600000 - p.y) // 10 for p in found.points])
    cols = np.array([(p.x - 500000) // 10 for p in found.points])
    assert not ((rows < 30) & (cols >= 192 - 40)).any()
    assert found.counts.unseen >= 70
    assert found.counts.windows == 40 * 48


def test_probabilities_do_not_depend_on_the_squares(
    model: Path, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = load_pixel_model(model)
    first = suggest(file, open_for(file, [scene]), 12, SuggestOptions(by="uncertain"))
    monkeypatch.setattr("geotl.data.pixel_labels._READ_PX", 40)
    again = suggest(file, open_for(file, [scene]), 12, SuggestOptions(by="uncertain"))
    assert [p.wkt for p in first.points] == [p.wkt for p in again.points]
    assert first.confidence == pytest.approx(again.confidence, abs=1e-6)
    assert max(first.dissimilarity) <= first.threshold


def test_a_model_with_a_network_is_asked_with_it(scene: Path, tmp_path: Path) -> None:
    path = made_pixel_model(tmp_path / "m.safetensors", deep=small_network())
    file = load_pixel_model(path)
    opened = open_for(file, [scene])
    space = FeatureSpace.of(file)
    search = PixelSearch(file, space, 40, 0)
    free = [type("Free", (), {"meets": lambda _, windows: np.zeros(len(windows), bool)})()]
    looked = next(iter(search.blocks(opened, free)))
    expected = map_probabilities(path, scene)
    at = tuple(looked.candidates.corners.T)
    np.testing.assert_allclose(looked.candidates.probabilities, expected[at], atol=2e-3)
    assert looked.candidates.features.shape[1] == len(space.mean)


def test_a_large_scene_gives_some_thousand_candidates() -> None:
    grid = Grid(None, (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), 10980, 10980)
    step = lattice_step([grid, grid])
    assert 0.95 * MAX_LATTICE < 2 * (10980 / step) ** 2 <= MAX_LATTICE


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["-n", "0"], "-n: given 0; allowed: at least 1"),
        (["--stride-px", "0"], "--stride-px: given 0; allowed: at least 1"),
    ],
)
def test_bad_numbers_are_one_clear_line(
    model: Path,
    scene: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    words: str,
) -> None:
    assert told(model, scene, tmp_path / "next.gpkg", *more) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "next.gpkg").exists()
