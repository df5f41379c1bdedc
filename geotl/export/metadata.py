"""What an exported file says of itself: a model's contract as plain values that any program reads.

It travels as JSON beside or inside each export, and is all that mapping with one needs to know.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from geotl._version import __version__
from geotl.export.basenames import shareable, shareable_recipe
from geotl.inference.onnx_file import PASSPORT_VERSION
from geotl.io.files import sha256_of
from geotl.models.model_file import ModelFile

TOLD = ("metrics", "versions")  # of a model's notes: what maps tell of it


def passport(model: ModelFile, *, views: int, precision: str) -> dict[str, Any]:
    """A model's passport, of values that JSON holds.

    Args:
        model: whose.
        views: flips and quarter turns that the export averages over.
        precision: number format of the export's network.
    """
    contract, seen, training = model.contract, model.seen, model.notes.get("training", {})
    held = dataclasses.asdict(contract)
    held["spec"]["views"] = views
    return {
        "passport_version": PASSPORT_VERSION,
        "geotl": __version__,
        "precision": precision,
        "model_sha256": sha256_of(model.path) if model.path else None,
        "resolution_m": model.resolution_m,
        "examples": {"mean": _figures(seen.mean), "sd": _figures(seen.sd)},
        "result": model.notes.get("metrics", {}).get("headline"),
        "contract": held,
        "ground": model.ground,
        "notes": {
            **{key: shareable(model.notes[key]) for key in TOLD if key in model.notes},
            **(
                {"recipe": shareable_recipe(model.notes["recipe"])}
                if "recipe" in model.notes
                else {}
            ),
            "training": {key: training[key] for key in ("dates", "tiles") if key in training},
        },
    }


def _figures(values: np.ndarray[Any, Any]) -> list[float]:
    return [float(f"{value:.8g}") for value in values]
