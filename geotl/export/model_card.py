"""The model card: README.md with the header that model hubs read."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
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
from geotl.language import joined, msg, numeral, of_recipe, stored
from geotl.models.model_file import ModelFile
from geotl.models.registry import get_backbone
from geotl.reporting.templates import environment

SCORES = {
    "overall": msg("overall accuracy"),
    "balanced": msg("balanced accuracy"),
    "kappa": msg("kappa"),
    "macro_f1": msg("macro F1"),
}
UNSTATED = msg("not stated; ask")
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
    """The whole README: what hubs read in English, what people read in the page's language."""
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
    scale = [numeral(sensor.scale, "g")]
    if sensor.offset:
        scale += ["-" if sensor.offset < 0 else "+", numeral(abs(sensor.offset), "g")]
    return {
        "title": of_recipe(title_of(recipe)),
        "name": name_of(recipe),
        "contract": contract,
        "sensor": stored(sensor.title),
        "measures": stored(sensor.measures),
        "scale": joined(scale, " "),
        "loses": bool(model.notes.get("metrics", {}).get("loses_to_a_baseline")),
        "glance": _at_a_glance(model, facts, accuracy),
        "classes": _classes(model, accuracy),
        "weak": _weak(accuracy),
    }


def _at_a_glance(
    model: ModelFile, facts: CardFacts, accuracy: Accuracy | None
) -> list[tuple[str, str]]:
    """The table in short: task, input, output, network, data, accuracy, licence."""
    licences = facts.licence or UNSTATED, facts.data_licence or UNSTATED
    rows = [
        (msg("Task"), msg("scene classification: one class for a tile")),
        (msg("Input"), _input(model, facts.resolution_m)),
        (
            msg("Output"),
            msg(
                "`probabilities` and `logits`, float32 [N, {classes}]",
                classes=len(model.contract.classes),
            ),
        ),
        (msg("Network"), _network(model)),
        (msg("Pretrained"), _pretrained(model)),
        (msg("Trained on"), _trained_on(model)),
        (msg("Accuracy"), _short(accuracy)),
        (msg("Licence"), msg("model: {model}; data: {data}", model=licences[0], data=licences[1])),
    ]
    return [(joined(["**", name, "**"], ""), text) for name, text in rows]


def _input(model: ModelFile, resolution_m: float | None) -> str:
    contract = model.contract
    size = "" if resolution_m is None else msg(", {side:.3g} m", side=resolution_m)
    return msg(
        "`image`, float32 [N, {bands}, {px}, {px}], raw digital numbers{size}; bands in this "
        "order: {names}",
        bands=len(contract.bands),
        px=contract.tile_px,
        size=size,
        names=", ".join(contract.bands),
    )


def _network(model: ModelFile) -> str:
    """The network, its size, and what it is averaged over and fused with."""
    contract = model.contract
    name: str = get_backbone(contract.backbone).title
    if contract.cut_after:
        name = msg("{network}, up to {stage}", network=name, stage=contract.cut_after)
    millions = parameters_of(model) / 1e6
    parts = [
        name,
        msg("{millions:.3g} million parameters", millions=millions),
        msg("mean over {views} flips and turns", views=contract.spec.views),
    ]
    if contract.spec.statistics:
        parts.append(msg("fused with mean, sd and gradient of each band"))
    return joined(parts, "; ")


def _pretrained(model: ModelFile) -> str:
    """The files of weights that had a part in it, oldest first."""
    names = [f"`{one['source']}`" for one in lineage_of(model)]
    if not names:
        return msg("no: random weights")
    return functools.reduce(
        lambda first, then: msg("{first}, then {then}", first=first, then=then), names
    )


def _trained_on(model: ModelFile) -> str:
    days = dates_of(model)
    if not days:
        return tiles_of(model)
    return msg("{tiles}, imagery of {days}", tiles=tiles_of(model), days=_span(days))


def _short(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return msg("not tested")
    figure = accuracy.figures["overall"]
    if accuracy.spatial is None:
        tested = {"figure": figure, "tiles": accuracy.tiles}
        if accuracy.split == "column":
            return msg(
                "{figure} on {tiles:,} tiles held out as the labels' table says",
                **tested,
            )
        return msg("{figure} on {tiles:,} tiles held out at random", **tested)
    how = SPATIAL[accuracy.split]
    held_out = msg("{figure} held out in space ({how})", figure=accuracy.spatial, how=how)
    if accuracy.random is None:
        return held_out
    return joined([held_out, msg("{figure} on a random split", figure=accuracy.random)], "; ")


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
        "note": of_recipe(str(recipe.get("note") or "").strip()),
    }


