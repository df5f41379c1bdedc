"""Scores of rows with different weights, with intervals from resampled blocks.

Pixels of one polygon weigh 1/n each, so that every label counts once. Neighbours resemble each
other, so intervals come from blocks drawn with replacement, not from single rows (the block
bootstrap; Roberts et al. 2017).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from geotl.arrays import Bools, Float64s, Int64s
from geotl.evaluation.evaluate import Evaluation, Reliability, softmax
from geotl.evaluation.metrics import Interval, percentiles, scores, summaries

BINS = 15


class WeightedRows(NamedTuple):
    """Rows that a classifier is tested on.

    Attributes:
        truth: classes [n].
        weight: weight of each row [n].
        block: the block that each row lies in [n], numbered from 0.
    """

    truth: Int64s
    weight: Float64s
    block: Int64s


def block_draws(block: Int64s, *, seed: int, rounds: int) -> Int64s:
    """How often each block is drawn in each round [rounds, blocks]."""
    count = int(block.max(initial=-1)) + 1
    random = np.random.default_rng(seed)
    return random.multinomial(count, np.full(count, 1 / count), rounds)


def weighted_accuracies(
    rows: WeightedRows, correct: Mapping[str, Bools], *, seed: int, rounds: int
) -> dict[str, Interval]:
    """Accuracy of each method by its correct rows [n], with the interval of the block bootstrap.

    >>> rows = WeightedRows(np.array([0, 1]), np.array([1.0, 1.0]), np.array([0, 1]))
    >>> result = weighted_accuracies(rows, {"a": np.array([True, False])}, seed=0, rounds=0)
    >>> result["a"].value
    0.5
    """
    return {name: _mean(rows, one.astype(float), seed, rounds) for name, one in correct.items()}


def weighted_differences(
    rows: WeightedRows, first: Bools, others: Mapping[str, Bools], *, seed: int, rounds: int
) -> dict[str, Interval]:
    """Accuracy of one method minus that of each other, paired over the same drawn blocks."""
    return {
        name: _mean(rows, first.astype(float) - one.astype(float), seed, rounds)
        for name, one in others.items()
    }


def _mean(rows: WeightedRows, values: Float64s, seed: int, rounds: int) -> Interval:
    """Weighted mean of values [n] with the central 95 % over drawn blocks."""
    total = np.bincount(rows.block, weights=rows.weight)
    sums = np.bincount(rows.block, weights=rows.weight * values)
    mean = float(sums.sum() / total.sum())
    if rounds < 1:
        return Interval(mean, math.nan, math.nan)
    drawn = block_draws(rows.block, seed=seed, rounds=rounds)
    mass = drawn @ total
    return percentiles(mean, np.where(mass > 0, drawn @ sums / np.where(mass > 0, mass, 1), np.nan))


def evaluate_weighted(
    logits: Float64s,
    rows: WeightedRows,
    classes: Sequence[str],
    *,
    temperature: Float64s,
    seed: int,
    rounds: int,
) -> Evaluation:
    """Evaluate logits [n,K] of weighted rows, each row at its own temperature [n].

    Counts in the confusion matrix are sums of weights rounded to whole numbers (`integer_rows`);
    scores use the exact sums.
    """
    count = len(classes)
    cells = _matrices(rows, logits.argmax(axis=1), count)
    intervals = _intervals(cells, rows.block, seed=seed, rounds=rounds)
    return Evaluation(
        classes=tuple(classes),
        matrix=integer_rows(cells.sum(axis=0)),
        scores=scores(cells.sum(axis=0)),
        overall=intervals["overall"],
        intervals=intervals,
        temperature=float(np.median(temperature)),
        before=_reliability(softmax(logits), rows),
        after=_reliability(softmax(logits, temperature), rows),
        rivals={},
    )


def integer_rows(cells: Float64s) -> Int64s:
    """Whole numbers near those of a matrix [K,M], each row with its rounded sum.

    Rounded one by one, the pixels of a label that are predicted as several classes would make
    more or fewer labels than there are. What is left of a row goes to its largest remainders.

    >>> integer_rows(np.array([[1.5, 0.5, 1.0], [0.4, 0.3, 0.3]])).tolist()
    [[2, 0, 1], [1, 0, 0]]
    """
    down = np.floor(cells + 1e-9)
    left = np.rint(cells.sum(axis=1)) - down.sum(axis=1)
    rank = np.argsort(np.argsort(down - cells, axis=1, kind="stable"), axis=1)
    return np.asarray(down + (rank < left[:, None]), dtype=np.int64)


def _matrices(rows: WeightedRows, predicted: Int64s, count: int) -> Float64s:
    """Weighted confusion matrix of each block [B,K,K]."""
    cells = np.zeros((int(rows.block.max(initial=-1)) + 1, count, count))
    np.add.at(cells, (rows.block, rows.truth, predicted), rows.weight)
    return cells


def _intervals(cells: Float64s, block: Int64s, *, seed: int, rounds: int) -> dict[str, Interval]:
    """Overall, balanced, kappa and macro F1 of all blocks together, with their intervals."""
    hits, truth, given = (
        np.diagonal(cells, axis1=1, axis2=2),
        cells.sum(axis=2),
        cells.sum(axis=1),
    )
    point = summaries(hits.sum(axis=0), truth.sum(axis=0), given.sum(axis=0))
    if rounds < 1:
        return {name: Interval(float(v), math.nan, math.nan) for name, v in point.items()}
    drawn = block_draws(block, seed=seed, rounds=rounds)
    several = summaries(drawn @ hits, drawn @ truth, drawn @ given)
    return {name: percentiles(float(point[name]), values) for name, values in several.items()}


def _reliability(probabilities: Float64s, rows: WeightedRows) -> Reliability:
    """Confidence against accuracy in bins of confidence, rows by their weight."""
    top = probabilities.max(axis=1)
    edges = np.linspace(0.0, 1.0, BINS + 1)
    place = np.clip(np.searchsorted(edges, top, side="left") - 1, 0, BINS - 1)
    correct = probabilities.argmax(axis=1) == rows.truth
    count, sure, right = (
        np.bincount(place, weights=rows.weight * values, minlength=BINS)
        for values in (np.ones(len(top)), top, correct.astype(float))
    )
    counts = np.rint(count).astype(np.int64)
    share = np.where(counts > 0, count, np.nan)
    return Reliability(edges, sure / share, right / share, counts)
