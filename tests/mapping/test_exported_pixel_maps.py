"""geotl map with an exported pixel model: the map of the model file, at any block size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.map_fixtures import CLASSES, made_pixels, patches, write_scene
from helpers.pixel_models import made_pixel_model, small_network

import geotl
from geotl.cli.main import main
from geotl.evaluation.class_map import open_map
from geotl.export.pixel_export import export_pixels
from geotl.inference import onnx_pixels, pixel_predictor
from geotl.models.pixel_file import load_pixel_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return made_pixel_model(
        folder / "m.safetensors", windows_px=(3, 9), missing_bands="use", deep=small_network()
    )


@pytest.fixture(scope="module")
def exported(model) -> Path:
    out = model.with_suffix(".onnx")
    export_pixels(load_pixel_model(model), "onnx", out, log=lambda _: None)
    return out


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    """Patches of three classes with holes in all bands and in one."""
    made = made_pixels(patches(8, 11), 24, noise=200)[:, :187, :243]
    made[:, 100:, 200:] = 0
    made[2, 20:50, 120:160] = 0
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.tif", made, nodata=0)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch) -> None:
    for module in (pixel_predictor, onnx_pixels):
        monkeypatch.setattr(module, "TILE_PX", 64)


def mapped(model: Path, scene: Path, out: Path, *more: str) -> tuple[np.ndarray, np.ndarray]:
    """Classes [H,W] and probabilities [K,H,W] of a map."""
    words = ("--probabilities", "--no-page", "-q", *more)
    assert main(["map", str(model), str(scene), "-o", str(out), *words]) == 0
    with rasterio.open(out) as classes:
        named = classes.read(1)
    with rasterio.open(out.with_name(f"{out.stem}_probabilities.tif")) as layer:
        return named, layer.read()


@pytest.fixture(scope="module")
def whole(exported, scene, tmp_path_factory) -> tuple[np.ndarray, np.ndarray]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_pixels, "TILE_PX", 64)
        return mapped(exported, scene, tmp_path_factory.mktemp("whole") / "m.tif")


def test_the_map_is_that_of_the_model_file(model, scene, whole, tmp_path):
    """Edges and pixels that lack a band included."""
    wanted, chances = mapped(model, scene, tmp_path / "m.tif", "--precision", "float32")
    found, shares = whole
    assert set(np.unique(wanted)) == {0, 1, 2, 255}
    assert (found == wanted).mean() >= 0.999
    np.testing.assert_array_equal(found == 255, wanted == 255)
    np.testing.assert_allclose(shares, chances, atol=1e-3)


@pytest.mark.parametrize("block_px", [30, 64, 128, 192])
def test_every_block_size_gives_the_same_map(exported, scene, whole, tmp_path, block_px):
    found = mapped(exported, scene, tmp_path / "m.tif", "--block-px", str(block_px))
    np.testing.assert_array_equal(found[0], whole[0])
    np.testing.assert_array_equal(found[1], whole[1])


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (40, 17)])
def test_scenes_smaller_than_the_halo_are_mapped(model, exported, tmp_path, shape):
    small = made_pixels(patches(2, 2), 24)[:, : shape[0], : shape[1]]
    scene = write_scene(tmp_path / "scene.tif", small, nodata=0)
    found, _ = mapped(exported, scene, tmp_path / "m.tif", "--skip-value-check")
    wanted, _ = mapped(
        model, scene, tmp_path / "w.tif", "--skip-value-check", "--precision", "float32"
    )
    np.testing.assert_array_equal(found, wanted)


def test_a_smoothed_map_is_that_of_the_model_file(model, exported, scene, whole, tmp_path):
    found, _ = mapped(exported, scene, tmp_path / "m.tif", "--smooth-px", "5")
    wanted, _ = mapped(model, scene, tmp_path / "w.tif", "--smooth-px", "5")
    assert (found == wanted).mean() >= 0.999
    assert (found != whole[0]).any()


def test_the_map_says_what_made_it(exported, scene, tmp_path):
    out = tmp_path / "m.tif"
    assert main(["map", str(exported), str(scene), "-o", str(out), "-q"]) == 0
    tags = open_map(out).tags
    assert tags["GEOTL_MEMBERS"] == "wide 0.50, bands 0.25, forest 0.25"
    assert tags["GEOTL_ENGINE"].startswith("onnxruntime ")
    assert tags["GEOTL_MISSING_BANDS"].startswith("use: ")
    assert "Members and weights" in out.with_suffix(".html").read_text()


def test_the_python_face_maps_with_it(exported, scene):
    pytest.importorskip("rioxarray")
    found = geotl.load(exported).map(scene)
    assert found["classes"].attrs["class_names"] == list(CLASSES)


def test_inspect_tells_what_it_is(exported, capsys):
    assert main(["inspect", str(exported)]) == 0
    told = capsys.readouterr().out
    assert "(ONNX, of pixels)" in told
    assert "bands (linear), forest (forest), idle (linear), wide (linear)" in told
    assert "windows of 3, 9 px" in told
    assert "squeezenet1_1" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--mode", "dense"], "--mode dense does not go with a model of pixels"),
        (["--views", "4"], "--views does not go with a model of pixels"),
        (
            ["--applicability"],
            "--applicability compares features, which an exported file does not have",
        ),
        (["--member", "wide"], "an exported file does not take its members apart"),
        (["--engine", "openvino"], "--engine openvino cannot run a model of pixels"),
    ],
)
def test_what_does_not_go_is_told_in_a_line(exported, scene, tmp_path, capsys, words, told):
    out = tmp_path / "m.tif"
    assert main(["map", str(exported), str(scene), "-o", str(out), *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_commands_for_tiles_say_what_to_use_instead(exported, scene, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["predict", str(exported), str(scene), "-o", out]) == 2
    assert "a model of pixels, which is not supported here" in capsys.readouterr().err
