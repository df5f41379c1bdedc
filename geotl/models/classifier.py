"""The network: normalise raw values, adapted backbone, pooled features of several stages, head.

Raw pixel values go in and logits come out, so training, evaluation, prediction and export
share one normalisation and cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geotl.errors import DataError, ModelError
from geotl.models.backbone import Tokens, pads_by_size
from geotl.models.band_statistics import PER_BAND, band_statistics
from geotl.models.registry import Backbone
from geotl.models.renderings import GIVEN, Rendering, check_renderings, rendered
from geotl.models.residual_block import inner_channels, with_inner

Pool = Literal["mean", "mean_sd", "mean_log", "root_mean"]
Padding = Literal["zeros", "replicate", "reflect"]

VIEWS = 8
MAP_AXES = 4  # of [N,C,H,W]; tokens have three


@dataclass(frozen=True)
class FeatureSpec:
    """Features of a tile.

    Attributes:
        stages: backbone stages that are pooled and concatenated, shallow to deep.
        pool: pooling of each channel over space: mean, mean and standard deviation, mean of
            log(1 + max(x, 0)), or (signed) root of the mean; the last two temper strong responses.
        input_px: sizes the tile is resampled to before the backbone, in pixels; several
            sizes are concatenated, none means the tile's own size.
        unit_length: bring each view's standardised features to length sqrt(D), so that a tile's
            contrast does not count.
        views: flips and quarter turns over which predictions are averaged: 1, 2, 4 or 8.
        padding: padding of convolutions beyond a tile's edge. Published weights were trained with
            zeros, which make an edge unlike anything in a scene; the others continue the tile.
        statistics: each band's mean, sd and gradient follow the features of the stages. The field
            is not in `repr`, which is the key of stages' features in the cache.
        inner: the last of the stages gives its inner activations too (`residual_block`).
        renderings: of the tile that the network sees (`renderings`), the features of one after
            those of the other.
    """

    stages: tuple[str, ...]
    pool: Pool = "mean"
    input_px: tuple[int, ...] = ()
    views: int = 8
    unit_length: bool = False
    padding: Padding = "zeros"
    statistics: bool = field(default=False, repr=False)
    inner: bool = False
    renderings: tuple[Rendering, ...] = GIVEN


class Normalise(nn.Module):
    """Raw pixel values [N,C,H,W] to standardised ones; NaN and nodata become the band's mean."""

    mean: Tensor
    sd: Tensor
    fill: Tensor
    nodata: Tensor

    def __init__(
        self,
        mean: Sequence[float],
        sd: Sequence[float],
        fill: Sequence[float] | None = None,
        nodata: float | None = None,
    ) -> None:
        """Keep mean, sd and fill per band, in the units of the pixels; sd 0 divides by 1."""
        super().__init__()
        spread = torch.tensor(sd, dtype=torch.float32)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("sd", torch.where(spread > 0, spread, torch.ones_like(spread)))
        self.register_buffer(
            "fill", torch.tensor(mean if fill is None else fill, dtype=torch.float32)
        )
        self.register_buffer("nodata", torch.tensor(float("nan") if nodata is None else nodata))

    def forward(self, image: Tensor) -> Tensor:
        """Standardise a batch [N,C,H,W] of raw values."""
        plane = (1, -1, 1, 1)
        invalid = torch.isnan(image) | (image == self.nodata)
        values = torch.where(invalid, self.fill.view(plane), image)
        return (values - self.mean.view(plane)) / self.sd.view(plane)


def pool_stage(maps: Tensor, pool: Pool) -> Tensor:
    """Pool [N,C,H,W] over space to [N,C] (mean) or [N,2C] (mean, then standard deviation).

    >>> pool_stage(torch.ones(1, 2, 4, 4), "mean_sd").shape
    torch.Size([1, 4])
    """
    maps = maps.float()
    if pool == "root_mean":
        mean = maps.mean(dim=(2, 3))
        return mean.sign() * (mean.abs() + 1e-6).sqrt()  # a gradient that stays finite at 0
    if pool == "mean_log":
        return maps.clamp_min(0).log1p().mean(dim=(2, 3))
    mean = maps.mean(dim=(2, 3))
    if pool == "mean":
        return mean
    variance = (maps - mean[:, :, None, None]).square().mean(dim=(2, 3))
    return torch.cat([mean, (variance + 1e-6).sqrt()], dim=1)


