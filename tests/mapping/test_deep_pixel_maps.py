"""Maps of pixel models with a network: its tiles lie on one lattice, whatever the blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.map_fixtures import made_pixels, patches, write_scene
from helpers.pixel_models import (
    deep_at,
    made_pixel_model,
    small_network,
    without_checksum,
)
from rasterio import warp
from rasterio.transform import Affine
from safetensors.numpy import load_file, save_file

from geotl.cli.main import main
from geotl.console import ProgressLine
from geotl.errors import ModelError
from geotl.inference import pixel_predictor
from geotl.inference.smoothing import brightness, guided
from geotl.models.pixel_features import BlockFeatures
from geotl.models.pixel_file import load_pixel_model

pytestmark = pytest.mark.usefixtures("one_thread")


class KilledError(Exception):
    """A run that ends before its time."""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return made_pixel_model(folder / "m.safetensors", deep=small_network())


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Patches of three classes, 187 x 243 pixels, with holes in all bands and in one."""
    made = made_pixels(patches(8, 11), 24)[:, :187, :243]
    made[:, 100:, 200:] = 0
    made[2, 20:50, 120:160] = 0
    return made


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch) -> None:
    monkeypatch.setattr(pixel_predictor, "TILE_PX", 64)


def mapped(model: Path, scene: Path, out: Path, *more: str) -> np.ndarray:
    """Probabilities [K,H,W] of a map, NaN where a pixel has no class."""
    words = ("--probabilities", "--no-page", "-q", "--precision", "float32", *more)
    assert main(["map", str(model), str(scene), "-o", str(out), *words]) == 0
    with rasterio.open(out.with_name(f"{out.stem}_probabilities.tif")) as layer:
        return layer.read()


@pytest.fixture(scope="module")
def whole(model, pixels, tmp_path_factory) -> np.ndarray:
    """The map of the scene in one block."""
    folder = tmp_path_factory.mktemp("whole")
    scene = write_scene(folder / "scene.tif", pixels, nodata=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixel_predictor, "TILE_PX", 64)
        return mapped(model, scene, folder / "m.tif", "--block-px", "256")


def test_pixels_have_the_probabilities_of_their_features(model, pixels, whole):
    """As the model gives them of features computed pixel by pixel over the whole scene."""
    fusion = load_pixel_model(model).model
    good = pixels > 0
    random = np.random.default_rng(5)
    rows, cols = (random.integers(0, side, 200) for side in pixels.shape[1:])
    block = BlockFeatures(fusion.features, pixels, good)
    values = block.at(rows, cols) | {"deep": deep_at(fusion.deep, block, rows, cols)}
    plain = np.exp(fusion.log_probabilities(values)).T
    seen = good.all(axis=0)[rows, cols]
    found = whole[:, rows, cols]
    np.testing.assert_allclose(found[:, seen], plain[:, seen], atol=1e-4)
    assert np.isnan(found[:, ~seen]).all()


@pytest.mark.parametrize("block_px", [30, 64, 128, 192])
def test_every_block_size_gives_the_same_map(model, pixels, whole, tmp_path, block_px):
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    found = mapped(model, scene, tmp_path / "m.tif", "--block-px", str(block_px))
    np.testing.assert_array_equal(found, whole)


@pytest.fixture(scope="module")
def smooth(model, pixels, tmp_path_factory) -> np.ndarray:
    """The smoothed map of the scene in one block."""
    folder = tmp_path_factory.mktemp("smooth")
    scene = write_scene(folder / "scene.tif", pixels, nodata=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixel_predictor, "TILE_PX", 64)
        return mapped(model, scene, folder / "m.tif", "--block-px", "256", "--smooth-px", "9")


def test_a_smoothed_map_is_the_filter_over_the_plain_one(model, pixels, whole, smooth):
    of = load_pixel_model(model).model.features
    there = (pixels > 0).all(axis=0)
    image = np.where(pixels > 0, pixels, np.nan).astype(np.float32)
    plain = np.moveaxis(np.where(there, whole, 0), 0, -1)
    expected = guided(plain, brightness(image, of.mean, of.sd), 9)
    found = np.moveaxis(smooth, 0, -1)
    np.testing.assert_allclose(found[there], expected[there], atol=1e-4)
    assert np.isnan(found[~there]).all()
    assert np.abs(found - plain)[there].max() > 0.1


@pytest.mark.parametrize("block_px", [64, 128, 192])
def test_every_block_size_gives_the_same_smoothed_map(model, pixels, smooth, tmp_path, block_px):
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    words = ("--smooth-px", "9", "--block-px", str(block_px))
    np.testing.assert_array_equal(mapped(model, scene, tmp_path / "m.tif", *words), smooth)


