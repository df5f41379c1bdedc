"""`geotl run` of task pixels with a decoder, and the map of the model that is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import torch
import torchvision
from helpers.labelled_scenes import made_scene
from helpers.memory_scene import MadeScene
from safetensors.numpy import load_file
from test_pixels import SETTINGS, over, permuted, run

from geotl.cli.main import main
from geotl.experiments.pixel_decoders import read_patches
from geotl.experiments.pixel_draws import pixel_draws
from geotl.experiments.pixel_windows import PixelPlaces
from geotl.experiments.pixels import PixelRun, fit_on, open_pixels, with_logits
from geotl.experiments.recipe import load
from geotl.imagery.windows import Window
from geotl.inference import pixel_predictor
from geotl.models.pixel_features import PixelFeatures
from geotl.models.pixel_file import load_pixel_model

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered")
MEMBER = "decoder_unet"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The small scene of three classes with a point in every other square."""
    scene, points = made_scene(tmp_path_factory.mktemp("scene"))
    some = scene.with_name("some.gpkg")
    geopandas.read_file(points).iloc[::2].to_file(some)
    return scene, some


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ResNet-18 at random, as a file of weights for three bands."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        torch.save(torchvision.models.resnet18().state_dict(), path)
    return path


def settings(weights: Path) -> list[str]:
    return [
        "strategy=finetune",
        f"model.weights={weights}",
        "model.truncate_after=layer2",
        "model.feature_stages=[layer1]",
        "decoder.patch_px=32",
        "decoder.epochs=6",
        "train.lr=0.01",
        "train.precision=float32",
        f"pixels.members=[discriminant_bands,{MEMBER}]",
        "evaluate.random_weights=false",
    ]


