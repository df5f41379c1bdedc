"""Prediction sets from a run to its report, its predictions and its map."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.labelled_scenes import PIXELS, made_scene, over, run

from geotl.api import load
from geotl.cli.main import main
from geotl.errors import DataError
from geotl.evaluation.doubtful_labels import HeldOutPredictions
from geotl.experiments.run_sets import sets_by_folds

pytestmark = pytest.mark.usefixtures("one_thread", "unrendered")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return made_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def tiles(made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of chips with one split."""
    out = tmp_path_factory.mktemp("runs") / "tiles"
    assert run(out, *over(made), "split.shots=12") == 0
    return out


@pytest.fixture(scope="module")
def pixels(made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of pixels with folds of blocks."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "small.yaml").write_text("title: small\n")
    out = folder / "pixels"
    given = [
        *PIXELS,
        f"data.scenes={made[0]}",
        f"labels.path={made[1]}",
        "--output",
        str(out),
        "-q",
    ]
    assert main(["run", str(folder / "small.yaml"), *given]) == 0
    return out


@pytest.mark.parametrize("which", ["tiles", "pixels"])
def test_a_run_tests_them_and_its_report_shows_them(
    which: str, request: pytest.FixtureRequest
) -> None:
    out = request.getfixturevalue(which)
    scores = json.loads((out / "metrics.json").read_text())["sets"]
    assert [one["stated"] for one in scores] == [0.8, 0.9, 0.95]
    assert all(one["covered"] >= one["stated"] - 0.1 for one in scores)
    sizes = [one["classes"] for one in scores]
    assert sizes == sorted(sizes)
    assert "Prediction sets" in (out / "report.html").read_text()


def test_predict_writes_the_classes_of_each_set(
    tiles: Path, made: tuple[Path, Path], tmp_path: Path
) -> None:
    assert main(["chips", str(made[0]), str(made[1]), "-o", str(tmp_path / "c"), *CHIPS]) == 0
    model, out = str(tiles / "model.safetensors"), tmp_path / "out.csv"
    words = ["--sets", "--coverage", "0.9", "-o", str(out)]
    assert main(["predict", model, str(tmp_path / "c"), *words]) == 0
    rows = list(csv.DictReader(out.open()))
    limits = load(model).set_limits(0.9)
    names = load(model).classes
    for row in rows:
        chances = np.array([float(row[f"p_{name}"]) for name in names])
        wanted = {name for name, p, t in zip(names, chances, limits, strict=True) if p >= t}
        assert set(row["set"].split("|")) == wanted | {row["predicted"]}


CHIPS = ["--chip-px", "12", "--sensor", "sentinel2_l2a", "--bands", "B02", "B03", "B04", "B08"]


def test_a_map_has_them_as_layers(
    pixels: Path, made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = str(pixels / "model.safetensors"), tmp_path / "map.tif"
    words = ["--sets", "--probabilities", "--no-page", "-o", str(out)]
    assert main(["map", model, str(made[0]), *words]) == 0
    assert re.search(
        r"\nsets     stated coverage 90 %; on \d+ test labels", capsys.readouterr().out
    )
    with rasterio.open(tmp_path / "map_probabilities.tif") as source:
        chances = source.read()
    with rasterio.open(tmp_path / "map_sets.tif") as source:
        sets, names = source.read(), source.descriptions
    with rasterio.open(tmp_path / "map_set_size.tif") as source:
        size = source.read(1)
        assert source.tags()["GEOTL_SETS_COVERAGE"] == "0.9"
    assert names == tuple(f"may be {name} [1: yes]" for name in load(model).classes)
    known = np.isfinite(chances[0])
    assert (size[~known] == 255).all()
    limits = load(model).set_limits(0.9)[:, None]
    wanted = (chances[:, known] >= limits) | (chances[:, known] == chances[:, known].max(axis=0))
    close = (abs(chances[:, known] - limits) < 1e-5).any(axis=0)
    assert (sets[:, known] == wanted)[:, ~close].all()
    assert (size[known] == sets[:, known].sum(axis=0)).all()


@pytest.mark.parametrize("more", [["--smooth-px", "5"], ["--member", "bands_discriminant"]])
def test_sets_of_other_probabilities_are_no_option(
    more: list[str], pixels: Path, made: tuple[Path, Path], tmp_path: Path, capsys
) -> None:
    words = ["--sets", *more, "-o", str(tmp_path / "map.tif")]
    assert main(["map", str(pixels / "model.safetensors"), str(made[0]), *words]) == 2
    assert "sets: their coverage is measured" in capsys.readouterr().err


def test_an_exported_file_has_none(tiles: Path, tmp_path: Path, capsys) -> None:
    onnx = tmp_path / "model.onnx"
    assert (
        main(["export", str(tiles / "model.safetensors"), "--format", "onnx", "-o", str(onnx)]) == 0
    )
    assert main(["predict", str(onnx), str(tiles), "--sets", "-o", str(tmp_path / "a.csv")]) == 2
    assert "need held-out probabilities" in capsys.readouterr().err


def test_a_bare_file_keeps_them(tiles: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    given = ["export", str(tiles / "model.safetensors"), "--format", "safetensors", "-o", str(bare)]
    assert main(given) == 0
    limits = [load(path).set_limits(0.8) for path in (bare, tiles / "model.safetensors")]
    assert np.array_equal(*limits)


def test_a_coverage_beyond_one_is_refused(tiles: Path) -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        load(tiles / "model.safetensors").set_limits(1.0)


def test_a_coverage_without_sets_is_refused(tiles: Path, tmp_path: Path, capsys) -> None:
    words = ["--coverage", "0.8", "-o", str(tmp_path / "a.csv")]
    assert main(["predict", str(tiles / "model.safetensors"), str(tiles), *words]) == 2
    assert "give --sets too" in capsys.readouterr().err


def test_a_fold_is_tested_with_the_thresholds_of_the_others() -> None:
    """The labels of the second fold are less probable than any of the first: few are covered."""
    sure, unsure = np.linspace(0.6, 0.9, 20), np.linspace(0.1, 0.4, 20)
    parts = []
    for number, own in enumerate((sure, unsure)):
        chances = np.column_stack([own, 1 - own])
        held = HeldOutPredictions(np.arange(20) + 20 * number, chances, np.zeros(20, np.int64))
        parts.append((held, [f"{number}.{i}" for i in range(20)]))
    first = sets_by_folds(parts).scores[0]
    assert first.stated == 0.8
    assert first.covered == pytest.approx(0.5)
