"""Normalisation in the lecture: claims that a broken technique must not pass."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
import torch
from helpers.demonstrations import claims_seen
from torch import nn

from geotl.lecture import normalisation
from geotl.lecture.recipes import Batchnorm, Normalised, Standardised
from geotl.models.registry import build_backbone

pytestmark = pytest.mark.usefixtures("lecture_cache")
Fit = namedtuple("Fit", "train test gap epochs")


def test_standardised_bands_have_mean_0_and_sd_1_and_houses_are_well_conditioned() -> None:
    shown = normalisation.standardisation(Standardised(shots=3))
    assert claims_seen(shown) == {"zero_one": True, "alike": True, "easier": True}
    assert shown.values["mean"] < 1e-5
    assert shown.values["sd"] < 1e-5
    raw, scaled = shown.values["condition"]
    assert raw > 1e5
    assert scaled < 1.5


def test_conditioning_is_that_of_the_hessian() -> None:
    attributes = np.random.default_rng(0).normal(5, 3, (40, 2))
    whole = np.hstack([np.ones((40, 1)), attributes])
    wanted = np.linalg.cond(whole.T @ whole)
    assert normalisation.conditioning(attributes) == pytest.approx(wanted, rel=1e-6)


def test_gamma_and_beta_of_the_lecture_standardise_and_undo_it() -> None:
    generator = torch.Generator().manual_seed(0)
    z = 4 + 3 * torch.randn(16, 8, 10, 10, generator=generator)
    away = normalisation.derivation(z)
    assert away["affine"] < 5e-6
    assert away["identity"] < 1e-5
    assert away["biased"] < 1e-5
    assert away["unbiased"] < 1e-5
    biased = z.var((0, 2, 3), correction=0) / z.var((0, 2, 3), correction=1)
    assert float((biased - 1).abs().max()) > 1e-4  # so that the two can be told apart


def test_a_batch_norm_with_another_variance_does_not_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Wrong(nn.BatchNorm2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * 1.01

    numbers = Batchnorm(shots=2, tiles=16)
    assert all(claims_seen(normalisation.batchnorm_derivation(numbers)).values())
    monkeypatch.setattr(normalisation, "SteadyBatchNorm2d", Wrong)
    assert not any(claims_seen(normalisation.batchnorm_derivation(numbers)).values())


def test_vgg_with_and_without_batch_norm_begin_with_the_same_convolutions() -> None:
    convolutions = []
    for name in ("vgg11", "vgg11_bn"):
        backbone, _ = build_backbone(name, ["a", "b"], cut_after="block3", seed=4)
        convolutions.append([m.weight for m in backbone.modules() if isinstance(m, nn.Conv2d)])
    assert len(convolutions[0]) == len(convolutions[1]) == 4
    for plain, normalised in zip(*convolutions, strict=True):
        assert torch.equal(plain, normalised)


def test_a_batch_norm_that_changes_nothing_makes_nothing_easy() -> None:
    def fit(reach: float, test: float) -> Fit:
        rows = [
            {"epoch": i, "train_accuracy": reach * (i + 1) / 4, "val_accuracy": test}
            for i in range(4)
        ]
        return Fit(reach, test, reach - test, rows)

    numbers = Normalised(epochs=4, target=0.8)
    slow = [fit(0.5, 0.30), fit(0.5, 0.31), fit(0.5, 0.32)]
    fast = [fit(1.0, 0.90), fit(1.0, 0.91), fit(1.0, 0.92)]
    assert claims_seen(normalisation.normalised_shown(slow, fast, numbers)) == {
        "easier": True,
        "generalises": True,
        "overfitting": True,
    }
    assert not any(claims_seen(normalisation.normalised_shown(fast, fast, numbers)).values())
