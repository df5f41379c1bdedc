"""A decoder on a backbone: the class logits of every pixel of a window.

The encoder is ours, with its weights and its first convolution; U-Net (Ronneberger et al. 2015) and
FPN (Kirillov et al. 2019) are segmentation_models_pytorch's, which is imported where a network is
built. The decoder takes the deepest output of the encoder at each stride, 2, 4, 8 and so on.

A pixel's logits depend on the pixels within `halo` of it and on nothing else. For this the group
normalisation of the FPN, which takes statistics over the whole window, is replaced by batch
normalisation, and its interpolation between the corners of a window by one between pixels' middles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geotl.arrays import Float32s, Int64s
from geotl.errors import ModelError
from geotl.models.backbone import Backbone, BackboneSpec, hold_batchnorm
from geotl.models.interpolation import CoarseValues
from geotl.models.receptive_field import receptive_fields
from geotl.models.registry import REGISTRY, get_backbone

DECODER = "decoder"  # the block of features that a decoder's logits are
DecoderKind = Literal["unet", "fpn"]
MIN_DEPTH = 3  # strides 2, 4 and 8
_PYRAMID, _SEGMENTATION = 128, 64  # channels of the FPN
_UNET = 16  # channels of the U-Net at full resolution, twice as many at each stride
_SIDE_PX = 128  # of the window that strides are read off


class PixelDecoder(nn.Module):
    """From a standardised image [N,C,H,W] to logits [N,K,H,W]; sides are multiples of `stride`."""

    def __init__(self, backbone: Backbone, kind: DecoderKind, classes: int, *, seed: int = 0):
        """Put a decoder on a backbone with frozen batch normalisation.

        Args:
            backbone: taken over, not copied.
            kind: kind of decoder.
            classes: K.
            seed: seed of the decoder's first weights; the global generators are not changed.

        Raises:
            ModelError: a backbone with strides that do not fit.
        """
        super().__init__()
        self.kind, self.backbone, self.classes = kind, backbone, classes
        channels, stages = [len(backbone.bands), *pyramid_channels(backbone)], backbone.stage_names
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.decoder, self.head = _build(kind, channels, classes)
        strides = [stride for stride, _ in _layers_read(get_backbone(backbone.name), stages)]
        last = {stride: number for number, stride in enumerate(strides)}
        self._deepest = frozenset(number for stride, number in last.items() if stride > 1)
        hold_batchnorm(backbone)
        self.to(memory_format=torch.channels_last)

    @property
    def stride(self) -> int:
        """Stride of the deepest stage."""
        return max(self.backbone.strides.values())

    @property
    def depth(self) -> int:
        """How often the sides are halved."""
        return self.stride.bit_length() - 1

    @cached_property
    def halo(self) -> int:
        """Pixels around a pixel that its logits depend on, a multiple of `stride`."""
        field = [*receptive_fields(self.backbone).values()][-1]
        reach = 0
        for pixel in range(self.stride):
            low, high = _reached(self.kind, self.depth, pixel)
            before = pixel - (field.first + low * field.stride)
            reach = max(reach, before, field.last + high * field.stride - pixel)
        return -(-reach // self.stride) * self.stride

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N,K,H,W] of an image [N,C,H,W]."""
        logits: Tensor = self.head(self.decoder(self._pyramid(x)))
        return logits

    def _pyramid(self, x: Tensor) -> list[Tensor]:
        """The image, and the deepest output of the encoder at every stride."""
        levels = [x]
        for number, layer in enumerate(_layers(self.backbone.stages)):
            x = layer(x)
            if number in self._deepest:
                levels.append(x)
        return levels

    def settle(self) -> PixelDecoder:
        """Make it ready to predict: in evaluation mode, without gradients, on the processor."""
        return self.eval().requires_grad_(False).cpu()

    def predict(self, image: Float32s) -> Float32s:
        """Logits [K,H,W] of a window of any size.

        Args:
            image: standardised values [C,H,W], 0 where invalid; it begins at a multiple of
                `stride` from the scene's corner.
        """
        height, width = image.shape[1:]
        more = [-side % self.stride for side in (height, width)]
        given = F.pad(torch.from_numpy(image)[None], (0, more[1], 0, more[0]))
        with torch.inference_mode():
            logits = self(given.to(memory_format=torch.channels_last))[0]
        return np.ascontiguousarray(logits[:, :height, :width].numpy())

    def at(self, image: Float32s, rows: Int64s, cols: Int64s) -> Float32s:
        """Logits [K,n] of single pixels of a window, `halo` wider than these need."""
        return self.predict(image)[:, rows, cols]

    def logits(
        self, image: Float32s, weight: Float32s, dtype: torch.dtype = torch.float32
    ) -> list[CoarseValues]:
        """Logits of a linear member with `weight` [K,K] for a window's pixels; see DeepFeatures.

        Decoders compute in float32, whatever the `dtype` of frozen networks.
        """
        class_logits = self.predict(image)
        mixed = weight @ class_logits.reshape(len(class_logits), -1)
        return [CoarseValues(mixed.reshape(-1, *class_logits.shape[1:]), 1, 0.0)]


