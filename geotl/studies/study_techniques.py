"""The techniques that a study tries, as data, and the recipes of each of them.

A trial is a pair of recipes that differ in one key. Its `context` holds on both sides, where a
technique can only be shown in another setting than the start's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from geotl.errors import RecipeError, nearest
from geotl.evaluation.regularisers import everything_off
from geotl.experiments.build import fitting_px, has_inner
from geotl.experiments.presets import input_sizes, one_size
from geotl.experiments.recipe import Recipe
from geotl.experiments.schema import contradictions
from geotl.models.backbone import skeleton
from geotl.models.registry import get_backbone
from geotl.training.settings import Augmentation, augmentation_keys

Start = Literal["as it is", "trained"]
Kind = Literal["explicit", "implicit", "transfer", "architecture", "probe"]
AS_IT_IS: Final = "as it is"
TRAINED: Final = "trained"
EPOCHS, PATIENCE = 15, 5  # of trials without epochs in their recipe
SAME = "same"  # an `off` that is the value of the start
GENERATED: Final = "generated"  # a `data.synthetic` whose generator is trained on every fold
GAN_TILES = 20  # of each class


@dataclass(frozen=True)
class Trial:
    """One technique at one setting: what it is off and on.

    Attributes:
        technique: which of the techniques, such as `dropout`; `--only` names these.
        kind: explicit or implicit regulariser, transfer or architecture, as the lecture sorts them.
        key: the one key in which the pair differs, or a whole section of keys.
        on: its value with the technique.
        off: its value without; `SAME` for the start's own.
        context: keys that are equal on both sides and differ from the start's.
        note: what the pair compares, where the key does not show it.
    """

    technique: str
    kind: Kind
    key: str
    on: Any
    off: Any = SAME
    context: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def name(self) -> str:
        """Technique and setting, in a few characters."""
        return f"{self.technique} {setting(self.key, self.on)}".strip()


AUGMENT_ALL = Augmentation(
    rotate_deg=20.0, scale=(0.9, 1.1), crop=0.8, noise=0.1, blur=0.5, brightness=0.1, contrast=0.1
)
NO_REGULARISER: Mapping[str, Any] = {
    **everything_off(augmentation_keys()),
    "train.patience": PATIENCE,
    "model.adabn": "none",
    "model.hold_batchnorm": False,
    "model.normalise": "training",
    "probe.views": 1,
    "probe.unlabelled": "none",
    "probe.pool": None,
}

MADE_TILES = Trial(
    "gan_tiles",
    "explicit",
    "data.synthetic",
    GENERATED,
    note=f"{GAN_TILES} tiles per class of a generator trained on the fold's own tiles",
)

# What is tried on a network in training. Add a line to try another technique.
ON_TRAINING: tuple[Trial, ...] = (
    *(
        Trial("weight_decay", "explicit", "train.l2", lam, note="lambda * sum(w^2) in the loss")
        for lam in (0.0001, 0.001, 0.01, 0.1)
    ),
    Trial("decoupled_decay", "explicit", "train.weight_decay", 0.1, note="AdamW's own decay"),
    Trial("dropout", "explicit", "model.dropout", 0.3),
    Trial("flips", "explicit", "augment.flips", True),
    Trial("quarter_turns", "explicit", "augment.quarter_turns", True),
    Trial("rotation", "explicit", "augment.rotate_deg", 20.0),
    Trial("crop", "explicit", "augment.crop", 0.8),
    Trial("noise", "explicit", "augment.noise", 0.1),
    Trial("blur", "explicit", "augment.blur", 1.0),
    Trial("brightness", "explicit", "augment.brightness", 0.1),
    Trial("contrast", "explicit", "augment.contrast", 0.1),
    Trial("erasing", "explicit", "augment.erase", 0.5),
    Trial("band_dropout", "explicit", "augment.band_dropout", 0.1),
    Trial(
        "all_augmentation",
        "explicit",
        "augment",
        AUGMENT_ALL,
        note="flips, quarter turns, rotation, scale, crop, noise, blur, brightness, contrast",
    ),
    Trial("label_smoothing", "explicit", "train.label_smoothing", 0.1),
    Trial("mixup", "explicit", "augment.mixup", 0.2),
    MADE_TILES,
    Trial(
        "early_stopping",
        "implicit",
        "train.choice_folds",
        1,
        note=f"a fold of the labels chooses the epochs, patience {PATIENCE}",
    ),
    Trial("weight_averaging", "implicit", "train.swa_from", 0.5),
    Trial("views", "explicit", "probe.views", 8, note="answers averaged over flips and turns"),
)


FAMILIES = ("lenet5", "alexnet", "squeezenet1_1", "resnet18")
FROM_NOISE: Mapping[str, Any] = {"strategy": "scratch", "model.weights": "none"}
WHOLE: Mapping[str, Any] = {**FROM_NOISE, "model.cut_after": None, "model.stages": None}
AS_THE_WEIGHTS = "inputs standardised as the weights' were"


def training_trials(recipe: Recipe, base: Recipe, *, folded: bool) -> list[Trial]:
    """Every trial of the trained start: the list above, and those that depend on the network.

    Args:
        recipe: as the user gave it.
        base: the trained start.
        folded: whether batch normalisation is folded into the weights.
    """
    name, weights, trials = base.model.backbone, recipe.model.weights, list(ON_TRAINING)
    if recipe.augment.kornia:
        why = "the recipe's own list"
        trials.append(
            Trial("kornia", "explicit", "augment.kornia", recipe.augment.kornia, note=why)
        )
    if weights != "none":
        trials += [
            Trial(
                "weights_statistics", "transfer", "model.normalise", "weights", note=AS_THE_WEIGHTS
            ),
            Trial(
                "pretrained",
                "transfer",
                "model.weights",
                weights,
                "none",
                {"strategy": "full"},
                "all stages trained on both sides",
            ),
        ]
    if base.strategy == "finetune":
        stages = _kept_stages(base)
        trials += [
            Trial("freezing", "transfer", "freeze_until", stage, note="the last frozen stage")
            for stage in stages
            if stage != (base.freeze_until or stages[-2])
        ]
        trials.append(Trial("freezing", "transfer", "strategy", "full", note="nothing frozen"))
    hold = "model.hold_batchnorm"
    if has_batchnorm(name):
        why = "random weights; off: fixed at mean 0 and sd 1, which normalises nothing"
        trials.append(Trial("batch_norm", "implicit", hold, False, True, FROM_NOISE, why))
    if has_batchnorm(name) and weights != "none" and not folded:
        why = "off: fixed at the weights' statistics"
        trials.append(Trial("batch_norm_tuned", "implicit", hold, False, True, note=why))
    trials += [
        Trial(
            "backbone",
            "architecture",
            "model.backbone",
            other,
            name,
            WHOLE,
            f"whole networks from random weights; off: {name}",
        )
        for other in FAMILIES
        if other != name
    ]
    return trials


def probe_trials(recipe: Recipe, tile_px: int, *, folded: bool) -> list[Trial]:
    """Every trial of a recipe that is a probe: the few keys that matter to a linear head."""
    model = recipe.model
    fit = fitting_px(recipe)
    key, values = "probe.penalties", [0.001, 0.01, 0.1, 1.0, 10.0]
    if recipe.probe.head == "discriminant":
        key, values = "probe.shrinkages", [0.01, 0.1, 0.4, 0.8]
    why = "one strength; off: folds inside the labels choose"
    trials = [Trial("weight_decay", "probe", key, (value,), note=why) for value in values]
    rendered = len(model.renderings) > 1
    sizes = input_sizes(tile_px, fit, rendered=rendered), one_size(tile_px, fit)
    trials += [
        Trial("head", "probe", "probe.head", "discriminant", "logistic"),
        Trial("views", "explicit", "probe.views", 8, 1),
        Trial("views", "explicit", "probe.views", 4, 1),
        Trial("unit_length", "probe", "model.unit_length", True, False),
        Trial("pooling", "probe", "model.pool", "root_mean", "mean"),
        Trial("sizes", "probe", "model.input_px", *sizes),
        MADE_TILES,
    ]
    if rendered:
        several, one = model.renderings, ("given",)
        trials.append(Trial("renderings", "probe", "model.renderings", several, one))
    if has_inner(recipe):
        trials.append(Trial("inner_activations", "probe", "model.inner_activations", True, False))
    if model.weights != "none":
        normalise = {"model.normalise": "training"}
        trials += [
            Trial(
                "weights_statistics",
                "transfer",
                "model.normalise",
                "weights",
                "training",
                note=AS_THE_WEIGHTS,
            ),
            Trial("pretrained", "transfer", "model.weights", model.weights, "none", normalise),
        ]
    if model.weights != "none" and has_batchnorm(model.backbone) and not folded:
        why = "its statistics re-estimated on the training tiles (AdaBN)"
        trials.append(Trial("batch_norm", "implicit", "model.adabn", "training", "none", note=why))
    trials += [
        Trial("depth", "transfer", "model.cut_after", stage, note="the last stage used")
        for stage in _kept_stages(recipe)[1:-1]
    ]
    return trials


def not_for_a_probe(recipe: Recipe) -> list[str]:
    """Techniques of training that do not matter to a linear head on frozen features."""
    if recipe.strategy != "probe":
        return []
    touched = ("train.", "augment", "model.dropout", "freeze_until")
    names = [trial.technique for trial in ON_TRAINING if trial.key.startswith(touched)]
    return [*dict.fromkeys(n for n in names if n != "weight_decay"), "freezing"]


def trained_start(recipe: Recipe) -> Recipe:
    """The recipe fine-tuned (from random weights: trained completely) with every regulariser off.

    Keys that `strategy: auto` would settle for a probe stay at their defaults.
    """
    changes = dict(NO_REGULARISER)
    if "epochs" not in recipe.train.model_fields_set:
        changes["train.epochs"] = EPOCHS
    if recipe.train.head_lr == 0:  # of a head that was fitted; this one begins at random
        changes["train.head_lr"] = None
    strategy = "finetune" if recipe.model.weights != "none" else "scratch"
    if strategy == "finetune" and (
        recipe.model.first_conv in ("random", "zero") or len(_kept_stages(recipe)) < 2
    ):
        strategy = "full"
    changes["strategy"] = strategy
    if strategy != "finetune":
        changes["freeze_until"] = None
    return changed(recipe, changes)


def pair(base: Recipe, trial: Trial) -> tuple[Recipe, Recipe]:
    """The recipes with a technique off and on; they differ in the trial's key alone.

    Raises:
        RecipeError: a side contradicts itself.
    """
    start = changed(base, trial.context)
    off = start if trial.off == SAME else changed(start, {trial.key: trial.off})
    return off, changed(off, {trial.key: trial.on})


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with other values for some keys, whole sections among them.

    Without weights a checksum and stages missing from their file mean nothing and go too; with
    synthetic tiles there is one split, on which their generator is trained.

    Raises:
        RecipeError: the result contradicts itself.

    >>> changed(Recipe(), {"model.dropout": 0.3, "seed": 4}).model.dropout
    0.3
    """
    if changes.get("model.weights") == "none":
        changes = {**changes, "model.sha256": None, "model.fresh": ()}
    if changes.get("data.synthetic"):
        changes = {**changes, "split.draws": 1}
    for key, value in changes.items():
        section, _, name = key.rpartition(".")
        if section:
            inside = getattr(recipe, section).model_copy(update={name: value})
            recipe = recipe.model_copy(update={section: inside})
        else:
            recipe = recipe.model_copy(update={key: value})
    faults = [f"{key}: {message}" for key, message in contradictions(recipe.model_dump(), set())]
    if faults:
        raise RecipeError("; ".join(faults))
    return recipe


