"""Facts from a model's own file: its name, its sources, its accuracy, and where it was tested.

Nothing is computed again; what a file does not contain is left out or called unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from geotl.evaluation.metrics import Interval, wilson
from geotl.export.metadata import shareable
from geotl.io.yaml import parse
from geotl.language import msg
from geotl.models.model_file import ModelFile
from geotl.models.pixel_file import PixelModelFile

NotedModel = ModelFile | PixelModelFile  # with the same notes
SPATIAL = {"blocks": msg("blocked"), "group": msg("by group"), "scene": msg("by scene")}
SPLITS = {
    "blocks": msg("in spatial blocks: the test blocks contain no training tile"),
    "group": msg("by group: no group has tiles on both sides"),
    "scene": msg("by scene: complete scenes are the test set"),
    "shots": msg(
        "at random, a number of training tiles per class; neighbours may lie on both sides"
    ),
    "stratified": msg("at random within the classes; neighbours may lie on both sides"),
    "column": msg("as given in the labels' table"),
}


@dataclass(frozen=True)
class Accuracy:
    """How right a model was on tiles that chose nothing.

    Attributes:
        tiles: number of test tiles; `split`, how they were held out.
        figures: overall, balanced, kappa, macro_f1, each with its 95 % interval.
        spatial: the overall accuracy on areas held out in space, where that was measured.
        random: the same on a random split, where that was measured, with 95 % ends where known.
        repeats: mean and standard deviation of the overall accuracy over draws or folds.
        classes: precision, recall, f1 and support of each class.
        rivals: overall accuracy of the baselines.
        calibration: its error before and after temperature scaling.
        optimism: the random split's accuracy less the spatial one's, where both were measured.
        mistakes: (class, taken for, how often, of how many), the five most frequent.
    """

    tiles: int
    split: str
    figures: Mapping[str, Interval]
    spatial: Interval | None
    random: Interval | None
    repeats: tuple[int, float, float] | None
    classes: Mapping[str, Mapping[str, float]]
    rivals: Mapping[str, Interval]
    calibration: tuple[float, float] | None
    optimism: Interval | None = None
    mistakes: Sequence[tuple[str, str, int, int]] = ()


def recipe_of(model: NotedModel) -> dict[str, Any]:
    """A model's recipe as plain values, its paths cut to their last names; {} without one."""
    values, _ = parse(str(model.notes.get("recipe", "")))
    recipe: dict[str, Any] = shareable(values) if isinstance(values, dict) else {}
    return recipe


def name_of(recipe: Mapping[str, Any]) -> str:
    """A model's name, in letters, digits, dots, hyphens, underscores and blanks alone.

    >>> name_of({"name": "  2024/Forêts "}), name_of({"name": "ab"}), name_of({"name": "лес"})
    ('model 2024 For ts', 'model ab', 'model')
    """
    name = re.sub(r"[^a-zA-Z0-9_.-]+", " ", str(recipe.get("name") or "geotl model"))
    name = name.strip(" ._-")
    return name if re.match(r"[a-zA-Z]..", name) else f"model {name}".strip()


def title_of(recipe: Mapping[str, Any]) -> str:
    """A model's title, its name where it has none."""
    return str(recipe.get("title") or name_of(recipe))


def sources_of(recipe: Mapping[str, Any]) -> list[str]:
    """Names of the folders, scenes and label files that a model was trained from.

    >>> sources_of({"data": {"root": "tiles", "scenes": ["s.tif"]}, "labels": {"path": None}})
    ['tiles', 's.tif']
    """
    data, labels = recipe.get("data") or {}, recipe.get("labels") or {}
    names = [data.get("root"), *(data.get("scenes") or []), labels.get("path")]
    return [str(name) for name in names if name]


def lineage_of(model: NotedModel) -> list[dict[str, Any]]:
    """Every weight file that had a part in a model, oldest first, by last name, with its hash."""
    chain = model.notes.get("weights", {}).get("chain") or []
    return [
        {
            "source": shareable(one.get("source")),
            "sha256": one.get("sha256"),
            "notes": shareable(one.get("notes", [])),
        }
        for one in chain
    ]


def dates_of(model: NotedModel) -> list[str]:
    """Days of the training imagery, in order, as far as they are known."""
    return sorted(model.notes.get("training", {}).get("dates", []))


def tiles_of(model: ModelFile) -> str:
    """How many tiles a model was fitted to, labelled ones and those of a pool, if it has any."""
    pool = model.notes.get("training", {}).get("unlabelled", 0)
    labelled = len(model.training_samples.footprints)
    if not pool:
        return msg("{labelled:,} labelled tiles", labelled=labelled)
    return msg(
        "{labelled:,} labelled tiles and {pool:,} unlabelled ones", labelled=labelled, pool=pool
    )


