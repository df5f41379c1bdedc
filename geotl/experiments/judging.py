"""The keys of a recipe that say how its result is judged, and beside what."""

from __future__ import annotations

from pydantic import Field

from geotl.experiments.sections import Section


class Evaluate(Section):
    """How the result is judged, and beside what."""

    bootstrap_rounds: int = Field(
        1000, ge=0, le=100000, description="resamplings behind the intervals; 0: none [rounds]"
    )
    baselines: bool = Field(True, description="majority, band statistics and frozen probe beside")
    random_weights: bool = Field(True, description="the same recipe from random weights beside")
    rgb_only: bool | None = Field(
        None,
        description="the same recipe on red, green, blue beside; null: their frozen probe, beside "
        "pretrained networks of these and other bands",
    )
    random_split: bool | None = Field(
        None,
        description="the same recipe on a random split of the same sizes, beside blocks, group or "
        "scene; null: where the strategy is a probe",
    )
    target: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="accuracy wanted, against which under- and overfitting are told [fraction]",
    )
    mistakes: int = Field(24, ge=0, le=200, description="mistakes drawn in the report [tiles]")
    explain: bool = Field(True, description="what the network looks at, and tiles by likeness")
