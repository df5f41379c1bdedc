"""The settings of a training: the recipe sections `train`, `augment` and `probe`.

Each is defined here alone: a recipe takes these models as its sections, and training takes them as
they are. A unit stands in brackets at the end of a description. Nothing here needs torch, so that
recipes are read and listed without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    WithJsonSchema,
)

from geotl.evaluation.regularisers import RegulariserKey
from geotl.imagery.sensor_table import Sensor
from geotl.language import msg
from geotl.training.kornia_keys import KorniaStep
from geotl.training.schedules import Schedule

ClassWeights = Literal["none", "balanced"] | tuple[float, ...]  # in the order of the classes
HeadKind = Literal["logistic", "discriminant"]
PixelMember = Literal[
    "discriminant_bands",
    "discriminant_wide",
    "forest_bands_wide",
    "discriminant_deep",
    "logistic_deep",
    "decoder_unet",
    "decoder_fpn",
]


class Section(BaseModel):
    """A group of keys: frozen, no unknown keys, no silent conversion, finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def by_class(*words: str) -> tuple[PlainValidator, WithJsonSchema]:
    """What a key takes that is one of some words, or a number for each class.

    A union would report one fault for each of its kinds; this reports one.
    """

    def checked(value: object) -> object:
        if isinstance(value, str) and value in words:
            return value
        if isinstance(value, dict) and value:
            weights = [
                w for name, w in value.items() if isinstance(name, str) and type(w) in (int, float)
            ]
            if len(weights) == len(value) and all(0 < w <= 1000 for w in weights):
                return {str(name): float(w) for name, w in value.items()}
        raise ValueError(f"not {', '.join(words)}, or a number for each class")

    number = {"type": "number", "exclusiveMinimum": 0, "maximum": 1000}
    kinds = [
        {"type": "object", "additionalProperties": number},
        {"type": "string", "enum": [*words]},
    ]
    return PlainValidator(checked), WithJsonSchema({"anyOf": kinds})


WeightsByName = Annotated[
    Literal["none", "balanced"] | dict[str, float], *by_class("none", "balanced")
]
PriorsByName = Annotated[
    Literal["labels", "equal"] | dict[str, float], *by_class("labels", "equal")
]


def _integer(value: object) -> object:
    """Reject values that only equal an integer: to a Literal, true is 1 and 8.0 is 8."""
    if type(value) is not int:
        raise ValueError("not an integer")
    return value


