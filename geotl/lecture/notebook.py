"""A demonstration in a notebook: its figure, its findings, and a slider for one number.

The chapters' notebooks in docs/notebooks call `play`. Sliders need ipywidgets; without it the
demonstration is shown once with the recipe's numbers, and `play(NAME, key=value)` changes them.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geotl.errors import SettingError
from geotl.io.files import cache_folder, scratch_folder
from geotl.lecture.recipes import NUMBERS, LectureRecipe, load_lecture
from geotl.lecture.run import figure_name, show
from geotl.lecture.texts import Language

SMALL = "GEOTL_LECTURE_NUMBERS"  # "seeds=2 epochs=2": numbers for every demonstration that has them
SPAN = 4.0  # a slider goes from a quarter of the number to four times it
STEPS = 12
NEAR = 0.001  # how near a slider comes to a limit that is excluded


def play(name: str, language: Language = "fr", **numbers: object) -> None:
    """Show a demonstration, and run it again when its slider is moved.

    Args:
        name: of the recipe, such as dropout_masks.
        language: of the figure.
        numbers: that differ from the recipe's.

    Raises:
        RecipeError: no such recipe, or numbers that cannot be.
        SettingError: no IPython, which shows pictures.
    """
    if importlib.util.find_spec("IPython") is None:
        raise SettingError("a notebook needs IPython; pip install 'geotl[practical]'")
    _, recipe, _ = load_lecture(name, _overrides(numbers))
    bounds = slider_of(recipe) if not numbers else None
    if bounds is None or importlib.util.find_spec("ipywidgets") is None:
        _shown(name, language, numbers)
        return
    from ipywidgets import interact

    key = bounds.key

    def again(value: float) -> None:
        _shown(name, language, {key: value})

    interact(again, value=bounds.slider())


@dataclass(frozen=True)
class SliderBounds:
    """A number that a slider changes: its key, its value, the ends, and whether it is whole."""

    key: str
    value: float
    ends: tuple[float, float]
    whole: bool

    def slider(self) -> Any:
        """The slider of ipywidgets; numbers that are not whole lie on a logarithmic scale."""
        from ipywidgets import FloatLogSlider, IntSlider

        low, high = self.ends if self.whole else map(math.log10, self.ends)
        step = (high - low) / STEPS
        kind = IntSlider if self.whole else FloatLogSlider
        return kind(
            value=self.value,
            min=low,
            max=high,
            step=max(1, round(step)) if self.whole else step,
            description=self.key,
            continuous_update=False,
        )


def slider_of(recipe: LectureRecipe) -> SliderBounds | None:
    """The slider of the number that a recipe offers to change; None where it is no number.

    >>> _, recipe, _ = load_lecture("gradient_descent")
    >>> slider_of(recipe.model_copy(update={"play": "rows=40"}))
    SliderBounds(key='rows', value=40, ends=(10, 160), whole=True)
    """
    if recipe.play is None:
        return None
    key, _, text = recipe.play.partition("=")
    fields = NUMBERS[recipe.demonstration].model_fields
    try:
        value = float(text)
    except ValueError:
        return None
    if key not in fields or value <= 0:
        return None
    whole = fields[key].annotation is int
    low, high = _within(fields[key].metadata, value / SPAN, value * SPAN)
    if whole:
        return SliderBounds(key, int(value), (math.ceil(low), math.floor(high)), whole)
    return SliderBounds(key, value, (low, high), whole)


def _within(limits: list[Any], low: float, high: float) -> tuple[float, float]:
    """A range inside the limits of a key, a little inside those that are excluded."""
    for limit in limits:
        low = max(low, getattr(limit, "ge", low), getattr(limit, "gt", -math.inf) + NEAR)
        high = min(high, getattr(limit, "le", high), getattr(limit, "lt", math.inf) - NEAR)
    return low, high


def _shown(name: str, language: Language, numbers: Mapping[str, object]) -> None:
    """Run a demonstration, and display its figure and its findings."""
    from IPython.display import Image, Markdown, display

    small = dict(word.split("=", 1) for word in os.environ.get(SMALL, "").split())
    _, recipe, _ = load_lecture(name)
    fields = NUMBERS[recipe.demonstration].model_fields
    stated = {key: value for key, value in small.items() if key in fields} | dict(numbers)
    with scratch_folder(cache_folder() / "lecture" / "notebooks") as folder:
        record = show(name, folder, _overrides(stated), log=_silent)
        figure = (Path(folder) / figure_name(name, language)).read_bytes()
    shown = Image(figure), Markdown(findings(record))  # type: ignore[no-untyped-call]
    display(*shown)  # type: ignore[no-untyped-call]


def findings(record: Mapping[str, Any]) -> str:
    """What a demonstration measured, as a list in Markdown, in both languages."""
    lines = []
    for claim in record["claims"]:
        mark = "✔" if claim["held"] else "✘"
        lines += [
            f"- {mark} **{claim['fr']}** {claim['measured']['fr']}  ",
            f"  *{claim['en']}* {claim['measured']['en']}",
        ]
    return "\n".join(lines)


def _overrides(numbers: Mapping[str, object]) -> list[str]:
    return [f"{key}={value}" for key, value in numbers.items()]


def _silent(_: str) -> None:
    """A log that prints nothing."""
