"""Presets: the settings that paid at a number of labels per class, as measured in docs/PRESETS.md.

`strategy: auto` takes the preset of the labels at hand for every key that the recipe leaves alone,
`strategy: probe_then_finetune` the one that pays for fine-tuning. The figures behind them are
printed by benchmarks/presets.py and benchmarks/tuning.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from geotl.errors import RecipeError
from geotl.experiments.recipe import Recipe
from geotl.experiments.schema import contradictions

Regime = Literal["scarce", "some", "many"]
Fitting = Callable[[int], int]
SCARCE, SOME = 20, 200  # labels per class up to which a regime reaches
_DISCRIMINANT: Mapping[str, Any] = {
    "strategy": "probe",
    "probe.head": "discriminant",
    "probe.views": 4,
    "model.pool": "root_mean",
    "model.unit_length": True,
}
_FUSED: Mapping[str, Any] = {"model.fuse_statistics": "auto"}
_PROBE: Mapping[str, Any] = {
    **_DISCRIMINANT,
    **_FUSED,
    "probe.shrinkages": (0.1, 0.2, 0.4, 0.6),
}
PRESETS: Mapping[Regime, Mapping[str, Any]] = {"scarce": _PROBE, "some": _PROBE, "many": _PROBE}
TUNED: Mapping[str, Any] = {  # head and pooling are the probe's; the head stays as it was fitted
    **{key: value for key, value in _DISCRIMINANT.items() if key != "strategy"},
    "train.epochs": 10,
    "train.lr": 1e-4,
    "train.lr_decay": 1.0,
    "train.head_lr": 0.0,
    "train.choice_folds": 2,
}
_RATES = (
    "train.lr",
    "train.lr_decay",
    "train.head_lr",
)  # one choice: a recipe states it completely
PRESET_STRATEGIES = ("auto", "probe_then_finetune")
FROM_RANDOM: Mapping[str, Any] = {"strategy": "scratch", **_FUSED}  # many labels, no weights
_INNER: Mapping[str, Any] = {"model.inner_activations": True}  # of a probe, where there are any
_RENDERED: Mapping[str, Any] = {"model.renderings": ("given", "reversed", "shifted", "negative")}
COLOURS = 3  # bands of tiles that are rendered; with ten bands it lost accuracy
LEAST_PX = 8  # that model.input_px may be
MOST_PX = 64  # that the smallest input size is; larger tiles are shrunk to it
TIMES = (1, 2, 3)  # input sizes, in multiples of the smallest
RENDERED_TIMES = TIMES[:2]  # of tiles that are rendered: the third size gained nothing there


def regime(labels_per_class: float) -> Regime:
    """Name how many labels per class there are.

    >>> regime(5), regime(50), regime(500)
    ('scarce', 'some', 'many')
    """
    if labels_per_class <= SCARCE:
        return "scarce"
    return "some" if labels_per_class <= SOME else "many"


def _any_side(side: int) -> int:
    return side


def input_sizes(
    tile_px: int, fitting: Fitting = _any_side, *, rendered: bool = False
) -> tuple[int, ...]:
    """The input sizes of a network for tiles of a side, in pixels, each once.

    Args:
        tile_px: side of the tiles.
        fitting: the smallest side from the one given on that the network takes.
        rendered: in several renderings, and so at two sizes.

    >>> input_sizes(40), input_sizes(256), input_sizes(8, lambda side: max(side, 16))
    ((40, 80, 120), (64, 128, 192), (16, 32, 48))
    >>> input_sizes(40, rendered=True)
    (40, 80)
    >>> input_sizes(256, lambda side: max(side, 224))
    (224,)
    """
    side = MOST_PX if tile_px > MOST_PX else fitting(max(LEAST_PX, tile_px))
    several = RENDERED_TIMES if rendered else TIMES
    return tuple(dict.fromkeys(fitting(times * side) for times in several))


def one_size(tile_px: int, fitting: Fitting) -> tuple[int, ...]:
    """The input size of a network for tiles: their own, (), or the smallest one that it takes.

    >>> one_size(64, lambda side: max(side, 16)), one_size(8, lambda side: max(side, 16))
    ((), (16,))
    """
    side = fitting(tile_px)
    return () if side == tile_px else (side,)


def settled(
    recipe: Recipe,
    labels_per_class: float,
    tile_px: int,
    fitting: Fitting = _any_side,
    *,
    inner: bool = False,
    bands: int = 1,
) -> tuple[Recipe, str]:
    """The recipe with the preset of its strategy filled in, and a line that lists these keys.

    `auto` becomes the strategy of the preset. Keys that the recipe states stay as they are; with
    `train.lr` it states the other rates too, so that recipes of runs keep their meaning.

    Args:
        recipe: any; one whose strategy has no preset is returned as it is, with an empty line.
        labels_per_class: median number of training labels per class.
        tile_px: side of the tiles in pixels.
        fitting: the smallest side from the one given on that the recipe's network takes.
        inner: whether its last pooled stage ends in a residual block.
        bands: of the tiles.

    Raises:
        RecipeError: the recipe's own keys contradict the preset.
    """
    if recipe.strategy == "probe_then_finetune":
        how = f"strategy {recipe.strategy}"
        rated = _stated(recipe, "train.lr")
        preset = {key: value for key, value in TUNED.items() if not (rated and key in _RATES)}
        if size := one_size(tile_px, fitting):
            preset["model.input_px"] = size
        filled, taken = _filled(recipe, preset, how)
        return filled, f"{how}: {taken}" if taken else ""
    if recipe.strategy != "auto":
        return recipe, ""
    kind = regime(labels_per_class)
    blank = kind == "many" and recipe.model.weights == "none"
    rendered = bands == COLOURS and tile_px <= MOST_PX
    preset = {**FROM_RANDOM} if blank else _probe_of(kind, inner=inner, rendered=rendered)
    several = input_sizes(tile_px, fitting, rendered=rendered)
    sizes = one_size(tile_px, fitting) if blank else several
    if sizes:
        preset["model.input_px"] = sizes
    filled, taken = _filled(recipe, preset, f"strategy auto ({kind} labels)")
    return filled, f"strategy auto, {kind} labels ({labels_per_class:g} per class): {taken}"


def _probe_of(kind: Regime, *, inner: bool, rendered: bool) -> dict[str, Any]:
    """The preset of a probe, for what its network and tiles have."""
    return {**PRESETS[kind], **(_INNER if inner else {}), **(_RENDERED if rendered else {})}


def without_tuning(recipe: Recipe) -> Recipe:
    """The recipe with what the fine-tuning's preset gave its training back at the defaults.

    >>> filled = settled(Recipe(strategy="probe_then_finetune"), 50, 64)[0]
    >>> filled.train == Recipe().train, without_tuning(filled).train == Recipe().train
    (False, True)
    """
    if recipe.strategy != "probe_then_finetune":
        return recipe
    names = [key.partition(".")[2] for key in TUNED if key.startswith("train.")]
    fields, values = type(recipe.train).model_fields, recipe.train.model_dump()
    back = {name: fields[name].default for name in names if values[name] == TUNED[f"train.{name}"]}
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=back)})


def _filled(recipe: Recipe, preset: Mapping[str, Any], how: str) -> tuple[Recipe, str]:
    """A recipe with the wanted values of keys that it does not state, and which these are.

    Raises:
        RecipeError: the recipe's own keys contradict them.
    """
    taken = {key: value for key, value in preset.items() if not _stated(recipe, key)}
    filled = _with(recipe, taken)
    faults = [f"{key}: {message}" for key, message in contradictions(filled.model_dump(), set())]
    if faults:
        raise RecipeError(f"{how}: " + "; ".join(faults))
    return filled, ", ".join(f"{key}={_shown(value)}" for key, value in taken.items())


def _stated(recipe: Recipe, key: str) -> bool:
    """Whether the recipe itself gives this key; `strategy: auto` counts as not given."""
    section, _, name = key.rpartition(".")
    return bool(section) and name in getattr(recipe, section).model_fields_set


def _with(recipe: Recipe, taken: Mapping[str, Any]) -> Recipe:
    """A copy with some keys replaced."""
    return recipe.model_copy(update=dict(_sections(recipe, taken)))


def _sections(recipe: Recipe, taken: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for section in dict.fromkeys(key.partition(".")[0] for key in taken):
        inside = {
            key.partition(".")[2]: value
            for key, value in taken.items()
            if key.startswith(f"{section}.")
        }
        stated = taken.get(section)
        yield section, getattr(recipe, section).model_copy(update=inside) if inside else stated


def _shown(value: object) -> str:
    """A value as it is written on the command line.

    >>> _shown((64, 128)), _shown(True), _shown("probe")
    ('64,128', 'true', 'probe')
    """
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
