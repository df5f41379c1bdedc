"""Changes of labels: what each does, what cannot be, and that undoing leads back."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from helpers.label_sessions import POINT, SQUARE
from hypothesis import given
from hypothesis import strategies as st

from geotl.errors import DataError
from geotl.labelling.changes import (
    MAX_CLASSES,
    Draft,
    applied,
    changed,
    difference,
    draft_of,
    edit_from_json,
    edit_to_json,
)
from geotl.labelling.history import ChangeHistory, entry_from_json, history_of
from geotl.labelling.label_set import LabelSet

EMPTY = draft_of(LabelSet(), 0, 0)
CLASSES = ({"op": "add_class", "name": "water"}, {"op": "add_class", "name": "wood"})


def after(*changes: dict[str, Any], start: Draft | None = None) -> Draft:
    begun = changed(EMPTY, [*CLASSES], 64, 48) if start is None else start
    return changed(begun, [*changes], 64, 48) if changes else begun


def point(x: object, y: object, class_: int = 1) -> dict[str, Any]:
    return {"op": "add", "class": class_, "geometry": {"type": "Point", "coordinates": [x, y]}}


def polygon(*corners: tuple[float, float]) -> dict[str, Any]:
    ring = [[x, y] for x, y in (*corners, corners[0])]
    return {"op": "add", "class": 1, "geometry": {"type": "Polygon", "coordinates": [ring]}}


def test_classes_get_colours_by_meaning_unless_one_is_given() -> None:
    draft = after({"op": "add_class", "name": "reed", "colour": "#ABCDEF"})
    assert [c.colour for c in draft.classes.values()] == ["#1f6fc4", "#1b6b2f", "#abcdef"]


def test_many_classes_have_colours_that_differ() -> None:
    many = [{"op": "add_class", "name": f"lake {i}"} for i in range(MAX_CLASSES - 2)]
    assert len(set(after(*many).colours)) == MAX_CLASSES
    with pytest.raises(DataError, match="at most"):
        after(*many, {"op": "add_class", "name": "one more"})


def test_labels_are_placed_moved_given_another_class_and_deleted() -> None:
    draft = after({"op": "add", "class": 1, "geometry": POINT}, point(1, 1), point(2, 2))
    moved = {"op": "move", "id": 1, "geometry": SQUARE}
    draft = after(moved, {"op": "reclass", "id": 2, "class": 2}, start=draft)
    draft = after({"op": "delete", "id": 3}, point(7, 7), start=draft)
    assert [(one.id, one.class_id) for one in draft.labels.values()] == [(1, 1), (2, 2), (4, 1)]
    assert draft.labels[1].geometry.area == 16


def test_a_merged_class_leaves_its_labels_to_the_other() -> None:
    draft = after(point(1, 1), point(2, 2, 2), {"op": "merge_class", "id": 2, "into": 1})
    assert {one.class_id for one in draft.labels.values()} == {1}
    assert [*draft.classes] == [1]
    new = after({"op": "add_class", "name": "wood"}, start=draft)
    assert [*new.classes] == [1, 3]  # no id is given twice


def test_a_polygon_is_cut_at_the_scenes_edge() -> None:
    draft = after(polygon((-5, -5), (10, -5), (10, 10), (-5, 10)))
    assert draft.labels[1].geometry.bounds == (0, 0, 10, 10)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (point(64, 2), "outside"),
        (point(-0.1, 2), "outside"),
        (point(math.nan, 2), "finite"),
        (point(math.inf, 2), "finite"),
        (point(1e300, 2), "finite"),
        (point(10**400, 2), "finite"),
        (point(True, 2), "finite"),
        (point("1", 2), "finite"),
        (point([1], 2), "finite"),
        ({"op": "add", "class": 1, "geometry": None}, "allowed: Point, Polygon"),
        ({"op": "add", "class": 1, "geometry": {"type": "Point"}}, "two numbers"),
        ({"op": "add", "class": 1, "geometry": {"type": "LineString"}}, "allowed: Point"),
        ({"op": "add", "class": 1, "geometry": {"type": ["Point"]}}, "allowed: Point"),
        ({"op": "add", "class": 1, "geometry": {"type": "Polygon", "coordinates": [1]}}, "corners"),
        ({"op": "add", "class": 1, "geometry": {"type": "Polygon", "coordinates": []}}, "corners"),
        (polygon((1, 1), (5, 5)), "corners"),
        (polygon((1, 1), (5, 5), (5, 1), (1, 5)), "crosses itself"),
        (polygon((1, 1), (5, 5), (3, 3)), "crosses itself"),
        (polygon((100, 1), (105, 5), (103, 9)), "outside"),
        (polygon((-9, 1), (9, 1), (9, 9), (-9, 9), (-9, 8), (8, 8), (8, -1), (-9, -1)), "itself"),
        (polygon((60, 1), (70, 1), (70, 9), (60, 9), (60, 8), (69, 8), (69, 2), (60, 2)), "parts"),
        (polygon(*((x, 1 + x % 2) for x in range(10_001))), "more than"),
        ({"op": "add", "class": 3, "geometry": POINT}, "no class 3"),
        ({"op": "add", "class": True, "geometry": POINT}, "no class True"),
        ({"op": "add", "class": [1], "geometry": POINT}, "no class"),
        ({"op": "move", "id": 1, "geometry": POINT}, "no label 1"),
        ({"op": "delete", "id": "1"}, "no label 1"),
        ({"op": "delete", "id": {"x": 1}}, "no label"),
        ({"op": "destroy"}, "allowed: add, move"),
        ({"op": ["add"]}, "allowed: add, move"),
        ({}, "allowed: add, move"),
        ({"op": "add_class", "name": "Water"}, "there already"),
        ({"op": "add_class", "name": " \u00a0 "}, "without a name"),
        ({"op": "add_class", "name": None}, "without a name"),
        ({"op": "add_class", "name": 7}, "without a name"),
        ({"op": "add_class", "name": "x" * 61}, "more than 60"),
        ({"op": "add_class", "name": "x" * 900_000}, "more than 60"),
        ({"op": "add_class", "name": "a\x00b"}, "not shown"),
        ({"op": "add_class", "name": "a\x1b[31mb"}, "not shown"),
        ({"op": "add_class", "name": "wa\u202eter"}, "not shown"),
        ({"op": "add_class", "name": "\ud800"}, "not shown"),
        ({"op": "add_class", "name": "=cmd()"}, "formula"),
        ({"op": "add_class", "name": "@SUM(A1)"}, "formula"),
        ({"op": "add_class", "name": "\t=1+1"}, "formula"),
        ({"op": "add_class", "name": "reed", "colour": "red"}, "#rrggbb"),
        ({"op": "add_class", "name": "reed", "colour": "#12345"}, "#rrggbb"),
        ({"op": "add_class", "name": "reed", "colour": "#123456;x"}, "#rrggbb"),
        ({"op": "add_class", "name": "reed", "colour": 7}, "#rrggbb"),
        ({"op": "edit_class", "id": 1, "name": "wood"}, "there already"),
        ({"op": "edit_class", "id": 9, "name": "x"}, "no class 9"),
        ({"op": "merge_class", "id": 1, "into": 1}, "itself"),
        ({"op": "merge_class", "id": 1, "into": 9}, "no class 9"),
    ],
)
def test_a_change_that_cannot_be_made_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason) as refused:
        after(change)
    assert len(str(refused.value)) < 200
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("changes", [None, {}, [], "add", 3, [None], [[]], ["add"]])
def test_what_is_no_list_of_changes_is_refused(changes: object) -> None:
    with pytest.raises(DataError):
        changed(EMPTY, changes, 64, 48)


def test_a_class_with_labels_is_not_deleted() -> None:
    with pytest.raises(DataError, match="has 1 labels; merge"):
        after(point(1, 1), {"op": "delete_class", "id": 1})
    assert [*after({"op": "delete_class", "id": 1}).classes] == [2]


def test_a_class_may_be_named_by_html_which_stays_text() -> None:
    assert after({"op": "add_class", "name": "<b>reed</b>"}).classes[3].name == "<b>reed</b>"


def test_a_class_may_change_the_case_of_its_own_name() -> None:
    assert after({"op": "edit_class", "id": 1, "name": "WATER"}).classes[1].name == "WATER"


xy = st.floats(0, 40, allow_nan=False)
ids = st.integers(1, 6)
steps = st.one_of(
    st.builds(point, xy, xy, st.integers(1, 3)),
    st.builds(lambda i, x: {"op": "move", "id": i, "geometry": point(x, 1)["geometry"]}, ids, xy),
    st.builds(lambda i, c: {"op": "reclass", "id": i, "class": c}, ids, st.integers(1, 3)),
    st.builds(lambda i: {"op": "delete", "id": i}, ids),
    st.builds(lambda n: {"op": "add_class", "name": n}, st.sampled_from("abcdef")),
    st.builds(lambda i, j: {"op": "merge_class", "id": i, "into": j}, ids, ids),
    st.builds(lambda i, n: {"op": "edit_class", "id": i, "name": n}, ids, st.sampled_from("xyz")),
    st.sampled_from(["undo", "redo"]),
)


@given(st.lists(steps, max_size=25))
def test_any_walk_can_be_undone_to_nothing_and_made_again(walk: list[Any]) -> None:
    """Through the journal's lines too, which lead to the same labels."""
    history, lines = ChangeHistory(), []
    for step in walk:
        if step == "undo":
            entry = history.undo_entry()
        elif step == "redo":
            entry = history.redo_entry()
        else:
            try:
                edit = difference(history.labels, changed(history.draft, [step], 64, 48))
            except DataError:
                continue
            entry = history.next_entry("change", edit) if edit else None
        if entry is not None:
            lines.append(json.dumps(entry.to_json()))
            history.take(entry)
    again = history_of(entry_from_json(json.loads(line)) for line in lines)
    assert again == history
    ends = history.labels
    while (entry := history.undo_entry()) is not None:
        history.take(entry)
    assert not history.labels.labels
    assert not history.labels.classes
    for _ in range(len(history.undone) - len(again.undone)):
        entry = history.redo_entry()
        assert entry is not None
        history.take(entry)
    assert (history.labels.labels, history.labels.classes) == (ends.labels, ends.classes)


def test_an_edit_and_its_inverse_lead_back_through_json() -> None:
    labels = applied(LabelSet(), difference(LabelSet(), after(point(1, 1))), 1)
    draft = after(
        {"op": "move", "id": 1, "geometry": SQUARE},
        {"op": "merge_class", "id": 1, "into": 2},
        start=draft_of(labels, 1, 2),
    )
    edit = edit_from_json(json.loads(json.dumps(edit_to_json(difference(labels, draft)))))
    there = applied(labels, edit, 2)
    assert there.labels[0].geometry.equals_exact(draft.labels[1].geometry, 0)
    back = applied(there, edit.inverse, 3)
    assert (back.labels, back.classes) == (labels.labels, labels.classes)