def tiles_by_class(model: ModelFile) -> dict[str, int]:
    """How many training tiles each class had; {} where the file keeps only a part of them."""
    labels = model.training_samples.labels
    if len(labels) != len(model.training_samples.footprints):
        return {}
    counts = np.bincount(labels, minlength=len(model.contract.classes))
    return dict(zip(model.contract.classes, map(int, counts), strict=True))


def parameters_of(model: ModelFile) -> int:
    """Number of weights of a network, trained or frozen."""
    return sum(part.numel() for part in model.network.parameters())


def accuracy_of(model: NotedModel) -> Accuracy | None:
    """Accuracy from a model's own metrics; None for one that was never tested."""
    metrics = model.notes.get("metrics", {})
    if "overall_accuracy" not in metrics:
        return None
    method = str((recipe_of(model).get("split") or {}).get("method", ""))
    figures = {key: _interval(value) for key, value in metrics.get("bootstrap", {}).items()}
    figures["overall"] = _interval(metrics["overall_accuracy"])
    spatial: Interval | None = None
    random: Interval | None = figures["overall"]
    if method in SPATIAL:
        spatial = _compared(metrics, "spatial", "network") or figures["overall"]
        random = _compared(metrics, "random", "network, random split")
    calibration = metrics.get("calibration", {})
    repeats = metrics.get("draws", {}).get("network", {}).get("overall")
    return Accuracy(
        tiles=int(metrics.get("tiles", 0)),
        split=method,
        figures=figures,
        spatial=spatial,
        random=random,
        repeats=_spread(repeats),
        classes=metrics.get("per_class", {}),
        rivals={name: _interval(value) for name, value in metrics.get("baselines", {}).items()},
        calibration=(calibration["error_before"], calibration["error_after"])
        if calibration
        else None,
        optimism=_interval(metrics["optimism"]["difference"]) if "optimism" in metrics else None,
        mistakes=_mistakes(metrics.get("confusion", []), metrics.get("classes", [])),
    )


def accuracy_json(accuracy: Accuracy) -> dict[str, Any]:
    """The same as plain values."""
    ends = {name: _ends(figure) for name, figure in accuracy.figures.items()}
    values = {
        "judged_tiles": accuracy.tiles,
        "split": accuracy.split,
        **ends,
        "overall_spatial_split": _ends(accuracy.spatial),
        "overall_random_split": _ends(accuracy.random),
        "classes": {
            name: {key: round(value, 4) for key, value in number.items()}
            for name, number in accuracy.classes.items()
        },
        "compared_with": {name: _ends(number) for name, number in accuracy.rivals.items()},
    }
    return {key: number for key, number in values.items() if number}


def _mistakes(
    confusion: Sequence[Sequence[int]], classes: Sequence[str]
) -> list[tuple[str, str, int, int]]:
    """The five most frequent mistakes of a confusion matrix [truth][predicted].

    >>> _mistakes([[5, 2], [0, 9]], ["field", "wood"])
    [('field', 'wood', 2, 7)]
    """
    mistakes = [
        (classes[i], classes[j], int(count), int(sum(row)))
        for i, row in enumerate(confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(mistakes, key=lambda one: -one[2])[:5]


def _ends(figure: Interval | None) -> dict[str, float] | None:
    if figure is None:
        return None
    ends = {"value": figure.value, "low": figure.low, "high": figure.high}
    return {key: round(end, 4) for key, end in ends.items() if np.isfinite(end)}


def _interval(values: Mapping[str, float] | Sequence[float]) -> Interval:
    if isinstance(values, Mapping):
        return Interval(values["value"], values["low"], values["high"])
    return Interval(*values)


def _compared(metrics: Mapping[str, Any], side: str, method: str) -> Interval | None:
    """Overall accuracy of one side of the comparison of splits, None where it was not made.

    Folds together are one share (Wilson's interval), draws have a mean (Student's t).
    """
    spread = _spread(metrics.get("draws", {}).get(method, {}).get("overall"))
    value = (metrics.get("optimism") or {}).get(side)
    if spread is not None and not metrics.get("kfold"):
        draws, mean, sd = spread
        half = float(student.ppf(0.975, draws - 1)) * sd / draws**0.5
        return Interval(mean, max(0.0, mean - half), min(1.0, mean + half))
    if value is None:
        return None
    return wilson(round(value * int(metrics["tiles"])), int(metrics["tiles"]))


def _spread(values: Mapping[str, Any] | None) -> tuple[int, float, float] | None:
    """Draws or folds, mean and standard deviation; None of a single one."""
    if not values or values.get("draws", 0) < 2:
        return None
    return int(values["draws"]), float(values["mean"]), float(values["sd"])
