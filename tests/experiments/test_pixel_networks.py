"""Which networks describe pixels, and what they see."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.models import squeezenet1_1

from geotl.errors import BandError
from geotl.experiments.pixel_networks import changed, deep_networks
from geotl.experiments.recipe import Recipe
from geotl.imagery.sensors import get_sensor

L2A = get_sensor("sentinel2_l2a")
BANDS = ("B02", "B03", "B04", "B08", "B11")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file as torchvision's, which takes red, green and blue."""
    torch.save(squeezenet1_1().state_dict(), tmp_path / "w.pth")
    return tmp_path / "w.pth"


def recipe_with(network_input: str, weights: Path | None = None) -> Recipe:
    plain = changed(Recipe(), backbone="squeezenet1_1", weights=str(weights))
    pixels = plain.pixels.model_copy(update={"network_input": network_input})
    evaluate = plain.evaluate.model_copy(update={"random_weights": False})
    return plain.model_copy(update={"pixels": pixels, "evaluate": evaluate})


def test_a_network_sees_all_bands_or_true_and_false_colour(weights: Path) -> None:
    plain = deep_networks(recipe_with("bands", weights), L2A, BANDS)
    colour = deep_networks(recipe_with("composites", weights), L2A, BANDS)
    assert plain is not None
    assert colour is not None
    assert (plain.pretrained.composites, len(plain.pretrained.backbone.bands)) == ((), 5)
    assert colour.pretrained.composites == ((2, 1, 0), (3, 2, 1))
    assert tuple(colour.pretrained.backbone.bands) == ("B04", "B03", "B02")
    assert len(colour.pretrained.names) == 2 * len(plain.pretrained.names)
    kernels = torch.load(weights, weights_only=True)["features.0.weight"]
    first = next(
        p for n, p in colour.pretrained.backbone.named_parameters() if n.endswith("weight")
    )
    torch.testing.assert_close(first, kernels)


def test_composites_without_their_bands_are_refused() -> None:
    with pytest.raises(BandError, match="no band of B02, B03, B04, B11 is nir"):
        deep_networks(recipe_with("composites"), L2A, ("B02", "B03", "B04", "B11"))
