"""A tiny model with all that a run notes, private places among it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from helpers.map_fixtures import CLASSES, made_model

from geotl.models import model_file

SECRETS = ("/srv/secret-lab", "secret-lab", "/home/ann", "C:\\Users")
_SPREAD = {"draws": 5, "mean": 0.7, "sd": 0.1}
_INTERVAL = {"value": 0.73, "low": 0.69, "high": 0.77}
_CLASS = {"precision": 0.8, "recall": 0.7, "f1": 0.75, "support": 40}
RECIPE = r"""name: wetlands 1
title: Wetlands of the lower valley
note: Labels by ann.
strategy: probe
seed: 0
data:
  root: /srv/secret-lab/tiles
  scenes: ['C:\Users\ann\scene.tif']
labels:
  path: /home/ann/labels of 2020.gpkg
split:
  method: blocks
  block_m: 2000.0
"""
WEIGHTS = {
    "source": "/srv/secret-lab/weights/resnet18.pth",
    "sha256": "ab" * 32,
    "notes": ["read from /home/ann/w.pth"],
    "tensors": {"loaded": 3},
}
METRICS: dict[str, Any] = {
    "headline": "overall accuracy 0.730",
    "overall_accuracy": _INTERVAL,
    "tiles": 120,
    "kfold": 5,
    "classes": list(CLASSES),
    "confusion": [[30, 9, 1], [2, 38, 0], [0, 1, 39]],
    "per_class": dict.fromkeys(CLASSES[:2], _CLASS) | {CLASSES[2]: _CLASS | {"f1": 0.2}},
    "bootstrap": {"overall": _INTERVAL, "macro_f1": _INTERVAL},
    "draws": {"network": {"overall": _SPREAD}, "network, random split": {"overall": _SPREAD}},
    "optimism": {
        "random": 0.85,
        "spatial": 0.73,
        "difference": {"value": 0.12, "low": 0.02, "high": 0.22},
    },
    "baselines": {"majority class": {"value": 0.4, "low": 0.3, "high": 0.5}},
    "calibration": {"error_before": 0.2, "error_after": 0.1},
}


def noted_model(path: Path, **changed: Any) -> Path:
    """Write a model whose notes are full; `changed` replaces some of them."""
    made = model_file.load(made_model(path))
    notes = {
        **made.notes,
        "recipe": RECIPE,
        "metrics": METRICS,
        "versions": {"geotl": "0.1.0", "torch": "2.15.0"},
        "weights": {**WEIGHTS, "chain": [WEIGHTS]},
        "training": made.notes["training"] | {"tiles": 24, "dates": ["2017-02-16", "2017-07-01"]},
        **changed,
    }
    model_file.save(path, dataclasses.replace(made, notes=notes))
    return path