class TrainSettings(Section, title="Train"):
    """Training of the network."""

    epochs: int = Field(40, ge=1, le=10000, description="passes over the training tiles [epochs]")
    batch_size: int = Field(32, ge=1, le=4096, description="tiles in a batch [tiles]")
    lr: float = Field(
        1e-3,
        gt=0,
        le=10,
        description="peak learning rate that those of head and stages follow from [1/step]",
    )
    head_lr: float | None = Field(
        None,
        ge=0,
        le=10,
        description="the head's own peak learning rate; null: train.lr; 0: the head stays as it "
        "was fitted [1/step]",
    )
    lr_decay: float = Field(
        0.5, gt=0, le=1, description="learning-rate factor per stage from the head back [factor]"
    )
    weight_decay: float = Field(
        0.01, ge=0, le=1, description="decay of weights of 2 or more dimensions [1/step]"
    )
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="the optimiser")
    patience: int = Field(
        8,
        ge=0,
        le=10000,
        description="epochs without gain before stopping; 0: never, as after a probe [epochs]",
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
    schedule: Schedule = Field(
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
        description="epochs after which one stage more is trained, from the head back; 0: all from "
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
    class_weights: WeightsByName = Field(
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
        description="folds that choose the number of epochs, by their median, or between a probe "
        "and its fine-tuned network, and the temperature; 0: none, all epochs are run and the "
        "temperature stays 1 [folds]",
    )

    @property
    def swa_epoch(self) -> int | None:
        """The first epoch (from 0) after which the weights are averaged; None: none is."""
        return (
            None
            if self.swa_from is None
            else min(int(self.swa_from * self.epochs), self.epochs - 1)
        )


@dataclass(frozen=True)
class Switch:
    """What turns a variation of tiles off and on; a field of `Augmentation` is marked with it.

    Attributes:
        title: what it is called.
        off: the value that varies nothing.
        attempt: a value worth trying, as it is written on the command line.
        of_views: whether it only moves pixels between the eight views of a tile, which a cache of
            frozen stages can have.
    """

    title: str
    off: Any
    attempt: str
    of_views: bool = False


class Augmentation(Section, title="Augment"):
    """What is varied in training tiles."""

    flips: Annotated[bool, Switch(msg("flips"), False, "true", of_views=True)] = Field(
        True, description="mirror at random"
    )
    quarter_turns: Annotated[bool, Switch(msg("quarter turns"), False, "true", of_views=True)] = (
        Field(True, description="turn by quarters at random")
    )
    rotate_deg: Annotated[float, Switch(msg("free rotation"), 0.0, "20")] = Field(
        0.0, ge=0, le=180, description="largest free rotation [degrees]"
    )
    scale: Annotated[
        tuple[Annotated[float, Field(gt=0, le=4)], Annotated[float, Field(gt=0, le=4)]],
        Strict(False),
        Switch(msg("change of scale"), (1.0, 1.0), "[0.9,1.1]"),
    ] = Field((1.0, 1.0), description="least and largest magnification [factor]")
    crop: Annotated[float, Switch(msg("crop"), 1.0, "0.8")] = Field(
        1.0, gt=0, le=1, description="least share of the area kept [fraction]"
    )
    noise: Annotated[float, Switch(msg("noise"), 0.0, "0.1")] = Field(
        0.0, ge=0, le=10, description="sd of Gaussian noise [sd of the band]"
    )
    blur: Annotated[float, Switch(msg("blur"), 0.0, "1.0")] = Field(
        0.0, ge=0, le=20, description="largest sd of a Gaussian blur [px]"
    )
    brightness: Annotated[float, Switch(msg("brightness"), 0.0, "0.1")] = Field(
        0.0, ge=0, lt=1, description="reflectance times 1 -+ up to this [fraction]"
    )
    contrast: Annotated[float, Switch(msg("contrast"), 0.0, "0.1")] = Field(
        0.0,
        ge=0,
        lt=1,
        description="distance from the band's mean times 1 -+ up to this [fraction]",
    )
    band_dropout: Annotated[float, Switch(msg("missing bands"), 0.0, "0.1")] = Field(
        0.0, ge=0, lt=1, description="chance of each band to be missing, never all [probability]"
    )
    erase: Annotated[float, Switch(msg("erasing"), 0.0, "0.25")] = Field(
        0.0, ge=0, le=1, description="chance of a rectangle to be erased (Zhong 2020) [probability]"
    )
    erase_area: Annotated[
        tuple[
            Annotated[float, Field(gt=0, lt=1)],
            Annotated[float, Field(gt=0, lt=1)],
        ],
        Strict(False),
    ] = Field((0.02, 0.4), description="least and largest share of the area erased [fraction]")
    kornia: Annotated[
        tuple[KorniaStep, ...],
        Strict(False),
        Switch(msg("Kornia's augmentations"), (), "[RandomPerspective]"),
    ] = Field(
        (),
        description="augmentations of Kornia, after geotl's own, by name and with their arguments "
        "(docs/KORNIA.md), such as {RandomPerspective: {distortion_scale: 0.3}}",
    )
    mixup: Annotated[float, Switch(msg("mixup"), 0.0, "0.2")] = Field(
        0.0, ge=0, le=10, description="a of Beta(a, a) of mixup; 0: off (Zhang 2018)"
    )
    cutmix: Annotated[float, Switch(msg("cutmix"), 0.0, "1.0")] = Field(
        0.0,
        ge=0,
        le=10,
        description="a of Beta(a, a) of cutmix; 0: off; with mixup, batches take "
        "turns at random (Yun 2019)",
    )
    mixup_of: Literal["tiles", "features"] = Field(
        "tiles",
        description="mix pixels, or outputs of the frozen stages (manifold mixup, Verma 2019), "
        "which can stay cached",
    )

    @classmethod
    def switches(cls) -> dict[str, Switch]:
        """What turns each variation off and on, by the name of its field."""
        marks = {name: one.metadata for name, one in cls.model_fields.items()}
        marked = ((name, mark) for name, several in marks.items() for mark in several)
        return {name: mark for name, mark in marked if isinstance(mark, Switch)}

    @property
    def beyond_views(self) -> tuple[str, ...]:
        """The variations that make pixels which no view of a tile has: no cache can keep them."""
        return tuple(
            name
            for name, switch in self.switches().items()
            if not switch.of_views
            and getattr(self, name) != switch.off
            and not (name == "mixup" and self.mixup_of == "features")
        )

    @property
    def kornia_names(self) -> tuple[str, ...]:
        """The augmentations of Kornia, by name and in turn."""
        return tuple(name for step in self.kornia for name in step)

    @property
    def resamples(self) -> bool:
        """Whether pixels are interpolated."""
        return self.rotate_deg > 0 or tuple(self.scale) != (1.0, 1.0) or self.crop < 1


class DecoderSettings(Section, title="Decoder"):
    """A decoder that is trained on the network (task: pixels, strategy: finetune)."""

    kind: Literal["unet", "fpn"] = Field(
        "unet",
        description="U-Net (Ronneberger 2015) or FPN (Kirillov 2019), as in "
        "segmentation_models_pytorch",
    )
    patch_px: Annotated[int, Field(ge=32, le=1024)] = Field(
        96, description="side of the windows it is trained on, a multiple of 32 [px]"
    )
    epochs: int = Field(20, ge=1, le=10000, description="passes over all labels [epochs]")
    batch_size: int = Field(8, ge=1, le=4096, description="windows in a batch [windows]")
    unlabelled_weight: float = Field(
        0.0,
        ge=0,
        le=100,
        description="weight of the cross-entropy with the other members' fused probabilities at "
        "unlabelled pixels, where labelled ones weigh 1; 0 trains on labels alone",
    )
    unlabelled_confidence: float = Field(
        0.8,
        gt=0,
        lt=1,
        description="least calibrated probability of the likeliest class for such a pixel to count "
        "[fraction]",
    )
    unlabelled_px: int = Field(
        256,
        ge=1,
        le=65536,
        description="unlabelled pixels drawn in the surroundings of each square with labels, at "
        "most; 50,000 in all [px]",
    )


class ProbeSettings(Section, title="Probe"):
    """The linear head on frozen features."""

    views: Annotated[Literal[1, 2, 4, 8], BeforeValidator(_integer)] = Field(
        8, description="flips and quarter turns that are averaged [views]"
    )
    head: HeadKind = Field(
        "logistic", description="multinomial logistic regression or shrunken linear discriminant"
    )
    shrinkages: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=1)], ...], Strict(False), Field(min_length=1)
    ] = Field(
        (0.1, 0.2, 0.4),
        description="shrinkages of the discriminant to choose from, inside the labels [fraction]",
    )
    penalties: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...], Strict(False), Field(min_length=1)
    ] = Field(
        (0.001, 0.01, 0.1, 1.0, 10.0, 100.0),
        description="inverse regularisation strengths to choose from, inside the labels",
    )
    unlabelled: Literal["none", "soft_labels", "pseudo_labels", "consistency", "propagation"] = (
        Field(
            "none",
            description="what is done with the pixels of tiles not drawn, or of "
            "labels.unlabelled_windows; reported apart",
        )
    )
    pool: Annotated[float, Field(gt=0, lt=1)] | str | None = Field(
        None,
        description="unlabelled tiles that the head is fitted to as well, where held-out labels "
        "show a gain: a folder of them, a share of the undrawn tiles, which are then not tested, "
        "or windows: those of labels.unlabelled_windows [fraction]",
    )
    threshold: float = Field(
        0.9,
        gt=0,
        le=1,
        description="least calibrated probability of a pseudo-label (Lee 2013) [fraction]",
    )
    softness: float = Field(
        4.0,
        gt=0,
        le=100,
        description="divisor of the logits that soft labels are made from [factor]",
    )
    rounds: int = Field(5, ge=1, le=20, description="rounds of labelling and fitting [rounds]")

    @property
    def head_settings(self) -> tuple[float, ...]:
        """What the one setting of this kind of head is chosen from."""
        return self.penalties if self.head == "logistic" else self.shrinkages


