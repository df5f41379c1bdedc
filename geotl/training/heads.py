"""Heads on frozen features, logistic and discriminant, and the baseline of band statistics."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.linear_model import LogisticRegression

from geotl.arrays import Float64s, Floats, Int64s
from geotl.data.tile_array import Pack
from geotl.evaluation.evaluate import fit_temperature, softmax
from geotl.training.losses import class_weights
from geotl.training.settings import ClassWeights, HeadKind

Folds = Sequence[tuple[Int64s, Int64s]]
PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)  # of the head on band statistics


@dataclass(frozen=True)
class Linear:
    """Weights [K, D] and biases [K] of a linear head."""

    weight: Floats
    bias: Floats

    def logits(self, features: Floats) -> Floats:
        """Logits [N, K] of features [N, V, D], averaged over the views."""
        rows = features.mean(axis=1, dtype=np.float64)
        return np.asarray(rows @ self.weight.T + self.bias)


Fit = Callable[[Floats, Int64s, float], Linear]
Parts = tuple[float, ...]
"""Weights of equal parts of the features, each with a discriminant of its own."""
WHOLE: Parts = (1.0,)


@dataclass(frozen=True)
class Chosen:
    """A fitted head and how its one setting was chosen.

    Attributes:
        head: fitted on all training tiles at the chosen setting.
        setting: inverse penalty C of the logistic head, or the discriminant's shrinkage.
        fold_accuracy: accuracy on held-out tiles at each setting tried; empty without any.
        fold_rows: positions of the tiles that were held out, in folds or one by one.
        fold_logits: their held-out logits [n, K] at the chosen setting.
        temperature: fitted on those logits; 1 without folds.
        parts: weights of the discriminants on parts of the features (`part_heads`).
    """

    head: Linear
    setting: float
    fold_accuracy: dict[float, float]
    fold_rows: Int64s
    fold_logits: Floats
    temperature: float
    parts: Parts = WHOLE


def logistic(
    features: Floats,
    labels: Int64s,
    penalty: float,
    *,
    num_classes: int,
    weights: ClassWeights = "none",
) -> Linear:
    """Multinomial logistic regression with an L2 penalty of inverse strength `penalty`.

    `weights` are those of the classes (see `losses.class_weights`) in these tiles.
    """
    tiles, views, width = features.shape
    rows = features.reshape(tiles * views, width).astype(np.float64)
    solver = LogisticRegression(C=penalty, max_iter=1000, tol=1e-4)
    of_class = class_weights(weights, labels, num_classes)
    of_row = None if of_class is None else np.repeat(of_class[labels], views)
    solver.fit(rows, np.repeat(labels, views), of_row)
    weight, bias = np.zeros((num_classes, width)), np.full(num_classes, -30.0)
    coef, intercept = solver.coef_, solver.intercept_
    if len(solver.classes_) == 2:  # scikit-learn then returns one row, for the second class
        coef, intercept = (
            np.concatenate([-coef, coef]) / 2,
            np.concatenate([-intercept, intercept]) / 2,
        )
    weight[solver.classes_], bias[solver.classes_] = coef, intercept
    return Linear(weight, bias)


def discriminant(
    features: Floats, shares: Floats, shrinkage: float, parts: Parts = WHOLE
) -> Linear:
    """Linear discriminant with one covariance for all classes, shrunken to a sphere.

    S = (1 - g) W + g tr(W)/D I, with W the covariance of all views about their class mean
    (Friedman 1989, regularised discriminant analysis; equal priors).

    Args:
        features: [N, V, D].
        shares: how much of each tile belongs to each class, [N, K]; one-hot for a label. A row
            that sums to less than 1 weighs less, so unlabelled tiles can take part.
        shrinkage: g, in (0, 1).
        parts: weights of equal parts of the features. Each part has a discriminant of its own, as
            if features of different parts did not vary together, and their logits are added.
    """
    return discriminant_of([(features, shares)], shrinkage, parts)


def discriminant_of(
    blocks: Sequence[tuple[Floats, Floats]], shrinkage: float, parts: Parts = WHOLE
) -> Linear:
    """`discriminant` of several blocks of (features, shares), each with its own number of views."""
    several = zip(*(np.split(features, len(parts), axis=2) for features, _ in blocks), strict=True)
    shares = [one for _, one in blocks]
    heads = [
        Moments.of([*zip(part, shares, strict=True)]).discriminant(shrinkage) for part in several
    ]
    weighed = [*zip(parts, heads, strict=True)]
    return Linear(
        np.concatenate([share * head.weight for share, head in weighed], axis=1),
        np.sum([share * head.bias for share, head in weighed], axis=0),
    )


@dataclass(frozen=True)
class Moments:
    """What a discriminant of any shrinkage is made of.

    Attributes:
        means: of the classes [K, D].
        covariance: of all views about their class mean [D, D].
    """

    means: Floats
    covariance: Floats

    @classmethod
    def of(cls, blocks: Sequence[tuple[Floats, Floats]]) -> Moments:
        """Of several blocks of (features, shares)."""
        mass = np.sum([shares.sum(axis=0) for _, shares in blocks], axis=0)
        first = np.sum([s.T @ f.mean(axis=1, dtype=np.float64) for f, s in blocks], axis=0)
        means = first / np.maximum(mass, 1e-12)[:, None]
        scatter = np.sum([_scatter(f, s) for f, s in blocks], axis=0)
        return cls(means, (scatter - (means.T * mass) @ means) / max(float(mass.sum()), 1e-12))

    def discriminant(self, shrinkage: float) -> Linear:
        """The discriminant of a shrinkage; see `discriminant`."""
        width = self.covariance.shape[0]
        ridge = shrinkage * np.trace(self.covariance) / width + 1e-9
        shrunken = (1 - shrinkage) * self.covariance + ridge * np.eye(width)
        factor = cho_factor(shrunken, lower=True, check_finite=False)
        weight = cho_solve(factor, self.means.T).T
        return Linear(weight, -0.5 * np.einsum("kd,kd->k", weight, self.means))


def _scatter(features: Floats, shares: Floats) -> Floats:
    """Second moments [D, D] of views about zero, each tile by its shares."""
    root = np.sqrt(shares.sum(axis=1))[:, None, None]
    scaled = (features * root).reshape(-1, features.shape[2]).astype(np.float64)
    return np.asarray(scaled.T @ scaled / features.shape[1])


def head_fit(
    kind: HeadKind, num_classes: int, weights: ClassWeights = "none", parts: Parts = WHOLE
) -> Fit:
    """The function that fits a head of this kind at one setting.

    The discriminant has equal priors, and so weighs classes alike already; `parts` are its own.
    """
    if kind == "logistic":
        return lambda x, y, penalty: logistic(
            x, y, penalty, num_classes=num_classes, weights=weights
        )
    return lambda x, y, g: discriminant(x, one_hot(y, num_classes), g, parts)


def one_hot(labels: Int64s, num_classes: int) -> Floats:
    """Labels [N] as shares [N, K].

    >>> one_hot(np.array([1, 0]), 2).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    return np.eye(num_classes)[labels]


