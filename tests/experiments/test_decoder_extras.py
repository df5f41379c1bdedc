"""Decoders beside extra rasters: they see the scene's own bands alone, other members see all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import torchvision
from helpers.extra_rasters import made_dem, made_scene
from helpers.labelled_scenes import PIXELS as SETTINGS

from geotl.cli.main import main
from geotl.experiments.draws import Draw
from geotl.experiments.pixel_draws import pixel_draws
from geotl.experiments.pixels import PixelRun, fit_on, open_pixels
from geotl.experiments.recipe import load
from geotl.models.pixel_file import load_pixel_model

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered", "few_trees")
MEMBER = "decoder_unet"


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings of a scene with its labels, and of a network at random as a file of weights."""
    folder = tmp_path_factory.mktemp("given")
    scene, labels = made_scene(folder)
    weights = folder / "resnet18.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        torch.save(torchvision.models.resnet18().state_dict(), weights)
    return [
        *SETTINGS,
        f"data.scenes=[{scene}]",
        f"labels.path={labels}",
        f"model.weights={weights}",
        "strategy=finetune",
        "model.truncate_after=layer2",
        "model.feature_stages=[layer1]",
        "pixels.windows_px=[3]",
        "decoder.patch_px=32",
        "decoder.epochs=1",
        "train.precision=float32",
        f"pixels.members=[discriminant_bands,{MEMBER}]",
        "evaluate.random_weights=false",
    ]


@pytest.fixture(scope="module")
def dems(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Heights, and twice as high ones."""
    paths = [made_dem(tmp_path_factory.mktemp("dem") / "dem.tif") for _ in range(2)]
    with rasterio.open(paths[1], "r+") as target:
        values = target.read(1)
        target.write(np.where(values == -9999, values, 2 * values - 700), 1)
    return paths


def opened_with(given: list[str], dem: Path, *more: str) -> tuple[PixelRun, Draw]:
    """A recipe with a height, and its first fold without folds inside."""
    recipe = load(None, [*given, f"pixels.extra=[{dem}]", *more])
    opened = replace(open_pixels(recipe, Path("absent"), log=lambda _: None), quiet=True)
    return opened, replace(pixel_draws(opened.recipe, opened.samples)[0], folds=[])


def test_a_decoder_is_the_same_whatever_the_height_is(given: list[str], dems: list[Path]) -> None:
    found = []
    for dem in dems:
        opened, draw = opened_with(given, dem)
        assert len(opened.samples.of.bands) == opened.samples.decoders.patches.image.shape[1] + 1
        fusion = fit_on(opened, draw)
        rows = draw.split.test[:20]
        found.append((fusion, opened.samples.decoders.predict(fusion.decoder, rows)))
    one, two = (fusion.decoder.state_dict() for fusion, _ in found)
    assert all(torch.equal(one[name], two[name]) for name in one)
    np.testing.assert_array_equal(found[0][1], found[1][1])
    weights = [fusion.members["discriminant_bands"].member.weight for fusion, _ in found]
    assert not np.array_equal(*weights)


def test_a_teacher_sees_the_height(given: list[str], dems: list[Path]) -> None:
    """So a decoder that is drawn to it depends on the height after all."""
    opened, draw = opened_with(
        given, dems[0], "decoder.unlabelled_weight=1", "decoder.unlabelled_px=8"
    )
    bands = opened.samples.decoders.unlabelled.features["bands"]
    assert len(bands) == len(opened.samples.features["bands"])
    assert fit_on(opened, draw).decoder is not None


def test_the_model_maps_with_the_height(given: list[str], dems: list[Path], tmp_path: Path) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text("title: small\n")
    words = [*given, f"pixels.extra=[{dems[0]}]", "--output", str(tmp_path / "run")]
    assert main(["run", str(recipe), *words]) == 0
    model = tmp_path / "run" / "model.safetensors"
    file = load_pixel_model(model)
    assert file.contract.extra_bands == ("dem_1",)
    assert len(file.model.decoder.backbone.bands) == len(file.contract.bands)
    scene = given[len(SETTINGS)].split("[")[1].rstrip("]")
    out = tmp_path / "m.tif"
    told = ["map", str(model), scene, "-o", str(out), "--extra", str(dems[0]), "-q", "--no-page"]
    assert main(told) == 0
    with rasterio.open(out) as source:
        assert len(np.unique(source.read(1))) > 1
