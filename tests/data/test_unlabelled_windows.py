"""Windows that nobody labelled: drawn off all chips, and what the head that sees them uses."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from helpers.experiments import quietly, samples_of
from helpers.labelled_scenes import BANDS, PX, SMALL, made_scene
from helpers.memory_scene import MadeScene, made_grid
from helpers.tiles import write_tile
from safetensors.numpy import load_file

from geotl.cli.main import main
from geotl.data.chips import Chip, ChipRules, Occupied, draw_windows, ground_of
from geotl.errors import DataError
from geotl.experiments.compare import fit_draw, unlabelled_head, with_what
from geotl.experiments.draws import make_draw
from geotl.experiments.recipe import Recipe, load
from geotl.experiments.results import Answers, Comparison, DrawResult, Results
from geotl.experiments.samples import TileSamples
from geotl.imagery.windows import Window
from geotl.io.vector import positions

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered")

RULES = ChipRules(12, seed=5)


def chips_in(scene: MadeScene, count: int) -> list[Chip]:
    random = np.random.default_rng(1)
    corners = zip(random.integers(0, 108, count), random.integers(0, 148, count), strict=True)
    return [
        Chip(f"{i}", f"{i}", "a", scene.name, Window(int(r), int(c), 12, 12))
        for i, (r, c) in enumerate(corners)
    ]


def test_windows_lie_off_every_chip_in_every_scene() -> None:
    first = MadeScene("first")
    moved = made_grid(crs="EPSG:32632")
    second = MadeScene("second", grid=replace(moved, transform=(10.0, 0, 998000, 0, -10, 4618000)))
    first.valid[:, :30] = False
    first.cloud[:20] = True
    chips = chips_in(first, 25)
    drawn = draw_windows([first, second], chips, RULES, 60)
    assert len({(one.scene, one.window) for one in drawn}) == len(drawn) == 60
    assert {one.scene for one in drawn} == {"first", "second"}
    own = [one.window for one in drawn if one.scene == "first"]
    assert not any(window.meets(chip.window) for window in own for chip in chips)
    share = [first.valid[w.row : w.row + 12, w.col : w.col + 12].mean() for w in own]
    assert min(share) >= 0.8
    ground = ground_of(first.grid, [chip.window for chip in chips])
    there = [one.window for one in drawn if one.scene == "second"]
    assert not Occupied(second.grid, ground).meets(there).any()


def test_ground_of_chips_is_known_in_a_scene_of_another_system() -> None:
    """The same ground in two systems: chips that cover one scene leave no room in the other."""
    first = MadeScene("first", grid=made_grid(60, 60))
    left, bottom, right, top = first.grid.bounds
    x, y = positions(
        np.array([[(left + right) / 2, (bottom + top) / 2]]), "EPSG:32633", "EPSG:32632"
    )[0]
    corner = (10.0, 0.0, x - 150, 0.0, -10.0, y + 150)
    second = MadeScene(
        "second", grid=replace(made_grid(30, 30), crs="EPSG:32632", transform=corner)
    )
    cover = [
        Chip(f"{r}.{c}", "1", "a", "first", Window(r, c, 12, 12))
        for r in range(0, 60, 12)
        for c in range(0, 60, 12)
    ]
    with pytest.raises(DataError, match=r"labels\.unlabelled"):
        draw_windows([first, second], cover, RULES, 10)
    assert draw_windows([second], cover[:0], RULES, 10)


def test_same_seed_same_windows_and_more_begin_with_the_same() -> None:
    scene = MadeScene()
    chips = chips_in(scene, 10)
    first, again = (draw_windows([scene], chips, RULES, 20) for _ in range(2))
    other = draw_windows([scene], chips, replace(RULES, seed=6), 20)
    assert first == again
    assert [one.window for one in first] != [one.window for one in other]
    more = draw_windows([scene], chips, RULES, 40)
    assert more[:20] == first


def test_where_there_is_little_room_there_are_fewer() -> None:
    scene = MadeScene(grid=made_grid(14, 14))
    drawn = draw_windows([scene], [], RULES, 30)
    assert {(one.window.row, one.window.col) for one in drawn} == {
        (r, c) for r in range(3) for c in range(3)
    }


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("wild")
    scene, labels = sparse_scene(folder)
    return load(None, [*settings(scene, labels), "probe.semi_supervised=soft_labels"])


def sparse_scene(folder: Path) -> tuple[Path, Path]:
    """`made_scene` with every other label, so that there is room between the chips."""
    scene, labels = made_scene(folder)
    geopandas.read_file(labels).iloc[::2].to_file(labels)
    return scene, labels


def settings(scene: Path, labels: Path) -> list[str]:
    return [
        *SMALL,
        "probe.head=discriminant",
        f"data.scenes={scene}",
        f"labels.path={labels}",
        f"labels.chip_px={PX}",
        "split.test_fraction=0.5",
    ]


def with_windows(recipe: Recipe, count: int) -> tuple[Recipe, TileSamples]:
    told = recipe.labels.model_copy(update={"unlabelled": count})
    changed = recipe.model_copy(update={"labels": told})
    return changed, samples_of(changed)


@pytest.mark.parametrize("rule", ["soft_labels", "pseudo_labels", "consistency", "propagation"])
@pytest.mark.parametrize("count", [0, 30])
def test_judged_pixels_change_nothing_of_the_head_that_sees_the_scene(
    recipe: Recipe, rule: str, count: int, tmp_path: Path
) -> None:
    recipe, source = with_windows(recipe, count)
    recipe = recipe.model_copy(
        update={"probe": recipe.probe.model_copy(update={"unlabelled": rule, "threshold": 0.4})}
    )
    draw = make_draw(recipe, source, 0)
    images = np.array(source.pack.images)
    images[draw.split.test] = images[draw.split.test[::-1]] // 2 + 300
    altered = replace(source, pack=replace(source.pack, images=images, fingerprint=f"other {rule}"))
    heads = []
    for one in (source, altered):
        experiment = quietly(recipe, one, tmp_path)
        heads.append(unlabelled_head(experiment, fit_draw(experiment, draw))[0])
    same = np.array_equal(heads[0].weight, heads[1].weight)
    assert same == (count > 0)  # without windows the head is made for the test tiles


def test_the_scene_changes_the_head_but_not_the_network(recipe: Recipe, tmp_path: Path) -> None:
    recipe, source = with_windows(recipe, 30)
    draw = make_draw(recipe, source, 0)
    experiment = quietly(recipe, source, tmp_path)
    made = fit_draw(experiment, draw)
    fitted, (head, logits) = made.fitted, unlabelled_head(experiment, made)
    assert fitted.chosen is not None
    assert not np.array_equal(head.weight, fitted.chosen.head.weight)
    assert logits.shape == (len(draw.split.test), 3)
    chips = source.placement.chips
    assert len(source.unlabelled) == 30
    boxes = [shapely.box(*box).buffer(-0.1) for box in source.unlabelled.footprints]
    labelled = [shapely.box(*box) for box in source.pack.footprints]
    assert len(labelled) == len(chips)
    assert not any(a.intersects(b) for a in boxes for b in labelled)


def test_a_run_reports_the_scene_beside_with_its_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene, labels = sparse_scene(tmp_path)
    given = [
        *settings(scene, labels),
        "probe.semi_supervised=soft_labels",
        "labels.unlabelled_windows=25",
    ]
    recipe = tmp_path / "small.yaml"
    recipe.write_text("title: small\n")
    for name, more in {"three": ["split.repeats=3"], "one": []}.items():
        out = tmp_path / name
        assert main(["run", str(recipe), *given, *more, "--output", str(out)]) == 0
        said = capsys.readouterr().out
        told = json.loads((out / "metrics.json").read_text())
        assert "network, with unlabelled scene" in told["draws"]
        assert "network, with unlabelled tiles" not in told["draws"]
        found = told["unlabelled"]
        means = [
            told["draws"][n]["overall"]["mean"]
            for n in ("network", "network, with unlabelled scene")
        ]
        assert found["difference"]["value"] == pytest.approx(means[1] - means[0], abs=1e-9)
        assert found["word"] in ("gained", "not gained")
        assert "25 unlabelled windows drawn" in said
        over = "3 draws" if name == "three" else "the tiles of one draw"
        assert f"paired over {over}: {found['word']}" in said
        assert "unlabelled scene" in (out / "report.html").read_text()
    again = tmp_path / "again"
    assert main(["run", str(recipe), *given, "--output", str(again), "-q"]) == 0
    first, second = (
        load_file(tmp_path / n / "model_unlabelled.safetensors")["head.weight"]
        for n in ("one", "again")
    )
    np.testing.assert_array_equal(first, second)


def test_windows_as_a_pool_take_part_in_the_model_itself(tmp_path: Path) -> None:
    scene, labels = sparse_scene(tmp_path)
    recipe = tmp_path / "small.yaml"
    recipe.write_text("title: small\n")
    given = [*settings(scene, labels), "probe.pool=windows", "labels.unlabelled_windows=25"]
    assert main(["run", str(recipe), *given, "--out", str(tmp_path / "run"), "-q"]) == 0
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert told["pool"]["tiles"] == 25
    assert "network, labels alone" in told["draws"]
    assert not (tmp_path / "run" / "model_unlabelled.safetensors").exists()


def test_a_curve_tells_of_the_scene(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene, labels = sparse_scene(tmp_path)
    given = [
        *settings(scene, labels),
        "probe.semi_supervised=soft_labels",
        "labels.unlabelled_windows=25",
    ]
    recipe = tmp_path / "small.yaml"
    recipe.write_text("title: small\n")
    out = tmp_path / "curve"
    command = ["curve", str(recipe), *given, "--shots", "2", "4", "--repeats", "2"]
    assert main([*command, "--output", str(out)]) == 0
    with (out / "curve.csv").open() as stream:
        assert {r["curve"] for r in csv.DictReader(stream)} == {
            "labels alone",
            "with unlabelled scene",
        }
    assert "unlabelled scene at 2 labels per class" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ["labels.unlabelled_windows=5", "probe.semi_supervised=none"],
            "with probe.semi_supervised none",
        ),
        (["labels.unlabelled_windows=-1"], "labels.unlabelled_windows"),
    ],
)
def test_contradictions_are_one_clear_line(
    tmp_path: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text("title: small\n")
    scene = write_tile(tmp_path / "scene.tif", np.ones((4, 8, 8), np.uint16), names=BANDS)
    given = [f"data.scenes={scene}", "labels.path=a.gpkg"]
    assert main(["recipe", "check", str(recipe), *given, *more]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    given = ["data.root=.", "labels.unlabelled_windows=5", "probe.semi_supervised=soft_labels"]
    assert main(["recipe", "check", str(recipe), *given]) == 2
    assert "labels.unlabelled_windows: given 5 without data.scenes" in capsys.readouterr().err


def paired_result(alone: np.ndarray, both: np.ndarray) -> DrawResult:
    none = np.zeros(0, np.int64)
    answers = Answers(none, none, np.zeros((0, 2)), np.zeros(0))
    return DrawResult(Comparison({}, {}, (alone, both)), answers, (1, 1), 1.0)


def test_a_single_draw_is_paired_over_its_tiles(recipe: Recipe) -> None:
    source = with_windows(recipe, 30)[1]
    results = Results(what=with_what(source))
    assert results.gain() is None
    right, wrong = np.ones(40, bool), np.zeros(40, bool)
    wrong[:20] = True
    results.draws.append(paired_result(wrong, right))
    found = results.gain()
    assert found.difference.value == pytest.approx(0.5)
    assert found.word == "gained"
    results.draws.append(paired_result(right, right))
    assert results.gain().word == "not gained"
