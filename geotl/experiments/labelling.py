"""The keys of a recipe that say how labels over scenes become chips."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Strict

from geotl.experiments.sections import Section

Word = Annotated[str, Field(min_length=1)]


class Labels(Section):
    """Points, polygons or a class raster over data.scenes."""

    path: Word | None = Field(
        None,
        description="points or polygons in any vector format, a CSV of coordinates, or a class "
        "raster; sample:labels.gpkg for the samples'",
    )
    layer: Word | None = Field(None, description="layer of the file; null: its only one")
    field: Word = Field("class", description="field or column that holds the class")
    id_field: Word | None = Field(
        None, description="field that names each label; null: its place in the file"
    )
    crs: Word | None = Field(
        None, description="reference system of a file that states none, such as EPSG:4326"
    )
    names: dict[str, Word | None] | None = Field(
        None,
        description="new name of each class: the same for several joins them, null drops one; "
        "'*': null drops all that are not named",
    )
    chip_px: Annotated[int, Field(ge=4, le=1024)] = Field(
        64, description="side of a chip, in the scene's pixels [px]"
    )
    purity: float = Field(
        0.8, gt=0, le=1, description="least share of a chip that lies in its polygon [fraction]"
    )
    per_polygon: Annotated[int, Field(ge=1)] | None = Field(
        None, description="most chips from one polygon; null: all that fit [chips]"
    )
    min_valid: float = Field(
        0.8, gt=0, le=1, description="least share of valid pixels in a chip [fraction]"
    )
    max_cloud: float = Field(
        0.1, ge=0, le=1, description="most of a chip that data.mask may call cloud [fraction]"
    )
    unlabelled: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        0,
        description="windows of the scenes, drawn at random off all labelled chips, whose pixels "
        "probe.unlabelled uses in place of the judged tiles'; 0: theirs [chips]",
    )
    step_px: Annotated[int, Field(ge=1)] | None = Field(
        None, description="step between chips of one polygon; null: a chip's side [px]"
    )


Scenes = Annotated[tuple[Word, ...], Strict(False)]
