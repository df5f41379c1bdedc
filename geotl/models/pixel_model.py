"""A model of single pixels: members on blocks of features, and their calibrated fusion.

A member gives log-probabilities, calibrated by a temperature. The fusion adds the members'
log-probabilities with weights and normalises (a logarithmic opinion pool, Genest & Zidek 1986).
Everything is stored as arrays in a model file, and nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np
import torch
from scipy.special import log_softmax

from geotl.arrays import Float32s, Float64s
from geotl.errors import ModelError, nearest
from geotl.language import joined, msg
from geotl.models.deep_features import DEEP, DeepFeatures
from geotl.models.forest import ForestMember
from geotl.models.interpolation import CoarseValues
from geotl.models.pixel_decoder import DECODER, PixelDecoder
from geotl.models.pixel_features import BANDS, WIDE, Features, PixelFeatures

BLOCKS = (BANDS, WIDE, DEEP, DECODER)  # of features, in this order

DECODERS = {"unet": "U-Net", "fpn": "FPN"}
KIND_WORDS = {
    "discriminant": msg("discriminant"),
    "forest": msg("forest"),
    "logistic": msg("logistic"),
    "decoder": msg("decoder"),
}
BLOCK_WORDS = {"bands": msg("bands"), "wide": msg("wide"), "deep": msg("deep")}

Kind = TypeVar("Kind")


class Member(Protocol):
    """One classifier of pixels."""

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks of features that it takes."""
        ...

    def log_probabilities(self, features: Features) -> Float64s:
        """Log-probabilities [n,K] of pixels with features [D,n] by block, not yet calibrated."""
        ...


class PixelNetwork(Protocol):
    """A network that describes the pixels of a window."""

    @property
    def halo(self) -> int:
        """Pixels around a pixel that its description depends on."""
        ...

    def logits(
        self, image: Float32s, weight: Float32s, dtype: torch.dtype
    ) -> Sequence[CoarseValues]:
        """Logits of a linear member with `weight` [K,D] for the pixels of a window, as a sum.

        Args:
            image: standardised values [C,H,W], 0 where invalid.
            weight: weight of the features that the network gives a pixel.
            dtype: number format of a frozen network.
        """
        ...


@dataclass(frozen=True)
class LinearMember:
    """A linear head on some blocks of features, one after the other.

    Attributes:
        blocks: taken, in this order.
        weight: [K,D], of the features as they are; standardisation is inside.
        bias: [K].
    """

    blocks: tuple[str, ...]
    weight: Float64s
    bias: Float64s

    def logits(self, features: Features) -> Float64s:
        """Logits [K,n] of pixels with features [D,n] by block."""
        logits = np.repeat(self.bias[:, None], _count(features), axis=1)
        start = 0
        for block in self.blocks:
            rows = features[block]
            weight = self.weight[:, start : start + len(rows)]
            logits += weight.astype(np.float32) @ rows
            start += len(rows)
        return logits

    def by_block(self, widths: Mapping[str, int]) -> dict[str, Float64s]:
        """The weight [K,D] of each block, given the blocks' numbers of features."""
        ends = np.cumsum([widths[block] for block in self.blocks])[:-1]
        return dict(zip(self.blocks, np.split(self.weight, ends, axis=1), strict=True))

    def log_probabilities(self, features: Features) -> Float64s:
        """Log-probabilities [n,K] of pixels with features [D,n] by block."""
        return np.asarray(log_softmax(np.ascontiguousarray(self.logits(features).T), axis=1))


