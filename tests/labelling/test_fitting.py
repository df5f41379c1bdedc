"""The engine fits what a run of the finished project fits, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from helpers.labelling import drawn, label_set, sample_scene

from geotl.console import silent
from geotl.experiments.pixel_draws import kept_draw, pixel_draws
from geotl.experiments.pixel_samples import pixel_rules, scene_features
from geotl.experiments.pixels import fit_on, open_pixels
from geotl.experiments.recipe import Recipe
from geotl.io.vector import write_features
from geotl.labelling.fitting import LINEAR, Fitting, project_recipe
from geotl.labelling.label_set import LabelSet, PlacedLabel
from geotl.labelling.placed_pixels import PlacedPixels, ground_labels
from geotl.labelling.project_recipe import label_places, split_of


def engine_pixels() -> tuple[PlacedPixels, Recipe]:
    scene = sample_scene()
    recipe = project_recipe(scene)
    of = scene_features([scene], scene.sensor, recipe.pixels)
    return PlacedPixels(scene, of, pixel_rules(recipe)), recipe


def fitted(labels: LabelSet) -> Fitting:
    pixels, recipe = engine_pixels()
    return Fitting(recipe, pixels.samples(labels))


def as_file(labels: LabelSet, path: Path) -> Path:
    """The labels as the project's file has them."""
    placed = ground_labels(labels, sample_scene().grid)
    columns = {
        "id": [int(one.id) for one in placed.labels],
        "class": [one.class_name for one in placed.labels],
    }
    write_features(path, [one.geometry for one in placed.labels], columns, placed.crs)
    return path


def test_the_quick_model_is_that_of_a_run_of_the_linear_members(tmp_path: Path) -> None:
    polygons = (
        PlacedLabel(101, 4, shapely.box(300.2, 300.7, 320, 320)),
        PlacedLabel(102, 1, shapely.Polygon([(50, 50), (90, 60), (60, 95)])),
    )
    labels = label_set((*drawn(60), *polygons))
    quick = fitted(labels)
    recipe = project_recipe(sample_scene())
    path = str(as_file(labels, tmp_path / "labels.gpkg"))
    members = tuple(name for name in LINEAR if "deep" not in name)
    run = open_pixels(
        recipe.model_copy(
            update={
                "labels": recipe.labels.model_copy(update={"path": path}),
                "pixels": recipe.pixels.model_copy(update={"members": members}),
            }
        ),
        tmp_path / "run",
        log=silent,
        quiet=True,
    )
    assert run.samples.placement.pixels == quick.samples.placement.pixels
    assert run.recipe.split.block_m == quick.recipe.split.block_m
    for ours, theirs in zip(quick.draws, pixel_draws(run.recipe, run.samples), strict=True):
        assert ours.split.test.tolist() == theirs.split.test.tolist()
    expected = fit_on(run, kept_draw(run.recipe, run.samples))
    fusion = quick.fusion(quick.every, quick=True)
    assert fusion.weights == expected.weights
    assert fusion.temperature == expected.temperature
    for name, one in expected.members.items():
        assert fusion.members[name].setting == one.setting
        np.testing.assert_array_equal(fusion.members[name].member.weight, one.member.weight)
        np.testing.assert_array_equal(fusion.members[name].member.bias, one.member.bias)


def test_labels_beside_each_other_are_not_measured_over_blocks() -> None:
    near = [PlacedLabel(k, k % 2 + 1, shapely.Point(400.5 + k, 400.5)) for k in range(8)]
    fitting = fitted(label_set(near))
    assert not fitting.blocked
    assert len(fitting.every.folds) > 1


def test_few_labels_have_the_blocks_of_the_finished_project() -> None:
    fitting = fitted(label_set(drawn(24)))
    split = split_of(label_places(fitting.samples.placement, sample_scene().grid))
    assert fitting.blocked
    assert fitting.recipe.split.block_m == split["block_m"]


def test_every_label_is_tested_once_where_there_are_blocks() -> None:
    fitting = fitted(label_set(drawn(60)))
    tested = np.concatenate([draw.split.test for draw in fitting.draws])
    assert sorted(tested.tolist()) == [*range(60)]
    assert {*fitting.folds.tolist()} == {0, 1, 2, 3, 4}


def test_pixels_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A label that gets another class needs no pixel of the scene."""
    pixels, _ = engine_pixels()
    labels = drawn(20)
    first = pixels.samples(label_set(labels))
    with monkeypatch.context() as unreadable:
        unreadable.setattr(type(pixels.scene), "read", None)
        other = PlacedLabel(1, labels[0].class_id % 5 + 1, labels[0].geometry)
        second = pixels.samples(label_set((other, *labels[2:])))
    assert len(second) == 19
    for block in ("bands", "wide"):
        assert (second.features[block][:, 1:] == first.features[block][:, 2:]).all()
    moved = PlacedLabel(1, 1, shapely.Point(200.5, 200.5))
    assert (pixels.samples(label_set((moved,))).places != first.places[0]).all()
