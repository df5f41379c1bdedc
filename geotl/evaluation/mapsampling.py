"""A stratified random sample of a class map's pixels, for people to say what is really there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

from geotl.arrays import Float64s, Int64s
from geotl.console import Progress
from geotl.errors import DataError, nearest
from geotl.evaluation.area_estimation import Allocation, allocate, sample_size
from geotl.evaluation.class_map import ClassMap
from geotl.evaluation.mapsurvey import random_pixels, survey
from geotl.evaluation.reference_points import INCLUSION, REFERENCE, STRATUM
from geotl.io.vector import write_features

_MINIMUM = 50  # points in a class: what the paper's examples keep to
_EXPECTED = 0.8  # user's accuracy where nothing is said


@dataclass(frozen=True)
class Plan:
    """How many points go into which class.

    Attributes:
        classes: on the map.
        pixels: of each.
        expected: user's accuracy that each is thought to have.
        points: to draw from each.
        se_overall: standard error of overall accuracy to be expected with them.
    """

    classes: tuple[str, ...]
    pixels: Int64s
    expected: Float64s
    points: Int64s
    se_overall: float


def plan_sample(
    of: ClassMap,
    *,
    n: int | None = None,
    se_overall: float = 0.01,
    allocation: Allocation = "proportional",
    minimum: int | None = None,
    expected: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Count a map's classes and divide a sample among them.

    Args:
        of: the map.
        n: points in all; None for as many as `se_overall` asks for.
        se_overall: standard error of overall accuracy that is wanted, where n is None.
        allocation: how the points are divided: see `allocate`.
        minimum: points that each class gets at least; None for 50, or half an
            equal share of n where that is less.
        expected: user's accuracy by class; "" stands for all others (0.8).
        progress: called with blocks done and blocks in all.

    Raises:
        DataError: a class that the map does not have, or numbers that do not fit.
    """
    counted: dict[str, int] = {}
    for value, number in survey(of, progress=progress).pixels.items():
        counted[of.name(value)] = counted.get(of.name(value), 0) + number
    told = dict(expected or {})
    other = told.pop("", _EXPECTED)
    for name in told:
        if name not in counted:
            raise DataError(f"{of.path}: no class {name!r} on it; {nearest(name, counted)}")
    users = np.array([told.get(name, other) for name in counted])
    pixels = np.array(list(counted.values()), dtype=np.int64)
    wanted = sample_size(pixels, users, se_overall) if n is None else n
    if minimum is None:
        minimum = _MINIMUM if n is None else min(_MINIMUM, n // (2 * len(pixels)))
    if n is None:  # the minima come on top of what the error asks for, as far as pixels reach
        wanted = int(min(max(wanted, np.minimum(minimum, pixels).sum()), pixels.sum()))
    points = allocate(
        pixels, wanted, minimum, method=allocation, expected_users=users, available=pixels
    )
    return Plan(tuple(counted), pixels, users, points, expected_error(pixels, users, points))


def expected_error(pixels: Int64s, users: Float64s, points: Int64s) -> float:
    """Standard error of overall accuracy with so many points in each class (equation 5).

    >>> expected_error(np.array([900, 100]), np.array([0.8, 0.8]), np.array([90, 10])).__round__(4)
    0.0404
    """
    weights = pixels / pixels.sum()
    if (points < 2).any():
        return float("nan")
    return float(np.sqrt((weights**2 * users * (1 - users) / (points - 1)).sum()))


def draw_sample(
    of: ClassMap, plan: Plan, path: Path, *, seed: int = 0, progress: Progress | None = None
) -> None:
    """Draw a plan's points and write them as a GeoPackage, in the map's reference system.

    Each is the middle of a pixel. Fields: `id` (in random order, so that strata do not follow each
    other), `stratum`, `inclusion_probability`, and `reference`, which is empty and to be filled
    in. Same map and seed: same points; more points of a class begin with the same ones.

    Raises:
        DataError: the map has no reference system.
        OutputError: the file cannot be written.
    """
    if of.grid.crs is None:
        raise DataError(
            f"{of.path}: has no reference system, so points in it have no place; assign it "
            "(gdal_edit.py -a_srs)"
        )
    pool = random_pixels(of, int(plan.points.max()), seed, progress)
    strata: list[str] = []
    chances: list[float] = []
    rows: list[int] = []
    cols: list[int] = []
    for name, size, number in zip(plan.classes, plan.pixels, plan.points, strict=True):
        strata += [name] * int(number)
        chances += [float(number / size)] * int(number)
        rows += pool[name][0][:number].tolist()
        cols += pool[name][1][:number].tolist()
    order = np.random.default_rng(seed).permutation(len(strata)).tolist()
    places = [shapely.Point(of.grid.at(cols[i] + 0.5, rows[i] + 0.5)) for i in order]
    columns: dict[str, Sequence[object]] = {
        "id": list(range(1, len(order) + 1)),
        STRATUM: [strata[i] for i in order],
        INCLUSION: [chances[i] for i in order],
        REFERENCE: [None] * len(order),
    }
    write_features(path, places, columns, of.grid.crs)
