"""A pixel model as it is deployed: an image of any size in, probabilities of every pixel out.

Features, members and their fusion are those of `models.pixel_features` and `models.pixel_model`,
written with torch's operations, so that they can be exported. Sums over windows are sums of whole
numbers here too; standardised values, means and the fusion are float64.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from geotl.models.deep_features import DEEP, DeepFeatures
from geotl.models.forest import FLOOR, ForestMember
from geotl.models.pixel_decoder import DECODER, PixelDecoder
from geotl.models.pixel_features import BANDS, WIDE, PixelFeatures
from geotl.models.pixel_model import PixelModel
from geotl.models.window_statistics import CLIP, UNIT

Blocks = Mapping[str, Tensor]  # features [N,D,H,W] by block


class BandFeatures(nn.Module):
    """Standardised values float64 [N,C,H,W], and the bands' block of features [N,D,H,W]."""

    mean: Tensor
    sd: Tensor
    one: Tensor
    other: Tensor

    def __init__(self, of: PixelFeatures) -> None:
        """Keep what the features are computed with."""
        super().__init__()
        self.zero_dn = of.zero_dn
        for name, values in (("mean", of.mean), ("sd", of.sd)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64).view(-1, 1, 1))
        self.pairs = len(of.pairs)
        if self.pairs:  # torch.export's files cannot store empty tensors
            one, other = np.array(of.pairs, np.int64).T
            self.register_buffer("one", torch.from_numpy(one.copy()))
            self.register_buffer("other", torch.from_numpy(other.copy()))

    def standardised(self, dn: Tensor, valid: Tensor) -> Tensor:
        """Digital numbers [N,C,H,W] less the mean, over the sd, 0 where invalid."""
        return torch.where(valid, (dn.double() - self.mean) / self.sd, 0.0)

    def forward(self, dn: Tensor, valid: Tensor, standardised: Tensor) -> Tensor:
        """Standardised values and normalised differences."""
        if not self.pairs:
            return standardised.float()
        light = (dn.double() - self.zero_dn).clamp_min(1e-6)
        a, b = light.index_select(1, self.one), light.index_select(1, self.other)
        both = valid.index_select(1, self.one) & valid.index_select(1, self.other)
        ratios = torch.where(both, (a - b) / (a + b), 0.0)
        return torch.cat([standardised, ratios], dim=1).float()


