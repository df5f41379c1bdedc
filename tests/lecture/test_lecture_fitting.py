"""Under- and overfitting in the lecture: claims that a broken technique must not pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.demonstrations import claims_seen

from geotl.errors import RecipeError
from geotl.lecture import fitting, hidden_layer
from geotl.lecture.figures import translated
from geotl.lecture.hidden_layer import Layers, draws_of, trained_layers
from geotl.lecture.recipes import Capacity, MoreLabels, Shallow, ThreeFits, TwoStages, Widths
from geotl.lecture.samples import draw, mislabelled, sample_of, two_parts
from geotl.lecture.words import CLASSES, class_name

pytestmark = pytest.mark.usefixtures("lecture_cache")
SMALL = {"seed": 0, "seeds": 3, "shots": 5, "width": 64, "steps": 200}


# -------------------------------------------------------------------------------- hidden layer


def test_a_seeds_network_is_the_same_whatever_the_other_seeds() -> None:
    alone, among = (
        trained_layers(draws_of(numbers), numbers, dropout=0.0)
        for numbers in (Shallow(**SMALL | {"seeds": 1}), Shallow(**SMALL))
    )
    for one, other in zip(alone.layers.parameters(), among.layers.parameters(), strict=True):
        torch.testing.assert_close(one[0], other[0], rtol=1e-3, atol=1e-4)
    assert len(among.train) == 3


def test_the_penalty_spares_the_biases_and_shrinks_the_weights() -> None:
    numbers = Shallow(**SMALL)
    draws = draws_of(numbers)
    plain, small = (trained_layers(draws, numbers, penalty=one).layers for one in (0.0, 1.0))
    assert np.abs(small.weights()).max() < 0.1 * np.abs(plain.weights()).max()
    assert float(small.second_bias.detach().abs().max()) > 0.02


def test_places_without_a_tile_count_nowhere() -> None:
    rows = [(np.ones((2, 3)), np.array([0, 1])), (np.ones((1, 3)), np.array([0]))]
    side = hidden_layer.Side.of(rows)
    assert side.y.tolist() == [[0, 1], [0, -1]]
    numbers = Shallow(**SMALL | {"seeds": 2})
    layers = Layers(hidden_layer.Draws(side, side, side, 2, 0), numbers.width)
    layers.second_bias.data[:, 0] = 100.0  # all are of the first class
    assert layers.accuracy(side).tolist() == [0.5, 1.0]


def test_three_training_labels_in_ten_are_wrong_and_no_other() -> None:
    numbers = Shallow(**SMALL | {"wrong": 0.3, "shots": 10})
    source, rows = sample_of(numbers), draw(numbers, 0).split
    given = mislabelled(source, rows.train, 0.3, 0).labels
    assert (given != source.labels).sum() == 27  # of 90
    assert np.array_equal(given[rows.test], source.labels[rows.test])
    layers = draws_of(numbers)
    assert layers.train.y[0].tolist() == given[rows.train].tolist()
    assert layers.test.y[0].tolist() == source.labels[rows.test].tolist()


def test_no_site_is_in_both_parts() -> None:
    numbers = Shallow(**SMALL)
    source, rows = sample_of(numbers), draw(numbers, 0).split.test
    parts = two_parts(source, rows, 0)
    assert sorted(np.concatenate(parts)) == sorted(rows)
    first, second = ({source.index.tiles[row].group for row in part} for part in parts)
    assert not first & second


# ---------------------------------------------------------------------------------- three fits


def test_where_a_network_stands_against_a_target_of_point_nine() -> None:
    pairs = ((0.60, 0.58), (0.99, 0.70), (0.93, 0.91))
    found = [fitting.standing(*pair, 0.9) for pair in pairs]
    assert found == ["under", "over", "right"]


def test_wrong_labels_lower_what_training_can_reach() -> None:
    pairs = ((0.50, 0.58), (0.65, 0.92), (0.99, 0.58))
    assert [fitting.standing(*pair, 0.9, 0.3) for pair in pairs] == ["under", "right", "over"]


def test_a_standing_within_the_interval_of_the_target_does_not_pass() -> None:
    numbers = ThreeFits(target=0.8, wrong=0.0)
    sure, unsure = np.array([0.88, 0.90, 0.92]), np.array([0.7, 0.9, 1.0])
    assert fitting.standing_claim("right", sure, sure, numbers).held
    assert not fitting.standing_claim("right", sure, unsure, numbers).held
    assert not fitting.standing_claim("over", sure, sure, numbers).held
    assert fitting.standing_claim("over", sure, sure - 0.3, numbers).held


def test_a_penalty_that_does_nothing_leaves_overfitting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hidden_layer, "l2_penalty", lambda *_: torch.zeros(()))
    shown = fitting.three_fits(ThreeFits(**SMALL | {"lr": 0.03, "steps": 300}))
    assert not claims_seen(shown)["right"]
    assert np.array_equal(shown.values["right"]["test"], shown.values["over"]["test"])


def test_an_attribute_that_is_not_there_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="B04 mean"):
        fitting.three_fits(ThreeFits(**SMALL, attributes=("B04 means", "B11 sd")))


def test_a_class_has_its_french_name_on_the_figure() -> None:
    numbers = ThreeFits(**SMALL | {"steps": 5}, classes=("broadleaf_forest", "wetland"))
    points, *_ = fitting.three_fits(numbers).panels
    shown = [{one.name for one in translated(points, lang).series} for lang in ("fr", "en")]
    assert shown == [{"forêt de feuillus", "zone humide"}, {"broadleaf forest", "wetland"}]
    assert {*sample_of(numbers).index.classes} == {*CLASSES}
    assert class_name("sand_dunes") == "sand dunes"  # of other tiles: as it is given


# ------------------------------------------------------------------------------------ capacity


def test_lenet5_learns_noise_by_heart_and_one_that_does_not_learn_is_told() -> None:
    numbers = Capacity(trap="lenet5", trap_steps=1)
    assert claims_seen(fitting.capacity_check(numbers))["memorise"]
    lazy = numbers.model_copy(update={"lr": 1e-9, "steps": 3})
    assert not claims_seen(fitting.capacity_check(lazy))["memorise"]


def test_training_mode_makes_a_resnet_look_perfect_and_evaluation_mode_does_not() -> None:
    """The trap of the capacity check; without batch normalisation there is none."""
    numbers = Capacity(steps=1, trap_steps=2)
    shown = fitting.capacity_check(numbers)
    assert claims_seen(shown)["trap"]
    _, looks, in_use = shown.values["path"][shown.values["trap_step"] - 1]
    assert looks == 1.0
    assert in_use < 0.8
    steady = numbers.model_copy(update={"trap": "lenet5", "trap_steps": 60})
    assert not claims_seen(fitting.capacity_check(steady))["trap"]


def test_an_error_that_rises_with_width_is_no_cure() -> None:
    errors = np.zeros((2, 3, 4))
    errors[0] = [[0.8, 0.7, 0.8, 0.7], [0.4, 0.3, 0.4, 0.3], [0.0, 0.0, 0.01, 0.0]]
    errors[1] = errors[0] + np.array([[0.0], [0.2], [0.5]])
    assert claims_seen(fitting.widths_shown((1, 2, 4), errors)) == {"cure": True, "overfit": True}
    errors[0, 2] = [0.6, 0.61, 0.6, 0.61]
    errors[1] = errors[0]
    assert claims_seen(fitting.widths_shown((1, 2, 4), errors)) == {"cure": False, "overfit": False}


def test_networks_of_one_width_cure_nothing() -> None:
    shown = fitting.width_sweep(Widths(**SMALL, widths=(8, 8)))
    assert claims_seen(shown) == {"cure": False, "overfit": False}


# ---------------------------------------------------------------------------------- two stages


def test_stages_that_gain_nothing_do_not_pass() -> None:
    numbers = TwoStages(**SMALL, dropout=0.0, l2=0.0)
    assert claims_seen(fitting.two_stages(numbers)) == {
        "capacity": True,
        "gap": False,
        "clause_validation": False,
        "clause_training": True,
    }
    lazy = numbers.model_copy(update={"steps": 2})
    assert not claims_seen(fitting.two_stages(lazy))["capacity"]
    harsh = numbers.model_copy(update={"dropout": 0.8, "shots": 20, "seeds": 4})
    assert claims_seen(fitting.two_stages(harsh))["gap"]


def test_a_penalty_that_is_no_stronger_helps_nobody() -> None:
    numbers = MoreLabels(**SMALL, sizes=(2, 5), penalised=1e5)
    assert not claims_seen(fitting.more_labels(numbers))["few"]
    same = numbers.model_copy(update={"sizes": (5, 5)})
    assert not claims_seen(fitting.more_labels(same))["ideal"]
