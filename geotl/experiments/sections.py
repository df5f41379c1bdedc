"""Keys of a recipe on labels over scenes and on evaluation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Strict, Tag

from geotl.training.settings import PixelMember, PriorsByName, Section

Word = Annotated[str, Field(min_length=1)]
Scenes = Annotated[tuple[Word, ...], Strict(False)]


class StatedSensor(Section):
    """A known sensor whose files hold other numbers than it says."""

    base: Word = Field(description="name of the known sensor (geotl sensors)")
    scale: float | None = Field(
        None, description="value = DN * scale + offset; null: the base's [reflectance/DN]"
    )
    offset: float | None = Field(
        None, description="value = DN * scale + offset; null: the base's [reflectance]"
    )
    nodata: float | None = Field(
        None, description="value that stands for no measurement; null: the base's [DN]"
    )
    dtype: Literal["uint8", "uint16", "int16", "float32"] | None = Field(
        None,
        description="data type of the files, which settles what is not stated: uint8 is a share of "
        "full scale, DN / 255; float32 the value itself; both without nodata",
    )
    measures: Literal["reflectance", "share", "decibel"] | None = Field(
        None, description="what DN * scale + offset is; null: the base's, with uint8 share"
    )


SENSOR_KINDS = ("sensor's name", "stated sensor")  # in the places of faults, not in the recipe


def _kind_of_sensor(value: object) -> str:
    return SENSOR_KINDS[isinstance(value, dict | StatedSensor)]


SensorKey = Annotated[
    Annotated[StatedSensor, Tag(SENSOR_KINDS[1])] | Annotated[Word, Tag(SENSOR_KINDS[0])],
    Discriminator(_kind_of_sensor),
]


class EvaluateSection(Section, title="Evaluate"):
    """How the result is judged, and beside what."""

    bootstrap_rounds: int = Field(
        1000, ge=0, le=100000, description="resamplings behind the intervals; 0: none [rounds]"
    )
    baselines: bool = Field(True, description="majority, band statistics and frozen probe beside")
    random_weights: bool = Field(True, description="the same recipe from random weights beside")
    rgb_only: bool | None = Field(
        None,
        description="the same recipe on red, green, blue beside; null: their frozen probe, beside "
        "pretrained networks of these and other bands",
    )
    random_split: bool | None = Field(
        None,
        description="the same recipe on a random split of the same sizes, beside blocks, group or "
        "scene; null: where the strategy is a probe, and not with task pixels",
    )
    target: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="accuracy wanted; under- and overfitting are measured against it [fraction]",
    )
    mistakes: int = Field(24, ge=0, le=200, description="mistakes drawn in the report [tiles]")
    explain: bool = Field(True, description="what the network looks at, and tiles by likeness")


class LabelsSection(Section, title="Labels"):
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
        "probe.semi_supervised uses in place of the test tiles'; 0: theirs [chips]",
    )
    step_px: Annotated[int, Field(ge=1)] | None = Field(
        None, description="distance between chips of one polygon; null: a chip's side [px]"
    )
    pixels_per_polygon: Annotated[int, Field(ge=1, le=10_000)] = Field(
        20,
        description="task pixels: most pixels of one polygon, which weigh together as one label "
        "[pixels]",
    )
    pixels_per_class: Annotated[int, Field(ge=1, le=100_000)] = Field(
        200,
        description="task pixels: most pixels of one class of a class raster, spread over the "
        "scenes; each is a label [pixels]",
    )
    jitter_px: Annotated[int, Field(ge=0, le=8)] = Field(
        0,
        description="task pixels: how uncertain a point's position is; the point gives all usable "
        "pixels within so many rows and columns of its own, which weigh together as one label; "
        "1: 3x3 pixels [px]",
    )


class PixelsSection(Section, title="Pixels"):
    """Models of single pixels (task: pixels)."""

    windows_px: Annotated[tuple[Annotated[int, Field(ge=3, le=511)], ...], Strict(False)] = Field(
        (3, 7, 15, 33),
        description="odd sides of the windows about a pixel whose mean, sd and gradient describe "
        "it; empty: bands alone [px]",
    )
    members: Annotated[tuple[PixelMember, ...], Strict(False)] | None = Field(
        None,
        description="members that are fitted and fused; null: all that there are features for; "
        "without the forest maps take a third of the time",
    )
    priors: PriorsByName = Field(
        "labels",
        description="how likely the classes are before a pixel is seen: as frequent as among the "
        "labels, all alike, or a number for each class, such as its known area",
    )
    network_input: Literal["bands", "composites"] = Field(
        "bands",
        description="what the frozen network sees: all bands of the scene, its first kernels mixed "
        "by wavelength; or a true-colour and a false-colour image (near infrared, red, green) one "
        "after the other, its kernels as they are, at twice the time",
    )
    missing_bands: Literal["use", "exclude"] = Field(
        "use",
        description="pixels that lack some bands: use them with the bands they have, for training "
        "and in maps, or exclude them from both",
    )
    extra: Annotated[tuple[str, ...], Strict(False)] = Field(
        (),
        description="rasters that are laid on the scenes' grid and give further bands: elevation, "
        "radar, embeddings; in any reference system and pixel size",
    )
