"""The routes of the page: state, changes, import, pictures, finishing, two tabs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.full_disk import full_disk
from helpers.label_sessions import GRID, PICTURE, POINT, SQUARE, Page, served

from geotl.labelling.own_commands import OwnCommands, StoppedError

ADD = {"op": "add", "class": 1, "geometry": POINT}
COLLECTION = {
    "type": "FeatureCollection",
    "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}},
    "features": [
        {
            "type": "Feature",
            "properties": {"class": "reed"},
            "geometry": {"type": "Point", "coordinates": [500015, 4599985]},
        },
        {
            "type": "Feature",
            "properties": {"class": "reed"},
            "geometry": {"type": "Point", "coordinates": [0, 0]},
        },
    ],
}


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with served(tmp_path / "project") as one:
        yield one


def state(page: Page) -> dict[str, Any]:
    answer = page.client.get("state")
    assert answer.status_code == 200
    return answer.json()


def awaited(page: Page, kind: str, **values: object) -> dict[str, Any]:
    """The last event of a kind, as soon as it has these values."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        event = page.events.last().get(kind)
        if event is not None and values.items() <= event.items():
            return dict(event)
        time.sleep(0.01)
    raise AssertionError(page.events.last())


def test_the_state_is_what_was_placed(page: Page) -> None:
    answer = page.change(ADD, {"op": "add", "class": 2, "geometry": SQUARE})
    there = state(page)
    assert there["scene"]["width"] == GRID.width
    assert there["mode"] == "label"
    assert there["project"] == "project"
    assert there["last"]["labels"] == {"kind": "labels", "revision": 2}
    assert answer == {key: there[key] for key in answer}
    assert there.keys() - answer.keys() == {"scene", "last"}
    assert there["labels"] == [
        {"id": 1, "class": 1, "geometry": POINT},
        {"id": 2, "class": 2, "geometry": SQUARE},
    ]
    assert [c["name"] for c in there["classes"]] == ["water", "forest"]
    assert (there["undo"], there["redo"]) == (True, False)


def test_undo_and_redo_answer_the_new_state(page: Page) -> None:
    page.change(ADD)
    undone = page.step("undo")
    assert (undone["labels"], undone["redo"]) == ([], True)
    assert len(page.step("redo")["labels"]) == 1
    page.step("undo")
    page.step("undo")
    answer = page.post("undo", revision=page.revision)
    assert answer.status_code == 422
    assert answer.json() == {"detail": "there is nothing to undo"}


def test_the_model_is_given_every_new_state(page: Page) -> None:
    page.change(ADD)
    page.step("undo")
    assert [one.revision for one in page.model.given] == [0, 1, 2, 3]
    assert [len(one.labels) for one in page.model.given] == [0, 0, 1, 0]


def test_changes_that_cannot_be_made_say_why(page: Page) -> None:
    wrong = {"op": "move", "id": 7, "geometry": POINT}
    answer = page.post("changes", revision=page.revision, changes=[ADD, wrong])
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("no label 7")
    assert state(page)["labels"] == []


@pytest.mark.parametrize("path", ["changes", "undo", "redo"])
def test_a_tab_with_an_old_state_changes_nothing(page: Page, path: str) -> None:
    page.change(ADD)
    for revision, status in [(page.revision - 1, 409), ("2", 422), (None, 422), (2.0, 422)]:
        answer = page.post(path, revision=revision, changes=[ADD])
        assert answer.status_code == status
        assert [*answer.json()] == ["detail"]
    assert len(state(page)["labels"]) == 1


def test_the_second_tab_reads_until_it_takes_the_pen(page: Page) -> None:
    other = Page(page.client, page.project, page.model, page.events, "other", page.revision)
    assert other.post("hello").json() == {"writer": False}
    for path in ("changes", "undo", "redo", "finish"):
        answer = other.post(path, revision=page.revision, changes=[ADD])
        assert answer.status_code == 409
        assert "take over" in answer.json()["detail"]
    assert other.bring(b"").status_code == 409
    assert other.post("take").json() == {"writer": True}
    assert page.events.last()["pen"]["client"] == "other"
    other.change(ADD)
    assert page.post("changes", revision=other.revision, changes=[ADD]).status_code == 409
    assert page.post("hello").json() == {"writer": False}