def alternative(base: Recipe, trial: Trial) -> Recipe | None:
    """The side of a trial that the start is not; None where neither side is the start."""
    off, on = pair(base, trial)
    if off == base:
        return on if on != base else None
    return off if on == base else None


def chosen(trials: Iterable[Trial], only: Sequence[str]) -> list[Trial]:
    """The trials of some techniques; all without names.

    Raises:
        RecipeError: a technique that no trial is of.
    """
    everything = list(trials)
    techniques = list(dict.fromkeys(trial.technique for trial in everything))
    for name in only:
        if name not in techniques:
            raise RecipeError(f"--only: given {name}; {nearest(name, techniques)}")
    return [trial for trial in everything if not only or trial.technique in only]


def has_batchnorm(backbone: str) -> bool:
    """Whether a backbone normalises by the batch."""
    return any(name.endswith("running_mean") for name, *_ in skeleton(get_backbone(backbone)))


def setting(key: str, value: object) -> str:
    """A trial's value in a few characters; nothing where the technique's name says it all.

    >>> setting("train.l2", 0.001), setting("probe.penalties", (0.1,))
    ('0.001', '0.1')
    >>> setting("model.input_px", (64, 128)), setting("strategy", "full"), setting("a.b", True)
    ('64,128', 'none', '')
    """
    if key == "strategy":
        return "none"
    if isinstance(value, bool) or key in _SAID_BY_NAME:
        return ""
    if key == "augment.kornia" and isinstance(value, tuple):
        return ",".join(name for step in value for name in step)
    if isinstance(value, tuple):
        return ",".join(one if isinstance(one, str) else f"{one:g}" for one in value)
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


_SAID_BY_NAME = {
    "augment",
    "data.synthetic",
    "model.weights",
    "model.normalise",
    "model.adabn",
    "train.choice_folds",
}


def _kept_stages(recipe: Recipe) -> tuple[str, ...]:
    """The stages that a recipe's network keeps."""
    stages = get_backbone(recipe.model.backbone).stages
    last = recipe.model.cut_after or stages[-1]
    return stages[: stages.index(last) + 1] if last in stages else stages
