"""Small networks."""

from __future__ import annotations

import torch

from geotl.models.backbone import freeze
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.registry import build_backbone

BANDS = ("B02", "B03", "B04", "B08")


def network(frozen: str | None = "stem", cut: str = "layer2", dropout: float = 0.3):
    backbone, _ = build_backbone(
        "resnet18", BANDS, (492.0, 560.0, 665.0, 833.0), cut_after=cut, seed=3
    )
    torch.manual_seed(1)
    made = TileClassifier(
        backbone,
        Normalise([90.0] * 4, [50.0] * 4),
        FeatureSpec(("layer1", cut), views=1),
        3,
        dropout=dropout,
        frozen_until=frozen,
    )
    freeze(backbone, frozen, allow_random=True)
    return made.to(memory_format=torch.channels_last)