def test_a_tab_that_takes_the_pen_late_must_look_first(page: Page) -> None:
    """Its state is old: a change on it is refused, and the first tab's label stays."""
    other = Page(page.client, page.project, page.model, page.events, "other", page.revision)
    page.change(ADD)
    other.post("take")
    old = other.post("changes", revision=other.revision, changes=[{"op": "delete_class", "id": 1}])
    assert old.status_code == 409
    other.revision = state(page)["revision"]
    assert len(other.change(ADD)["labels"]) == 2


def test_a_file_is_imported_and_what_was_not_taken_is_listed(page: Page) -> None:
    answer = page.bring(json.dumps(COLLECTION).encode(), name="my fields.geojson").json()
    assert answer["added"] == 1
    assert answer["rejected"] == ["feature 1: outside the scene"]
    assert answer["state"]["labels"][0]["geometry"]["coordinates"] == [1.5, 1.5]
    assert answer["state"]["classes"][2]["name"] == "reed"
    page.revision = answer["state"]["revision"]
    assert not page.step("undo")["labels"]


@pytest.mark.parametrize(
    ("content", "query", "reason"),
    [
        (b"no GeoPackage", {"name": "a.gpkg"}, "a.gpkg: cannot be read"),
        (b"", {"name": "a.geojson"}, "a.geojson: cannot be read"),
        (b"x,y\n1,2\n", {"name": "a.csv"}, "a.csv: no field 'class'"),
        (b"x,y,class\n1,2,a\n3,4,b\n", {"name": "a.csv", "field": "kind"}, "no field 'kind'"),
        (b"<VRT>", {"name": "a.vrt"}, "'a.vrt': allowed"),
        (b"", {"name": "../../etc/passwd"}, "allowed: files ending"),
        (b"", {"name": "a" * 201}, "name:"),
        (b"", {"revision": "x"}, "revision:"),
        (b"", {"client": "<a>"}, "no client"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(
    page: Page, content: bytes, query: dict[str, str], reason: str
) -> None:
    before = {path.name for path in page.project.folder.iterdir()}
    answer = page.bring(content, **query)
    assert answer.status_code in (409, 422)
    detail = answer.json()["detail"]
    assert reason in detail
    assert "\n" not in detail
    assert "geotl-part" not in detail  # the name that the user gave, not the temporary one
    assert {path.name for path in page.project.folder.iterdir()} == before


def test_an_imported_file_is_not_kept(page: Page) -> None:
    page.bring(json.dumps(COLLECTION).encode(), name="a.json")
    page.project.flush()
    names = {path.name for path in page.project.folder.iterdir()}
    assert names == {"labels.gpkg", "classes.json", "history.jsonl"}


def test_a_full_disk_is_one_line_and_the_state_stays(page: Page) -> None:
    page.change(ADD)
    size = (page.project.folder / "history.jsonl").stat().st_size
    with full_disk(size + 10):
        answer = page.post("changes", revision=page.revision, changes=[ADD])
    assert answer.status_code == 507
    assert "free some space" in answer.json()["detail"]
    assert len(state(page)["labels"]) == 1
    assert len(page.change(ADD)["labels"]) == 2


def test_pictures_of_the_scene_come_by_bands_and_place(page: Page) -> None:
    answer = page.client.get("scene/2-1-0/1/0/0.png?cut=1.5")
    assert answer.content == PICTURE + b" [2, 1, 0] 1 0 0 1.5"
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["cache-control"] == "private, max-age=86400, immutable"


@pytest.mark.parametrize(
    "path",
    [
        "scene/2-1-4/1/0/0.png",
        "scene/2-1/1/0/0.png",
        "scene/2-1-0/3/0/0.png",
        "scene/2-1-0/0/0/0.png",
        "scene/2-1-0/1/1/0.png",
        "scene/2-1-0/1/-1/0.png",
        "scene/2-1-0/99999999999999999999/0/0.png",
        "scene/2-1-0/1/0/x.png",
        "scene/2-1-0/1/0/0.png?cut=nan",
        "scene/2-1-0/1/0/0.png?cut=50",
        "map/classes/1/1/0/0.png",
        "map/other/1/1/0/0.png",
        "at?col=64&row=0",
        "at?col=nan&row=0",
        "at?col=1",
        "events",
        "events?client=a%20b",
        "nothing",
        "files/report.html",
        "assets/label.py",
    ],
)
def test_what_is_not_there_is_one_line(page: Page, path: str) -> None:
    answer = page.client.get(path)
    assert answer.status_code in (404, 422)
    assert [*answer.json()] == ["detail"]


def test_the_map_comes_with_the_first_model(page: Page) -> None:
    page.change(ADD)
    assert page.client.get("map/classes/1/1/0/0.png").content == PICTURE


def test_values_at_a_place_are_json(page: Page) -> None:
    """nan, which JSON does not know, is null."""
    there = page.client.get("at?col=3&row=4.5").json()
    assert there == {"probabilities": {}, "applicability": None, "values": [3.0, 4.5]}


def test_the_page_escapes_the_name_of_the_project(tmp_path: Path) -> None:
    with served(tmp_path / "<b>&'") as page:
        answer = page.client.get("")
        assert answer.headers["content-type"].startswith("text/html")
        assert "<b>&'" not in answer.text
        assert "&lt;b&gt;&amp;" in answer.text


def test_a_finished_project_offers_its_report_alone(page: Page) -> None:
    (page.project.folder / "run").mkdir()
    (page.project.folder / "map.tif").write_bytes(b"x")
    assert page.post("finish").status_code == 202
    done = awaited(page, "finish", state="done")
    assert done["files"] == ["report.html"]
    report = page.client.get("files/report.html")
    assert "<title>report</title>" in report.text
    assert "sandbox" in report.headers["content-security-policy"]
    assert page.client.get("files/map.tif").status_code == 404


@pytest.mark.parametrize("mode", ["label", "sample"])
def test_the_end_states_the_accuracy(page: Page, mode: str) -> None:
    page.project.mode = mode  # type: ignore[misc]
    (page.project.folder / "run").mkdir()
    page.post("finish")
    assert awaited(page, "finish", state="done")["line"] == "accuracy 80 %"
    assert state(page)["mode"] == mode


def test_a_finish_that_fails_says_why_in_one_line(page: Page) -> None:
    page.post("finish")
    assert awaited(page, "finish", state="failed")["line"] == "no folder run;; make one"
    page.post("finish")
    awaited(page, "finish", state="failed")


def test_a_project_is_finished_once_at_a_time(page: Page, monkeypatch: Any) -> None:
    (page.project.folder / "run").mkdir()
    hold = page.project.flush
    monkeypatch.setattr(page.project, "flush", lambda: (time.sleep(0.3), hold()))
    assert page.post("finish").status_code == 202
    assert page.post("finish").status_code == 409
    awaited(page, "finish", state="done")


def test_an_attempt_is_cancelled_by_the_tab_with_the_pen_and_goes_on_later(tmp_path: Path) -> None:
    begun, ended = threading.Event(), threading.Event()

    def finish(folder: Path, publish: Any, commands: OwnCommands) -> list[str]:
        begun.set()
        while not commands.is_closed:
            time.sleep(0.01)
        ended.set()
        raise StoppedError("ended")

    with served(tmp_path / "p", finish) as page:
        assert page.post("finish/cancel").status_code == 409  # nothing is under way
        assert page.post("finish").status_code == 202
        assert begun.wait(10)
        assert page.client.post("finish/cancel", json={"client": "other"}).status_code == 409
        assert not ended.is_set()
        assert page.post("finish/cancel").status_code == 202
        assert awaited(page, "finish", state="cancelled")["files"] == []
        begun.clear()
        while page.post("finish").status_code == 409:  # it has published its end, and ends now
            time.sleep(0.01)
        assert begun.wait(10)
        page.post("finish/cancel")


def test_a_project_goes_on_in_another_session(tmp_path: Path) -> None:
    with served(tmp_path / "p") as page:
        before = page.change(ADD, {"op": "add", "class": 2, "geometry": SQUARE})
    with served(tmp_path / "p") as page:
        after = state(page)
        assert {key: after[key] for key in before} == before
        assert len(page.step("undo")["labels"]) == 0
