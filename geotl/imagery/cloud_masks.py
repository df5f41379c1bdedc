"""Masks of cloud, shadow and fill next to a scene, applied to its validity."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Bools
from geotl.errors import DataError
from geotl.imagery.band_files import finest_named
from geotl.imagery.windows import Axis, cover
from geotl.io.images import WindowReader
from geotl.io.raster import Grid

Rule = Literal["scl", "qa_pixel", "nonzero"]
Span = tuple[int, int]  # rows or columns of a grid, from and up to

# Sentinel-2 L2A scene classes (Sen2Cor): no data, then saturated, cloud shadow, cloud of medium
# and high probability, thin cirrus. Snow (11), water, dark and unclassified pixels stay valid.
SCL_FILL = (0,)
SCL_CLOUDY = (1, 3, 8, 9, 10)
# Landsat Collection 2 QA_PIXEL bits: fill, then dilated cloud, cirrus, cloud, cloud shadow.
# Snow (bit 5) stays valid.
QA_FILL = 1 << 0
QA_CLOUDY = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4
_NAMED: tuple[tuple[Rule, re.Pattern[str]], ...] = tuple(
    (rule, re.compile(rf"(?:^|.*[_.\-]){word}(?:_\d+m)?", re.IGNORECASE))  # type: ignore[misc]
    for rule, word in (("scl", "SCL"), ("qa_pixel", "QA_PIXEL"), ("nonzero", "cloud_?mask"))
)


def decoded(codes: NDArray[Any], rule: Rule) -> tuple[Bools, Bools]:
    """Which pixels are cloudy, shaded or the like, and which were not measured at all.

    Args:
        codes: codes of the mask, of any shape.
        rule: `scl` (Sentinel-2 scene classes), `qa_pixel` (Landsat Collection 2 bits), or
            `nonzero`, by which every value but 0 is cloudy.

    >>> cloudy, fill = decoded(np.array([0, 4, 9, 10, 11]), "scl")
    >>> cloudy.tolist(), fill.tolist()
    ([False, False, True, True, False], [True, False, False, False, False])
    """
    if rule == "scl":
        return np.isin(codes, SCL_CLOUDY), np.isin(codes, SCL_FILL)
    if rule == "qa_pixel":
        bits = codes.astype(np.int64)
        return bits & QA_CLOUDY != 0, bits & QA_FILL != 0
    return codes != 0, np.zeros(codes.shape, dtype=bool)


def rule_of(name: str) -> Rule | None:
    """The rule to read a mask of this file or band name, None if it is no cloud mask.

    >>> rule_of("T33UUU_20220706T085611_SCL_20m"), rule_of("cloud_mask"), rule_of("T33UUU_B02")
    ('scl', 'nonzero', None)
    """
    return next((rule for rule, named in _NAMED if named.fullmatch(name)), None)


def find_mask(images: Sequence[Path]) -> Path | None:
    """The mask among a scene's files: an SCL, else a QA_PIXEL, else a cloud mask.

    Raises:
        DataError: there are several of one kind.
    """
    for rule, _ in _NAMED:
        masks = finest_named([path for path in images if rule_of(path.stem) == rule])
        if len(masks) > 1:
            raise DataError(
                f"{masks[0]}: one of {len(masks)} masks ({', '.join(p.name for p in masks)}); "
                "name the right one with data.mask, or remove the others"
            )
        if masks:
            return masks[0]
    return None


@dataclass(frozen=True)
class CloudMask:
    """A mask laid on a scene's grid by nearest pixel."""

    reader: WindowReader
    position: int
    rule: Rule
    rows: Axis
    columns: Axis

    @property
    def path(self) -> Path:
        """The mask's file."""
        return self.reader.path

    def read(self, rows: Span, columns: Span) -> tuple[Bools, Bools]:
        """Cloudy pixels and fill pixels, both [h,w], in rows and columns of the scene."""
        needed_rows, down = self.rows.part(*rows)
        needed_columns, across = self.columns.part(*columns)
        codes, _ = self.reader.read(needed_rows, needed_columns, [self.position])
        return decoded(codes[0][np.ix_(down.nearest, across.nearest)], self.rule)

    def close(self) -> None:
        """Close the mask's file."""
        self.reader.close()


def open_mask(path: Path, grid: Grid, *, band: str | None = None) -> CloudMask:
    """A mask file on a scene's grid: the whole file, or one band by its name.

    Files called SCL or QA_PIXEL hold such codes; in any other, what is not zero is not valid.

    Raises:
        DataError: a file that is no mask of one integer band, or does not cover the scene.
    """
    reader = WindowReader(path, band_count=None if band else 1)
    names = reader.info.band_names
    if band is None and len(names) != 1:
        raise DataError(
            f"{path}: has {len(names)} bands; a mask has one, in which values other than 0 are "
            "not valid: write that band to a separate file"
        )
    rule = rule_of(band or path.stem) or "nonzero"
    if rule != "nonzero" and reader.info.dtype.kind not in "iu":
        raise DataError(
            f"{path}: pixels of type {reader.info.dtype}, but SCL and QA_PIXEL have "
            "integers; convert it"
        )
    try:
        places = cover(grid, reader.info.grid)
    except DataError as error:
        raise DataError(f"{path}: the mask {error}") from error
    return CloudMask(reader, names.index(band) if band else 0, rule, *places)
