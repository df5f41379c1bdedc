"""Every backbone exported to ONNX and torch.export: `make test-export`; one a family always."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import timm_models

from geotl.export.deployable import Deployed, folded, halved
from geotl.export.exporter import KINDS
from geotl.export.graphs import LIMITS, Limits, compare, save_program
from geotl.export.pixel_graphs import pixel_onnx, pixel_program
from geotl.export.pixel_network import PixelNetwork
from geotl.inference.onnx_file import seal
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.deep_features import DeepFeatures
from geotl.models.pixel_features import PixelFeatures
from geotl.models.pixel_model import LinearMember, PixelModel
from geotl.models.registry import REGISTRY, build_backbone
from geotl.models.renderings import GIVEN, RENDERINGS, Rendering

SMALLEST = {
    "lenet": "lenet5",
    "alexnet": "alexnet",
    "vgg": "vgg11_bn",
    "inception": "googlenet",
    "resnet": "resnet18",
    "squeezenet": "squeezenet1_1",
    "swin": "swin_v2_t",
}
EARLY = {
    "vgg": "block3",
    "resnet": "layer2",
    "alexnet": "conv3",
    "swin": "stage1",
}  # cut here to be quick
POOLS = ("mean", "root_mean", "mean_log", "mean_sd")


def made(
    name: str,
    bands: int,
    views: int,
    cut: str | None = None,
    pool: str = "mean",
    *,
    branches: float = 1.0,
    inner: bool = False,
    renderings: tuple[Rendering, ...] = GIVEN,
) -> Deployed:
    """A random network for so many bands whose logits spread like a trained one's.

    `branches` weighs what each residual block adds.
    """
    body, _ = build_backbone(name, [f"b{i}" for i in range(bands)], cut_after=cut, seed=2)
    for block in body.modules():
        if hasattr(block, "downsample") and hasattr(block, "bn2"):  # of a ResNet
            (block.bn3 if hasattr(block, "bn3") else block.bn2).weight.data.mul_(branches)
    patch = body.multiple_px
    side = -(-max(body.min_px, 32) // patch) * patch
    sizes = (side, side + max(8, patch))  # one is enlarged, none or one shrunk
    spec = FeatureSpec(
        tuple(body.stages)[-2:], pool, sizes, views=views, inner=inner, renderings=renderings
    )
    normalise = Normalise([3000.0] * bands, [1500.0] * bands, nodata=0.0)
    network = TileClassifier(body, normalise, spec, 4).eval().requires_grad_(False)
    network.set_feature_scale(network.features(torch.from_numpy(tiles(bands, sizes[1]))))
    # Deep random networks have channels that hardly vary; drawn to unit sd they are mere rounding:
    # PyTorch then differs from itself (batches of 1 and 7, VGG-16) by more than the limit.
    network.feature_sd.clamp_(min=0.1 * float(network.feature_sd.median()))
    return Deployed(network, views).eval()


def tiles(bands: int, px: int) -> np.ndarray:
    """Raw tiles [7,C,S,S] with holes, two pixels larger than the larger input.

    They differ as tiles of classes do, in level and texture: features of mere noise would hardly
    differ, and standardised they would be rounding errors drawn large.
    """
    random = np.random.default_rng(4)
    level = random.uniform(300, 9000, (7, bands, 1, 1))
    coarse = random.normal(0, 0.4, (7, bands, 5, 5)).repeat(px // 5 + 2, 2).repeat(px // 5 + 2, 3)
    noise = random.normal(0, 0.05, (7, bands, px + 2, px + 2))
    made = level * np.exp(coarse[:, :, : px + 2, : px + 2] + noise)
    made = made.clip(1, 10_000).astype(np.float32)
    made[0, :, :5] = 0
    made[1, 0, 5:9] = np.nan
    return made


def exported(form: str, module: Deployed, raw: np.ndarray, path: Path) -> None:
    KINDS[form].write(module, torch.from_numpy(raw[:3]), path, {})


def check(name: str, bands: int, views: int, form: str, folder: Path, **how) -> None:
    module = made(name, bands, views, **how)
    raw = tiles(bands, module.network.spec.input_px[1])
    out = folder / f"m{KINDS[form].suffix}"
    exported(form, module, raw, out)
    found = compare(module, KINDS[form].run(out), raw)
    assert found.fault(LIMITS["float32"]) is None, found
    assert module(torch.from_numpy(raw))[1].std() > 0.01  # the network says something


@pytest.mark.parametrize("form", ["onnx", "pt2"])
@pytest.mark.parametrize("family", list(SMALLEST))
def test_one_of_each_family(family, form, tmp_path, one_thread):
    bands, views = (1, 1) if family == "lenet" else (5, 4) if form == "onnx" else (3, 1)
    pool = POOLS[len(family) % 4]
    check(SMALLEST[family], bands, views, form, tmp_path, cut=EARLY.get(family), pool=pool)


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_inner_activations_of_a_residual_block(form, tmp_path, one_thread):
    check("resnet18", 3, 1, form, tmp_path, cut="layer3", pool="root_mean", inner=True)


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_renderings(form, tmp_path, one_thread):
    check("resnet18", 3, 2, form, tmp_path, cut="layer2", pool="root_mean", renderings=RENDERINGS)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("timm:test_convnext", "pt2"),
        ("timm:test_efficientnet", "onnx"),
        ("timm:test_vit", "onnx"),
        ("timm:test_vit3", "pt2"),
    ],
)
def test_some_networks_of_timm(name, form, tmp_path, one_thread):
    """Position embeddings are resampled for both sizes, in the file as in the network."""
    check(name, 4, 1, form, tmp_path, pool="mean_sd")


@pytest.mark.export_matrix
@pytest.mark.parametrize("form", ["onnx", "pt2"])
@pytest.mark.parametrize(
    "name", [*timm_models.SMALLEST.values(), *timm_models.TRANSFORMERS.values()]
)
def test_every_family_of_timm(name, form, tmp_path):
    bands, views = (5, 4) if form == "onnx" else (3, 1)
    check(name, bands, views, form, tmp_path, pool="mean_sd")


@pytest.mark.parametrize("name", ["timm:test_efficientnet", "timm:test_convnext", "timm:test_vit2"])
def test_networks_of_timm_in_half_precision(name, tmp_path, one_thread):
    """Batch normalisation with its activation is folded; what has none stays as it is."""
    module = made(name, 3, 1)
    raw = tiles(3, 64)
    plain = module(torch.from_numpy(raw))[1]
    torch.testing.assert_close(
        folded(module)(torch.from_numpy(raw))[1], plain, atol=1e-3, rtol=1e-3
    )
    half = halved(module)
    exported("pt2", half, raw, tmp_path / "m.pt2")
    found = KINDS["pt2"].run(tmp_path / "m.pt2")(raw)[1]
    assert np.abs(found - plain.numpy()).max() < 0.05 * np.abs(plain.numpy()).max()


def test_every_family_has_its_smallest():
    families = {spec.family for spec in REGISTRY.values()}
    assert {REGISTRY[name].family: name for name in SMALLEST.values()} == SMALLEST
    assert set(SMALLEST) == families


def pixel_model(name: str, bands: int, cut: str | None = None) -> tuple[PixelModel, np.ndarray]:
    """A linear member on a random network's stages, and standardised pixels [C,H,W] for it."""
    names = [f"b{i}" for i in range(bands)]
    every, _ = build_backbone(name, names, cut_after=cut, seed=2)
    stages = DeepFeatures.of(every).stages
    deep = DeepFeatures.of(build_backbone(name, names, cut_after=stages[-1], seed=2)[0], stages)
    side = max(64, deep.backbone.min_px + 5)
    random = np.random.default_rng(6)
    image = random.normal(0, 1, (bands, side + 19, side)).astype(np.float32)
    rows, cols = random.integers(0, side, (2, 400))
    spread = deep.at(image, rows, cols).std(axis=1)
    weight = random.normal(0, 1, (4, len(spread))) / (spread + 0.1 * np.median(spread) + 1e-9)
    member = LinearMember(("deep",), weight / len(spread) ** 0.5, np.zeros(4))
    features = PixelFeatures(tuple(names), (None,) * bands, (0.0,) * bands, (1.0,) * bands, 0.0, ())
    parts = {"deep": member}, {"deep": 1.0}, {"deep": 1.0}
    return PixelModel(features, ("a", "b", "c", "d"), *parts, np.zeros(4), deep), image


