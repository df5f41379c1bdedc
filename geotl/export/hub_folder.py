"""A model as a folder to publish: the model, its ONNX file, what both are, and an example."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geotl._version import __version__
from geotl.console import Log
from geotl.errors import OutputError
from geotl.export.exporter import export_graph
from geotl.export.graphs import LIMITS, run_onnx
from geotl.export.metadata import shareable, shareable_recipe
from geotl.export.model_card import CardFacts, model_card
from geotl.export.stac_checks import training_area_of, write_item
from geotl.inference.onnx_file import read_passport
from geotl.io import raster
from geotl.io.files import sha256_of, whole_folder
from geotl.language import msg
from geotl.models import model_file
from geotl.models.model_file import ModelFile

MODEL, ONNX, ITEM, CARD, CONFIG = (
    "model.safetensors",
    "model.onnx",
    "mlm.json",
    "README.md",
    "config.json",
)
ARRAY, RASTER, EXPECTED, LFS = "example.npy", "example.tif", "example.json", ".gitattributes"
FILES = (MODEL, ONNX, ITEM, CARD, CONFIG, ARRAY, RASTER, EXPECTED, LFS)
LIBRARY = "geotl"
MEANING = {
    MODEL: msg("the model, for geotl"),
    ONNX: msg("the model, for ONNX runtimes"),
    CONFIG: msg("facts for hubs"),
    ARRAY: msg("an example tile, raw values [C, S, S]"),
    RASTER: msg("the same with its bands' names"),
    EXPECTED: msg("the model's prediction for it"),
    ITEM: msg("the STAC item (Machine Learning Model 1.5.2)"),
}


@dataclass(frozen=True)
class Terms:
    """Licences of a model and of the data it was trained on, None where they are not stated."""

    model: str | None = None
    data: str | None = None


def write_hub(
    model: ModelFile,
    folder: Path,
    *,
    terms: Terms | None = None,
    overwrite: bool = False,
    log: Log = print,
) -> Path:
    """Write a folder for a model hub, completely or not at all.

    Args:
        model: to publish.
        folder: to write; it may be an earlier one of these where `overwrite` is set.
        terms: licences.
        overwrite: replace an earlier one.
        log: gets every line.

    Raises:
        OutputError: the folder holds anything else, or cannot be written.
        ModelError: the ONNX file's predictions differ from the model's; no file is left.
    """
    folder = Path(folder)
    check_folder(folder, overwrite=overwrite)

    def log_line(line: str) -> None:
        log(line.replace(str(part), str(folder)))

    with whole_folder(folder) as part:
        fill_hub(model, part, terms or Terms(), log_line)
    log(f"hub      {folder} ({', '.join(FILES)})")
    return folder


def fill_hub(model: ModelFile, folder: Path, terms: Terms, log: Log = print) -> None:
    """Write all files into an empty folder."""
    model_file.save(folder / MODEL, shareable_model(model))
    if model.path is not None:  # the item is dated by it, and so repeats
        os.utime(folder / MODEL, ns=(model.path.stat().st_atime_ns, model.path.stat().st_mtime_ns))
    stored = model_file.load(folder / MODEL)
    export_graph(stored, "onnx", folder / ONNX, log=log)
    example = _write_example(stored, folder)
    write_config(stored, folder)
    (folder / LFS).write_text(
        "".join(
            f"*.{end} filter=lfs diff=lfs merge=lfs -text\n"
            for end in ("safetensors", "onnx", "npy", "tif")
        )
    )
    ground = training_area_of(stored)
    px_m = read_passport(folder / ONNX)["resolution_m"]
    listed = [
        (name, (folder / name).stat().st_size, sha256_of(folder / name), MEANING[name])
        for name in (MODEL, ONNX, ARRAY, RASTER, EXPECTED, CONFIG)
    ]
    facts = CardFacts(terms.model, terms.data, ground, px_m, listed, example)
    (folder / CARD).write_text(model_card(stored, facts), encoding="utf-8")
    others = [folder / name for name in (ONNX, ARRAY, RASTER, EXPECTED, CARD)]
    write_item(stored, folder / ITEM, others, licence=terms.model, log=log)


def shareable_model(model: ModelFile) -> ModelFile:
    """A model whose notes name no folder of the machine it was made on; its tensors are the same.

    `published_from` is the sha256 of the file it was read from.
    """
    notes = {key: shareable(value) for key, value in model.notes.items() if key != "recipe"}
    if "recipe" in model.notes:
        notes["recipe"] = shareable_recipe(model.notes["recipe"])
    if model.path is not None:
        notes.setdefault("published_from", sha256_of(model.path))
    return dataclasses.replace(model, notes=notes, path=None)


def config_of(model: ModelFile) -> dict[str, Any]:
    """What hubs and programs read before the model itself."""
    contract = model.contract
    classes = list(contract.classes)
    return {
        "architectures": ["HubModel"],
        "library_name": LIBRARY,
        "model_type": LIBRARY,
        "geotl_version": __version__,
        "format_version": model_file.FORMAT_VERSION,
        "backbone": contract.backbone,
        "cut_after": contract.cut_after,
        "task": "image-classification",
        "classes": classes,
        "colours": list(contract.colours),
        "id2label": {str(at): name for at, name in enumerate(classes)},
        "label2id": {name: at for at, name in enumerate(classes)},
        "num_labels": len(classes),
        "bands": list(contract.bands),
        "num_channels": len(contract.bands),
        "image_size": contract.tile_px,
        "sensor": {
            "name": contract.sensor.name,
            "scale": contract.sensor.scale,
            "offset": contract.sensor.offset,
            "nodata": contract.sensor.nodata,
        },
        "input": "raw digital numbers; normalisation is inside",
        "views": contract.spec.views,
    }


def write_config(model: ModelFile, folder: Path) -> None:
    """Write config.json."""
    _write_json(folder / CONFIG, config_of(model))


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Reject a folder with anything but an earlier export that may be replaced.

    Raises:
        OutputError: it does.
    """
    if folder.is_file():
        raise OutputError(f"{folder}: is a file; choose a folder with -o")
    inside = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    if not inside:
        return
    other = sorted(inside - set(FILES))
    if other or not _is_hub(folder):
        named = other[0] if other else sorted(inside)[0]
        raise OutputError(
            f"{folder}: holds what no export to a hub wrote ({named}), which would be lost; choose "
            "another folder with -o"
        )
    if not overwrite:
        raise OutputError(f"{folder}: exists; choose another folder or give --overwrite")


