"""Keys of a recipe on training, augmentation, labels over scenes, and evaluation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, Strict, WithJsonSchema


class Section(BaseModel):
    """A group of keys: frozen, no unknown keys, no silent conversion, finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _class_weights(value: object) -> object:
    """One fault for a union, instead of one for each of its kinds."""
    if value in ("none", "balanced"):
        return value
    if isinstance(value, dict) and value:
        given = [
            w for name, w in value.items() if isinstance(name, str) and type(w) in (int, float)
        ]
        if len(given) == len(value) and all(0 < w <= 1000 for w in given):
            return {str(name): float(w) for name, w in value.items()}
    raise ValueError("not none, balanced, or a weight for each class")


ClassWeights = Annotated[
    Literal["none", "balanced"] | dict[str, float],
    PlainValidator(_class_weights),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "object",
                    "additionalProperties": {
                        "type": "number",
                        "exclusiveMinimum": 0,
                        "maximum": 1000,
                    },
                },
                {"type": "string", "enum": ["none", "balanced"]},
            ]
        }
    ),
]


class Train(Section):
    """Training of the network."""

    epochs: int = Field(40, ge=1, le=10000, description="passes over the training tiles [epochs]")
    batch_size: int = Field(32, ge=1, le=4096, description="tiles in a batch [tiles]")
    lr: float = Field(1e-3, gt=0, le=10, description="the head's peak learning rate [1/step]")
    lr_decay: float = Field(
        0.5, gt=0, le=1, description="learning-rate factor per stage from the head back [factor]"
    )
    weight_decay: float = Field(
        0.01, ge=0, le=1, description="decay of weights of 2 or more dimensions [1/step]"
    )
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="the optimiser")
    patience: int = Field(
        8, ge=0, le=10000, description="epochs without gain before stopping; 0: never [epochs]"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="number format; auto: bfloat16 where the device gains"
    )
    checkpoint_every_steps: int = Field(
        0, ge=0, description="checkpoint interval; 0: at the ends of epochs [steps]"
    )
    cache_views: bool = Field(True, description="compute frozen stages once per view")
    auxiliary: float | None = Field(
        None,
        ge=0,
        le=1,
        description="weight of the auxiliary classifiers' losses; null: the paper's (GoogLeNet "
        "0.3, Szegedy 2015; Inception v3 0.4, Szegedy 2016); 0: none [factor]",
    )
    schedule: Literal["one_cycle", "cosine"] = Field(
        "one_cycle",
        description="learning rate: one cycle (Smith & Topin 2018), or warm-up and half a cosine "
        "(Loshchilov & Hutter 2017)",
    )
    warmup: float = Field(
        0.1, ge=0, lt=1, description="share of the steps that cosine rises over [fraction]"
    )
    unfreeze_every: int = Field(
        0,
        ge=0,
        le=10000,
        description="epochs after which one stage more learns, from the head back; 0: all from "
        "the start (Howard & Ruder 2018) [epochs]",
    )
    l2: float = Field(
        0.0,
        ge=0,
        le=1,
        description="lambda of lambda * sum(w^2) added to the loss, for weights of 2 or more "
        "dimensions: gradient 2 lambda w, as of sgd with weight_decay 2 lambda (a gradient of "
        "2 lambda / m, as some notes have it, does not follow from that cost)",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of a label spread over all classes (Szegedy 2016) [fraction]",
    )
    class_weights: ClassWeights = Field(
        "none",
        description="weights of the classes in the loss; balanced is n / (K n_k) (King & Zeng "
        "2001); the logistic head too",
    )
    balanced_sampling: bool = Field(
        False, description="draw each class equally often; the logistic head weighs them so"
    )
    swa_from: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of the epochs after which weights are averaged, all epochs being run; "
        "null: never (Izmailov 2018) [fraction]",
    )
    swa_lr: float = Field(
        0.5, gt=0, le=1, description="level learning rate while averaging [share of the peak]"
    )
    choice_folds: int = Field(
        1,
        ge=0,
        le=20,
        description="folds that choose the number of epochs, by their median, "
        "and the temperature; 0: none, all epochs are run and the temperature stays 1 [folds]",
    )


class Augment(Section):
    """What is varied in training tiles."""

    flips: bool = Field(True, description="mirror at random")
    quarter_turns: bool = Field(True, description="turn by quarters at random")
    rotate_deg: float = Field(0.0, ge=0, le=180, description="largest free rotation [degrees]")
    scale: Annotated[
        tuple[Annotated[float, Field(gt=0, le=4)], Annotated[float, Field(gt=0, le=4)]],
        Strict(False),
    ] = Field((1.0, 1.0), description="least and largest magnification [factor]")
    crop: float = Field(1.0, gt=0, le=1, description="least share of the area kept [fraction]")
    noise: float = Field(0.0, ge=0, le=10, description="sd of Gaussian noise [sd of the band]")
    blur: float = Field(0.0, ge=0, le=20, description="largest sd of a Gaussian blur [px]")
    brightness: float = Field(
        0.0, ge=0, lt=1, description="reflectance times 1 -+ up to this [fraction]"
    )
    contrast: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="distance from the band's mean times 1 -+ up to this [fraction]",
    )
    band_dropout: float = Field(
        0.0, ge=0, lt=1, description="chance of each band to be missing, never all [probability]"
    )
    erase: float = Field(
        0.0, ge=0, le=1, description="chance of a rectangle to be erased (Zhong 2020) [probability]"
    )
    erase_area: Annotated[
        tuple[
            Annotated[float, Field(gt=0, lt=1)],
            Annotated[float, Field(gt=0, lt=1)],
        ],
        Strict(False),
    ] = Field((0.02, 0.4), description="least and largest share of the area erased [fraction]")
    mixup: float = Field(
        0.0, ge=0, le=10, description="a of Beta(a, a) of mixup; 0: off (Zhang 2018)"
    )
    cutmix: float = Field(
        0.0,
        ge=0,
        le=10,
        description="a of Beta(a, a) of cutmix; 0: off; with mixup, batches take "
        "turns at random (Yun 2019)",
    )
    mixup_of: Literal["tiles", "features"] = Field(
        "tiles",
        description="mix pixels, or what the frozen stages give (manifold mixup, Verma 2019), "
        "which can stay cached",
    )


class Evaluate(Section):
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
        "scene; null: where the strategy is a probe",
    )
    target: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="accuracy wanted, against which under- and overfitting are told [fraction]",
    )
    mistakes: int = Field(24, ge=0, le=200, description="mistakes drawn in the report [tiles]")
    explain: bool = Field(True, description="what the network looks at, and tiles by likeness")


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
