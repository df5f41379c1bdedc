"""A hub cache with files made for the tests, and no way out of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from geotl.models.registry import REGISTRY, Backbone, build_backbone


def own_hub(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Point torch hub at a folder, close the network, and return where its files lie."""
    patch.setattr(torch.hub, "get_dir", lambda: str(folder))

    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no network in tests")

    patch.setattr("socket.socket.connect", offline)
    (folder / "checkpoints").mkdir(exist_ok=True)
    return folder / "checkpoints"


def make_file(
    path: Path,
    bands: Sequence[str],
    network: str = "resnet18",
    *,
    cut_after: str | None = "layer1",
    seed: int = 99,
) -> Backbone:
    """Write a random backbone as its publisher would, with a head, and return it."""
    made, _ = build_backbone(network, bands, cut_after=cut_after, seed=seed)
    prefixes = dict(zip(REGISTRY[network].stages, REGISTRY[network].prefixes, strict=True))
    tensors = {
        prefixes[stage] + name: held
        for stage, module in made.stages.items()
        for name, held in module.state_dict().items()
    }
    torch.save(tensors | {"fc.bias": torch.zeros(2)}, path)
    return made
