"""The page of `geotl label` in a real browser: labels by mouse and keys, and none lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import geopandas
import pytest
from affine import Affine
from helpers.browser import CHROMIUM
from helpers.label_page import (
    Pages,
    Served,
    add_classes,
    becomes,
    chromium,
    click_at,
    pixel_of,
    saved,
)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine: geotl label's page was not tried"
)
ACTIVE = "document.querySelector('#classes .active .name')?.textContent"
NASTY = '<img src=x onerror="window.hit=1">{{ 7 * 7 }}'


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("playwright", reason="playwright drives the page")
    with chromium() as opened:
        yield opened


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path / "project")
    yield one
    one.close()


@pytest.fixture
def pages(browser: Any, served: Served) -> Iterator[Pages]:
    opened = Pages(browser)
    yield opened
    opened.close()
    hosts = {urlsplit(url).netloc for url in opened.asked if not url.startswith("data:")}
    assert hosts <= {f"127.0.0.1:{served.port}"}
    assert not opened.faults


@pytest.fixture
def page(pages: Pages, served: Served) -> Any:
    return pages.open(served.url)


def in_file(served: Served) -> list[str]:
    """Classes of the labels in labels.gpkg; empty where there is none."""
    path = served.folder / "labels.gpkg"
    return list(geopandas.read_file(path)["class"]) if path.exists() else []


def until(condition: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def labels_of(page: Any) -> list[dict[str, Any]]:
    return page.evaluate("geotl.session.state.labels")


def said(page: Any, words: str) -> None:
    """Wait until the live region has said it."""
    becomes(page, "words => document.getElementById('status').textContent.includes(words)", words)


def test_a_click_is_a_label_of_the_active_class_in_the_file_within_a_second(
    page: Any, served: Served
) -> None:
    add_classes(page, "water", "wood")
    served.model.show()
    said(page, "the first map is shown")
    page.keyboard.press("2")
    click_at(page, 100.5, 200.5)
    saved(page, 1)
    begun = time.monotonic()
    until(lambda: in_file(served) == ["wood"])
    assert time.monotonic() - begun < 1.5  # a second, and the time to read it here
    (label,) = labels_of(page)
    assert label["geometry"]["type"] == "Point"
    assert label["geometry"]["coordinates"] == pytest.approx([100.5, 200.5], abs=1.0)
    said(page, "point 1: wood; map follows")


def test_undo_and_redo_by_keys_and_buttons(page: Any, served: Served) -> None:
    add_classes(page, "water")
    for place in (100, 200, 300):
        click_at(page, place, place)
    saved(page, 3)
    page.keyboard.press("Control+z")
    saved(page, 2)
    page.keyboard.press("u")
    saved(page, 1)
    page.keyboard.press("Control+Shift+Z")
    saved(page, 2)
    page.keyboard.press("Control+y")
    saved(page, 3)
    page.click("#undo")
    saved(page, 2)
    page.click("#redo")
    saved(page, 3)
    assert page.is_disabled("#redo")
    until(lambda: len(in_file(served)) == 3)


def test_a_reload_loses_nothing_and_keeps_the_pen(page: Any, served: Served) -> None:
    add_classes(page, "water")
    click_at(page, 100, 100)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    saved(page, 1)
    becomes(page, "geotl.session.writer === true")
    click_at(page, 200, 200)
    saved(page, 2)
    until(lambda: len(in_file(served)) == 2)
    assert len(served.project.snapshot().labels.labels) == 2


def test_an_added_class_is_the_active_one_and_stays_so_over_a_reload(page: Any) -> None:
    add_classes(page, "water")
    page.fill("#new-class", "wood  land")
    page.press("#new-class", "Enter")
    becomes(page, f"{ACTIVE} === 'wood land'")
    page.fill("#new-class", "reed")
    page.press("#new-class", "Enter")
    becomes(page, f"{ACTIVE} === 'reed'")
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("2")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert page.evaluate(ACTIVE) == "wood land"


def test_a_message_does_not_move_the_map_and_a_refusal_goes_at_the_next_success(
    page: Any, pages: Pages
) -> None:
    add_classes(page, "water")
    before = page.locator("#map").bounding_box()
    page.evaluate("geotl.session.change({op: 'delete', id: 99})")
    page.wait_for_selector("#error", state="visible")
    assert page.locator("#map").bounding_box() == before
    click_at(page, 100, 100)
    saved(page, 1)
    page.wait_for_selector("#error", state="hidden")
    pages.faults[:] = [one for one in pages.faults if "422" not in one]


def test_by_keys_alone_from_the_start_to_a_label_and_the_next_place(
    page: Any, served: Served
) -> None:
    places = [{"number": 1, "col": 400.5, "row": 300.5, "why": "typical"}]
    places += [{"number": 2, "col": 100.5, "row": 600.5, "why": "uncertain"}]
    served.events.publish("suggestions", places=places)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the map"
    page.evaluate("document.activeElement.blur()")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "new-class":
            break
    page.keyboard.type("water")
    page.keyboard.press("Enter")
    becomes(page, "geotl.session.state.classes.length === 1")
    for _ in range(60):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.id") == "map":
            break
    becomes(page, "geotl.learning.places.length === 2")
    page.keyboard.press("n")
    said(page, "place 1, column 400, row 300: typical")
    page.keyboard.press("Space")
    saved(page, 1)
    assert labels_of(page)[0]["geometry"]["coordinates"] == [400.5, 300.5]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    saved(page, 2)
    assert labels_of(page)[1]["geometry"]["coordinates"] == [432.5, 300.5]  # 64 screen pixels
    page.keyboard.press("n")
    said(page, "place 2")
    assert page.evaluate("geotl.map.middle") == [100.5, 600.5]
    assert page.evaluate("getComputedStyle(document.getElementById('cross')).display") == "block"


def test_keys_zoom_and_the_list_of_keys_opens(page: Any) -> None:
    page.focus("#map")
    before = page.evaluate("geotl.map.resolution")
    page.keyboard.press("+")
    assert page.evaluate("geotl.map.resolution") < before
    for _ in range(12):
        page.keyboard.press("+")
    assert page.evaluate("geotl.map.resolution") == 1 / 16  # 16 screen pixels to one
    page.keyboard.press("0")
    assert page.evaluate("geotl.map.resolution") == pytest.approx(before)
    page.keyboard.press("?")
    assert page.is_visible("#keys")
    page.keyboard.press("Escape")
    assert not page.is_visible("#keys")


def test_a_digit_typed_into_a_name_chooses_no_class(page: Any) -> None:
    add_classes(page, "water", "wood")
    page.focus("#new-class")
    page.keyboard.type("2nd growth")
    assert page.input_value("#new-class") == "2nd growth"
    assert page.is_checked("#classes li:first-child input[type=radio]")


def test_a_polygon_is_drawn_by_clicks_or_keys_and_left_by_escape(page: Any) -> None:
    add_classes(page, "water")
    page.click("[data-tool=polygon]")
    for place in ((100, 100), (200, 100), (200, 200)):
        click_at(page, *place)
        page.wait_for_timeout(300)  # or two clicks would be a double click
    page.keyboard.press("Escape")
    assert not page.is_visible("#drawing")
    for place in ((100, 100), (200, 100), (200, 200)):
        click_at(page, *place)
        page.wait_for_timeout(300)
    page.click("#end-polygon")
    saved(page, 1)
    assert labels_of(page)[0]["geometry"]["type"] == "Polygon"
    page.focus("#map")
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft"):
        page.keyboard.press("Space")
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    saved(page, 2)
    ring = labels_of(page)[1]["geometry"]["coordinates"][0]
    assert len(ring) == 4


def test_a_polygon_that_crosses_itself_stays_and_its_corners_are_taken_back(page: Any) -> None:
    add_classes(page, "water")
    click_at(page, 300, 300)
    saved(page, 1)
    page.click("[data-tool=polygon]")
    for place in ((100, 100), (200, 200), (200, 100), (100, 200)):
        click_at(page, *place)
        page.wait_for_timeout(300)  # or two clicks would be a double click
    page.click("#end-polygon")
    assert "Its sides cross" in page.inner_text("#error")
    assert page.is_visible("#drawing")
    page.keyboard.press("u")
    page.focus("#map")
    page.keyboard.press("Enter")
    saved(page, 2)  # of the three corners that are left
    assert len(labels_of(page)[1]["geometry"]["coordinates"][0]) == 4
    assert page.is_hidden("#error")
    click_at(page, 400, 400)
    page.click("#end-polygon")
    assert "needs three corners" in page.inner_text("#error")
    page.focus("#map")
    page.keyboard.press("Escape")
    assert page.is_hidden("#drawing")
    saved(page, 2)


def test_a_double_click_ends_a_polygon_and_sets_no_second_point(page: Any) -> None:
    add_classes(page, "water")
    page.click("[data-tool=polygon]")
    for place in ((500, 100), (600, 100)):
        click_at(page, *place)
        page.wait_for_timeout(300)
    page.mouse.dblclick(*pixel_of(page, 600, 200))
    saved(page, 1)
    assert len(labels_of(page)[0]["geometry"]["coordinates"][0]) == 4
    page.click("[data-tool=point]")
    page.mouse.dblclick(*pixel_of(page, 300, 300))
    saved(page, 2)
    page.wait_for_timeout(200)
    saved(page, 2)


def test_layers_are_shown_hidden_and_made_clearer(pages: Pages, page: Any, served: Served) -> None:
    served.model.show()
    becomes(page, f"{MIDDLE}?.[2] === 255")
    assert not any("/map/confidence/" in url for url in pages.asked)
    page.check("#layer-confidence")
    until_asked(page, pages, "/map/confidence/1/")
    page.fill("[aria-label='Opacity of classes in percent']", "100")
    becomes(page, f"{MIDDLE}[3] === 255")
    page.focus("#map")
    page.keyboard.press("h")
    assert not page.is_checked("#layer-confidence")
    assert not page.is_checked("#layer-classes")
    page.keyboard.press("h")
    assert page.is_checked("#layer-confidence")


def test_more_than_a_hundred_labels_are_dots_and_all_can_be_hidden(
    page: Any, served: Served
) -> None:
    add_classes(page, "water")
    places = "Array.from({length: 101}, (_, k) => [100 + 4 * k, 300])"
    point = "{op: 'add', class: 1, geometry: {type: 'Point', coordinates}}"
    page.evaluate(f"void geotl.session.change(...{places}.map(coordinates => ({point})))")
    saved(page, 101)
    assert page.is_visible("#computing")  # until a map of these labels is there
    assert page.evaluate("geotl.map.isCrowded")
    served.model.version = 1
    served.events.publish(
        "model", version=1, revision=2, stage="quick", members={"one_two": 1.0}, seconds=0.2
    )
    page.wait_for_selector("#computing", state="hidden")
    assert page.inner_text("#model-state") == "Quick map in 0.2 s. Methods: one two."
    page.keyboard.press("l")
    assert not page.is_checked("#layer-labels")
    assert page.evaluate("geotl.map.labels.getVisible()") is False
    page.check("#layer-labels")
    assert page.evaluate("geotl.map.labels.getVisible()") is True


def test_the_place_is_read_in_the_scenes_reference_system_at_the_cross_too(
    page: Any, served: Served
) -> None:
    x, y = Affine(*served.scene.grid.transform) @ (400.5, 300.5)
    places = [{"number": 1, "col": 400.5, "row": 300.5, "why": "typical"}]
    served.events.publish("suggestions", places=places)
    becomes(page, "geotl.learning.places.length === 1")
    page.keyboard.press("n")
    becomes(page, "document.getElementById('here').textContent.includes('column 400, row 300')")
    assert page.inner_text("#here").endswith(f"easting {x:.0f}, northing {y:.0f}")


def test_a_selected_label_is_moved_reclassed_and_deleted(page: Any) -> None:
    add_classes(page, "water", "wood")
    click_at(page, 300, 300)
    saved(page, 1)
    page.click("[data-tool=select]")
    click_at(page, 300, 300)
    assert page.inner_text("#selected-name") == "point 1: water"
    page.keyboard.press("2")
    becomes(page, "geotl.session.state.labels[0].class === 2")
    start, end = pixel_of(page, 300, 300), pixel_of(page, 360, 330)
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=6)
    page.mouse.up()
    becomes(page, "geotl.session.state.labels[0].geometry.coordinates[0] > 350")
    moved = labels_of(page)[0]["geometry"]["coordinates"]
    assert moved == pytest.approx([360, 330], abs=2)
    page.focus("#map")
    page.keyboard.press("Alt+ArrowLeft")
    becomes(page, f"geotl.session.state.labels[0].geometry.coordinates[0] < {moved[0]}")
    page.keyboard.press("Delete")
    saved(page, 0)


def test_classes_are_renamed_recoloured_merged_and_deleted(page: Any) -> None:
    add_classes(page, "water", "wood", "reed")
    click_at(page, 100, 100)
    saved(page, 1)
    page.click("[aria-label='Edit water']")
    page.fill(".edit input[type=text]", "lake")
    page.fill(".edit input[type=color]", "#123456")
    page.click(".edit >> text=Save")
    becomes(page, "geotl.session.state.classes[0].colour === '#123456'")
    page.click("[aria-label='Edit reed']")
    page.click(".edit >> text=Delete class")
    becomes(page, "geotl.session.state.classes.length === 2")
    page.click("[aria-label='Edit lake']")
    assert page.is_disabled(".edit >> text=/^Merge$/")  # until a class is chosen
    page.select_option(".edit select", label="wood")
    page.click(".edit >> text=/^Merge$/")
    becomes(page, "geotl.session.state.classes.length === 1")
    assert page.inner_text("#classes .name") == "wood"
    assert page.inner_text("#classes .count") == "1 label"


def test_a_refused_name_stays_in_its_form_with_the_reason(page: Any, pages: Pages) -> None:
    add_classes(page, "water", "wood")
    page.click("[aria-label='Edit water']")
    page.fill(".edit input[type=text]", "Wood")
    page.keyboard.press("Enter")
    becomes(page, "document.querySelector('.edit .fault')?.textContent.includes('there already')")
    page.keyboard.type("2p")
    assert page.input_value(".edit input[type=text]") == "Wood2p"
    assert page.evaluate(ACTIVE) == "water"
    page.keyboard.press("Enter")
    becomes(page, "geotl.session.state.classes[0].name === 'Wood2p'")
    page.wait_for_selector(".edit", state="detached")
    pages.faults[:] = [one for one in pages.faults if "422" not in one]


def test_undo_names_what_was_undone_and_a_tenth_class_has_no_key(page: Any) -> None:
    add_classes(page, *"abcdefghij")
    assert page.locator("#classes kbd").all_inner_texts() == list("123456789")
    click_at(page, 100, 100)
    saved(page, 1)
    page.keyboard.press("u")
    said(page, "undone: point at column ")
    said(page, "(a) removed")


def test_a_class_name_of_html_is_shown_as_text(page: Any) -> None:
    add_classes(page, NASTY)
    click_at(page, 100, 100)
    saved(page, 1)
    page.click("#labels-list summary")
    page.click(f"[aria-label='Edit {NASTY}']")
    assert page.inner_text("#classes .name") == NASTY
    assert page.evaluate("document.querySelectorAll('main img').length") == 0
    assert page.evaluate("window.hit") is None


def test_a_second_tab_watches_until_it_takes_over(pages: Pages, served: Served) -> None:
    first = pages.open(served.url)
    add_classes(first, "water")
    second = pages.open(served.url)
    assert second.is_visible("#watching")
    click_at(second, 100, 100)
    assert "Another tab labels this project" in second.inner_text("#error")
    second.click("#close-error")
    click_at(first, 200, 200)
    saved(second, 1)  # it follows
    second.click("#take")
    becomes(second, "geotl.session.writer === true")
    becomes(first, "geotl.session.writer === false")
    assert first.is_visible("#watching")
    click_at(second, 300, 300)
    saved(second, 2)
    saved(first, 2)
    second.close()
    becomes(first, "geotl.session.writer === true")
    assert not first.is_visible("#watching")


def test_a_change_of_old_labels_is_made_on_the_newest(
    page: Any, pages: Pages, served: Served
) -> None:
    add_classes(page, "water")
    page.route("**/events*", lambda route: route.abort())  # hears of nothing
    snapshot = served.project.snapshot()
    served.project.change([{"op": "add_class", "name": "wood"}], snapshot.labels.revision)
    click_at(page, 100, 100)
    saved(page, 1)
    assert page.locator("#classes li").count() == 2
    pages.faults[:] = [one for one in pages.faults if "409" not in one]


def test_a_change_made_while_the_server_is_gone_is_sent_when_it_is_back(
    pages: Pages, served: Served
) -> None:
    page = pages.open(served.url)
    add_classes(page, "water")
    served.close()
    page.wait_for_selector("#offline", state="visible")
    click_at(page, 100, 100)
    click_at(page, 200, 200)
    becomes(page, "geotl.session.queue.length === 2")
    assert "2 changes are kept" in page.inner_text("#offline")
    assert "point at column" in page.inner_text("#offline")
    becomes(page, "document.getElementById('offline').textContent.includes('its new address')")
    assert "2 changes are kept in this tab alone and not saved there" in page.inner_text("#offline")
    again = Served(served.folder, served.port)
    try:
        saved(page, 2)
        page.wait_for_selector("#offline", state="hidden")
        until(lambda: len(in_file(again)) == 2)
    finally:
        pages.close()
        again.close()
    expected = (
        "net::ERR_",
        "500",
        "409",
    )  # on 409 the page reads the newest labels and sends again
    pages.faults[:] = [one for one in pages.faults if not any(e in one for e in expected)]


def test_a_change_that_cannot_be_made_is_reported(page: Any, pages: Pages) -> None:
    add_classes(page, "water")
    page.evaluate("geotl.session.change({op: 'delete', id: 99})")
    page.wait_for_selector("#error", state="visible")
    assert "The label was not deleted: no label 99" in page.inner_text("#error")
    click_at(page, 100, 100)
    saved(page, 1)
    pages.faults[:] = [one for one in pages.faults if "422" not in one]


def test_a_new_map_replaces_the_old_without_a_gap(page: Any, served: Served) -> None:
    """Until the new tiles are there, the old ones are shown."""
    served.model.show()
    becomes(page, f"{MIDDLE}?.[2] === 255")
    served.model.drawing.clear()
    served.model.show()
    becomes(page, "geotl.learning.version === 2")
    page.wait_for_timeout(500)
    red, _, blue, opacity = page.evaluate(MIDDLE)
    assert (red, blue) == (0, 255)
    assert opacity > 0
    served.model.drawing.set()
    becomes(page, f"{MIDDLE}[0] === 255 && {MIDDLE}[2] === 0")


def test_the_map_goes_when_labels_no_longer_allow_one(page: Any, served: Served) -> None:
    served.model.show()
    becomes(page, "document.getElementById('model-state').textContent.includes('Quick')")
    served.events.publish("waiting", message="2 classes with a label each are needed")
    becomes(page, "document.getElementById('model-state').textContent.includes('needed')")


def test_accuracy_curve_doubts_and_places_are_shown(page: Any, served: Served) -> None:
    add_classes(page, "water", "wood")
    click_at(page, 100.5, 100.5)
    saved(page, 1)
    share = {"value": 0.82, "low": 0.74, "high": 0.9}
    publish = served.events.publish
    publish(
        "accuracy",
        revision=1,
        blocked=share,
        random={**share, "value": 0.88},
        classes={"water": {"recall": 0.8, "precision": None, "labels": 3}},
        labels=12,
        blocks=4,
        stage="full",
    )
    points = [{"labels": n, "value": n / 40, "low": n / 50, "high": n / 30} for n in (10, 20, 30)]
    publish("curve", points=points)
    publish("doubts", labels=[{"id": 1, "looks_like": "wood", "probability": 0.91}])
    page.wait_for_selector("#doubts li")
    words = page.inner_text("#accuracy-words")
    assert words.startswith(
        "82 % [74, 90: 95 % interval] of places correct by all members, blocked"
    )
    assert "88 % [74, 90] if test places may lie beside training ones" in words
    assert "From 12 labels in 4 blocks" in words
    assert page.locator("#accuracy-classes td").all_inner_texts() == ["3", "80 %", "–"]
    assert page.inner_text("#curve-words") == (
        "Blocked accuracy from 25 % at 10 labels to 75 % at 30 labels."
    )
    assert "point 1: water column 100, row 100; looks like wood (91 %)" in " ".join(
        page.inner_text("#doubts li").split()
    )
    page.mouse.move(*pixel_of(page, 100.5, 100.5))
    assert "looks like wood (91 %)" in page.inner_text("#tip")


def test_the_model_is_asked_at_a_place(page: Any) -> None:
    page.click("[data-tool=select]")
    click_at(page, 400, 400)
    page.wait_for_selector("#tip", state="visible")
    assert "water 70 %, wood 30 %; like the labelled places" in page.inner_text("#tip")


def until_asked(page: Any, pages: Pages, part: str) -> None:
    end = time.monotonic() + 10
    while not any(part in url for url in pages.asked):
        assert time.monotonic() < end, part
        page.wait_for_timeout(20)


def test_bands_and_contrast_ask_for_other_tiles(pages: Pages, page: Any) -> None:
    assert any("/scene/2-1-0/" in url for url in pages.asked)
    page.select_option("#colours", "False colour")
    until_asked(page, pages, "/scene/6-2-1/")
    page.select_option("[data-band='0']", label="B11")
    until_asked(page, pages, "/scene/8-2-1/")
    assert page.input_value("#colours") == "Three bands"
    page.fill("#contrast", "5")
    until_asked(page, pages, "cut=5")


def test_labels_are_imported_from_a_file(page: Any, served: Served, tmp_path: Path) -> None:
    path = tmp_path / "more.csv"
    grid = served.scene.grid
    x, y = Affine(*grid.transform) @ (100.5, 200.5)
    path.write_text(f"x,y,crs,cover\n{x},{y},{grid.crs},water\n{x},{y},{grid.crs},\n")
    page.click("summary >> text=Import")
    page.set_input_files("#import-file", path)
    page.fill("#import-field", "cover")
    page.click("#import button")
    saved(page, 1)
    page.wait_for_selector("#import-result li")
    assert "1 label imported from more.csv." in page.inner_text("#import-result")
    assert page.locator("#import-result li").count() >= 2  # and the reason of the one rejected


def test_finishing_leads_to_the_map(page: Any) -> None:
    page.click("#finish")
    page.wait_for_selector("#finish-files a")
    assert page.get_attribute("#finish-files a", "href") == "files/map.html"
    assert page.inner_text("#finish-state").startswith("Finished")


def test_finishing_shows_how_far_it_is_and_is_cancelled_by_keys(page: Any, served: Served) -> None:
    served.finishing.clear()  # it waits in the midst
    page.focus("#finish")
    page.keyboard.press("Enter")
    bar = "document.getElementById('finish-bar')"
    becomes(page, f"{bar}.value === 0.25")
    assert page.inner_text("#finish-step") == (
        "Step 1 of 2: training and testing the model, 25 % of all"
    )
    assert page.inner_text("#finish-state") == "fitting folds 2/5, 3 s"
    said(page, "Step 1 of 2: training and testing the model")
    assert page.is_disabled("#finish")
    names = page.locator("#finish-part").aria_snapshot()
    assert "progressbar" in names
    assert 'button "Cancel finishing"' in names
    page.keyboard.press("Tab")  # from the part, which has the focus
    assert page.evaluate("document.activeElement.id") == "cancel-finish"
    page.keyboard.press("Enter")
    said(page, "Cancelled.")
    assert page.is_hidden("#finish-progress")
    assert page.evaluate("document.activeElement.id") == "finish-part"
    assert page.is_enabled("#finish")
    assert not page.locator("#finish-files li").count()
    served.finishing.set()
    page.click("#finish")
    page.wait_for_selector("#finish-files a")


CONTROLS = "button, input, select, textarea, summary, a[href], [tabindex], [role]"
UNNAMED = """elements => elements.filter(e => e.checkVisibility()).filter(e => {
  const texts = (e.getAttribute('aria-labelledby') ?? '').split(' ').filter(Boolean)
    .map(id => document.getElementById(id)?.textContent ?? '');
  const labels = [...(e.labels ?? [])].map(label => label.textContent);
  const own = ['BUTTON', 'A', 'SUMMARY'].includes(e.tagName) ? e.textContent : '';
  return ![e.getAttribute('aria-label') ?? '', ...texts, ...labels, own].join('').trim();
}).map(e => e.outerHTML.slice(0, 120))"""
MIDDLE = """(() => {
  const canvas = document.querySelector('.layer-classes canvas, canvas.layer-classes');
  const context = canvas?.getContext('2d');
  return context && [...context.getImageData(canvas.width >> 1, canvas.height >> 1, 1, 1).data];
})()"""


def test_every_control_has_a_name(page: Any, served: Served) -> None:
    add_classes(page, "water", "wood")
    served.events.publish(
        "suggestions", places=[{"number": 1, "col": 9, "row": 9, "why": "typical"}]
    )
    served.events.publish("progress", what="features of the scene", done=1, total=3)
    page.wait_for_selector("#places li")
    page.click("[aria-label='Edit water']")
    page.click("summary >> text=Import")
    regions = "[role=status], [role=alert], output, [role=group]"
    unnamed = page.locator(f":is({CONTROLS}):not({regions})").evaluate_all(UNNAMED)
    assert not unnamed
    tree = page.locator("body").aria_snapshot()
    for line in tree.splitlines():
        kind = line.strip().lstrip("- ")
        assert kind not in {"button", "textbox", "combobox", "checkbox", "radio", "slider", "link"}
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_on_400_pixels_the_map_has_half_the_height_and_nothing_sticks_out(
    pages: Pages, served: Served
) -> None:
    page = pages.open(served.url, 400, 800, has_touch=True)
    add_classes(page, "water", "a very long name of a class that does not end")
    box = page.locator("#map").bounding_box()
    assert box["height"] >= 400
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    panel = page.evaluate("(p => [p.scrollWidth, p.clientWidth])(document.getElementById('panel'))")
    assert panel[0] <= panel[1]
    wide = page.locator("button:visible, select:visible, input:visible").evaluate_all(
        "els => els.filter(e => e.getBoundingClientRect().right > 401).map(e => e.outerHTML)"
    )
    assert not wide
    page.touchscreen.tap(*pixel_of(page, 300, 300))
    saved(page, 1)
    page.locator("#scene-title").scroll_into_view_if_needed()
    assert page.is_visible("#colours")


OUTLINE = """(() => {
  const style = getComputedStyle(document.activeElement);
  return document.activeElement === document.body
    || (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2)
    || document.activeElement.outerHTML;
})()"""


def test_focus_is_always_visible(page: Any) -> None:
    """Every stop of the Tab key has an outline."""
    add_classes(page, "water")
    for _ in range(25):
        page.keyboard.press("Tab")
        assert page.evaluate(OUTLINE) is True


def test_a_server_that_was_started_again_elsewhere_is_named_and_nothing_is_dropped(
    pages: Pages, served: Served
) -> None:
    """The port answers, but not to this address: changes stay listed, and the page says why."""
    page = pages.open(served.url)
    add_classes(page, "water")
    served.close()
    page.wait_for_selector("#offline", state="visible")
    click_at(page, 100.5, 100.5)
    again = Served(served.folder, served.port, token="another")
    try:
        becomes(page, "geotl.session.gone")
        words = page.inner_text("#offline")
        assert "Open the address that it prints" in words
        assert "Not saved: point at column 100, row 100: water" in words
        assert page.evaluate("geotl.session.queue.length") == 1
    finally:
        pages.close()
        again.close()
    pages.faults[:] = [one for one in pages.faults if "net::ERR_" not in one and "404" not in one]
