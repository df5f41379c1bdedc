"""The lecture's page: the slides' order, and figures whose texts fit and are French in French."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from geotl.experiments.recipe import lectures
from geotl.lecture import figures
from geotl.lecture.axes import french_axes, wrapped
from geotl.lecture.explicit import sweep_shown
from geotl.lecture.figures import Bars, Histograms, Lines, MeanChange, Series
from geotl.lecture.recipes import ORDER, PARTS, in_order, load_lecture
from geotl.lecture.run import command, page_of, show
from geotl.lecture.texts import Both


def test_every_recipe_has_its_place_and_parts_follow_each_other() -> None:
    assert set(ORDER) == set(lectures())
    assert len(ORDER) == len(set(ORDER))
    parts = [list(PARTS).index(load_lecture(name)[1].part) for name in ORDER]
    fitting = {"more_labels"}  # of the first part, though the slide stands later
    kept = [p for name, p in zip(ORDER, parts, strict=True) if name not in fitting]
    assert kept == sorted(kept)


def test_a_recipe_of_ones_own_comes_last() -> None:
    assert in_order(["mine", "vgg16", "width_sweep"]) == ["width_sweep", "vgg16", "mine"]


@pytest.mark.parametrize("name", ORDER)
def test_the_command_shown_is_one_that_a_shell_takes_apart_as_meant(name: str) -> None:
    recipe = load_lecture(name)[1]
    shown = command({"name": name, "play": recipe.play})
    _, _, *words = shlex.split(shown)
    _, _, numbers = load_lecture(words[0], words[1:])
    assert len(words) == 1 + (recipe.play is not None)
    assert (numbers != load_lecture(name)[2]) == (recipe.play is not None)
    assert not set("[]") & set(shown) or "'" in shown


def test_a_long_title_is_wrapped_and_an_interval_stays_in_one_line() -> None:
    lines = wrapped("accuracy on test tiles: +0.12 [+0.10 ; +0.14]", 3.0, 14, bold=True)
    assert lines.count("\n") == 1
    assert lines.split("\n")[1] == "+0.12\u00a0[+0.10\u00a0;\u00a0+0.14]"
    assert wrapped("one\ntwo", 3.0, 14) == "one\ntwo"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch):
    """Every figure that is drawn, caught before it is encoded."""
    caught: list[Figure] = []

    def encode(figure: Figure) -> bytes:
        figure.draw_without_rendering()
        caught.append(figure)
        return b""

    monkeypatch.setattr(figures, "encoded", encode)
    return caught


def test_the_page_opens_with_the_slide_and_breaks_no_line_before_french_signs(
    tmp_path: Path,
) -> None:
    record = show("dropout_masks", tmp_path, ["neurons=400", "passes=6"], log=lambda _: None)
    promise = record["claims"][0] | {"key": "promise", "fr": "Que cela ?", "en": "This alone?"}
    record |= {"claims": [promise, *record["claims"]], "seeds": 3}
    files = {
        f"dropout_masks.{lang}.png": tmp_path / f"dropout_masks.{lang}.png" for lang in ["fr", "en"]
    }
    page = page_of([record], files)
    slide = re.findall(r'<div class="slide">(.*?)</div>', page, re.DOTALL)[0]
    assert record["claims"][1]["en"] in slide
    assert "This alone?" not in slide
    assert "3 graines." in page
    assert "3 seeds." in page
    assert "± donne l’écart-type sur les graines" in page
    french = " ".join(re.findall(r'<span lang="fr">(.*?)</span>', page))
    assert not re.findall(r" [;:?!%»]|« ", french)


def test_french_decimals_are_parted_by_semicolons() -> None:
    table = np.tile([[5.0], [0.9], [0.8], [0.7]], (2, 1, 3)) - np.array([0.0, 1.0])[:, None, None]
    shown = sweep_shown((0.0, 0.001), table)
    norms, chosen = (shown.findings[key].measured for key in ("degree", "better"))
    assert isinstance(norms, Both)
    assert isinstance(chosen, Both)
    assert "0 : 5,0 ± 0,0 ; 0,001 : 4,0 ± 0,0." in norms.read("fr")
    assert "0: 5.0 ± 0.0, 0.001: 4.0 ± 0.0." in norms.en
    assert "graine par graine : 0 ; 0 ; 0." in chosen.read("fr")


def test_a_sentence_that_goes_from_goes_to() -> None:
    rise = MeanChange.of([0.5, 0.6], [0.7, 0.8])
    text = rise.both(Both(fr="L'exactitude passe de", en="The accuracy goes from"), 1)
    assert text.read("fr").startswith("L'exactitude passe de 0,6 ± 0,1 à 0,8 ± 0,1 (")
    assert text.en.startswith("The accuracy goes from 0.6 ± 0.1 to 0.8 ± 0.1 (")
    assert rise.both(Both(fr="Écart :", en="Gap:"), 1).en.startswith("Gap: 0.6 ± 0.1 -> 0.8")


LONG = Both(
    fr="exactitude sur le test : +0.12 [+0.10 ; +0.14]", en="accuracy: +0.12 [+0.10, +0.14]"
)
PANELS = (
    Lines(LONG, "x", "y", (Series("s", [0, 0.5, 1], [0.1, 0.2, 0.3]),), percent=True),
    Bars(LONG, ("a", "b"), {"": [0.5, 1.5]}, words={"": ["0.5", "102,764,544"]}),
    Histograms(LONG, "v", {"one": np.linspace(0, 1, 50)}),
)


def ticks(figure: Figure) -> list[str]:
    axes = [one for one in figure.findobj(Axes) if isinstance(one, Axes)]
    return [t.get_text() for a in axes for t in (*a.get_xticklabels(), *a.get_yticklabels())]


def test_axes_have_french_numbers_in_french_alone(drawn: list[Figure]) -> None:
    for language in ("fr", "en"):
        figures.panels_figure(PANELS, language=language)
    french, english = (ticks(figure) for figure in drawn)
    assert "0,5" in french
    assert "0.5" in english
    assert not [text for text in french if "." in text]
    assert any(text.endswith("\u00a0%") for text in french)
    assert any(text.endswith("%") and "\u00a0" not in text for text in english)


def test_titles_stay_inside_their_figure_and_type_is_large(drawn: list[Figure]) -> None:
    figures.panels_figure(PANELS, language="fr")
    figure = drawn[0]
    edge = figure.bbox.width
    boxes = []
    for axes in figure.findobj(Axes):
        if isinstance(axes, Axes):
            title = axes.title if axes.get_title() else axes._left_title
            boxes.append(title.get_window_extent())
            assert title.get_fontsize() >= 14
            assert all(label.get_fontsize() >= 11 for label in axes.get_xticklabels())
    boxes.sort(key=lambda box: box.x0)
    assert boxes[-1].x1 <= edge * 1.02
    for left, right in itertools.pairwise(boxes):
        assert left.x1 <= right.x0


def test_axes_without_numbers_stay_without() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    axes.set_xticks([])
    french_axes(figure)
    figure.draw_without_rendering()
    assert [t.get_text() for t in axes.get_xticklabels()] == []


def test_legends_and_marks_cover_no_data(drawn: list[Figure]) -> None:
    x = np.linspace(0, 1, 20)
    lines = Lines("t", "x", "y", (Series("a", x, x), Series("b", x, 1 - x)), marks={0.9: "kept"})
    spread_out = Histograms("t", "v", {"a": x, "b": x / 2})
    for panel in (lines, spread_out):
        figures.panels_figure([panel])
        figure = drawn.pop()
        (axes,) = (one for one in figure.findobj(Axes) if isinstance(one, Axes))
        (legend,) = figure.findobj(Legend)
        assert legend.get_window_extent().y1 < axes.xaxis.label.get_window_extent().y0
        if panel is lines:
            (text,) = axes.texts
            assert text.get_window_extent().y0 > axes.transData.transform((0, 1))[1]