def _place(ground: shapely.Geometry | None) -> str:
    """Between which meridians and parallels the training tiles lie."""
    if ground is None:
        return msg("Where the training tiles lie is not recorded.")
    west, south, east, north = bounds_of(ground)
    across, up = (msg("E"), msg("W")), (msg("N"), msg("S"))
    return msg(
        "The training tiles lie between {west} and {east}, {south} and {north}.",
        west=_degrees(west, across),
        east=_degrees(east, across),
        south=_degrees(south, up),
        north=_degrees(north, up),
    )


def _strategy(recipe: Mapping[str, Any], tuning: Mapping[str, Any] | None) -> str:
    """How the network was fitted; a fine-tuning of which nothing was kept left a probe."""
    frozen = msg(
        "The network's pretrained stages stayed as they were; a linear head was fitted "
        "on their features."
    )
    how = {
        "probe": frozen,
        "finetune": msg("The pretrained network was trained further."),
        "full": msg("The whole pretrained network was trained further."),
        "probe_then_finetune": msg(
            "A linear head was fitted first, then the pretrained network was trained further."
        ),
        "scratch": msg("The network was trained from random weights."),
    }
    if tuning is not None and tuning["share"] == 0:
        return joined([frozen, msg("Training it further was tried and did not help.")], " ")
    return how.get(str(recipe.get("strategy")), "")


def _classes(model: ModelFile, accuracy: Accuracy | None) -> tuple[list[str], list[list[str]]]:
    """The classes with their colours, training tiles and scores: header and rows."""
    contract, trained = model.contract, tiles_by_class(model)
    head = [msg("Class"), msg("Colour"), msg("Tiles trained on")]
    head += [msg("Tested on"), msg("Precision"), msg("Recall"), msg("F1")] if accuracy else []
    rows = []
    for name, colour in zip(contract.classes, contract.colours, strict=True):
        row = [name, f"`{colour}`", numeral(trained[name], ",") if name in trained else "?"]
        scores = accuracy.classes.get(name) if accuracy else None
        if scores:
            row += [numeral(scores["support"], ".0f")]
            row += [numeral(scores[key], ".3f") for key in ("precision", "recall", "f1")]
        rows.append(row + [""] * (len(head) - len(row)))
    return head, rows


def _tested(model: ModelFile, accuracy: Accuracy | None) -> dict[str, object]:
    """Scores, splits, mistakes and baselines; empty of a model without a test."""
    if accuracy is None:
        return {}
    scores = [(SCORES.get(key, key), str(figure)) for key, figure in accuracy.figures.items()]
    return {
        "value": msg("Value [95 %]"),
        "tested": joined([*_test_sentences(model, accuracy)], " "),
        "scores": sorted(scores, key=lambda row: row[0] != SCORES["overall"]),
        "splits": _splits(accuracy),
        "new_ground": _new_ground(accuracy),
        "mistakes": joined(
            [
                msg("{truth} taken for {other} ({count} of {of})", **_named(mistake))
                for mistake in accuracy.mistakes
            ]
        ),
        "rivals": [
            (msg("this model"), joined(["**", str(accuracy.figures["overall"]), "**"], "")),
            *((stored(name), str(figure)) for name, figure in accuracy.rivals.items()),
        ],
    }


def _named(mistake: tuple[str, str, int, int]) -> dict[str, object]:
    return dict(zip(("truth", "other", "count", "of"), mistake, strict=True))


