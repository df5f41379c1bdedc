"""A decoder on a backbone: what a pixel's logits depend on, which backbones take one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.pixel_models import small_decoder

from geotl.errors import ModelError
from geotl.models.backbone import batchnorm_use
from geotl.models.pixel_decoder import PixelDecoder, strides_of
from geotl.models.registry import REGISTRY, build_backbone

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = pytest.mark.parametrize("kind", ["unet", "fpn"])


@pytest.fixture(scope="module", params=["unet", "fpn"])
def network(request: pytest.FixtureRequest) -> PixelDecoder:
    return small_decoder(request.param)


def image(*size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


@pytest.mark.parametrize("size", [(32, 64), (37, 21), (1, 1)])
def test_every_pixel_of_a_window_has_logits(network, size) -> None:
    found = network.predict(image(4, *size))
    assert found.shape == (3, *size)
    assert np.isfinite(found).all()


def test_a_pixel_depends_on_its_halo_and_on_nothing_else(network) -> None:
    """At every place between two pixels of the deepest stage; the halo is not far too wide."""
    halo, stride = network.halo, network.stride
    assert halo % stride == 0
    plain = image(4, 2 * halo + 3 * stride, 2 * halo + 3 * stride)
    first = network.predict(plain)
    least = halo
    for at in range(halo + stride, halo + 2 * stride):
        other = plain + 10
        here = np.s_[:, at - halo : at + halo + 1, at - halo : at + halo + 1]
        other[here] = plain[here]
        second = network.predict(other)
        np.testing.assert_array_equal(first[:, at, at], second[:, at, at])
        changed = (first != second).any(axis=0)
        least = min(least, int(np.abs(np.argwhere(changed) - at).max(axis=1).min()))
    assert least <= 4 * stride


def test_a_window_cut_with_its_halo_gives_the_same_logits(network) -> None:
    halo, stride = network.halo, network.stride
    wide = image(4, 2 * halo + 80, 2 * halo + 96)
    whole = network.predict(wide)[:, halo + stride : -halo, halo + stride : -halo]
    part = np.zeros_like(whole)
    for one in network.logits(wide[:, stride:, stride:], np.eye(3, dtype=np.float32)):
        one.add_to(part, halo, halo)
    np.testing.assert_allclose(part, whole, atol=1e-4)


def test_batch_normalisation_of_the_encoder_is_held(network) -> None:
    network.train()
    assert batchnorm_use(network.backbone) == "held"
    assert not any(m.training for m in network.backbone.modules() if hasattr(m, "running_mean"))
    assert any(m.training for m in network.decoder.modules() if hasattr(m, "running_mean"))
    network.settle()


def test_the_seed_gives_the_first_weights_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    one, same, other = (small_decoder("unet", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    first, second, third = (list(n.decoder.state_dict().values()) for n in (one, same, other))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, third, strict=True))


def test_a_backbone_that_does_not_halve_sides_is_refused_in_one_line() -> None:
    backbone, _ = build_backbone("squeezenet1_1", ["a", "b"])
    with pytest.raises(ModelError, match="squeezenet1_1 up to fire8_9 does not halve") as told:
        PixelDecoder(backbone, "unet", 3)
    assert "resnet18" in str(told.value)
    assert "\n" not in str(told.value)
    short, _ = build_backbone("resnet18", ["a", "b"], cut_after="layer1")
    with pytest.raises(ModelError, match="resnet18 up to layer1 does not halve"):
        PixelDecoder(short, "unet", 3)


def test_the_last_output_at_each_stride_is_read() -> None:
    """As published: of a ResNet conv1, layer1, layer2 ...; of a VGG the ends of its blocks."""
    assert strides_of(REGISTRY["resnet50"]) == [64, 256, 512, 1024, 2048]
    assert strides_of(REGISTRY["vgg16"], ("block1", "block2")) == [128, 128]
    assert strides_of(REGISTRY["lenet5"]) == []


@KINDS
def test_the_channels_fit_every_backbone_that_halves_sides(kind) -> None:
    for name in ("vgg11_bn", "googlenet", "resnet50"):
        spec = REGISTRY[name]
        last = [s for s, stride in zip(spec.stages, spec.strides, strict=True) if stride <= 16][-1]
        backbone, _ = build_backbone(name, ["a", "b"], cut_after=last)
        network = PixelDecoder(backbone, kind, 2).settle()
        assert network.predict(image(2, 32, 48)).shape == (2, 32, 48)
        assert network.halo > 32