def _is_hub(folder: Path) -> bool:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, Mapping) and config.get("library_name") == LIBRARY


def _write_example(model: ModelFile, folder: Path) -> tuple[str, float]:
    """Write an example tile and the ONNX file's prediction: the class and its probability."""
    tile = example_of(model)
    np.save(folder / ARRAY, tile)
    contract, (_, height, width) = model.contract, tile.shape
    grid = raster.Grid(None, (1.0, 0.0, 0.0, 0.0, -1.0, float(height)), width, height)
    raster.write(folder / RASTER, tile, grid, contract.bands, contract.sensor.nodata)
    probabilities, logits = (
        part[0] for part in run_onnx(folder / ONNX)(tile[None].astype(np.float32))
    )
    at = int(probabilities.argmax())
    _write_json(
        folder / EXPECTED,
        {
            "array": ARRAY,
            "raster": RASTER,
            "shape": list(tile.shape),
            "dtype": tile.dtype.name,
            "bands": list(contract.bands),
            "class": contract.classes[at],
            "probabilities": dict(zip(contract.classes, map(float, probabilities), strict=True)),
            "logits": dict(zip(contract.classes, map(float, logits), strict=True)),
            "logits_within": LIMITS["float32"].logits,
        },
    )
    return contract.classes[at], float(probabilities[at])


def example_of(model: ModelFile) -> NDArray[Any]:
    """A raw example tile [C,S,S]: of those with the most valid pixels, one middling clear.

    What is clear to the last digit, such as open water, would show little.
    """
    training_samples = model.training_samples
    valid = training_samples.example_valid.reshape(len(training_samples.examples), -1).mean(axis=1)
    complete = np.flatnonzero(valid == valid.max())
    order = np.sort(training_samples.example_logits[complete], axis=1)
    clear = order[:, -1] - order[:, -2]
    return np.asarray(
        training_samples.examples[complete[np.argsort(clear, kind="stable")[len(complete) // 2]]]
    )


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
