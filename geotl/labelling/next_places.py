"""Where a label would help most: a few numbered places of the scene.

While labels are few the places are typical of the scene and unlike what is labelled; later they
are those that the model is uncertain about and that differ from the labels and from each other
(docs/BENCHMARKS.md, "Where to label next"). Places lie apart on the ground, and never near a label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from geotl.arrays import Bools, Float32s, Int64s
from geotl.inference.candidates import choose, normalised_entropy
from geotl.inference.pixel_area import FeatureSpace
from geotl.inference.typical_choice import choose_typical
from geotl.labelling.feature_store import FeatureStore
from geotl.labelling.feature_tiles import TilePlace
from geotl.labelling.map_tiles import LiveModel
from geotl.models.pixel_features import PixelFeatures

COUNT = 10
MAX_CANDIDATES = 1500  # places that are compared
APART = 24  # of the shorter side of the scene: least distance of two places
POOL = 10  # times as many uncertain places as are wanted, of which the diverse are chosen


@dataclass(frozen=True)
class Candidates:
    """Usable pixels spread over the scene at random.

    Attributes:
        tile: that they lie in.
        positions: among the tile's pixels [m].
        places: rows and columns [m,2].
        features: bands and windows, by block [D,m].
    """

    tile: TilePlace
    positions: Int64s
    places: Int64s
    features: dict[str, Float32s]

    @classmethod
    def of(cls, store: FeatureStore, seed: int = 0) -> Candidates:
        """Pixels of the coarsest tile."""
        place = TilePlace(store.plan.kept[-1], 0, 0)
        tile, (rows, cols) = store.tile(place), place.within(store.scene.grid)
        usable = np.argwhere(tile.usable)
        order = np.random.default_rng(seed).permutation(len(usable))[:MAX_CANDIDATES]
        some = usable[np.sort(order)]
        places = some * place.each + np.array([rows.start, cols.start])
        flat = some @ np.array([tile.shape[1], 1])
        features = {block: values[:, flat] for block, values in tile.blocks().items()}
        return cls(place, flat, places.astype(np.int64), features)

    def predicted(self, model: LiveModel, store: FeatureStore) -> Float32s:
        """A model's probabilities [m,K]."""
        logits = model.logits(store, self.tile)
        some = None if logits is None else logits[:, self.positions]
        return model.model.probabilities(self.features, some).T

    @property
    def table(self) -> Float32s:
        """All features [m,D]."""
        return np.concatenate([*self.features.values()]).T


@dataclass(frozen=True)
class Labelled:
    """What is labelled already.

    Attributes:
        places: rows and columns of the pixels [n,2].
        features: [n,D], bands and windows.
        labels: how many labels these are of.
    """

    places: Int64s
    features: Float32s
    labels: int


@dataclass(frozen=True)
class Place:
    """A place to label.

    Attributes:
        col: the pixel's column, from the left.
        row: its row, from the top.
        why: typical or uncertain.
    """

    col: int
    row: int
    why: str


def next_places(
    candidates: Candidates,
    labelled: Labelled,
    of: PixelFeatures,
    probabilities: Float32s | None,
    count: int = COUNT,
) -> list[Place]:
    """Up to `count` places, best first.

    Args:
        candidates: pixels to choose from.
        labelled: labelled pixels.
        of: definition of the features.
        probabilities: of the candidates, by the newest model [m,K]; None where labels are few, and
            typical places are wanted.
        count: how many are wanted.
    """
    side = int(candidates.places.max(initial=0)) // APART + 1
    far = np.flatnonzero(_far(candidates.places, labelled.places, side))
    if not len(far):
        return []
    places, table = candidates.places[far], candidates.table
    boxes = np.hstack([places - side / 2, places + side / 2])
    space = FeatureSpace.about(table, of)
    ours = space.place(table[far])
    known = space.place(labelled.features) if labelled.labels else ours[:0]
    if probabilities is None:
        chosen = choose_typical(ours, known, boxes, count, 0).rows
    else:
        entropy = normalised_entropy(probabilities[far])
        most = np.argsort(-entropy, kind="stable")[: count * POOL]
        distances, inside = cdist(ours[most], known).min(axis=1), np.ones(len(most), bool)
        chosen = most[choose(ours[most], entropy[most], distances, boxes[most], inside, n=count)]
    why = "typical" if probabilities is None else "uncertain"
    return [Place(int(col), int(row), why) for row, col in places[chosen]]


def _far(places: Int64s, labelled: Int64s, side: int) -> Bools:
    """Which places [m] have no labelled pixel within half a side of rows or columns."""
    far = np.ones(len(places), bool)
    for row, col in labelled:
        near = np.maximum(abs(places[:, 0] - row), abs(places[:, 1] - col)) <= side / 2
        far &= ~near
    return far
