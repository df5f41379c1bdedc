"""Accuracy of a class map and area of each class: a map compared with its reference."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geotl.arrays import Float64s, Int64s
from geotl.console import Progress
from geotl.errors import DataError
from geotl.evaluation.area_estimation import AreaEstimate, census, estimate, too_few
from geotl.evaluation.class_map import ClassMap, Survey, cross, open_map, same_grid, survey
from geotl.evaluation.reference_points import References, as_classes, read_reference
from geotl.evaluation.sample_design import (
    Design,
    check_design,
    placement_warnings,
    simple_warning,
    training_boxes,
)
from geotl.io.geodesy import areal_scales
from geotl.language import msg

_AREA_OFF = 0.01  # share by which a projection may change areas without a note
_LAID = "the reference has another grid; it was resampled to the map's grid by nearest neighbour"
_COUNTED = (
    "pixels without a reference are left out, of the mapped areas too, which may be less than in "
    "the map's own table"
)
_LEARNT = "training areas are included where they lie in the reference"


@dataclass(frozen=True)
class Assessment:
    """A map's accuracy and areas, and what a reader must know of them.

    Attributes:
        map, reference: the files.
        classes: classes of map or reference, in the order of the map's values.
        colours: #rrggbb of each class, "" where the map has none.
        result: the estimates; areas are in square metres if `in_metres`, else in pixels.
        in_metres: whether the map has a reference system.
        design: sampling design of the reference, in words.
        sampled: whether it is a sample (else a census of all pixels).
        rejected: ids of points that do not count, by reason.
        warnings: reasons to doubt the figures.
        notes: further remarks.
    """

    map: Path
    reference: Path
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    result: AreaEstimate
    in_metres: bool
    design: str
    sampled: bool
    rejected: Mapping[str, tuple[str, ...]]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


def assess_points(
    of: ClassMap,
    path: str | Path,
    *,
    field: str | None = None,
    layer: str | None = None,
    crs: str | None = None,
    design: Design | None = None,
    progress: Progress | None = None,
) -> Assessment:
    """Compare a map with reference points.

    Args:
        of: the map.
        path: points in any vector format, or a CSV of coordinates.
        field: see `read_reference`, for layer and crs too.
        layer: layer of the file.
        crs: reference system of the points, where the file does not state it.
        design: how the points were drawn, where the file does not state it: stratified by mapped
            class, simple random (or systematic), or not at random.
        progress: called with blocks done and blocks in all, for each pass over the map.

    Raises:
        DataError: a file, layer, field or label that cannot be used, or no usable point.
    """
    points = read_reference(path, of, field=field, layer=layer, crs=crs)
    pixels = survey(of, points.cols, points.rows, progress)
    labels = as_classes(points.labels, points.ids, of, pixels.pixels, points.path)
    mapped = _mapped(of, pixels)
    rejected = _rejected(points, pixels, labels)
    used = np.array([a is not None and b is not None for a, b in zip(labels, mapped, strict=True)])
    if not used.any():
        reasons = ", ".join(f"{len(ids)} {reason}" for reason, ids in rejected.items())
        raise DataError(
            f"{points.path}: no usable reference point for {of.path} ({reasons or 'it is empty'})"
        )
    classes = _classes(of, pixels.pixels, labels)
    sizes = _by_class(of, pixels.areas_m2 or pixels.pixels, classes)
    matrix = _counted(classes, mapped, labels)
    checked = check_design(of, points, pixels, mapped, design)
    warnings = [
        *checked.warnings,
        *(_as_notes(simple_warning(matrix.sum(axis=1), sizes)) if checked.simple else ()),
        *placement_warnings(of, points, mapped, used, drawn=checked.drawn, progress=progress),
        *_few(matrix, sizes, classes),
        *_projection(of),
    ]
    return Assessment(
        map=of.path,
        reference=points.path,
        classes=classes,
        colours=_colours(of, classes),
        result=estimate(matrix, sizes, 1.0),
        in_metres=pixels.areas_m2 is not None,
        design=checked.words,
        sampled=True,
        rejected=rejected,
        warnings=tuple(warnings),
        notes=(*points.notes, *_certain(matrix, classes)),
    )


def assess_raster(
    of: ClassMap, path: str | Path, names: Mapping[int, str] | None, progress: Progress | None
) -> Assessment:
    """Compare a map with a reference raster.

    Args:
        of: the map.
        path: a class raster; it is laid on the map's grid by nearest neighbour.
        names: names of the reference's classes by value, where the file has none; the names of
            the map where neither is given.
        progress: called with blocks done and blocks in all.

    Raises:
        DataError: the reference cannot be read, has classes that the map does not know, or shares
            no valid pixel with it.
    """
    reference = open_map(path, names)
    if not reference.names:
        reference = dataclasses.replace(reference, names=of.names)
    pairs = cross(of, reference, progress)
    if not pairs:
        raise DataError(f"{path}: no pixel that is valid here and in {of.path}; check the places")
    ours = Counter({a: 0 for a, _ in pairs})
    values = sorted({b for _, b in pairs})
    names_given = as_classes(
        [reference.name(v) for v in values],
        [f"of value {v}" for v in values],
        of,
        ours,
        reference.path,
    )
    theirs = dict(zip(values, names_given, strict=True))
    classes = _classes(of, ours, names_given)
    matrix, sizes = np.zeros((2, len(classes), len(classes)))
    for (a, b), (number, area) in pairs.items():
        cell = classes.index(of.name(a)), classes.index(str(theirs[b]))
        matrix[cell] += number
        sizes[cell] += area
    in_metres = of.grid.crs is not None
    return Assessment(
        map=of.path,
        reference=reference.path,
        classes=classes,
        colours=_colours(of, classes),
        result=census(matrix, sizes if in_metres else matrix),
        in_metres=in_metres,
        design="a census: the reference is known at every pixel, so there is no sampling error",
        sampled=False,
        rejected={},
        warnings=tuple(_projection(of)),
        notes=tuple(_raster_notes(of, reference)),
    )


def _raster_notes(of: ClassMap, reference: ClassMap) -> Iterator[str]:
    """Notes on what the figures of a census include and exclude."""
    if not same_grid(of.grid, reference.grid):
        yield _LAID
    yield _COUNTED
    if len(training_boxes(of.tags)):
        yield _LEARNT


def _mapped(of: ClassMap, pixels: Survey) -> list[str | None]:
    """Class of the map at each point, None outside it and at nodata."""
    return [
        None if status else of.name(int(value))
        for value, status in zip(pixels.value, pixels.status, strict=True)
    ]


def _counted(
    classes: Sequence[str], mapped: Sequence[str | None], labels: Sequence[str | None]
) -> Int64s:
    """Points by mapped class (rows) and reference class (columns) [K,K]; only those with both."""
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    for there, label in zip(mapped, labels, strict=True):
        if there is not None and label is not None:
            matrix[classes.index(there), classes.index(label)] += 1
    return matrix


def _rejected(
    points: References, pixels: Survey, labels: Sequence[str | None]
) -> dict[str, tuple[str, ...]]:
    """Ids of the points that do not count, by reason."""
    why: dict[str, list[str]] = {}
    for name, x, status, label in zip(
        points.ids, points.cols, pixels.status.tolist(), labels, strict=True
    ):
        reason = (
            "without a place"
            if np.isnan(x)
            else "outside the map"
            if status == "outside"
            else "on nodata of the map"
            if status
            else "without a class"
            if label is None
            else None
        )
        if reason:
            why.setdefault(reason, []).append(name)
    return {reason: tuple(ids) for reason, ids in why.items()}


def _classes(
    of: ClassMap, pixels: Mapping[int, int], labels: Sequence[str | None]
) -> tuple[str, ...]:
    """Names of the classes on the map or in the reference, in the order of the map's values."""
    there = {of.name(value) for value in pixels} | {name for name in labels if name}
    ordered = dict.fromkeys(of.name(value) for value in sorted({*pixels, *of.names}))
    return tuple(name for name in ordered if name in there)