@dataclass(frozen=True)
class PixelModel:
    """Members and how they are fused.

    Attributes:
        features: features of the pixels.
        classes: names, in the order of the columns.
        members: by name.
        temperatures: each member's log-probabilities are divided by, by name.
        weights: weights of the members' log-probabilities, by name; 0 leaves one out.
        log_priors: added before normalising [K]; zeros for equal priors.
        deep: the network with stages as pixel features; None for no such block.
        decoder: the network with logits as a block of features; None for no such block.
    """

    features: PixelFeatures
    classes: tuple[str, ...]
    members: Mapping[str, Member]
    temperatures: Mapping[str, float]
    weights: Mapping[str, float]
    log_priors: Float64s
    deep: DeepFeatures | None = None
    decoder: PixelDecoder | None = None

    @property
    def networks(self) -> dict[str, PixelNetwork]:
        """The networks in use, by the names of their blocks of features."""
        several: dict[str, PixelNetwork | None] = {DEEP: self.deep, DECODER: self.decoder}
        return {b: one for b, one in several.items() if one is not None and b in self.linear}

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """Name of every feature, by block."""
        deep = {DEEP: self.deep.names} if self.deep else {}
        return self.features.names | deep | ({DECODER: self.classes} if self.decoder else {})

    @property
    def halo(self) -> int:
        """Pixels around a block that its features depend on."""
        return max([self.features.halo, *(one.halo for one in self.networks.values())])

    def alone(self, name: str) -> PixelModel:
        """The model of one member, with the features that it needs and no more.

        Raises:
            ModelError: there is no such member.
        """
        if name not in self.members:
            raise ModelError(f"member {name!r} is not in this model; {nearest(name, self.members)}")
        member = self.members[name]
        features = self.features
        if WIDE not in member.blocks:
            features = replace(features, windows_px=())
        return replace(
            self,
            features=features,
            members={name: member},
            temperatures={name: self.temperatures[name]},
            weights={name: 1.0},
            deep=self.deep if DEEP in member.blocks else None,
            decoder=self.decoder if DECODER in member.blocks else None,
        )

    def log_probabilities(self, features: Features) -> Float64s:
        """Fused log-probabilities [n,K] of pixels with features [D,n] by block."""
        total = np.repeat(self.log_priors[None], _count(features), axis=0)
        for name, weight in self.weights.items():
            if weight > 0:
                log_p = self.members[name].log_probabilities(features)
                total = total + weight * calibrated(log_p, self.temperatures[name])
        return np.asarray(log_softmax(total, axis=1))

    def probabilities(self, features: Features, logits: Float32s | None = None) -> Float32s:
        """Fused probabilities [K,n] of pixels with features [D,n] by block, for many pixels.

        They are those of `log_probabilities` but for rounding: what members are normalised by
        is the same for all classes of a pixel, so it is left out until the end, and all linear
        members are one.

        Args:
            features: the networks' blocks may be left out.
            logits: then what `linear` gives these blocks [K,n].
        """
        total = self.linear_bias.repeat(_count(features), axis=1)
        for block, weight in self.linear.items():
            if block in features:
                total += weight @ features[block]
        if logits is not None:
            total += logits
        for share, forest in self.forests:
            total += (share * forest.log_probabilities(features).T).astype(np.float32)
        total -= total.max(axis=0)
        np.exp(total, out=total)
        total /= total.sum(axis=0)
        return total

    @cached_property
    def linear(self) -> dict[str, Float32s]:
        """All linear members as one: the weight [K,D] of each block that has a part."""
        widths = {block: len(names) for block, names in self.names.items()}
        parts = [
            {block: share * weight for block, weight in member.by_block(widths).items()}
            for share, member in self._shares(LinearMember)
        ]
        sums = {b: [part[b] for part in parts if b in part] for b in BLOCKS}
        return {b: np.sum(terms, axis=0).astype(np.float32) for b, terms in sums.items() if terms}

    @cached_property
    def linear_bias(self) -> Float32s:
        """Bias of all linear members as one, and of the priors [K,1]."""
        biases = [share * member.bias for share, member in self._shares(LinearMember)]
        return np.asarray(np.sum([self.log_priors, *biases], axis=0)[:, None], np.float32)

    @cached_property
    def forests(self) -> list[tuple[float, ForestMember]]:
        """Forests that take part, with what their log-probabilities are multiplied with."""
        return self._shares(ForestMember)

    def _shares(self, kind: type[Kind]) -> list[tuple[float, Kind]]:
        """Members of a kind that take part, with what their scores are multiplied with."""
        every = [(w / self.temperatures[n], self.members[n]) for n, w in self.weights.items() if w]
        return [(share, member) for share, member in every if isinstance(member, kind)]


def title_of(member: str) -> str:
    """A member's name for readers.

    >>> title_of("discriminant_bands_wide")
    'discriminant, bands + wide'
    >>> title_of("decoder_unet")
    'decoder, U-Net'
    """
    kind, _, blocks = member.partition("_")
    named = [BLOCK_WORDS.get(one, DECODERS.get(one, one)) for one in blocks.split("_")]
    return msg("{kind}, {blocks}", kind=KIND_WORDS.get(kind, kind), blocks=joined(named, " + "))


def members_line(weights: Mapping[str, float]) -> str:
    """The members that take part, with their shares of all weights, heaviest first.

    A model's weights sum to 1 over the fusion's temperature; their shares are those of the report.

    >>> members_line({"bands": 0.5, "wide": 1.5, "forest": 0.0})
    'wide 0.75, bands 0.25'
    """
    total, order = sum(weights.values()), sorted(weights, key=lambda name: -weights[name])
    return ", ".join(f"{name} {weights[name] / total:.2f}" for name in order if weights[name] > 0)


def calibrated(log_probabilities: Float64s, temperature: float) -> Float64s:
    """Log-probabilities [n,K] divided by a temperature and normalised again."""
    return np.asarray(log_softmax(log_probabilities / temperature, axis=1))


def fused(members: Sequence[Float64s], weights: Sequence[float], log_priors: Float64s) -> Float64s:
    """Log-probabilities [n,K] of several calibrated members added with weights.

    >>> one = np.log([[0.8, 0.2]])
    >>> np.exp(fused([one, one], [0.5, 0.5], np.zeros(2))).round(3).tolist()
    [[0.8, 0.2]]
    """
    total = sum(weight * log_p for weight, log_p in zip(weights, members, strict=True))
    return np.asarray(log_softmax(total + log_priors, axis=1))


def _count(features: Features) -> int:
    return int(next(iter(features.values())).shape[-1])
