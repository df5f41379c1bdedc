"""The header of a model's card, which model hubs read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from geotl.export.model_facts import (
    Accuracy,
    accuracy_of,
    lineage_of,
    name_of,
    recipe_of,
    sources_of,
)
from geotl.models.model_file import ModelFile

SCORES = {
    "overall": "overall accuracy",
    "balanced": "balanced accuracy",
    "kappa": "kappa",
    "macro_f1": "macro F1",
}


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