def _by_class(of: ClassMap, by_value: Mapping[int, float], classes: Sequence[str]) -> Float64s:
    totals: Counter[str] = Counter()
    for value, amount in by_value.items():
        totals[of.name(value)] += amount  # type: ignore[assignment]
    return np.array([float(totals[name]) for name in classes])


def _colours(of: ClassMap, classes: Sequence[str]) -> tuple[str, ...]:
    of_classes = {of.name(value): colour for value, colour in of.colours.items()}
    return tuple(of_classes.get(name, "") for name in classes)


def _few(matrix: Int64s, sizes: Float64s, classes: Sequence[str]) -> list[str]:
    """Lines on mapped classes with too few points to estimate from."""
    rows = matrix.sum(axis=1)
    return [
        _few_words(classes[place], int(rows[place])) for place in too_few(matrix, sizes).tolist()
    ]


def _few_words(name: str, points: int) -> str:
    """What cannot be estimated of a class with too few points."""
    if not points:
        return msg(
            "class {name} is mapped but has 0 reference points: nothing but the others' user's "
            "accuracies can be estimated; add points there (2 at least, 50 are usual), or join it "
            "to another class with --names",
            name=name,
        )
    return msg(
        "class {name} is mapped but has {points} reference points: no interval can be estimated; "
        "add points there (2 at least, 50 are usual), or join it to another class with --names",
        name=name,
        points=points,
    )


def _certain(matrix: Int64s, classes: Sequence[str]) -> list[str]:
    """A line on classes without an error among their points."""
    rows, right = matrix.sum(axis=1), np.diag(matrix)
    sure = [
        f"{classes[i]} ({rows[i]})" for i in np.flatnonzero((rows == right) & (rows > 1)).tolist()
    ]
    if not sure:
        return []
    return [
        f"no error among the points of {', '.join(sure)}: an interval of ± 0 there is no certainty"
    ]


def _projection(of: ClassMap) -> list[str]:
    low, high = areal_scales(of.grid)
    if max(abs(low - 1), abs(high - 1)) <= _AREA_OFF:
        return []
    return [
        msg(
            "{crs} enlarges areas by {low:.3f} to {high:.3f} here, and the areas below with"
            " them; reproject the map to an equal-area system (gdalwarp -t_srs)",
            crs=of.grid.crs,
            low=low,
            high=high,
        )
    ]


def _as_notes(line: str | None) -> tuple[str, ...]:
    return (line,) if line else ()
