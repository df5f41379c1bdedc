"""Stages of a frozen network read at single pixels: where they lie, and what members do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from geotl.arrays import Float32s
from geotl.errors import DataError, ModelError
from geotl.models.deep_features import MAX_STRIDE, DeepFeatures
from geotl.models.registry import REGISTRY, build_backbone

NM = (490.0, 665.0, 842.0)
LOCAL = [name for name, spec in REGISTRY.items() if spec.family != "swin"]  # see a part alone


def deep_of(name: str, stages: tuple[str, ...] = (), bands: int = 3) -> DeepFeatures:
    spec = REGISTRY[name]
    small = [s for s, n in zip(spec.stages, spec.strides, strict=True) if n <= MAX_STRIDE]
    last = stages[-1] if stages else small[-1]
    named = [f"b{i}" for i in range(bands)]
    return DeepFeatures.of(build_backbone(name, named, NM[:bands], cut_after=last)[0], stages)


def even(deep: DeepFeatures) -> DeepFeatures:
    """With kernels of equal weights, which respond alike on all sides of a dot."""
    for owner in [*deep.backbone.modules()]:
        for name, own in [*owner.named_children()]:
            if isinstance(own, nn.MaxPool2d):
                same = nn.AvgPool2d(own.kernel_size, own.stride, own.padding, own.ceil_mode)
                setattr(owner, name, same)
    for own in deep.backbone.modules():
        if isinstance(own, nn.Conv2d):
            own.weight.data.fill_(1 / own.weight[0].numel())
    return deep


@pytest.mark.parametrize("name", LOCAL)
def test_every_backbone_describes_pixels(name: str) -> None:
    """Shape, a value for each name, whole windows of strides, and nothing that trains."""
    deep = deep_of(name)
    assert deep.halo % deep.stride == 0
    assert deep.stride <= MAX_STRIDE
    assert deep.halo >= max(field.reach for field in deep.fields.values())
    assert not any(p.requires_grad for p in deep.backbone.parameters())
    deep = deep_of(name, deep.stages[:2])
    image = np.random.default_rng(0).normal(size=(3, 2 * deep.halo + 3, 2 * deep.halo + 5))
    rows, cols = np.array([0, 2, 1]) + deep.halo, np.array([4, 0, 1]) + deep.halo
    found = deep.at(image.astype(np.float32), rows, cols)
    assert found.shape == (len(deep.names), 3)
    assert np.isfinite(found).all()
    assert found.std() > 0


def test_a_network_that_sees_the_whole_window_describes_no_pixel() -> None:
    with pytest.raises(ModelError, match="single pixels need a network that sees only a part"):
        _ = deep_of("swin_v2_t").fields


def inside(deep: DeepFeatures, image: Float32s, weight: Float32s) -> Float32s:
    """Logits [K,h,w] of the pixels inside the halo."""
    found = np.zeros((len(weight), *(side - 2 * deep.halo for side in image.shape[1:])), np.float32)
    for one in deep.logits(image, weight):
        one.add_to(found, deep.halo, deep.halo)
    return found


@pytest.mark.parametrize("name", LOCAL)
def test_a_bright_dot_stays_where_it_is(name: str) -> None:
    """To half a pixel, after the second stage: the mean over dots at four places of a stride."""
    stage = deep_of(name).stages[1]
    deep = even(deep_of(name, (stage,), bands=1))
    field = deep.fields[stage]
    wide = 2 * deep.halo + field.side + 4 * field.stride
    weight = np.ones((1, deep.channels[stage]), np.float32)
    drifts = []
    for shift in range(0, field.stride, field.stride // 4):
        image = np.zeros((1, wide, wide), np.float32)
        image[:, wide // 2 + shift, wide // 2] = 1.0
        seen = inside(deep, image, weight)[0].astype(float) ** 2
        rows, cols = (np.arange(count) + deep.halo for count in seen.shape)
        drifts.append((seen.sum(axis=1) @ rows) / seen.sum() - (wide // 2 + shift))
        assert abs((seen.sum(axis=0) @ cols) / seen.sum() - wide // 2) < field.stride / 2
    assert abs(np.mean(drifts)) < 0.5


def test_logits_are_the_members_of_the_features() -> None:
    """Applied stage by stage and interpolated: a linear map commutes with interpolation."""
    deep = deep_of("resnet18")
    random = np.random.default_rng(1)
    shape = 3, 40 + 2 * deep.halo, 24 + 2 * deep.halo
    image = random.normal(size=shape).astype(np.float32)
    weight = random.normal(size=(4, len(deep.names))).astype(np.float32)
    found = inside(deep, image, weight)
    assert found.shape == (4, 40, 24)
    rows, cols = random.integers(0, 40, 50), random.integers(0, 24, 50)
    plain = weight @ deep.at(image, rows + deep.halo, cols + deep.halo)
    np.testing.assert_allclose(found[:, rows, cols], plain, atol=2e-3)


def test_what_lies_beyond_the_halo_does_not_count() -> None:
    deep = deep_of("resnet18")
    random = np.random.default_rng(2)
    image = random.normal(size=(3, 1 + 2 * deep.halo, 1 + 2 * deep.halo)).astype(np.float32)
    wide = np.pad(image, ((0, 0), *[(2 * deep.stride, 2 * deep.stride)] * 2), constant_values=9.0)
    at = np.array([deep.halo])
    inside = deep.at(image, at, at)
    moved = deep.at(wide, at + 2 * deep.stride, at + 2 * deep.stride)
    np.testing.assert_allclose(inside, moved, atol=1e-5)


def test_a_window_begins_where_the_stride_allows() -> None:
    """Moved by a whole stride nothing changes, by one pixel the interpolation does."""
    deep = deep_of("squeezenet1_1")
    random = np.random.default_rng(3)
    image = random.normal(size=(3, 3 * deep.halo, 3 * deep.halo)).astype(np.float32)
    at = np.array([deep.halo + deep.stride])
    plain = deep.at(image, at, at)
    whole = deep.at(
        np.ascontiguousarray(image[:, deep.stride :, deep.stride :]), *[at - deep.stride] * 2
    )
    one = deep.at(np.ascontiguousarray(image[:, 1:, 1:]), at - 1, at - 1)
    np.testing.assert_allclose(whole, plain, atol=1e-5)
    assert np.abs(one - plain).max() > 1e-3


def test_stages_of_large_strides_are_left_out() -> None:
    backbone, _ = build_backbone("resnet18", ["a"], [None])
    assert DeepFeatures.of(backbone).stages == ("stem", "layer1", "layer2", "layer3")
    assert DeepFeatures.of(backbone, ("layer4", "stem")).stages == ("stem", "layer4")
    with pytest.raises(DataError, match="stages layer9: resnet18 has stem"):
        DeepFeatures.of(backbone, ("layer9",))


def test_negative_activations_keep_their_sign() -> None:
    """LeNet's tanh: the root of the size, with the sign."""
    deep = deep_of("lenet5")
    image = np.random.default_rng(4).normal(size=(3, 2 * deep.halo + 4, 2 * deep.halo + 4))
    maps = deep.maps(image.astype(np.float32))
    with torch.inference_mode():
        raw = deep.backbone(torch.from_numpy(image.astype(np.float32))[None])
    for stage, values in maps.items():
        np.testing.assert_allclose((values * values.abs()).numpy(), raw[stage][0], atol=1e-5)
    assert (maps["c1"] < 0).any()


