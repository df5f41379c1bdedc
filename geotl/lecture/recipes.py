"""The recipes of the lecture: what each claims, and the numbers of its demonstration.

A recipe is data: a title and claims in French and English, the name of a demonstration, and the
numbers that differ from its defaults. They are in recipes/lecture/, apart from those that
`geotl run` reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, Strict, ValidationError

from geotl.errors import RecipeError, nearest
from geotl.experiments.recipe import lectures
from geotl.io import yaml
from geotl.io.files import given_path
from geotl.lecture.texts import Both, Claim, Text
from geotl.training.kornia_keys import stated_fault
from geotl.training.settings import Augmentation, Section

Count = Annotated[int, Field(ge=1, le=100_000)]
Rate = Annotated[float, Field(gt=0, le=10)]
Penalty = Annotated[float, Field(ge=0, le=1e6)]
Factor = Annotated[float, Field(gt=0, le=10)]
Angle = Annotated[float, Field(ge=0, le=180)]
Part = Literal["fitting", "implicit", "explicit", "transfer", "architectures"]
FIRST_SEED = 1000  # of what is reported; smaller ones chose the recipes' numbers
PARTS: Mapping[str, str] = {
    "fitting": "Sous-apprentissage et surapprentissage / Under- and overfitting",
    "implicit": "Régularisation implicite / Implicit regularisation",
    "explicit": "Régularisation explicite / Explicit regularisation",
    "transfer": "Apprentissage par transfert / Transfer learning",
    "architectures": "Architectures intéressantes / Architectures of interest",
}
ORDER = (
    "under_over_just_right",
    "width_sweep",
    "capacity_check",
    "overfit_then_regularise",
    "more_labels",
    "gradient_descent",
    "early_stopping",
    "standardisation",
    "batchnorm_training",
    "batchnorm_derivation",
    "augment_turns",
    "augment_rotate",
    "augment_noise",
    "augment_noise_for_blur",
    "augment_blur",
    "augment_crop",
    "augment_light",
    "augment_erase",
    "dropout_masks",
    "dropout_effect",
    "weight_histograms",
    "lambda_sweep",
    "weight_decay_gradient",
    "label_smoothing_effect",
    "mixup_effect",
    "transfer_or_random",
    "freezing_depth",
    "stage_probes",
    "first_kernels",
    "search_space",
    "lenet5",
    "alexnet",
    "bottleneck_1x1",
    "googlenet_parallel",
    "vgg16",
    "plain_or_residual",
    "residual_identity",
    "parameter_table",
)


class Drawn(Section):
    """Tiles drawn from the samples; sites are never on both sides."""

    region: Literal["source", "target"] = Field("source", description="region of the sample tiles")
    bands: Annotated[tuple[Text, ...], Strict(False)] = Field(
        ("B02", "B03", "B04", "B08"), min_length=1, description="bands used"
    )
    shots: int = Field(10, ge=1, le=40, description="training tiles per class [tiles]")
    test_tiles: int = Field(270, ge=9, le=400, description="most test tiles [tiles]")
    seeds: int = Field(3, ge=1, le=50, description="repetitions, each with its own draw [seeds]")
    seed: int = Field(
        FIRST_SEED, ge=0, description="the first seed; numbers were chosen with smaller ones"
    )
    tiles_from: Text | None = Field(
        None, description="folder with source/ and target/ in place of the sample tiles"
    )


class Trained(Drawn):
    """A small training on sample tiles."""

    backbone: Text = Field("resnet18", description="name of the backbone")
    cut_after: Text | None = Field("layer1", description="last stage kept; null: all")
    input_px: int | None = Field(None, ge=8, le=128, description="side of the network's input [px]")
    epochs: int = Field(12, ge=1, le=200, description="passes over the tiles [epochs]")
    batch_size: int = Field(32, ge=2, le=512, description="tiles in a batch [tiles]")
    lr: Rate = Field(0.003, description="peak learning rate [1/step]")


class Shallow(Drawn):
    """One hidden layer on statistics of the bands; some of its training labels are wrong."""

    bands: Annotated[tuple[Text, ...], Strict(False)] = Field(
        ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
        min_length=1,
        description="bands whose mean and sd are the attributes",
    )
    shots: int = Field(20, ge=1, le=40, description="training tiles per class [tiles]")
    seeds: int = Field(8, ge=1, le=50, description="repetitions, each with its own draw [seeds]")
    wrong: float = Field(0.3, ge=0, lt=1, description="training labels that are wrong [fraction]")
    width: Count = Field(128, description="hidden neurons [neurons]")
    steps: int = Field(400, ge=1, le=10_000, description="steps of Adam [steps]")
    lr: Rate = Field(0.01, description="Adam's rate [1/step]")


class Levels(Section):
    """Numbers of a demonstration without training on tiles."""

    seed: int = Field(0, ge=0, description="of everything random")


class ThreeFits(Shallow):
    """A network too small, one too free, one just right, on two attributes."""

    classes: Annotated[tuple[Text, ...], Strict(False)] = Field(
        ("broadleaf_forest", "industrial", "residential", "wetland"),
        min_length=2,
        max_length=8,
        description="classes",
    )
    attributes: Annotated[tuple[Text, ...], Strict(False)] = Field(
        ("B04 mean", "B11 sd"), min_length=2, max_length=2, description="attributes: BAND mean|sd"
    )
    target: float = Field(0.78, gt=0, lt=1, description="test accuracy wanted [fraction]")
    small: Count = Field(1, description="neurons of the network that is too small [neurons]")
    penalty: Penalty = Field(0.003, description="lambda of the regularised network")


class Capacity(Levels):
    """Noise with random labels, overfitted on purpose."""

    tiles: int = Field(64, ge=4, le=256, description="tiles of noise [tiles]")
    classes: int = Field(10, ge=2, le=64, description="classes of the random labels [classes]")
    steps: int = Field(100, ge=1, le=2000, description="most steps [steps]")
    lr: Rate = Field(0.001, description="Adam's rate [1/step]")
    trap: Text = Field("resnet18", description="batch-normalised backbone read in both modes")
    trap_steps: int = Field(12, ge=1, le=500, description="steps of that backbone [steps]")


class Widths(Shallow):
    """One hidden layer, wider and wider."""

    widths: Annotated[tuple[Count, ...], Strict(False)] = Field(
        (1, 2, 4, 8, 16, 32, 64, 128), min_length=2, description="hidden neurons [neurons]"
    )


class TwoStages(Shallow):
    """Overfit first, then regularise."""

    target: float = Field(0.99, gt=0, lt=1, description="training accuracy of stage 1 [fraction]")
    l2: Penalty = Field(0.001, description="lambda of stage 2")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout of stage 2 [fraction]")


class Dropped(Shallow):
    """The same training without and with dropout."""

    p: float = Field(0.5, gt=0, lt=1, description="chance of a neuron to be off [fraction]")


class MoreLabels(Shallow):
    """A linear head by labels per class."""

    sizes: Annotated[tuple[Count, ...], Strict(False)] = Field(
        (5, 10, 20, 40), min_length=2, description="labels per class [tiles]"
    )
    free: Penalty = Field(1e5, description="C of the free head: next to no penalty")
    penalised: Penalty = Field(1.0, description="C of the regularised head (smaller is stronger)")


class Descent(Levels):
    """Gradient descent on fewer equations than unknowns."""

    rows: int = Field(20, ge=2, le=500, description="equations")
    columns: int = Field(100, ge=3, le=2000, description="unknowns")
    steps: int = Field(400, ge=1, le=100_000, description="steps [steps]")


class Stopping(Trained):
    """Early stopping compared with a checkpoint."""

    patience: int = Field(3, ge=1, le=50, description="epochs without gain [epochs]")
    wrong: float = Field(0.2, ge=0, lt=1, description="training labels that are wrong [fraction]")


class Standardised(Drawn):
    """Attributes of one scale."""

    houses: int = Field(500, ge=10, le=100_000, description="houses simulated")
    steps: int = Field(60, ge=1, le=10_000, description="steps of gradient descent [steps]")


class Batchnorm(Drawn):
    """Batch normalisation on a batch of maps."""

    tiles: int = Field(64, ge=4, le=400, description="tiles in the batch [tiles]")


class Normalised(Trained):
    """Training without and with batch normalisation."""

    target: float = Field(0.8, gt=0, lt=1, description="training accuracy waited for [fraction]")


class Shift(Section):
    """How test tiles differ from training tiles: another sensor, season, sky or place."""

    noise: float = Field(0.0, ge=0, le=20, description="sd of Gaussian noise [sd of the band]")
    blur_px: float = Field(0.0, ge=0, le=20, description="sd of a Gaussian blur [px]")
    gain: Annotated[tuple[Factor, Factor], Strict(False)] = Field(
        (1.0, 1.0), description="lowest and highest factor of reflectance [factor]"
    )
    slope: float = Field(0.0, ge=0, lt=0.7, description="light across a tile 1 -+ this [fraction]")
    part: float = Field(1.0, gt=0.01, le=1, description="share of a tile that fills it [fraction]")
    gaps: float = Field(0.0, ge=0, lt=1, description="share lost under clouds [fraction]")
    rows_deg: Annotated[tuple[Angle, Angle], Strict(False)] = Field(
        (0.0, 0.0), description="lowest and highest direction of fields' rows [degrees]"
    )


class Varied(Trained):
    """Training without and with an augmentation, tested where something differs."""

    tiles: Literal["sample", "fields"] = Field(
        "sample", description="the sample tiles, or parcels planted in rows, made by code"
    )
    augment: Augmentation = Field(
        Augmentation(), description="the augmentation shown and trained with"
    )
    shift: Shift = Field(Shift(), description="what differs in the test tiles")
    shown: Text = Field("residential", description="class of the tile that is shown")


class Remedies(Varied):
    """Noise and blur, each trained with, tested on blurred tiles."""

    remedy_px: float = Field(4.0, gt=0, le=20, description="largest sd of the blur [px]")


class Masks(Levels):
    """Dropout's masks."""

    p: float = Field(0.3, gt=0, lt=1, description="chance of a neuron to be off [fraction]")
    neurons: int = Field(1000, ge=10, le=100_000, description="neurons")
    passes: int = Field(200, ge=2, le=5000, description="forward passes")


