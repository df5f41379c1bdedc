"""A deployed network made lighter: batch normalisation folded, convolutions in half precision.

Normalisation, resizing, pooling and the head stay in float32: raw values reach 65,535, of which
half precision keeps three digits, and features are compared with figures in float32.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from geotl.export.deployable import Deployed


class ToHalf(nn.Module):
    """The cast in front of the first stage."""

    def forward(self, x: Tensor) -> Tensor:
        """Round to half precision."""
        return x.half()


def folded(module: Deployed) -> Deployed:
    """A copy whose batch normalisations are part of the convolutions before them.

    In evaluation mode that is the same function. In half precision a small running variance would
    be lost, and int8 would round on both sides of each.
    """
    made = copy.deepcopy(module)
    for stage in made.network.backbone.stages.values():
        _fold(stage)
    return made


def halved(module: Deployed) -> Deployed:
    """A copy whose backbone is in half precision, folded first; what is around it is as it was."""
    made = folded(module)
    stages = made.network.backbone.stages
    stages.half()
    first = next(iter(stages))
    stages[first] = nn.Sequential(ToHalf(), stages[first])
    return made


class _Layers(fx.Tracer):
    """Follows a stage down to its convolutions and normalisations, geotl's own kinds too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        own = isinstance(m, nn.Conv2d | nn.BatchNorm2d)
        return own or super().is_leaf_module(m, module_qualified_name)


def _fold(stage: nn.Module) -> None:
    """Fold every normalisation that directly follows a convolution used by nothing else."""
    layers = dict(stage.named_modules())
    for node in _Layers().trace(stage).nodes:
        norm = layers.get(node.target) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        before = node.args[0]
        if not (isinstance(before, fx.Node) and before.op == "call_module"):
            continue
        conv = layers[str(before.target)]
        if isinstance(conv, nn.Conv2d) and len(before.users) == 1:
            _absorb(conv, norm)
            owner, _, leaf = str(node.target).rpartition(".")
            setattr(stage.get_submodule(owner), leaf, nn.Identity())


def _absorb(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Give a convolution the weights that it has together with a normalisation."""
    if norm.running_mean is None or norm.running_var is None:
        raise RuntimeError("a batch normalisation without stored statistics cannot be folded")
    with torch.no_grad():
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight,
            conv.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
