"""A trained network as it is deployed: raw pixel values in, calibrated probabilities out.

Normalisation, adaptation to the bands, resizing, averaging over views and the temperature are all
inside, so that nothing is left for whoever runs it to forget, or to do twice. Batch normalisation
can be folded into convolutions, and the network computed in half precision.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from geotl.models.backbone import SteadyBatchNorm2d
from geotl.models.classifier import TileClassifier, turn_view, view_numbers
from geotl.models.model_file import ModelFile


class Deployed(nn.Module):
    """Raw pixels [N,C,S,S] float32 to probabilities [N,K] and calibrated logits [N,K].

    Both are plain tensors, so that a file made of this opens without geotl. The probabilities are
    the softmax of the logits, which are means over the views, divided by the temperature already.

    Views are stacked on the batch axis and go through the network in one pass, so that the graph
    does not grow with their number. NaN and the sensor's nodata are invalid and take the mean of
    the training pixels.
    """

    def __init__(self, network: TileClassifier, views: int) -> None:
        """Deploy a network, averaging over 1, 2, 4 or 8 views."""
        super().__init__()
        self.network, self.views = network, view_numbers(views)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Name a batch."""
        calibrated = self.of_standard(self.network.normalise(image))
        return torch.softmax(calibrated, dim=1), calibrated

    def of_standard(self, standard: Tensor) -> Tensor:
        """Calibrated logits [N,K] of pixels that are standardised already."""
        stacked = torch.cat([turn_view(standard, view) for view in self.views])
        logits = self.network.classify(self.network.features_of(stacked))
        mean = logits.view(len(self.views), standard.shape[0], -1).mean(dim=0)
        calibrated: Tensor = mean / self.network.temperature
        return calibrated


def deployed(model: ModelFile, views: int | None = None) -> Deployed:
    """A model's network, copied to the CPU in evaluation mode, whatever device it was trained on.

    Args:
        model: the model.
        views: flips and quarter turns to average over, None for the model's own.
    """
    network = copy.deepcopy(model.network).to("cpu", torch.float32).eval().requires_grad_(False)
    # torch.export.save takes tensors in channels_last for slices of larger ones, and warns.
    network = network.to(memory_format=torch.contiguous_format)
    return Deployed(network, views or model.contract.spec.views).eval()


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
    copied = copy.deepcopy(module)
    for stage in copied.network.backbone.stages.values():
        _fold(stage)
    return copied


def halved(module: Deployed) -> Deployed:
    """A copy whose backbone is in half precision, folded first; other layers stay as they are."""
    copied = folded(module)
    stages = copied.network.backbone.stages
    stages.half()
    first = next(iter(stages))
    stages[first] = nn.Sequential(ToHalf(), stages[first])
    return copied


class _Layers(fx.Tracer):
    """Follows a stage down to its convolutions and normalisations, geotl's own kinds too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        leaf = isinstance(m, nn.Conv2d | nn.BatchNorm2d)
        return leaf or super().is_leaf_module(m, module_qualified_name)


def _fold(stage: nn.Module) -> None:
    """Fold every normalisation that directly follows a convolution used by nothing else."""
    layers = dict(stage.named_modules())
    if not any(isinstance(layer, SteadyBatchNorm2d) for layer in layers.values()):
        return  # a transformer's, which cannot be traced either
    for node in _Layers().trace(stage).nodes:
        norm = layers.get(node.target) if node.op == "call_module" else None
        if not isinstance(norm, SteadyBatchNorm2d):
            continue
        before = node.args[0]
        if not (isinstance(before, fx.Node) and before.op == "call_module"):
            continue
        conv = layers[str(before.target)]
        if isinstance(conv, nn.Conv2d) and len(before.users) == 1:
            _absorb(conv, norm)
            owner, _, leaf = str(node.target).rpartition(".")
            setattr(stage.get_submodule(owner), leaf, norm.rest)


def _absorb(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Fold a normalisation into the weights of a convolution."""
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
