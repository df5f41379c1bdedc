"""The map's page: whole in itself, and working in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.browser import CHROMIUM, Browser
from helpers.finished_maps import METRICS, UTM, made_facts, made_look
from helpers.pages import Page

from geotl.mapping.cartography import map_figure
from geotl.mapping.map_words import honest_notes
from geotl.mapping.page import map_html

NASTY = '</script><b>wood & "water"\'{{ 7 * 7 }}'
NAMES = [NASTY, "class 1", "class 2", "class 3"]
in_a_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine: the page was not tried in a browser"
)


def page(tmp_path: Path, **more) -> Path:
    look = made_look(picture=True)
    facts = made_facts(look, NAMES, **more)
    path = tmp_path / "map.html"
    path.write_text(map_html(look, facts, map_figure(look, facts)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@pytest.fixture
def shown(browser: Browser, made: Path) -> Browser:
    browser.open(made, "#fresh")
    browser.call("Page.reload")
    browser.until("document.readyState === 'complete' && document.body.dataset.viewer === 'ready'")
    browser.asked.clear()
    browser.errors.clear()
    return browser


def test_the_page_is_whole_and_asks_for_nothing(made: Path) -> None:
    text = made.read_text(encoding="utf-8")
    found = Page(text)
    sources = [a.get("src", "") for t, a in found.tags if t in {"img", "script", "iframe"}]
    assert all(s.startswith("data:") for s in sources if s)
    assert not re.search(
        r"(?:https?:)?//[a-z]", re.sub(r'"data:[^"]*"', "", text.split("<main")[1])
    )
    assert next(a for t, a in found.tags if t == "html")["lang"] == "en"
    assert all(a.get("alt") for a in found.all("img"))
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids))
    labelled = [a for a in found.all("button") if a.get("aria-label") or a.get("class") == "pick"]
    assert len(labelled) == len(found.all("button"))
    assert NASTY in found.text
    assert "0.845 to 0.917" in found.text


def test_the_page_says_how_far_to_believe_it(tmp_path: Path) -> None:
    text = Page(page(tmp_path, outside=0.25, forced=True).read_text()).text
    assert "25.0 % of the mapped cells lie outside" in text
    assert "25 % of it outside the model's area of applicability" in text
    assert "--skip-value-check" in text
    assert "not of this map" in text
    unjudged = Page(page(tmp_path, metrics={}).read_text()).text
    assert "never tested" in unjudged
    assert "0.886" not in unjudged


def test_notes_tell_mode_season_and_ground() -> None:
    facts = made_facts(made_look(), trained_on=("2020-01-01",))
    told = " ".join(honest_notes(facts))
    assert "another season" in told
    assert "2 % of the valid area was not mapped" in told.replace("(2 %) of", "2 % of")
    assert "window by window" in told
    dense = replace(
        facts, tags=dict(facts.tags, GEOTL_MODE="dense", GEOTL_DENSE_AGREEMENT="0.9876")
    )
    assert "98.8 %" in " ".join(honest_notes(dense))
    worse = replace(facts, metrics=METRICS | {"loses_to_a_baseline": True})
    assert "baseline was more accurate" in " ".join(honest_notes(worse))


@in_a_browser
def test_a_place_is_read_by_address(browser: Browser, made: Path) -> None:
    look = made_look()
    browser.open(made, "#at=12.5,7.5,9")
    browser.until("document.body.dataset.viewer === 'ready'")
    told = browser.value("document.getElementById('here').textContent")
    name, sure = NAMES[look.classes[7, 12]], look.confidence[7, 12]
    assert told.startswith(f"{name}, confidence {sure} %")
    assert "x 342500, y 5858500" in told
    assert "52.8532° N, 12.6609° E" in told


@in_a_browser
def test_the_pointer_reads_every_pixel(shown: Browser) -> None:
    look = made_look()
    box = shown.value(
        "(() => { const c = document.getElementById('canvas'); c.scrollIntoView(); "
        "const b = c.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; })()"
    )
    zoom = min(box[2] / UTM.width, box[3] / UTM.height)
    left, top = box[0] + (box[2] - zoom * UTM.width) / 2, box[1] + (box[3] - zoom * UTM.height) / 2
    for row, col in [(0, 0), (7, 12), (29, 39), (15, 3)]:
        shown.mouse("mouseMoved", left + (col + 0.5) * zoom, top + (row + 0.5) * zoom)
        told = shown.value("document.getElementById('here').textContent")
        value = look.classes[row, col]
        if value == 255:
            assert told.startswith("not mapped")
        else:
            assert told.startswith(f"{NAMES[value]}, confidence {look.confidence[row, col]} %")
    assert not shown.asked
    assert not shown.errors


CENTRE = (
    "(() => { const c = document.getElementById('canvas'); const x = c.getContext('2d'); "
    "return [...x.getImageData(Math.floor(c.width * AT[0]), Math.floor(c.height * AT[1]), 1, 1)"
    ".data]; })()"
)


def colour_at(browser: Browser, x: float, y: float) -> list[int]:
    return browser.value(CENTRE.replace("AT[0]", str(x)).replace("AT[1]", str(y)))


@in_a_browser
def test_layers_opacity_and_single_classes_are_drawn(shown: Browser) -> None:
    look, facts = made_look(picture=True), made_facts(made_look(), NAMES)
    row, col = 15, 20  # the middle of the map
    colour = [int(facts.colours[look.classes[row, col]][i : i + 2], 16) for i in (1, 3, 5)]
    assert colour_at(shown, 0.501, 0.501)[:3] == colour
    shown.click("input[value=picture]")
    assert np.allclose(colour_at(shown, 0.501, 0.501)[:3], (200, 30, 30), atol=6)
    shown.click("input[value=confidence]")
    sure = shown.value("JSON.parse(document.getElementById('map-data').textContent).ramp")
    assert colour_at(shown, 0.501, 0.501)[:3] == sure[look.confidence[row, col]]
    shown.value(
        "(() => { const o = document.getElementById('opacity'); o.value = 0; "
        "o.dispatchEvent(new Event('input')); })()"
    )
    assert np.allclose(colour_at(shown, 0.501, 0.501)[:3], (200, 30, 30), atol=6)
    shown.value(
        "(() => { const o = document.getElementById('opacity'); o.value = 100; "
        "o.dispatchEvent(new Event('input')); })()"
    )
    shown.click("input[value=classes]")
    other = (int(look.classes[row, col]) + 1) % 4
    shown.click(f".pick[data-value='{other}']")
    assert shown.value(f"document.querySelector(\".pick[data-value='{other}']\").ariaPressed") == (
        "true"
    )
    assert colour_at(shown, 0.501, 0.501)[:3] == [228, 232, 236]
    assert not shown.errors


@in_a_browser
def test_wheel_drag_and_keys_move_the_map(shown: Browser) -> None:
    box = shown.value(
        "(() => { const c = document.getElementById('canvas'); c.scrollIntoView(); "
        "const b = c.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; })()"
    )
    middle = box[0] + box[2] / 2, box[1] + box[3] / 2
    width = "parseFloat(document.getElementById('scale-bar').style.width) / parseFloat("
    width += "document.getElementById('scale-name').textContent)"
    before = shown.value(width)
    shown.mouse("mouseWheel", *middle, deltaX=0, deltaY=-800)
    after = shown.value(width)
    assert after != before
    shown.mouse("mouseMoved", *middle)
    told = shown.value("document.getElementById('here').textContent")
    shown.mouse("mousePressed", *middle, button="left", clickCount=1)
    shown.mouse("mouseMoved", middle[0] - 200, middle[1], button="left", buttons=1)
    shown.mouse("mouseReleased", middle[0] - 200, middle[1], button="left", clickCount=1)
    dragged = shown.value("document.getElementById('here').textContent")
    assert dragged == told  # what was taken hold of stays under the pointer
    shown.mouse("mouseMoved", *middle)
    assert shown.value("document.getElementById('here').textContent") != told
    shown.value("document.getElementById('canvas').focus()")
    shown.key("0")
    first = shown.value("document.getElementById('here').textContent")
    assert first.startswith(NAMES[made_look().classes[15, 20]])
    shown.key("+")
    shown.key("+")
    for _ in range(3):
        shown.key("ArrowRight")
    assert shown.value("document.getElementById('here').textContent") != first
    assert not shown.errors


@in_a_browser
def test_without_scripts_and_on_paper_the_sheet_stands_there(
    browser: Browser, made: Path, tmp_path: Path
) -> None:
    text = made.read_text(encoding="utf-8").replace("'use strict'", "'use Strict'")
    changed = tmp_path / "changed.html"  # a script that is not the page's own does not run
    changed.write_text(text, encoding="utf-8")
    browser.call("Page.navigate", url=changed.as_uri())
    browser.until("document.readyState === 'complete'")
    assert browser.value("document.body.dataset.viewer") is None
    assert browser.value("document.querySelector('.live').getBoundingClientRect().width") == 0
    widths = (
        "[...document.querySelectorAll('.still img')].map(i => i.getBoundingClientRect().width)"
    )
    scene, sheet = browser.value(widths)  # one above the other, both to be seen
    assert scene >= 40  # as wide as it has pixels
    assert sheet > 300


SWIPE = "document.getElementById('swipe')"
KNOB = (
    "(() => { document.getElementById('stage').scrollIntoView(); "
    "const k = document.querySelector('.knob').getBoundingClientRect(); "
    "const s = document.getElementById('stage').getBoundingClientRect(); "
    "return [k.x + k.width / 2, k.y + k.height / 2, s.x, s.width]; })()"
)
SCENE, SHARE = (200, 30, 30), f"Number({SWIPE}.ariaValueNow)"


def is_scene(browser: Browser, x: float) -> bool:
    """Whether the canvas shows the scene there, in the middle row."""
    return bool(np.allclose(colour_at(browser, x, 0.501)[:3], SCENE, atol=6))


@in_a_browser
def test_the_swipe_moves_by_mouse(shown: Browser) -> None:
    assert shown.value(SHARE) == 50
    assert is_scene(shown, 0.45)
    assert not is_scene(shown, 0.55)
    x, y, left, width = shown.value(KNOB)
    to = left + 0.6 * width
    shown.mouse("mousePressed", x, y, button="left", clickCount=1)
    shown.mouse("mouseMoved", to, y - 90, button="left", buttons=1)
    shown.mouse("mouseReleased", to, y - 90, button="left", clickCount=1)
    assert shown.value(SHARE) == 60
    assert is_scene(shown, 0.55)
    shown.mouse("mouseMoved", x, y)  # let go of, it stays
    assert shown.value(SHARE) == 60
    assert not shown.errors


@in_a_browser
def test_the_swipe_moves_by_touch(shown: Browser) -> None:
    x, y, left, width = shown.value(KNOB)
    for kind, share in (("touchStart", None), ("touchMove", 0.42), ("touchMove", 0.4)):
        at = [{"x": x if share is None else left + share * width, "y": y}]
        shown.call("Input.dispatchTouchEvent", type=kind, touchPoints=at)
    shown.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    assert shown.value(SHARE) == 40
    assert not is_scene(shown, 0.45)


@in_a_browser
def test_the_swipe_moves_by_keyboard_and_says_where_it_is(shown: Browser) -> None:
    shown.value(f"{SWIPE}.focus()")
    here = "document.getElementById('here').textContent"
    before = shown.value(here)
    for key, share in (
        ("ArrowLeft", 48),
        ("ArrowRight", 50),
        ("PageUp", 60),
        ("End", 100),
        ("ArrowRight", 100),
        ("Home", 0),
    ):
        shown.key(key)
        assert shown.value(SHARE) == share
        assert shown.value(f"{SWIPE}.ariaValueText") == f"scene on the left {share} %"
    assert not is_scene(shown, 0.45)
    assert shown.value(here) == before  # the map did not move
    assert shown.value(f"{SWIPE}.getAttribute('role')") == "slider"


@in_a_browser
def test_the_swipe_names_its_sides_and_rests_for_the_scene_alone(shown: Browser) -> None:
    sides = "[...document.querySelectorAll('.side')].map(s => s.textContent)"
    assert shown.value(sides) == ["Scene", "Classes"]
    shown.click("input[value=confidence]")
    assert shown.value(sides) == ["Scene", "Confidence"]
    shown.click("input[value=picture]")
    assert shown.value(f"{SWIPE}.getBoundingClientRect().width") == 0
    assert is_scene(shown, 0.55)


@in_a_browser
def test_a_map_of_a_scene_without_colours_has_no_swipe(browser: Browser, tmp_path: Path) -> None:
    look = made_look()
    facts = made_facts(look, NAMES)
    path = tmp_path / "map.html"
    path.write_text(map_html(look, facts, map_figure(look, facts)), encoding="utf-8")
    browser.open(path, "#bare")
    browser.until("document.body.dataset.viewer === 'ready'")
    assert browser.value(SWIPE) is None
    assert colour_at(browser, 0.45, 0.501)[3] == 255


def test_the_page_shows_the_tested_coverage_of_its_sets(tmp_path: Path) -> None:
    scores = [
        {"stated": stated, "covered": covered, "classes": 1.5, "single": 0.6, "labels": 268}
        for stated, covered in ((0.8, 0.817), (0.9, 0.907))
    ]
    look = made_look()
    facts = made_facts(look, metrics=METRICS | {"sets": scores})
    without = map_html(look, facts, b"\x89PNG")
    assert "Covered test labels" not in without
    tagged = replace(facts, tags=dict(facts.tags, GEOTL_SETS_COVERAGE="0.9"))
    text = Page(map_html(look, tagged, b"\x89PNG")).text
    assert "Stated coverage Covered test labels Classes in a set (mean) 80% 0.817 1.500" in text
    assert "stated coverage of 90%" in text
    assert re.search(r'<tr class="strong">\s*<th scope="row">90%', map_html(look, tagged, b"x"))


def test_the_headline_is_not_repeated_in_brackets(tmp_path: Path) -> None:
    text = Page(page(tmp_path).read_text()).text
    assert text.count("0.886 [0.845, 0.917]") == 1
    pixels = {"GEOTL_MEMBERS": "forest_bands 1.00"}
    look = made_look()
    facts = made_facts(look, metrics=METRICS | {"headline": "fused leads within chance: ..."})
    facts = replace(facts, tags=facts.tags | pixels)
    told = Page(map_html(look, facts, b"\x89PNG")).text
    assert "fused leads" not in told
    assert "not of this map: accuracy 0.886 [0.845, 0.917]" in told