def check_pixels(name: str, form: str, folder: Path, cut: str | None = None) -> None:
    """Two sizes, of which the one exported with is the larger; no pixel is left out."""
    model, image = pixel_model(name, 3, cut)
    network, out = PixelNetwork(model, None).eval(), folder / f"m.{form}"
    two = torch.from_numpy(image[None].repeat(2, axis=0))
    if form == "onnx":
        seal(pixel_onnx(model, network, two), out, {})
    else:
        save_program(pixel_program(network, two), out, {})
    run = KINDS[form].run(out)
    for part in (image, image[:, :-21, 3:]):
        rows, cols = (at.ravel() for at in np.indices(part.shape[1:]))
        wanted = model.linear["deep"] @ model.deep.at(part, rows, cols)
        found = run(np.ascontiguousarray(part[None]))[1][0].reshape(4, -1)
        assert np.abs(found - wanted).max() < 1e-4 * max(1.0, np.abs(wanted).max())
        assert wanted.std() > 0.1  # the network says something


@pytest.mark.parametrize("form", ["onnx", "pt2"])
@pytest.mark.parametrize("family", [name for name in SMALLEST if name != "swin"])
def test_pixels_of_one_of_each_family(family, form, tmp_path, one_thread):
    cut = (EARLY | {"inception": "inception3"}).get(family)
    check_pixels(SMALLEST[family], form, tmp_path, cut=cut)


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_pixels_of_a_network_of_timm(form, tmp_path, one_thread):
    check_pixels("timm:test_convnext", form, tmp_path, cut="stage2")


