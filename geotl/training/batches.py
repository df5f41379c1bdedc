"""Which tiles a batch holds and what it draws: from seed, epoch and number alone."""

from __future__ import annotations

import numpy as np

from geotl.arrays import Int64s


def derived_seed(seed: int, epoch: int, step: int) -> int:
    """A 63-bit seed for one batch of one epoch.

    >>> derived_seed(0, 1, 2) != derived_seed(0, 2, 1)
    True
    """
    state = np.random.SeedSequence([seed, epoch, step]).generate_state(2, np.uint32)
    return int(state[0]) << 31 | int(state[1]) >> 1


def epoch_order(
    count: int, batch_size: int, seed: int, epoch: int, *, labels: Int64s | None = None
) -> list[Int64s]:
    """Positions of each batch of an epoch; a last batch of one tile joins the one before.

    With labels, every class is drawn equally often (see `balanced`).

    >>> [len(part) for part in epoch_order(9, 4, seed=0, epoch=0)]
    [4, 5]
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(count) if labels is None else balanced(labels, random)
    parts = [order[start : start + batch_size] for start in range(0, count, batch_size)]
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [np.concatenate(parts[-2:])]
    return parts


def balanced(labels: Int64s, random: np.random.Generator) -> Int64s:
    """As many positions as there are labels, each class as often as every other (or once more).

    The tiles of a class come round in a random order, so that none comes twice more often.

    >>> labels = np.array([0, 0, 0, 0, 0, 1])
    >>> np.bincount(labels[balanced(labels, np.random.default_rng(0))]).tolist()
    [3, 3]
    """
    classes = random.permutation(np.unique(labels))
    drawn = []
    for place, value in enumerate(classes):
        quota = len(labels) // len(classes) + (place < len(labels) % len(classes))
        own = np.flatnonzero(labels == value)
        rounds = [random.permutation(own) for _ in range(-(-quota // len(own)))]
        drawn.append(np.concatenate([own[:0], *rounds])[:quota])
    return random.permutation(np.concatenate(drawn))
