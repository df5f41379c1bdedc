"""Reference data of a map's assessment: read from files, or sampled by stratum."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from geotl.arrays import Float64s, Int64s
from geotl.console import Progress
from geotl.data.labels import name_of
from geotl.errors import DataError, nearest
from geotl.evaluation.area_estimation import Allocation, allocate, sample_size
from geotl.evaluation.class_map import ClassMap, random_pixels, survey
from geotl.io.raster import Grid
from geotl.io.vector import Features, field_names, positions, read_features, write_features
from geotl.language import msg

STRATUM, INCLUSION, REFERENCE = "stratum", "inclusion_probability", "reference"
_FIELDS = (REFERENCE, "class", "label", "class_name")
_SUFFIXES = frozenset({".tif", ".tiff", ".vrt", ".img", ".jp2", ".png", ".bil", ".asc"})
_MINIMUM = 50  # points in a class: as in the paper's examples
_EXPECTED = 0.8  # user's accuracy where none is given


@dataclass(frozen=True)
class References:
    """Points and what is known at them.

    Attributes:
        path: the file.
        ids: one for each point, as the file numbers them.
        labels: class as written; None where the field is empty.
        cols, rows: places in the map's pixels, fractional; nan without a place.
        strata: stratum that each was drawn from, if the file gives it.
        inclusion: its inclusion probability, if the file gives it.
        notes: remarks for the user.
    """

    path: Path
    ids: tuple[str, ...]
    labels: tuple[str | None, ...]
    cols: Float64s
    rows: Float64s
    strata: tuple[str | None, ...] | None
    inclusion: Float64s | None
    notes: tuple[str, ...]


def is_raster(path: str | Path) -> bool:
    """Whether a reference is a raster rather than points, by its file name.

    >>> is_raster("truth.TIF"), is_raster("points.gpkg")
    (True, False)
    """
    return Path(path).suffix.lower() in _SUFFIXES


def read_reference(
    path: str | Path,
    of: ClassMap,
    *,
    field: str | None = None,
    layer: str | None = None,
    crs: str | None = None,
) -> References:
    """Read reference points and place them in a map.

    Args:
        path: any vector format, or a CSV of coordinates.
        of: the map, with a reference system.
        field: field with the class; by default `reference`, `class`, `label` or `class_name`.
        layer: layer of the file, where there are several.
        crs: reference system of the points, where the file does not state it.

    Raises:
        DataError: no such file, layer or field; no reference system; other than points.
    """
    path = Path(path)
    if of.grid.crs is None:
        raise DataError(
            f"{of.path}: has no reference system, so points cannot be placed in it; assign it "
            "(gdal_edit.py -a_srs)"
        )
    fields = field_names(path, layer=layer)
    field = field or class_field(path, fields)
    design_fields = [name for name in (STRATUM, INCLUSION) if name in fields]
    features = read_features(path, layer=layer, fields=[field, *design_fields], crs=crs)
    cols, rows = places_of(features, of.grid)
    strata = features.columns.get(STRATUM)
    inclusion = features.columns.get(INCLUSION)
    return References(
        path=path,
        ids=features.ids,
        labels=tuple(map(name_of, features.columns[field])),
        cols=cols,
        rows=rows,
        strata=None if strata is None else tuple(map(name_of, strata)),
        inclusion=None if inclusion is None else np.array([_number(v) for v in inclusion]),
        notes=features.notes,
    )


def as_classes(
    labels: Sequence[str | None],
    ids: Sequence[str],
    of: ClassMap,
    values: Iterable[int],
    path: Path,
) -> list[str | None]:
    """Labels as names of the map's classes; a number is the class of that value.

    Args:
        labels: labels as in the file, None for none.
        ids: ids of the points.
        of: the map.
        values: values of the map's pixels.
        path: the file the labels came from.

    Raises:
        DataError: labels that are no class of the map, with the nearest.
    """
    legend = {value: of.name(value) for value in sorted({*values, *of.names})}
    class_names = set(legend.values())
    by_number = {str(value): name for value, name in legend.items()}
    strange: dict[str, list[str]] = defaultdict(list)
    labels_found: list[str | None] = []
    for label, which in zip(labels, ids, strict=True):
        name = label if label is None or label in class_names else by_number.get(label)
        if label is not None and name is None:
            strange[label].append(which)
        labels_found.append(name)
    if strange:
        raise DataError(_unknown(strange, class_names, of, path))
    return labels_found


def _unknown(
    strange: Mapping[str, Sequence[str]], class_names: Iterable[str], of: ClassMap, path: Path
) -> str:
    label, where = next(iter(strange.items()))
    remedy = "correct the labels, or give the map's classes the same names with --names"
    hint = nearest(label, sorted(class_names), remedy)
    others = len(strange) - 1
    more = f" (and {others} more labels)" if others else ""
    return f"{path}: label {label!r} (points {some(where)}){more} is no class of {of.path}; {hint}"


def some(ids: Sequence[str], most: int = 12) -> str:
    """The first few of many ids.

    >>> some(["3", "5", "8"], 2)
    '3, 5 and 1 more'
    """
    more = len(ids) - most
    named = ", ".join(ids[:most])
    return msg("{ids} and {n} more", ids=named, n=more) if more > 0 else named


def class_field(path: Path, fields: Sequence[str]) -> str:
    """The field of reference points with their class, where the user names none.

    Raises:
        DataError: none of the fields that are looked for.
    """
    for name in _FIELDS:
        if name in fields:
            return name
    raise DataError(
        f"{path}: none of the fields {', '.join(_FIELDS)}; choose the field with the class "
        f"with --field; there are: {', '.join(fields) or 'none'}"
    )


def places_of(features: Features, grid: Grid) -> tuple[Float64s, Float64s]:
    """Fractional columns and rows of points on a grid, nan where there is no place.

    Raises:
        DataError: other than points.
    """
    kinds = {shape.geom_type for shape in features.geometries if shape is not None}
    if kinds - {"Point"}:
        raise DataError(
            f"{features.path}: contains {', '.join(sorted(kinds))}; allowed: points, or a class "
            "raster "
            "(rasterise polygons on the map's grid with gdal_rasterize)"
        )
    xy = np.full((len(features.geometries), 2), np.nan)
    there = [
        i for i, shape in enumerate(features.geometries) if shape is not None and not shape.is_empty
    ]
    if there:
        plain = np.array([[features.geometries[i].x, features.geometries[i].y] for i in there])
        xy[there] = positions(plain, features.crs, str(grid.crs))
    return _pixels(grid, xy)


def _pixels(grid: Grid, xy: Float64s) -> tuple[Float64s, Float64s]:
    """Fractional columns and rows of positions [N,2]: the inverse of `Grid.at`.

    >>> grid = Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0), 391, 517)
    >>> [float(v[0]) for v in _pixels(grid, np.array([[500015.0, 4599985.0]]))]
    [1.5, 1.5]
    """
    a, b, c, d, e, f = grid.transform
    x, y = xy[:, 0] - c, xy[:, 1] - f
    scale = a * e - b * d
    return (e * x - b * y) / scale, (a * y - d * x) / scale


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


@dataclass(frozen=True)
class SamplePlan:
    """Number of points in each class.

    Attributes:
        classes: on the map.
        pixels: number of pixels in each stratum.
        expected: user's accuracy that each is thought to have.
        points: number of points to draw from each stratum.
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
) -> SamplePlan:
    """Count a map's classes and divide a sample among them.

    Args:
        of: the map.
        n: points in all; None for as many as `se_overall` needs.
        se_overall: standard error of overall accuracy that is wanted, where n is None.
        allocation: division of the points: see `allocate`.
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
    accuracies = dict(expected or {})
    other = accuracies.pop("", _EXPECTED)
    for name in accuracies:
        if name not in counted:
            raise DataError(f"{of.path}: no class {name!r} on it; {nearest(name, counted)}")
    users = np.array([accuracies.get(name, other) for name in counted])
    pixels = np.array(list(counted.values()), dtype=np.int64)
    wanted = sample_size(pixels, users, se_overall) if n is None else n
    if minimum is None:
        minimum = _MINIMUM if n is None else min(_MINIMUM, n // (2 * len(pixels)))
    if n is None:  # the minima are added to what the error needs, as far as pixels reach
        wanted = int(min(max(wanted, np.minimum(minimum, pixels).sum()), pixels.sum()))
    points = allocate(
        pixels, wanted, minimum, method=allocation, expected_users=users, available=pixels
    )
    return SamplePlan(tuple(counted), pixels, users, points, expected_error(pixels, users, points))


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
    of: ClassMap, plan: SamplePlan, path: Path, *, seed: int = 0, progress: Progress | None = None
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
    probabilities: list[float] = []
    rows: list[int] = []
    cols: list[int] = []
    for name, size, number in zip(plan.classes, plan.pixels, plan.points, strict=True):
        strata += [name] * int(number)
        probabilities += [float(number / size)] * int(number)
        rows += pool[name][0][:number].tolist()
        cols += pool[name][1][:number].tolist()
    order = np.random.default_rng(seed).permutation(len(strata)).tolist()
    places = [shapely.Point(of.grid.at(cols[i] + 0.5, rows[i] + 0.5)) for i in order]
    columns: dict[str, Sequence[object]] = {
        "id": list(range(1, len(order) + 1)),
        STRATUM: [strata[i] for i in order],
        INCLUSION: [probabilities[i] for i in order],
        REFERENCE: [None] * len(order),
    }
    write_features(path, places, columns, of.grid.crs)