class WindowFeatures(nn.Module):
    """Mean, sd and gradient of valid pixels in windows about every pixel, [N,D,H,W]."""

    def __init__(self, of: PixelFeatures) -> None:
        """Keep the windows."""
        super().__init__()
        self.sides, self.halo = of.windows_px, of.halo

    def forward(self, valid: Tensor, standardised: Tensor) -> Tensor:
        """From which pixels are valid, and their values, both [N,C,H,W]."""
        levels = (standardised.clamp(-CLIP, CLIP) * UNIT).round().long()
        sums = [_integral(x, self.halo) for x in (valid.long(), levels, levels * levels)]
        planes = [
            (plane / UNIT).float()
            for side in self.sides
            for plane in self._statistics(sums, side // 2)
        ]
        return torch.cat(planes, dim=1)

    def _statistics(self, sums: list[Tensor], half: int) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, sd and gradient in one window, float64 in whole numbers of a band."""
        count, first, second = (_window_sums(x, half, self.halo - half) for x in sums)
        number = [n.clamp_min(1).double() for n in count]
        mean = first[0] / number[0]
        sd = (second[0] / number[0] - mean * mean).clamp_min(0.0).sqrt()
        right, left, below, above = (
            torch.where(n > 0, total / least, mean)
            for n, total, least in zip(count[1:], first[1:], number[1:], strict=True)
        )
        across, down = right - left, below - above
        return mean, sd, (across * across + down * down).sqrt()


class DeepScores(nn.Module):
    """Scores of linear members on features of a network's stages, at every pixel [N,K,H,W]."""

    def __init__(self, deep: DeepFeatures, weight: NDArray[np.float32]) -> None:
        """Keep the stages, and the part of `weight` [K,D] that each of them has."""
        super().__init__()
        body = copy.deepcopy(deep.backbone).float().eval().requires_grad_(False)
        self.stages = body.to(memory_format=torch.contiguous_format).stages
        self.fields, self.composites = deep.fields, deep.composites
        for name, part in deep.by_stage(weight).items():
            self.register_buffer(f"weight_{name}", part)

    def forward(self, standardised: Tensor) -> Tensor:
        """Of standardised values [N,C,H,W], 0 where invalid."""
        values, small = standardised.float(), dict[tuple[int, float], Tensor]()
        images = [values[:, list(bands)] for bands in self.composites] or [values]
        for name, stage in self.stages.items():
            images = [stage(x) for x in images]
            if name in self.fields:
                roots, grid = [x.sign() * x.abs().sqrt() for x in images], self.fields[name].grid
                scores_of_grid = F.conv2d(
                    torch.cat(roots, dim=1), self.get_buffer(f"weight_{name}")
                )
                small[grid] = small[grid] + scores_of_grid if grid in small else scores_of_grid
        height, width = standardised.shape[2:]
        tall = [
            _interpolated(scores_of_grid, grid, 2, height) for grid, scores_of_grid in small.items()
        ]
        wide = [_interpolated(one, grid, 3, width) for grid, one in zip(small, tall, strict=True)]
        return torch.stack(wide).sum(dim=0)


class DecoderScores(nn.Module):
    """Scores of linear members on a decoder's logits, at every pixel [N,K,H,W]."""

    def __init__(self, decoder: PixelDecoder, weight: NDArray[np.float32]) -> None:
        """Keep the decoder, and the `weight` [K,K] of its logits."""
        super().__init__()
        self.stride = decoder.stride
        body = copy.deepcopy(decoder).float().settle()
        self.body = body.to(memory_format=torch.contiguous_format)
        self.register_buffer("weight", torch.from_numpy(weight[:, :, None, None].copy()))

    def forward(self, standardised: Tensor) -> Tensor:
        """Of standardised values [N,C,H,W], 0 where invalid; sides become whole strides first.

        They are always padded, so that the graph of a whole number of strides is that of others.
        """
        height, width = standardised.shape[2:]
        more = [self.stride - side % self.stride for side in (height, width)]
        padded = F.pad(standardised.float(), (0, more[1], 0, more[0]))
        scores = F.conv2d(self.body(padded), self.get_buffer("weight"))
        return scores[:, :, :height, :width]


class Forest(nn.Module):
    """A random forest on features [n,D]: log of the trees' mean shares [n,K], by fixed steps.

    Every pixel goes down all trees together, as many levels as the deepest tree has.
    """

    roots: Tensor
    feature: Tensor
    threshold: Tensor
    child: Tensor
    shares: Tensor

    def __init__(self, member: ForestMember) -> None:
        """Keep the nodes; a leaf leads to itself."""
        super().__init__()
        self.depth = int(member.depths.max())
        inner, itself = member.feature >= 0, np.arange(len(member.feature))
        sides = [np.where(inner, side, itself) for side in (member.right, member.left)]
        arrays: dict[str, NDArray[Any]] = {
            "roots": member.roots.astype(np.int64),
            "feature": np.where(inner, member.feature, 0).astype(np.int64),
            "threshold": member.threshold,
            "child": np.stack(sides, axis=1).ravel().astype(np.int64),
            "shares": member.shares,
        }
        for name, values in arrays.items():
            self.register_buffer(name, torch.from_numpy(values.copy()))

    def forward(self, rows: Tensor) -> Tensor:
        """Log-probabilities of pixels."""
        at = self.roots.expand(rows.shape[0], -1)
        for _ in range(self.depth):
            goes_left = rows.gather(1, self.feature[at]) <= self.threshold[at]
            at = self.child[2 * at + goes_left.long()]
        total = F.embedding_bag(at, self.shares, mode="sum")
        shares = (total / self.roots.shape[0]).clamp_min(FLOOR)
        return (shares / shares.sum(dim=1, keepdim=True)).log()


class PixelNetwork(nn.Module):
    """Raw pixels float32 [N,C,H,W] to probabilities and scores [N,K,H,W] of every pixel.

    Pixels that are not finite, or the sensor's nodata, are invalid: they count in no window, and
    their own band counts as its mean. Bands of extra rasters have no nodata value, and are invalid
    where no band of the scene is valid. Beyond the image nothing counts. The probabilities are the
    softmax of the scores. Within `halo` pixels of an edge that is not the scene's own, windows and
    receptive fields lack their surroundings.
    """

    nodata: Tensor
    bias: Tensor

    def __init__(self, model: PixelModel, nodata: float | None) -> None:
        """Deploy a model whose sensor has this nodata value."""
        super().__init__()
        of, linear = model.features, model.linear
        self.bands = BandFeatures(of)
        self.windows = WindowFeatures(of) if of.windows_px else None
        self.deep = DeepScores(model.deep, linear[DEEP]) if model.deep and DEEP in linear else None
        decoder = model.networks.get(DECODER)
        self.decoder = None
        if isinstance(decoder, PixelDecoder):
            self.decoder = DecoderScores(decoder, linear[DECODER])
        self.own, self.extra = of.scene_band_count, of.extra
        self.forests = nn.ModuleList([Forest(member) for _, member in model.forests])
        self.forest_shares = [share for share, _ in model.forests]
        self.forest_blocks = [member.blocks for _, member in model.forests]
        self.halo, self.classes = model.halo, len(model.classes)
        self.register_buffer("nodata", torch.from_numpy(nodata_of(of, nodata)))
        self.register_buffer("bias", torch.from_numpy(model.linear_bias[:, :, None].copy()))
        for block in linear.keys() - {DEEP, DECODER}:
            weight = torch.from_numpy(linear[block][:, :, None, None].copy())
            self.register_buffer(f"weight_{block}", weight)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Classify every pixel."""
        scores, blocks = self.linear_scores(image)
        parts = zip(self.forest_shares, self.forest_blocks, self.forests, strict=True)
        for share, names, forest in parts:
            log_shares = forest(rows_of(blocks, names)).double()
            shape = (scores.shape[0], scores.shape[2], scores.shape[3], self.classes)
            scores = scores + share * log_shares.view(shape).permute(0, 3, 1, 2)
        return torch.softmax(scores, dim=1).float(), scores.float()

    def linear_scores(self, image: Tensor) -> tuple[Tensor, Blocks]:
        """Scores of all linear members float64 [N,K,H,W], and the features for forests."""
        valid = torch.isfinite(image) & (image != self.nodata)
        if self.extra:
            there = valid[:, : self.own].any(dim=1, keepdim=True)
            valid = torch.cat([valid[:, : self.own], valid[:, self.own :] & there], dim=1)
        standardised = self.bands.standardised(image, valid)
        blocks = {BANDS: self.bands(image, valid, standardised)}
        if self.windows is not None:
            blocks[WIDE] = self.windows(valid, standardised)
        scores = self.bias.expand(image.shape[0], -1, image.shape[2], image.shape[3])
        for block, values in blocks.items():
            if hasattr(self, f"weight_{block}"):
                weight = self.get_buffer(f"weight_{block}")
                scores = scores + F.conv2d(values, weight).double()
        for network in (self.deep, self.decoder):
            if network is not None:  # networks do not take bands of extra rasters
                scores = scores + network(standardised[:, : self.own]).double()
        return scores, blocks


def nodata_of(features: PixelFeatures, nodata: float | None) -> NDArray[np.float32]:
    """The nodata value of each band [C,1,1], NaN for none, as bands of extra rasters have none."""
    values = np.full((len(features.bands), 1, 1), np.nan, np.float32)
    if nodata is not None:
        values[: features.scene_band_count] = nodata
    return values


def rows_of(blocks: Blocks, names: tuple[str, ...]) -> Tensor:
    """Some blocks of features [N,D,H,W] as one, a row for each pixel [N*H*W,D]."""
    wide = torch.cat([blocks[name] for name in names], dim=1)
    return wide.permute(0, 2, 3, 1).flatten(0, 2)


def _integral(values: Tensor, halo: int) -> Tensor:
    """Sums of all whole numbers [N,C,H,W] above and to the left, `halo` wider on every side."""
    wide = F.pad(values, (halo + 1, halo, halo + 1, halo))
    return wide.cumsum(dim=2).cumsum(dim=3)


def _window_sums(integral: Tensor, half: int, margin: int) -> tuple[Tensor, ...]:
    """Sums over windows of 2 * half + 1 pixels and over their right, left, lower and upper halves.

    `margin` is by how much the integral image is wider than these windows need.
    """
    high, wide = integral.shape[2] - margin, integral.shape[3] - margin
    part, side, past = integral[:, :, margin:high, margin:wide], 2 * half + 1, half + 1
    tall = part[:, :, side:] - part[:, :, :-side]
    broad = part[..., side:] - part[..., :-side]
    return (
        tall[..., side:] - tall[..., :-side],
        tall[..., side:] - tall[..., past:-half],
        tall[..., half:-past] - tall[..., :-side],
        broad[:, :, side:] - broad[:, :, past:-half],
        broad[:, :, half:-past] - broad[:, :, :-side],
    )


def _interpolated(values: Tensor, grid: tuple[int, float], axis: int, length: int) -> Tensor:
    """Values on a grid of stages along an axis, linearly interpolated at every pixel."""
    stride, centre = grid
    at = (torch.arange(length, dtype=torch.float64) - centre) / stride
    last = torch.full((), values.shape[axis] - 1, dtype=torch.int64)
    before = torch.minimum(at.floor().long(), last - 1).clamp_min(0)
    share = (at - before).float().view([-1, *[1] * (3 - axis)])
    one = values.index_select(axis, before)
    other = values.index_select(axis, torch.minimum(before + 1, last))
    return one + (other - one) * share