@pytest.mark.parametrize("when", ["blocks", "drawing"])
def test_killed_and_run_again_the_smoothed_map_is_the_same(
    model, pixels, smooth, tmp_path, monkeypatch, when
):
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    out, words = tmp_path / "m.tif", ("--smooth-px", "9", "--block-px", "64")
    begun: list[tuple[str, int]] = []
    plain = ProgressLine.counter

    def counter(line: ProgressLine, told: str):
        inner = plain(line, told)

        def tell(done: int, total: int) -> None:
            inner(done, total)
            begun.append((told, done))
            if len(begun) == {"blocks": 5, "drawing": 13}[when]:
                raise KilledError

        return tell

    monkeypatch.setattr(ProgressLine, "counter", counter)
    with pytest.raises(KilledError):
        mapped(model, scene, out, *words)
    assert begun[-1] == (when, {"blocks": 5, "drawing": 1}[when])
    assert not out.exists()
    np.testing.assert_array_equal(mapped(model, scene, out, *words), smooth)
    assert [done for told, done in begun if told == "blocks"] == list(range(1, 13))


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (40, 17)])
def test_scenes_smaller_than_the_halo_are_mapped(model, tmp_path, shape):
    small = made_pixels(patches(2, 2), 24)[:, : shape[0], : shape[1]]
    scene = write_scene(tmp_path / "scene.tif", small, nodata=0)
    found = mapped(model, scene, tmp_path / "m.tif")
    assert found.shape[1:] == shape
    assert (found.sum(axis=0) > 0).all()


def test_a_scene_with_south_up_has_the_same_map(model, pixels, whole, tmp_path):
    grid = Affine(10, 0, 5e5, 0, 10, 4.6e6)
    scene = write_scene(tmp_path / "scene.tif", pixels[:, ::-1], nodata=0, transform=grid)
    np.testing.assert_array_equal(mapped(model, scene, tmp_path / "m.tif"), whole)


def test_what_stands_in_invalid_pixels_never_counts(model, pixels, whole, tmp_path):
    other = np.where(pixels == 0, 65535, pixels)
    scene = write_scene(tmp_path / "scene.tif", other, nodata=65535)
    np.testing.assert_array_equal(mapped(model, scene, tmp_path / "m.tif"), whole)


def test_a_file_with_other_tensors_than_its_network_is_refused(model, tmp_path):
    tensors = load_file(model)
    name = next(key for key in tensors if key.startswith("network."))
    tensors[name] = tensors[name][:1]
    save_file(tensors, tmp_path / "m.safetensors", metadata=without_checksum(model))
    with pytest.raises(ModelError, match="cannot be those of a model"):
        load_pixel_model(tmp_path / "m.safetensors")


def test_a_rotated_grid_is_refused_with_the_remedy(model, pixels, tmp_path, capsys):
    grid = Affine(8, 6, 5e5, 6, -8, 4.6e6)
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0, transform=grid)
    assert main(["map", str(model), str(scene), "-o", str(tmp_path / "m.tif")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "its grid is rotated" in line
    assert "gdalwarp" in line


def test_a_scene_in_degrees_is_mapped_where_it_lies(model, pixels, whole, tmp_path):
    """Its pixels are laid on a grid in metres; each place keeps its class but for borders."""
    grid, crs = Affine(1e-4, 0, 15.0, 0, -1e-4, 41.0), "EPSG:4326"
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0, transform=grid, crs=crs)
    found = mapped(model, scene, tmp_path / "m.tif")
    rows, cols = (x[::31] for x in np.nonzero(np.isfinite(whole).all(axis=0)))
    xs, ys = grid @ (cols + 0.5, rows + 0.5)
    with rasterio.open(tmp_path / "m.tif") as drawn:
        xs, ys = warp.transform(crs, drawn.crs, xs, ys)
        at = [np.floor(x).astype(int) for x in ~drawn.transform @ (np.array(xs), np.array(ys))]
    agree = found[:, at[1], at[0]].argmax(axis=0) == whole[:, rows, cols].argmax(axis=0)
    assert agree.mean() > 0.9


def test_a_network_of_composites_maps_as_its_features_say(pixels, tmp_path):
    """The file keeps which bands each image has."""
    deep = small_network(composites=((2, 1, 0), (3, 2, 1)))
    path = made_pixel_model(tmp_path / "m.safetensors", deep=deep)
    fusion = load_pixel_model(path).model
    assert fusion.deep is not None
    assert fusion.deep.composites == deep.composites
    found = mapped(path, write_scene(tmp_path / "s.tif", pixels, nodata=0), tmp_path / "m.tif")
    good = pixels > 0
    rows, cols = (x[::997] for x in np.nonzero(good.all(axis=0)))
    block = BlockFeatures(fusion.features, pixels, good)
    values = block.at(rows, cols) | {"deep": deep_at(deep, block, rows, cols)}
    plain = np.exp(fusion.log_probabilities(values)).T
    np.testing.assert_allclose(found[:, rows, cols], plain, atol=1e-4)


def test_a_network_may_compute_in_bfloat16(model, pixels, whole, tmp_path):
    """Other numbers, the same classes but for pixels between two of them, at any block size."""
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    maps = [
        mapped(model, scene, tmp_path / f"{px}.tif", "--precision", "bfloat16", "--block-px", px)
        for px in ("64", "192")
    ]
    np.testing.assert_array_equal(*maps)
    seen = np.isfinite(whole[0])
    assert (maps[0] != whole)[:, seen].any()
    same = maps[0][:, seen].argmax(axis=0) == whole[:, seen].argmax(axis=0)
    assert same.mean() > 0.97
