"""Inner activations of a stage's last residual block are pooled beside its output."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from geotl.errors import ModelError
from geotl.experiments.build import has_inner
from geotl.experiments.presets import settled
from geotl.experiments.schema import Recipe
from geotl.models.backbone_names import NAMES
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier, pool_stage
from geotl.models.registry import build_backbone, get_backbone
from geotl.models.residual_block import inner_channels, with_inner

BANDS = ("B02", "B03", "B04")
ROOT = FeatureSpec(("layer1", "layer2"), "root_mean", (32, 64), views=2, unit_length=True)
INNER = replace(ROOT, inner=True)


def network(spec: FeatureSpec, name: str = "resnet18", cut: str = "layer2") -> TileClassifier:
    body, _ = build_backbone(name, BANDS, cut_after=cut, seed=3)
    torch.manual_seed(1)
    return TileClassifier(body, Normalise([90.0] * 3, [50.0] * 3), spec, 3).eval()


def tiles(px: int = 32) -> torch.Tensor:
    return 90 + 50 * torch.randn(4, 3, px, px, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_stage_gives_its_own_output_and_the_input_of_its_last_convolution(name):
    stages = network(replace(ROOT, stages=("layer1",)), name).backbone.stages
    seen: list[torch.Tensor] = []
    block = list(stages["layer2"])[-1]
    last = block.conv3 if name == "resnet50" else block.conv2
    handle = last.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    x = torch.rand(2, inner_input(stages["layer2"]), 8, 8)
    with torch.inference_mode():
        output, inner = with_inner(stages["layer2"], x)
        handle.remove()
        assert torch.equal(output, stages["layer2"](x))
    assert torch.equal(inner, seen[0])
    assert inner.shape[1] == inner_channels(stages["layer2"]) == 128


def inner_input(stage: nn.Module) -> int:
    return next(m for m in stage.modules() if isinstance(m, nn.Conv2d)).in_channels


def test_features_hold_those_without_and_the_pooled_inner_activations():
    """By input size: layer1, inner activations of layer2, layer2."""
    plain, more = network(ROOT), network(INNER)
    with torch.inference_mode():
        standard = plain.normalise(tiles())
        old, new = plain.described(standard), more.described(standard)
        x = standard
        for name in ("stem", "layer1"):
            x = plain.backbone.stages[name](x)
        inner = with_inner(plain.backbone.stages["layer2"], x)[1]
    assert (old.shape[1], new.shape[1]) == (2 * 192, 2 * 320)
    torch.testing.assert_close(new[:, :64], old[:, :64])
    torch.testing.assert_close(new[:, 192:320], old[:, 64:192])
    torch.testing.assert_close(new[:, 64:192], pool_stage(inner, "root_mean"))


def test_stage_without_a_residual_block_is_one_clear_error():
    with pytest.raises(ModelError, match=r"given true for vgg11, whose stage block2 ends in no"):
        network(replace(INNER, stages=("block1", "block2")), "vgg11", "block2")


@pytest.mark.parametrize("name", NAMES)
def test_auto_knows_without_building_it_which_network_has_them(name):
    with torch.device("meta"):
        stages = get_backbone(name).build()
    built = bool(inner_channels(stages[list(stages)[-1]]))
    assert has_inner(Recipe(model={"backbone": name})) is built


@pytest.mark.parametrize(
    ("model", "taken"),
    [
        ({}, True),
        ({"cut_after": "layer3", "stages": ["stem", "layer3"]}, True),
        ({"stages": ["stem"]}, False),
        ({"backbone": "vgg16"}, False),
        ({"inner_activations": False}, False),
    ],
)
def test_auto_takes_them_where_the_network_has_them_and_the_recipe_is_silent(model, taken):
    recipe = Recipe(model=model)
    found, line = settled(recipe, 10, 64, inner=has_inner(recipe))
    assert found.model.inner_activations is taken
    assert ("model.inner_activations=true" in line) is taken
