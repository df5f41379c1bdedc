"""Spatial splits through whole runs: folds, buffers, random beside, and the learning curve."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.tiles import write_tile
from rasterio.transform import from_origin

from geotl.cli.main import main
from geotl.data.tiles import TileIndex
from geotl.experiments.draws import make_draw, settle_split
from geotl.experiments.named import recipe_sensor
from geotl.experiments.recipe import load
from geotl.experiments.samples import read_samples

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered")

ROOT = Path(__file__).resolve().parents[2]
BANDS = ["B02", "B03", "B04", "B08"]
SMALL = [
    "data.sensor=sentinel2_l2a",
    "data.bands=[B02,B03,B04,B08]",
    "model.backbone=lenet5",
    "strategy=probe",
    "probe.views=1",
    "evaluate.bootstrap_rounds=20",
    "split.inner_folds=3",
]
TARGET = [
    "model.weights=none",
    "model.truncate_after=layer1",
    "probe.views=1",
    "evaluate.rgb_only=false",
    "evaluate.bootstrap_rounds=20",
]


@pytest.fixture(scope="module")
def patchy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes in 8 patches each; a patch's own colour is louder than its class's."""
    root, random = tmp_path_factory.mktemp("patchy"), np.random.default_rng(3)
    cells = random.permutation(24)
    for place, cell in enumerate(cells):
        name = ["field", "town", "water"][place % 3]
        own = random.normal(0, 500, 4) + np.array([0, 0, 200 * (place % 3), 0])
        for i in range(5):
            x = 500000 + 3000 * (cell % 6) + 330 * (i % 3)
            y = 4600000 + 3000 * (cell // 6) + 330 * (i // 3)
            level = 2000 + own + random.normal(0, 30, 4)
            tile = level[:, None, None] + random.normal(0, 60, (4, 32, 32))
            write_tile(
                root / name / f"{place:02d}_{i}.tif",
                tile.clip(1).astype(np.uint16),
                names=BANDS,
                transform=from_origin(x, y, 10, 10),
            )
    return root


def run(tiles: Path | str, out: Path, *more: str, small: list[str] = SMALL) -> int:
    recipe = out.parent / "small.yaml"
    recipe.write_text("title: small\n")
    return main(["run", str(recipe), f"data.root={tiles}", *small, *more, "--output", str(out)])


def metrics_of(out: Path) -> dict:
    return json.loads((out / "metrics.json").read_text())


@pytest.mark.rendered
def test_blocked_accuracy_lies_below_the_random_one_where_neighbours_are_alike(
    patchy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(patchy, out, "split.method=blocks", "split.kfold=4") == 0
    said, found = capsys.readouterr().out, metrics_of(out)
    assert "split.block_m=" in said  # suggested, and said
    assert re.search(r"the random split overestimates accuracy by 0\.\d+ \(neighbouring", said)
    assert found["optimism"]["random"] > found["optimism"]["spatial"] + 0.2
    assert found["optimism"]["difference"]["low"] > 0
    assert 900 < found["variogram"]["range_m"] < 6000  # patches are 1 km wide, 3 km apart
    assert "blocks:" not in said
    report = (out / "report.html").read_text()
    assert "Random and spatial splits" in report
    assert "the random split overestimates accuracy by" in report
    assert (out / "variogram.png").exists()


@pytest.mark.rendered
def test_folds_are_reported_together_and_one_by_one(patchy: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    blocks = ["split.method=blocks", "split.kfold=3", "split.block_m=3000"]
    assert run(patchy, out, *blocks, "evaluate.random_split=false") == 0
    found = metrics_of(out)
    assert found["tiles"] == 120  # each tile is judged once
    assert np.sum(found["confusion"]) == 120
    right = np.trace(found["confusion"])
    assert found["overall_accuracy"]["value"] == pytest.approx(right / 120)
    assert found["draws"]["network"]["overall"]["draws"] == 3
    assert found["kfold"] == 3
    assert "optimism" not in found  # only where both stand
    assert found["headline"].endswith("3 folds together")
    for rival in ("band mean and sd, logistic", "majority class"):
        assert round(found["baselines"][rival]["value"] * 120, 6) % 1 == pytest.approx(0, abs=1e-5)
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    assert len({row["path"] for row in rows}) == 120
    assert sum(int(row["correct"]) for row in rows) == right
    assert "3 folds together" in (out / "report.html").read_text()
    assert main(["run", str(out / "recipe.yaml"), "--output", str(out), "--resume"]) == 0


@pytest.mark.parametrize("method", ["group", "blocks"])
def test_sample_tiles_by_site_and_by_block(
    tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sample tiles carry positions and sites; random folds flatter on them."""
    settings = [f"split.method={method}", "split.kfold=5", *TARGET]
    assert main(["run", "sample_target", *settings, "--output", str(tmp_path / "run")]) == 0
    found = metrics_of(tmp_path / "run")
    assert found["tiles"] == 396
    assert found["optimism"]["random"] > found["optimism"]["spatial"] + 0.05
    assert f"split {'by group' if method == 'group' else 'blocks of'}" in capsys.readouterr().out


def source_of(tiles: Path | str, *more: str):
    recipe = load(str(ROOT / "recipes" / "sample_target.yaml"), [f"data.root={tiles}", *more])
    lines: list[str] = []
    source = read_samples(recipe, recipe_sensor(recipe), lines.append, quiet=True)
    return settle_split(recipe, source, lines.append), source, lines


def test_draws_by_blocks_differ_and_shots_come_from_the_training_side(patchy: Path) -> None:
    plain = [*SMALL, "model.weights=none", "split.method=blocks", "split.buffer_m=200"]
    recipe, source, _ = source_of(patchy, *plain, "split.repeats=3")
    shot = recipe.model_copy(update={"split": recipe.split.model_copy(update={"shots": 4})})
    tested = []
    for number in range(3):
        whole, few = (make_draw(r, source, number) for r in (recipe, shot))
        np.testing.assert_array_equal(whole.split.test, few.split.test)
        assert set(few.split.train) < set(whole.split.train)
        assert np.bincount(source.labels[few.split.train]).tolist() == [4, 4, 4]
        tested.append(tuple(whole.split.test))
        boxes = source.footprints.boxes
        for a in whole.split.train:
            apart = np.maximum(
                boxes[a, :2] - boxes[whole.split.test, 2:],
                boxes[whole.split.test, :2] - boxes[a, 2:],
            ).clip(0)
            assert np.hypot(*apart.T).min() >= 200
    assert len(set(tested)) == 3


def scenes(source, names: list[str]):
    """The source with a scene for each tile, as chips cut from scenes have."""
    from dataclasses import replace

    tiles = tuple(replace(t, scene=s) for t, s in zip(source.index.tiles, names, strict=True))
    return replace(source, index=TileIndex(source.index.root, source.index.classes, tiles))


def test_each_scene_is_judged_by_the_others(patchy: Path) -> None:
    recipe, source, _ = source_of(
        patchy, *SMALL, "model.weights=none", "split.method=group", "split.kfold=2"
    )
    two = scenes(source, ["ab"[i % 2] for i in range(len(source.index))])
    split = recipe.split.model_copy(update={"method": "scene", "kfold": None})
    lines: list[str] = []
    made = settle_split(recipe.model_copy(update={"split": split}), two, lines.append)
    assert (made.split.kfold, made.split.draws) == (2, 2)
    assert "each scene is tested with a model of the others" in lines[0]
    for number in range(2):
        draw = make_draw(made, two, number)
        kept = [
            {two.index.tiles[i].scene for i in side} for side in (draw.split.train, draw.split.test)
        ]
        assert len(kept[0]) == len(kept[1]) == 1
        assert kept[0] != kept[1]
        assert draw.folds  # inside the one scene left


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["split.method=blocks", "split.block_m=90000", "split.kfold=5"], "fewer than the 5 folds"),
        (["split.method=blocks", "split.block_m=900000"], "at least two are needed"),
        (["split.method=blocks", "split.kfold=4", "split.buffer_m=90000"], "none to train on"),
        (["split.method=scene"], "have no scene of origin"),
        (["split.method=group", "split.kfold=3"], "have no group"),
    ],
)
def test_what_cannot_be_split_is_one_clear_line(
    patchy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], told: str
) -> None:
    assert run(patchy, tmp_path / "run", *more) == 2
    message = capsys.readouterr().err
    assert told in message
    assert message.count("\n") == 1


def test_tiles_without_a_position_are_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        for i in range(6):
            tile = random.integers(1, 999, (4, 32, 32)).astype(np.uint16)
            where = {} if i else {"crs": None}
            write_tile(tmp_path / "t" / name / f"{i}.tif", tile, names=BANDS, **where)
    assert run(tmp_path / "t", tmp_path / "run", "split.method=blocks") == 2
    assert "2 of 12 tiles have no known position (such as a/0.tif)" in capsys.readouterr().err


def curve(recipe: Path, out: Path, *more: str) -> int:
    recipe.write_text("title: small\n")
    return main(["curve", str(recipe), *more, "--output", str(out)])


@pytest.mark.rendered
def test_a_curve_leaves_table_figure_and_lines(
    patchy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, settings = tmp_path / "curve", [f"data.root={patchy}", *SMALL]
    more = ["probe.head=discriminant", "probe.semi_supervised=soft_labels"]
    shots = ["--shots", "10", "2", "5", "--repeats", "3"]
    assert curve(tmp_path / "r.yaml", out, *settings, *more, *shots) == 0
    said = capsys.readouterr().out
    rows = list(csv.DictReader((out / "curve.csv").open()))
    measured = [r for r in rows if r["kind"] == "measured"]
    assert [r["labels_per_class"] for r in measured] == ["2", "5", "10"] * 2
    assert {r["curve"] for r in rows} == {"labels alone", "with unlabelled tiles"}
    by_draw = list(csv.DictReader((out / "draws.csv").open()))
    for row in measured:
        key = row["curve"], row["labels_per_class"]
        same = [r for r in by_draw if (r["curve"], r["labels_per_class"]) == key]
        own = [float(r["accuracy"]) for r in same]
        assert len(own) == 3
        assert float(row["mean"]) == pytest.approx(np.mean(own), abs=1e-5)
        assert float(row["sd"]) == pytest.approx(np.std(own, ddof=1), abs=1e-5)
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert said.count("gained") == 3
    assert "extrapolated, not measured: " in said
    assert curve(tmp_path / "r.yaml", out, *settings, *shots) == 2  # holds a curve already
    again = tmp_path / "again"
    assert curve(tmp_path / "r.yaml", again, *settings, *more, *shots) == 0
    assert (again / "curve.csv").read_bytes() == (out / "curve.csv").read_bytes()


def test_all_sizes_of_a_draw_are_judged_on_the_same_tiles(
    patchy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import geotl.studies.learning_curve as module

    seen: list[tuple[int, int, tuple[int, ...]]] = []
    judge = module.logits_of_test

    def listen(experiment, made):
        draw = made.draw
        seen.append((draw.number, len(draw.split.train), tuple(draw.split.test)))
        return judge(experiment, made)

    monkeypatch.setattr(module, "logits_of_test", listen)
    settings = [f"data.root={patchy}", *SMALL, "split.method=blocks", "split.kfold=3"]
    assert curve(tmp_path / "r.yaml", tmp_path / "c", *settings, "--shots", "2", "4") == 0
    assert [size for _, size, _ in seen] == [6, 12] * 3
    assert len({test for _, _, test in seen}) == 3
    assert len({(number, test) for number, _, test in seen}) == 3


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--shots", "500"], "fewer than 500 shots"),
        (["--shots", "0"], "--shots: given 0; allowed: at least 1"),
        (["--repeats", "0"], "--repeats: given 0; allowed: at least 1"),
        (["split.method=blocks", "split.kfold=3", "--repeats", "5"], "given 5 with 3 folds"),
    ],
)
def test_a_curve_that_cannot_be_is_one_clear_line(
    patchy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], told: str
) -> None:
    assert curve(tmp_path / "r.yaml", tmp_path / "c", f"data.root={patchy}", *SMALL, *more) == 2
    message = capsys.readouterr().err
    assert told in message
    assert message.count("\n") == 1
