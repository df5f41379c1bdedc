"""A random forest as arrays, stored in a model file and evaluated for many pixels together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Float32s, Float64s, Int64s
from geotl.compiled import compiled
from geotl.errors import ModelError
from geotl.models.pixel_features import Features

FLOOR = 1e-6  # least probability that a forest gives a class
PART_PX = 64  # that go down a tree together: their features and the tree stay in the nearest cache
# unsigned positions, or every use of one would first be tested for being negative
UInts = NDArray[np.uint32]


@dataclass(frozen=True)
class ForestMember:
    """A random forest as arrays: every tree's nodes one after the other.

    Attributes:
        blocks: taken, in this order.
        roots: first node of each tree [T].
        feature: feature that a node splits [M]; -1 in a leaf.
        threshold: up to which a pixel goes left [M].
        left, right: child nodes [M], after their parent.
        shares: shares of the classes in each node [M,K], float32.
    """

    blocks: tuple[str, ...]
    roots: Int64s
    feature: NDArray[np.int32]
    threshold: Float32s
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    shares: Float32s

    def __post_init__(self) -> None:
        """Check that every split leads on to nodes that are there.

        Raises:
            ModelError: roots or children outside the nodes, or before their parent.
        """
        several = (self.feature, self.threshold, self.left, self.right)
        if any(each.shape != (len(self.shares),) for each in several):
            raise ModelError("a forest's arrays are of different lengths")
        integers = (self.roots, self.feature, self.left, self.right)
        if any(each.dtype.kind not in "iu" for each in integers) or self.roots.ndim != 1:
            raise ModelError("a forest's positions are not integers")
        inner = np.flatnonzero(self.feature >= 0)
        roots, last = self.roots, len(self.feature) - 1
        sound = len(roots) > 0 and roots.min() >= 0 and roots.max() <= last
        for side in (self.left[inner], self.right[inner]):
            sound &= bool(np.all((side > inner) & (side <= last)))
        if not sound:
            raise ModelError("a forest's splits lead to nodes that it does not have")

    def log_probabilities(self, features: Features) -> Float64s:
        """Log of the trees' mean shares [n,K], of pixels with features [D,n] by block.

        Raises:
            ModelError: the forest splits features that the pixels do not have.
        """
        rows = np.concatenate([features[block] for block in self.blocks])
        if self.feature.max() >= len(rows):
            raise ModelError(f"a forest splits feature {self.feature.max()} of {len(rows)}")
        total = np.zeros((rows.shape[1], self.shares.shape[1]))
        _add_shares(rows, self._trees, self.threshold, self.shares, total)
        shares = np.maximum(total / len(self.roots), FLOOR)
        return np.asarray(np.log(shares / shares.sum(axis=1, keepdims=True)))

    @cached_property
    def depths(self) -> UInts:
        """Most splits from the root of each tree to a leaf [T]."""
        below = np.zeros(len(self.feature), np.uint32)
        for node in np.flatnonzero(self.feature >= 0)[::-1]:
            below[node] = 1 + max(below[self.left[node]], below[self.right[node]])
        return below[self.roots]

    @cached_property
    def _trees(self) -> tuple[UInts, UInts, UInts, UInts]:
        """Roots, depths, features and children; a leaf leads to itself."""
        inner = self.feature >= 0
        sides = [np.where(inner, side, np.arange(len(inner))) for side in (self.right, self.left)]
        feature, children = np.where(inner, self.feature, 0), np.stack(sides, axis=1)
        several: tuple[NDArray[Any], ...] = self.roots, feature, children.ravel()
        roots, feature, children = (each.astype(np.uint32) for each in several)
        return roots, self.depths, feature, children


@compiled
def _add_shares(
    rows: Float32s,
    trees: tuple[UInts, UInts, UInts, UInts],
    threshold: Float32s,
    shares: Float32s,
    total: Float64s,
) -> None:
    """Add to total [n,K] the shares in the leaves that pixels with features [D,n] end in."""
    roots, depths, feature, children = trees
    for begin in range(0, rows.shape[1], PART_PX):
        part = np.ascontiguousarray(rows[:, begin : begin + PART_PX].T)
        node = np.empty(len(part), np.uint32)
        for tree in range(len(roots)):
            node[:] = roots[tree]
            for _ in range(depths[tree]):
                _go_down(part, feature, threshold, children, node)
            _add_leaves(shares, node, total[begin : begin + PART_PX])


@compiled
def _go_down(
    rows: Float32s, feature: UInts, threshold: Float32s, children: UInts, node: UInts
) -> None:
    """Replace each pixel's node by a child of it, unless it is a leaf."""
    for i in range(len(node)):
        at = node[i]
        goes_left = np.uint32(rows[i, feature[at]] <= threshold[at])
        node[i] = children[np.uint32(2) * at + goes_left]


@compiled
def _add_leaves(shares: Float32s, node: UInts, total: Float64s) -> None:
    """Add the shares [M,K] of each pixel's node to its total [n,K]."""
    for i in range(len(node)):
        leaf_shares, to = shares[node[i]], total[i]
        for k in range(len(to)):
            to[k] += leaf_shares[k]
