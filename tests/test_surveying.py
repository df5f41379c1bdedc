"""Recipes over scenes: chips are placed, read and trained on as tiles of their own would be."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from conftest import write_tile
from safetensors.numpy import load_file

from geotl.cli.main import main
from geotl.models.model_file import read_header

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")

BANDS = ["B02", "B03", "B04", "B08"]
PX = 12
SMALL = [
    "data.sensor=sentinel2_l2a", "data.bands=[B02,B03,B04,B08]", "model.backbone=lenet5",
    "model.input_px=32", "strategy=probe", "probe.views=1", "split.folds=2",
    "evaluate.bootstrap_rounds=20", "evaluate.baselines=false",
]  # fmt: skip


def made_scene(folder: Path) -> tuple[Path, Path]:
    """A scene of squares of three classes, and a point in each: (scene, labels)."""
    random = np.random.default_rng(3)
    side = 12
    classes = random.integers(0, 3, (side, side))
    level = np.array([[600, 900, 700, 3200], [900, 1000, 1300, 1800], [500, 400, 300, 200]])
    pixels = level[classes].transpose(2, 0, 1).repeat(16, axis=1).repeat(16, axis=2)
    noisy = (pixels + random.normal(0, 70, pixels.shape)).clip(1).astype(np.uint16)
    noisy[:, :20, -20:] = 0
    scene = write_tile(folder / "scene.tif", noisy, names=BANDS)
    rows, cols = np.divmod(np.arange(side * side), side)
    points = [shapely.Point(500000 + 160 * c + 85, 4600000 - 160 * r - 85)
              for r, c in zip(rows, cols, strict=True)]  # fmt: skip
    table = {"class": [("field", "town", "water")[k] for k in classes.ravel()]}
    labels = folder / "labels.gpkg"
    geopandas.GeoDataFrame(table, geometry=points, crs="EPSG:32633").to_file(labels)
    return scene, labels


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return made_scene(tmp_path_factory.mktemp("scene"))


def run(out: Path, *settings: str) -> int:
    recipe = out.parent / "small.yaml"
    recipe.write_text("title: small\n")
    return main(["run", str(recipe), *SMALL, *settings, "--out", str(out), "-q"])


def over(made: tuple[Path, Path]) -> list[str]:
    return [f"data.scenes={made[0]}", f"labels.path={made[1]}", f"labels.chip_px={PX}"]


def test_a_scene_and_its_points_train_a_model(made: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(out, *over(made)) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["overall_accuracy"]["value"] > 0.9
    with (out / "rejected.csv").open() as stream:
        told = list(csv.DictReader(stream))
    assert {row["reason"] for row in told} == {"nodata"}
    named = (out / "predictions.csv").read_text()
    assert "scene/" in named
    assert len(named.splitlines()) - 1 == metrics["tiles"]
    assert "4 used" not in (out / "report.html").read_text()
    assert f"{144 - len(told)} used" in (out / "report.html").read_text()
    notes = read_header(out / "model.safetensors")
    assert "EPSG:32633" in json.dumps(notes)


def test_chips_on_disk_give_the_same_model_as_the_scene_itself(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    assert run(tmp_path / "direct", *over(made)) == 0
    cut = ["chips", str(made[0]), str(made[1]), "-o", str(tmp_path / "chips"), "--chip-px",
           str(PX), "--sensor", "sentinel2_l2a", "--bands", *BANDS, "-q"]  # fmt: skip
    assert main(cut) == 0
    manifest = tmp_path / "chips" / "chips.csv"
    assert run(tmp_path / "cut", f"data.root={manifest}") == 0
    direct, again = (
        json.loads((tmp_path / kind / "metrics.json").read_text()) for kind in ("direct", "cut")
    )
    assert direct["tiles"] == again["tiles"]


def test_a_changed_pixel_is_read_anew(made: tuple[Path, Path], tmp_path: Path) -> None:
    scene, labels = made_scene(tmp_path)
    assert run(tmp_path / "first", *over((scene, labels))) == 0
    with rasterio.open(scene, "r+") as image:
        pixels = image.read()
        image.write(np.where(pixels > 0, pixels + 1000, 0))
    assert run(tmp_path / "second", *over((scene, labels))) == 0
    first, second = (
        load_file(tmp_path / name / "model.safetensors")["normalise.mean"]
        for name in ("first", "second")
    )
    np.testing.assert_allclose(second, first + 1000, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "told"),
    [(["labels.field=clas"], "class"), (["labels.path=nowhere.gpkg"], "nowhere.gpkg"),
     (["data.scenes=nowhere.tif"], "nowhere.tif"), (["labels.chip_px=512"], "chips"),
     (["data.bands=B01"], "B01"), (["labels.names={field: water}"], None)],
)  # fmt: skip
def test_scenes_and_labels_that_cannot_be_used_are_one_clear_line(
    made: tuple[Path, Path], tmp_path: Path, settings: list[str], told: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    code = run(tmp_path / "run", *over(made), *settings)
    error = capsys.readouterr().err.strip()
    if told is None:
        assert code == 0
        return
    assert code == 2
    assert told in error
    assert len(error.splitlines()) == 1
