"""A network's stages over a scene: the same at a pixel as those that a run reads there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.labelling import drawn, label_set, learning, pixels, sample_scene
from torchvision.models import squeezenet1_1

from geotl.experiments.pixel_networks import DeepNetworks, deep_networks
from geotl.experiments.pixel_samples import PixelReader, scene_features
from geotl.experiments.pixel_windows import PixelPlaces
from geotl.experiments.recipe import Recipe
from geotl.labelling.deep_store import DeepStore
from geotl.labelling.feature_tiles import TilePlace
from geotl.labelling.fitting import project_recipe
from geotl.labelling.learner import LearnerOptions, without_random
from geotl.models.deep_features import DEEP


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    torch.save(squeezenet1_1().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def recipe(weights: Path) -> Recipe:
    plain = project_recipe(sample_scene(), weights)
    model = {"backbone": "squeezenet1_1"}
    return plain.model_copy(update={"model": plain.model.model_copy(update=model)})


@pytest.fixture(scope="module")
def networks(recipe: Recipe) -> DeepNetworks:
    scene = sample_scene()
    networks = deep_networks(without_random(recipe), scene.sensor, scene.bands)
    assert networks is not None
    assert networks.untrained is None
    return networks


@pytest.mark.parametrize("each", [1, 2, 4])
def test_logits_of_a_tile_are_those_of_features_read_at_its_pixels(
    each: int, networks: DeepNetworks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geotl.labelling.deep_store.TILE_PX", 256)  # several blocks to a tile
    scene, deep, recipe = sample_scene(), networks.pretrained, Recipe()
    of = scene_features([scene], scene.sensor, recipe.pixels)
    store = DeepStore(scene, of, deep, tmp_path)
    random = np.random.default_rng(0)
    weight = random.normal(size=(3, len(deep.names))).astype(np.float32) / 10
    place = TilePlace(each, 0, 0) if each == 4 else TilePlace(each, 1, 1)
    rows, cols = place.within(scene.grid)
    height, width = (len(range(*part.indices(10**6))) for part in (rows, cols))
    logits = store.logits(place, weight).reshape(3, height, width)
    some = random.integers(0, min(height, width), (12, 2))
    some[:3] = [[0, 0], [height - 1, width - 1], [0, width - 1]]
    places = some * each + [rows.start, cols.start]
    reader = PixelReader(of, networks)
    where = PixelPlaces(np.zeros(12, np.int64), places)
    features = reader.read([scene], where, lambda *_: None).features[DEEP]
    np.testing.assert_allclose(logits[:, *some.T], weight @ features, atol=0.02)


def test_a_second_session_runs_no_network(
    networks: DeepNetworks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, deep = sample_scene(), networks.pretrained
    of = scene_features([scene], scene.sensor, Recipe().pixels)
    (tmp_path / "deep-0123456789abcdef").mkdir()
    first = DeepStore(scene, of, deep, tmp_path)
    assert not (tmp_path / "deep-0123456789abcdef").exists()
    assert len(first.missing()) == 1
    first.fill(first.missing()[0])
    stored = sum(one.stat().st_size for one in first.folder.rglob("*.npy"))
    assert 0.8 * stored < first.size < 1.3 * stored
    monkeypatch.setattr(type(deep), "maps", None)
    again = DeepStore(scene, of, deep, tmp_path)
    assert not again.missing()
    assert again.logits(TilePlace(4, 0, 0), np.ones((2, len(deep.names)), np.float32)).any()


def test_a_model_with_a_network_draws_what_it_says_of_a_pixel(
    recipe: Recipe, tmp_path: Path
) -> None:
    options = LearnerOptions(rest_s=600.0, recipe=recipe)
    with learning(tmp_path / "features", options) as (learner, events):
        learner.changed(label_set(drawn(40)))
        assert learner.wait()
        assert "discriminant, deep" in events.of("model")[0]["members"]
        live = learner._model
        assert live is not None
        shown = pixels(learner.tile("classes", 1, 1, 1))
        agree = 0
        for row, col in np.random.default_rng(1).integers(0, 256, (30, 2)):
            chances = learner.at(256.5 + col, 256.5 + row)["probabilities"]
            colour = live.colours[int(np.argmax([*chances.values()]))]
            agree += shown[row, col, 0] == int(colour[1:3], 16)
        assert agree >= 29  # but for two classes that are equally probable
        assert not events.of("fault")
