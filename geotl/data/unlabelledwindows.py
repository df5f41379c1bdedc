"""Windows of scenes that nobody labelled, drawn at random for what their pixels tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from geotl.data.chips import Chip, ChipRules
from geotl.data.occupied import Occupied, Shapes, ground_of
from geotl.data.placement import sight
from geotl.data.read_tile import in_order
from geotl.errors import DataError
from geotl.imagery.windows import Imagery, Window

Place = tuple[int, Window]  # number of the scene, and the window

_AT_ONCE = 256  # places drawn together
_TRIES = 40  # places looked at for each window wanted, before the ground counts as full


def draw_windows(
    scenes: Sequence[Imagery], chips: Sequence[Chip], rules: ChipRules, count: int
) -> list[Chip]:
    """Windows at random places of scenes, none on the ground of a labelled chip.

    Every place where a chip fits is as likely as any other, over all scenes together. The windows
    may share ground with each other, but none is drawn twice. Same seed and chips: same windows.

    Args:
        scenes: that are drawn from.
        chips: labelled ones, in whichever scene: their ground is left alone in all of them.
        rules: side of a window, how much of it must be seen, and the seed.
        count: how many are wanted; fewer come where there is no room for more.

    Returns:
        Windows as chips without a class.

    Raises:
        DataError: no window can be drawn.
    """
    named = {scene.name: scene for scene in scenes}
    ground: Shapes = []
    for name, scene in named.items():
        ground += ground_of(scene.grid, [chip.window for chip in chips if chip.scene == name])
    occupied = [Occupied(scene.grid, ground) for scene in scenes]
    found: dict[Place, None] = {}
    for places in _draws(scenes, rules, count):
        fresh = [place for place in _free(places, occupied) if place not in found]
        seen = in_order(partial(_seen, scenes, rules), fresh)
        for place, good in zip(fresh, seen, strict=True):
            if good and len(found) < count:
                found[place] = None
        if len(found) >= count:
            break
    if not found:
        raise DataError(
            "labels.unlabelled: no window of the scenes is clear of labelled chips, clouds and "
            "nodata; set it to 0, or give another scene"
        )
    return [
        Chip(f"unlabelled.{number}", f"unlabelled.{number}", "", scenes[of].name, window)
        for number, (of, window) in enumerate(found, 1)
    ]


def _draws(scenes: Sequence[Imagery], rules: ChipRules, count: int) -> Iterator[list[Place]]:
    """Places drawn at random, some hundred at a time, each once in a time."""
    size = rules.chip_px
    across = [max(0, scene.grid.width - size + 1) for scene in scenes]
    rooms = [max(0, s.grid.height - size + 1) * w for s, w in zip(scenes, across, strict=True)]
    ends, random = np.cumsum(rooms), np.random.default_rng([rules.seed, 2])
    if not ends[-1]:
        return
    for _ in range(-(-_TRIES * count // _AT_ONCE)):
        numbers = random.integers(0, ends[-1], _AT_ONCE)
        owner = np.searchsorted(ends, numbers, side="right")
        places: dict[Place, None] = {}
        for of, number in zip(owner.tolist(), numbers.tolist(), strict=True):
            row, col = divmod(number - int(ends[of]) + rooms[of], across[of])
            places[of, Window(row, col, size, size)] = None
        yield list(places)


def _free(places: Sequence[Place], occupied: Sequence[Occupied]) -> list[Place]:
    """Those whose ground is not taken, in their order."""
    taken: set[Place] = set()
    for of, ground in enumerate(occupied):
        own = [place for place in places if place[0] == of]
        met = ground.meets([window for _, window in own])
        taken |= {place for place, there in zip(own, met, strict=True) if there}
    return [place for place in places if place not in taken]


def _seen(scenes: Sequence[Imagery], rules: ChipRules, place: Place) -> bool:
    of, window = place
    return bool(sight(scenes[of], window, rules).good.all())
