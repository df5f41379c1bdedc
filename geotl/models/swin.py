"""Swin Transformers V2 (Liu 2022) of torchvision as stages, which torchgeo publishes weights for.

torchvision keeps channels last inside the network; stages give maps [N, C, H, W] as all others do.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any

import torchvision.models
from torch import nn
from torchvision.ops.misc import Permute

from geotl.models.backbone import BackboneSpec
from geotl.models.pretrained import torchvision_names

_FIRST, _LAST = (0, 3, 1, 2), (0, 2, 3, 1)  # where the channels go
_STAGES = {"stage1": ("1",), "stage2": ("2", "3"), "stage3": ("4", "5"), "stage4": ("6", "7")}


def _swin_stages(name: str) -> dict[str, nn.Sequential]:
    """The patches, four groups of blocks with the merging before them, the last normalisation."""
    network: Any = torchvision.models.get_model(name, weights=None)
    parts = dict(network.features.named_children())
    stem = OrderedDict([("0", parts["0"]), ("map", Permute([*_FIRST]))])
    blocks = {stage: _on_maps({n: parts[n] for n in names}) for stage, names in _STAGES.items()}
    return {"stem": nn.Sequential(stem), **blocks, "top": _on_maps({"norm": network.norm})}


def _on_maps(parts: dict[str, nn.Module]) -> nn.Sequential:
    """Parts that want channels last, between maps."""
    inside = OrderedDict([("last", Permute([*_LAST])), *parts.items(), ("map", Permute([*_FIRST]))])
    return nn.Sequential(inside)


def swin(letter: str, size: str, width: int, parameters: int) -> BackboneSpec:
    """The entry of one size.

    Args:
        letter: letter of the size in torchvision's name.
        size: size in words.
        width: channels of the first stage.
        parameters: parameters of the network with its head.
    """
    name, strides = f"swin_v2_{letter}", (4, 4, 8, 16, 32, 32)
    return BackboneSpec(
        name,
        "swin",
        f"Swin Transformer V2 {size} (Liu 2022)",
        ("stem", *_STAGES, "top"),
        channels=(width, width, 2 * width, 4 * width, 8 * width, 8 * width),
        strides=strides,
        least_px=strides,
        prefixes=(*["features."] * 5, ""),
        head=("head.",),
        parameters=parameters,
        weights=torchvision_names(name),
        build=partial(_swin_stages, name),
        draws=True,
    )
