"""The first printed line of a run of pixels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from geotl.evaluation.metrics import Interval
from geotl.experiments.pixel_report import PixelOutcome, points


def headline(gap: Interval) -> str:
    """The line of a fused model and of a forest that is behind by this."""
    race = {"fused": Interval(0.8, 0.7, 0.9), "forest": Interval(0.8 - gap.value, 0.7, 0.9)}
    outcome = SimpleNamespace(
        race=race,
        differences={"forest": gap},
        ranked=lambda: ["fused", "forest"],
        folds_words=lambda: "5 blocked folds",
    )
    return PixelOutcome.headline(cast("PixelOutcome", outcome))


def test_methods_that_are_equal_do_not_lead() -> None:
    """Red before: "fused leads within chance: …; +0.0 points"."""
    said = headline(Interval(0.0002, -0.02, 0.02))
    assert said.startswith("fused equals forest: accuracy 0.800")
    assert said.endswith("; 0.0 points [-2.0, +2.0] over forest")
    assert "leads within chance" in headline(Interval(0.01, -0.02, 0.02))
    assert "wins" in headline(Interval(0.03, 0.02, 0.04))


def test_a_difference_of_nothing_has_no_sign() -> None:
    """Red before: "-0.0 points [-0.0, -0.0]"."""
    assert points(Interval(-0.0, -0.0, -0.0)) == "0.0 points [0.0, 0.0]"
