"""What a network's answers rest on: occlusion finds the deciding part, likeness finds groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from geotl.data.tile_array import Pack
from geotl.data.tiles import TileIndex
from geotl.experiments.explain import (
    CELLS,
    Embedding,
    Insight,
    confused_pairs,
    embedded,
    occlusion,
    pictures_of,
    typical,
)
from geotl.experiments.results import Answers
from geotl.experiments.samples import TileSamples
from geotl.imagery.sensors import get_sensor
from geotl.models.classifier import Normalise
from geotl.reporting import explain_figures
from geotl.reporting.explain_figures import embedding_figure, evidence_figure, pairs_figure


class Corner(torch.nn.Module):
    """Names class 1 by the mean of one corner of the first band, and looks at nothing else."""

    def __init__(self, high: slice, wide: slice) -> None:
        super().__init__()
        self.normalise = Normalise([10.0, 10.0], [1.0, 1.0])
        self.temperature = torch.tensor(2.0)
        self.high, self.wide = high, wide

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        seen = image[:, 0, self.high, self.wide].mean(dim=(1, 2))
        return torch.stack([torch.zeros_like(seen), seen], dim=1)


@pytest.mark.parametrize("side", [32, 35])
def test_evidence_lies_where_the_answer_comes_from(side):
    image = torch.full((2, side, side), 100.0)
    network = Corner(slice(0, side // 4), slice(side - side // 4, side))
    fall = occlusion(network, image, 1, batch=5)
    assert fall.shape == (CELLS, CELLS)
    assert np.unravel_index(fall.argmax(), fall.shape) == (0, CELLS - 1)
    assert np.abs(fall[3:]).max() == 0
    assert np.abs(fall[:, : CELLS - 3]).max() == 0
    # the corner's two by two cells covered at once leave the fill of 10 of 100, at temperature 2
    assert fall.max() <= 45 + 1e-3
    assert (occlusion(network, image, 0) <= 0).all()  # covering it speaks for the other class


def test_the_batch_changes_nothing():
    image = torch.rand(2, 32, 32) * 50
    network = Corner(slice(0, 32), slice(0, 16))
    np.testing.assert_allclose(occlusion(network, image, 1, batch=7), occlusion(network, image, 1))


def test_tiles_of_a_kind_lie_together_and_repeat():
    random = np.random.default_rng(0)
    kind = np.arange(60) % 3
    features = random.normal(size=(60, 12)) + 12 * np.eye(12)[kind]
    places = embedded(features, 1)
    np.testing.assert_array_equal(places, embedded(features, 1))
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (kind[apart.argmin(axis=1)] == kind).all()


@pytest.mark.parametrize("tiles", [3, 7, 8, 9])
def test_few_tiles_are_laid_out_too(tiles):
    assert embedded(np.random.default_rng(0).normal(size=(tiles, 5)), 0).shape == (tiles, 2)
    assert embedded(np.arange(tiles)[:, None], 0).shape == (tiles, 2)
    assert (embedded(np.ones((tiles, 2)), 0) == 0).all()


def test_unlabelled_tiles_are_neither_typical_nor_mixed_up():
    truth = np.array([-1, 0, 1])
    chances = np.array([[0.99, 0.01], [0.9, 0.1], [0.6, 0.4]])
    assert typical(truth, chances).tolist() == [1]
    assert [(p.truth, p.predicted, p.count) for p in confused_pairs(truth, chances)] == [(1, 0, 1)]


def test_figures_say_when_there_is_nothing_to_draw():
    empty = evidence_figure([], [], [], []), pairs_figure([], [], [])
    assert all(png.startswith(b"\x89PNG") for png in empty)
    few = embedding_figure(
        np.zeros((2, 2)), np.zeros(2, int), np.zeros(2, bool), ["a"], ["#000000"]
    )
    assert few.startswith(b"\x89PNG")


def test_the_names_of_classes_stand_beside_the_tiles(monkeypatch):
    caught = []
    monkeypatch.setattr(explain_figures, "encoded", caught.append)
    random, truth = np.random.default_rng(0), np.arange(90) % 30
    names, colours = [f"class {k}" for k in range(31)], ["#336699"] * 31
    embedding_figure(random.normal(size=(90, 2)), truth, truth == 0, names, colours)
    (figure,) = caught
    figure.draw_without_rendering()
    (axes,), (legend,) = figure.axes, figure.legends
    assert [t.get_text() for t in legend.get_texts()] == [*names[:30], "incorrect"]
    assert not axes.texts
    assert legend.get_window_extent().x0 >= axes.bbox.x1
    assert legend.get_window_extent().y0 >= figure.bbox.y0


def test_captions_say_whose_fold_is_explained():
    images, none = np.zeros((2, 3, 8, 8), np.uint16), (None, None)
    pack = Pack(images, None, ("red", "green", "blue"), "", Path("pack"), none, none, none)
    samples = TileSamples(TileIndex(Path("tiles"), ("a", "b"), ()), get_sensor("rgb"), pack)
    layout = Embedding(np.arange(2), np.zeros((2, 2)))
    told = {
        folds: pictures_of(
            Insight((), layout),
            samples,
            Answers(np.arange(2), np.arange(2), 9 * np.eye(2), np.ones(2)),
            ["#000000", "#ffffff"],
            folds,
        )
        for folds in (None, 5)
    }
    for name in ("evidence", "embedding"):
        assert "Of 5 folds, the first is shown" in told[5][name].caption
        assert "folds" not in told[None][name].caption