def pool_tokens(tokens: Tensor, pool: Pool, how: Tokens) -> Tensor:
    """Pool a transformer's tokens [N,T,D] to [N,D], or [N,2D] with their standard deviation.

    The mean is what the network's own head takes: the class token, or the mean of the patches.

    >>> tokens = torch.tensor([[[4.0], [1.0], [3.0]]])
    >>> pool_tokens(tokens, "mean", Tokens(1, "class")).item()
    4.0
    >>> pool_tokens(tokens, "mean", Tokens(1, "mean")).item()
    2.0
    """
    patches = tokens[:, how.prefix :].transpose(1, 2)[..., None]
    if how.pooled == "mean":
        return pool_stage(patches, pool)
    class_token = tokens[:, 0, :, None, None]
    if pool != "mean_sd":
        return pool_stage(class_token, pool)
    return torch.cat(
        [class_token.float().flatten(1), pool_stage(patches, pool)[:, class_token.shape[1] :]],
        dim=1,
    )


def pool_windows(maps: Tensor, pool: Pool, side: int, step: int) -> Tensor:
    """`pool_stage` of every window of side x side, `step` apart: [N,C,H,W] to [N,D,r,q].

    >>> maps = torch.rand(1, 2, 6, 6)
    >>> one = pool_stage(maps[:, :, 2:6, 2:6], "mean_sd")
    >>> torch.allclose(pool_windows(maps, "mean_sd", 4, 2)[:, :, 1, 1], one, atol=1e-5)
    True
    """
    maps = maps.float()
    if pool == "mean_log":
        maps = maps.clamp_min(0).log1p()
    mean = F.avg_pool2d(maps, side, step)
    if pool == "root_mean":
        return mean.sign() * (mean.abs() + 1e-6).sqrt()
    if pool != "mean_sd":
        return mean
    variance = F.avg_pool2d(maps.square(), side, step) - mean.square()
    return torch.cat([mean, (variance.clamp_min(0) + 1e-6).sqrt()], dim=1)


def resize(image: Tensor, px: int) -> Tensor:
    """Resample a batch to px x px, bilinear, with antialiasing where it shrinks."""
    if image.shape[-1] == px and image.shape[-2] == px:
        return image
    shrinks = px < min(image.shape[-2:])
    return F.interpolate(
        image, size=(px, px), mode="bilinear", align_corners=False, antialias=shrinks
    )


@dataclass(frozen=True)
class Frozen:
    """Output of the frozen stages for one input size: pooled features and the map for the next."""

    pooled: Tensor
    maps: Tensor


