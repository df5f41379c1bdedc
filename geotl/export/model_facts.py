"""What a model's own file tells people of it: its name, its sources, how right it was, and where.

Nothing is computed anew; whatever a file does not tell is left out or said to be unknown.
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
from geotl.models.model_file import ModelFile
from geotl.models.pixel_file import PixelModelFile

NotedModel = ModelFile | PixelModelFile  # whose notes are alike
SPATIAL = {"blocks": "blocked", "group": "by group", "scene": "by scene"}
SPLITS = {
    "blocks": "in spatial blocks: whole blocks of ground are judged that no training tile lies in",
    "group": "by group: no group has tiles on both sides",
    "scene": "by scene: whole scenes are judged",
    "shots": "at random, so many tiles a class to train on; neighbours may lie on both sides",
    "stratified": "at random within the classes; neighbours may lie on both sides",
    "column": "as the labels' own table says",
}


@dataclass(frozen=True)
class Accuracy:
    """How right a model was on tiles that chose nothing.

    Attributes:
        tiles: how many were judged; `split`, how they were held out.
        figures: overall, balanced, kappa, macro_f1, each with its 95 % interval.
        spatial: the overall accuracy on ground held out in space, where that was judged.
        random: the same on a random split, where that was judged, with 95 % ends where known.
        repeats: mean and standard deviation of the overall accuracy over draws or folds.
        classes: precision, recall, f1 and support of each class.
        rivals: overall accuracy of what the network is compared with.
        calibration: its error before and after temperature scaling.
        optimism: the random split's accuracy less the spatial one's, where both were judged.
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
    told, _ = parse(str(model.notes.get("recipe", "")))
    found: dict[str, Any] = shareable(told) if isinstance(told, dict) else {}
    return found


def name_of(recipe: Mapping[str, Any]) -> str:
    """A model's name, in letters, digits, dots, hyphens, underscores and blanks alone.

    >>> name_of({"name": "  2024/Forêts "}), name_of({"name": "ab"}), name_of({"name": "лес"})
    ('model 2024 For ts', 'model ab', 'model')
    """
    kept = re.sub(r"[^a-zA-Z0-9_.-]+", " ", str(recipe.get("name") or "geotl model"))
    kept = kept.strip(" ._-")
    return kept if re.match(r"[a-zA-Z]..", kept) else f"model {kept}".strip()


def title_of(recipe: Mapping[str, Any]) -> str:
    """A model's title, its name where it has none."""
    return str(recipe.get("title") or name_of(recipe))


def sources_of(recipe: Mapping[str, Any]) -> list[str]:
    """Names of the folders, scenes and label files that a model was trained from.

    >>> sources_of({"data": {"root": "tiles", "scenes": ["s.tif"]}, "labels": {"path": None}})
    ['tiles', 's.tif']
    """
    data, labels = recipe.get("data") or {}, recipe.get("labels") or {}
    given = [data.get("root"), *(data.get("scenes") or []), labels.get("path")]
    return [str(name) for name in given if name]


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
    """What a model's own metrics say of it; None for one that was never judged."""
    told = model.notes.get("metrics", {})
    if "overall_accuracy" not in told:
        return None
    method = str((recipe_of(model).get("split") or {}).get("method", ""))
    figures = {key: _interval(held) for key, held in told.get("bootstrap", {}).items()}
    figures["overall"] = _interval(told["overall_accuracy"])
    spatial: Interval | None = None
    random: Interval | None = figures["overall"]
    if method in SPATIAL:
        spatial = _compared(told, "spatial", "network") or figures["overall"]
        random = _compared(told, "random", "network, random split")
    calibration = told.get("calibration", {})
    repeats = told.get("draws", {}).get("network", {}).get("overall")
    return Accuracy(
        tiles=int(told.get("tiles", 0)),
        split=method,
        figures=figures,
        spatial=spatial,
        random=random,
        repeats=_spread(repeats),
        classes=told.get("per_class", {}),
        rivals={name: _interval(held) for name, held in told.get("baselines", {}).items()},
        calibration=(calibration["error_before"], calibration["error_after"])
        if calibration
        else None,
        optimism=_interval(told["optimism"]["difference"]) if "optimism" in told else None,
        mistakes=_mistakes(told.get("confusion", []), told.get("classes", [])),
    )


def accuracy_json(found: Accuracy) -> dict[str, Any]:
    """The same as plain values."""
    ends = {name: _ends(figure) for name, figure in found.figures.items()}
    told = {
        "judged_tiles": found.tiles,
        "split": found.split,
        **ends,
        "overall_spatial_split": _ends(found.spatial),
        "overall_random_split": _ends(found.random),
        "classes": {
            name: {key: round(value, 4) for key, value in held.items()}
            for name, held in found.classes.items()
        },
        "compared_with": {name: _ends(held) for name, held in found.rivals.items()},
    }
    return {key: held for key, held in told.items() if held}


def _mistakes(
    confusion: Sequence[Sequence[int]], classes: Sequence[str]
) -> list[tuple[str, str, int, int]]:
    """The five most frequent mistakes of a confusion matrix [truth][said].

    >>> _mistakes([[5, 2], [0, 9]], ["field", "wood"])
    [('field', 'wood', 2, 7)]
    """
    found = [
        (classes[i], classes[j], int(count), int(sum(row)))
        for i, row in enumerate(confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(found, key=lambda one: -one[2])[:5]


def _ends(figure: Interval | None) -> dict[str, float] | None:
    if figure is None:
        return None
    ends = {"value": figure.value, "low": figure.low, "high": figure.high}
    return {key: round(held, 4) for key, held in ends.items() if np.isfinite(held)}


def _interval(told: Mapping[str, float] | Sequence[float]) -> Interval:
    if isinstance(told, Mapping):
        return Interval(told["value"], told["low"], told["high"])
    return Interval(*told)


def _compared(told: Mapping[str, Any], side: str, method: str) -> Interval | None:
    """Overall accuracy of one side of the comparison of splits, None where it was not made.

    Folds judged together are one share (Wilson's interval), draws have a mean (Student's t).
    """
    spread = _spread(told.get("draws", {}).get(method, {}).get("overall"))
    value = (told.get("optimism") or {}).get(side)
    if spread is not None and not told.get("kfold"):
        draws, mean, sd = spread
        half = float(student.ppf(0.975, draws - 1)) * sd / draws**0.5
        return Interval(mean, max(0.0, mean - half), min(1.0, mean + half))
    if value is None:
        return None
    return wilson(round(value * int(told["tiles"])), int(told["tiles"]))


def _spread(told: Mapping[str, Any] | None) -> tuple[int, float, float] | None:
    """Draws or folds, mean and standard deviation; None of a single one."""
    if not told or told.get("draws", 0) < 2:
        return None
    return int(told["draws"]), float(told["mean"]), float(told["sd"])
