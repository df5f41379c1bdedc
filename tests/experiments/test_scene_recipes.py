"""Recipes over scenes: chips are placed, read and trained on as tiles of their own would be."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.labelled_scenes import BANDS, PX, made_scene, over, run
from safetensors.numpy import load_file

from geotl.cli.main import main
from geotl.models.model_file import read_header

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return made_scene(tmp_path_factory.mktemp("scene"))


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
    cut = [
        "chips",
        str(made[0]),
        str(made[1]),
        "-o",
        str(tmp_path / "chips"),
        "--chip-px",
        str(PX),
        "--sensor",
        "sentinel2_l2a",
        "--bands",
        *BANDS,
        "-q",
    ]
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
    [
        (["labels.field=clas"], "class"),
        (["labels.path=nowhere.gpkg"], "nowhere.gpkg"),
        (["data.scenes=nowhere.tif"], "nowhere.tif"),
        (["labels.chip_px=512"], "chips"),
        (["data.bands=B01"], "B01"),
        (["labels.names={field: water}"], None),
    ],
)
def test_scenes_and_labels_that_cannot_be_used_are_one_clear_line(
    made: tuple[Path, Path],
    tmp_path: Path,
    settings: list[str],
    told: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = run(tmp_path / "run", *over(made), *settings)
    error = capsys.readouterr().err.strip()
    if told is None:
        assert code == 0
        return
    assert code == 2
    assert told in error
    assert len(error.splitlines()) == 1
