"""Frozen features are computed once for all that share them, and anew where something differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geotl.data.tile_array import Pack
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.registry import build_backbone
from geotl.training.features import cached_features


def made_pack(folder: Path) -> Pack:
    images = np.random.default_rng(0).integers(1, 255, (3, 1, 32, 32)).astype(np.uint8)
    none = (None,) * 3
    return Pack(images, None, ("grey",), "made", folder, none, none, none)


def network(*, mean: float, fill: float) -> TileClassifier:
    backbone, _ = build_backbone("lenet5", ["grey"])
    return TileClassifier(backbone, Normalise([mean], [50.0], [fill]), FeatureSpec(("f6",)), 2)


def files_after(folder: Path, pack: Pack, *networks: TileClassifier) -> int:
    for made in networks:
        cached_features(made, pack, np.arange(3), folder)
    return len(list(folder.iterdir()))


def test_draws_share_features_where_nothing_is_filled(tmp_path):
    """Each draw fills with its own training mean, which valid tiles never meet."""
    two = network(mean=100, fill=1), network(mean=100, fill=2)
    assert files_after(tmp_path, made_pack(tmp_path), *two) == 1


def test_what_is_filled_in_counts_where_pixels_are_invalid(tmp_path):
    pack = made_pack(tmp_path)
    valid = np.ones(pack.images.shape, bool)
    valid[0, 0, :16] = False
    holed = replace(pack, valid=valid)
    two = network(mean=100, fill=1), network(mean=100, fill=200)
    assert files_after(tmp_path, holed, *two) == 3  # the whole tiles once, the other one twice
    found = [cached_features(n, holed, np.arange(3), tmp_path) for n in two]
    assert not np.array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1:], found[1][1:])


@pytest.mark.parametrize("change", ["mean", "weights", "rows"])
def test_anything_else_that_differs_is_computed_anew(tmp_path, change):
    pack = made_pack(tmp_path)
    assert files_after(tmp_path, pack, network(mean=100, fill=1)) == 1
    other = network(mean=90 if change == "mean" else 100, fill=1)
    if change == "weights":
        with torch.no_grad():
            next(other.backbone.parameters()).add_(0.1)
    rows = np.arange(2 if change == "rows" else 3)
    cached_features(other, pack, rows, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
