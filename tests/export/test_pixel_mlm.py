"""A pixel model's STAC item: semantic segmentation of images of any size, valid and honest."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.map_fixtures import BANDS, CLASSES
from helpers.noted_model import SECRETS, WEIGHTS
from helpers.pixel_models import made_pixel_model, small_network
from helpers.stac_schemas import schema_errors

from geotl.cli.main import main
from geotl.errors import ModelError
from geotl.export.pixel_export import export_pixels
from geotl.export.pixel_mlm import numbers_of
from geotl.export.stac_checks import faults, write_item
from geotl.models.pixel_file import load_pixel_model

RECIPE = """name: wetlands of pixels
title: Wetlands
task: pixels
seed: 4
data:
  scenes: [/srv/secret-lab/scene.tif]
labels:
  path: /home/ann/labels of 2020.gpkg
split:
  method: blocks
"""
NOTES = {
    "recipe": RECIPE,
    "versions": {"geotl": "0.1.0", "torch": "2.15.0"},
    "weights": {**WEIGHTS, "chain": [WEIGHTS]},
    "training": {
        "crs": ["EPSG:32633"],
        "labels": 120,
        "pixels": 300,
        "dates": ["2017-02-16", "2017-07-01"],
    },
    "metrics": {
        "headline": "overall accuracy 0.910",
        "overall_accuracy": {"value": 0.91, "low": 0.85, "high": 0.95},
        "pixels": 120,
        "estimate": "Accuracy is estimated by 5 blocked folds.",
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("mlm")


@pytest.fixture(scope="module")
def model(folder) -> Path:
    path = folder / "model.safetensors"
    return made_pixel_model(path, windows_px=(3, 9), notes=NOTES, deep=small_network())


@pytest.fixture(scope="module")
def exported(model, folder) -> Path:
    out = folder / "m.onnx"
    export_pixels(load_pixel_model(model), "onnx", out, log=lambda _: None)
    return out


@pytest.fixture(scope="module")
def item(model, folder, exported) -> dict:
    return write_item(load_pixel_model(model), folder / "item.json", [exported], log=lambda _: None)


def test_the_published_schemas_take_it(item, schema_root):
    assert schema_errors(item, schema_root) == []
    wrong = copy.deepcopy(item)
    wrong["properties"]["mlm:tasks"] = ["pixels"]
    assert schema_errors(wrong, schema_root) != []


def test_our_own_checks_take_it(item, folder):
    assert list(faults(item, folder)) == []
    wrong = copy.deepcopy(item)
    wrong["properties"]["mlm:output"][0]["result"]["shape"][1] = 4
    assert any("room for 4" in line for line in faults(wrong, folder))


def test_it_segments_images_of_any_size(item):
    told = item["properties"]
    assert told["mlm:tasks"] == ["semantic-segmentation"]
    (given,) = told["mlm:input"]
    assert given["input"]["shape"] == [-1, 4, -1, -1]
    assert given["bands"] == list(BANDS)
    assert "less than 40 px from an edge" in given["description"]
    assert "begins at a multiple of 8 px" in given["description"]
    assert [one["name"] for one in told["mlm:output"]] == ["probabilities", "logits"]
    for one in told["mlm:output"]:
        assert one["tasks"] == ["semantic-segmentation"]
        assert one["result"]["shape"] == [-1, 3, -1, -1]
        assert one["result"]["dim_order"] == ["batch", "class", "height", "width"]
        assert [c["title"] for c in one["classification:classes"]] == list(CLASSES)


def test_it_says_what_the_model_is_made_of(item, model):
    told = item["properties"]
    assert told["mlm:architecture"].startswith("Fusion of bands (linear), forest (forest), wide (")
    assert "SqueezeNet" in told["mlm:architecture"]
    assert "idle" not in told["mlm:architecture"]
    inside = told["mlm:hyperparameters"]["inside_the_graph"]
    assert inside["features"]["windows_px"] == [3, 9]
    assert inside["halo_px"] == 40
    assert told["mlm:pretrained"]
    file = load_pixel_model(model)
    bands = file.model.members["bands"]
    alone = replace(file, model=file.model.alone("bands"))
    assert numbers_of(alone) == bands.weight.size + bands.bias.size
    assert told["mlm:total_parameters"] == numbers_of(file) > numbers_of(alone)


def test_it_says_where_when_and_how_right(item):
    told = item["properties"]
    assert told["start_datetime"] == "2017-02-16T00:00:00Z"
    assert item["geometry"]["type"] == "Polygon"
    assert told["geotl:training"]["labels"] == 120
    accuracy = told["geotl:accuracy"]
    assert accuracy["overall"] == {"value": 0.91, "low": 0.85, "high": 0.95}
    assert accuracy["tested_pixels"] == 120
    assert accuracy["held_out"] == "Accuracy is estimated by 5 blocked folds."


def test_it_names_no_folder_of_the_lab(item):
    text = json.dumps(item)
    assert not [word for word in SECRETS if word in text]
    assert item["properties"]["geotl:training"]["sources"] == ["scene.tif", "labels of 2020.gpkg"]


def test_the_command_writes_every_asset(model, folder, exported, capsys):
    out = folder / "own.json"
    words = ["--format", "mlm", "-o", str(out), "--asset", str(exported)]
    assert main(["export", str(model), *words]) == 0
    assert "2 assets" in capsys.readouterr().out
    told = json.loads(out.read_text())["assets"]
    assert set(told) == {"model", "model-onnx"}
    digest = hashlib.sha256(exported.read_bytes()).hexdigest()
    assert told["model-onnx"]["file:checksum"] == f"1220{digest}"
    assert main(["export", str(model), *words, "--overwrite", "--member", "bands"]) == 2
    assert "--member: means nothing to --format mlm" in capsys.readouterr().err


def test_an_export_of_another_model_is_refused(folder, exported):
    other = made_pixel_model(folder / "other.safetensors", windows_px=(3,))
    with pytest.raises(ModelError, match="exported from another model"):
        write_item(load_pixel_model(other), folder / "x.json", [exported])


def test_what_is_not_known_is_said(folder, schema_root):
    bare = made_pixel_model(folder / "bare.safetensors", windows_px=(3,), notes={"training": {}})
    item = write_item(load_pixel_model(bare), folder / "bare.json", log=lambda _: None)
    assert item["geometry"] is None
    assert "Where the training pixels lay is not known" in item["properties"]["description"]
    assert "geotl:accuracy" not in item["properties"]
    assert schema_errors(item, schema_root) == []
