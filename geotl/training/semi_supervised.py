"""Learning from unlabelled tiles: what their pixels add to the labels drawn, in feature space.

Every rule gives each unlabelled tile a share in each class; a discriminant is then fitted to
labelled and unlabelled tiles together. Where the unlabelled tiles are those to be tested, it is
transductive: made for these very tiles, and reported apart from a head of the labels alone. A pool
of other tiles is not (`tile_pool`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg

from geotl.arrays import Floats, Int64s
from geotl.evaluation.evaluate import softmax
from geotl.language import msg
from geotl.training.heads import Chosen, Linear, discriminant_of, one_hot
from geotl.training.settings import ProbeSettings

Shares = Callable[[Linear, Floats], Floats]

NEIGHBOURS, SPREAD = 10, 0.9  # of the graph; Zhou et al. 2004 take a spread near 1


@dataclass(frozen=True)
class PoolUse:
    """What a pool of unlabelled tiles did for a head; see `tile_pool`.

    Attributes:
        tiles: in the pool.
        used: whether the head is fitted to them too.
        loss: mean of -log p of the held-out tiles by heads of the labels and the pool.
        loss_alone: the same by heads of the labels alone; both are nan where no tile is held out.
        held_out: how many tiles were held out.
        alone: the head of the labels alone.
    """

    tiles: int
    used: bool
    loss: float
    loss_alone: float
    held_out: int
    alone: Linear

    def __str__(self) -> str:
        """What was done, in one line for people."""
        if not self.held_out:
            return msg(
                "{tiles} unlabelled tiles not used: no training tile can be held out to show a "
                "gain",
                tiles=self.tiles,
            )
        losses = msg(
            "log-loss {loss:.3f} on {held_out} held-out training tiles, labels alone {alone:.3f}",
            loss=self.loss,
            held_out=self.held_out,
            alone=self.loss_alone,
        )
        values = {"tiles": self.tiles, "losses": losses}
        if self.used:
            return msg("{tiles} unlabelled tiles used beside the labels ({losses})", **values)
        return msg(
            "{tiles} unlabelled tiles not used: they show no clear gain ({losses})", **values
        )

    def to_dict(self) -> dict[str, float | int | bool | None]:
        """The figures, without the head; None for those that are not known."""
        known = self.held_out > 0
        return {
            "tiles": self.tiles,
            "used": self.used,
            "held_out": self.held_out,
            "loss": self.loss if known else None,
            "loss_alone": self.loss_alone if known else None,
        }


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
    labelled = one_hots.any(axis=0)  # a class without a label has no mean to draw tiles to it
    centred = unlabelled.mean(axis=1, keepdims=True)
    if settings.unlabelled == "propagation":
        shares = propagated(features.mean(axis=1), one_hots, centred[:, 0]) * labelled
        return discriminant_of(
            [(features, one_hots), (centred, shares)], start.setting, start.parts
        )
    rule = share_rule(settings, start.temperature)
    for _ in range(settings.rounds):
        shares = rule(head, unlabelled) * labelled
        head = discriminant_of(
            [(features, one_hots), (centred, shares)], start.setting, start.parts
        )
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