@pytest.fixture(scope="module")
def finished(
    made: tuple[Path, Path], weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert run(out, *over(*made), *settings(weights)) == 0
    return out


@pytest.fixture(scope="module")
def opened(made: tuple[Path, Path], weights: Path) -> PixelRun:
    recipe = load(None, [*SETTINGS, *over(*made), *settings(weights)])
    told = open_pixels(recipe, Path("absent"), resume=False, log=lambda _: None)
    return replace(told, quiet=True)


def test_the_decoder_is_a_member_and_a_row_of_the_race(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    members = metrics["members"]
    assert set(members) == {"discriminant_bands", MEMBER}
    assert members[MEMBER]["setting"] == 6
    assert sum(one["weight"] for one in members.values()) == pytest.approx(1)
    assert metrics["race"]["decoder, U-Net"]["value"] > 0.6
    assert metrics["race"]["decoder, U-Net"]["value"] != metrics["race"]["fused"]["value"]
    page = (finished / "report.html").read_text()
    assert "decoder, U-Net" in page
    assert "unet on resnet18 up to layer2, stem, layer1 frozen" in page


def test_the_model_that_is_kept_has_its_early_stages_from_the_weight_file(
    finished: Path, weights: Path
) -> None:
    """Bit for bit, statistics included; the last stage and the first weights are others."""
    kept = load_file(finished / "model.safetensors")
    given = torch.load(weights)
    layer1 = {name: value for name, value in given.items() if name.startswith("layer1")}
    assert len(layer1) == 24
    for name, value in layer1.items():
        own = kept[f"decoder.backbone.stages.{name}"]
        assert np.array_equal(own.reshape(value.shape), value.numpy()), name
    conv = kept["decoder.backbone.stages.layer2.0.conv1.weight"]
    assert not np.array_equal(conv, given["layer2.0.conv1.weight"].numpy())


def test_the_kept_model_maps_alike_at_any_block_size(
    made: tuple[Path, Path], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_predictor, "TILE_PX", 64)
    found = []
    for block_px in ("64", "256"):
        out = tmp_path / f"m{block_px}.tif"
        words = ("--block-px", block_px, "--no-page", "--member", MEMBER, "-q")
        model = str(finished / "model.safetensors")
        assert main(["map", model, str(made[0]), "-o", str(out), *words]) == 0
        with rasterio.open(out) as layer:
            found.append(layer.read(1))
            assert layer.tags()["GEOTL_MEMBERS"] == f"{MEMBER} 1.00"
    np.testing.assert_array_equal(*found)
    points = geopandas.read_file(made[1])
    at = ((4600000 - points.geometry.y) // 10, (points.geometry.x - 500000) // 10)
    values = found[0][tuple(np.array(part, int) for part in at)]
    known = {"field": 0, "town": 1, "water": 2}
    assert (values == points["class"].map(known)).mean() > 0.6


def test_labels_of_test_pixels_change_no_tensor(opened: PixelRun) -> None:
    """And the same seed gives the same bits."""
    draw = pixel_draws(opened.recipe, opened.samples)[0]
    other = permuted(opened.samples, draw)
    assert (other.labels != opened.samples.labels).any()
    first, second = (fit_on(replace(opened, samples=s), draw) for s in (opened.samples, other))
    assert first.weights == second.weights
    one, two = (fusion.decoder.state_dict() for fusion in (first, second))
    assert all(torch.equal(one[name], two[name]) for name in one)
    shifted = replace(draw, split=replace(draw.split, train=draw.split.train[5:]), folds=[])
    third = fit_on(opened, shifted).decoder.state_dict()
    assert not all(torch.equal(one[name], third[name]) for name in one)


def test_test_pixels_are_predicted_as_the_map_predicts_them(
    finished: Path, made: tuple[Path, Path], opened: PixelRun, tmp_path: Path
) -> None:
    file = load_pixel_model(finished / "model.safetensors")
    rows = np.arange(0, len(opened.samples), 7)
    logits = opened.samples.decoders.predict(file.model.decoder, rows)
    out = tmp_path / "map.tif"
    words = ("--no-page", "--probabilities", "--member", MEMBER, "-q")
    model = str(finished / "model.safetensors")
    assert main(["map", model, str(made[0]), "-o", str(out), *words]) == 0
    with rasterio.open(tmp_path / "map_probabilities.tif") as layer:
        places = opened.samples.decoders.where.places[rows].T
        mapped = layer.read()[:, *places]
    scaled = torch.from_numpy(logits / file.model.temperatures[MEMBER])
    np.testing.assert_allclose(mapped, torch.softmax(scaled, dim=0).numpy(), atol=2e-4)


def test_a_fold_tests_what_its_own_decoder_says(opened: PixelRun) -> None:
    draw = pixel_draws(opened.recipe, opened.samples)[1]
    fusion = fit_on(opened, replace(draw, folds=[]))
    found = with_logits(opened.samples, fusion, draw.split.test, 0)
    again = opened.samples.decoders.predict(fusion.decoder, draw.split.test)
    np.testing.assert_array_equal(found.features["decoder"], again)
    assert again.std() > 0


class OpenScene(MadeScene):
    """A scene that is invalid beyond its edge, as those on disk are."""

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        wide = np.pad(self.data, ((0, 0), (64, 64), (64, 64)))
        valid = np.pad(self.valid, 64)
        rows, cols = (slice(at + 64, at + 64 + 48) for at in (window.row, window.col))
        return wide[:, rows, cols], np.broadcast_to(valid[rows, cols], (3, 48, 48))


def test_patches_hold_every_labelled_pixel_in_their_middle_half() -> None:
    """Dense labels share patches; beyond the edge, and in invalid pixels, nothing counts."""
    scenes = [OpenScene(), OpenScene()]
    scenes[1].data = scenes[1].data[:, ::-1].copy()
    scenes[1].valid[60:, 80:] = False
    rows, cols = (part.ravel() for part in np.mgrid[0:120:3, 0:160:3])
    scene = np.arange(len(rows)) % 2
    where = PixelPlaces(scene, np.stack([rows, cols], axis=1))
    of = PixelFeatures(("red", "green", "blue"), (None,) * 3, (5.0,) * 3, (2.0,) * 3, 0.0, ())
    found = read_patches(scenes, where, of, 32, lambda *_: None)
    assert len(found.image) == 2 * 8 * 10
    assert found.image.shape[1:] == (3, 48, 48)
    assert found.image.dtype == np.uint16
    assert found.valid.shape == (160, 1, 48, 48)
    assert ((found.places >= 16) & (found.places < 32)).all()
    for number in (0, 1):
        own = scene == number
        at = (found.owner[own], slice(None), *found.places[own].T)
        np.testing.assert_array_equal(found.image[at], scenes[number].data[:, rows, cols].T[own])
        np.testing.assert_array_equal(found.valid[at][:, 0], scenes[number].valid[rows, cols][own])
    first = found.owner[0]
    assert not found.valid[first, 0, :16].any()
    assert found.valid[first, 0, 16:, 16:].all()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["decoder.patch_px=40"], "decoder.patch_px: given 40; allowed: a multiple of 32"),
        (["decoder.kind=deeplab"], "decoder.kind: given deeplab; allowed: one of unet, fpn"),
        (["model.weights=none"], "strategy: given finetune with task pixels and model.weights"),
        (["strategy=full"], "strategy: given full with task pixels; allowed: auto, or finetune"),
        (["augment.mixup=0.2"], "augment.mixup: given 0.2 with task pixels"),
        (["pixels.members=[discriminant_bands]"], "with strategy finetune and decoder.kind unet"),
        (["decoder.kind=fpn"], "with strategy finetune and decoder.kind fpn; allowed: null"),
        (["model.freeze_until=layer9"], "stage 'layer9' is not in this backbone"),
        (["model.truncate_after=layer1"], "resnet18 up to layer1 does not halve"),
        (["model.first_conv=random"], "cannot be frozen"),
        (["strategy=auto"], "with strategy auto and decoder.kind unet; allowed: null"),
    ],
)
def test_bad_values_end_in_one_line(
    made: tuple[Path, Path],
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    wrong: list[str],
    told: str,
) -> None:
    assert run(tmp_path / "run", *over(*made), *settings(weights), *wrong) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.strip().splitlines()) == 1
