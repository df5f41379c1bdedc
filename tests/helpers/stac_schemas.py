"""The published JSON schemas of STAC and its extensions, and nothing fetched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import referencing
from jsonschema import Draft7Validator, FormatChecker
from referencing.jsonschema import DRAFT7

ITEM = "https://schemas.stacspec.org/v1.1.0-beta.1/item-spec/json-schema/item.json"
EXTENSIONS = "https://stac-extensions.github.io"
# The item's schema refers to GeoJSON's, and MLM's to one line of raster 1.1.0 and of processing
# 1.1.0, none of which lie in the folder: small ones of our own.
_POINTS = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 3}
_RING = {"type": "array", "items": _POINTS, "minItems": 4}
_POLYGON = {"type": "array", "items": _RING, "minItems": 1}
_TYPES = {
    "Point": _POINTS,
    "LineString": {"type": "array", "items": _POINTS, "minItems": 2},
    "MultiPoint": {"type": "array", "items": _POINTS},
    "Polygon": _POLYGON,
    "MultiPolygon": {"type": "array", "items": _POLYGON, "minItems": 1},
}
_GEOMETRY = {
    "oneOf": [
        {
            "type": "object",
            "required": ["type", "coordinates"],
            "properties": {"type": {"const": kind}, "coordinates": held},
        }
        for kind, held in _TYPES.items()
    ]
}
_WHOLE = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
_NUMBERS = [*_WHOLE, "float16", "float32", "float64", "cint16", "cint32", "cfloat32", "cfloat64"]
STAND_INS: dict[str, Any] = {
    "https://geojson.org/schema/Geometry.json": _GEOMETRY,
    "https://geojson.org/schema/Feature.json": {
        "type": "object",
        "required": ["type", "properties", "geometry"],
        "properties": {
            "type": {"const": "Feature"},
            "properties": {"type": "object"},
            "geometry": {"oneOf": [{"type": "null"}, _GEOMETRY]},
        },
    },
    f"{EXTENSIONS}/raster/v1.1.0/schema.json": {
        "definitions": {
            "bands": {"items": {"properties": {"data_type": {"type": "string", "enum": _NUMBERS}}}}
        },
    },
}


def schema_errors(item: dict[str, Any], folder: Path) -> list[str]:
    """What the schemas of STAC 1.1 and of the item's extensions that lie in a folder say.

    The newest schema of STAC at hand is 1.1.0-beta.1, whose only difference that meets us is the
    version it asks for.
    """
    held = {path: json.loads(path.read_text()) for path in folder.rglob("*.json")}
    registry: Any = referencing.Registry()
    for path, schema in held.items():
        known = schema["$id"].rstrip("#").replace("commonjson", "common.json")
        resource = DRAFT7.create_resource(schema | {"$id": known})
        registry = registry.with_resource(known, resource)
        if path.stem == "processing":  # its Expression Object is that of 1.1.0
            older = known.replace("v1.2.0", "v1.1.0")
            registry = registry.with_resource(
                older, DRAFT7.create_resource(schema | {"$id": older})
            )
    for name, schema in STAND_INS.items():
        registry = registry.with_resource(name, DRAFT7.create_resource(schema))
    assert item["stac_version"] == "1.1.0"
    asked = [name for name in item["stac_extensions"] if name in registry]
    assert any("/mlm/" in name for name in asked)
    found = []
    for name in (ITEM, *asked):
        one = item | {"stac_version": "1.1.0-beta.1"} if name == ITEM else item
        check = Draft7Validator(
            registry.contents(name), registry=registry, format_checker=FormatChecker()
        )
        found += [
            f"{name}: {list(e.absolute_path)} {e.message[:300]}" for e in check.iter_errors(one)
        ]
    return found
