"""Result of `geotl suggest`: points to label next, as printed lines and as a GeoPackage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import shapely

from geotl.arrays import Floats
from geotl.console import aligned
from geotl.errors import OutputError
from geotl.io.files import check_absent
from geotl.io.vector import write_features


@dataclass(frozen=True)
class WindowCounts:
    """Numbers of windows examined, by result.

    Attributes:
        windows: number of all windows.
        taken: overlapping labelled areas.
        unseen: cloudy or without data.
        inside: number in the area of applicability, without taken and unseen ones.
    """

    windows: int = 0
    taken: int = 0
    unseen: int = 0
    inside: int = 0

    def __add__(self, other: WindowCounts) -> WindowCounts:
        """The windows of both."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return WindowCounts(*(mine + theirs for mine, theirs in pairs))

    @property
    def free(self) -> int:
        """Windows that could be labelled, inside the area of applicability or not."""
        return self.windows - self.taken - self.unseen


@dataclass(frozen=True)
class Suggestions:
    """Windows or pixels to label next, best first.

    Attributes:
        points: the middle of each window's centre pixel, in `crs`.
        crs: the first scene's.
        classes: likeliest class of each.
        confidence: calibrated probability of the suggested class.
        entropy: normalised, 0 to 1.
        dissimilarity: index of each; the area of applicability ends at `threshold`.
        scenes: the scene's name of each.
        counts: numbers of the windows examined.
        threshold: threshold of the dissimilarity.
        wanted: number of suggestions requested.
        outside: whether windows outside the area of applicability were allowed.
        reasons: the likeliest classes of each, in a few words, and how typical it is.
        unit: windows or pixels.
        notes: remarks for the user, one line each.
    """

    points: tuple[shapely.Geometry, ...]
    crs: str
    classes: tuple[str, ...]
    confidence: tuple[float, ...]
    entropy: tuple[float, ...]
    dissimilarity: tuple[float, ...]
    scenes: tuple[str, ...]
    counts: WindowCounts
    threshold: float
    wanted: int
    outside: bool
    reasons: tuple[str, ...]
    unit: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of suggestions."""
        return len(self.points)

    def lines(self) -> list[str]:
        """The candidates and the suggestions, in printed lines."""
        counts = self.counts
        lines = [
            *self.notes,
            f"{counts.windows:,} {self.unit} examined: {counts.taken:,} in labelled areas, "
            f"{counts.unseen:,} cloudy or without data; of the other {counts.free:,}, "
            f"{counts.inside:,} inside the area of applicability (dissimilarity up to "
            f"{self.threshold:.2f})",
        ]
        if len(self) < self.wanted:
            out = "" if self.outside else "; --ignore-applicability allows others"
            lines.append(
                f"fewer than the {self.wanted} wanted: {len(self)} lie there without overlap{out}"
            )
        return lines + self._table()

    def _table(self) -> list[str]:
        rows = [("suggested class", "points", "mean confidence")]
        for name, count in Counter(self.classes).most_common():
            confidences = [
                c for c, of in zip(self.confidence, self.classes, strict=True) if of == name
            ]
            rows.append((name, str(count), f"{np.mean(confidences):.2f}"))
        return aligned(rows, left=(0,)) if self.classes else []


def reasons(probabilities: Floats, classes: Sequence[str]) -> Iterator[str]:
    """The two likeliest classes of each [n,K] with their probabilities.

    >>> list(reasons(np.array([[0.5, 0.1, 0.4]]), ["field", "town", "water"]))
    ['field 0.50 or water 0.40']
    """
    for row, order in zip(probabilities, (-probabilities).argsort(axis=1), strict=True):
        yield " or ".join(f"{classes[k]} {row[k]:.2f}" for k in order[:2])


def write_suggestions(path: Path, suggestions: Suggestions, *, overwrite: bool = False) -> None:
    """Write suggestions as points of a GeoPackage, with an empty field `class` to fill in.

    Each point lies in the middle of the centre pixel of its window, so that with labels.chip_px
    the model's tile size the file gives exactly these windows; a pixel model's gives these pixels.

    Raises:
        OutputError: the file is there already, or cannot be written.
    """
    check_target(path, overwrite=overwrite)
    count = len(suggestions)
    columns: dict[str, Sequence[object]] = {
        "id": list(range(1, count + 1)),
        "rank": list(range(1, count + 1)),
        "class": [None] * count,
        "suggested": list(suggestions.classes),
        "confidence": list(suggestions.confidence),
        "entropy": list(suggestions.entropy),
        "dissimilarity": list(suggestions.dissimilarity),
        "reason": list(suggestions.reasons),
        "inside": [value <= suggestions.threshold for value in suggestions.dissimilarity],
        "scene": list(suggestions.scenes),
    }
    write_features(path, suggestions.points, columns, suggestions.crs)


def check_target(path: Path, *, overwrite: bool) -> None:
    """Reject an existing file, or a name that is no GeoPackage's, before anything is read.

    Raises:
        OutputError: it may not be written.
    """
    if path.suffix.lower() != ".gpkg":
        raise OutputError(
            f"{path}: points are written as a GeoPackage; give a name ending in .gpkg"
        )
    check_absent(path, overwrite=overwrite)
