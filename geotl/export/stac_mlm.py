"""A model as a SpatioTemporal Asset Catalog item with the Machine Learning Model extension.

STAC 1.1.0 (https://github.com/radiantearth/stac-spec) and MLM 1.5.2
(https://stac-extensions.github.io/mlm/v1.5.2/schema.json), as plain values; nothing is read here.

What a caller has to do to the pixels is nothing: every file takes digital numbers and normalises
inside. `value_scaling` describes steps before the model is called, so it is null; the mean and
standard deviation inside are among the hyperparameters, and the meaning of a digital number is
in `bands`.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any

import shapely

from geotl._version import __version__
from geotl.export.model_facts import (
    SPLITS,
    NotedModel,
    accuracy_json,
    accuracy_of,
    dates_of,
    lineage_of,
    name_of,
    parameters_of,
    recipe_of,
    sources_of,
    tiles_by_class,
    title_of,
)
from geotl.export.stac_assets import ModelAsset
from geotl.inference.onnx_file import INPUT, OUTPUTS
from geotl.models.model_file import Contract, ModelFile
from geotl.models.pixel_file import PixelContract
from geotl.models.registry import get_backbone
from geotl.models.renderings import GIVEN

STAC_VERSION = "1.1.0"
EXTENSIONS = tuple(
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in (
        "mlm/v1.5.2",
        "classification/v1.1.0",
        "raster/v2.0.0",
        "eo/v2.0.0",
        "file/v2.1.0",
    )
)
TASK = "scene-classification"
_COMMON = frozenset(
    {
        "pan",
        "coastal",
        "blue",
        "green",
        "green05",
        "yellow",
        "red",
        "rededge",
        "rededge071",
        "rededge075",
        "rededge078",
        "nir",
        "nir08",
        "nir09",
        "cirrus",
        "swir16",
        "swir22",
        "lwir",
        "lwir11",
        "lwir12",
    }
)
_VERSION = re.compile(r"\d+\.\d+\.\d+([+-][0-9a-zA-Z.-]+)?")


def mlm_item(
    model: ModelFile,
    assets: Sequence[ModelAsset],
    *,
    ground: shapely.Geometry | None,
    written: datetime.datetime,
    licence: str | None = None,
) -> dict[str, Any]:
    """The item of a model of tiles.

    Args:
        model: described.
        assets: its files, the model's own first.
        ground: where its training tiles lay in degrees, None where that is not known.
        written: when the model's file was written, which dates the item where no imagery does.
        licence: of the model, its SPDX identifier; None leaves it out.
    """
    recipe = recipe_of(model)
    properties = {
        "description": description_of(model, ground),
        **_mlm(model, name_of(recipe), recipe),
        **_own(model, recipe),
    }
    return stac_item(model, assets, properties, ground=ground, written=written, licence=licence)


def stac_item(
    model: NotedModel,
    assets: Sequence[ModelAsset],
    properties: Mapping[str, Any],
    *,
    ground: shapely.Geometry | None,
    written: datetime.datetime,
    licence: str | None,
) -> dict[str, Any]:
    """An item from the `properties` of a model and from the parts of all items.

    The arguments are those of `mlm_item`.
    """
    recipe = recipe_of(model)
    name = name_of(recipe)
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": list(EXTENSIONS),
        "id": f"{re.sub(r'[^a-zA-Z0-9_-]+', '-', name)}-{assets[0].sha256[:12]}",
        "geometry": None if ground is None else shapely.geometry.mapping(ground),
    }
    if ground is not None:
        item["bbox"] = bounds_of(ground)
    item["properties"] = {
        "title": title_of(recipe),
        **_dates(dates_of(model), written),
        **_licence(licence),
        "bands": bands_of(model),
        **properties,
    }
    item["links"] = []
    names = [{"name": band["name"]} for band in item["properties"]["bands"]]
    item["assets"] = {
        one.key: one.entry() | ({"bands": names} if one.is_model else {}) for one in assets
    }
    plain_item: dict[str, Any] = _plain(item)
    return plain_item


def bounds_of(ground: shapely.Geometry) -> list[float]:
    """West, south, east, north; west is the larger where the area crosses 180 degrees.

    >>> bounds_of(shapely.union_all([shapely.box(179, 0, 180, 1), shapely.box(-180, 0, -178, 1)]))
    [179.0, 0.0, -178.0, 1.0]
    """
    west, south, east, north = ground.bounds
    if (west, east) == (-180, 180):
        parts = [part.bounds for part in shapely.get_parts(ground)]
        if not any(left <= 0 <= right for left, _, right, _ in parts):
            west = min(left for left, *_ in parts if left > 0)
            east = max(right for _, _, right, _ in parts if right < 0)
    return [west, south, east, north]


def description_of(model: ModelFile, ground: shapely.Geometry | None) -> str:
    """What a model is, its input, and what is not known of it."""
    contract = model.contract
    tiles = len(model.training_samples.footprints)
    sentences = [
        f"Classifies tiles of {contract.tile_px} x {contract.tile_px} pixels and "
        f"{len(contract.bands)} bands of {contract.sensor.title} as one of "
        f"{len(contract.classes)} classes. Trained on {tiles} tiles.",
        "Every model file takes raw digital numbers: normalisation, adaptation to the bands, "
        "resizing, averaging over flips and turns, and temperature scaling are inside. Scale no "
        "values before. NaN and the nodata value count as invalid.",
        *unknown(model, ground, "tiles"),
    ]
    return " ".join(sentences)


def unknown(model: NotedModel, ground: shapely.Geometry | None, samples: str) -> list[str]:
    """Sentences on what is not known of a model's training data."""
    sentences = []
    if ground is None:
        sentences.append(f"Where the training {samples} lay is not known, so there is no geometry.")
    if not dates_of(model):
        sentences.append(
            "When the training imagery was taken is not known; datetime is when the model file "
            "was written."
        )
    return sentences


