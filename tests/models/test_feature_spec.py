"""Whatever a specification of features asks for, every way to compute them gives the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geotl.inference.sliding_window import Sweep, features_at
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.registry import build_backbone
from geotl.models.renderings import RENDERINGS

SPECS = {
    "inner activations": {"inner": True},
    "renderings": {"renderings": RENDERINGS},
    "both": {"inner": True, "renderings": RENDERINGS},
}


@pytest.fixture(params=SPECS)
def network(request) -> TileClassifier:
    body, _ = build_backbone("resnet18", ("B02", "B03", "B04"), cut_after="layer2", seed=3)
    spec = FeatureSpec(
        ("layer1", "layer2"),
        "root_mean",
        (32, 64),
        views=2,
        unit_length=True,
        **SPECS[request.param],
    )
    torch.manual_seed(1)
    return TileClassifier(body, Normalise([100.0, 80, 60], [50.0, 40, 30]), spec, 3).eval()


def tiles(px: int = 32) -> torch.Tensor:
    return 90 + 50 * torch.randn(4, 3, px, px, generator=torch.Generator().manual_seed(2))


def test_frozen_and_trained_stages_give_the_same_features(network):
    standard = network.normalise(tiles())
    trained = network.described(standard)
    network.frozen_until = "layer2"
    torch.testing.assert_close(network.described(standard), trained)
    assert trained.requires_grad


def test_dense_features_of_one_window_are_those_of_its_tile(network):
    image, at = tiles(64)[0], np.array([0])
    dense, exact = (
        features_at(Sweep(network, 64, 2, mode, None, "float32", 4), image, at, at, 16)
        for mode in ("dense", "exact")
    )
    torch.testing.assert_close(torch.as_tensor(dense), torch.as_tensor(exact), atol=1e-4, rtol=1e-4)
