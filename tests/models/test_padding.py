"""What convolutions see beyond a tile's edge is kept, and makes dense maps agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geotl.inference.sliding_window import Sweep, predict_windows
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.registry import build_backbone

ROWS = np.arange(0, 97, 16)


def network(padding: str) -> TileClassifier:
    """A random ResNet-18 to layer2 whose head separates windows of a random scene."""
    backbone, _ = build_backbone(
        "resnet18", ["red", "green", "blue"], [665, 560, 490], cut_after="layer2", seed=1
    )
    spec = FeatureSpec(("layer1", "layer2"), views=1, padding=padding)  # type: ignore[arg-type]
    torch.manual_seed(0)
    return TileClassifier(backbone, Normalise([0.0] * 3, [1.0] * 3), spec, 4).eval()


@torch.inference_mode()
def gap(padding: str) -> float:
    """How far dense mode's probabilities lie from exact mode's on a bright, rough scene."""
    model = network(padding)
    image = 3 + torch.randn(3, 128, 128, generator=torch.Generator().manual_seed(2))
    sweep = Sweep(model, 32, 1, "exact", None, "float32")
    exact = predict_windows(sweep, image, ROWS, ROWS, 16).probabilities
    dense = predict_windows(replace(sweep, mode="dense"), image, ROWS, ROWS, 16).probabilities
    return float(np.abs(exact - dense).mean())


def test_continued_edges_bring_dense_mode_nearer_to_exact() -> None:
    assert gap("replicate") < 0.5 * gap("zeros")
    assert gap("reflect") < 0.5 * gap("zeros")


def test_every_convolution_pads_as_the_model_says() -> None:
    modes = {
        layer.padding_mode
        for layer in network("reflect").modules()
        if isinstance(layer, torch.nn.Conv2d)
    }
    assert modes == {"reflect"}


@pytest.mark.usefixtures("one_thread", "own_cache")
def test_a_saved_model_keeps_its_padding(tmp_path: Path) -> None:
    from helpers.runs import made_tiles, run

    from geotl.models.model_file import load

    tiles = made_tiles(tmp_path / "tiles", 6)
    out = tmp_path / "run"
    told = [
        "model.padding=replicate",
        "strategy=probe",
        "probe.views=1",
        "split.shots=2",
        "model.backbone=resnet18",
        "model.truncate_after=layer1",
    ]
    assert run(tiles, out, *told) == 0
    kept = load(out / "model.safetensors")
    assert kept.contract.spec.padding == "replicate"
    assert kept.network.backbone.stages["stem"][0].padding_mode == "replicate"
    with torch.inference_mode():
        images = torch.from_numpy(kept.training_samples.examples.astype(np.float32))
        found = kept.network(images).numpy()
    np.testing.assert_allclose(found, kept.training_samples.example_logits, atol=1e-4)
