"""The smoothed map of a project: without seams, and what the filter makes of the whole scene."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.labelling import Events, class_map, drawn, label_set, learning

from geotl.imagery.windows import Window
from geotl.inference.smoothing import brightness, guided
from geotl.labelling.learner import Learner, LearnerOptions
from geotl.labelling.map_tiles import LiveModel
from geotl.labelling.smooth_tiles import features_of, side_at

SIDE_PX = 11


@pytest.fixture(scope="module")
def rested(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Learner, Events]]:
    """A learner whose map of all members is smoothed, with features of the whole scene."""
    options = LearnerOptions(rest_s=0.0, smooth_px=SIDE_PX)
    with learning(tmp_path_factory.mktemp("smooth") / "features", options) as (learner, events):
        learner.changed(label_set(drawn(24)))
        events.await_kind("model", 2)  # the quick one, then that of all members
        yield learner, events


def live(learner: Learner) -> LiveModel:
    model = learner._model
    assert model is not None
    return model


def plain(learner: Learner, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [h,w,K] of all positions of a level, and which are usable."""
    grid = learner.scene.grid
    height, width = (len(range(each // 2, length, each)) for length in (grid.height, grid.width))
    tile = features_of(learner.store, each, Window(0, 0, height, width))
    several = [live(learner).model.probabilities(tile.blocks(part)) for part in tile.parts]
    return np.concatenate(several, axis=1).T.reshape(height, width, -1), tile.usable


@pytest.mark.parametrize("each", [1, 2])
def test_the_map_at_rest_is_the_filter_of_the_whole_scene(
    rested: tuple[Learner, Events], each: int
) -> None:
    learner, events = rested
    assert events.of("model")[-1]["stage"] == "full"
    probabilities, usable = plain(learner, each)
    grid, of = learner.scene.grid, live(learner).model.features
    data, valid = learner.scene.read(Window(0, 0, grid.height, grid.width))
    guide = brightness(np.where(valid, data, np.nan).astype(np.float32), of.mean, of.sd)
    guide = np.where(usable, guide[each // 2 :: each, each // 2 :: each], np.nan)
    smooth = guided(probabilities, guide, side_at(SIDE_PX, each)).argmax(axis=-1)
    colours = np.array([int(one[1:3], 16) for one in live(learner).colours])
    shown = class_map(learner, each)
    assert (shown == colours[smooth])[usable].mean() > 0.9995  # the store keeps float16
    assert (shown != colours[probabilities.argmax(axis=-1)])[usable].mean() > 0.01


def test_a_pixel_says_what_its_map_shows(rested: tuple[Learner, Events]) -> None:
    learner, _ = rested
    shown, model = class_map(learner), live(learner)
    for row, col in np.random.default_rng(0).integers(3, 700, (20, 2)).tolist():
        chances = [*learner.at(col + 0.5, row + 0.5)["probabilities"].values()]
        assert sum(chances) == pytest.approx(1, abs=1e-5)
        assert shown[row, col] == int(model.colours[int(np.argmax(chances))][1:3], 16)


def test_neither_the_quick_map_nor_applicability_is_smoothed(tmp_path: Path) -> None:
    options = LearnerOptions(rest_s=600.0, smooth_px=SIDE_PX)
    with learning(tmp_path / "features", options) as (learner, events):
        learner.changed(label_set(drawn(24)))
        assert learner.wait()
        assert [one["stage"] for one in events.of("model")] == ["quick"]
        probabilities, usable = plain(learner, 4)
        colours = np.array([int(one[1:3], 16) for one in live(learner).colours])
        shown = class_map(learner, 4)
        assert (shown == colours[probabilities.argmax(axis=-1)])[usable].all()
    assert not LiveModel.smooths(live_with(SIDE_PX), "applicability", 1)


def live_with(side_px: int) -> LiveModel:
    model = object.__new__(LiveModel)
    object.__setattr__(model, "smooth_px", side_px)
    return model
