"""What a frozen network sees about a pixel: its stages at their own strides, read at the pixel.

A third block of features beside those of `pixel_features`. Values are the signed square root of a
stage's activations, interpolated bilinearly between the middles of its pixels, which
`receptive_field` places on the image. A linear member of them is applied at each stage's own
resolution and its K logits are interpolated, which gives the same (a linear map commutes with
interpolation) and never holds all channels of every pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from geotl.arrays import Float32s, Int64s
from geotl.errors import DataError
from geotl.models.backbone import Backbone
from geotl.models.receptive_field import ReceptiveField, receptive_fields

DEEP = "deep"
MAX_STRIDE = 16  # stages of larger strides are not used, unless named


@dataclass(frozen=True)
class DeepFeatures:
    """Stages of a frozen backbone as features of single pixels.

    Attributes:
        backbone: cut after the last of the stages; in evaluation mode.
        stages: names of those that are read, in order.
    """

    backbone: Backbone
    stages: tuple[str, ...]

    @classmethod
    def of(cls, backbone: Backbone, stages: tuple[str, ...] = ()) -> DeepFeatures:
        """Of the stages named, or of those with a stride of at most `MAX_STRIDE`.

        Raises:
            DataError: the backbone has no such stage.
        """
        every = backbone.stage_names
        wanted = stages or tuple(name for name in every if backbone.strides[name] <= MAX_STRIDE)
        wrong = [name for name in wanted if name not in every]
        if wrong or not wanted:
            raise DataError(f"stages {', '.join(wrong)}: {backbone.name} has {', '.join(every)}")
        backbone.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        return cls(backbone, tuple(name for name in every if name in wanted))

    @cached_property
    def fields(self) -> dict[str, ReceptiveField]:
        """Where the pixels of each stage lie."""
        every = receptive_fields(self.backbone)
        return {name: every[name] for name in self.stages}

    @property
    def stride(self) -> int:
        """Of the deepest stage; a window begins at multiples of it, from the scene's corner."""
        return max(field.stride for field in self.fields.values())

    @property
    def halo(self) -> int:
        """Pixels around a pixel that its features depend on, a multiple of `stride`."""
        reach = max(field.reach for field in self.fields.values())
        return -(-reach // self.stride) * self.stride

    @property
    def channels(self) -> dict[str, int]:
        """Of each stage."""
        return {name: self.backbone.channels[name] for name in self.stages}

    @property
    def names(self) -> tuple[str, ...]:
        """Name of every feature."""
        return tuple(f"{name} {i}" for name, count in self.channels.items() for i in range(count))

    def maps(self, image: Float32s) -> dict[str, Tensor]:
        """Square roots of each stage's activations [D,h,w].

        Args:
            image: standardised values [C,H,W], 0 where invalid.
        """
        given = torch.from_numpy(image)[None].to(memory_format=torch.channels_last)
        with torch.inference_mode():
            seen = self.backbone.prefix(given, self.stages[-1])
            return {name: _root(seen[name])[0] for name in self.stages}

    def at(self, image: Float32s, rows: Int64s, cols: Int64s) -> Float32s:
        """Features [D,n] of single pixels of a window that begins at a multiple of `stride`.

        Args:
            image: standardised values [C,H,W], 0 where invalid, `halo` wider than the pixels need.
            rows: of the pixels in the window [n].
            cols: likewise [n].
        """
        parts = []
        for name, values in self.maps(image).items():
            plane, field = values.numpy(), self.fields[name]
            top, down = _between(rows, field, plane.shape[1])
            left, right = _between(cols, field, plane.shape[2])
            upper = _mixed(plane[:, top, left], plane[:, top, left + 1], right)
            lower = _mixed(plane[:, top + 1, left], plane[:, top + 1, left + 1], right)
            parts.append(_mixed(upper, lower, down))
        return np.concatenate(parts).astype(np.float32)

    def logits(self, image: Float32s, weight: Float32s) -> Float32s:
        """What a linear member with `weight` [K,D] gives the pixels inside the halo [K,h,w].

        Args:
            image: standardised values [C,h + 2 halo,w + 2 halo], 0 where invalid.
            weight: of the features in the order of `names`.
        """
        inside = [np.arange(self.halo, side - self.halo) for side in image.shape[1:]]
        total = np.zeros((len(weight), len(inside[0]), len(inside[1])), np.float32)
        parts = self.by_stage(weight)
        for name, values in self.maps(image).items():
            small = torch.einsum("kd,dhw->khw", parts[name], values)
            down, across = (
                _matrix(places, self.fields[name], count)
                for places, count in zip(inside, small.shape[1:], strict=True)
            )
            total += (down @ small @ across.T).numpy()
        return total

    def by_stage(self, weight: Float32s) -> dict[str, Tensor]:
        """The part of a weight [K,D] that each stage's channels have."""
        ends = np.cumsum([*self.channels.values()])[:-1]
        parts = np.split(weight, ends, axis=1)
        return {n: torch.from_numpy(p.copy()) for n, p in zip(self.stages, parts, strict=True)}


def _root(values: Tensor) -> Tensor:
    return values.sign() * values.abs().sqrt()


def _between(places: Int64s, field: ReceptiveField, count: int) -> tuple[Int64s, Float32s]:
    """The output pixel before each image pixel, and how far it lies towards the next one."""
    at = (places - field.centre) / field.stride
    before = np.clip(np.floor(at).astype(np.int64), 0, count - 2)
    return before, (at - before).astype(np.float32)


def _mixed(one: Float32s, other: Float32s, share: Float32s) -> Float32s:
    return one + (other - one) * share


def _matrix(places: Int64s, field: ReceptiveField, count: int) -> Tensor:
    """Linear interpolation as a matrix [P,count]."""
    before, share = _between(places, field, count)
    found, rows = np.zeros((len(places), count), np.float32), np.arange(len(places))
    found[rows, before], found[rows, before + 1] = 1 - share, share
    return torch.from_numpy(found)