def bands_of(model: NotedModel) -> list[dict[str, Any]]:
    """The input bands as STAC 1.1 describes bands, in the model's order."""
    contract = model.contract
    return [_band(contract, name) for name in contract.bands]


def _band(contract: Contract | PixelContract, name: str) -> dict[str, Any]:
    sensor, band = contract.sensor, contract.sensor.band(name)
    common = [word for word in (name, *band.aliases) if word in _COMMON]
    units = {"reflectance": "1", "share": "1", "kelvin": "K", "decibel": "dB"}
    values = {
        "name": name,
        "eo:common_name": common[0] if common else None,
        "eo:center_wavelength": band.wavelength_nm and round(band.wavelength_nm / 1000, 6),
        "nodata": sensor.nodata,
        "unit": units.get(sensor.unit(name)),
        "raster:scale": sensor.scale,
        "raster:offset": sensor.offset,
        "raster:spatial_resolution": band.resolution_m,
    }
    return {key: value for key, value in values.items() if value is not None}


def _mlm(model: ModelFile, name: str, recipe: Mapping[str, Any]) -> dict[str, Any]:
    contract = model.contract
    return {
        "mlm:name": name,
        "mlm:architecture": get_backbone(contract.backbone).title
        + (f", up to {contract.cut_after}" if contract.cut_after else ""),
        "mlm:tasks": [TASK],
        "mlm:total_parameters": parameters_of(model),
        **framework(model),
        "mlm:input": [_input(contract)],
        "mlm:output": [_output(contract, output) for output in OUTPUTS],
        "mlm:hyperparameters": hyperparameters(model, recipe),
    }


def framework(model: NotedModel) -> dict[str, Any]:
    """What a model runs with, and the weights that it began with."""
    chain, versions = lineage_of(model), model.notes.get("versions", {})
    properties: dict[str, Any] = {
        "mlm:framework": "PyTorch",
        "mlm:pretrained": bool(chain),
        "mlm:pretrained_source": ", then ".join(map(_weights, chain)) or None,
        "mlm:accelerator": None,
    }
    if _VERSION.fullmatch(str(versions.get("torch", ""))):
        properties["mlm:framework_version"] = versions["torch"]
    return properties


def _weights(one: Mapping[str, Any]) -> str:
    return f"{one['source']} (sha256 {one['sha256']})"


def _input(contract: Contract) -> dict[str, Any]:
    side = contract.tile_px
    more = f"Exported graphs take tiles of {side} x {side} pixels; geotl crops or pads others."
    return input_of(contract, side, more)


