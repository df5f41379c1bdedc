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
    told: dict[str, Any] = {
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
        told["base_model"] = base[-1]
    if accuracy is not None:
        told["model-index"] = [{"name": name_of(recipe), "results": [_result(recipe, accuracy)]}]
    return told


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
    recipe, accuracy = recipe_of(model), accuracy_of(model)
    parts = [
        f"---\n{write(front_matter(model, facts.licence))}---",
        f"# {title_of(recipe)}",
        _first_words(model, accuracy),
        _at_a_glance(model, facts, accuracy),
        *_how_to_run(facts),
        *_training(model, facts, recipe),
        *_classes(model, accuracy),
        *_accuracy(model, accuracy),
        *_limits(model, facts, accuracy),
        *_licences(facts),
        *_files(model, facts),
        *_provenance(model),
    ]
    return parts[0] + "\n\n" + _without_tags("\n\n".join(parts[1:])) + "\n"


def _without_tags(text: str) -> str:
    """Markdown in which no name of a class, a sensor or a recipe can be HTML; code stays as it is.

    >>> _without_tags("a<b> ``` a<b ```")
    'a&lt;b> ``` a<b ```'
    """
    parts = text.split("```")
    return "```".join(part if i % 2 else part.replace("<", "&lt;") for i, part in enumerate(parts))


def _first_words(model: ModelFile, accuracy: Accuracy | None) -> str:
    contract = model.contract
    said = (
        f"**{name_of(recipe_of(model))}** names square tiles of {contract.tile_px} × "
        f"{contract.tile_px} pixels of {contract.sensor.title} as one of {len(contract.classes)} "
        "classes. Raw digital numbers go in and calibrated probabilities come out: everything "
        "between is inside the files."
    )
    if model.notes.get("metrics", {}).get("loses_to_a_baseline"):
        said += " **A simpler method was more accurate than this network; see Accuracy.**"
    return said if accuracy else f"{said} **Its accuracy was never judged.**"


def _at_a_glance(model: ModelFile, facts: CardFacts, accuracy: Accuracy | None) -> str:
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
    return _table(("In short", ""), [(f"**{name}**", told) for name, told in rows])


def _short(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return "not judged"
    if accuracy.spatial is None:
        how = "as the labels' table says" if accuracy.split == "column" else "at random"
        return f"{accuracy.figures['overall']} on {accuracy.tiles:,} tiles held out {how}"
    random = f"; {accuracy.random} on a random split" if accuracy.random else ""
    return f"{accuracy.spatial} held out in space ({SPATIAL[accuracy.split]}){random}"


def _how_to_run(facts: CardFacts) -> list[str]:
    name, chance = facts.example
    return [
        "## Run it",
        f"Each of these, started in this folder, names the example tile: **{name}**, with "
        f"probability {chance:.3f}.",
        "With geotl on the command line (`geotl map model.safetensors SCENE -o map.tif` maps a "
        "whole scene):",
        "```bash\ngeotl predict model.safetensors example.tif -o predictions.csv\n"
        "cat predictions.csv\n```",
        "With geotl from Python (extra `hub`; a hub's `owner/name` may stand in place of the "
        "folder):",
        "```python\nimport numpy as np\nfrom geotl.hub import HubModel\n"
        'model = HubModel.from_pretrained(".")\nsaid = model.predict(np.load("example.npy"))\n'
        "print(said.labels[0], said.confidence[0])\n```",
        "Without geotl or PyTorch, in onnxruntime:",
        "```python\nimport json, numpy as np, onnxruntime\n"
        'classes = json.load(open("config.json"))["classes"]\n'
        'tile = np.load("example.npy")[None].astype("float32")\n'
        'chances = onnxruntime.InferenceSession("model.onnx").run(["probabilities"], '
        '{"image": tile})[0]\nprint(classes[chances[0].argmax()], chances[0].max())\n```',
    ]


def _training(model: ModelFile, facts: CardFacts, recipe: Mapping[str, Any]) -> list[str]:
    days, sources = dates_of(model), sources_of(recipe)
    told = [tiles_of(model)]
    told[0] += f" from {_listed(sources)}." if sources else "."
    told.append(f"Imagery of {_span(days)}." if days else "When it was taken is not recorded.")
    told.append(_place(facts.ground))
    if facts.ground is not None:
        told.append("The outline is in `mlm.json`.")
    told.append(_strategy(recipe, model.notes.get("metrics", {}).get("tuning")))
    note = str(recipe.get("note") or "").strip()
    return [
        "## What it was trained on",
        " ".join(part for part in told if part),
        *([f"> {note}"] if note else []),
    ]


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


def _classes(model: ModelFile, accuracy: Accuracy | None) -> list[str]:
    contract, trained = model.contract, tiles_by_class(model)
    head = ["Class", "Colour", "Tiles trained on"]
    head += ["Judged", "Precision", "Recall", "F1"] if accuracy else []
    rows = []
    for name, colour in zip(contract.classes, contract.colours, strict=True):
        row = [name, f"`{colour}`", f"{trained[name]:,}" if name in trained else "?"]
        held = accuracy.classes.get(name) if accuracy else None
        if held:
            row += [f"{held['support']:.0f}"]
            row += [f"{held[key]:.3f}" for key in ("precision", "recall", "f1")]
        rows.append(row + [""] * (len(head) - len(row)))
    return ["## Classes", _table(head, rows)]


def _accuracy(model: ModelFile, accuracy: Accuracy | None) -> list[str]:
    if accuracy is None:
        return ["## Accuracy", "It was never judged on tiles held out."]
    how = SPLITS.get(accuracy.split, "held out")
    told = [
        f"Judged on {accuracy.tiles:,} tiles that chose nothing, held out {how}. "
        "Brackets are 95 % intervals.",
        *filter(None, [model.notes["metrics"].get("estimate")]),
    ]
    if accuracy.repeats is not None:
        count, mean, sd = accuracy.repeats
        what = "folds" if model.notes["metrics"].get("kfold") else "draws of the labels"
        told.append(
            f"Over {count} {what} the overall accuracy is {mean:.3f} ± {sd:.3f} (mean, "
            "standard deviation)."
        )
    if accuracy.calibration is not None:
        before, after = accuracy.calibration
        told.append(
            f"The calibration error is {after:.3f} ({before:.3f} before temperature scaling)."
        )
    rows = [(SCORES.get(key, key), str(held)) for key, held in accuracy.figures.items()]
    rows = sorted(rows, key=lambda row: row[0] != "overall accuracy")
    parts = ["## Accuracy", " ".join(told), _table(("Score", "Value [95 %]"), rows)]
    return [*parts, *_splits(accuracy), *_mixed_up(accuracy), *_rivals(accuracy)]


def _splits(accuracy: Accuracy) -> list[str]:
    """Both sides of the comparison of splits, and which to believe."""
    if accuracy.spatial is None:
        return [
            "There is no figure for new ground: no tiles were held out in space, so expect less "
            "there than is shown here."
        ]
    rows = [(f"spatial: {SPATIAL[accuracy.split]}", str(accuracy.spatial))]
    if accuracy.random is None:
        return [_table(("Split", "Overall accuracy"), rows)]
    rows.append(("random", str(accuracy.random)))
    told = "On new ground expect the first."
    if accuracy.optimism is not None:
        gap, sure = accuracy.optimism, accuracy.optimism.low > 0
        told += f" The random split shows {gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] more: "
        told += (
            "that much is optimism, as neighbouring tiles resemble each other."
            if sure
            else ("no clear optimism, given so few tiles.")
        )
    return [_table(("Split", "Overall accuracy"), rows), told]


def _mixed_up(accuracy: Accuracy) -> list[str]:
    """The pairs most often taken for each other."""
    if not accuracy.mistakes:
        return []
    told = [
        f"{truth} taken for {said} ({count} of {of})"
        for truth, said, count, of in accuracy.mistakes
    ]
    return [f"Most frequent mistakes: {', '.join(told)}."]


def _rivals(accuracy: Accuracy) -> list[str]:
    if not accuracy.rivals:
        return []
    rows = [("this model", f"**{accuracy.figures['overall']}**")]
    rows += [(name, str(held)) for name, held in accuracy.rivals.items()]
    return ["Compared on the same tiles:", _table(("Method", "Overall accuracy"), rows)]


def _limits(model: ModelFile, facts: CardFacts, accuracy: Accuracy | None) -> list[str]:
    contract, days = model.contract, dates_of(model)
    sensor = contract.sensor
    shift = f" {'-' if sensor.offset < 0 else '+'} {abs(sensor.offset):g}" if sensor.offset else ""
    told = [
        "**Applicability.** What the model says of ground unlike its training tiles is little "
        "worth, and its probabilities do not show it. `geotl map --applicability` draws where it "
        "applies (Meyer & Pebesma 2021).",
        f"**Radiometry.** It was trained on {sensor.title}: {sensor.measures} = DN × "
        f"{sensor.scale:g}{shift}. Other processing levels and baselines have other numbers; "
        "`geotl map --sensor` converts between those it knows, an ONNX file cannot tell.",
    ]
    if len(days) == 1:
        told.append(
            f"**Season.** All imagery is of one day, {days[0]}; other seasons, other "
            "weather and other years look different."
        )
    elif days:
        told.append(f"**Season.** Imagery is of {_span(days)}; it knows no other season.")
    else:
        told.append("**Season.** The dates of the imagery are not recorded.")
    told.append(f"**Place.** {_place(facts.ground)} It was not tried elsewhere.")
    size = f" of {facts.resolution_m:.3g} m each" if facts.resolution_m else ""
    told.append(
        f"**Scale.** A tile is {contract.tile_px} × {contract.tile_px} pixels{size}, and has one "
        "class: what is smaller than a tile is not mapped, and mixed tiles get one name."
    )
    told += [f"**{name}.** {why}" for name, why in _weak(accuracy)]
    return ["## Limits", "\n".join(f"- {one}" for one in told)]


def _weak(accuracy: Accuracy | None) -> list[tuple[str, str]]:
    """Classes not to be relied on, each with the reason."""
    found = []
    for name, held in (accuracy.classes if accuracy else {}).items():
        if held["f1"] < _WEAK_F1:
            found.append((name, f"Hardly told from the others (F1 {held['f1']:.2f})."))
        elif held["support"] < _FEW:
            few = f"{held['support']:.0f} tiles"
            found.append((name, f"Judged on {few} only: its figures are uncertain."))
    return found


def _licences(facts: CardFacts) -> list[str]:
    return [
        "## Licence",
        f"- Model and this folder: {facts.licence or UNSTATED}.\n"
        f"- Imagery and labels it was trained on: {facts.data_licence or UNSTATED}.\n"
        "- The pretrained weights it started from have a licence of their own.",
    ]


def _files(model: ModelFile, facts: CardFacts) -> list[str]:
    rows = [
        (f"`{name}`", _size(size), f"`{digest[:16]}…`", what)
        for name, size, digest, what in facts.files
    ]
    training_samples = model.training_samples
    place = ", the footprints of all" if facts.ground is not None else ""
    return [
        "## Files",
        _table(("File", "Size", "sha256", "What it is"), rows),
        f"`model.safetensors` holds {len(training_samples.examples)} of the training tiles, "
        "features of "
        f"{len(training_samples.features):,}{place} and the recipe: publish it only where those "
        "may be "
        "public. Nothing in this folder is pickled, and no folder of the machine it "
        "was made on is named.",
    ]


def _provenance(model: ModelFile) -> list[str]:
    chain = lineage_of(model)
    rows = [(f"`{one['source']}`", f"`{one['sha256']}`") for one in chain]
    versions = ", ".join(f"{name} {v}" for name, v in model.notes.get("versions", {}).items())
    parts = [
        "## Provenance",
        f"Trained with {versions or 'unknown versions'}; exported with geotl {__version__}.",
    ]
    if rows:
        parts.append("Weights it descends from, oldest first:")
        parts.append(_table(("File", "sha256"), rows))
    recipe = shareable_recipe(str(model.notes.get("recipe", ""))).strip()
    if recipe:
        parts.append(
            f"<details>\n<summary>The recipe, which repeats the training</summary>\n\n"
            f"```yaml\n{recipe}\n```\n\n</details>"
        )
    return parts


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""A table in Markdown; a bar inside a cell does not end it.

    >>> print(_table(("a", "b"), [("x|y", "1")]))
    | a | b |
    |---|---|
    | x\|y | 1 |
    """
    lines = [head, *rows]
    told = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([told[0], "|" + "---|" * len(head), *told[1:]])


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
