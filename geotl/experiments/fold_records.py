"""Folds of a run of task pixels on the disk, so that `--resume` fits none of them twice.

A record belongs to a recipe, to the values of all labelled pixels and to what computes: its name
is a hash of them. It is JSON with a checksum; what a number is read back as has the same bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from geotl._version import __version__
from geotl.experiments.draws import Draw
from geotl.experiments.experiment import Opened
from geotl.experiments.pixel_report import FoldResult, method_named, pixel_versions
from geotl.experiments.pixel_samples import PixelSamples
from geotl.experiments.recipe import dump
from geotl.io.records import finished_record, write_record

FOLDER = "folds"
_KEYS = {field.name for field in fields(FoldResult)} - {"draw"}


def kept_fold(
    opened: Opened[PixelSamples], draw: Draw, fit: Callable[[Draw], FoldResult]
) -> FoldResult:
    """The result of a fold: as it was written down before, or fitted and written down.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    place = _place(opened, draw)
    finished = finished_record(place, lambda record: _is_fold(record, draw))
    if finished is not None:
        return _read(finished, draw)
    result = fit(draw)
    write_record(place, _written(result))
    return result


def _place(opened: Opened[PixelSamples], draw: Draw) -> Path:
    """Where the record of a fold lies: under its number and a hash of all that it depends on."""
    samples, split = opened.samples, draw.split
    digest = hashlib.sha256(f"{__version__}\n{pixel_versions()}\n{dump(opened.recipe)}".encode())
    for name in sorted(samples.features):
        digest.update(name.encode() + np.ascontiguousarray(samples.features[name]).tobytes())
    for rows in (samples.labels, samples.weight, split.train, split.test):
        digest.update(np.ascontiguousarray(rows).tobytes())
    return opened.folder / FOLDER / f"{draw.number + 1}-{digest.hexdigest()[:24]}.json"


def _written(result: FoldResult) -> dict[str, Any]:
    """A fold's result as plain values, but for its draw."""
    return {
        "predicted": {name: rows.tolist() for name, rows in result.predicted.items()},
        "training": dict(result.training),
        "logits": np.asarray(result.logits, np.float64).tolist(),
        "temperature": float(result.temperature),
        "seconds": dict(result.seconds),
        "accuracy": float(result.accuracy),
        "labels": [int(count) for count in result.labels],
        "near": int(result.near),
        "lacking": list(result.lacking),
    }


def _is_fold(record: Mapping[str, Any], draw: Draw) -> bool:
    """Whether a record has the keys of a fold and a row for each test pixel."""
    logits = record.get("logits")
    fits = isinstance(logits, list) and len(logits) == len(draw.split.test)
    return fits and record.keys() == _KEYS


def _read(record: Mapping[str, Any], draw: Draw) -> FoldResult:
    predicted = {
        method_named(name): np.array(rows, np.int64) for name, rows in record["predicted"].items()
    }
    training = {method_named(name): share for name, share in record["training"].items()}
    arrays = {"predicted": predicted, "logits": np.array(record["logits"], np.float64)}
    several = {"labels": tuple(record["labels"]), "lacking": tuple(record["lacking"])}
    return FoldResult(draw=draw, **{**record, **arrays, **several, "training": training})
