"""How a map is made, and which files it can consist of.

A further layer is a field of `MapOptions`, a line in `CHOICES`, and its values in
`layers._shown`; the command line, the outputs and the xarray Dataset follow. Nothing heavy is
imported here, so that the command line can list the layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from geotl.errors import DataError

if TYPE_CHECKING:
    from geotl.models.device import Precision

Overviews = Literal["mode", "nearest", "average"]
NODATA = 255
DEFAULT_COVERAGE = 0.9
SMOOTH_PX = range(3, 102, 2)  # sides of windows whose sums `inference.smoothing` keeps exact


@dataclass(frozen=True)
class MapLayer:
    """A file of a map.

    Attributes:
        suffix: of its name, behind the map's own.
        dtype: of its values.
        nodata: the number for no value.
        overviews: how coarser levels are made of it.
        bands: what each band holds; of a layer with a band for each class, one text with {}.
        units: of its values, "" for none.
        per_class: whether there is a band for each class.
    """

    suffix: str
    dtype: str
    nodata: float
    overviews: Overviews
    bands: tuple[str, ...]
    units: str = ""
    per_class: bool = False


@dataclass(frozen=True)
class LayerChoice:
    """Layers that are written where an option of the same name asks for them."""

    option: str
    help: str
    files: Mapping[str, MapLayer]


CONFIDENCE = MapLayer("_confidence", "uint8", NODATA, "nearest", ("confidence [%]",), "percent")
CLASSES = MapLayer("", "uint8", NODATA, "mode", ("class",))
CHOICES = (
    LayerChoice(
        "probabilities",
        "write the probability of every class",
        {
            "probabilities": MapLayer(
                "_probabilities",
                "float32",
                math.nan,
                "average",
                ("probability of {}",),
                per_class=True,
            )
        },
    ),
    LayerChoice(
        "applicability",
        "write where the model applies (dissimilarity index and area of applicability)",
        {
            "applicability": MapLayer(
                "_applicability", "uint8", NODATA, "mode", ("inside the area of applicability",)
            ),
            "dissimilarity": MapLayer(
                "_dissimilarity", "float32", math.nan, "average", ("dissimilarity index",)
            ),
        },
    ),
    LayerChoice(
        "entropy",
        "write the entropy of the probabilities [percent of the maximum]",
        {
            "entropy": MapLayer(
                "_entropy", "uint8", NODATA, "nearest", ("entropy [% of most]",), "percent"
            )
        },
    ),
    LayerChoice(
        "sets",
        "write prediction sets: the classes that a cell may be of, and how many they are",
        {
            "sets": MapLayer(
                "_sets", "uint8", NODATA, "nearest", ("may be {} [1: yes]",), per_class=True
            ),
            "set_size": MapLayer(
                "_set_size", "uint8", NODATA, "nearest", ("classes that it may be",)
            ),
        },
    ),
)


@dataclass(frozen=True)
class MapOptions:
    """How a map is made.

    Attributes:
        step_px: pixels between windows; None for half a window.
        posting_px: side of a cell of the map, which divides the step; None for the step.
        mode: exact (window by window), dense (batched over the block), auto (dense if it agrees).
        views: flips and quarter turns averaged; None for one, or with the applicability as many
            as the training features it is measured against were averaged over.
        block_px: side of the blocks that are read.
        min_valid: smallest share of a window's pixels that are valid.
        precision: number format of the network.
        member: of a pixel model, that maps alone; None for all together.
        probabilities: write every class's probability too.
        smooth_px: odd side of the windows in which the probabilities of a pixel model are smoothed;
            None for no smoothing.
        mmu_ha: minimum mapping unit in hectares: patches below it take the class of their largest
            neighbour in the class map; 0 for none.
        applicability: write where the model applies too.
        entropy: write how mixed the answer is too.
        sets: write the prediction set of each cell too.
        coverage: that the sets have, between 0 and 1.
        polygons: write polygons of the classes too.
        min_area_m2: smaller polygons are merged into their largest neighbour.
        force: map whatever the values are like.
        overwrite: replace existing outputs.
        page: draw the map as a PNG and as an HTML page too.
        mark: kept in the tags, by which a finished map is known again.

    Raises:
        DataError: a figure outside its range.
    """

    step_px: int | None = None
    posting_px: int | None = None
    mode: Literal["auto", "exact", "dense"] = "auto"
    views: Literal[1, 2, 4, 8] | None = None
    block_px: int = 1024
    min_valid: float = 0.5
    precision: Precision = "auto"
    member: str | None = None
    smooth_px: int | None = None
    mmu_ha: float = 0.0
    probabilities: bool = False
    applicability: bool = False
    entropy: bool = False
    sets: bool = False
    coverage: float = DEFAULT_COVERAGE
    polygons: bool = False
    min_area_m2: float = 0.0
    force: bool = False
    overwrite: bool = False
    page: bool = True
    mark: str = ""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 < self.min_valid <= 1:
            raise DataError(f"min-valid {self.min_valid:g}: allowed is above 0 and at most 1")
        if self.block_px < 1:
            raise DataError(f"block-px {self.block_px}: allowed is 1 or more")
        if not self.min_area_m2 >= 0:
            raise DataError(f"min-area {self.min_area_m2:g}: allowed is 0 m2 or more")
        if self.smooth_px is not None and self.smooth_px not in SMOOTH_PX:
            last = SMOOTH_PX[-1]
            raise DataError(f"smooth-px {self.smooth_px}: allowed are odd numbers from 3 to {last}")
        if not 0 < self.coverage < 1:
            raise DataError(f"coverage {self.coverage:g}: allowed is between 0 and 1")
        if self.sets and (self.smooth_px is not None or self.member is not None):
            raise DataError(
                "sets: their coverage is measured with all members and without smoothing; leave "
                "smooth-px and member away, or sets"
            )
        if not 0 <= self.mmu_ha < math.inf:
            raise DataError(f"mmu-ha {self.mmu_ha:g}: allowed is 0 ha or more")


def layers(classes: Sequence[str], options: MapOptions | None) -> dict[str, MapLayer]:
    """The rasters that a map consists of, the class map last.

    Args:
        classes: names, for layers with a band for each.
        options: which are wanted; None for every one there is.

    >>> list(layers(["field"], MapOptions(entropy=True)))
    ['confidence', 'entropy', 'classes']
    """
    by_name = {"confidence": CONFIDENCE}
    for choice in CHOICES:
        if options is None or getattr(options, choice.option):
            by_name |= {name: _of_classes(layer, classes) for name, layer in choice.files.items()}
    return by_name | {"classes": CLASSES}


def _of_classes(layer: MapLayer, classes: Sequence[str]) -> MapLayer:
    if not layer.per_class:
        return layer
    return replace(layer, bands=tuple(layer.bands[0].format(name) for name in classes))
