"""What a network's answers rest on: which parts of a tile, which tiles lie close, what it mixes up.

Occlusion asks the network itself: a part of a tile is covered with the mean of the training pixels,
and the fall in the odds of its class is what that part was worth (Zeiler & Fergus 2014,
doi 10.1007/978-3-319-10590-1_53). It holds for any backbone and head, with nothing approximated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geotl.arrays import Floats, Int64s
from geotl.models.classifier import TileClassifier

CELLS = 8  # of a tile's side, in each of which evidence is one figure
MOST_EMBEDDED = 1000  # tiles


@dataclass(frozen=True)
class Evidence:
    """A tile, and how much the odds of its class fall where it is covered [CELLS, CELLS]."""

    row: int
    named: int
    confidence: float
    fall: Floats


@dataclass(frozen=True)
class Embedding:
    """Tiles in a plane where those of like features lie close: places [n,2], of `rows` [n]."""

    rows: Int64s
    places: Floats


@dataclass(frozen=True)
class Pair:
    """Tiles of one class named another, the most confident first.

    Attributes:
        truth, said: the classes.
        count: how many.
        of: tiles of the true class.
        at: positions among the tiles judged.
    """

    truth: int
    said: int
    count: int
    of: int
    at: Int64s


def typical(truth: Int64s, chances: Floats) -> Int64s:
    """Of each class the tile named rightly with the highest probability; none where none was.

    >>> typical(np.array([0, 0, 1]), np.array([[.6, .4], [.9, .1], [.7, .3]])).tolist()
    [1]
    """
    said = chances.argmax(axis=1)
    found = []
    for k in range(chances.shape[1]):
        right = np.flatnonzero((truth == k) & (said == k))
        if len(right):
            found.append(int(right[chances[right, k].argmax()]))
    return np.array(found, np.int64)


def confused_pairs(truth: Int64s, chances: Floats, *, most: int = 6, tiles: int = 6) -> list[Pair]:
    """The pairs of classes mixed up most often, and tiles of each.

    >>> pairs = confused_pairs(np.array([0, 0, 1]), np.array([[.4, .6], [.1, .9], [.2, .8]]))
    >>> [(p.truth, p.said, p.count, p.of, p.at.tolist()) for p in pairs]
    [(0, 1, 2, 2, [1, 0])]
    """
    said, sure = chances.argmax(axis=1), chances.max(axis=1)
    found = []
    for wanted in range(chances.shape[1]):
        of = int((truth == wanted).sum())
        for other in range(chances.shape[1]):
            at = np.flatnonzero((truth == wanted) & (said == other))
            if other != wanted and len(at):
                ranked = at[np.argsort(-sure[at], kind="stable")][:tiles]
                found.append(Pair(wanted, other, len(at), of, ranked))
    return sorted(found, key=lambda pair: -pair.count)[:most]


def log_odds(logits: Tensor, named: int) -> Tensor:
    """Log-odds [N] of a class against all others, of logits [N,K].

    >>> log_odds(torch.zeros(1, 2), 0).tolist()
    [0.0]
    """
    others = [k for k in range(logits.shape[1]) if k != named]
    return logits[:, named] - torch.logsumexp(logits[:, others], dim=1)


@torch.no_grad()
def occlusion(network: TileClassifier, image: Tensor, named: int, batch: int = 64) -> Floats:
    """How much the log-odds of a class fall where a tile is covered, [CELLS, CELLS].

    Squares of two cells' side are covered one after the other, each a cell further; a cell's figure
    is the mean over the squares that cover it. Negative where covering speaks for the class.

    Args:
        network: in evaluation mode.
        image: raw pixels [C,S,S], invalid ones filled.
        named: the class.
        batch: tiles computed at once.
    """
    side = image.shape[-1]
    edges = np.linspace(0, side, CELLS + 1).round().astype(int)
    places = [(r, c) for r in range(CELLS - 1) for c in range(CELLS - 1)]
    fill = network.normalise.fill.view(-1, 1, 1)
    whole = log_odds(network(image[None]) / network.temperature, named)
    total, counts = np.zeros((CELLS, CELLS)), np.zeros((CELLS, CELLS))
    for start in range(0, len(places), batch):
        part = places[start : start + batch]
        covered = image.repeat(len(part), 1, 1, 1)
        for tile, (r, c) in zip(covered, part, strict=True):
            tile[:, edges[r] : edges[r + 2], edges[c] : edges[c + 2]] = fill
        falls = whole - log_odds(network(covered) / network.temperature, named)
        for (r, c), fall in zip(part, falls.double().cpu().numpy(), strict=True):
            total[r : r + 2, c : c + 2] += fall
            counts[r : r + 2, c : c + 2] += 1
    return np.asarray(total / counts)


def embedded(features: Floats, seed: int) -> Floats:
    """Places [n,2] of tiles by their features [n,D]: t-SNE from their principal components.

    Only who lies beside whom counts; distances between groups and their sizes say nothing
    (van der Maaten & Hinton 2008). Fewer than eight tiles are laid out by their components alone.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    wide = np.asarray(features, np.float64)
    if not np.ptp(wide, axis=0).any():  # all alike
        return np.zeros((len(wide), 2))
    few = min(50, *wide.shape)
    reduced = PCA(n_components=few, svd_solver="full").fit_transform(wide)
    if len(wide) < 8 or few < 2:
        return np.pad(reduced, ((0, 0), (0, max(0, 2 - few))))[:, :2]
    perplexity = float(min(30, (len(wide) - 1) // 3))
    found = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    return np.asarray(found)
