"""Members of a pixel model, each fitted on weighted pixels: discriminant, logistic, forest.

Standardisation lies inside a linear member, each block of features divided by the root of its
width, so that a block of many features does not outweigh one of few.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from geotl.arrays import Float32s, Float64s, Int64s
from geotl.models.forest import ForestMember
from geotl.models.pixel_features import Features
from geotl.models.pixel_model import LinearMember, Member
from geotl.training.heads import Moments, one_hot

UNKNOWN = -1e3  # logit of a class without a training pixel
SHRINKAGES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9)
PENALTIES = (1.0, 10.0, 100.0, 1000.0)  # C of the logistic member
TREES = 200
FOLD_TREES, MANY_PIXELS = 40, 1000  # trees in each fold where there are many pixels


@dataclass(frozen=True)
class PixelRows:
    """Pixels that members are fitted to.

    Attributes:
        features: [D,n] by block.
        labels: classes [n].
        weight: what each pixel counts [n]; a label's pixels sum to 1.
        count: number of classes K.
        seed: of the forests.
        factor: what weights were multiplied with for other priors, by class [K]; None for none.
    """

    features: Features
    labels: Int64s
    weight: Float64s
    count: int
    seed: int = 0
    factor: Float64s | None = None

    def part(self, rows: Int64s) -> PixelRows:
        """Some of the pixels."""
        features = {block: values[:, rows] for block, values in self.features.items()}
        return replace(self, features=features, labels=self.labels[rows], weight=self.weight[rows])

    def table(self, blocks: tuple[str, ...]) -> Float32s:
        """Features [n,D] of some blocks, one after the other."""
        return np.concatenate([self.features[block] for block in blocks]).T


def weighed(rows: PixelRows, priors: Float64s | None) -> PixelRows:
    """The pixels with weights by which classes are as likely as `priors` [K]; None: as they are.

    >>> rows = PixelRows({}, np.array([0, 0, 1]), np.ones(3), 2)
    >>> weighed(rows, np.array([0.5, 0.5])).weight.tolist()
    [0.75, 0.75, 1.5]
    """
    if priors is None:
        return rows
    mass = np.bincount(rows.labels, rows.weight, rows.count)
    targets = np.where(mass > 0, priors, 0.0)
    factor = targets / targets.sum() * mass.sum() / np.maximum(mass, 1e-12)
    return replace(rows, weight=rows.weight * factor[rows.labels], factor=factor)


Fitter = Callable[[PixelRows, tuple[str, ...], float], Member]


def fit_discriminant(rows: PixelRows, blocks: tuple[str, ...], shrinkage: float) -> LinearMember:
    """A shrunken discriminant (`heads.discriminant`), with class priors from the weights."""
    return fit_discriminants(rows, blocks, (shrinkage,))[0]


def fit_discriminants(
    rows: PixelRows, blocks: tuple[str, ...], shrinkages: Sequence[float]
) -> list[LinearMember]:
    """`fit_discriminant` at several shrinkages, of moments that are computed once."""
    mean, scale = _scaling(rows, blocks)
    values = (rows.table(blocks) - mean) * scale
    shares = one_hot(rows.labels, rows.count) * rows.weight[:, None]
    moments = Moments.of([(values[:, None, :], shares)])
    mass = shares.sum(axis=0)
    likely = np.log(np.maximum(mass, 1e-12) / mass.sum())
    members = []
    for head in map(moments.discriminant, shrinkages):
        bias = np.where(mass > 0, head.bias + likely, UNKNOWN)
        members.append(_unscaled(blocks, np.asarray(head.weight), bias, mean, scale))
    return members


def fit_logistic(rows: PixelRows, blocks: tuple[str, ...], penalty: float) -> LinearMember:
    """Multinomial logistic regression with an L2 penalty of inverse strength `penalty`."""
    mean, scale = _scaling(rows, blocks)
    values = (rows.table(blocks) - mean) * scale
    solver = LogisticRegression(C=penalty, max_iter=300, tol=1e-3)
    solver.fit(values, rows.labels, rows.weight)
    coef, intercept = solver.coef_, solver.intercept_
    if len(solver.classes_) == 2:  # scikit-learn then returns one row, for the second class
        coef, intercept = np.concatenate([-coef, coef]) / 2, np.r_[-intercept, intercept] / 2
    weight, bias = np.zeros((rows.count, values.shape[1])), np.full(rows.count, UNKNOWN)
    weight[solver.classes_], bias[solver.classes_] = coef, intercept
    return _unscaled(blocks, weight, bias, mean, scale)


def fit_forest(rows: PixelRows, blocks: tuple[str, ...], trees: float) -> ForestMember:
    """A random forest of `trees` trees (Breiman 2001), scikit-learn's, as arrays.

    Grown trees end in leaves of one class, which no weight changes: priors multiply their shares.
    """
    threads = -1 if len(rows.labels) > MANY_PIXELS else None  # they cost more than few pixels take
    solver = RandomForestClassifier(round(trees), random_state=rows.seed, n_jobs=threads)
    factor = np.ones(rows.count) if rows.factor is None else rows.factor
    scale = np.maximum(factor, 1e-12)[rows.labels]
    with warnings.catch_warnings():  # scikit-learn's threads change the warning filters
        solver.fit(rows.table(blocks), rows.labels, rows.weight / scale)
    member = forest_member(solver, blocks, rows.count)
    if rows.factor is None:
        return member
    return replace(member, shares=(member.shares * factor).astype(np.float32))


def forest_member(
    forest: RandomForestClassifier, blocks: tuple[str, ...], count: int
) -> ForestMember:
    """A fitted forest of scikit-learn as arrays; a class without training pixels has no share."""
    trees = [tree.tree_ for tree in forest.estimators_]
    roots = np.cumsum([0, *(tree.node_count for tree in trees[:-1])]).astype(np.int64)
    shares = np.zeros((sum(tree.node_count for tree in trees), count), np.float32)
    values = np.concatenate([tree.value[:, 0, :] for tree in trees])
    shares[:, forest.classes_] = values / values.sum(axis=1, keepdims=True)

    def nodes(name: str) -> Int64s:
        arrays = [getattr(tree, name) for tree in trees]
        offset = [
            np.where(one >= 0, one + root, -1) for one, root in zip(arrays, roots, strict=True)
        ]
        return np.concatenate(offset)

    return ForestMember(
        blocks,
        roots,
        np.concatenate([np.maximum(tree.feature, -1) for tree in trees]).astype(np.int32),
        _rounded_down(np.concatenate([tree.threshold for tree in trees])),
        nodes("children_left").astype(np.int32),
        nodes("children_right").astype(np.int32),
        shares,
    )


def _rounded_down(threshold: Float64s) -> Float32s:
    """Thresholds as float32, never above: a float32 value x <= t is then x <= float32(t)."""
    near = threshold.astype(np.float32)
    lower = np.nextafter(near, np.float32(-np.inf))
    return np.where(near > threshold, lower, near).astype(np.float32)


def _scaling(rows: PixelRows, blocks: tuple[str, ...]) -> tuple[Float64s, Float64s]:
    """Weighted mean [D] of the features, and what they are multiplied with [D]."""
    table = rows.table(blocks).astype(np.float64)
    mean = np.average(table, axis=0, weights=rows.weight)
    sd = np.sqrt(np.average((table - mean) ** 2, axis=0, weights=rows.weight))
    width = np.concatenate([np.full(len(rows.features[b]), len(rows.features[b])) for b in blocks])
    return mean, np.where(sd > 1e-6, 1 / np.maximum(sd, 1e-6), 0.0) / np.sqrt(width)


def _unscaled(
    blocks: tuple[str, ...], weight: Float64s, bias: Float64s, mean: Float64s, scale: Float64s
) -> LinearMember:
    """A linear member of features as they are, from one of standardised features."""
    unscaled = weight * scale
    return LinearMember(blocks, unscaled, bias - unscaled @ mean)
