"""`geotl suggest` without a model: places of scenes and tiles of folders to label first."""

from __future__ import annotations

import csv
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import torch
import torchvision
from helpers.labelled_scenes import BANDS, made_scene
from helpers.tiles import write_tile

from geotl.cli.main import main

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")
SENSOR = ["--sensor", "sentinel2_l2a"]
KEYS = ["data.bands=[B02,B03,B04,B08]"]
LEVEL = {"field": (600, 900, 700, 3200), "town": (900, 1000, 1300, 1800), "water": (500, 400, 9, 9)}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a ResNet-18, for what reads such a file: its numbers are random."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    return path


def suggest(*words: object) -> int:
    return main(["suggest", *map(str, words)])


def test_points_of_a_scene_cover_its_classes_and_wait_for_theirs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene, labels = made_scene(tmp_path)
    out = tmp_path / "first.gpkg"
    assert suggest(scene, *KEYS, "--weights", "none", *SENSOR, "-n", 6, "-q", "-o", out) == 0
    table = geopandas.read_file(out)
    assert len(table) == 6
    assert table["class"].isna().all()
    assert table["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert (np.diff(table["stands_for"]) <= 0).all()
    near = geopandas.sjoin_nearest(table[["geometry"]], geopandas.read_file(labels))
    assert set(near["class"]) == {"field", "town", "water"}
    with rasterio.open(scene) as source:
        assert all(values.any() for values in source.sample([(p.x, p.y) for p in table.geometry]))
    assert "fill in the field class" in capsys.readouterr().out


def test_a_network_takes_part(tmp_path: Path, weights: Path) -> None:
    scene, _ = made_scene(tmp_path)
    found = {}
    for name in ("none", str(weights)):
        out = tmp_path / f"{len(found)}.gpkg"
        assert suggest(scene, *KEYS, "--weights", name, *SENSOR, "-n", 8, "-q", "-o", out) == 0
        found[name] = [(p.x, p.y) for p in geopandas.read_file(out).geometry]
    assert found["none"] != found[str(weights)]


def test_labels_stand_for_what_resembles_them(tmp_path: Path) -> None:
    """With all fields labelled already, fields are suggested less than without."""
    scene, labels = made_scene(tmp_path)
    known = geopandas.read_file(labels)
    fields = tmp_path / "fields.gpkg"
    known[known["class"] == "field"].to_file(fields)
    counts = []
    for given in ([], ["--labels", fields]):
        out = tmp_path / f"{len(counts)}.gpkg"
        words = [scene, *KEYS, "--weights", "none", *SENSOR, *given, "-n", 12, "-q", "-o", out]
        assert suggest(*words) == 0
        near = geopandas.sjoin_nearest(geopandas.read_file(out)[["geometry"]], known)
        counts.append(int((near["class"] == "field").sum()))
    assert counts[1] < counts[0]


def test_tiles_of_a_folder_become_a_list_to_fill_in(tmp_path: Path, weights: Path) -> None:
    random = np.random.default_rng(0)
    for name, level in LEVEL.items():
        for i in range(8):
            pixels = random.normal(0, 30, (4, 32, 32)) + np.array(level)[:, None, None]
            path = tmp_path / "tiles" / f"{name}{i}.tif"
            write_tile(path, pixels.clip(1).astype(np.uint16), names=BANDS)
    out = tmp_path / "first.csv"
    words = [tmp_path / "tiles", *KEYS, "--weights", weights, *SENSOR, "-n", 3, "-q", "-o", out]
    assert suggest(*words) == 0
    rows = list(csv.DictReader(out.open()))
    assert {Path(row["path"]).name[:-5] for row in rows} == set(LEVEL)
    assert [row["label"] for row in rows] == ["", "", ""]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--weights", "none", "-o", "a.gpkg"], "give --sensor"),
        (["--weights", "none", *SENSOR, "-o", "a.tif"], "ending in .gpkg"),
        (["-o", "a.gpkg"], "without a model give --weights"),
        (["--weights", "none", *SENSOR, *KEYS, "-n", "90000", "-o", "a.gpkg"], "ask for fewer"),
    ],
)
def test_what_lacks_is_said_in_a_line(
    tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scene, _ = made_scene(tmp_path)
    given = [str(tmp_path / w) if w.startswith("a.") else w for w in words]
    assert suggest(scene, *given) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("a.*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "a.csv"], "tiles are compared by a network"),
        (["-n", "0", "-o", "a.gpkg"], "-n: given"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(
    tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(tmp_path / w) if w.startswith("a.") else w for w in words]
    assert suggest(tmp_path, "--weights", "none", *SENSOR, *given) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--weights", "none", *SENSOR, "-o", "a.gpkg", "--ignore-applicability"],
            "no area of applicability",
        ),
        (["other", "--weights", "w.pth", *SENSOR, "-o", "a.csv"], "given 2 paths"),
        (["other.tif", "-o", "a.gpkg", "data.bands=[B02]"], "recipe keys go with --weights"),
    ],
)
def test_options_that_would_count_for_nothing_are_refused(
    tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(tmp_path / w) if w.startswith("a.") else w for w in words]
    assert suggest(tmp_path, *given) == 2
    assert said in capsys.readouterr().err


def test_the_step_sets_how_many_pixels_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene, _ = made_scene(tmp_path)
    words = [
        "--weights",
        "none",
        *SENSOR,
        "--stride-px",
        "48",
        "-n",
        5,
        "-o",
        tmp_path / "a.gpkg",
    ]
    assert suggest(scene, *KEYS, *words) == 0
    assert "16 pixels spread over the scenes" in capsys.readouterr().out
