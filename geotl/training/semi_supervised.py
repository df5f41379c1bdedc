"""Learning from unlabelled tiles: what their pixels add to the labels drawn, in feature space.

Every rule gives each unlabelled tile a share in each class; a discriminant is then fitted to
labelled and unlabelled tiles together. All of it is transductive: the head is made for these very
tiles, and is reported apart from one that saw labels alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg

from geotl.arrays import Floats, Int64s
from geotl.evaluation.evaluate import softmax
from geotl.training.heads import Chosen, Linear, discriminant_of, one_hot
from geotl.training.settings import ProbeSettings

Shares = Callable[[Linear, Floats], Floats]

NEIGHBOURS, SPREAD = 10, 0.9  # of the graph; Zhou et al. 2004 take a spread near 1


def with_unlabelled(
    features: Floats,
    labels: Int64s,
    unlabelled: Floats,
    start: Chosen,
    settings: ProbeSettings,
) -> Linear:
    """A discriminant fitted to labelled [N, V, D] and unlabelled tiles [M, V, D].

    `settings.unlabelled` chooses how an unlabelled tile gets its shares: `soft_labels`, its class
    probabilities of logits divided by `softness`, which is expectation-maximisation of a Gaussian
    mixture with one covariance and equal priors (McLachlan & Peel 2000, section 3.8);
    `pseudo_labels`, 1 for its class where the calibrated probability reaches
    `threshold` (Lee 2013); `consistency`, what all views agree on, the least calibrated
    probability that any view gives the class; `propagation`, labels spread over the graph of
    nearest neighbours (Zhou et al. 2004). Shares are given and the head is fitted again in
    `rounds`; propagation takes one.

    Args:
        features: of the labelled tiles, standardised.
        labels: their classes [N].
        unlabelled: features of tiles without labels, standardised alike.
        start: the head fitted to the labels alone, with its temperature and shrinkage.
        settings: of the probe; `unlabelled` must name a rule.
    """
    num_classes = len(start.head.bias)
    one_hots, head = one_hot(labels, num_classes), start.head
    centred = unlabelled.mean(axis=1, keepdims=True)
    if settings.unlabelled == "propagation":
        shares = propagated(features.mean(axis=1), one_hots, centred[:, 0])
        return discriminant_of([(features, one_hots), (centred, shares)], start.setting)
    rule = share_rule(settings, start.temperature)
    for _ in range(settings.rounds):
        shares = rule(head, unlabelled)
        head = discriminant_of([(features, one_hots), (centred, shares)], start.setting)
    return head


def share_rule(settings: ProbeSettings, temperature: float) -> Shares:
    """A function from tiles [M, V, D] to their shares [M, K] under a head."""
    return {
        "soft_labels": lambda head, tiles: softmax(head.logits(tiles), settings.softness),
        "pseudo_labels": lambda head, tiles: confident(
            softmax(head.logits(tiles), temperature), settings.threshold
        ),
        "consistency": lambda head, tiles: agreed(head, tiles, temperature),
    }[settings.unlabelled]


def confident(probabilities: Floats, threshold: float) -> Floats:
    """One-hot rows where the largest probability reaches the threshold, else rows of zeros.

    >>> confident(np.array([[0.95, 0.05], [0.6, 0.4]]), 0.9).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    shares = one_hot(probabilities.argmax(axis=1), probabilities.shape[1])
    return np.asarray(shares * (probabilities.max(axis=1, keepdims=True) >= threshold))


def agreed(head: Linear, tiles: Floats, temperature: float) -> Floats:
    """The smallest probability [M, K] of each class over the views of a tile."""
    views = [softmax(head.logits(tiles[:, [v]]), temperature) for v in range(tiles.shape[1])]
    return np.asarray(np.min(views, axis=0))


def propagated(labelled: Floats, known_labels: Floats, unlabelled: Floats) -> Floats:
    """Shares [M, K] of unlabelled features [M, D] by spreading labels over a graph.

    Tiles are joined to their nearest neighbours by cosine similarity, and F = (I - a S)^-1 Y is
    solved with S the symmetrically normalised graph and Y the known labels (Zhou et al. 2004,
    "Learning with local and global consistency"). Classes are then brought to equal mass.
    """
    everything = np.concatenate([labelled, unlabelled]).astype(np.float64)
    everything /= np.maximum(np.linalg.norm(everything, axis=1, keepdims=True), 1e-12)
    graph = _neighbours(everything, min(NEIGHBOURS, len(everything) - 1))
    degree = np.maximum(np.asarray(graph.sum(axis=1)).ravel(), 1e-12)
    scale = sparse.diags(degree**-0.5)
    system = sparse.eye(len(everything)) - SPREAD * (scale @ graph @ scale)
    start = np.concatenate([known_labels, np.zeros((len(unlabelled), known_labels.shape[1]))])
    spread = np.stack([cg(system, column, rtol=1e-6)[0] for column in start.T], axis=1)
    shares = np.maximum(spread[len(labelled) :], 0)
    shares /= np.maximum(shares.sum(axis=0, keepdims=True), 1e-12)
    return np.asarray(shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-12))


def _neighbours(rows: Floats, count: int) -> sparse.csr_matrix:
    """Symmetric graph of rows of length 1 and their nearest others, weighted by cosines above 0."""
    from sklearn.neighbors import kneighbors_graph

    graph = kneighbors_graph(rows, count, mode="distance")
    graph.data = np.maximum(1 - graph.data**2 / 2, 0)  # the cosine, of rows of length 1
    return graph.maximum(graph.T)