class Softened(Trained):
    """Training with whole labels and with softened ones."""

    value: float = Field(
        0.1, gt=0, le=10, description="label smoothing, or a of mixup's Beta(a, a)"
    )
    wrong: float = Field(0.0, ge=0, lt=0.9, description="share of wrong training labels [fraction]")


class Decay(Shallow):
    """The same training at several lambdas."""

    penalties: Annotated[tuple[Penalty, ...], Strict(False)] = Field(
        (0.0, 0.001, 0.003, 0.01, 0.03, 0.1), min_length=2, description="lambdas, rising"
    )


class Gradient(Drawn):
    """What the penalty adds to a gradient."""

    penalty: Penalty = Field(0.05, description="lambda")
    lr: Rate = Field(0.1, description="SGD's rate [1/step]")


class Transferred(Trained):
    """A training from pretrained weights."""

    region: Literal["source", "target"] = Field("target", description="region of the task")
    cut_after: Text | None = Field("layer2", description="last stage kept; null: all")
    input_px: int | None = Field(28, ge=8, le=128, description="side of the network's input [px]")
    weights: Text | None = Field(
        None, description="weight file; null: the source network that comes with geotl"
    )
    goal: float = Field(0.6, gt=0, lt=1, description="test accuracy waited for [fraction]")


