"""The model that follows the labels: what it draws, when it waits, and that nothing ends it."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from helpers.labelling import (
    CLASSES,
    NO_DATA,
    class_map,
    drawn,
    label_set,
    learning,
    pixels,
    sample_scene,
    truth,
)

from geotl.imagery.windows import Window
from geotl.io.vector import write_features
from geotl.labelling.feature_tiles import TilePlace
from geotl.labelling.label_set import LabelClass, PlacedLabel
from geotl.labelling.learner import LearnerOptions, window_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of features, which all tests share."""
    return tmp_path_factory.mktemp("project") / "features"


def test_thirty_labels_give_a_map_that_is_right_for_four_pixels_of_five(folder: Path) -> None:
    with learning(folder) as (learner, events):
        assert learner.tile("classes", 1, 0, 0) is None
        learner.changed(label_set(drawn(30)))
        assert learner.wait()
        drawn_map = class_map(learner)
    known = truth() != NO_DATA
    assert ((drawn_map != NO_DATA) == known).all()
    assert (drawn_map == truth())[known].mean() >= 0.8
    (model,) = events.of("model")
    assert model["stage"] == "quick"
    assert sum(model["members"].values()) == pytest.approx(1)


def test_a_tile_is_what_the_model_says_of_its_pixels(folder: Path) -> None:
    with learning(folder) as (learner, _):
        learner.changed(label_set(drawn(40)))
        assert learner.wait()
        live = learner._model
        assert live is not None
        places = [(300, 301), (511, 256), (256, 500)]
        features, _ = learner.pixels.described(places)
        expected = np.exp(live.model.log_probabilities(features))
        tile = learner.store.tile(TilePlace(1, 1, 1))
        at = [(row - 256) * 256 + col - 256 for row, col in places]
        probabilities = live.model.probabilities(tile.blocks())[:, at].T
        np.testing.assert_allclose(probabilities, expected, atol=0.01)
        shown = pixels(learner.tile("classes", 1, 1, 1))
        for (row, col), chances in zip(places, expected, strict=True):
            colour = live.colours[int(chances.argmax())]
            assert shown[row - 256, col - 256].tolist()[:3] == [
                int(colour[i : i + 2], 16) for i in (1, 3, 5)
            ]
            at = learner.at(col + 0.5, row + 0.5)
            assert [*at["probabilities"].values()] == pytest.approx(chances.tolist())


def test_all_layers_are_pictures_and_what_lies_outside_is_empty(folder: Path) -> None:
    with learning(folder) as (learner, _):
        learner.changed(label_set(drawn(30)))
        assert learner.wait()
        for layer in ("classes", "confidence", "applicability"):
            assert pixels(learner.tile(layer, 4, 0, 0)).any()
        assert learner.tile("heights", 4, 0, 0) is None
        for each, x, y in ((3, 0, 0), (1, 9, 0), (1, -1, 0), (1, 0, 9)):
            assert not pixels(learner.tile("classes", each, x, y)).any()
        assert pixels(learner.tile("classes", 4, 0, 0))[192:].sum() == 0
        assert learner.at(-1, 5) == {"bands": {}, "probabilities": {}, "applicability": None}


def test_it_says_what_is_missing_until_there_are_labels_enough(folder: Path) -> None:
    water = [one for one in drawn(200) if one.class_id == 4]
    forest = [one for one in drawn(200) if one.class_id == 1]
    several = [
        ([], "forest has 0, farmland has 0"),
        (water[:5], "water has 5"),
        (forest[:1], "2 classes with a label each are needed for a first map"),
    ]
    with learning(folder) as (learner, events):
        for labels, words in several:
            learner.changed(label_set(labels))
            assert learner.wait()
            assert words in events.of("waiting")[-1]["message"]
            assert learner.tile("classes", 4, 0, 0) is None
        learner.changed(label_set(water[:1] + forest[:1]))
        assert learner.wait()
        assert events.of("waiting")[-1]["message"] == ""
        assert learner.tile("classes", 4, 0, 0) is not None
        learner.changed(label_set([]))
        assert learner.wait()
        assert learner.tile("classes", 4, 0, 0) is None
        assert not events.of("fault")


def test_labels_that_give_no_pixel_are_counted_and_harm_nothing(folder: Path) -> None:
    good = drawn(30)
    outside = PlacedLabel(101, 1, shapely.Point(-50.5, 10.5))
    row, col = np.argwhere(truth() == NO_DATA)[0]
    nowhere = PlacedLabel(102, 2, shapely.Point(col + 0.5, row + 0.5))
    other = 1 if good[0].class_id != 1 else 2
    conflict = PlacedLabel(103, other, good[0].geometry)
    double = PlacedLabel(104, good[1].class_id, good[1].geometry)
    with learning(folder) as (learner, events):
        learner.changed(label_set((*good, outside, nowhere, conflict, double)))
        assert learner.wait()
        assert learner.tile("classes", 4, 0, 0) is not None
        learner.changed(label_set((outside, nowhere)))
        assert learner.wait()
        assert "2 of 2 labels lie where there is no data" in events.of("waiting")[-1]["message"]
        assert not events.of("fault")


