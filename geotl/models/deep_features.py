"""Features of a pixel from a frozen network: its stages at their strides, read at the pixel.

A third block of features in addition to those of `pixel_features`. Values are the signed square
root of a stage's activations, interpolated bilinearly between the middles of its pixels, which
`receptive_field` places on the image. A linear member of them is applied at each stage's own
resolution and its K logits are interpolated, which gives the same (a linear map commutes with
interpolation) and never needs all channels of every pixel in memory.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from geotl.arrays import Float32s, Int64s
from geotl.errors import DataError
from geotl.models.backbone import Backbone, SteadyBatchNorm2d, stage_position
from geotl.models.interpolation import CoarseValues
from geotl.models.receptive_field import ReceptiveField, StageTracer, receptive_fields

Grid = tuple[int, float]  # stride and centre of a stage's output, see ReceptiveField
DEEP = "deep"
MAX_STRIDE = 16  # stages of larger strides are not used, unless named


@dataclass(frozen=True)
class DeepFeatures:
    """Stages of a frozen backbone as features of single pixels.

    Attributes:
        backbone: cut after the last of the stages; in evaluation mode.
        stages: names of those that are read, in order.
        composites: positions of the bands of each image that the backbone takes, one image after
            the other; () for one image of all bands.
    """

    backbone: Backbone
    stages: tuple[str, ...]
    composites: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        stages: tuple[str, ...] = (),
        composites: tuple[tuple[int, ...], ...] = (),
    ) -> DeepFeatures:
        """Deep features of the named stages, or of those with a stride of at most `MAX_STRIDE`.

        Raises:
            DataError: the backbone has no such stage.
        """
        every = backbone.stage_names
        wanted = stages or tuple(name for name in every if backbone.strides[name] <= MAX_STRIDE)
        wrong = [name for name in wanted if name not in every]
        if wrong or not wanted:
            raise DataError(f"stages {', '.join(wrong)}: {backbone.name} has {', '.join(every)}")
        backbone.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        return cls(backbone, tuple(name for name in every if name in wanted), composites)

    @cached_property
    def fields(self) -> dict[str, ReceptiveField]:
        """Where the pixels of each stage lie."""
        every = receptive_fields(self.backbone)
        return {name: every[name] for name in self.stages}

    @property
    def stride(self) -> int:
        """Stride of the deepest stage; windows begin at multiples of it from the scene's corner."""
        return max(field.stride for field in self.fields.values())

    @property
    def halo(self) -> int:
        """Pixels around a pixel that its features depend on, a multiple of `stride`."""
        reach = max(field.reach for field in self.fields.values())
        return -(-reach // self.stride) * self.stride

    @property
    def channels(self) -> dict[str, int]:
        """Number of features of each stage, over all images."""
        images = max(1, len(self.composites))
        return {name: images * self.backbone.channels[name] for name in self.stages}

    @property
    def names(self) -> tuple[str, ...]:
        """Name of every feature."""
        return tuple(f"{name} {i}" for name, count in self.channels.items() for i in range(count))

    def maps(self, image: Float32s, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """Square roots of each stage's activations [D,h,w].

        Args:
            image: standardised values [C,H,W], 0 where invalid.
            dtype: number format of the stages.
        """
        if not self.composites:
            return self._maps_of(image, dtype)
        several = [self._maps_of(image[list(bands)], dtype) for bands in self.composites]
        return {name: torch.cat([maps[name] for maps in several]) for name in self.stages}

    def _maps_of(self, image: Float32s, dtype: torch.dtype) -> dict[str, Tensor]:
        """`maps` for one image with the backbone's bands."""
        values = torch.from_numpy(image)[None].to(dtype, memory_format=torch.channels_last)
        maps = {}
        with torch.inference_mode():
            for name, stage in self._stages_in(dtype).items():
                values = stage(values)
                if name in self.stages:
                    maps[name] = _root(values.float())[0]
        return maps

    def _stages_in(self, dtype: torch.dtype) -> dict[str, nn.Module]:
        """The stages in a number format."""
        if dtype not in self._folded:
            plain = self._folded[torch.float32]
            self._folded[dtype] = {n: copy.deepcopy(stage).to(dtype) for n, stage in plain.items()}
        return self._folded[dtype]

    @cached_property
    def _folded(self) -> dict[torch.dtype, dict[str, nn.Module]]:
        """The stages with their batch normalisation inside the convolutions, by number format."""
        stages = self.backbone.stages
        every = [*stages][: stage_position([*stages], self.stages[-1]) + 1]
        return {torch.float32: {name: _without_batchnorm(stages[name]) for name in every}}

    def at(self, image: Float32s, rows: Int64s, cols: Int64s) -> Float32s:
        """Features [D,n] of single pixels of a window that begins at a multiple of `stride`.

        Args:
            image: standardised values [C,H,W], 0 where invalid, `halo` wider than the pixels need.
            rows: rows of the pixels in the window [n].
            cols: likewise [n].
        """
        maps = self.maps(image).items()
        return np.concatenate([self._placed(name, x.numpy()).at(rows, cols) for name, x in maps])

    def logits(
        self, image: Float32s, weight: Float32s, dtype: torch.dtype = torch.float32
    ) -> list[CoarseValues]:
        """Logits of a linear member with `weight` [K,D] for the pixels of a window, as a sum.

        Args:
            image: standardised values [C,H,W], 0 where invalid; pixels nearer than `halo` to its
                edge get what lies beyond the image as zeros.
            weight: weight of the features in the order of `names`.
            dtype: number format of the stages; the member computes in float32.
        """
        parts, small = self.by_stage(weight), dict[Grid, Float32s]()
        for name, values in self.maps(image, dtype).items():
            with torch.inference_mode():
                stage_logits, grid = (
                    F.conv2d(values[None], parts[name])[0].contiguous().numpy(),
                    self.fields[name].grid,
                )
            small[grid] = small[grid] + stage_logits if grid in small else stage_logits
        return [*CoarseValues.fewest(CoarseValues(x, *grid) for grid, x in small.items())]

    def _placed(self, name: str, values: Float32s) -> CoarseValues:
        return CoarseValues(values, *self.fields[name].grid)

    def by_stage(self, weight: Float32s) -> dict[str, Tensor]:
        """The part of a weight [K,D] that each stage's channels have, as kernels [K,d,1,1]."""
        ends = np.cumsum([*self.channels.values()])[:-1]
        parts = np.split(weight, ends, axis=1)
        kernels = (torch.from_numpy(part.copy())[..., None, None] for part in parts)
        return dict(zip(self.stages, kernels, strict=True))


def _root(values: Tensor) -> Tensor:
    """Square roots of the sizes, with the signs."""
    return values.abs().sqrt_().copysign_(values)


def _without_batchnorm(stage: nn.Module) -> nn.Module:
    """A copy of a stage in evaluation mode that computes the same with fewer passes."""
    copied = copy.deepcopy(stage).eval()
    modules = dict(copied.named_modules())
    for node in StageTracer().trace(copied).nodes:
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or {node.op, before.op} != {"call_module"}:
            continue
        conv, norm = modules[str(before.target)], modules[str(node.target)]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, SteadyBatchNorm2d):
            copied.set_submodule(str(before.target), fuse_conv_bn_eval(conv, norm))
            copied.set_submodule(str(node.target), norm.rest)
    return copied.to(memory_format=torch.channels_last)
