"""Checks of labelled tiles before training: classes, radiometry, nodata, copies and leaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from geotl.arrays import Float64s, Int64s
from geotl.console import Progress
from geotl.data.findings import Finding, Gravity, by_gravity
from geotl.data.radiometry_checks import radiometry_findings, saturation_finding
from geotl.data.tile_array import Pack
from geotl.data.tile_statistics import (
    TileFacts,
    TilePair,
    copies,
    impossible_line,
    impossible_values,
    near_copies,
    overlaps,
    tile_facts,
)
from geotl.data.tiles import TileIndex
from geotl.imagery.sensors import Sensor
from geotl.language import msg, nmsg

FEW_TILES, SCARCE = 10, 5  # tiles of a class: fewer are reported, too few to train on
_UNEVEN = 10.0  # times as many tiles in the largest class as in the smallest
_INVALID = 0.5  # share of invalid pixels from which a tile is reported
_BLANK = 0.05  # share of pixels of 0 in every band that is reported as likely nodata
_FAR = 6.0  # robust standard deviations, over all figures of a tile, from its class
_LISTED = 10  # outliers named
_WHOLE = 0.95  # share of the area from which two footprints are the same place


@dataclass(frozen=True)
class Checked:
    """Labelled tiles and the findings on them.

    Attributes:
        index, pack, sensor: the tiles.
        facts: statistics of the tiles.
        sizes: number of files of each size (height, width), where tiles are files.
        copies: groups of tiles of one content.
        near: pairs of nearly identical tiles.
        overlapping: pairs of tiles that overlap.
        far: (position, distance) of outliers, the farthest first.
        findings: the most serious first.
    """

    index: TileIndex
    pack: Pack
    sensor: Sensor
    facts: TileFacts
    sizes: dict[tuple[int, int], int]
    copies: list[list[int]]
    near: list[TilePair]
    overlapping: list[TilePair]
    far: list[tuple[int, float]]
    findings: list[Finding]


def check_tiles(
    index: TileIndex,
    sensor: Sensor,
    pack: Pack,
    *,
    sizes: Sequence[tuple[int, int]] = (),
    apart: bool = False,
    progress: Progress | None = None,
) -> Checked:
    """Check labelled tiles: classes, values, nodata, copies, overlaps and outliers.

    Args:
        index: names, classes, groups and splits.
        sensor: sensor of the tiles' DN.
        pack: pixels of the tiles.
        sizes: height and width of each file, where there are files.
        apart: whether the split at hand keeps neighbours on one side.
        progress: called with tiles done and tiles in all.
    """
    facts, labels, names = tile_facts(pack, progress), index.labels, index.names
    same, alike = copies(index.contents), near_copies(facts.thumbs)
    copied = {(a, b) for group in same for a in group for b in group if a < b}
    near = [pair for pair in alike if (pair.first, pair.second) not in copied]
    shared = overlaps(pack.footprints, pack.crs)
    far = outliers(np.hstack([facts.mean, facts.sd]), labels)
    seen = copied | {(pair.first, pair.second) for pair in near}
    other = [pair for pair in shared if (pair.first, pair.second) not in seen]
    counted = Counter(sizes)
    duplicates = [TilePair(group[0], other, 1.0) for group in same for other in group[1:]]
    findings = [
        *balance_findings(labels, index.classes),
        *_sizes(counted, pack.images.shape[-1]),
        *radiometry_findings(facts.quantiles, pack.bands, sensor, pack.images.dtype),
        *_impossible(pack, sensor),
        *validity_findings(facts, labels, index.classes, names, sensor),
        *twin_findings("duplicate", duplicates, labels, names),
        *twin_findings("near-duplicate", near, labels, names, apart=apart),
        *twin_findings("overlap", other, labels, names, apart=apart),
        *_across_splits([*duplicates, *near, *other], index),
        *_outlying(far, names, index, labels),
        *_ungrouped(index, pack),
    ]
    saturated = saturation_finding(facts.full, names)
    findings += [saturated] if saturated else []
    return Checked(
        index, pack, sensor, facts, dict(counted), same, near, shared, far, by_gravity(findings)
    )


def _impossible(pack: Pack, sensor: Sensor) -> Iterator[Finding]:
    counts = impossible_values(pack, sensor)
    if counts[0]:
        yield Finding(
            "doubtful",
            msg("impossible values"),
            impossible_line(counts, sensor),
            msg("declare the nodata value (gdal_edit.py -a_nodata), or check data.sensor"),
        )


def balance_findings(labels: Int64s, classes: Sequence[str]) -> Iterator[Finding]:
    """Classes with few tiles, classes of very different size, tiles without a class.

    >>> result = balance_findings(np.array([0] * 60 + [1] * 4), ["field", "wood"])
    >>> [one.kind for one in result]
    ['few tiles', 'imbalance']
    """
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    few = [f"{classes[i]} ({counts[i]})" for i in np.flatnonzero(counts < FEW_TILES).tolist()]
    if few:
        yield Finding(
            "wrong" if (counts < SCARCE).any() else "doubtful",
            msg("few tiles"),
            msg("fewer than {few_tiles} tiles: {names}", few_tiles=FEW_TILES, names=", ".join(few)),
            msg(
                "label more of these classes, or join them with a class they resemble; scores "
                "of a class with fewer than {scarce} test tiles mean very little",
                scarce=SCARCE,
            ),
        )
    least, most = int(counts.min()), int(counts.max())
    if least and most / least >= _UNEVEN:
        yield Finding(
            "worth knowing",
            msg("imbalance"),
            msg(
                "{classes} has {least:.0f} times as many tiles as {classes_2} ({most} and "
                "{least_2})",
                classes=classes[int(counts.argmax())],
                least=most / least,
                classes_2=classes[int(counts.argmin())],
                most=most,
                least_2=least,
            ),
            msg(
                "read balanced accuracy together with overall accuracy; "
                "train.class_weights=balanced or train.balanced_sampling=true evens them out"
            ),
        )
    without = int((labels < 0).sum())
    if without:
        yield Finding(
            "worth knowing",
            msg("no label"),
            nmsg("{n} tile has no class", "{n} tiles have no class", without),
            msg("they neither train nor test a model; probe.semi_supervised may use them"),
        )


def validity_findings(
    facts: TileFacts, labels: Int64s, classes: Sequence[str], names: Sequence[str], sensor: Sensor
) -> Iterator[Finding]:
    """Tiles that are mostly nodata, classes that differ in nodata, and zeros that may be nodata."""
    empty = np.flatnonzero(facts.valid < 1 - _INVALID)
    if empty.size:
        order = empty[np.argsort(facts.valid[empty])].tolist()
        yield Finding(
            "doubtful",
            msg("nodata"),
            nmsg(
                "{n} tile has more than {invalid:.0%} of the pixels without data",
                "{n} tiles have more than {invalid:.0%} of the pixels without data",
                len(order),
                invalid=_INVALID,
            ),
            msg("take them out: a network may learn the shape of the gap"),
            tuple(names[i] for i in order),
        )
    shares = np.array([_mean(1 - facts.valid[labels == k]) for k in range(len(classes))])
    if shares.max(initial=0) > 0.05 and shares.max() > 3 * max(float(np.median(shares)), 1e-9):
        worst = int(shares.argmax())
        yield Finding(
            "doubtful",
            msg("nodata by class"),
            msg(
                "{shares:.0%} of the pixels of {classes} have no data, {median:.0%} of a "
                "typical class",
                shares=shares[worst],
                classes=classes[worst],
                median=np.median(shares),
            ),
            msg(
                "nodata may give the class away; take tiles of the others from the same edges, "
                "or leave such tiles out"
            ),
        )
    blank = np.flatnonzero(facts.blank > _BLANK)
    if blank.size and sensor.nodata is None:
        yield Finding(
            "doubtful",
            msg("zeros"),
            nmsg(
                "{n} tile has more than {blank:.0%} of the pixels at 0 in every band, and no "
                "nodata value is declared",
                "{n} tiles have more than {blank:.0%} of the pixels at 0 in every band, and no "
                "nodata value is declared",
                len(blank),
                blank=_BLANK,
            ),
            msg("if 0 stands for no data, declare it (gdal_edit.py -a_nodata 0)"),
            tuple(names[i] for i in blank.tolist()),
        )


def twin_findings(
    kind: str,
    pairs: Sequence[TilePair],
    labels: Int64s,
    names: Sequence[str],
    *,
    apart: bool = False,
) -> Iterator[Finding]:
    """Tiles that show the same area; of different classes, their labels conflict.

    With `apart` a spatial split is at hand, and none is advised.
    """
    labelled = [p for p in pairs if labels[p.first] >= 0 and labels[p.second] >= 0]
    against = [p for p in labelled if labels[p.first] != labels[p.second]]
    grave = [p for p in against if p.share >= 0.5]
    if grave:
        yield _conflict(kind, grave, names)
    conflicting = set(grave)
    rest = [p for p in pairs if p not in conflicting]
    if not rest:
        return
    excluded = apart and kind == "overlap"
    text, remedy = _twin_words(kind, rest, apart=apart)
    gravity: Gravity = "worth knowing" if excluded else "doubtful"
    yield Finding(gravity, KINDS[kind], text, remedy, _paired(rest, names))


KINDS = {
    "duplicate": msg("duplicate"),
    "near-duplicate": msg("near-duplicate"),
    "overlap": msg("overlap"),
}


def _twin_words(kind: str, pairs: Sequence[TilePair], *, apart: bool) -> tuple[str, str]:
    """What is the matter with tiles that show the same area, and what to do."""
    count, turned = len(pairs), sum(p.turned for p in pairs)
    if kind == "duplicate":
        return nmsg(
            "{n} tile repeats another one byte by byte",
            "{n} tiles repeat another one byte by byte",
            count,
        ), msg(
            "keep one of each; copies are kept on one side of a split here, but count twice in "
            "every figure"
        )
    if kind == "overlap":
        share = max(p.share for p in pairs)
        return nmsg(
            "{n} pair of overlapping tiles, by at most {share:.0%} of a tile",
            "{n} pairs of overlapping tiles, by at most {share:.0%} of a tile",
            count,
            share=share,
        ), _overlap_remedy(apart=apart)
    found = nmsg("{n} pair of nearly identical tiles", "{n} pairs of nearly identical tiles", count)
    if turned:
        found = msg("{pairs}, {turned} of them turned or mirrored", pairs=found, turned=turned)
    return found, _near_remedy(apart=apart)


def _overlap_remedy(*, apart: bool) -> str:
    if apart:
        return msg("the recipe's split excludes training tiles that overlap a test tile")
    return msg(
        "split by blocks or by group, never at random: shared pixels on both sides flatter the "
        "accuracy"
    )


def _near_remedy(*, apart: bool) -> str:
    if apart:
        return msg("keep one of each: on both sides of a split they flatter the accuracy")
    return msg(
        "keep one of each, or keep them together (split.method=blocks, or one group in tiles.csv "
        "and split.method=group): on both sides of a split they flatter the accuracy"
    )


def _conflict(kind: str, pairs: Sequence[TilePair], names: Sequence[str]) -> Finding:
    """Two classes for the same pixels; where tiles overlap only in part, both may be right."""
    partly = kind == "overlap" and max(p.share for p in pairs) < _WHOLE
    return Finding(
        "doubtful" if partly else "wrong",
        msg("label conflict"),
        _conflict_words(kind, len(pairs)),
        msg("choose smaller chips, so that each shows one class, or remove both")
        if partly
        else msg("look at both and correct the class, or remove both"),
        _paired(pairs, names),
    )


def _conflict_words(kind: str, count: int) -> str:
    """How much two tiles of different classes have in common."""
    if kind == "duplicate":
        return nmsg(
            "{n} pair has the same pixels and different classes",
            "{n} pairs have the same pixels and different classes",
            count,
        )
    if kind == "near-duplicate":
        return nmsg(
            "{n} pair has nearly the same pixels and different classes",
            "{n} pairs have nearly the same pixels and different classes",
            count,
        )
    return nmsg(
        "{n} pair has at least half of their area in common and different classes",
        "{n} pairs have at least half of their area in common and different classes",
        count,
    )


def outliers(figures: Float64s, labels: Int64s) -> list[tuple[int, float]]:
    """Tiles far from their class, as (position, distance), the farthest first.

    The distance is the root mean square, over all figures [N,F] of a tile, of its deviations from
    the class's median in robust standard deviations (1.4826 times the median absolute deviation).
    Classes of fewer than 10 tiles are left out.
    """
    outlying: list[tuple[int, float]] = []
    for label in np.unique(labels[labels >= 0]).tolist():
        rows = np.flatnonzero(labels == label)
        if len(rows) < FEW_TILES:
            continue
        about = figures[rows] - np.median(figures[rows], axis=0)
        spread = 1.4826 * np.median(np.abs(about), axis=0)
        usable = spread > 1e-9 * np.maximum(np.abs(figures[rows]).max(axis=0), 1e-12)
        if not usable.any():
            continue
        far = np.sqrt(((about[:, usable] / spread[usable]) ** 2).mean(axis=1))
        outlying += [(int(rows[i]), float(far[i])) for i in np.flatnonzero(far > _FAR).tolist()]
    return sorted(outlying, key=lambda pair: -pair[1])


def _outlying(
    far: Sequence[tuple[int, float]], names: Sequence[str], index: TileIndex, labels: Int64s
) -> Iterator[Finding]:
    if far:
        examples = ", ".join(
            f"{names[i]} ({index.classes[labels[i]]}, {d:.0f})" for i, d in far[:3]
        )
        yield Finding(
            "worth knowing",
            msg("outlier"),
            nmsg(
                "{n} tile far from the rest of the class in band means and contrasts, by robust"
                " standard deviations: {examples}",
                "{n} tiles far from the rest of the class in band means and contrasts, by "
                "robust standard deviations: {examples}",
                len(far),
                examples=examples,
            ),
            msg("look at them: clouds, a wrong label, or a rare form of the class"),
            tuple(names[i] for i, _ in far[:_LISTED]),
        )


def _sizes(counted: Counter[tuple[int, int]], side: int) -> Iterator[Finding]:
    other = sum(number for size, number in counted.items() if size != (side, side))
    if other:
        listed = ", ".join(f"{w}x{h} ({n})" for (h, w), n in counted.most_common(4))
        yield Finding(
            "worth knowing",
            msg("sizes"),
            nmsg(
                "{n} tile is not {side}x{side} px, as the others are: {listed}",
                "{n} tiles are not {side}x{side} px, as the others are: {listed}",
                other,
                side=side,
                listed=listed,
            ),
            msg(
                "they are padded or cropped around their centre; data.fit=resize resamples "
                "them, data.tile_px chooses another size"
            ),
        )


def _across_splits(pairs: Sequence[TilePair], index: TileIndex) -> Iterator[Finding]:
    """Tiles with the same content on both sides of the split that the table gives."""
    sides = [tile.split for tile in index.tiles]
    both = [
        p for p in pairs if sides[p.first] and sides[p.second] and sides[p.first] != sides[p.second]
    ]
    if both:
        yield Finding(
            "wrong",
            msg("leak"),
            nmsg(
                "{n} pair of tiles that show the same, on both sides of the split that the "
                "table gives",
                "{n} pairs of tiles that show the same, on both sides of the split that the "
                "table gives",
                len(both),
            ),
            msg("put both on one side: a test tile must not be among the training tiles"),
            _paired(both, index.names),
        )


def _ungrouped(index: TileIndex, pack: Pack) -> Iterator[Finding]:
    if not any(pack.footprints) and not any(tile.group for tile in index.tiles):
        yield Finding(
            "worth knowing",
            msg("no places"),
            msg("the tiles have neither a position nor a group"),
            msg(
                "neighbouring tiles on both sides of a random split flatter the accuracy: give "
                "a group or x, y and crs for each tile in tiles.csv, if you know them"
            ),
        )


def _paired(pairs: Sequence[TilePair], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{names[p.first]} = {names[p.second]}" for p in pairs)


def _mean(values: Float64s) -> float:
    return float(values.mean()) if values.size else 0.0
