"""Explicit regularisation in the lecture: claims that a broken technique must not pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.demonstrations import claims_seen
from torch import nn

from geotl.lecture import explicit, hidden_layer
from geotl.lecture.recipes import Decay, Dropped, Gradient, Masks

pytestmark = pytest.mark.usefixtures("lecture_cache")
SMALL = {"seed": 0, "seeds": 3, "shots": 5, "width": 64, "steps": 200}


def test_dropout_takes_three_in_ten_and_scales_the_rest() -> None:
    shown = explicit.dropout_masks(Masks())
    assert claims_seen(shown) == {"switched": True, "scale": True, "use": True}
    assert shown.values["off"] == pytest.approx(0.3, abs=0.003)
    assert shown.values["factor"] == pytest.approx(1.4286, abs=1e-4)


def test_a_dropout_that_does_not_scale_and_never_rests_does_not_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Unscaled(nn.Dropout):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * (torch.rand_like(x) >= self.p)

    monkeypatch.setattr(nn, "Dropout", Unscaled)
    found = claims_seen(explicit.dropout_masks(Masks()))
    assert found == {"switched": True, "scale": False, "use": False}


def test_decay_adds_twice_lambda_w_and_not_over_m(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = Gradient(shots=2)
    shown = explicit.decay_gradient(numbers)
    assert claims_seen(shown) == {"gradient": True, "bias": True, "sgd": True, "over_m": False}
    assert shown.values["away"] < 2e-8
    assert shown.values["bias"] == 0
    penalty = explicit.l2_penalty
    monkeypatch.setattr(explicit, "l2_penalty", lambda p, s: penalty(p, s) / 2)
    assert claims_seen(explicit.decay_gradient(numbers)) == {
        "gradient": False,
        "bias": True,
        "sgd": False,
        "over_m": False,
    }


def test_a_penalty_on_biases_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explicit, "decaying", list)
    assert not claims_seen(explicit.decay_gradient(Gradient(shots=2)))["bias"]


def test_a_dropout_that_drops_nothing_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = Dropped(**SMALL | {"shots": 20, "seeds": 4}, p=0.8)
    assert claims_seen(explicit.dropout_effect(numbers))["gap"]
    monkeypatch.setattr(nn, "Dropout", lambda _: nn.Identity())
    assert claims_seen(explicit.dropout_effect(numbers)) == {"gap": False, "definition": False}


def test_a_penalty_that_adds_nothing_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = Decay(**SMALL, penalties=(0.0, 0.01))
    assert claims_seen(explicit.weight_histograms(numbers)) == {"smaller": True, "large": True}
    assert claims_seen(explicit.lambda_sweep(numbers))["degree"]
    monkeypatch.setattr(hidden_layer, "l2_penalty", lambda *_: torch.zeros(()))
    assert claims_seen(explicit.weight_histograms(numbers)) == {"smaller": False, "large": False}
    assert claims_seen(explicit.lambda_sweep(numbers)) == {"degree": False, "better": False}


def test_lambda_is_chosen_by_validation_and_not_by_the_test() -> None:
    """The lambda that is best in the test is never the one chosen."""
    table = np.zeros((3, 4, 4))
    table[:, 0] = np.array([9.0, 5.0, 1.0])[:, None]
    table[:, 2] = np.array([0.5, 0.6, 0.4])[:, None]
    table[:, 3] = np.array([0.5, 0.5, 0.9])[:, None]
    penalties = (0.0, 0.01, 0.1)
    assert claims_seen(explicit.sweep_shown(penalties, table)) == {"degree": True, "better": False}
    table[1, 3] = [0.60, 0.61, 0.62, 0.63]
    assert claims_seen(explicit.sweep_shown(penalties, table))["better"]
