"""The keys of a recipe: every setting's type, default, range and unit, and what goes together.

With `sections` and `training.settings`, this is the one place where a key is defined: the JSON
Schema, the reference in docs/RECIPES.md and the error messages are read off these models. A unit
stands in brackets at the end of a description. In the schema a section goes by its title.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, model_validator

from geotl.experiments.rules import RULES
from geotl.experiments.sections import (
    EvaluateSection,
    LabelsSection,
    PixelsSection,
    Scenes,
    SensorKey,
)
from geotl.experiments.spellings import (
    WRITTEN,
    WRITTEN_VALUES,
    Keys,
    written,
    written_name,
    written_value,
)
from geotl.training.settings import (
    Augmentation,
    DecoderSettings,
    ProbeSettings,
    Section,
    TrainSettings,
)

Text = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Text, ...], Strict(False)]
Colour = Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")]
Pixels = Annotated[int, Field(ge=8, le=1024)]


class CustomBand(Section):
    """One band of a custom sensor."""

    name: Text = Field(description="the band's name in the files")
    wavelength_nm: float | None = Field(None, gt=0, description="central wavelength [nm]")
    resolution_m: float | None = Field(None, gt=0, description="ground resolution [m]")
    aliases: Names = Field((), description="other names of the band")


class CustomSensor(Section):
    """A sensor of the user's own."""

    bands: Annotated[tuple[CustomBand, ...], Strict(False)] = Field(
        min_length=1, description="the sensor's bands, each with at least a name"
    )
    scale: float = Field(1.0, description="reflectance = DN * scale + offset [reflectance/DN]")
    offset: float = Field(0.0, description="reflectance = DN * scale + offset [reflectance]")
    measures: Literal["reflectance", "share", "decibel"] = Field(
        "reflectance",
        description="what DN * scale + offset is: reflectance, a share of full scale (pictures) or "
        "a radar's backscatter in decibels",
    )
    nodata: float | None = Field(None, description="value that stands for nothing measured [DN]")


class DataSection(Section, title="Data"):
    """The labelled tiles."""

    root: Text | None = Field(
        None,
        description="folder with one folder of tiles per class, or a manifest (.csv or .geojson "
        "with path and label); sample:NAME for the samples; torchgeo:NAME:FOLDER for a data set",
    )
    scenes: Scenes = Field(
        (),
        description="scenes that labels lie over, in place of a root: multiband files, folders of "
        "band files, VRTs; sample:scene.tif for the samples'",
    )
    mask: Text | None = Field(
        "auto",
        description="what is cloud in the scenes: auto for their own mask (SCL, QA_PIXEL, "
        "cloud_mask) where there is one, a file that is not 0 there, or null for none",
    )
    class_depth: int = Field(
        1, ge=1, le=8, description="levels of folders that make up a class's name [levels]"
    )
    sensor: SensorKey = Field(
        "rgb",
        description="the sensor's name (geotl sensors lists them); or one with another scale, "
        "offset or data type, such as {base: landsat7_sr, dtype: uint8}; custom with "
        "data.custom_sensor",
    )
    custom_sensor: CustomSensor | None = Field(None, description="a sensor of your own")
    bands: Names | None = Field(None, description="bands to use; null: all of the sensor's")
    file_bands: Names | None = Field(
        None, description="the bands in file order, for files that name none"
    )
    tile_px: Pixels | None = Field(None, description="tile side; null: the commonest size [px]")
    fit: Literal["pad_or_crop", "resize"] = Field(
        "pad_or_crop", description="what happens to tiles of another size"
    )
    table: Text = Field("tiles.csv", description="table of path, split, group in the root")
    synthetic: Text | None = Field(
        None,
        description="folder that geotl generate wrote: its tiles train, and never test, a model",
    )
    colours: dict[str, Colour] | None = Field(
        None, description="map colour of each class; others by the meaning of its name"
    )


class SplitSection(Section, title="Split"):
    """Which tiles are training tiles and which are test tiles."""

    method: Literal["shots", "stratified", "column", "group", "blocks", "scene"] = Field(
        "stratified",
        description="how tiles are divided; giving split.shots means shots; blocks: by place; "
        "scene: each scene tested by a model of the others, unless split.kfold is smaller",
    )
    shots: int | None = Field(
        None,
        ge=1,
        description="labels drawn per class; with blocks, group and scene from the training side "
        "[tiles]",
    )
    draws: int = Field(
        1, ge=1, le=1000, description="repeated splits, each with other training labels [splits]"
    )
    test_fraction: float = Field(0.3, gt=0, lt=1, description="share of test tiles [fraction]")
    block_m: float | None = Field(
        None, gt=0, description="side of the blocks; null: from the variogram of the bands [m]"
    )
    buffer_m: float = Field(
        0.0, ge=0, description="training tiles nearer to a test tile are excluded [m]"
    )
    kfold: int | None = Field(
        None,
        ge=2,
        le=1000,
        description="folds over blocks, groups or scenes; each is the test side once [folds]",
    )
    folds: int = Field(
        5,
        ge=2,
        le=20,
        description="folds inside the training labels, which choose settings of the head [folds]",
    )


