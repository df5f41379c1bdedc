"""Confidences that cannot be believed are told; chance and few tiles are not taken for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from geotl.data.tiles import TileIndex
from geotl.evaluation.calibration import MAX_ERROR, calibration_caption, distrust, error_by_chance
from geotl.evaluation.evaluate import Reliability, evaluate, reliability
from geotl.evaluation.metrics import wilson
from geotl.evaluation.next_steps import Stand
from geotl.evaluation.overfitting import diagnose
from geotl.experiments.experiment import Experiment
from geotl.experiments.kept_model import KeptModel
from geotl.experiments.label_doubts import LabelDoubts
from geotl.experiments.recipe import load
from geotl.experiments.report import Outcome
from geotl.experiments.report_page import report_content
from geotl.experiments.results import Answers, Comparison, DrawResult, Results
from geotl.experiments.samples import TileSamples
from geotl.imagery.sensors import get_sensor

if TYPE_CHECKING:
    from geotl.data.tile_array import Pack
    from geotl.experiments.compare import FittedDraw
    from geotl.models.weights import WeightReport


def sincere(seed: int, judged: int) -> Reliability:
    """Tiles of two classes that are right as often as their confidence says."""
    random = np.random.default_rng(seed)
    sure = random.uniform(0.5, 1.0, judged)
    right = random.uniform(size=judged) < sure
    return reliability(np.stack([sure, 1 - sure], axis=1), np.where(right, 0, 1))


def stated(sure: float, right: int, judged: int) -> Reliability:
    """Tiles of one confidence, so many of them right."""
    return reliability([[sure, 1 - sure]] * judged, [0] * right + [1] * (judged - right))


def test_overconfidence_is_told_with_its_points() -> None:
    bins = stated(0.9999, 64, 71)
    assert bins.error > MAX_ERROR
    assert distrust(bins).startswith("Confidences are too high by 10 points")
    assert "0.098 on 71 test tiles" in distrust(bins)
    assert distrust(bins) in calibration_caption(bins)


def test_underconfidence_is_told_too() -> None:
    assert distrust(stated(0.6, 98, 100)).startswith("Confidences are too low by 38 points")


def test_errors_that_cancel_are_told_as_both() -> None:
    rows = [[0.99, 0.01]] * 200 + [[0.55, 0.45]] * 200
    truth = [0] * 160 + [1] * 40 + [0] * 150 + [1] * 50
    said = distrust(reliability(rows, truth))
    assert "some too high and some too low" in said
    assert "; at 99 % confidence 80 % are correct)" in said


def test_confidences_too_low_on_the_whole_can_be_too_high_at_the_top() -> None:
    """Red before: "too low by 12 points" hid that of the surest a fifth is wrong."""
    rows = [[0.99, 0.01]] * 50 + [[0.6, 0.4]] * 150
    said = distrust(reliability(rows, [0] * 40 + [1] * 10 + [0] * 140 + [1] * 10))
    assert said.startswith("Confidences are too low by")
    assert "; at 60 % confidence 93 % are correct, but at 99 % confidence 80 %)" in said


def test_the_example_shows_the_direction_that_is_named() -> None:
    """Red before: "too low by 8 points (…; at 63 % confidence 38 % are correct)"."""
    assert "; at 60 % confidence 98 % are correct)" in distrust(stated(0.6, 98, 100))


@pytest.mark.parametrize(
    "bins",
    [
        stated(0.9999, 20, 25),
        stated(0.9, 66, 75),
        stated(0.9, 27, 30),
        reliability(np.zeros((0, 2)), []),
    ],
)
def test_few_tiles_and_small_errors_are_passed_over(bins: Reliability) -> None:
    assert distrust(bins) == ""
    assert "mean little" in calibration_caption(bins)


@pytest.mark.parametrize("judged", [40, 100, 400])
def test_chance_alone_seldom_speaks(judged: int) -> None:
    found = [sincere(seed, judged) for seed in range(300)]
    assert sum(bool(distrust(bins)) for bins in found) <= 18
    assert np.median([bins.error / error_by_chance(bins) for bins in found]) > 0.4


@pytest.mark.parametrize(
    ("bins", "told"), [(stated(0.9999, 64, 71), True), (stated(0.9, 64, 71), False)]
)
def test_a_run_prints_it_and_its_report_warns(bins: Reliability, told: bool) -> None:
    logits = np.log([[0.9, 0.1]] * 71)
    result = replace(evaluate(logits, [0] * 64 + [1] * 7, ["a", "b"], rounds=2), after=bins)
    weights = cast("WeightReport", SimpleNamespace(source="", sha256="", counted=str, notes=()))
    none = np.zeros(0, np.int64)
    answers = Answers(none, none, np.zeros((0, 2)), np.zeros(0))
    methods = Comparison({"network": np.array([[64, 0], [7, 0]])}, {})
    index = TileIndex(Path("tiles"), ("a", "b"), ())
    samples = TileSamples(index, get_sensor("rgb"), cast("Pack", None))
    fitted = SimpleNamespace(tuning=None)
    made = cast("FittedDraw", SimpleNamespace(weights=weights, fitted=fitted))
    outcome = Outcome(
        first=made,
        experiment=Experiment(load(None, []), samples, Path("run")),
        kept=KeptModel(made, None),
        results=Results([DrawResult(methods, answers, (1, 1), 1.0)]),
        answers=answers,
        evaluation=result,
        stand=Stand(diagnose(wilson(9, 10), wilson(9, 10), None), (), ()),
        facts={},
        doubts=LabelDoubts((), (), ("a", "b"), 71, np.zeros((0, 2)), None),
    )
    for said in (outcome.lines(), report_content(outcome, {}, []).cautions):
        assert any("Confidences are too high" in line for line in said) == told