def test_composites_are_described_one_after_the_other() -> None:
    """Of each stage the features of every image that the backbone takes."""
    plain = deep_of("squeezenet1_1")
    deep = DeepFeatures.of(plain.backbone, plain.stages, ((2, 1, 0), (3, 2, 1)))
    random = np.random.default_rng(7)
    image = random.normal(size=(4, 2 * deep.halo + 3, 2 * deep.halo + 5)).astype(np.float32)
    at = np.array([0, 2]) + deep.halo, np.array([4, 1]) + deep.halo
    found, start = deep.at(image, *at), 0
    alone = [plain.at(image[list(bands)], *at) for bands in deep.composites]
    for stage, own in zip(plain.stages, plain.channels.values(), strict=True):
        assert deep.channels[stage] == 2 * own
        for k, one in enumerate(alone):
            np.testing.assert_array_equal(
                found[2 * start + k * own : 2 * start + (k + 1) * own], one[start : start + own]
            )
        start += own
    assert len(found) == 2 * start == len(deep.names)


def test_a_resnets_grids_are_interpolated_once() -> None:
    """Its strides share their middles, so that its logits are on one grid."""
    deep = deep_of("resnet18")
    image = np.zeros((3, *[2 * deep.halo + deep.stride] * 2), np.float32)
    (one,) = deep.logits(image, np.ones((2, len(deep.names)), np.float32))
    assert (one.stride, one.values.shape[0]) == (4, 2)


def test_bfloat16_gives_nearly_the_same_logits() -> None:
    deep = deep_of("resnet18")
    random = np.random.default_rng(5)
    image = random.normal(size=(3, *[2 * deep.halo + 32] * 2)).astype(np.float32)
    weight = random.normal(size=(4, len(deep.names))).astype(np.float32)
    (plain,), (half,) = (deep.logits(image, weight, x) for x in (torch.float32, torch.bfloat16))
    assert not np.array_equal(plain.values, half.values)
    assert (plain.values - half.values).std() < 0.03 * plain.values.std()