def _build(
    kind: DecoderKind, channels: Sequence[int], classes: int
) -> tuple[nn.Module, nn.Sequential]:
    """Decoder and head with their first weights.

    Args:
        kind: kind of decoder.
        channels: channels of the image and of the encoder at each stride.
        classes: K.
    """
    from segmentation_models_pytorch.base.heads import SegmentationHead
    from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
    from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
    from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

    depth = len(channels) - 1
    if kind == "unet":
        widths = [_UNET * 2**step for step in reversed(range(depth))]
        decoder: nn.Module = UnetDecoder(channels, widths, n_blocks=depth)
        last, factor = widths[-1], 1
    else:
        sizes = {"pyramid_channels": _PYRAMID, "segmentation_channels": _SEGMENTATION}
        decoder = _local(FPNDecoder(channels, encoder_depth=depth, **sizes))
        last, factor = _SEGMENTATION, 2 ** (depth - 3)
    head = SegmentationHead(last, classes)
    initialize_decoder(decoder)
    initialize_head(head)
    return decoder, nn.Sequential(head, _larger(factor))


def _local(decoder: nn.Module) -> nn.Module:
    """An FPN's decoder without what depends on the whole window."""
    several: list[Any] = [one for one in decoder.modules() if hasattr(one, "upsample")]
    for block in several:
        place = next(i for i, one in enumerate(block.block) if isinstance(one, nn.GroupNorm))
        block.block[place] = nn.BatchNorm2d(block.block[place].num_channels)
        if block.upsample:
            block.upsample = False
            block.block.append(_larger(2))
    return decoder


def _larger(factor: int) -> nn.Module:
    """Bilinear interpolation between pixels' middles."""
    return nn.Upsample(scale_factor=factor, mode="bilinear") if factor > 1 else nn.Identity()


def _reached(kind: DecoderKind, depth: int, pixel: int) -> tuple[int, int]:
    """The first and last pixel of the deepest stage that a pixel's logits depend on.

    >>> _reached("unet", 4, 0), _reached("fpn", 4, 0)
    ((-2, 1), (-3, 2))
    """
    low = high = pixel
    if kind == "unet":  # at each stride two convolutions of 3x3; the head's before them
        for level in range(depth):
            more = 2 if level else 3
            low, high = (low - more) // 2, (high + more) // 2
        return low, high
    for factor in (2 ** (depth - 3), 2, 2, 2):  # each before a convolution of 3x3
        if factor > 1:
            low, high = _neighbour(low, factor), _neighbour(high, factor) + 1
        low, high = low - 1, high + 1
    return low, high


def _neighbour(pixel: int, factor: int) -> int:
    """The coarser pixel before a pixel that is interpolated."""
    return (2 * pixel + 1 - factor) // (2 * factor)


def pyramid_channels(backbone: Backbone) -> list[int]:
    """Channels of the encoder at each stride.

    Raises:
        ModelError: it does not halve the sides exactly, or not often enough.
    """
    channels = strides_of(get_backbone(backbone.name), backbone.stage_names)
    if len(channels) >= MIN_DEPTH:
        return channels
    allowed = [name for name, spec in REGISTRY.items() if len(strides_of(spec)) >= MIN_DEPTH]
    raise ModelError(
        f"model.backbone: {backbone.name} up to {backbone.stage_names[-1]} does not halve the "
        f"sides of a window {MIN_DEPTH} times exactly, as a decoder needs; allowed: "
        f"{', '.join(allowed)}"
    )


def strides_of(spec: BackboneSpec, stages: Sequence[str] = ()) -> list[int]:
    """Channels of a backbone's deepest output at stride 2, 4, 8 ...; [] where sides do not fit.

    Args:
        spec: entry of the backbone.
        stages: the first ones, that are kept; () for all.

    >>> strides_of(REGISTRY["resnet18"])
    [64, 64, 128, 256, 512]
    >>> strides_of(REGISTRY["squeezenet1_1"])
    []
    """
    if spec.tokens is not None:
        return []
    layers = _layers_read(spec, stages or spec.stages)
    channels = dict(layers) if all(stride for stride, _ in layers) else {}
    depth = max(channels, default=1).bit_length() - 1
    by_level = [channels.get(2 ** (step + 1), 0) for step in range(depth)]
    return by_level if all(by_level) else []


def _layers_read(spec: BackboneSpec, stages: Sequence[str]) -> list[tuple[int, int]]:
    """Stride and channels of each layer's output; stride 0 where it is not an integer."""
    with torch.device("meta"):
        built = spec.build()
    layers = _layers({name: built[name] for name in stages})
    bands = next(m.in_channels for m in layers[0].modules() if isinstance(m, nn.Conv2d))
    x, outputs = torch.empty(1, bands, _SIDE_PX, _SIDE_PX, device="meta"), []
    with torch.no_grad():
        for layer in layers:
            x = layer(x)
            outputs.append((0 if _SIDE_PX % x.shape[-1] else _SIDE_PX // x.shape[-1], x.shape[1]))
    return outputs


def _layers(stages: Mapping[str, nn.Module] | nn.ModuleDict) -> list[nn.Module]:
    """The layers of stages, in order."""
    return [layer for stage in stages.values() for layer in stage.children()]