def augmentation_keys() -> tuple[RegulariserKey, ...]:
    """Every variation of tiles as a regulariser of a recipe."""
    return tuple(
        RegulariserKey(switch.title, f"augment.{name}", switch.off, switch.attempt)
        for name, switch in Augmentation.switches().items()
    )


@dataclass(frozen=True)
class Light:
    """Reflectance of digital numbers, which is scale * (DN - zero_dn).

    Attributes:
        zero_dn: the DN of zero reflectance.
        scale: reflectance of one DN.
    """

    zero_dn: float = 0.0
    scale: float = 1.0

    @classmethod
    def of(cls, sensor: Sensor) -> Light:
        """Of a sensor's digital numbers."""
        return cls(sensor.zero_dn, sensor.scale)


@dataclass(frozen=True)
class Training:
    """A training before it meets a network and tiles.

    Attributes:
        settings: of the training of the trainable stages.
        augmentation: what happens to training tiles.
        seed: origin of order, augmentation and dropout.
        classes: names of the classes in the order of the labels, for weights by class name.
        light: reflectance of digital numbers, for variations of light.
        every_epoch: run all epochs and keep the last one's weights, whatever tiles are held out.
    """

    settings: TrainSettings = field(default_factory=TrainSettings)
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0
    classes: tuple[str, ...] = ()
    light: Light = field(default_factory=Light)
    every_epoch: bool = False

    @property
    def class_weights(self) -> ClassWeights:
        """Weights of the classes in the loss, in the order of the classes."""
        weights = self.settings.class_weights
        return (
            tuple(weights[name] for name in self.classes) if isinstance(weights, dict) else weights
        )

    @property
    def head_weights(self) -> ClassWeights:
        """Weights of the classes in a linear head; they also replace balanced sampling."""
        return "balanced" if self.settings.balanced_sampling else self.class_weights

    def changed(self, **settings: Any) -> Training:
        """This training with some settings replaced, which are not checked again."""
        return replace(self, settings=self.settings.model_copy(update=settings))
