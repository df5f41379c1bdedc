"""`geotl curve` of task pixels: growing labels per class, in folds by place."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from helpers.labelled_scenes import PIXELS, made_scene

from geotl.cli.main import main
from geotl.experiments.pixel_draws import class_labels
from geotl.experiments.pixel_report import FUSED, LAB
from geotl.experiments.pixels import PixelRun, open_pixels
from geotl.experiments.recipe import load
from geotl.studies import learning_curve
from geotl.studies.learning_curve import plan_pixel_curve

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered", "few_trees")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    scene, labels = made_scene(tmp_path_factory.mktemp("scene"))
    return [*PIXELS, f"data.scenes={scene}", f"labels.path={labels}"]


@pytest.fixture(scope="module")
def opened(given: list[str]) -> PixelRun:
    return open_pixels(load(None, given), Path("absent"), log=lambda _: None)


def curve(folder: Path, *more: str) -> int:
    (folder / "small.yaml").write_text("title: small\n")
    return main(["curve", str(folder / "small.yaml"), *more, "--output", str(folder / "out")])


def test_a_curve_leaves_the_files_of_a_curve_of_tiles(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert curve(tmp_path, *given, "--shots", "2", "12", "5") == 0
    printed = capsys.readouterr().out
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "curve.csv",
        "draws.csv",
        "curve.png",
        "recipe.yaml",
    }
    by_fold = list(csv.DictReader((out / "draws.csv").open()))
    assert len(by_fold) == 2 * 3 * 3
    rows = list(csv.DictReader((out / "curve.csv").open()))
    fused = [row for row in rows if (row["curve"], row["kind"]) == (FUSED, "measured")]
    assert [row["labels_per_class"] for row in fused] == ["2", "5", "12"]
    assert float(fused[0]["low"]) < float(fused[0]["mean"]) < float(fused[-1]["mean"])
    assert {row["curve"] for row in rows} == {FUSED, LAB}
    assert "3 folds of 2, 5, 12 labels per class, all sizes of a draw tested on the same" in printed
    assert printed.count("more labels") == 2
    table = (out / "curve.csv").read_bytes()
    (out / "curve.csv").unlink()  # as a kill while it was written leaves it: red before
    assert curve(tmp_path, *given, "--shots", "2", "12", "5") == 0
    assert (out / "curve.csv").read_bytes() == table
    assert curve(tmp_path, *given, "--shots", "2", "12", "5") == 2  # a finished one stays
    (out / "curve.csv").unlink()
    (out / "mine.txt").write_text("a user's")
    assert curve(tmp_path, *given, "--shots", "2", "12", "5") == 2
    assert (out / "draws.csv").exists()
    assert f"{FUSED} over {LAB} at 12 labels per class" in printed


def test_sizes_of_a_fold_grow_and_are_tested_on_the_same_labels(
    opened: PixelRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = []

    def listen(own: PixelRun, draw):
        draws.append(draw)
        return score_fold(own, draw)

    score_fold = learning_curve.score_fold
    monkeypatch.setattr(learning_curve, "score_fold", listen)
    plan = plan_pixel_curve(opened, 3, [2, 4])
    plan.accuracies(plan.bases[1], 2)
    plan.accuracies(plan.bases[1], 4)
    small, large = (draw.split for draw in draws)
    assert {*small.train} < {*large.train} < {*plan.bases[1].split.train}
    assert np.array_equal(small.test, large.test)
    assert class_labels(opened.samples, small.train).tolist() == [2, 2, 2]
    assert class_labels(opened.samples, large.train).tolist() == [4, 4, 4]
    assert not {*large.train} & {*large.test}


def test_usual_sizes_go_as_far_as_half_of_the_classes(opened: PixelRun) -> None:
    assert plan_pixel_curve(opened, 3, []).sizes == [2, 5, 10, 20]


def test_a_class_with_few_labels_is_named(opened: PixelRun) -> None:
    lines: list[str] = []
    own = opened.of(opened.recipe)
    counts = [
        class_labels(opened.samples, base.split.train)
        for base in plan_pixel_curve(opened, 3, [2]).bases
    ]
    least = np.min(counts, axis=0)
    size = int(least.max())  # so many labels only the largest class has in every fold
    logged = PixelRun(own.recipe, own.samples, own.folder, lines.append)
    plan_pixel_curve(logged, 3, [2, size])
    named = [k for k in range(3) if least[k] < size]
    assert named
    for k in named:
        assert f"{opened.samples.classes[k]} {least[k]}" in lines[0]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--shots", "900"], "--shots: given 900, but no class has more than"),
        (["--shots", "0"], "--shots: given 0; allowed: at least 1"),
        (["--repeats", "2"], "--repeats: given 2 with 3 folds"),
    ],
)
def test_a_curve_that_cannot_be_is_one_clear_line(
    given: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    told: str,
) -> None:
    assert curve(tmp_path, *given, *more) == 2
    message = capsys.readouterr().err
    assert told in message
    assert message.count("\n") == 1
