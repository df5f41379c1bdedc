"""Maps of pixel models with a decoder: the same bits in blocks of any size, and by it alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.map_fixtures import made_pixels, patches, write_scene
from helpers.pixel_models import (
    deep_at,
    made_pixel_model,
    small_decoder,
    small_network,
    without_checksum,
)
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

from geotl.cli.main import main
from geotl.errors import ModelError
from geotl.inference import pixel_predictor
from geotl.models.pixel_features import BlockFeatures
from geotl.models.pixel_file import load_pixel_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Members of bands and windows, a frozen network and a decoder."""
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    return made_pixel_model(path, deep=small_network(), decoder=small_decoder())


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Patches of three classes, 150 x 203 pixels, with holes in all bands and in one."""
    made = made_pixels(patches(7, 9), 24)[:, :150, :203]
    made[:, 100:, 170:] = 0
    made[2, 20:50, 120:160] = 0
    return made


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_predictor, "TILE_PX", 64)


def mapped(model: Path, scene: Path, out: Path, *more: str) -> np.ndarray:
    """Probabilities [K,H,W] of a map, NaN where a pixel has no class."""
    words = ("--probabilities", "--no-page", "-q", "--precision", "float32", *more)
    assert main(["map", str(model), str(scene), "-o", str(out), *words]) == 0
    with rasterio.open(out.with_name(f"{out.stem}_probabilities.tif")) as layer:
        return layer.read()


@pytest.mark.parametrize("member", [(), ("--member", "decoder_unet")])
def test_pixels_have_the_probabilities_of_the_whole_scene(
    model: Path, pixels: np.ndarray, tmp_path: Path, member: tuple[str, ...]
) -> None:
    """In blocks of any size the same bits, and to rounding what the network gives at once."""
    fusion = load_pixel_model(model).model
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    whole = mapped(model, scene, tmp_path / "whole.tif", "--block-px", "256", *member)
    for block_px in (64, 128):
        out = tmp_path / f"{block_px}.tif"
        found = mapped(model, scene, out, "--block-px", str(block_px), *member)
        np.testing.assert_array_equal(found, whole)
    good = (pixels > 0).all(axis=0)
    rows, cols = np.nonzero(good)
    block = BlockFeatures(fusion.features, pixels, pixels > 0)
    logits = deep_at(fusion.decoder, block, rows, cols)
    plain = softmax(logits / 0.5, axis=0)
    if not member:
        values = block.at(rows, cols) | {"deep": deep_at(fusion.deep, block, rows, cols)}
        plain = np.exp(fusion.log_probabilities(values | {"decoder": logits})).T
    np.testing.assert_allclose(whole[:, rows, cols], plain, atol=1e-4)
    assert np.isnan(whole[:, ~good]).all()
    assert whole[:, rows, cols].std(axis=1).min() > 0.01


def test_a_member_without_networks_needs_none_of_them(model: Path) -> None:
    fusion = load_pixel_model(model).model
    assert set(fusion.networks) == {"deep", "decoder"}
    assert fusion.halo == max(fusion.deep.halo, fusion.decoder.halo)
    assert set(fusion.alone("decoder_unet").networks) == {"decoder"}
    assert not fusion.alone("bands").networks
    idle = replace(fusion, weights={**fusion.weights, "decoder_unet": 0.0})
    assert set(idle.networks) == {"deep"}
    assert idle.halo == fusion.deep.halo < fusion.decoder.halo
    assert idle.alone("decoder_unet").halo == fusion.decoder.halo


def test_a_file_tells_its_decoder_and_old_files_have_none(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(model)]) == 0
    told = capsys.readouterr().out
    assert "decoder  unet on resnet18 with stem, layer1, layer2, trained" in told
    old = made_pixel_model(tmp_path / "old.safetensors")
    assert load_pixel_model(old).model.decoder is None
    assert not [name for name in load_file(old) if name.startswith("decoder.")]


def test_a_file_with_other_tensors_than_its_decoder_is_refused(model: Path, tmp_path: Path) -> None:
    tensors = load_file(model)
    name = next(key for key in tensors if key.startswith("decoder.head"))
    tensors[name] = tensors[name][:1]
    save_file(tensors, tmp_path / "m.safetensors", metadata=without_checksum(model))
    with pytest.raises(ModelError, match="cannot be those of a model"):
        load_pixel_model(tmp_path / "m.safetensors")
