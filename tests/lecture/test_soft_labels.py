"""Label smoothing and mixup in the lecture: claims that trainings without them do not pass."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.demonstrations import claims_seen

from geotl.errors import RecipeError
from geotl.lecture import soft_labels
from geotl.lecture.figures import MeanChange
from geotl.lecture.recipes import Softened
from geotl.lecture.soft_labels import Answers, mislabelled
from geotl.training.learner import Learner

SMALL = {"shots": 3, "test_tiles": 40, "seeds": 2, "epochs": 2, "input_px": 16, "seed": 0}


pytestmark = pytest.mark.usefixtures("lecture_cache")


def answered(certainty: float, reproduced: int) -> Answers:
    """Ten training tiles, two of them wrong; half of the test tiles are right at a certainty."""
    given, wrong = np.arange(10) % 2, np.array([0, 1])
    said = given.copy()
    said[wrong[reproduced:]] = 1 - given[wrong[reproduced:]]
    test = np.full((8, 2), 0.0)
    test[:, 0] = np.log(certainty / (1 - certainty))
    return Answers(np.eye(2)[said] * 9, given, wrong, test, np.arange(8) % 2)


def test_figures_of_known_answers() -> None:
    figures = answered(0.9, reproduced=1).figures
    assert figures["memorised"] == 0.5
    assert figures["train"] == 0.9
    assert figures["test"] == 0.5
    assert figures["gap"] == pytest.approx(0.4)
    assert figures["confidence"] == pytest.approx(0.9)
    assert figures["calibration"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("on", "wanted"),
    [
        ((0.7, 0), {"confidence": "falls", "calibration": "falls", "memorised": "falls"}),
        ((0.9, 2), {"confidence": "", "calibration": "", "memorised": ""}),
        ((0.95, 2), {"confidence": "rises", "calibration": "rises", "memorised": ""}),
    ],
)
def test_effects_follow_the_answers(on: tuple[float, int], wanted: dict[str, str]) -> None:
    off, after = answered(0.9, reproduced=2), answered(*on)
    effects = soft_labels.effects_of(([off, off], [after, after]))
    assert {n: "falls" * effects[n].falls + "rises" * effects[n].rises for n in wanted} == wanted


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_wrong_labels_are_as_many_as_asked_for_and_none_is_right(share: float) -> None:
    labels = np.arange(90) % 9
    given, wrong = mislabelled(labels, share, 9, seed=4)
    assert np.array_equal(np.flatnonzero(given != labels), wrong)
    assert len(wrong) == round(90 * share)
    assert set(given) <= set(range(9))
    assert not np.array_equal(
        mislabelled(labels, 0.5, 9, seed=5)[0], mislabelled(labels, 0.5, 9, seed=6)[0]
    )


@pytest.mark.parametrize("name", ["label_smoothing", "mixup"])
def test_softening_without_effect_does_not_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both arms are then the same to the bit: same start, labels and order of batches."""
    from torch.nn import functional as F

    def whole(self, logits, truth, mix):
        return F.cross_entropy(logits, truth), truth

    monkeypatch.setattr(Learner, "_loss", whole)
    monkeypatch.setattr(Learner, "_mix", lambda *_: None)
    shown = soft_labels.SOFT_LABELS[name](Softened(**SMALL, value=0.2, wrong=0.2))
    assert not any(claims_seen(shown).values())
    for effect in shown.values.values():
        assert np.array_equal(effect["off"], effect["on"])


def test_a_smoothing_of_one_is_refused() -> None:
    with pytest.raises(RecipeError, match="below 1"):
        soft_labels.label_smoothing(Softened(**SMALL, value=1.0))


def test_a_rise_of_both_accuracies_is_not_what_the_definition_says() -> None:
    rise, level = MeanChange.of([0.5, 0.5], [0.6, 0.6]), MeanChange.of([0.9, 0.9], [0.9, 0.9])
    assert soft_labels.definition({"test": rise, "train": level}).held
    assert not soft_labels.definition({"test": rise, "train": rise}).held
    assert not soft_labels.definition({"test": level, "train": level}).held
