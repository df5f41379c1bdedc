"""Where a pixel model applies, mapped: against plain distances, and what the map says of it.

That these layers are the same at any block size and after a kill is tested in `test_pixel_maps`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.map_fixtures import made_pixels, patches, write_scene
from helpers.pixel_models import made_pixel_model
from safetensors.numpy import load_file, save_file

from geotl.cli.main import main
from geotl.evaluation.class_map import open_map
from geotl.inference.pixel_area import FeatureSpace
from geotl.models.model_file import read_header
from geotl.models.pixel_features import BlockFeatures
from geotl.models.pixel_file import PixelModelFile, load_pixel_model, save_pixel_model
from geotl.models.tensor_file import KEY

pytestmark = pytest.mark.usefixtures("one_thread")
STRANGE = np.s_[40:70, 30:72]  # where values lie far from those of training


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model that uses pixels which lack some bands."""
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    file = load_pixel_model(made_pixel_model(path))
    features = replace(file.model.features, missing_bands="use")
    save_pixel_model(path, replace(file, model=replace(file.model, features=features)))
    return path


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """The training scene with other noise, a strange part, and a hole in one band."""
    made = made_pixels(patches(6, 6, seed=9), 12, seed=21)
    made[:, *STRANGE] += 9000
    made[1, :9, :9] = 0
    return made


@pytest.fixture(scope="module")
def scene(pixels, tmp_path_factory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.tif", pixels, nodata=0)


def mapped(model: Path, scene: Path, out: Path, *more: str) -> tuple[np.ndarray, np.ndarray]:
    """Whether each pixel is inside, and its index, both [H,W]."""
    words = [
        "map",
        str(model),
        str(scene),
        "-o",
        str(out),
        "--skip-value-check",
        "--applicability",
        *more,
    ]
    assert main(words) == 0
    found = []
    for name in ("applicability", "dissimilarity"):
        with rasterio.open(out.with_name(f"{out.stem}_{name}.tif")) as layer:
            found.append(layer.read(1))
    return found[0], found[1]


def plain_index(file: PixelModelFile, pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """Index [H,W] as `applicability` measures it of the whole scene, and the threshold."""
    block = BlockFeatures(file.model.features, pixels, pixels > 0)
    table = np.concatenate(list(block.strip(slice(None)).values()))
    space = FeatureSpace.of(file)
    area = space.area(file)
    found = area.index(space.place(table.reshape(len(table), -1).T))
    return found.reshape(pixels.shape[1:]), area.threshold


def test_pixels_unlike_training_are_outside_and_the_map_says_so(
    model, pixels, scene, tmp_path, capsys
):
    """Pixels that lack a band are compared too, with its mean in the band's place."""
    out = tmp_path / "m.tif"
    inside, index = mapped(model, scene, out)
    plain, threshold = plain_index(load_pixel_model(model), pixels)
    np.testing.assert_allclose(index, plain, atol=1e-3, rtol=1e-4)
    clear = np.abs(plain - threshold) > 1e-3
    np.testing.assert_array_equal(inside[clear], (plain <= threshold)[clear])
    assert (inside[STRANGE] == 0).all()
    far = np.ones(inside.shape, bool)
    far[33:77, 23:] = False  # no window of 15 px holds a strange pixel
    far[:16, :16] = False  # nor one without its band
    assert inside[far].mean() > 0.9
    share = 100 * (inside == 0).mean()
    line = f"applicability: {share:.3g} % is dissimilar to all training pixels"
    assert line in capsys.readouterr().out
    tags = open_map(out).tags
    words = f"threshold {threshold:.4g}, each pixel compared with 300 of 300 training pixels in"
    assert tags["GEOTL_APPLICABILITY"] == f"{words} bands and windows"
    page = out.with_suffix(".html").read_text()
    assert f"{share:.1f} % of the mapped cells lie outside" in page
    assert f"{words} bands and windows" in page
    assert "training tiles" not in page


def test_a_map_without_it_says_how_to_get_it(model, scene, tmp_path):
    out = tmp_path / "m.tif"
    assert main(["map", str(model), str(scene), "-o", str(out), "--skip-value-check", "-q"]) == 0
    assert "GEOTL_APPLICABILITY" not in open_map(out).tags
    page = out.with_suffix(".html").read_text()
    assert "--applicability maps it, and reports the share of the scene that is" in page


def test_the_classes_are_those_of_the_map_without_it(model, scene, tmp_path):
    words = [
        "map",
        str(model),
        str(scene),
        "--skip-value-check",
        "--no-page",
        "--probabilities",
        "-q",
    ]
    assert main([*words, "-o", str(tmp_path / "a.tif")]) == 0
    assert main([*words, "-o", str(tmp_path / "b.tif"), "--applicability"]) == 0
    with (
        rasterio.open(tmp_path / "a_probabilities.tif") as one,
        rasterio.open(tmp_path / "b_probabilities.tif") as other,
    ):
        np.testing.assert_array_equal(one.read(), other.read())


def test_a_member_alone_is_compared_in_its_own_features(model, pixels, scene, tmp_path):
    out = tmp_path / "m.tif"
    _, index = mapped(model, scene, out, "--member", "bands", "--no-page")
    file = load_pixel_model(model)
    plain, _ = plain_index(replace(file, model=file.model.alone("bands")), pixels)
    np.testing.assert_allclose(index, plain, atol=1e-3, rtol=1e-4)
    assert open_map(out).tags["GEOTL_APPLICABILITY"].endswith("training pixels in bands")


def test_smoothed_maps_and_parts_of_a_scene_have_the_same_index(model, scene, tmp_path):
    """Probabilities are smoothed, the index is not."""
    whole = mapped(model, scene, tmp_path / "whole.tif", "--no-page")[1]
    box = ("500100", "4599500", "500400", "4599900")
    words = ("--smooth-px", "5", "--bbox", *box, "--block-px", "16", "--no-page")
    part = mapped(model, scene, tmp_path / "part.tif", *words)[1]
    np.testing.assert_array_equal(part, whole[10:50, 10:40])


def test_a_file_of_an_earlier_version_is_compared(model, pixels, scene, tmp_path):
    """One that says nothing of missing bands, and has no folds."""
    tensors, header = load_file(model), read_header(model)
    assert header["features"].pop("missing_bands") == "use"
    tensors["training.folds"] = np.full(300, -1, np.int64)
    old = tmp_path / "old.safetensors"
    del header["checksum"]
    save_file(tensors, old, metadata={KEY: json.dumps(header)})
    inside, index = mapped(old, scene, tmp_path / "m.tif", "--no-page")
    plain, threshold = plain_index(load_pixel_model(old), pixels)
    assert threshold < plain_index(load_pixel_model(model), pixels)[1]
    there = (pixels > 0).all(axis=0)
    np.testing.assert_allclose(index[there], plain[there], atol=1e-3, rtol=1e-4)
    assert (inside[~there] == 255).all()
    assert np.isnan(index[~there]).all()
