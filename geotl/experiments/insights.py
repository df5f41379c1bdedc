"""A network explained on the tiles it was judged on, as pictures of the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from geotl.arrays import Floats, Int64s, UInt8s
from geotl.data.tile_array import Pack, batch
from geotl.experiments.explain import (
    MOST_EMBEDDED,
    Embedding,
    Evidence,
    confused_pairs,
    embedded,
    occlusion,
    typical,
)
from geotl.models.classifier import TileClassifier
from geotl.reporting import explain_figures, figures
from geotl.reporting.html import Picture
from geotl.reporting.rendering import quicklook, stretch_limits

MOST_CLASSES = 24  # of which evidence is shown
_EVIDENCE = (
    "Of each class the tile named rightly with the most confidence; beside it, the parts that its "
    "name rests on: covering the brightest one, a quarter of the side wide, makes the class's odds "
    "fall the most. One view, without averaging. A network may be right for a wrong reason: bright "
    "borders, clouds or one corner in every tile of a class deserve a look at the data."
)
_EMBEDDING = (
    "Judged tiles laid out so that tiles of like features lie side by side (t-SNE of the features "
    "that the head sees). Dark rings are tiles named wrongly. Who lies beside whom counts; sizes "
    "of groups and the distances between them say nothing."
)


@dataclass(frozen=True)
class Insight:
    """Evidence of each class, and judged tiles laid out by their features."""

    evidence: tuple[Evidence, ...]
    embedding: Embedding


def gather(
    network: TileClassifier,
    pack: Pack,
    rows: Int64s,
    truth: Int64s,
    chances: Floats,
    *,
    features: Callable[[Int64s], Floats],
    seed: int,
) -> Insight:
    """Explain a network on the tiles it was judged on.

    Args:
        network: fitted.
        pack: the tiles.
        rows: those judged [n].
        truth: their classes [n], -1 for none.
        chances: what the network said of them [n,K].
        features: gives standardised features [m,D] of rows.
        seed: of the layout.
    """
    network.eval()
    fill = network.normalise.fill.cpu().numpy().astype(np.float64)
    device = next(network.parameters()).device
    found = []
    for place in typical(truth, chances)[:MOST_CLASSES]:
        image = batch(pack, rows[[place]], fill=fill, device=device)["image"][0]
        named, sure = int(truth[place]), float(chances[place].max())
        fall = occlusion(network, image, named)
        found.append(Evidence(int(rows[place]), named, sure, fall))
    some = np.linspace(0, len(rows) - 1, min(len(rows), MOST_EMBEDDED)).round().astype(np.int64)
    places = embedded(features(rows[some]), seed)
    return Insight(tuple(found), Embedding(some, places))


def pictures_of(
    insight: Insight,
    pack: Pack,
    rows: Int64s,
    truth: Int64s,
    chances: Floats,
    *,
    classes: Sequence[str],
    colours: Sequence[str],
    rgb: Sequence[int],
    folds: int | None = None,
) -> dict[str, Picture]:
    """The report's pictures of evidence, likeness and pairs mixed up.

    Where `folds` were judged one after the other, the insight is into the first one's network.
    """
    whose = f" Of {folds} folds, the first is shown, whose network was kept." if folds else ""
    look = looks(pack, rows, rgb)
    evidence, at = insight.evidence, insight.embedding.rows
    pairs = confused_pairs(truth, chances)
    said = chances.argmax(axis=1)
    return {
        "evidence": Picture(
            explain_figures.evidence_figure(
                look([e.row for e in evidence]),
                [e.fall for e in evidence],
                [classes[e.named] for e in evidence],
                [e.confidence for e in evidence],
            ),
            "Parts of tiles that their names rest on",
            f"{_EVIDENCE}{whose}",
        ),
        "embedding": Picture(
            explain_figures.embedding_figure(
                insight.embedding.places, truth[at], said[at] != truth[at], classes, colours
            ),
            "Judged tiles by likeness of their features",
            f"{_EMBEDDING}{whose}",
        ),
        "pairs": Picture(
            explain_figures.pairs_figure(
                [look(rows[pair.at]) for pair in pairs],
                [_arrow(classes[pair.truth], classes[pair.said]) for pair in pairs],
                [f"{pair.count} of {pair.of} tiles" for pair in pairs],
            ),
            "Pairs of classes mixed up most often",
            "What the tiles are, and what they were taken for; the most confident first.",
        ),
    }


def _arrow(truth: str, said: str) -> str:
    return f"{figures.shortened(truth, 19)}\n→ {figures.shortened(said, 19)}"


def looks(
    pack: Pack, rows: Int64s, rgb: Sequence[int]
) -> Callable[[Sequence[int] | Int64s], list[UInt8s]]:
    """What renders tiles of a pack on one stretch for all, that of some of `rows`."""
    some = rows[:: max(1, len(rows) // 64)]
    sample = np.concatenate(list(pack.images[some]), axis=1)
    known = None if pack.valid is None else np.concatenate(list(pack.valid[some]), axis=1)
    limits = stretch_limits(sample, known, rgb)

    def render(wanted: Sequence[int] | Int64s) -> list[UInt8s]:
        return [
            quicklook(pack.images[i], None if pack.valid is None else pack.valid[i], rgb, limits)
            for i in wanted
        ]

    return render