class ModelSection(Section, title="Model"):
    """The network."""

    backbone: Text = Field(
        "resnet18", description="name of the backbone; timm:NAME for one of timm's networks"
    )
    weights: Text = Field(
        "none",
        description="none, a name of torchvision's or torchgeo's weights, pretrained or "
        "timm:NAME.TAG for timm's, a .pth or .safetensors file, or a geotl model",
    )
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = Field(
        None, description="checksum that the weight file, of whatever origin, must have"
    )
    fresh: Names = Field(
        (), description="stages that may start from random weights if the weight file lacks them"
    )
    cut_after: Text | None = Field(None, description="last stage kept; null: all stages")
    stages: Names | None = Field(
        None,
        description="stages pooled into features; null: all kept but the stem (of a transformer a "
        "few, see geotl backbones)",
    )
    pool: Literal["mean", "mean_sd", "mean_log", "root_mean"] = Field(
        "mean", description="how a stage is pooled over space; mean_log is the mean of log(1 + x)"
    )
    unit_length: bool = Field(
        False, description="bring each view's standardised features to one length"
    )
    inner_activations: bool = Field(
        False,
        description="pool the map in front of the last convolution of the last residual block too "
        "(torchvision's ResNets)",
    )
    renderings: Annotated[
        tuple[Literal["given", "reversed", "shifted", "negative"], ...], Strict(False)
    ] = Field(
        ("given",),
        description="renderings of a tile that the network sees: given, reversed (bands in reverse "
        "order), shifted (the last band first), negative. Each has a discriminant of its own; "
        "held-out training tiles weigh them",
    )
    padding: Literal["zeros", "replicate", "reflect"] = Field(
        "zeros",
        description="what convolutions see beyond a tile's edge; with replicate edges look like "
        "their surroundings, so that whole blocks can be mapped at once (geotl map --mode dense)",
    )
    input_px: Annotated[tuple[Pixels, ...], Strict(False)] = Field(
        (), description="side the network sees; empty: the tile's; several: multi-scale [px]"
    )
    first_conv: Literal["wavelength", "repeat", "mean", "zero", "rgb_only", "random"] = Field(
        "wavelength",
        description="how the first convolution meets the bands: kernels mixed by wavelength; "
        "repeated (as timm); their mean; red's, green's and blue's kept, and other bands starting "
        "at zero (as fastai) or counting for nothing; or all at random. zero and random are never "
        "frozen in fine-tuning",
    )
    normalise: Literal["training", "weights"] = Field(
        "training", description="whose mean and sd: the training tiles' or the weights' own"
    )
    fuse_statistics: Literal["auto", True, False] = Field(
        False,
        description="pool the network with heads on each band's mean, sd and gradient, weighed by "
        "training tiles that are held out: true where the gain exceeds a standard error, auto "
        "where it exceeds two and what fitted weights gain by chance",
    )
    dropout: float = Field(0.0, ge=0, le=0.9, description="dropout before the head [fraction]")
    hold_batchnorm: bool = Field(
        False,
        description="keep batch normalisation on stored statistics while training, as always where "
        "weights hold it folded; a random network's, mean 0 and sd 1, normalise nothing",
    )
    adabn: Literal["none", "training", "transductive"] = Field(
        "none",
        description="re-estimate the statistics of batch normalisation on the training tiles, or "
        "on training and test tiles without their labels (AdaBN, Li 2016)",
    )


