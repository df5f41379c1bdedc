"""The model card: README.md with the header that model hubs read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import shapely

from geotl._version import __version__
from geotl.export.metadata import shareable_recipe
from geotl.export.model_facts import (
    SPATIAL,
    SPLITS,
    Accuracy,
    accuracy_of,
    dates_of,
    lineage_of,
    name_of,
    parameters_of,
    recipe_of,
    sources_of,
    tiles_by_class,
    tiles_of,
    title_of,
)
from geotl.export.stac_mlm import bounds_of
from geotl.io.yaml import write
from geotl.models.model_file import ModelFile
from geotl.models.registry import get_backbone
from geotl.reporting.templates import environment

SCORES = {
    "overall": "overall accuracy",
    "balanced": "balanced accuracy",
    "kappa": "kappa",
    "macro_f1": "macro F1",
}
UNSTATED = "not stated; ask"
_WEAK_F1, _FEW = 0.5, 30


def front_matter(model: ModelFile, licence: str | None) -> dict[str, Any]:
    """What model hubs read of a card."""
    recipe, accuracy = recipe_of(model), accuracy_of(model)
    sensor = model.contract.sensor.name.partition("_")[0].replace("sentinel2", "sentinel-2")
    header: dict[str, Any] = {
        **_licence(licence),
        "library_name": "geotl",
        "pipeline_tag": "image-classification",
        "tags": [
            "geotl",
            "remote-sensing",
            "earth-observation",
            "scene-classification",
            "land-cover",
            "transfer-learning",
            sensor,
            model.contract.backbone,
            "onnx",
            "safetensors",
            "stac",
        ],
        "metrics": ["accuracy", "f1"],
    }
    base = [one["source"] for one in lineage_of(model)]
    if base and base[-1].count("/") == 1 and not base[-1].endswith((".pth", ".pt", ".safetensors")):
        header["base_model"] = base[-1]
    if accuracy is not None:
        header["model-index"] = [{"name": name_of(recipe), "results": [_result(recipe, accuracy)]}]
    return header


def _licence(licence: str | None) -> dict[str, str]:
    """As hubs list licences: short words in small letters, others under a name of their own.

    >>> _licence("CC-BY-4.0"), _licence("Terms of the lab")
    ({'license': 'cc-by-4.0'}, {'license': 'other', 'license_name': 'Terms of the lab'})
    """
    if licence is None:
        return {"license": "unknown"}
    if re.fullmatch(r"[\w.+-]+", licence):
        return {"license": licence.lower()}
    return {"license": "other", "license_name": licence}


def _result(recipe: Mapping[str, Any], accuracy: Accuracy) -> dict[str, Any]:
    data = ", ".join(sources_of(recipe)[:1]) or "tiles"
    keys = {"overall": "accuracy", "macro_f1": "f1"}
    metrics = [
        {
            "type": kind,
            "value": round(accuracy.figures[key].value, 4),
            "name": f"{SCORES[key]}, split {accuracy.split}",
        }
        for key, kind in keys.items()
        if key in accuracy.figures
    ]
    return {
        "task": {"type": "image-classification", "name": "scene classification"},
        "dataset": {"type": data, "name": data, "split": f"held out ({accuracy.split})"},
        "metrics": metrics,
    }


@dataclass(frozen=True)
class CardFacts:
    """What a card tells that the model itself does not.

    Attributes:
        licence, data_licence: as their owners state them, None if they do not.
        ground: where the training tiles lay, in degrees; None if that is not known.
        resolution_m: the side of a training pixel, None if unknown.
        files: name, size in bytes, sha256 and meaning of each other file of the folder.
        example: the class that the model gives the example tile, and its probability.
    """

    licence: str | None
    data_licence: str | None
    ground: shapely.Geometry | None
    resolution_m: float | None
    files: Sequence[tuple[str, int, str, str]]
    example: tuple[str, float]


def model_card(model: ModelFile, facts: CardFacts) -> str:
    """The whole README."""
    header = f"---\n{write(front_matter(model, facts.licence))}---"
    template = environment("geotl.export", autoescape=False).get_template("model_card.md.jinja")
    accuracy = accuracy_of(model)
    body = template.render(
        facts=facts,
        accuracy=accuracy,
        unstated=UNSTATED,
        **_described(model, facts, accuracy),
        **_training(model, facts),
        **_tested(model, accuracy),
        **_origin(model, facts),
    )
    return f"{header}\n\n{_without_tags(body.strip())}\n"


def _without_tags(text: str) -> str:
    """Markdown in which no name of a class, a sensor or a recipe can be HTML; code stays as it is.

    >>> _without_tags("a<b> ``` a<b ```")
    'a&lt;b> ``` a<b ```'
    """
    parts = text.split("```")
    return "```".join(part if i % 2 else part.replace("<", "&lt;") for i, part in enumerate(parts))


def _described(model: ModelFile, facts: CardFacts, accuracy: Accuracy | None) -> dict[str, object]:
    """What the card says first: name, contract and the table in short."""
    contract, recipe = model.contract, recipe_of(model)
    sensor = contract.sensor
    shift = f" {'-' if sensor.offset < 0 else '+'} {abs(sensor.offset):g}" if sensor.offset else ""
    return {
        "title": title_of(recipe),
        "name": name_of(recipe),
        "contract": contract,
        "sensor": sensor,
        "scale": f"{sensor.scale:g}{shift}",
        "loses": bool(model.notes.get("metrics", {}).get("loses_to_a_baseline")),
        "glance": _at_a_glance(model, facts, accuracy),
        "classes": _classes(model, accuracy),
        "weak": _weak(accuracy),
    }


def _at_a_glance(
    model: ModelFile, facts: CardFacts, accuracy: Accuracy | None
) -> list[tuple[str, str]]:
    """The table in short: task, input, output, network, data, accuracy, licence."""
    contract, days = model.contract, dates_of(model)
    network = get_backbone(contract.backbone).title
    network += f", up to {contract.cut_after}" if contract.cut_after else ""
    chain = [str(one["source"]) for one in lineage_of(model)]
    size = f", {facts.resolution_m:.3g} m" if facts.resolution_m else ""
    rows = [
        ("Task", "scene classification: one class for a tile"),
        (
            "Input",
            f"`image`, float32 [N, {len(contract.bands)}, {contract.tile_px}, "
            f"{contract.tile_px}], raw digital numbers{size}; bands in this order: "
            + ", ".join(contract.bands),
        ),
        ("Output", f"`probabilities` and `logits`, float32 [N, {len(contract.classes)}]"),
        (
            "Network",
            f"{network}; {parameters_of(model) / 1e6:.3g} million parameters; mean over "
            f"{contract.spec.views} flips and turns"
            + (
                "; fused with mean, sd and gradient of each band"
                if contract.spec.statistics
                else ""
            ),
        ),
        ("Pretrained", ", then ".join(f"`{name}`" for name in chain) or "no: random weights"),
        (
            "Trained on",
            tiles_of(model) + (f", imagery of {_span(days)}" if days else ""),
        ),
        ("Accuracy", _short(accuracy)),
        ("Licence", f"model: {facts.licence or UNSTATED}; data: {facts.data_licence or UNSTATED}"),
    ]
    return [(f"**{name}**", text) for name, text in rows]


def _short(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return "not tested"
    if accuracy.spatial is None:
        how = "as the labels' table says" if accuracy.split == "column" else "at random"
        return f"{accuracy.figures['overall']} on {accuracy.tiles:,} tiles held out {how}"
    random = f"; {accuracy.random} on a random split" if accuracy.random else ""
    return f"{accuracy.spatial} held out in space ({SPATIAL[accuracy.split]}){random}"


def _training(model: ModelFile, facts: CardFacts) -> dict[str, object]:
    """What the model was trained on, and how."""
    recipe, days = recipe_of(model), dates_of(model)
    return {
        "tiles": tiles_of(model),
        "sources": _listed(sources_of(recipe)),
        "days": _span(days) if days else "",
        "single_day": len(days) == 1,
        "place": _place(facts.ground),
        "strategy": _strategy(recipe, model.notes.get("metrics", {}).get("tuning")),
        "note": str(recipe.get("note") or "").strip(),
    }


def _place(ground: shapely.Geometry | None) -> str:
    """Between which meridians and parallels the training tiles lie."""
    if ground is None:
        return "Where the training tiles lie is not recorded."
    west, south, east, north = bounds_of(ground)
    return (
        f"The training tiles lie between {_degrees(west, 'EW')} and {_degrees(east, 'EW')}, "
        f"{_degrees(south, 'NS')} and {_degrees(north, 'NS')}."
    )


def _strategy(recipe: Mapping[str, Any], tuning: Mapping[str, Any] | None) -> str:
    """How the network was fitted; a fine-tuning of which nothing was kept left a probe."""
    frozen = (
        "The network's pretrained stages stayed as they were; a linear head was fitted "
        "on their features."
    )
    how = {
        "probe": frozen,
        "finetune": "The pretrained network was trained further.",
        "full": "The whole pretrained network was trained further.",
        "probe_then_finetune": "A linear head was fitted first, then the pretrained network was "
        "trained further.",
        "scratch": "The network was trained from random weights.",
    }
    if tuning is not None and tuning["share"] == 0:
        return f"{frozen} Training it further was tried and did not help."
    return how.get(str(recipe.get("strategy")), "")


def _classes(model: ModelFile, accuracy: Accuracy | None) -> tuple[list[str], list[list[str]]]:
    """The classes with their colours, training tiles and scores: header and rows."""
    contract, trained = model.contract, tiles_by_class(model)
    head = ["Class", "Colour", "Tiles trained on"]
    head += ["Tested on", "Precision", "Recall", "F1"] if accuracy else []
    rows = []
    for name, colour in zip(contract.classes, contract.colours, strict=True):
        row = [name, f"`{colour}`", f"{trained[name]:,}" if name in trained else "?"]
        scores = accuracy.classes.get(name) if accuracy else None
        if scores:
            row += [f"{scores['support']:.0f}"]
            row += [f"{scores[key]:.3f}" for key in ("precision", "recall", "f1")]
        rows.append(row + [""] * (len(head) - len(row)))
    return head, rows


def _tested(model: ModelFile, accuracy: Accuracy | None) -> dict[str, object]:
    """Scores, splits, mistakes and baselines; empty of a model without a test."""
    if accuracy is None:
        return {}
    metrics, overall = model.notes["metrics"], str(accuracy.figures["overall"])
    scores = [(SCORES.get(key, key), str(figure)) for key, figure in accuracy.figures.items()]
    gap = accuracy.optimism
    return {
        "split": SPLITS.get(accuracy.split, "held out"),
        "estimate": metrics.get("estimate"),
        "repeats": "folds" if metrics.get("kfold") else "draws of the labels",
        "scores": sorted(scores, key=lambda row: row[0] != "overall accuracy"),
        "splits": _splits(accuracy),
        "optimism": f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]" if gap else "",
        "mistakes": [
            f"{truth} taken for {other} ({count} of {of})"
            for truth, other, count, of in accuracy.mistakes
        ],
        "rivals": [
            ("this model", f"**{overall}**"),
            *((name, str(figure)) for name, figure in accuracy.rivals.items()),
        ],
    }


def _splits(accuracy: Accuracy) -> list[tuple[str, str]]:
    """Both sides of the comparison of splits."""
    if accuracy.spatial is None:
        return []
    rows = [(f"spatial: {SPATIAL[accuracy.split]}", str(accuracy.spatial))]
    return [*rows, ("random", str(accuracy.random))] if accuracy.random is not None else rows


def _weak(accuracy: Accuracy | None) -> list[tuple[str, str]]:
    """Classes not to be relied on, each with the reason."""
    weak = []
    for name, scores in (accuracy.classes if accuracy else {}).items():
        if scores["f1"] < _WEAK_F1:
            weak.append((name, f"Hardly separated from the others (F1 {scores['f1']:.2f})."))
        elif scores["support"] < _FEW:
            few = f"{scores['support']:.0f} tiles"
            weak.append((name, f"Tested on {few} only: its figures are uncertain."))
    return weak


def _origin(model: ModelFile, facts: CardFacts) -> dict[str, object]:
    """Files of the folder, and where the model comes from."""
    samples = model.training_samples
    versions = ", ".join(f"{name} {v}" for name, v in model.notes.get("versions", {}).items())
    return {
        "files": [
            (f"`{name}`", _size(size), f"`{digest[:16]}…`", what)
            for name, size, digest, what in facts.files
        ],
        "examples": len(samples.examples),
        "features": f"{len(samples.features):,}",
        "versions": versions or "unknown versions",
        "version": __version__,
        "lineage": [(f"`{one['source']}`", f"`{one['sha256']}`") for one in lineage_of(model)],
        "recipe": shareable_recipe(str(model.notes.get("recipe", ""))).strip(),
    }


def _span(days: Sequence[str]) -> str:
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]} ({len(days)} days)"


def _listed(names: Sequence[str]) -> str:
    """Up to five names."""
    shown = ", ".join(f"`{name}`" for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _degrees(value: float, sides: str) -> str:
    """A longitude or latitude with its side of the world.

    >>> _degrees(-70.25, "EW"), _degrees(52.526, "NS")
    ('70.25° W', '52.53° N')
    """
    return f"{abs(value):.2f}° {sides[int(value < 0)]}"


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size > 1e5 else f"{size / 1e3:.1f} kB"
