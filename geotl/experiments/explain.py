"""Explanations of a run's network: occlusion, embedding, confused pairs, and their pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geotl.arrays import Floats, Int64s, UInt8s
from geotl.data.tile_array import Pack, batch
from geotl.experiments.results import Answers
from geotl.experiments.samples import TileSamples
from geotl.language import joined, msg
from geotl.models.classifier import TileClassifier
from geotl.reporting import explain_figures, figures
from geotl.reporting.html import Picture
from geotl.reporting.rendering import quicklook, stretch_limits

CELLS = 8  # of a tile's side, in each of which evidence is one figure
MAX_EMBEDDED = 1000  # tiles
MAX_CLASSES = 24  # of which evidence is shown
_EVIDENCE = msg(
    "Of each class the tile classified correctly with the most confidence; beside "
    "it, the parts that its class rests on: covering the brightest one, a quarter "
    "of the side wide, makes the class's odds fall the most. One view, without "
    "averaging. A network may be right for a wrong reason: bright borders, clouds "
    "or one corner in every tile of a class deserve a check of the data."
)
_EMBEDDING = msg(
    "Test tiles laid out so that tiles of like features lie side by side (t-SNE of "
    "the features that the head takes). Dark rings are tiles classified "
    "incorrectly. Neighbours count; sizes of groups and the distances between them "
    "mean nothing."
)


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
class ConfusedPair:
    """Tiles of one class that were classified as another, the most confident first.

    Attributes:
        truth, predicted: the classes.
        count: how many.
        of: tiles of the true class.
        at: positions among the test tiles.
    """

    truth: int
    predicted: int
    count: int
    of: int
    at: Int64s


def typical(truth: Int64s, probabilities: Floats) -> Int64s:
    """Of each class the correct tile with the highest probability; none where none was.

    >>> typical(np.array([0, 0, 1]), np.array([[.6, .4], [.9, .1], [.7, .3]])).tolist()
    [1]
    """
    predicted = probabilities.argmax(axis=1)
    rows = []
    for k in range(probabilities.shape[1]):
        right = np.flatnonzero((truth == k) & (predicted == k))
        if len(right):
            rows.append(int(right[probabilities[right, k].argmax()]))
    return np.array(rows, np.int64)


def confused_pairs(
    truth: Int64s, probabilities: Floats, *, maximum: int = 6, tiles: int = 6
) -> list[ConfusedPair]:
    """The pairs of classes mixed up most often, and tiles of each.

    >>> pairs = confused_pairs(np.array([0, 0, 1]), np.array([[.4, .6], [.1, .9], [.2, .8]]))
    >>> [(p.truth, p.predicted, p.count, p.of, p.at.tolist()) for p in pairs]
    [(0, 1, 2, 2, [1, 0])]
    """
    predicted, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    pairs = []
    for true_class in range(probabilities.shape[1]):
        of = int((truth == true_class).sum())
        for other in range(probabilities.shape[1]):
            at = np.flatnonzero((truth == true_class) & (predicted == other))
            if other != true_class and len(at):
                ranked = at[np.argsort(-sure[at], kind="stable")][:tiles]
                pairs.append(ConfusedPair(true_class, other, len(at), of, ranked))
    return sorted(pairs, key=lambda pair: -pair.count)[:maximum]


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
    is the mean over the squares that cover it. Negative where covering raises them.

    Args:
        network: in evaluation mode.
        image: raw pixels [C,S,S], invalid ones filled.
        named: position of the class.
        batch: tiles in one computation.
    """
    side = image.shape[-1]
    edges = np.linspace(0, side, CELLS + 1).round().astype(int)
    places = [(r, c) for r in range(CELLS - 1) for c in range(CELLS - 1)]
    fill = network.normalise.fill.view(-1, 1, 1)
    uncovered = log_odds(network(image[None]) / network.temperature, named)
    total, counts = np.zeros((CELLS, CELLS)), np.zeros((CELLS, CELLS))
    for start in range(0, len(places), batch):
        part = places[start : start + batch]
        covered = image.repeat(len(part), 1, 1, 1)
        for tile, (r, c) in zip(covered, part, strict=True):
            tile[:, edges[r] : edges[r + 2], edges[c] : edges[c + 2]] = fill
        falls = uncovered - log_odds(network(covered) / network.temperature, named)
        for (r, c), fall in zip(part, falls.double().cpu().numpy(), strict=True):
            total[r : r + 2, c : c + 2] += fall
            counts[r : r + 2, c : c + 2] += 1
    return np.asarray(total / counts)


