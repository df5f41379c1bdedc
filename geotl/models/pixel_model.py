"""A model of single pixels: members on blocks of features, and their calibrated fusion.

A member gives log-probabilities, calibrated by a temperature. The fusion adds the members'
log-probabilities with weights and normalises (a logarithmic opinion pool, Genest & Zidek 1986).
Everything is arrays, so that a model file holds it and nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from geotl.arrays import Float32s, Float64s, Int64s
from geotl.models.pixel_features import Features, PixelFeatures

FLOOR = 1e-6  # least probability that a forest gives a class


class Member(Protocol):
    """One way to tell the classes of pixels."""

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks of features that it takes."""
        ...

    def log_probabilities(self, features: Features) -> Float64s:
        """Log-probabilities [n,K] of pixels with features [D,n] by block, not yet calibrated."""
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

    def log_probabilities(self, features: Features) -> Float64s:
        """Log-probabilities [n,K] of pixels with features [D,n] by block."""
        logits = np.repeat(self.bias[None], _count(features), axis=0)
        start = 0
        for block in self.blocks:
            rows = features[block]
            weight = self.weight[:, start : start + len(rows)]
            logits = logits + (weight.astype(np.float32) @ rows).T
            start += len(rows)
        return np.asarray(log_softmax(logits, axis=1))


@dataclass(frozen=True)
class ForestMember:
    """A random forest as arrays: every tree's nodes one after the other.

    Attributes:
        blocks: taken, in this order.
        roots: first node of each tree [T].
        feature: that a node splits [M]; -1 in a leaf.
        threshold: up to which a pixel goes left [M].
        left, right: child nodes [M].
        shares: of the classes in each node [M,K], float32.
    """

    blocks: tuple[str, ...]
    roots: Int64s
    feature: NDArray[np.int32]
    threshold: Float32s
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    shares: Float32s

    def log_probabilities(self, features: Features) -> Float64s:
        """Log of the trees' mean shares [n,K], of pixels with features [D,n] by block."""
        rows = np.concatenate([features[block] for block in self.blocks])
        total = np.zeros((rows.shape[1], self.shares.shape[1]))
        pixel = np.arange(rows.shape[1])
        for root in self.roots:
            node = np.full(rows.shape[1], root, np.int32)
            inner = pixel
            while len(inner):
                at = node[inner]
                goes_left = rows[self.feature[at], inner] <= self.threshold[at]
                node[inner] = np.where(goes_left, self.left[at], self.right[at])
                inner = inner[self.feature[node[inner]] >= 0]
            total += self.shares[node]
        shares = np.maximum(total / len(self.roots), FLOOR)
        return np.asarray(np.log(shares / shares.sum(axis=1, keepdims=True)))


@dataclass(frozen=True)
class PixelModel:
    """Members and how they are fused.

    Attributes:
        features: how pixels are described.
        classes: names, in the order of the columns.
        members: by name.
        temperatures: each member's log-probabilities are divided by, by name.
        weights: of the members' log-probabilities, by name; 0 leaves one out.
        log_priors: added before normalising [K]; zeros for equal priors.
    """

    features: PixelFeatures
    classes: tuple[str, ...]
    members: Mapping[str, Member]
    temperatures: Mapping[str, float]
    weights: Mapping[str, float]
    log_priors: Float64s

    def log_probabilities(self, features: Features) -> Float64s:
        """Fused log-probabilities [n,K] of pixels with features [D,n] by block."""
        total = np.repeat(self.log_priors[None], _count(features), axis=0)
        for name, weight in self.weights.items():
            if weight > 0:
                own = self.members[name].log_probabilities(features)
                total = total + weight * calibrated(own, self.temperatures[name])
        return np.asarray(log_softmax(total, axis=1))


def members_line(weights: Mapping[str, float]) -> str:
    """The members that take part, with their weights, heaviest first.

    >>> members_line({"bands": 0.25, "wide": 0.75, "forest": 0.0})
    'wide 0.75, bands 0.25'
    """
    order = sorted(weights, key=lambda name: -weights[name])
    return ", ".join(f"{name} {weights[name]:.2f}" for name in order if weights[name] > 0)


def calibrated(log_probabilities: Float64s, temperature: float) -> Float64s:
    """Log-probabilities [n,K] divided by a temperature and normalised again."""
    return np.asarray(log_softmax(log_probabilities / temperature, axis=1))


def fused(members: Sequence[Float64s], weights: Sequence[float], log_priors: Float64s) -> Float64s:
    """Log-probabilities [n,K] of several calibrated members added with weights.

    >>> one = np.log([[0.8, 0.2]])
    >>> np.exp(fused([one, one], [0.5, 0.5], np.zeros(2))).round(3).tolist()
    [[0.8, 0.2]]
    """
    total = sum(weight * own for weight, own in zip(weights, members, strict=True))
    return np.asarray(log_softmax(total + log_priors, axis=1))


def _count(features: Features) -> int:
    return int(next(iter(features.values())).shape[-1])