class Recipe(Section):
    """Every setting of a run."""

    name: str = Field(
        "run",
        pattern="^[a-z0-9][a-z0-9_-]{0,63}$",
        description="name of the run and its folder; by default the file's",
    )
    title: str = Field("", description="one line for people")
    note: str = Field("", description="what a reader of the report should know beforehand")
    seed: int = Field(0, ge=0, lt=2**32, description="origin of all randomness")
    task: Literal["auto", "tiles", "pixels"] = Field(
        "tiles",
        description="what is classified: tiles or chips, by a network; or each pixel of a scene, "
        "from points, polygons or a class raster (docs/PIXELS.md); a recipe without this key is "
        "read as auto: pixels where data.scenes is given without a key of chips, else tiles (the "
        "default shown is that of a recipe without scenes)",
    )
    data: DataSection = Field(DataSection(), description="the labelled tiles")
    labels: LabelsSection = Field(
        LabelsSection(), description="points, polygons or a raster over scenes"
    )
    split: SplitSection = Field(
        SplitSection(), description="which tiles are training and test tiles"
    )
    pixels: PixelsSection = Field(PixelsSection(), description="models of single pixels")
    decoder: DecoderSettings = Field(
        DecoderSettings(), description="a decoder trained on the network, for pixels"
    )
    model: ModelSection = Field(ModelSection(), description="the network")
    strategy: Literal["auto", "probe", "finetune", "probe_then_finetune", "full", "scratch"] = (
        Field(
            "auto",
            description="what is trained, and from where; auto: the preset for so many labels a "
            "class, which settles head, views, pooling and sizes too where the recipe does not; "
            "probe_then_finetune has a preset too, and keeps the probe where training it further "
            "does not help (docs/PRESETS.md); task pixels takes auto, or finetune, which trains a "
            "decoder too",
        )
    )
    freeze_until: Text | None = Field(
        None,
        description="last frozen stage; null: the strategy's own, which leaves the last stage to "
        "be trained, after a probe the last two",
    )
    keep: Literal["all", "first"] | None = Field(
        None,
        description="which model is kept: one fitted once more on all labels, or that of the first "
        "fold or draw; null: all with folds or with repeated random or spatial splits, first with "
        "split.shots (of task pixels as many labels a class of all), with one split and with the "
        "sides of a table",
    )
    probe: ProbeSettings = Field(ProbeSettings(), description="the linear head on frozen features")
    train: TrainSettings = Field(TrainSettings(), description="training of the network")
    augment: Augmentation = Field(Augmentation(), description="what is varied in training tiles")
    evaluate: EvaluateSection = Field(EvaluateSection(), description="how the result is tested")

    @model_validator(mode="after")
    def _holds_together(self) -> Recipe:
        faults = [f"{key}: {text}" for key, text in contradictions(self.model_dump(), set())]
        if faults:
            raise ValueError("; ".join(faults))
        return self


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe as it is written; a section goes by its title.

    >>> sorted(json_schema()["$defs"])[:4]
    ['Augment', 'CustomBand', 'CustomSensor', 'Data']
    >>> "repeats" in json_schema()["$defs"]["Split"]["properties"]
    True
    """
    plain = Recipe.model_json_schema()
    titles = {f"#/$defs/{name}": f"#/$defs/{d['title']}" for name, d in plain["$defs"].items()}
    sections = {part["title"]: part for part in plain["$defs"].values()}
    named: dict[str, Any] = _renamed(plain | {"$defs": dict(sorted(sections.items()))}, titles)
    return _with_written_names(named)


def _with_written_names(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema whose keys and values bear the names that are written."""
    groups = {"": schema["properties"]}
    for section, node in schema["properties"].items():
        if "$ref" in node:
            definition = schema["$defs"][node["$ref"].rpartition("/")[2]]
            groups[section] = definition["properties"]
            node["default"] = written({section: node["default"]})[section]
    for key, words in WRITTEN_VALUES.items():
        section, _, name = key.rpartition(".")
        node = groups[section][name]
        node["enum"] = [words.get(word, word) for word in node["enum"]]
    for section, properties in list(groups.items()):
        own = {name: properties.pop(name) for name in list(properties)}
        for name, node in own.items():
            key = f"{section}.{name}" if section else name
            new_section, _, new_name = WRITTEN.get(key, key).rpartition(".")
            groups[new_section][new_name] = node
    return schema


def _renamed(node: Any, references: Mapping[str, str]) -> Any:
    """A schema with other references in place of those named, and every choice as `anyOf`."""
    if isinstance(node, list):
        return [_renamed(item, references) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        {"oneOf": "anyOf"}.get(key, key): (
            references[value] if key == "$ref" else _renamed(value, references)
        )
        for key, value in node.items()
    }


def contradictions(values: Mapping[str, Any], faulty: set[Keys]) -> Iterator[tuple[str, str]]:
    """(key as written, what is wrong) of every rule broken among the keys not already faulty.

    >>> values = Recipe().model_dump() | {"strategy": "scratch", "freeze_until": "layer2"}
    >>> [key for key, _ in contradictions(values, set())]
    ['model.freeze_until']
    """
    for rule in RULES:
        keys = [tuple(key.split(".")) for key in rule.keys]
        if any(a[: len(b)] == b[: len(a)] for a in keys for b in faulty):
            continue
        given = [functools.reduce(lambda at, word: at[word], key, values) for key in keys]
        if rule.broken(*given):
            values_shown = [
                shown(written_value(key, value)) for key, value in zip(keys, given, strict=True)
            ]
            yield written_name(rule.keys[0]), rule.says.format(*values_shown)


def shown(value: object) -> str:
    """A value as it would stand in YAML, short, on one line.

    >>> shown(None), shown("layer3"), shown((1.0, 2.0))
    ('null', 'layer3', '[1.0, 2.0]')
    """
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):  # what JSON has no form for, such as a list that holds itself
        text = str(value)
    text = text if text.isprintable() and text else json.dumps(text)
    return text if len(text) <= 60 else text[:57] + "..."
