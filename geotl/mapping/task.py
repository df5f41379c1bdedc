"""What is to be mapped with what, and how: the choices of a user, and where windows lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from geotl.errors import DataError
from geotl.imagery.windows import Imagery
from geotl.inference.onnx_model import Mapper, ServedModel, check_precision
from geotl.inference.window_grid import WindowGrid
from geotl.mapping.interest import Interest
from geotl.mapping.layers import Layer, layers
from geotl.models.device import Precision

AREAS, POLYGONS, SHEET, PAGE = "areas", "polygons", "sheet", "page"


@dataclass(frozen=True)
class MapOptions:
    """How a map is made.

    Attributes:
        step_px: pixels between windows; None for half a window.
        posting_px: side of a cell of the map, which divides the step; None for the step.
        mode: every window by itself, all at once, or (auto) at once where it agrees.
        views: flips and quarter turns averaged; None for one, or with the applicability as many
            as the training features it is measured against were averaged over.
        block_px: side of the blocks read at once.
        min_valid: least share of a window's pixels that are valid.
        precision: number format of the network.
        probabilities: write every class's probability too.
        applicability: write where the model applies too.
        entropy: write how mixed the answer is too.
        polygons: write polygons of the classes too.
        min_area_m2: polygons below it are given to their largest neighbour.
        force: map whatever the values are like.
        overwrite: replace what stands at the output.
        page: draw the map as a PNG and as a page to look at too.
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
    probabilities: bool = False
    applicability: bool = False
    entropy: bool = False
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


@dataclass(frozen=True)
class Task:
    """A model that looks at a scene, through windows, at what is of interest."""

    model: Mapper
    scene: Imagery
    grid: WindowGrid
    options: MapOptions
    interest: Interest

    @property
    def views(self) -> int:
        """Flips and quarter turns averaged."""
        given = self.options.views
        return given or (self.model.contract.spec.views if self.options.applicability else 1)

    @property
    def layers(self) -> dict[str, Layer]:
        """The rasters wanted, by name."""
        return layers(
            self.model.contract.classes,
            probabilities=self.options.probabilities,
            applicability=self.options.applicability,
            entropy=self.options.entropy,
        )


def check_options(model: ServedModel, options: MapOptions) -> None:
    """Make sure that a map wants nothing that an exported file cannot give.

    Raises:
        DataError: dense mode, applicability, or other views or numbers than were exported.
    """
    sweep, whole = model.sweep, "give the model.safetensors that it was exported from"
    if options.mode == "dense":
        raise DataError(
            f"{model.path}: --mode dense looks inside the network, which an exported file does not "
            f"show; leave it away, or {whole}"
        )
    if options.applicability:
        raise DataError(
            f"{model.path}: --applicability compares features, which an exported file does not "
            f"give; leave it away, or {whole}"
        )
    if options.views not in (None, sweep.views):
        raise DataError(
            f"{model.path}: exported with {sweep.views} views, not {options.views}; leave --views "
            f"away, or export it anew with --views {options.views}"
        )
    check_precision(model, options.precision)


def window_grid(scene: Imagery, px: int, options: MapOptions) -> WindowGrid:
    """Windows and cells over a scene; the posting must divide the step.

    Raises:
        DataError: a scene too small, or a step or posting that does not go.
    """
    step = max(1, px // 2) if options.step_px is None else options.step_px
    posting = step if options.posting_px is None else options.posting_px
    try:
        if posting > 0 and step % posting:
            raise DataError(f"posting {posting}: allowed is what divides the step, {step} px")
        return WindowGrid(scene.grid.height, scene.grid.width, px, step, posting)
    except DataError as error:
        raise DataError(f"{scene.path}: {error}") from error


def outputs(out: Path, options: MapOptions) -> dict[str, Path]:
    """Where each file of a map goes, the class map last.

    >>> [path.name for path in outputs(Path("a/map.tif"), MapOptions()).values()]
    ['map_confidence.tif', 'map_areas.csv', 'map.png', 'map.html', 'map.tif']
    """
    wanted = layers(
        (),
        probabilities=options.probabilities,
        applicability=options.applicability,
        entropy=options.entropy,
    )
    rasters = {n: out.with_name(f"{out.stem}{w.suffix}{out.suffix}") for n, w in wanted.items()}
    classes = rasters.pop("classes")
    tables = {AREAS: out.with_name(f"{out.stem}_areas.csv")}
    if options.polygons:
        tables[POLYGONS] = out.with_name(f"{out.stem}_polygons.gpkg")
    if options.page:
        tables |= {SHEET: out.with_suffix(".png"), PAGE: out.with_suffix(".html")}
    return {**rasters, **tables, "classes": classes}
