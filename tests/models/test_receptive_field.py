"""Receptive fields walked from kernels and strides, against what a gradient reaches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from geotl.errors import ModelError
from geotl.models.backbone import Backbone
from geotl.models.receptive_field import ReceptiveField, receptive_fields
from geotl.models.registry import REGISTRY, build_backbone

SMALL = ("lenet5", "alexnet", "vgg11_bn", "googlenet", "resnet18", "squeezenet1_1")


def reached(backbone: Backbone, stage: str, side: int) -> tuple[int, int, int]:
    """Output pixel in the middle, and first and last image row that it depends on."""
    image = torch.zeros(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    output = averaging(backbone).prefix(image, stage)[stage]
    middle = output.shape[-1] // 2
    output[0, :, middle, middle].sum().backward()
    assert image.grad is not None
    rows = image.grad[0, 0].abs().sum(dim=1).nonzero().flatten()
    return middle, int(rows[0]), int(rows[-1])


def averaging(backbone: Backbone) -> Backbone:
    """The same network with equal kernels and no pooling of maxima, so that nothing cancels."""
    backbone.double().eval()
    for owner in [*backbone.modules()]:
        for name, own in [*owner.named_children()]:
            if isinstance(own, nn.MaxPool2d):
                same = nn.AvgPool2d(own.kernel_size, own.stride, own.padding, own.ceil_mode)
                setattr(owner, name, same)
            elif isinstance(own, nn.ReLU):
                setattr(owner, name, nn.Identity())
    for parameter in backbone.parameters():
        parameter.data.fill_(1.0 / max(1, parameter[0].numel()))
    return backbone


@pytest.mark.parametrize("name", SMALL)
def test_fields_are_what_a_gradient_reaches(name: str) -> None:
    """For a stage of a stride of at most 8, whose field fits a small image."""
    backbone, _ = build_backbone(name, ["a"], [None])
    fields = receptive_fields(backbone)
    stage = [s for s, field in fields.items() if field.stride <= 8][-1]
    field = fields[stage]
    middle, first, last = reached(backbone, stage, 2 * field.side + 40)
    assert (first, last) == tuple(field.stride * middle + at for at in (field.first, field.last))


@pytest.mark.parametrize("name", [n for n, s in REGISTRY.items() if s.family != "swin"])
def test_strides_are_those_of_the_registry(name: str) -> None:
    backbone, _ = build_backbone(name, ["a", "b"], [None, None])
    fields = receptive_fields(backbone)
    assert {stage: field.stride for stage, field in fields.items()} == backbone.strides
    sides = [field.side for field in fields.values()]
    assert sides == sorted(sides)


def test_resnet18s_fields_are_the_published_ones() -> None:
    backbone, _ = build_backbone("resnet18", ["a"], [None])
    sides = {stage: field.side for stage, field in receptive_fields(backbone).items()}
    assert sides == {"stem": 11, "layer1": 43, "layer2": 99, "layer3": 211, "layer4": 435}


def test_outputs_of_other_strides_cannot_be_joined() -> None:
    with pytest.raises(ModelError, match="strides 2 and 4 cannot be joined"):
        ReceptiveField(2).joined(ReceptiveField(4))


def test_functions_of_poolings_count() -> None:
    """As Inception's branches call them, kernels and strides by name or by place."""

    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            same = nn.functional.avg_pool2d(x, kernel_size=3, stride=2, padding=1)
            return torch.cat([same, nn.functional.max_pool2d(x, 5, stride=2, padding=2)], 1)

    backbone, _ = build_backbone("lenet5", ["a"], [None], cut_after="c1")
    backbone.stages["c1"] = nn.Sequential(Branch())
    assert receptive_fields(backbone) == {"c1": ReceptiveField(2, -2, 2)}