class TileClassifier(nn.Module):
    """Raw pixels [N,C,S,S] to logits [N,K]."""

    feature_mean: Tensor
    feature_sd: Tensor
    temperature: Tensor

    def __init__(
        self,
        backbone: Backbone,
        normalise: Normalise,
        spec: FeatureSpec,
        num_classes: int,
        *,
        dropout: float = 0.0,
        frozen_until: str | None = None,
    ) -> None:
        """Put head and feature standardisation on a backbone.

        Raises:
            ModelError: a stage that is not in the backbone, a padding that it does not take,
                inner activations of a stage that has none, or renderings that do not differ.
        """
        super().__init__()
        names = list(backbone.stages)
        for stage in (*spec.stages, *((frozen_until,) if frozen_until else ())):
            if stage not in names:
                raise ModelError(f"stage {stage!r} is not in the backbone; it has {names}")
        self.inner_stage = _inner_stage(backbone, spec)
        self.normalise, self.backbone, self.spec = normalise, backbone, spec
        self.frozen_until = frozen_until
        check_renderings(spec.renderings, len(normalise.mean))
        self.deep_width = feature_width(backbone, spec)
        width = self.deep_width + (PER_BAND * len(normalise.mean) if spec.statistics else 0)
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_sd", torch.ones(width))
        self.register_buffer("temperature", torch.ones(()))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_classes)
        for layer in backbone.modules():
            if isinstance(layer, nn.Conv2d):
                layer.padding_mode = spec.padding
            if pads_by_size(layer) and spec.padding != "zeros":
                raise ModelError(
                    f"model.padding: given {spec.padding} for {backbone.name}, which pads as "
                    "TensorFlow does; allowed: zeros"
                )

    @property
    def sizes(self) -> tuple[int | None, ...]:
        """The input sizes, None for the tile's own."""
        return self.spec.input_px or (None,)

    @property
    def inputs(self) -> tuple[tuple[Rendering, int | None], ...]:
        """Rendering and input size of each pass of a tile through the network."""
        return tuple((one, px) for one in self.spec.renderings for px in self.sizes)

    def frozen_part(self, image: Tensor) -> list[Frozen]:
        """Run the frozen stages, without gradients, once for each of the `inputs`."""
        with torch.no_grad():
            return self.frozen_of(self.normalise(image))

    def frozen_of(self, standard: Tensor) -> list[Frozen]:
        """`frozen_part` of pixels that are standardised already."""
        with torch.no_grad():
            return [self._frozen_at(rendered(standard, one), px) for one, px in self.inputs]

    def _frozen_at(self, standard: Tensor, px: int | None) -> Frozen:
        x = standard if px is None else resize(standard, px)
        x = x.contiguous(memory_format=torch.channels_last)
        pooled = [x.new_zeros(x.shape[0], 0, dtype=torch.float32)]
        for name in self._frozen_names():
            x, maps = self.run_stage(name, x)
            pooled += [self._pooled(one) for one in maps]
        return Frozen(torch.cat(pooled, dim=1), x)

    def run_stage(self, name: str, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Output of a stage, and the maps or tokens that features are pooled from: it, or none.

        The inner activations of the last such stage come first.
        """
        stage = self.backbone.stages[name]
        if name == self.inner_stage:
            output, inner = with_inner(cast(nn.Sequential, stage), x)
            return output, [inner, output]
        output = stage(x)
        return output, [output] if name in self.spec.stages else []

    def _pooled(self, output: Tensor) -> Tensor:
        """Features [N,D] of a stage's output, a map or tokens."""
        if self.backbone.tokens is None or output.ndim == MAP_AXES:
            return pool_stage(output, self.spec.pool)
        return pool_tokens(output, self.spec.pool, self.backbone.tokens)

    def _frozen_names(self) -> list[str]:
        names = list(self.backbone.stages)
        return names[: names.index(self.frozen_until) + 1] if self.frozen_until else []

    def finish(self, parts: list[Frozen]) -> Tensor:
        """Features [N,D] from what the frozen part gave; gradients flow through the rest."""
        return self.finish_tapped(parts, ())[0]

    def finish_tapped(
        self, parts: list[Frozen], taps: Sequence[str]
    ) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """`finish`, and for each of the `inputs` the outputs [N,C,s,s] of the stages `taps`."""
        rest = list(self.backbone.stages)[len(self._frozen_names()) :]
        features, tapped = [], []
        for part in parts:
            features.append(part.pooled)
            x, outputs = part.maps, {}
            for name in rest:
                x, maps = self.run_stage(name, x)
                features += [self._pooled(one) for one in maps]
                if name in taps:
                    outputs[name] = x
            tapped.append(outputs)
        return torch.cat(features, dim=1), tapped

    def features(self, image: Tensor) -> Tensor:
        """Standardised features [N,D] of a batch of raw pixels, as the head sees them."""
        return self.features_of(self.normalise(image))

    def features_of(self, standard: Tensor) -> Tensor:
        """`features` of pixels that are standardised already."""
        return self.standardise(self.described(standard))

    def described(self, standard: Tensor) -> Tensor:
        """Features [N,D], not standardised, of pixels that are standardised already."""
        deep = self.finish(self.frozen_of(standard))
        return torch.cat([deep, band_statistics(standard)], 1) if self.spec.statistics else deep

    def standardise(self, features: Tensor) -> Tensor:
        """Features [..., D] minus their training mean, over their training sd; then the length.

        The length is that of the stages' features only.
        """
        scaled = (features - self.feature_mean) / self.feature_sd
        if not self.spec.unit_length:
            return scaled
        parts = len(self.spec.renderings)
        if self.spec.statistics:
            deep, rest = scaled[..., : self.deep_width], scaled[..., self.deep_width :]
            return torch.cat([_unit_length(deep, parts), rest], dim=-1)
        return _unit_length(scaled, parts)

    def classify(self, features: Tensor) -> Tensor:
        """Logits [N,K] of standardised features."""
        with torch.autocast(
            features.device.type, enabled=False
        ):  # the head is small: full precision
            logits: Tensor = self.head(self.dropout(features.float()))
        return logits

    def forward(self, image: Tensor) -> Tensor:
        """Logits [N,K] of raw pixels [N,C,S,S], one view."""
        return self.classify(self.features(image))

    def set_feature_scale(self, features: Tensor) -> None:
        """Take mean and sd of training features [N,D]; a constant feature is divided by 1."""
        sd = features.std(dim=0, correction=0)
        self.feature_mean.copy_(features.mean(dim=0))
        self.feature_sd.copy_(torch.where(sd > 1e-6, sd, torch.ones_like(sd)))


def _unit_length(scaled: Tensor, parts: int) -> Tensor:
    """Features [..., D] of which each part is brought to length sqrt(D / parts)."""
    several = scaled.reshape(*scaled.shape[:-1], parts, -1)
    length = several.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    unit: Tensor = several * (float(several.shape[-1]) ** 0.5 / length)
    return unit.flatten(-2)


def with_statistics(network: TileClassifier) -> TileClassifier:
    """The same network with each band's statistics after its features, and a blank head.

    Backbone and normalisation are shared with the given network; the statistics are not scaled.
    """
    spec, classes = replace(network.spec, statistics=True), network.head.out_features
    with torch.random.fork_rng(devices=[]):  # the head's first weights are not used
        extended = TileClassifier(
            network.backbone,
            network.normalise,
            spec,
            classes,
            dropout=network.dropout.p,
            frozen_until=network.frozen_until,
        )
    extended.feature_mean[: network.deep_width] = network.feature_mean
    extended.feature_sd[: network.deep_width] = network.feature_sd
    extended.temperature.copy_(network.temperature)
    return extended.to(network.feature_mean.device)


def feature_width(backbone: Backbone, spec: FeatureSpec) -> int:
    """Number of features that the stages give."""
    channels = sum(backbone.channels[stage] for stage in spec.stages)
    if inside := _inner_stage(backbone, spec):
        channels += inner_channels(backbone.stages[inside])
    passes = max(1, len(spec.input_px)) * len(spec.renderings)
    return channels * (2 if spec.pool == "mean_sd" else 1) * passes


def _inner_stage(backbone: Backbone, spec: FeatureSpec) -> str | None:
    """The stage that gives inner activations too: the last one that is pooled.

    Raises:
        ModelError: it ends in no residual block.
    """
    if not spec.inner:
        return None
    last = max(spec.stages, key=list(backbone.stages).index)
    if not inner_channels(backbone.stages[last]):
        raise ModelError(
            f"model.inner_activations: given true for {backbone.name}, whose stage {last} ends in "
            "no residual block; allowed: false"
        )
    return last


def view_numbers(views: int) -> tuple[int, ...]:
    """Which of the eight flips and quarter turns stand for 1, 2, 4 or 8 views.

    >>> view_numbers(2), view_numbers(4)
    ((0, 4), (0, 1, 2, 3))
    """
    return {1: (0,), 2: (0, 4), 4: (0, 1, 2, 3), 8: tuple(range(8))}[views]


def turn_view(x: Tensor, view: int) -> Tensor:
    """One of the eight views of [..., S, S]: quarter turns 0..3, mirrored then turned 4..7.

    Raises:
        DataError: there is no such view.

    >>> turn_view(torch.tensor([[1, 2], [3, 4]]), 1).tolist()
    [[2, 4], [1, 3]]
    >>> turn_view(torch.tensor([[1, 2], [3, 4]]), 4).tolist()
    [[2, 1], [4, 3]]
    """
    if not 0 <= view < VIEWS:
        raise DataError(f"view {view} does not exist; there are 0 to {VIEWS - 1}")
    mirrored = torch.flip(x, (-1,)) if view >= 4 else x
    return torch.rot90(mirrored, view % 4, (-2, -1)) if view % 4 else mirrored


def over_views(compute: Callable[[Tensor], Tensor], image: Tensor, views: int) -> Tensor:
    """Results of `compute` for each view of a batch, stacked as [N, views, ...]."""
    return torch.stack([compute(turn_view(image, v)) for v in view_numbers(views)], dim=1)


def view_logits(model: TileClassifier, image: Tensor) -> Tensor:
    """Logits [N,K] of raw pixels, averaged over the model's views."""
    return over_views(model, image, model.spec.views).mean(dim=1)
