"""Classes whose labels gave no chip, and the chip size that would keep them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import shapely

from geotl.data.coverage import window_shares
from geotl.data.labels import (
    ClassRaster,
    Label,
    Reason,
    Rejection,
    classes_on,
    reason_counts,
)
from geotl.data.placement import ChipRules, on_pixels, windows_of
from geotl.data.tiles import class_name
from geotl.imagery.windows import Imagery, Window
from geotl.io.vector import transformed
from geotl.language import joined, msg

LEAST_PX = 4  # that a chip may have
SAMPLE = 40  # labels of a class whose sizes are looked for
_ROUNDING = 1e-9  # of a share
SizeOf = Callable[[Rejection], int]  # the largest side at which it would give a chip, 0 for none


def lost_classes(
    kept: frozenset[str], rejected: Sequence[Rejection], rules: ChipRules, size_of: SizeOf
) -> tuple[str, ...]:
    """A warning for each class whose labels were all rejected, with what would keep it.

    Args:
        kept: classes that have chips.
        rejected: every label without one; classes that the mapping drops are not lost.
        rules: what a chip must be.
        size_of: the largest chip size at which a rejected label would give a chip.

    >>> rejected = [Rejection("1", "impure", "", "pond"), Rejection("2", "impure", "", "pond")]
    >>> print(*lost_classes(frozenset({"wood"}), rejected, ChipRules(16), lambda _: 9))
    Class pond lost all its labels (impure 2): the model does not know this class. A chip size of \
9 px (labels.chip_px) would keep 2 of its 2 labels, a smaller labels.purity too.
    """
    lost: Mapping[str, list[Rejection]] = defaultdict(list)
    for one in rejected:
        if one.class_name is not None and one.reason != "dropped class":
            lost[class_name(one.class_name)].append(one)
    return tuple(
        joined(
            [
                lost_words(name, Counter(one.reason for one in group)),
                _remedy(group, rules, size_of),
            ],
            " ",
        )
        for name, group in sorted(lost.items())
        if name not in kept
    )


def lost_words(name: str, reasons: Mapping[Reason, int]) -> str:
    """That a class is lost, and why.

    >>> lost_words("pond", {"impure": 3, "outside": 1})
    'Class pond lost all its labels (impure 3, outside 1): the model does not know this class.'
    """
    counts = reason_counts(sorted(reasons.items()))
    return msg(
        "Class {name} lost all its labels ({counts}): the model does not know this class.",
        name=name,
        counts=counts,
    )


def _remedy(group: Sequence[Rejection], rules: ChipRules, size_of: SizeOf) -> str:
    """The largest size that keeps half of the labels that some size keeps."""
    step = -(-len(group) // SAMPLE)
    looked = group[::step]
    sizes = sorted((size for size in map(size_of, looked) if size >= LEAST_PX), reverse=True)
    impure = any(one.reason == "impure" for one in group)
    if not sizes:
        return msg(
            "No chip size from {least} px on keeps one of {count} labels; task=pixels "
            "classifies single pixels.",
            least=LEAST_PX,
            count=len(looked),
        )
    size = sizes[(len(sizes) - 1) // 2]
    kept = sum(one >= size for one in sizes)
    values = {"size": size, "kept": kept, "count": len(looked)}
    words: str = msg(
        "A chip size of {size} px (labels.chip_px) would keep {kept} of its {count} labels",
        **values,
    )
    if step > 1:
        words = msg(
            "A chip size of {size} px (labels.chip_px) would keep {kept} of a sample of {count} "
            "labels",
            **values,
        )
    if impure:
        return msg("{size}, a smaller labels.purity too.", size=words)
    return msg("{size}.", size=words)


def size_of_label(
    scenes: Sequence[Imagery], labels: Sequence[Label], crs: str, rules: ChipRules
) -> SizeOf:
    """What gives the largest chip size at which a rejected point or polygon gives a chip.

    Args:
        scenes: where it may lie.
        labels: all that can be used; others have no size.
        crs: their reference system.
        rules: what a chip must be.
    """
    by_id = {label.id: label.geometry for label in labels}

    def fits(shape: shapely.Geometry, scene: Imagery, size: int) -> bool:
        found = windows_of(shape, scene, replace(rules, chip_px=size))
        return isinstance(found[0], Window)

    def size_of(one: Rejection) -> int:
        shape = by_id.get(one.label_id)
        if shape is None or one.reason in ("duplicate", "conflict"):
            return 0
        best = 0
        for scene in scenes:
            there = transformed(np.array([shape], dtype=object), crs, str(scene.grid.crs))[0]
            if there is not None:
                here = on_pixels(there, scene.grid)
                best = max(best, _largest(rules.chip_px, partial(fits, here, scene)))
        return best

    return size_of


def _largest(below: int, fits: Callable[[int], bool]) -> int:
    """The largest size below one that fits, 0 for none, where whatever fits fits smaller too.

    >>> _largest(16, lambda px: px <= 9), _largest(16, lambda px: False)
    (9, 0)
    """
    low, high = LEAST_PX - 1, below - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low if low >= LEAST_PX else 0


def size_of_square(scenes: Sequence[Imagery], labels: ClassRaster, rules: ChipRules) -> SizeOf:
    """What gives the largest chip size at which a rejected square of a class raster holds a chip.

    Chips of that size lie on a lattice from the scene's first pixel on, as all of them do.
    """
    by_name = {scene.name: scene for scene in scenes}

    def size_of(one: Rejection) -> int:
        name, _, place = one.label_id.rpartition(":")
        row, col = map(int, place.split(","))
        window = Window(row, col, rules.chip_px, rules.chip_px)
        values, inside = classes_on(labels, window.on(by_name[name].grid))
        of_class = [
            v for v in np.unique(values[inside]) if labels.name_of(int(v)) == one.class_name
        ]
        mask = inside & np.isin(values, of_class)
        for size in range(rules.chip_px - 1, LEAST_PX - 1, -1):
            shares = window_shares(mask, size)[(-row) % size :: size, (-col) % size :: size]
            if (shares >= rules.purity - _ROUNDING).any():
                return size
        return 0

    return size_of