class BackboneTable(Levels):
    """Parameters of backbones."""

    names: Annotated[tuple[Text, ...], Strict(False)] = Field(
        ("lenet5", "alexnet", "googlenet", "inception_v3", "vgg16", "resnet18", "resnet50"),
        min_length=1,
        description="backbones",
    )


class Bottleneck(Levels):
    """A wide convolution without and with a 1x1 before it."""

    side: Count = Field(28, description="side of the map [px]")
    channels: Count = Field(192, description="channels coming in")
    filters: Count = Field(32, description="filters of the wide kernel")
    kernel: int = Field(5, ge=3, le=15, description="side of the wide kernel [px]")
    narrow: Count = Field(16, description="channels after the 1x1 convolution")
    repeats: int = Field(20, ge=1, le=1000, description="timed passes")


class Pictured(Drawn):
    """The inside of a network, with a tile."""


class Residual(Trained):
    """The same layers without and with shortcuts."""

    backbone: Text = Field("resnet34", description="a ResNet of basic blocks")
    cut_after: Text | None = Field("layer3", description="last stage kept; null: all")
    input_px: int | None = Field(24, ge=8, le=128, description="side of the network's input [px]")


NUMBERS: Mapping[str, type[Section]] = {
    "three_fits": ThreeFits,
    "capacity_check": Capacity,
    "width_sweep": Widths,
    "two_stages": TwoStages,
    "more_labels": MoreLabels,
    "gradient_descent": Descent,
    "early_stopping": Stopping,
    "standardisation": Standardised,
    "batchnorm_derivation": Batchnorm,
    "batchnorm_training": Normalised,
    "augmentation": Varied,
    "noise_for_blur": Remedies,
    "label_smoothing": Softened,
    "mixup": Softened,
    "dropout_masks": Masks,
    "dropout_effect": Dropped,
    "decay_gradient": Gradient,
    "weight_histograms": Decay,
    "lambda_sweep": Decay,
    "transfer_or_random": Transferred,
    "search_space": Transferred,
    "freezing_depth": Transferred,
    "first_kernels": Transferred,
    "stage_probes": Transferred,
    "parameter_table": BackboneTable,
    "bottleneck": Bottleneck,
    "lenet5": Pictured,
    "alexnet": Levels,
    "parallel_filters": Pictured,
    "vgg16": Levels,
    "zeroed_residual": Levels,
    "plain_or_residual": Residual,
}


