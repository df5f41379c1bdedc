"""A model's STAC item: valid by the published schemas and by our own checks, and honest."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from helpers.map_fixtures import BANDS, CLASSES, PX, made_model
from helpers.noted_model import SECRETS, noted_model
from helpers.stac_schemas import schema_errors

from geotl.cli.main import main
from geotl.data.footprints import ground_in_degrees
from geotl.errors import ModelError, OutputError
from geotl.export.exporter import export_graph
from geotl.export.stac_assets import assets_of
from geotl.export.stac_checks import faults, place_faults, write_item
from geotl.export.stac_mlm import bounds_of, mlm_item
from geotl.models.model_file import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlm")


@pytest.fixture(scope="module")
def model(folder) -> Path:
    return noted_model(folder / "model.safetensors")


@pytest.fixture(scope="module")
def exports(model, folder) -> list[Path]:
    made = [folder / "model one.onnx", folder / "m.pt2"]
    export_graph(load(model), "onnx", made[0], log=lambda _: None)
    export_graph(load(model), "pt2", made[1], log=lambda _: None)
    return made


@pytest.fixture(scope="module")
def item(model, folder, exports) -> dict:
    return write_item(load(model), folder / "item.json", exports, log=lambda _: None)


def test_the_command_writes_an_item_with_every_asset(model, folder, exports, capsys):
    assets = [word for path in exports for word in ("--asset", str(path))]
    out = folder / "own.json"
    assert main(["export", str(model), "--format", "mlm", "-o", str(out), *assets]) == 0
    assert "3 assets" in capsys.readouterr().out
    told = json.loads(out.read_text())
    assert set(told["assets"]) == {"model", "model-onnx", "model-pt2"}
    for one in told["assets"].values():
        path = folder / one["href"].removeprefix("./").replace("%20", " ")
        assert one["file:checksum"] == "1220" + hashlib.sha256(path.read_bytes()).hexdigest()
        assert one["file:size"] == path.stat().st_size
        assert "mlm:model" in one["roles"]
    kinds = [one["mlm:artifact_type"] for one in told["assets"].values()]
    assert kinds == ["safetensors.torch.save_file", "onnx", "torch.export.save"]


def test_the_published_schemas_take_it(item, schema_root):
    assert schema_errors(item, schema_root) == []


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("mlm:name", "1 model"),
        ("mlm:tasks", ["land-cover"]),
        ("mlm:accelerator", "cpu"),
        ("datetime", "2017-02-16"),
        ("mlm:unknown", 1),
        ("mlm:framework_version", "2.15"),
    ],
)
def test_the_published_schemas_would_refuse_others(where, value, item, schema_root):
    wrong = copy.deepcopy(item)
    wrong["properties"][where] = value
    assert schema_errors(wrong, schema_root)


def test_a_model_without_places_dates_or_notes_is_described_too(folder, schema_root):
    bare = noted_model(folder / "bare.safetensors", training={}, weights={}, metrics={}, recipe="")
    told = write_item(load(bare), folder / "bare.json", log=lambda _: None)
    assert told["geometry"] is None
    assert "bbox" not in told
    assert "not known" in told["properties"]["description"]
    assert told["properties"]["mlm:pretrained"] is False
    assert told["properties"]["mlm:pretrained_source"] is None
    assert "geotl:accuracy" not in told["properties"]
    assert schema_errors(told, schema_root) == []


def test_it_says_what_the_caller_has_to_do_which_is_nothing(item):
    (taken,) = item["properties"]["mlm:input"]
    assert taken["value_scaling"] is None
    assert taken["pre_processing_function"] is None
    assert taken["input"]["shape"] == [-1, len(BANDS), PX, PX]
    assert "raw digital numbers" in item["properties"]["description"]
    inside = item["properties"]["mlm:hyperparameters"]["inside_the_graph"]
    assert len(inside["mean"]) == len(inside["stddev"]) == len(BANDS)
    red = item["properties"]["bands"][2]
    assert red["eo:common_name"] == "red"
    assert red["eo:center_wavelength"] == pytest.approx(0.6646)
    assert (red["raster:scale"], red["raster:offset"], red["nodata"]) == (1e-4, 0, 0)


def test_it_says_where_and_when(model, item):
    ground = shapely.geometry.shape(item["geometry"])
    boxes = load(model).training_samples.footprints
    one_by_one = ground_in_degrees([tuple(box) for box in boxes.tolist()], ["EPSG:32633"] * 24)
    assert ground.equals(one_by_one)
    assert item["bbox"] == list(ground.bounds)
    assert ground.exterior.is_ccw
    told = item["properties"]
    assert told["datetime"] is None
    assert told["start_datetime"] == "2017-02-16T00:00:00Z"
    assert told["end_datetime"] == "2017-07-01T23:59:59Z"


def test_it_says_how_right_the_model_is(item):
    told = item["properties"]["geotl:accuracy"]
    assert told["judged_tiles"] == 120
    assert told["overall"] == {"value": 0.73, "low": 0.69, "high": 0.77}
    assert told["overall_spatial_split"]["value"] == pytest.approx(0.73, abs=0.01)
    assert told["overall_random_split"]["value"] == 0.85
    assert told["overall_random_split"]["low"] < 0.85 < told["overall_random_split"]["high"]


def test_it_names_no_folder_of_the_lab(item):
    text = json.dumps(item)
    assert not [word for word in SECRETS if word in text]
    assert f"resnet18.pth (sha256 {'ab' * 32})" in item["properties"]["mlm:pretrained_source"]
    assert item["properties"]["geotl:training"]["sources"] == [
        "tiles",
        "scene.tif",
        "labels of 2020.gpkg",
    ]


def test_classes_have_names_that_stac_takes_and_their_own_as_titles(item):
    for output in item["properties"]["mlm:output"]:
        classes = output["classification:classes"]
        assert [one["title"] for one in classes] == list(CLASSES)
        assert [one["value"] for one in classes] == [0, 1, 2]
        assert classes[0]["name"] == "field_wet"
        assert classes[0]["color_hint"] == "11aa22"


def _set(item: dict, way: str, value: object) -> None:
    *steps, last = way.split("/")
    for step in steps:
        item = item[int(step)] if step.isdigit() else item[step]
    if value is None:
        del item[last]
    else:
        item[last] = value


IN, OUT = "properties/mlm:input/0", "properties/mlm:output/0"
SCALING = [{"type": "z-score", "mean": 0, "stddev": 1}]


@pytest.mark.parametrize(
    ("way", "value", "told"),
    [
        ("properties/mlm:name", "x", "mlm:name"),
        (f"{IN}/value_scaling", SCALING * 3, "value_scaling has 3"),
        (f"{IN}/bands", ["B02", "B03", "B04", "B99"], "band B99 is not among"),
        (f"{IN}/bands", ["B02"], "1 bands, but room for 4"),
        (f"{IN}/input/dim_order", ["batch", "channel", "height", "width"], "no dimension 'bands'"),
        (f"{IN}/input/shape", [-1, 4, 32], "does not fit dim_order"),
        (f"{IN}/input/shape", [0, 4, 32, 32], "a size of 0"),
        (f"{OUT}/result/shape", [-1, 4], "room for 4"),
        (f"{OUT}/classification:classes/1/value", 2, "are not 0, 1, 2"),
        (f"{OUT}/classification:classes/1/color_hint", "#112233", "six hex digits"),
        (f"{OUT}/classification:classes/1/name", "field_wet", "two classes of one name"),
        (f"{OUT}/classification:classes/1/name", "a b", "letters, digits"),
        ("assets/model/file:size", 7, "bytes, not 7"),
        ("assets/model/file:checksum", "1220" + "0" * 64, "file:checksum is not that"),
        ("assets/model/href", "./other.safetensors", "is not there"),
        ("assets/model/href", "https://example.org/model.safetensors", "is not relative"),
        ("assets/model/href", "/model.safetensors", "is not relative"),
        ("assets/model/roles", ["data"], "belong together"),
        ("properties/start_datetime", None, "give datetime, or"),
        ("properties/start_datetime", "2018-01-01T00:00:00Z", "is after"),
        ("properties/start_datetime", "last year", "no date and time"),
        ("properties/start_datetime", "2017-01-01T00:00:00+01:00", "not in UTC"),
        ("bbox", [0.0, 0.0, 1.0, 1.0], "is not the box"),
        ("bbox", [-180.0, -90.0, 180.0, 90.0], "is not the box"),
        (
            "geometry",
            {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]},
            "Self-intersection",
        ),
        ("properties/geotl:version", float("nan"), "JSON cannot hold"),
    ],
)
def test_our_own_checks_find(way, value, told, item, folder):
    assert list(faults(item, folder)) == []
    wrong = copy.deepcopy(item)
    _set(wrong, way, value)
    assert any(told in line for line in faults(wrong, folder))


def test_a_wrong_item_is_not_written(model, folder, monkeypatch):
    def wrong(*args, **options):
        made = mlm_item(*args, **options)
        made["properties"]["mlm:name"] = "?"
        return made

    monkeypatch.setattr("geotl.export.stac_checks.mlm_item", wrong)
    with pytest.raises(OutputError, match="STAC item not written: mlm:name"):
        write_item(load(model), folder / "wrong.json")
    assert not (folder / "wrong.json").exists()


def test_exports_of_another_model_are_refused(exports, folder, capsys):
    other = made_model(folder / "other.safetensors", spec={"views": 1})
    for path in exports:
        with pytest.raises(ModelError, match="exported from another model"):
            assets_of(other, [path], folder / "x.json")
    with pytest.raises(ModelError, match="a second model"):
        assets_of(other, [folder / "model.safetensors"], folder / "x.json")
    (folder / "n.pt2").write_bytes(b"no archive")
    with pytest.raises(ModelError, match="not a file that geotl exported"):
        assets_of(other, [folder / "n.pt2"], folder / "x.json")
    missing = ["--asset", str(folder / "none.onnx")]
    out = ["-o", str(folder / "x.json")]
    assert main(["export", str(other), "--format", "mlm", *out, *missing]) == 2
    assert "no such file" in capsys.readouterr().err
    assert not (folder / "x.json").exists()


def test_an_item_is_not_overwritten_and_options_mean_something(model, folder, item, capsys):
    out = folder / "item.json"
    before = out.read_bytes()
    assert main(["export", str(model), "--format", "mlm", "-o", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_bytes() == before
    given = ["--format", "onnx", "-o", str(folder / "y.onnx"), "--licence", "MIT"]
    assert main(["export", str(model), *given]) == 2
    assert "--licence: means nothing to --format onnx" in capsys.readouterr().err
    assert main(["export", str(model), "--format", "mlm", "-o", str(out), "--views", "2"]) == 2
    assert "--views: means nothing to --format mlm" in capsys.readouterr().err


def test_the_same_file_gives_the_same_item(model, folder, exports, item):
    again = write_item(load(model), folder / "again.json", exports, log=lambda _: None)
    assert again == item
    assert json.loads((folder / "item.json").read_text()) == item


def test_an_item_may_lie_in_a_folder_that_is_made_for_it(model, folder):
    told = write_item(load(model), folder / "new" / "item.json", log=lambda _: None)
    assert told["assets"]["model"]["href"] == "../model.safetensors"
    assert list(faults(told, folder / "new")) == []


def test_ground_far_apart_and_across_the_date_line():
    two = [(500000.0, 5e6, 500640.0, 5000640.0), (800000.0, 5e6, 800640.0, 5000640.0)]
    far = ground_in_degrees([*two, None], ["EPSG:32633", "EPSG:32633", None])
    assert far.geom_type == "MultiPolygon"
    assert len(far.geoms) == 2
    fiji = [(179.9, -17.0, 179.95, -16.9), (-179.95, -17.1, -179.9, -17.0)]
    ground = ground_in_degrees(fiji, ["EPSG:4326"] * 2)
    assert ground.is_valid
    assert bounds_of(ground) == [179.9, -17.1, -179.9, -16.9]
    place = {"geometry": shapely.geometry.mapping(ground), "bbox": bounds_of(ground)}
    assert list(place_faults(place)) == []
    assert list(place_faults(place | {"bbox": [-180.0, -17.1, 180.0, -16.9]}))
    assert ground_in_degrees([None], [None]) is None


@pytest.mark.real_data
def test_the_ground_of_real_tiles_holds_every_tile(real_data):
    import rasterio
    from pyproj import Transformer

    scene = sorted((real_data / "sentinel2_l1c_havel").glob("*.jp2"))[:1] or sorted(
        (real_data / "sentinel2_l1c_havel").rglob("*.tif")
    )
    with rasterio.open(scene[0]) as source:
        left, bottom, right, top = source.bounds
        crs = source.crs.to_string()
    random = np.random.default_rng(0)
    x, y = random.uniform(left, right - 160, 50), random.uniform(bottom, top - 160, 50)
    boxes = [(a, b, a + 160, b + 160) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    ground = ground_in_degrees(boxes, [crs] * 50)
    east, north = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x + 80, y + 80)
    assert shapely.contains_xy(ground, east, north).all()
