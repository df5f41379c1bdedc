"""Accuracy, doubtful labels and the curve of a project."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from helpers.labelling import drawn, label_set, learning
from test_fitting import fitted

from geotl.labelling.label_set import PlacedLabel
from geotl.labelling.learner import LearnerOptions
from geotl.labelling.measuring import Curve, Measured, measure, no_accuracy, too_few


def not_stale() -> bool:
    return False


@pytest.fixture(scope="module")
def measured() -> Measured:
    result = measure(fitted(label_set(drawn(120))), not_stale, quick=True)
    assert result is not None
    return result


def test_accuracy_over_blocks_has_an_interval_and_stands_beside_the_random_one(
    measured: Measured,
) -> None:
    event = measured.event()
    assert event["labels"] == 120
    assert event["blocks"] >= 5
    assert event["block_m"] == fitted(label_set(drawn(120))).recipe.split.block_m > 0
    for figure in (event["blocked"], event["random"]):
        assert 0 < figure["low"] <= figure["value"] <= figure["high"] <= 1
    assert sum(one["labels"] for one in event["classes"].values()) == 120
    assert [*event["classes"]] == sorted(event["classes"])
    truth = measured.evaluation.matrix
    hits = np.trace(truth) / truth.sum()
    assert event["blocked"]["value"] == pytest.approx(hits, abs=1e-4)


def test_wrong_labels_are_among_the_doubtful_ones() -> None:
    labels = drawn(120)
    wrong = {one.id for one in labels if one.class_id == 1 and one.id % 5 == 0}
    assert len(wrong) > 3
    mistaken = [replace(one, class_id=4) if one.id in wrong else one for one in labels]
    result = measure(fitted(label_set(mistaken)), not_stale, quick=True)
    assert result is not None
    doubtful = result.doubtful()
    assert len(doubtful) <= 24  # a fifth
    first = [one["id"] for one in doubtful[: 2 * len(wrong)]]
    assert len(wrong & {*first}) > len(wrong) / 2
    assert {one["looks_like"] for one in doubtful if one["id"] in wrong} & {"forest"}


def test_measuring_ends_when_the_labels_change() -> None:
    assert measure(fitted(label_set(drawn(60))), lambda: True, quick=True) is None


def test_too_few_labels_are_said_in_numbers() -> None:
    few = "a blocked accuracy needs 20 labels spread over the scene; there are 3"
    assert too_few(3) == few
    assert no_accuracy(fitted(label_set(drawn(12)))) == too_few(12)
    near = [PlacedLabel(k, k % 2 + 1, shapely.Point(400.5 + k, 9.5)) for k in range(24)]
    assert "24 labels lie too near each other" in str(no_accuracy(fitted(label_set(near))))
    assert no_accuracy(fitted(label_set(drawn(24)))) is None


def test_the_curve_outlives_a_session_and_a_line_that_was_cut_short(
    tmp_path: Path, measured: Measured
) -> None:
    path = tmp_path / "accuracy.jsonl"
    curve = Curve(path)
    assert curve.points == []
    curve.add(measured)
    curve.add(replace(measured, labels=40))
    curve.add(replace(measured, labels=40))
    assert [point["labels"] for point in curve.points] == [40, 120]
    assert curve.points[1]["value"] == measured.event()["blocked"]["value"]
    assert curve.points[1]["block_m"] == measured.block_m
    path.write_text(path.read_text() + '{"labels": 7, "val\n[1]\n"text"\n')
    assert Curve(path).points == curve.points


def test_accuracy_follows_the_labels_in_the_background(tmp_path: Path) -> None:
    """At rest the full model is fitted too; without labels enough the page says so."""
    options = LearnerOptions(rest_s=0.0)
    with learning(tmp_path / "features", options) as (learner, events):
        learner.changed(label_set(drawn(12), revision=12))
        assert learner.wait(120, full=True)
        assert events.of("accuracy")[-1] == {"message": too_few(12), "revision": 12}
        assert [one["stage"] for one in events.of("model")] == ["quick", "full"]
        assert events.of("model")[-1]["members"]["forest, bands + wide"] > 0
        assert learner.tile("classes", 4, 0, 0) is not None
        assert not (tmp_path / "accuracy.jsonl").exists()
        learner.changed(label_set(drawn(40), revision=40))
        events.await_kind("curve", 2)
        learner.changed(label_set(()))
        assert learner.wait(120)
        assert events.of("doubts")[-1] == {"labels": []}
    assert events.of("accuracy")[-2]["revision"] == 40
    assert [point["labels"] for point in Curve(tmp_path / "accuracy.jsonl").points] == [40]
    assert not events.of("fault")


def test_no_quick_accuracy_replaces_that_of_all_members(tmp_path: Path) -> None:
    """The same labels come again, as when a class without labels is added and taken back."""
    with learning(tmp_path / "features", LearnerOptions(rest_s=0.0)) as (learner, events):
        labels = label_set(drawn(40), revision=40)
        for _ in range(2):
            learner.changed(labels)
            assert learner.wait(120, full=True)
    stages = [one["stage"] for one in events.of("accuracy")]
    assert stages[:2] == ["quick", "full"]
    assert set(stages[2:]) == {"full"}
    assert len(events.of("curve")) >= 2
    assert not events.of("fault")
