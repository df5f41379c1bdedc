"""The lecture's figures that are known, and claims that a broken technique must not pass."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from geotl.language import spaced
from geotl.lecture import run
from geotl.lecture.figures import Bars, Histograms, Lines, MeanChange, Pictures, Series
from geotl.lecture.recipes import in_order, load_lecture
from geotl.lecture.texts import Both, Claim

SMALL = {"shots": 2, "test_tiles": 18, "seeds": 2, "epochs": 2}


pytestmark = pytest.mark.usefixtures("lecture_cache")


# ------------------------------------------------------------------------------------- effects


def test_an_effect_is_visible_only_beyond_its_interval() -> None:
    noise = MeanChange.of([0.5, 0.6, 0.7], [0.7, 0.5, 0.72])
    assert not noise.visible
    assert "no visible effect" in noise.both(Both(fr="exactitude", en="accuracy")).en
    assert MeanChange.of([0.5, 0.6, 0.7], [0.61, 0.7, 0.8]).rises
    assert MeanChange.of([0.5, 0.6], [0.4, 0.5]).falls
    assert not MeanChange.of([0.5], [0.9]).visible


# -------------------------------------------------------------------------------- all together


def test_all_go_on_one_page_and_finished_ones_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from geotl.experiments.recipe import lectures

    some = {n: p for n, p in lectures().items() if n in ("gradient_descent", "dropout_masks")}
    monkeypatch.setattr(run, "in_order", lambda: in_order(some))
    page = run.show_all(tmp_path, quiet=True)
    html = page.read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") == 4  # each in two languages
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)
    assert html.index("gradient_descent") < html.index("dropout_masks")  # by part, not by name
    for name in some:
        recipe = load_lecture(name)[1]
        for text in (recipe.title, *recipe.claims.values()):
            assert spaced(text.fr) in unescape(html)
            assert text.en in unescape(html)
    assert "2 recipes; 5 of 5 claims that must hold were seen" in capsys.readouterr().out

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("run again though finished")

    monkeypatch.setattr(run, "show", refused)
    assert run.show_all(tmp_path, quiet=True).read_text(encoding="utf-8") == html
    path = tmp_path / "dropout_masks.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"recipe": "of another time"}))
    with pytest.raises(AssertionError, match="run again"):
        run.show_all(tmp_path, quiet=True)


def test_claims_that_nobody_answers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = load_text("gradient_descent").replace("  start:", "  begin:")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="name the claims so"):
        run.show(str(path), tmp_path)


def test_a_claim_that_need_not_hold_says_why_and_is_shown_so() -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        Claim(fr="bruit", en="noise", theory="wrong")
    claims = [("holds", True), ("holds", False), ("wrong", False), ("open", True), ("open", False)]
    records = [{"claims": [{"theory": theory, "held": held} for theory, held in claims]}]
    assert run.Counts.of(records) == run.Counts(expected=2, seen=1, wrong=1, open=2, open_seen=1)
    assert [run.status_of(held, theory) for theory, held in claims] == [
        "holds",
        "missed",
        "wrong",
        "holds",
        "open",
    ]


def load_text(name: str) -> str:
    from geotl.experiments.recipe import lectures

    return lectures()[name].read_text(encoding="utf-8")


def test_every_kind_of_panel_is_drawn() -> None:
    from geotl.lecture.figures import panels_figure

    tile = np.zeros((4, 4))
    panels = (
        Lines(
            Both(fr="perte", en="loss"),
            "x",
            "y",
            (Series("s", [1, 2], [3, 4], [0.1, float("nan")]),),
            marks={1: "m"},
            level=(3.5, "goal"),
            log_x=True,
            log_y=True,
        ),
        Bars(
            "b",
            ("p", "q"),
            {"off": [1, 2], "on": [2, 3]},
            sds={"on": [0.1, 0.2]},
            words={"off": ["one", "two"]},
        ),
        Histograms("c", "v", {"one": [1.0, 2.0], "two": [2.0, 2.5]}, log=True),
        Pictures("d", (tile, tile, tile), ("one", "two", "three"), columns=2),
    )
    png = panels_figure(panels, columns=2)
    assert png[:4] == b"\x89PNG"
    assert png == panels_figure(panels, columns=2)
    assert png != panels_figure(panels, columns=2, language="fr")