def input_of(
    contract: Contract | PixelContract, side: int, more: str, extra: Sequence[str] = ()
) -> dict[str, Any]:
    """The input of a model.

    Args:
        contract: what it takes.
        side: of the input in pixels, -1 for any.
        more: further properties.
        extra: names of bands of other rasters, which come after the scene's.
    """
    bands = [*contract.bands, *extra]
    return {
        "name": INPUT,
        "description": f"Raw digital numbers of {contract.sensor.title} as float32, in the order "
        f"of `bands`; nothing is scaled before. {more}",
        "bands": bands,
        "input": {
            "shape": [-1, len(bands), side, side],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": None,
        "resize_type": None,
        "pre_processing_function": None,
    }


def _output(contract: Contract, name: str) -> dict[str, Any]:
    values = {
        "probabilities": "Calibrated probabilities of the classes; they sum to one.",
        "logits": "Their logits: means over views, divided by the temperature already.",
    }
    return {
        "name": name,
        "description": values[name],
        "tasks": [TASK],
        **result_of(contract, {"batch": -1, "class": len(contract.classes)}),
    }


def result_of(contract: Contract | PixelContract, sizes: Mapping[str, int]) -> dict[str, Any]:
    """The shape of an output by its axes, -1 for any size, and the classes in it."""
    return {
        "result": {
            "shape": list(sizes.values()),
            "dim_order": list(sizes),
            "data_type": "float32",
        },
        "classification:classes": classes_of(contract.classes, contract.colours),
        "post_processing_function": None,
    }


def classes_of(classes: Sequence[str], colours: Sequence[str]) -> list[dict[str, Any]]:
    """Class objects, with names of the letters allowed there and the real ones as titles.

    >>> classes_of(["wet field", "wet-field"], ["#11AA22", "#000000"])
    [{'value': 0, 'name': 'wet_field', 'title': 'wet field', 'description': 'wet field',
      'color_hint': '11AA22'},
     {'value': 1, 'name': 'wet-field', 'title': 'wet-field', 'description': 'wet-field',
      'color_hint': '000000'}]
    """
    objects: list[dict[str, Any]] = []
    for value, (title, colour) in enumerate(zip(classes, colours, strict=True)):
        name = re.sub(r"[^0-9A-Za-z_-]+", "_", title).strip("_") or f"class_{value}"
        if name in {one["name"] for one in objects}:
            name = f"{name}_{value}"
        objects.append(
            {
                "value": value,
                "name": name,
                "title": title,
                "description": title,
                "color_hint": colour.removeprefix("#"),
            }
        )
    return objects


def hyperparameters(model: ModelFile, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """How a model was trained, what its graph does inside, and with what it was computed."""
    spec, normalise = model.contract.spec, model.network.normalise
    probes = recipe.get("strategy") in ("probe", None)
    parts = ("strategy", "seed", "freeze_until", "split", "model", "probe" if probes else "train")
    sections: dict[str, Any] = {
        part: recipe[part] for part in parts if recipe.get(part) is not None
    }
    if not probes:
        sections["augment"] = recipe.get("augment")
    inside = {
        "mean": _figures(normalise.mean.tolist()),
        "stddev": _figures(normalise.sd.tolist()),
        "fill": _figures(normalise.fill.tolist()),
        "input_px": list(spec.input_px),
        "pool": spec.pool,
        "stages": list(spec.stages),
        **({"inner_activations": True} if spec.inner else {}),
        **({"renderings": list(spec.renderings)} if spec.renderings != GIVEN else {}),
        **({"band_statistics": ["mean", "stddev", "gradient"]} if spec.statistics else {}),
        "views": spec.views,
        "temperature": float(f"{float(model.network.temperature):.8g}"),
    }
    return {**sections, "inside_the_graph": inside, "versions": model.notes.get("versions", {})}


def _own(model: ModelFile, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What no extension has a place for."""
    accuracy = accuracy_of(model)
    properties: dict[str, Any] = {
        **made_with(model),
        "geotl:training": {
            "tiles": len(model.training_samples.footprints),
            "by_class": tiles_by_class(model),
            "dates": dates_of(model),
            "sources": sources_of(recipe),
        },
    }
    if accuracy is not None:
        how = model.notes["metrics"].get("estimate") or SPLITS.get(accuracy.split)
        properties["geotl:accuracy"] = accuracy_json(accuracy) | ({"held_out": how} if how else {})
    return properties


def made_with(model: NotedModel) -> dict[str, Any]:
    """The geotl that wrote the item, and the sensor of the training imagery."""
    sensor = model.contract.sensor
    return {
        "geotl:version": __version__,
        "geotl:sensor": {"name": sensor.name, "title": sensor.title, "source": sensor.source},
    }


def _dates(days: Sequence[str], written: datetime.datetime) -> dict[str, Any]:
    """The item's dates: from the first to the last day of imagery, else when it was written."""
    if days:
        first, last = f"{days[0][:10]}T00:00:00Z", f"{days[-1][:10]}T23:59:59Z"
        return {"datetime": None, "start_datetime": first, "end_datetime": last}
    moment = written.astimezone(datetime.UTC).replace(microsecond=0, tzinfo=None)
    return {"datetime": f"{moment.isoformat()}Z"}


def _licence(licence: str | None) -> dict[str, str]:
    """The licence where it is known; what is no SPDX word is "other", as STAC asks for."""
    if licence is None:
        return {}
    return {"license": licence if re.fullmatch(r"[\w\-.+]+", licence) else "other"}


def _figures(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.8g}") for value in values]


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