def embedded(features: Floats, seed: int) -> Floats:
    """Places [n,2] of tiles by their features [n,D]: t-SNE from their principal components.

    Only neighbours count; distances between groups and their sizes mean nothing
    (van der Maaten & Hinton 2008). Fewer than eight tiles are laid out by their components alone.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    wide = np.asarray(features, np.float64)
    if not np.ptp(wide, axis=0).any():  # all alike
        return np.zeros((len(wide), 2))
    components = min(50, *wide.shape)
    reduced = PCA(n_components=components, svd_solver="full").fit_transform(wide)
    if len(wide) < 8 or components < 2:
        return np.pad(reduced, ((0, 0), (0, max(0, 2 - components))))[:, :2]
    perplexity = float(min(30, (len(wide) - 1) // 3))
    places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    return np.asarray(places)


@dataclass(frozen=True)
class Insight:
    """Evidence of each class, and test tiles laid out by their features."""

    evidence: tuple[Evidence, ...]
    embedding: Embedding


def gather(
    network: TileClassifier,
    pack: Pack,
    answers: Answers,
    *,
    features: Callable[[Int64s], Floats],
    seed: int,
) -> Insight:
    """Explain a network on its test tiles.

    Args:
        network: fitted.
        pack: the tiles.
        answers: predictions of the network for its test tiles.
        features: function that returns standardised features [m,D] of rows.
        seed: of the layout.
    """
    network.eval()
    fill = network.normalise.fill.cpu().numpy().astype(np.float64)
    device = next(network.parameters()).device
    rows, truth, probabilities = answers.rows, answers.truth, answers.probabilities
    evidence = []
    for place in typical(truth, probabilities)[:MAX_CLASSES]:
        image = batch(pack, rows[[place]], fill=fill, device=device)["image"][0]
        named, sure = int(truth[place]), float(probabilities[place].max())
        fall = occlusion(network, image, named)
        evidence.append(Evidence(int(rows[place]), named, sure, fall))
    sample = np.linspace(0, len(rows) - 1, min(len(rows), MAX_EMBEDDED)).round().astype(np.int64)
    places = embedded(features(rows[sample]), seed)
    return Insight(tuple(evidence), Embedding(sample, places))


def pictures_of(
    insight: Insight,
    samples: TileSamples,
    answers: Answers,
    colours: Sequence[str],
    folds: int | None = None,
) -> dict[str, Picture]:
    """The report's pictures of evidence, likeness and pairs mixed up.

    With `folds`, the insight is into the network of the first fold.
    """
    fold_note = [msg("Of {folds} folds, the first is shown.", folds=folds)] if folds else []
    rows, truth, probabilities = answers.rows, answers.truth, answers.probabilities
    classes, render = samples.classes, looks(samples.pack, rows, samples.rgb)
    evidence, at = insight.evidence, insight.embedding.rows
    pairs = confused_pairs(truth, probabilities)
    predicted = probabilities.argmax(axis=1)
    return {
        "evidence": Picture(
            explain_figures.evidence_figure(
                render([e.row for e in evidence]),
                [e.fall for e in evidence],
                [classes[e.named] for e in evidence],
                [e.confidence for e in evidence],
            ),
            msg("Parts of tiles that decide their class"),
            joined([_EVIDENCE, *fold_note], " "),
        ),
        "embedding": Picture(
            explain_figures.embedding_figure(
                insight.embedding.places, truth[at], predicted[at] != truth[at], classes, colours
            ),
            msg("Test tiles by likeness of their features"),
            joined([_EMBEDDING, *fold_note], " "),
        ),
        "pairs": Picture(
            explain_figures.pairs_figure(
                [render(rows[pair.at]) for pair in pairs],
                [_arrow(classes[pair.truth], classes[pair.predicted]) for pair in pairs],
                [msg("{count} of {of} tiles", count=pair.count, of=pair.of) for pair in pairs],
            ),
            msg("Pairs of classes mixed up most often"),
            msg("What the tiles are, and what they were taken for; the most confident first."),
        ),
    }


def _arrow(truth: str, predicted: str) -> str:
    return f"{figures.shortened(truth, 19)}\n→ {figures.shortened(predicted, 19)}"


def looks(
    pack: Pack, rows: Int64s, rgb: Sequence[int]
) -> Callable[[Sequence[int] | Int64s], list[UInt8s]]:
    """A function that renders tiles of a pack with one stretch for all, from some of `rows`."""
    some = rows[:: max(1, len(rows) // 64)]
    sample = np.concatenate(list(pack.images[some]), axis=1)
    mask = None if pack.valid is None else np.concatenate(list(pack.valid[some]), axis=1)
    limits = stretch_limits(sample, mask, rgb)

    def render(chosen: Sequence[int] | Int64s) -> list[UInt8s]:
        return [
            quicklook(pack.images[i], None if pack.valid is None else pack.valid[i], rgb, limits)
            for i in chosen
        ]

    return render
