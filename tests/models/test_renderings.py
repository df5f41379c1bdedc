"""A network sees a tile in several renderings, whose features follow one another."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch

from geotl.errors import ModelError
from geotl.experiments.presets import settled
from geotl.experiments.schema import ModelSection, Recipe
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.registry import build_backbone
from geotl.models.renderings import GIVEN, RENDERINGS, distinct

PLAIN = FeatureSpec(("layer1", "layer2"), "root_mean", (32, 64), views=2, unit_length=True)
SEVERAL = replace(PLAIN, renderings=RENDERINGS)


def network(spec: FeatureSpec) -> TileClassifier:
    body, _ = build_backbone("resnet18", ("B02", "B03", "B04"), cut_after="layer2", seed=3)
    torch.manual_seed(1)
    return TileClassifier(body, Normalise([100.0, 80, 60], [50.0, 40, 30]), spec, 3).eval()


def tiles(px: int = 32) -> torch.Tensor:
    return 90 + 50 * torch.randn(4, 3, px, px, generator=torch.Generator().manual_seed(2))


def test_features_of_each_rendering_are_those_of_tiles_that_look_so():
    plain, several = network(PLAIN), network(SEVERAL)
    standard = plain.normalise(tiles())
    looks = standard, standard.flip(1), standard.roll(1, 1), -standard
    with torch.inference_mode():
        parts = several.described(standard).chunk(4, dim=1)
        for part, look in zip(parts, looks, strict=True):
            torch.testing.assert_close(part, plain.described(look))


def test_each_rendering_has_features_of_one_length():
    features = network(SEVERAL).features(tiles())
    lengths = torch.stack(features.chunk(4, dim=1)).norm(dim=2)
    torch.testing.assert_close(lengths, torch.full_like(lengths, features.shape[1] / 4) ** 0.5)


@pytest.mark.parametrize("some", [(), ("given", "given"), ("reversed", "shifted")])
def test_renderings_that_are_the_same_are_one_clear_error(some):
    body, _ = build_backbone("resnet18", ("B02", "B03"), cut_after="layer1", seed=3)
    spec = FeatureSpec(("layer1",), renderings=some)
    with pytest.raises(ModelError, match=r"bands: 2; allowed: some of given, reversed, negative"):
        TileClassifier(body, Normalise([0.0] * 2, [1.0] * 2), spec, 3)


def test_a_recipe_may_name_every_rendering_and_gives_one_if_it_is_silent():
    kind = ModelSection.model_fields["renderings"].annotation
    assert get_args(get_args(kind)[0]) == RENDERINGS == distinct(3) == distinct(13)
    assert ModelSection().renderings == GIVEN


@pytest.mark.parametrize(
    ("bands", "px", "taken"),
    [(1, 64, GIVEN), (2, 64, GIVEN), (3, 64, RENDERINGS), (13, 64, GIVEN), (3, 65, GIVEN)],
)
def test_auto_takes_them_for_small_tiles_of_three_bands(bands, px, taken):
    found, line = settled(Recipe(), 10, px, bands=bands)
    assert found.model.renderings == taken
    shown = "model.renderings=given,reversed,shifted,negative"
    assert (shown in line) is (taken == RENDERINGS)
    assert found.model.input_px == ((64, 128) if taken == RENDERINGS else (64, 128, 192))
    stated = Recipe(model={"renderings": ["given"]})
    assert settled(stated, 10, px, bands=bands)[0].model.renderings == GIVEN
