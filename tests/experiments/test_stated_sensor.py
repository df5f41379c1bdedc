"""A known sensor whose files hold other numbers: one line of a recipe, kept with the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.labelled_scenes import PIXELS, made_scene
from helpers.runs import SMALL
from helpers.tiles import write_tile

import geotl
from geotl.cli.main import main
from geotl.errors import RecipeError
from geotl.experiments.named import recipe_sensor
from geotl.experiments.recipe import dump, load

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered", "few_trees")
DOUBLED = "data.sensor={base: sentinel2_l2a, scale: 0.0002, offset: -0.1}"


@pytest.mark.parametrize(
    ("stated", "scale", "offset", "nodata", "measures"),
    [
        ("{base: landsat7_sr, scale: 0.0001}", 1e-4, -0.2, 0, "reflectance"),
        ("{base: landsat7_sr, scale: 0.0001, offset: 0, nodata: -9999}", 1e-4, 0, -9999, None),
        ("{base: landsat7_sr, dtype: uint8}", 1 / 255, 0, None, "share"),
        ("{base: landsat7_sr, dtype: uint8, nodata: 0, scale: 0.002}", 0.002, 0, 0, "share"),
        ("{base: sentinel2_l2a_n0400, dtype: float32}", 1, 0, None, "reflectance"),
    ],
)
def test_what_is_stated_takes_the_place_of_what_is_known(
    stated: str, scale: float, offset: float, nodata: float | None, measures: str | None
) -> None:
    """Red before: only a name was allowed."""
    recipe = load(None, [f"data.sensor={stated}"])
    sensor = recipe_sensor(recipe)
    assert (sensor.scale, sensor.offset, sensor.nodata) == (scale, offset, nodata)
    assert sensor.measures == (measures or "reflectance")
    base = recipe_sensor(load(None, [f"data.sensor={recipe.data.sensor.base}"]))
    assert sensor.bands == base.bands
    assert sensor.name not in {base.name, "custom"}


def test_a_single_value_is_changed_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data: {sensor: landsat7_sr}\n")
    recipe = load(path, ["data.sensor.scale=0.0001", "data.sensor.offset=0"])
    assert (recipe_sensor(recipe).scale, recipe_sensor(recipe).offset) == (1e-4, 0)
    (tmp_path / "again.yaml").write_text(dump(recipe))
    assert load(tmp_path / "again.yaml").data == recipe.data


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("data.sensor={base: landsat7_sr, scal: 1}", "data.sensor.scal: given 1, but there is no"),
        ("data.sensor={scale: 1}", "data.sensor.base: missing"),
        ("data.sensor={base: landsat7_sr, scale: x}", "data.sensor.scale: given x"),
        ("data.sensor=[a]", "data.sensor: given"),
    ],
)
def test_a_wrong_statement_is_one_line(setting: str, says: str) -> None:
    with pytest.raises(RecipeError) as raised:
        load(None, [setting])
    assert says in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("{base: landsat7_st, scale: 1}", "did you mean 'landsat7_sr'"),
        ("{base: landsat7_sr, scale: 0}", "scale other than 0"),
        ("{base: landsat7_toa, dtype: int16}", "state the scale too"),
    ],
)
def test_recipe_check_finds_a_statement_that_cannot_be(
    setting: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipe", "check", "sample_pixels", f"data.sensor={setting}"]) == 2
    assert says in capsys.readouterr().err


def test_a_model_of_pixels_keeps_the_sensor_through_map_and_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene, labels = made_scene(tmp_path)
    settings = [*PIXELS, DOUBLED, f"data.scenes={scene}", f"labels.path={labels}"]
    (tmp_path / "small.yaml").write_text("title: small\n")
    out = tmp_path / "run"
    assert main(["run", str(tmp_path / "small.yaml"), *settings, "--out", str(out), "-q"]) == 0
    model = geotl.load(out / "model.safetensors")
    held = model.file.contract.sensor
    assert (held.scale, held.offset, held.name) == (2e-4, -0.1, "sentinel2_l2a_variant")
    capsys.readouterr()
    assert main(["inspect", str(out / "model.safetensors")]) == 0
    assert "DN * 0.0002 + -0.1" in capsys.readouterr().out
    plain, exported = tmp_path / "map.tif", tmp_path / "model.onnx"
    words = ["--format", "onnx", "-o", str(exported)]
    assert main(["export", str(out / "model.safetensors"), *words]) == 0
    for source, target in ((out / "model.safetensors", plain), (exported, tmp_path / "onnx.tif")):
        assert main(["map", str(source), str(scene), "-o", str(target), "--no-page"]) == 0
    with rasterio.open(plain) as one, rasterio.open(tmp_path / "onnx.tif") as other:
        assert (one.read(1) == other.read(1)).mean() > 0.99


def test_eight_bit_tiles_of_a_known_sensor_train_a_model(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    names = ["B1", "B2", "B3", "B4"]
    for k, name in enumerate(("field", "water")):
        for i in range(8):
            data = random.normal(60 + 70 * k, 9, (4, 32, 32)).clip(0, 255).astype(np.uint8)
            write_tile(tmp_path / "tiles" / name / f"{i}.tif", data, names=names)
    (tmp_path / "small.yaml").write_text("data: {sensor: {base: landsat7_sr, dtype: uint8}}\n")
    small = [s for s in SMALL if not s.startswith("data.")]
    settings = [f"data.root={tmp_path / 'tiles'}", "data.bands=B1,B2,B3,nir", *small]
    out = tmp_path / "run"
    assert main(["run", str(tmp_path / "small.yaml"), *settings, "--out", str(out), "-q"]) == 0
    model = geotl.load(out / "model.safetensors")
    assert model.bands == ("SR_B1", "SR_B2", "SR_B3", "SR_B4")
    assert model.file.contract.sensor.measures == "share"
    assert json.loads((out / "metrics.json").read_text())["overall_accuracy"]["value"] > 0.8
