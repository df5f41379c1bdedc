"""Inner activations: the map in front of the last convolution of a stage's last residual block.

A residual block (He 2016) adds what its convolutions compute to its input; the map in front of the
last one is no part of the block's output, and describes a tile in other channels.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck


def inner_channels(stage: nn.Module) -> int:
    """Channels of a stage's inner activations; 0 for one that ends in no residual block.

    >>> from torchvision.models import resnet18, resnet50
    >>> [inner_channels(network().layer3) for network in (resnet18, resnet50)]
    [256, 256]
    >>> inner_channels(nn.Sequential(nn.Conv2d(3, 8, 3)))
    0
    """
    block = _last(stage)
    return 0 if block is None else _convolutions(block)[-1][0].in_channels


def with_inner(stage: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    """Output [N,C,s,s] of a stage that ends in a residual block, and its inner activations."""
    *before, last = stage
    for block in before:
        x = block(x)
    return _block_with_inner(cast("BasicBlock | Bottleneck", last), x)


def _block_with_inner(block: BasicBlock | Bottleneck, x: Tensor) -> tuple[Tensor, Tensor]:
    """A block's output and the map in front of its last convolution."""
    *first, (convolution, normalisation) = _convolutions(block)
    inner = x
    for convolved, normalised in first:
        inner = block.relu(normalised(convolved(inner)))
    across = x if block.downsample is None else block.downsample(x)
    return block.relu(normalisation(convolution(inner)) + across), inner


def _last(stage: nn.Module) -> BasicBlock | Bottleneck | None:
    last = list(stage.children())[-1:]
    return last[0] if last and isinstance(last[0], BasicBlock | Bottleneck) else None


def _convolutions(block: BasicBlock | Bottleneck) -> list[tuple[nn.Conv2d, nn.Module]]:
    """The block's convolutions, each with its batch normalisation, in order."""
    pairs: list[tuple[nn.Conv2d, nn.Module]] = [(block.conv1, block.bn1), (block.conv2, block.bn2)]
    return [*pairs, (block.conv3, block.bn3)] if isinstance(block, Bottleneck) else pairs