def _test_sentences(model: ModelFile, accuracy: Accuracy) -> Iterator[str]:
    """How it was tested, how the accuracy varies, and how calibrated the probabilities are."""
    metrics = model.notes["metrics"]
    unknown = msg("in a way that is not stated")
    yield msg(
        "Tested on {tiles:,} tiles that chose nothing, held out {how}. Brackets are 95 % "
        "intervals.",
        tiles=accuracy.tiles,
        how=SPLITS.get(accuracy.split, unknown),
    )
    if metrics.get("estimate"):
        yield stored(str(metrics["estimate"]))
    if accuracy.repeats is not None:
        spread = dict(zip(("n", "mean", "sd"), accuracy.repeats, strict=True))
        if metrics.get("kfold"):
            yield msg(
                "Over {n} folds the overall accuracy is {mean:.3f} ± {sd:.3f} (mean, standard "
                "deviation).",
                **spread,
            )
        else:
            yield msg(
                "Over {n} draws of the labels the overall accuracy is {mean:.3f} ± {sd:.3f} "
                "(mean, standard deviation).",
                **spread,
            )
    if accuracy.calibration is not None:
        yield msg(
            "The calibration error is {after:.3f} ({before:.3f} before temperature scaling).",
            before=accuracy.calibration[0],
            after=accuracy.calibration[1],
        )


def _splits(accuracy: Accuracy) -> list[tuple[str, str]]:
    """Both sides of the comparison of splits."""
    if accuracy.spatial is None:
        return []
    rows = [(msg("spatial: {how}", how=SPATIAL[accuracy.split]), str(accuracy.spatial))]
    if accuracy.random is not None:
        rows.append((msg("random"), str(accuracy.random)))
    return rows


def _new_ground(accuracy: Accuracy) -> str:
    """What to expect where no training tile lies; nothing without a random split."""
    if accuracy.spatial is None or accuracy.random is None:
        return ""
    first, gap = msg("On new ground expect the first."), accuracy.optimism
    if gap is None:
        return first
    more = msg(
        "{value:+.3f} [{low:+.3f}, {high:+.3f}]", value=gap.value, low=gap.low, high=gap.high
    )
    if gap.low > 0:
        why = msg(
            "The random split shows {more} more: it overestimates accuracy by that much, as "
            "neighbouring tiles resemble each other.",
            more=more,
        )
    else:
        why = msg(
            "The random split shows {more} more: no clear optimism, given so few tiles.", more=more
        )
    return joined([first, why], " ")


def _weak(accuracy: Accuracy | None) -> list[tuple[str, str]]:
    """Classes not to be relied on, each with the reason."""
    weak = []
    for name, scores in (accuracy.classes if accuracy else {}).items():
        if scores["f1"] < _WEAK_F1:
            why = msg("Hardly separated from the others (F1 {f1:.2f}).", f1=scores["f1"])
            weak.append((name, why))
        elif scores["support"] < _FEW:
            why = msg(
                "Tested on {tiles:.0f} tiles only: its figures are uncertain.",
                tiles=scores["support"],
            )
            weak.append((name, why))
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
        "kept": _kept(len(samples.examples), len(samples.features), facts.ground is not None),
        "versions": versions or msg("unknown versions"),
        "version": __version__,
        "lineage": [(f"`{one['source']}`", f"`{one['sha256']}`") for one in lineage_of(model)],
        "recipe": shareable_recipe(str(model.notes.get("recipe", ""))).strip(),
    }


def _kept(examples: int, features: int, footprints: bool) -> str:
    """What of the training tiles the model's file holds."""
    parts = [msg("{examples} of the training tiles", examples=examples)]
    parts.append(msg("features of {features:,}", features=features))
    if footprints:
        parts.append(msg("the footprints of all"))
    return joined(parts)


def _span(days: Sequence[str]) -> str:
    if len(days) == 1:
        return stored(days[0])
    first, last = stored(days[0]), stored(days[-1])
    return msg("{first} to {last} ({n} days)", first=first, last=last, n=len(days))


def _listed(names: Sequence[str]) -> str:
    """Up to five names."""
    listed = ", ".join(f"`{name}`" for name in names[:5])
    if len(names) <= 5:
        return listed
    return msg("{names} and {n} more", names=listed, n=len(names) - 5)


def _degrees(value: float, sides: tuple[str, str]) -> str:
    """A longitude or latitude with its side of the world.

    >>> _degrees(-70.25, ("E", "W")), _degrees(52.526, ("N", "S"))
    ('70.25° W', '52.53° N')
    """
    return joined([numeral(abs(value), ".2f"), "° ", sides[int(value < 0)]], "")


def _size(size: int) -> str:
    if size > 1e5:
        return msg("{size:.1f} MB", size=size / 1e6)
    return msg("{size:.1f} kB", size=size / 1e3)