@pytest.mark.export_matrix
@pytest.mark.parametrize("form", ["onnx", "pt2"])
@pytest.mark.parametrize("name", [n for n, s in REGISTRY.items() if s.family != "swin"])
def test_pixels_of_every_backbone(name, form, tmp_path):
    check_pixels(name, form, tmp_path)


@pytest.mark.export_matrix
@pytest.mark.parametrize("form", ["onnx", "pt2"])
@pytest.mark.parametrize("views", [1, 4])
@pytest.mark.parametrize("bands", [1, 3, 5])
@pytest.mark.parametrize("name", list(REGISTRY))
def test_every_backbone(name, bands, views, form, tmp_path):
    check(name, bands, views, form, tmp_path)


@pytest.mark.export_matrix
@pytest.mark.parametrize("name", list(REGISTRY))
def test_every_backbone_in_half_precision(name, tmp_path):
    # At random each block adds as much as it is given: fifty of them, in a ResNet-152, make numbers
    # that half precision does not hold. In a trained network they add little.
    module = made(name, 3, 1, branches=0.3)
    raw = tiles(3, module.network.spec.input_px[1])
    exported("onnx", halved(module), raw, tmp_path / "m.onnx")
    found = compare(module, KINDS["onnx"].run(tmp_path / "m.onnx"), raw)
    # A random head leaves tiles near a tie, so that names are not compared.
    assert found.fault(Limits(probabilities=LIMITS["float16"].probabilities)) is None, found


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "vgg11_bn"])
def test_folding_changes_no_answer(name):
    module = made(name, 3, 1, cut=EARLY.get(REGISTRY[name].family))
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):  # statistics worth folding
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
    raw = torch.from_numpy(tiles(3, module.network.spec.input_px[1]))
    light = folded(module)
    assert not [m for m in light.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    np.testing.assert_allclose(light(raw)[1], module(raw)[1], atol=2e-4)
