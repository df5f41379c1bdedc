"""How far synthetic tiles are from the real ones they were learnt from, and from each other.

Distances are root mean squares over a tile's values, in standard deviations of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from geotl.arrays import Bools, Float64s, Floats, Int64s
from geotl.errors import DataError


@dataclass(frozen=True)
class Novelty:
    """Each synthetic tile's nearest real one, and what counts as a copy.

    Attributes:
        nearest: distance [M] to the nearest real tile in any of its views.
        row: position [M] of that real tile.
        closest_real: smallest distance between two different real tiles in any view; infinite
            where there are no two.
    """

    nearest: Floats
    row: Int64s
    closest_real: float

    @property
    def copies(self) -> Bools:
        """Which lie nearer to a real tile than any two real tiles do to each other [M]."""
        if not np.isfinite(self.closest_real):
            return np.zeros(len(self.nearest), dtype=bool)
        return np.asarray(self.nearest < self.closest_real)


def novelty(made: Floats, views: Iterable[Floats], contents: Sequence[str]) -> Novelty:
    """Hold synthetic tiles against every view of the real ones.

    Args:
        made: [M, D], standardised.
        views: real tiles [N, D], once for each view; the first is as they are.
        contents: what tells real tiles apart [N]; two of equal content are one tile.

    Raises:
        DataError: no views, or shapes that do not fit.

    >>> real = np.array([[0.0, 0.0], [3.0, 4.0]])
    >>> found = novelty(np.array([[0.0, 1.0], [9.0, 9.0]]), [real], ["a", "b"])
    >>> found.nearest.round(2).tolist(), round(found.closest_real, 2), found.copies.tolist()
    ([0.71, 5.52], 3.54, [True, False])
    """
    _, kind = np.unique(np.asarray(contents), return_inverse=True)
    other = kind[:, None] != kind[None]
    nearest, row = np.full(len(made), np.inf), np.zeros(len(made), dtype=np.int64)
    closest, plain = np.inf, None
    for real in views:
        if real.shape != (len(kind), made.shape[1]):
            raise DataError(
                f"real tiles of shape {real.shape} for {len(kind)} contents and synthetic ones of "
                f"{made.shape[1]} values"
            )
        plain = real if plain is None else plain
        apart = distances(made, real)
        best = apart.argmin(axis=1)
        less = apart[np.arange(len(made)), best]
        row, nearest = np.where(less < nearest, best, row), np.minimum(less, nearest)
        closest = min(closest, float(distances(plain, real)[other].min(initial=np.inf)))
    if plain is None:
        raise DataError("no view of the real tiles was given")
    return Novelty(nearest, row, closest)


def distances(a: Floats, b: Floats) -> Float64s:
    """Root mean square differences [M, N] of rows [M, D] and [N, D].

    >>> distances(np.array([[1.0, 1.0]]), np.array([[1.0, 1.0], [4.0, 5.0]])).tolist()
    [[0.0, 3.5355339059327378]]
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    square = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * (x @ y.T)
    return np.asarray(np.sqrt(np.maximum(square, 0) / a.shape[1]))


def diversity(tiles: Floats, labels: Int64s, classes: int) -> list[float]:
    """Mean distance between two tiles of a class, for each class; nan with fewer than two.

    >>> diversity(np.array([[0.0], [2.0], [5.0]]), np.array([0, 0, 1]), 2)
    [2.0, nan]
    """
    found = []
    for k in range(classes):
        mine = tiles[labels == k]
        pairs = np.triu_indices(len(mine), 1)
        apart = distances(mine, mine)[pairs]
        found.append(float(apart.mean()) if len(apart) else float("nan"))
    return found