class LectureRecipe(Section):
    """A recipe of the lecture, as its file states it; `numbers` are checked by NUMBERS."""

    part: Part = Field(description="part of the lecture")
    title: Both = Field(description="its title")
    demonstration: Text = Field(description="name of the demonstration")
    design: Both | None = Field(
        None, description="what in data and training makes the technique matter, in a sentence"
    )
    claims: dict[str, Claim] = Field(min_length=1, description="what the lecture claims, by a key")
    note: Both | None = Field(None, description="what the slide has wrong, or leaves out")
    play: Text | None = Field(None, description="one number to change: key=value")
    numbers: dict[str, Any] = Field({}, description="numbers that differ from the defaults")


def in_order(names: Iterable[str] | None = None) -> list[str]:
    """Names of recipes, or of all, in the order of the slides; one not in ORDER comes last.

    >>> in_order(["vgg16", "mine", "dropout_masks"])
    ['dropout_masks', 'vgg16', 'mine']
    """
    places = {name: place for place, name in enumerate(ORDER)}
    chosen = lectures() if names is None else names
    return sorted(chosen, key=lambda name: (places.get(name, len(ORDER)), name))


def load_lecture(
    source: str | Path, overrides: Sequence[str] = ()
) -> tuple[str, LectureRecipe, Any]:
    """A recipe's name, the recipe, and its numbers with `key=value` laid over them.

    Raises:
        RecipeError: no such recipe, or all faults, one per line.
    """
    path = _path(str(source))
    stated, faults = yaml.parse(path.read_text(encoding="utf-8"))
    if faults or not isinstance(stated, dict):
        raise RecipeError("\n".join(f"{path}: {f}" for f in faults or ["not keys with values"]))
    recipe: LectureRecipe = _checked(LectureRecipe, stated, str(path))
    if recipe.demonstration not in NUMBERS:
        hint = nearest(recipe.demonstration, NUMBERS)
        raise RecipeError(f"{path}: demonstration: given {recipe.demonstration!r}; {hint}")
    kind = NUMBERS[recipe.demonstration]
    _checked(kind, recipe.numbers, f"{path}: numbers")
    values = recipe.numbers
    for key, value in map(_override, overrides):
        values = _with(values, key.split("."), value)
    numbers = _checked(kind, values, f"{path.stem}: command line")
    return path.stem, recipe, numbers


def _path(source: str) -> Path:
    """The file of a name, or the file itself."""
    if source.endswith((".yaml", ".yml")):
        path = given_path(source)
        if not path.is_file():
            raise RecipeError(f"{source}: no such file; geotl lecture --list shows the names")
        return path
    files = lectures()
    name = source.removeprefix("lecture/")
    if name not in files:
        raise RecipeError(f"{source}: no recipe of the lecture; {nearest(name, files)}")
    return files[name]


def _with(values: Mapping[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    """Values with one replaced, which may be a key of a section.

    >>> _with({"shift": {"noise": 2.0}}, ["shift", "blur_px"], 1.0)
    {'shift': {'noise': 2.0, 'blur_px': 1.0}}
    """
    first, *rest = keys
    inner = values.get(first)
    below = inner if isinstance(inner, Mapping) else {}
    return {**values, first: _with(below, rest, value) if rest else value}


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    parsed, faults = yaml.parse(value)
    if not equals or faults:
        raise RecipeError(f"command line: {text!r}; allowed: key=value, such as seeds=5")
    return key.strip(), parsed


def _checked(kind: type[BaseModel], values: Mapping[str, Any], where: str) -> Any:
    """Values as a model of this kind.

    Raises:
        RecipeError: with every fault, one a line.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        lines = [_fault(kind, entry) for entry in error.errors(include_url=False)]
        raise RecipeError("\n".join(f"{where}: {line}" for line in lines)) from error


def _fault(kind: type[BaseModel], entry: Any) -> str:
    """One line: the key, what was given, what is allowed."""
    key = ".".join(map(str, entry["loc"]))
    if text := stated_fault(entry):
        return f"{key}: {text}"
    if entry["type"] == "extra_forbidden":
        fields = Augmentation.model_fields if "." in key else kind.model_fields
        hint = nearest(str(entry["loc"][-1]), fields)
        return f"{key}: given {entry['input']!r}, but there is no such key; {hint}"
    message = entry["msg"][0].lower() + entry["msg"][1:]
    return f"{key}: given {entry['input']!r}; {message}"
