"""Places to label next: apart, off the labels, typical first and uncertain later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.labelling import NO_DATA, drawn, label_set, learning, truth

from geotl.labelling.learner import LearnerOptions

APART_PX = 30  # of the sample scene's 768


@pytest.mark.parametrize(("count", "why"), [(0, "typical"), (30, "typical"), (80, "uncertain")])
def test_places_lie_apart_and_off_the_labels(tmp_path: Path, count: int, why: str) -> None:
    labels = drawn(count)
    options = LearnerOptions(rest_s=600.0)
    with learning(tmp_path / "features", options) as (learner, events):
        learner.changed(label_set(labels))
        assert learner.wait()
        events.await_kind("suggestions", 1)
        assert learner._filling.wait(60)
        assert learner._places.wait(60)
    places = events.of("suggestions")[-1]["places"]
    assert [one["number"] for one in places] == [*range(1, 11)]
    assert {one["why"] for one in places} == {why}
    at = np.array([[one["row"], one["col"]] for one in places])
    away = np.abs(at[:, None] - at[None]).max(axis=2) + 1e9 * np.eye(10)
    assert away.min() >= APART_PX
    known = np.array([[one.geometry.y, one.geometry.x] for one in labels]).reshape(-1, 2)
    if count:
        assert np.abs(at[:, None] - known[None]).max(axis=2).min() > APART_PX / 2
    rows, cols = np.floor(at).astype(int).T
    assert (truth()[rows, cols] != NO_DATA).all()
    assert len({*truth()[rows, cols].tolist()}) >= 3  # of several covers
    assert not events.of("fault")