def test_equal_labels_give_an_equal_model_whatever_came_before(folder: Path) -> None:
    labels = drawn(40)
    with learning(folder) as (learner, _):
        learner.changed(label_set(labels))
        assert learner.wait()
        first = learner._model.model
        renamed = (*CLASSES[:1], LabelClass(2, "fields", "#123456"), *CLASSES[2:])
        learner.changed(label_set(labels[:20], 2, renamed))
        assert learner.wait()
        assert "fields" in learner._model.model.classes
        learner.changed(label_set((*labels[20:], *labels[:20]), 3))
        assert learner.wait()
        second = learner._model.model
    assert first.temperatures == second.temperatures
    assert first.weights == second.weights
    for name, member in first.members.items():
        np.testing.assert_array_equal(member.weight, second.members[name].weight)


def test_a_polygon_is_a_label(folder: Path) -> None:
    area = PlacedLabel(7, 4, shapely.box(300, 300, 320, 320))
    with learning(folder) as (learner, _):
        samples = learner.pixels.samples(label_set((area,)))
    assert len(samples) == 20
    assert samples.weight.sum() == pytest.approx(1)
    assert {pixel.label_id for pixel in samples.placement.pixels} == {"7"}


def test_an_error_is_published_and_the_next_change_works(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with learning(folder) as (learner, events):
        with monkeypatch.context() as broken:
            broken.setattr("geotl.labelling.learner.waiting_for", None)
            learner.changed(label_set(drawn(30)))
            assert learner.wait()
        assert "fit: " in events.of("fault")[0]["message"]
        learner.changed(label_set(drawn(30)))
        assert learner.wait()
        assert events.of("model")


def test_closing_ends_all_threads(tmp_path: Path) -> None:
    with learning(tmp_path) as (learner, _):
        learner.changed(label_set(drawn(30)))
    assert not [one for one in threading.enumerate() if one.name.startswith("geotl ")]
    learner.close()


def test_of_many_changes_the_newest_is_shown(folder: Path) -> None:
    with learning(folder) as (learner, events):
        for count in range(10, 40):
            learner.changed(label_set(drawn(count), revision=count))
        assert learner.wait()
        assert events.of("model")[-1]["revision"] == 39
        assert len(events.of("model")) < 30


def test_labels_of_a_class_that_is_gone_harm_nothing(folder: Path) -> None:
    labels = [one for one in drawn(40) if one.class_id != 2]
    with learning(folder) as (learner, events):
        learner.changed(replace(label_set(labels), classes=(*CLASSES[:1], *CLASSES[2:])))
        assert learner.wait()
        assert "farmland" not in learner._model.model.classes
        assert not events.of("fault")


def test_an_area_of_interest_is_drawn_and_described_alone(tmp_path: Path) -> None:
    scene = sample_scene()
    corners = [scene.grid.at(col, row) for col, row in ((30, 40), (230, 40), (230, 250))]
    aoi = tmp_path / "aoi.gpkg"
    write_features(aoi, [shapely.Polygon(corners)], {}, str(scene.grid.crs))
    area = window_of(aoi, scene)
    assert area == Window(40, 30, 210, 200)
    options = LearnerOptions(rest_s=600.0, area=area)
    with learning(tmp_path / "features", options) as (learner, events):
        learner.changed(label_set(drawn(30)))
        assert learner.wait()
        shown = pixels(learner.tile("classes", 1, 0, 0))[..., 3] > 0
        assert shown[40:250, 30:230].all()
        assert shown.sum() == 210 * 200
        assert not pixels(learner.tile("classes", 1, 1, 1)).any()
        events.await_kind("suggestions", 1)
    for place in events.of("suggestions")[-1]["places"]:
        assert 40 <= place["row"] < 250
        assert 30 <= place["col"] < 230
    assert not events.of("fault")


def test_features_that_do_not_fit_are_said_before(tmp_path: Path) -> None:
    options = LearnerOptions(rest_s=600.0, cache_gb=0.06)
    with learning(tmp_path / "features", options) as (learner, events):
        learner.changed(label_set(drawn(30)))
        assert learner.wait()
        assert pixels(learner.tile("classes", 1, 1, 1)).all(axis=2).any()
    (notice,) = events.of("notice")
    assert "--aoi" in notice["message"]
