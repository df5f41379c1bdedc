"""Metadata of an exported file: a model's contract as plain values that any program reads.

It travels as JSON beside or inside each export, and is all that mapping with one needs to know.
Texts in it are freed of the folders of the machine that made them.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

from geotl._version import __version__
from geotl.inference.onnx_file import PASSPORT_VERSION
from geotl.io.files import sha256_of
from geotl.io.yaml import parse, write
from geotl.models.model_file import ModelFile
from geotl.models.pixel_file import KIND, PixelModelFile, model_header

_HOME, _DRIVE, _SHARE = (
    r"(?<![\w.])~[\w.-]*[/\\]",
    r"(?<!\w)[A-Za-z]:[/\\](?!/)",
    r"(?<![\w./\\])\\{2}",
)
_FILE, _ROOT = r"file:/{3}", r"(?<![\w./\\])/(?!/)"
_START = f"(?:{_FILE}|{_HOME}|{_DRIVE}|{_SHARE}|{_ROOT})"
_STEP = r"[^\s/\\'\"<>|:;,()\[\]{}]+"
_INSIDE = re.compile(rf"{_START}(?:{_STEP}[/\\]+)+({_STEP})?")
_WHOLE = re.compile(rf"{_START}[^\n:]*")
REPEATED = ("metrics", "versions")  # of a model's notes: those that maps repeat
# likewise, of its note on training
TRAINING = ("dates", "tiles", "labels", "unlabelled", "pixels", "accuracy")


def without_folders(text: str) -> str:
    r"""A text whose absolute paths are cut to their last name; addresses of the web stay.

    A path that is the complete text may contain blanks; one inside a sentence ends at the first.

    >>> without_folders("/srv/lab data/weights/resnet18.pth")
    'resnet18.pth'
    >>> without_folders("first convolution of /home/ann/w.pth, https://x.org/a/b, 1/2, ../data")
    'first convolution of w.pth, https://x.org/a/b, 1/2, ../data'
    >>> without_folders("torchgeo:EuroSAT:/home/ann/eurosat/"), without_folders(r"C:\Lab\m.pth")
    ('torchgeo:EuroSAT:eurosat', 'm.pth')
    """
    if _WHOLE.fullmatch(text) and re.search(r"[/\\]", text[1:]):
        return re.split(r"[/\\]", text.rstrip("/\\"))[-1]
    return _INSIDE.sub(_last, text)


def _last(match: re.Match[str]) -> str:
    return re.split(r"[/\\]", match.group().rstrip("/\\"))[-1]


def shareable(value: Any) -> Any:
    """Plain values (as JSON or YAML hold them) with `without_folders` of every text in them.

    >>> shareable({"data": {"root": "/srv/tiles", "draws": 2}, "scenes": ["/a/b/c.tif"]})
    {'data': {'root': 'tiles', 'draws': 2}, 'scenes': ['c.tif']}
    """
    if isinstance(value, str):
        return without_folders(value)
    if isinstance(value, dict):
        return {key: shareable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [shareable(inner) for inner in value]
    return value


def shareable_recipe(text: str) -> str:
    r"""A recipe's YAML with every path cut to its last name.

    >>> print(shareable_recipe("data:\n  root: /srv/tiles\n"), end="")
    data:
      root: tiles
    """
    values, faults = parse(text)
    return without_folders(text) if faults or values is None else write(shareable(values))


def model_metadata(model: ModelFile, *, views: int, precision: str) -> dict[str, Any]:
    """Metadata of a model for an exported file, as JSON values.

    Args:
        model: described.
        views: flips and quarter turns that the export averages over.
        precision: number format of the export's network.
    """
    contract = dataclasses.asdict(model.contract)
    contract["spec"]["views"] = views
    return _metadata(model, contract, precision)


def pixel_model_metadata(model: PixelModelFile, *, halo_px: int, stride_px: int) -> dict[str, Any]:
    """Metadata of a pixel model for an exported file, as JSON values.

    Args:
        model: described.
        halo_px: pixels around a pixel that its class depends on.
        stride_px: an image's first row and column must be multiples of it in the scene, so that
            the network's stages lie as in `geotl map`.
    """
    return {
        **_metadata(model, dataclasses.asdict(model.contract), "float32"),
        **model_header(model.model),
        "kind": KIND,
        "halo_px": halo_px,
        "stride_px": stride_px,
    }


def _metadata(
    model: ModelFile | PixelModelFile, contract: dict[str, Any], precision: str
) -> dict[str, Any]:
    """The part of the metadata that all models have."""
    ranges, training = model.seen, model.notes.get("training", {})
    return {
        "passport_version": PASSPORT_VERSION,
        "geotl": __version__,
        "precision": precision,
        "model_sha256": sha256_of(model.path) if model.path else None,
        "resolution_m": model.resolution_m,
        "examples": {"mean": _figures(ranges.mean), "sd": _figures(ranges.sd)},
        "result": model.notes.get("metrics", {}).get("headline"),
        "contract": contract,
        "ground": model.ground,
        "notes": {
            **{key: shareable(model.notes[key]) for key in REPEATED if key in model.notes},
            **(
                {"recipe": shareable_recipe(model.notes["recipe"])}
                if "recipe" in model.notes
                else {}
            ),
            "training": {key: training[key] for key in TRAINING if key in training},
        },
    }


def _figures(values: np.ndarray[Any, Any]) -> list[float]:
    return [float(f"{value:.8g}") for value in values]