def choose(
    features: Floats, labels: Int64s, folds: Folds, fit: Fit, settings: Sequence[float]
) -> Chosen:
    """Fit a head at each setting in each fold, keep the setting of least calibrated log-loss.

    Without folds (one tile a class) the middle setting is taken and the temperature stays 1.
    """
    tried = sorted(settings)
    if not folds:
        middle = tried[len(tried) // 2]
        empty = np.zeros((0, int(labels.max()) + 1))
        return Chosen(fit(features, labels, middle), middle, {}, np.zeros(0, np.int64), empty, 1.0)
    held_out, logits = held_out_logits(features, labels, folds, fit, settings)
    return choose_among(logits, held_out, features, labels, fit)


def held_out_logits(
    features: Floats, labels: Int64s, folds: Folds, fit: Fit, settings: Sequence[float]
) -> tuple[Int64s, dict[float, Floats]]:
    """Positions of the tiles held out [n], and their logits [n, K] by heads of each setting."""
    logits = {
        setting: np.concatenate(
            [fit(features[a], labels[a], setting).logits(features[b]) for a, b in folds]
        )
        for setting in sorted(settings)
    }
    return np.concatenate([hold for _, hold in folds]), logits


def choose_among(
    logits: Mapping[float, Floats], held_out: Int64s, features: Floats, labels: Int64s, fit: Fit
) -> Chosen:
    """Keep the setting of least calibrated log-loss, by logits [n, K] of tiles that are held out.

    Args:
        logits: by setting, of heads that were not fitted to these tiles.
        held_out: positions of the tiles [n].
        features: of all tiles, standardised, [N, V, D].
        labels: their classes [N].
        fit: the head that is fitted to all tiles at the setting.
    """
    truth = labels[held_out]
    loss = {s: calibrated_loss(rows, truth) for s, rows in logits.items()}
    best = min(sorted(logits), key=lambda s: loss[s][0])
    accuracy = {s: float(np.mean(rows.argmax(1) == truth)) for s, rows in logits.items()}
    return Chosen(
        fit(features, labels, best), best, accuracy, held_out, logits[best], loss[best][1]
    )


def calibrated_loss(logits: Floats, truth: Int64s) -> tuple[float, float]:
    """Mean negative log-likelihood of logits [n, K] at their best temperature, and that one."""
    temperature = fit_temperature(logits, truth)
    chance = softmax(logits, temperature)[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(chance, 1e-12)).mean()), temperature


def band_statistics(pack: Pack, rows: Int64s) -> Float64s:
    """Mean and standard deviation of each band over a tile's valid pixels, [len(rows), 2C].

    A band without a valid pixel counts as 0 in both.
    """
    blocks = []
    for start in range(0, len(rows), 256):
        part = rows[start : start + 256]
        image = pack.images[part].astype(np.float64)
        valid = np.ones(image.shape, bool) if pack.valid is None else np.asarray(pack.valid[part])
        count = np.maximum(valid.sum(axis=(2, 3)), 1)
        mean = np.where(valid, image, 0.0).sum(axis=(2, 3)) / count
        about = np.where(valid, image - mean[:, :, None, None], 0.0)
        blocks.append(np.hstack([mean, np.sqrt((about**2).sum(axis=(2, 3)) / count)]))
    return np.concatenate(blocks)


def band_statistics_logits(
    table: Float64s, train: Int64s, labels: Int64s, test: Int64s, *, folds: Folds, classes: int
) -> Floats:
    """Logits [len(test), K] of logistic regression on band statistics, its penalty by folds.

    Args:
        table: band statistics of all tiles, [N, 2C].
        train: training rows.
        labels: their classes.
        test: test rows.
        folds: inside the training labels.
        classes: how many there are.
    """
    mean, sd = table[train].mean(axis=0), table[train].std(axis=0)
    scaled = ((table - mean) / np.where(sd > 0, sd, 1.0))[:, None, :]
    fit = functools.partial(logistic, num_classes=classes)
    return choose(scaled[train], labels, folds, fit, PENALTIES).head.logits(scaled[test])
