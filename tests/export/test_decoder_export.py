"""Pixel models with a decoder, exported: images of any size, and the map of the model file."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from helpers.map_fixtures import made_pixels, patches, write_scene
from helpers.pixel_models import made_pixel_model, small_decoder

from geotl.cli.main import main
from geotl.export.graphs import run_onnx, run_pt2
from geotl.export.pixel_export import (
    PixelFormat,
    compare_pixels,
    deployed_pixels,
    export_pixels,
    graph_halo,
    mapped_pixels,
)
from geotl.inference import onnx_pixels, pixel_predictor
from geotl.inference.onnx_file import read_passport
from geotl.models.pixel_file import PixelModelFile, load_pixel_model, member_file

pytestmark = pytest.mark.usefixtures("one_thread")
RUN = {"onnx": run_onnx, "pt2": run_pt2}
SIZES = [(184, 176), (187, 173)]  # whole strides, and neither side one


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PixelModelFile]:
    """A fusion with a U-Net, and an FPN alone."""
    folder = tmp_path_factory.mktemp("models")
    paths = {
        kind: made_pixel_model(
            folder / f"{kind}.safetensors", windows_px=(3, 9), decoder=small_decoder(kind)
        )
        for kind in ("unet", "fpn")
    }
    fpn = load_pixel_model(paths["fpn"])
    return {"unet": load_pixel_model(paths["unet"]), "fpn": member_file(fpn, "decoder_unet")}


@pytest.fixture(scope="module")
def export(
    models: dict[str, PixelModelFile], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, PixelFormat], Path]:
    """Gives the file of a model in a format, written once."""
    folder = tmp_path_factory.mktemp("exports")

    @functools.cache
    def written(kind: str, form: PixelFormat) -> Path:
        path = folder / f"{kind}.{form}"
        export_pixels(models[kind], form, path, log=lambda _: None)
        return path

    return written


def image_of(rows: int, cols: int) -> np.ndarray:
    """Raw pixels with holes in all bands and in one."""
    made = made_pixels(patches(16, 16), 16, noise=200)[:, :rows, :cols].astype(np.float32)
    made[:, rows // 2 :, cols // 2 : cols // 2 + 12] = np.nan
    made[2, rows // 2 - 8 : rows // 2 + 8, 20 : cols - 20] = 0
    return made


@pytest.mark.parametrize("kind", ["unet", "fpn"])
@pytest.mark.parametrize("size", SIZES)
def test_the_module_classifies_as_geotl_map(
    models: dict[str, PixelModelFile], kind: str, size: tuple[int, int]
) -> None:
    model, image = models[kind], image_of(*size)
    halo, stride = graph_halo(model.model)
    assert (stride, halo % stride) == (8, 0)
    with torch.no_grad():
        found = deployed_pixels(model)(torch.from_numpy(image[None]))[0][0].numpy()
    wanted = mapped_pixels(model, image)
    assert wanted.std() > 0.1
    np.testing.assert_allclose(found[:, halo:-halo, halo:-halo], wanted, atol=1e-4)


@pytest.mark.parametrize(("kind", "form"), [("unet", "onnx"), ("fpn", "onnx"), ("unet", "pt2")])
def test_an_export_classifies_as_geotl_map_at_any_size(
    models: dict[str, PixelModelFile],
    export: Callable[[str, PixelFormat], Path],
    kind: str,
    form: PixelFormat,
) -> None:
    model, images = models[kind], [image_of(*size) for size in SIZES]
    run = RUN[form](export(kind, form))
    assert compare_pixels(model, run, images).probabilities < 1e-4
    two = np.stack([images[1], images[1][:, ::-1]])
    for one, alone in zip(run(two)[0], two, strict=True):
        np.testing.assert_allclose(one, run(alone[None])[0][0], atol=1e-5)


def test_the_halo_is_what_a_class_depends_on(models: dict[str, PixelModelFile]) -> None:
    """Beyond it a crop says what the whole image says, within it not."""
    model, whole = models["unet"], image_of(232, 240)
    network, (halo, stride) = deployed_pixels(model), graph_halo(model.model)
    corner = 3 * stride
    crop = np.ascontiguousarray(whole[None, :, corner:, corner:])
    with torch.no_grad():
        every = network(torch.from_numpy(whole[None]))[0][0].numpy()
        part = network(torch.from_numpy(crop))[0][0].numpy()
    gap = np.abs(part - every[:, corner:, corner:])
    assert gap[:, halo:, halo:].max() < 1e-5
    assert gap.max() > 1e-3


def test_the_exported_file_makes_the_map_of_the_model_file(
    models: dict[str, PixelModelFile],
    export: Callable[[str, PixelFormat], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At any block size, edges of the scene included."""
    model, path = models["unet"], export("unet", "onnx")
    assert read_passport(path)["decoder"]["kind"] == "unet"
    for module in (pixel_predictor, onnx_pixels):
        monkeypatch.setattr(module, "TILE_PX", 64)
    made = made_pixels(patches(8, 11), 24, noise=200)[:, :133, :150]
    made[:, 100:, 120:] = 0
    scene = write_scene(tmp_path / "scene.tif", made, nodata=0)
    found = []
    for file, block_px in ((model.path, "64"), (path, "64"), (path, "192")):
        out = tmp_path / f"{file.suffix[1:]}{block_px}.tif"
        words = ("--block-px", block_px, "--no-page", "-q")
        assert main(["map", str(file), str(scene), "-o", str(out), *words]) == 0
        with rasterio.open(out) as source:
            found.append(source.read(1))
    assert set(np.unique(found[0])) == {0, 1, 2, 255}
    assert (found[0] == found[1]).mean() >= 0.999
    np.testing.assert_array_equal(found[1], found[2])
