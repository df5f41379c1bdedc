"""`geotl diagnose` of task pixels: folds by place, random split, classes, and what to try next."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import geopandas
import pytest
from helpers.labelled_scenes import PIXELS, made_scene

from geotl.cli.main import main
from geotl.evaluation.metrics import Interval, wilson
from geotl.evaluation.overfitting import diagnose, exact
from geotl.evaluation.pixel_steps import MIN_LABELS, MixedPair, PixelFindings, pixel_steps
from geotl.experiments import pixels

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered", "few_trees")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The small scene, whose labels of one class are wrong in its western half."""
    scene, labels = made_scene(tmp_path_factory.mktemp("scene"))
    table = geopandas.read_file(labels)
    west = (table.geometry.x < 500000 + 6 * 160) & (table["class"] == "town")
    table.loc[west, "class"] = "water"
    table.to_file(labels)
    return [*PIXELS, f"data.scenes={scene}", f"labels.path={labels}"]


def diagnosed(folder: Path, *more: str) -> int:
    (folder / "small.yaml").write_text("title: small\n")
    given = [str(folder / "small.yaml"), *more, "--output", str(folder / "out")]
    return main(["diagnose", *given])


def test_a_diagnosis_compares_training_folds_and_random_split(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert diagnosed(tmp_path, *given, "--target", "0.95") == 0
    printed = capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    verdict, methods = record["verdict"], record["methods"]
    assert verdict["target"] == 0.95
    assert verdict["validation"]["value"] == methods["fused"]["folds"]["value"] < 0.9
    assert verdict["train"]["value"] == pytest.approx(methods["fused"]["training"], abs=0.01)
    assert methods["forest, bands + wide"]["training"] > 0.95
    gap = record["random_split"]["accuracy"]["value"] - verdict["validation"]["value"]
    assert record["random_split"]["difference"]["value"] == pytest.approx(gap)
    assert sum(record["labels"].values()) > 130
    assert {pair["truth"] for pair in record["pairs"]} <= {"town", "water"}
    assert record["pairs"]
    page = (tmp_path / "out" / "diagnosis.html").read_text()
    for words in ("A random split of the same sizes gives", "labels of water are classified as"):
        assert words in printed
        assert words in page
    assert not {"tiles", "learnt", "network"} & {*verdict["because"].split()}
    assert {"standing.png", "confusion.png"} <= {p.name for p in (tmp_path / "out").iterdir()}


def test_a_quick_diagnosis_has_no_random_split_and_a_curve_on_request(
    given: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("geotl.studies.curve_plan.SIZES", (2, 5))
    assert diagnosed(tmp_path, *given, "--quick", "--curve") == 0
    assert "A random split" not in capsys.readouterr().out
    out = tmp_path / "out"
    record = json.loads((out / "diagnosis.json").read_text())
    assert record["random_split"] is None
    assert (out / "curve" / "curve.csv").exists()
    assert any("more labels" in line for line in record["curve"])
    assert "What more labels bring" in (out / "diagnosis.html").read_text()
    assert "evaluate.target=0.9" in [step["change"] for step in record["next"]]
    before = (out / "curve" / "curve.csv").stat().st_mtime_ns
    assert diagnosed(tmp_path, *given, "--quick", "--curve") == 0
    assert (out / "curve" / "curve.csv").stat().st_mtime_ns == before


def test_the_number_of_tiles_is_no_option_of_pixels(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert diagnosed(tmp_path, *given, "--test-tiles", "50") == 2
    assert "--test-tiles: given 50 with task pixels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


FINE = PixelFindings(
    verdict=diagnose(exact(0.95), exact(0.93), 0.9),
    labels={"field": 40, "town": 50},
    lacking=(),
    pairs=(),
    ahead=None,
    optimism=None,
    reach_m=160.0,
    near=0,
    missing=(),
    network=False,
)


def done(findings: PixelFindings) -> str:
    return "\n".join(step.line() for step in pixel_steps(findings))


def test_what_is_fine_asks_for_a_test_of_the_map_alone() -> None:
    assert len(pixel_steps(FINE)) == 1
    assert "geotl accuracy" in done(FINE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lacking": ("town",)}, "Label these classes in other places too: town"),
        ({"labels": {"field": 40, "town": MIN_LABELS - 1}}, "rarest classes: town (19)"),
        ({"verdict": diagnose(exact(0.99), exact(0.7), 0.9)}, "geotl suggest"),
        ({"verdict": diagnose(exact(0.7), exact(0.7), 0.9)}, "pixels.windows_px"),
        ({"verdict": diagnose(wilson(40, 50), wilson(38, 50))}, "evaluate.target"),
        ({"pairs": (MixedPair("town", "field", 9, 50),)}, "9 of 50 labels of town"),
        ({"ahead": ("forest, bands", Interval(0.05, 0.02, 0.08))}, "forest, bands, which is ahead"),
        ({"near": 4}, "split.buffer_m=160"),
        ({"missing": ("3 of 90 labels have no B12",)}, "pixels.missing_bands=exclude"),
        ({"optimism": Interval(0.05, 0.02, 0.08)}, "not that of a random split"),
    ],
)
def test_each_finding_has_its_step(change: dict[str, object], words: str) -> None:
    assert words not in done(FINE)
    assert words in done(replace(FINE, **change))


def test_a_pair_mixed_up_both_ways_is_one_step() -> None:
    pairs = (MixedPair("town", "field", 9, 50), MixedPair("field", "town", 6, 40))
    steps = done(replace(FINE, pairs=pairs)).splitlines()
    assert len(steps) == 2
    assert "9 of 50 labels of town" in steps[1]
    assert "6 of 40 labels of field" in steps[1]


def test_a_random_split_that_is_not_clearly_higher_gives_no_step() -> None:
    assert done(replace(FINE, optimism=Interval(0.01, -0.02, 0.04))) == done(FINE)


def test_training_accuracy_is_of_the_training_labels(given: list[str]) -> None:
    from geotl.experiments.pixel_draws import pixel_draws
    from geotl.experiments.recipe import load

    opened = pixels.open_pixels(load(None, given), Path("absent"), log=lambda _: None)
    draw = pixel_draws(opened.recipe, opened.samples)[0]
    result = pixels.score_fold(opened, draw)
    fusion = pixels.fit_on(opened, draw)
    model = fusion.model(opened.samples.of, opened.samples.classes)
    rows = opened.samples.rows(draw.split.train, opened.samples.blocks, 0)
    right = model.log_probabilities(rows.features).argmax(axis=1) == rows.labels
    assert result.training["fused"] == pytest.approx(right.mean())
    assert result.training["fused"] > result.accuracy
