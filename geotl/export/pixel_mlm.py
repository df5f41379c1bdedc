"""A pixel model as a STAC item with the Machine Learning Model extension: semantic segmentation."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import shapely

from geotl.export.model_facts import (
    accuracy_json,
    accuracy_of,
    dates_of,
    name_of,
    recipe_of,
    sources_of,
)
from geotl.export.pixel_export import graph_halo
from geotl.export.stac_assets import ModelAsset
from geotl.export.stac_mlm import (
    bands_of,
    framework,
    input_of,
    made_with,
    result_of,
    stac_item,
    unknown,
)
from geotl.inference.onnx_file import OUTPUTS
from geotl.models.forest import ForestMember
from geotl.models.pixel_file import PixelModelFile, model_header
from geotl.models.pixel_model import LinearMember
from geotl.models.registry import get_backbone

TASK = "semantic-segmentation"
_SAID = {
    "probabilities": "Calibrated probabilities of the classes at every pixel; they sum to one.",
    "logits": "Scores whose softmax are the probabilities.",
}


def pixel_item(
    model: PixelModelFile,
    assets: Sequence[ModelAsset],
    *,
    ground: shapely.Geometry | None,
    written: datetime.datetime,
    licence: str | None = None,
) -> dict[str, Any]:
    """The item of a model of pixels; the arguments are those of `stac_mlm.mlm_item`."""
    recipe = recipe_of(model)
    properties = {
        "description": _description(model, ground),
        "bands": [*bands_of(model), *({"name": name} for name in model.contract.extra_bands)],
        **_mlm(model, name_of(recipe), recipe),
        **_own(model, recipe),
    }
    return stac_item(model, assets, properties, ground=ground, written=written, licence=licence)


def _description(model: PixelModelFile, ground: shapely.Geometry | None) -> str:
    """What a model is, its input, and what is not known of it."""
    contract, training = model.contract, model.notes.get("training", {})
    sentences = [
        f"Gives every pixel of {len(contract.bands)} bands of {contract.sensor.title} one of "
        f"{len(contract.classes)} classes. Trained on {training.get('labels', 'unknown')} labels.",
        "Every model file takes raw digital numbers: standardisation, windows, members and their "
        "calibrated fusion are inside. Scale no values before. NaN and the nodata value count as "
        "invalid.",
        *unknown(model, ground, "pixels"),
    ]
    return " ".join(sentences)


def _mlm(model: PixelModelFile, name: str, recipe: Mapping[str, Any]) -> dict[str, Any]:
    contract = model.contract
    halo, stride = graph_halo(model.model)
    more = (
        f"Exported graphs take images of any height and width; pixels less than {halo} px from an "
        "edge of the image lack surroundings that their class depends on."
    )
    if stride > 1:
        more += f" An image begins at a multiple of {stride} px, as in geotl map."
    if contract.extra_bands:
        more += f" {', '.join(contract.extra_bands)} are of other rasters, in their own units."
    sizes = {"batch": -1, "class": len(contract.classes), "height": -1, "width": -1}
    return {
        "mlm:name": name,
        "mlm:architecture": architecture_of(model),
        "mlm:tasks": [TASK],
        "mlm:total_parameters": numbers_of(model),
        **framework(model),
        "mlm:input": [input_of(contract, -1, more, contract.extra_bands)],
        "mlm:output": [
            {"name": one, "description": _SAID[one], "tasks": [TASK], **result_of(contract, sizes)}
            for one in OUTPUTS
        ],
        "mlm:hyperparameters": _hyperparameters(model, recipe),
    }


def architecture_of(model: PixelModelFile) -> str:
    """Members that take part, and the networks that they rest on, in words."""
    kinds = model_header(model.model)["members"]
    words = [f"{name} ({kinds[name]['kind']})" for name, share in model.weights.items() if share]
    deep, decoder = model.model.deep, model.model.decoder
    network = "" if deep is None else f", with features of {get_backbone(deep.backbone.name).title}"
    if decoder is not None:
        network += f", with a {decoder.kind} on {get_backbone(decoder.backbone.name).title}"
    return f"Fusion of {', '.join(words)}{network}"


def numbers_of(model: PixelModelFile) -> int:
    """Fitted numbers: coefficients, thresholds and shares of trees, and the network's weights."""
    count = 0
    for member in model.model.members.values():
        if isinstance(member, LinearMember):
            count += member.weight.size + member.bias.size
        elif isinstance(member, ForestMember):
            count += member.threshold.size + member.shares.size
    if model.model.deep is not None:
        count += sum(part.numel() for part in model.model.deep.backbone.parameters())
    if model.model.decoder is not None:
        count += sum(part.numel() for part in model.model.decoder.parameters())
    return count


def _hyperparameters(model: PixelModelFile, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """How a model was trained, and what its graph does inside."""
    sections = {part: recipe[part] for part in ("seed", "split", "pixels") if part in recipe}
    halo, stride = graph_halo(model.model)
    inside = {**model_header(model.model), "halo_px": halo, "stride_px": stride}
    return {**sections, "inside_the_graph": inside, "versions": model.notes.get("versions", {})}


def _own(model: PixelModelFile, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What no extension has a place for."""
    training, metrics = model.notes.get("training", {}), model.notes.get("metrics", {})
    training_counts = {key: training[key] for key in ("labels", "pixels") if key in training}
    properties = {
        **made_with(model),
        "geotl:training": {
            **training_counts,
            "dates": dates_of(model),
            "sources": sources_of(recipe),
        },
    }
    accuracy = accuracy_of(model)
    if accuracy is not None:
        tested = {"tested_pixels": metrics.get("pixels"), "held_out": metrics.get("estimate")}
        properties["geotl:accuracy"] = {
            **accuracy_json(accuracy),
            **{key: value for key, value in tested.items() if value},
        }
    return properties
