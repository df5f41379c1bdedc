"""Changes of labels and classes, and their inverses; nothing here touches a file.

A request of the page is a list of changes. What it makes of the labels is kept as an `Edit`: each
label and class that differs, before and after. Undoing an edit swaps the two.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import shapely

from geotl.data.labels import name_of
from geotl.errors import DataError
from geotl.io.tables import runs_as_formula
from geotl.labelling.label_set import LabelClass, LabelSet, PlacedLabel
from geotl.labelling.shapes import geojson_of, shape_of
from geotl.reporting.class_colours import class_colours

MAX_NAME = 60  # characters of a class's name
MAX_CLASSES = 100
MAX_LABELS = 100_000
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
LabelPair = tuple[PlacedLabel | None, PlacedLabel | None]
ClassPair = tuple[LabelClass | None, LabelClass | None]


@dataclass(frozen=True)
class Edit:
    """What differs between two label sets: (before, after) by id, None where there is none."""

    labels: Mapping[int, LabelPair]
    classes: Mapping[int, ClassPair]

    @property
    def inverse(self) -> Edit:
        """The edit that takes this one back."""
        return Edit(
            {id_: (after, before) for id_, (before, after) in self.labels.items()},
            {id_: (after, before) for id_, (before, after) in self.classes.items()},
        )

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.labels or self.classes)


@dataclass(frozen=True)
class Draft:
    """Labels and classes by id while changes are made, and the highest ids that were ever given."""

    labels: Mapping[int, PlacedLabel]
    classes: Mapping[int, LabelClass]
    last_label: int
    last_class: int

    @property
    def colours(self) -> tuple[str, ...]:
        """Colours of the classes."""
        return tuple(one.colour for one in self.classes.values())

    def named(self, name: str) -> LabelClass | None:
        """The class of this name, in whatever case."""
        wanted = name.casefold()
        return next((c for c in self.classes.values() if c.name.casefold() == wanted), None)


def draft_of(labels: LabelSet, last_label: int, last_class: int) -> Draft:
    """A label set, ready for changes.

    Args:
        labels: the set.
        last_label: highest id that a label ever had.
        last_class: highest id that a class ever had.
    """
    return Draft(
        {one.id: one for one in labels.labels},
        {one.id: one for one in labels.classes},
        last_label,
        last_class,
    )


def difference(before: LabelSet, after: Draft) -> Edit:
    """What a draft changes in a label set."""
    old = draft_of(before, 0, 0)
    return Edit(_differing(old.labels, after.labels), _differing(old.classes, after.classes))


def applied(labels: LabelSet, edit: Edit, revision: int) -> LabelSet:
    """A label set after an edit, under a new revision."""
    draft = draft_of(labels, 0, 0)
    placed = _with(draft.labels, edit.labels)
    classes = _with(draft.classes, edit.classes)
    return LabelSet(
        revision,
        tuple(classes[id_] for id_ in sorted(classes)),
        tuple(placed[id_] for id_ in sorted(placed)),
    )


def changed(draft: Draft, changes: object, width: int, height: int) -> Draft:
    """A draft after the page's changes, all of them.

    Args:
        draft: as it is.
        changes: a list of objects with a field `op`, as the page sends them.
        width: of the scene [px].
        height: of the scene [px].

    Raises:
        DataError: one of them cannot be made; says which.
    """
    if not isinstance(changes, list) or not changes:
        raise DataError("no list of changes; send one or more")
    for change in changes:
        op = change.get("op") if isinstance(change, dict) else None
        if not isinstance(op, str) or op not in _OPERATIONS:
            raise DataError(f"a change {str(op)[:40]!r}; allowed: {', '.join(_OPERATIONS)}")
        draft = _OPERATIONS[op](draft, _Request(change, width, height))
    return draft


def placed(draft: Draft, places: Sequence[tuple[int, shapely.Geometry]]) -> Draft:
    """A draft with more labels, each given by its class's id and its geometry.

    Raises:
        DataError: there are too many.
    """
    if len(draft.labels) + len(places) > MAX_LABELS:
        raise DataError(f"a project has at most {MAX_LABELS:,} labels; begin another one")
    first = draft.last_label + 1
    added = {
        id_: PlacedLabel(id_, class_id, shape)
        for id_, (class_id, shape) in enumerate(places, first)
    }
    last = draft.last_label + len(places)
    return replace(draft, labels={**draft.labels, **added}, last_label=last)


def with_class(draft: Draft, name: object, colour: object = None) -> tuple[Draft, LabelClass]:
    """A draft with one more class, and that class.

    Args:
        draft: as it is.
        name: of the class.
        colour: as #rrggbb; None for one by the name's meaning.

    Raises:
        DataError: a name that cannot be, or is there already; too many classes.
    """
    if len(draft.classes) >= MAX_CLASSES:
        raise DataError(f"a project has at most {MAX_CLASSES} classes; merge some")
    checked = _free_name(draft, name, None)
    names = [one.name for one in draft.classes.values()]
    shown = _colour(colour) if colour is not None else _new_colour(draft, names, checked)
    one = LabelClass(draft.last_class + 1, checked, shown)
    classes = {**draft.classes, one.id: one}
    return replace(draft, classes=classes, last_class=one.id), one


def checked_name(value: object) -> str:
    """A class's name, with single spaces and composed accents.

    Raises:
        DataError: none, too long, with control characters, or one that a spreadsheet would run.

    >>> checked_name("  bare   soil ")
    'bare soil'
    """
    if not isinstance(value, str):
        raise DataError("a class without a name; give one of letters or digits")
    if len(value) > 10 * MAX_NAME or len(name := name_of(value) or "") > MAX_NAME:
        raise DataError(f"a class's name of more than {MAX_NAME} characters; shorten it")
    if not name:
        raise DataError("a class without a name; give one of letters or digits")
    if any(unicodedata.category(letter)[0] == "C" for letter in name):
        raise DataError("a class's name with characters that are not shown; type it again")
    if runs_as_formula(name):
        raise DataError(f"{name!r}: a spreadsheet would run this as a formula; begin with a letter")
    return name


def edit_to_json(edit: Edit) -> dict[str, Any]:
    """An edit as values that JSON knows; `edit_from_json` reads it."""
    return {
        "labels": [
            [id_, _label_json(before), _label_json(after)]
            for id_, (before, after) in edit.labels.items()
        ],
        "classes": [
            [id_, _class_json(before), _class_json(after)]
            for id_, (before, after) in edit.classes.items()
        ],
    }


def edit_from_json(value: Mapping[str, Any]) -> Edit:
    """The edit that `edit_to_json` made.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    return Edit(
        {
            int(id_): (_label_from(id_, before), _label_from(id_, after))
            for id_, before, after in value["labels"]
        },
        {
            int(id_): (_class_from(id_, before), _class_from(id_, after))
            for id_, before, after in value["classes"]
        },
    )


@dataclass(frozen=True)
class _Request:
    """One change as the page sends it."""

    values: Mapping[str, Any]
    width: int
    height: int

    def shape(self) -> shapely.Geometry:
        return shape_of(self.values.get("geometry"), self.width, self.height)

    def label(self, draft: Draft) -> PlacedLabel:
        id_ = self.values.get("id")
        if type(id_) is not int or id_ not in draft.labels:
            raise DataError(f"no label {str(id_)[:40]}; it was deleted, or never placed")
        return draft.labels[id_]

    def of_class(self, draft: Draft, key: str) -> LabelClass:
        id_ = self.values.get(key)
        if type(id_) is not int or id_ not in draft.classes:
            raise DataError(f"no class {str(id_)[:40]}; choose one of the list")
        return draft.classes[id_]


def _add(draft: Draft, request: _Request) -> Draft:
    return placed(draft, [(request.of_class(draft, "class").id, request.shape())])


def _move(draft: Draft, request: _Request) -> Draft:
    return _put(draft, replace(request.label(draft), geometry=request.shape()))


def _reclass(draft: Draft, request: _Request) -> Draft:
    one = request.of_class(draft, "class")
    return _put(draft, replace(request.label(draft), class_id=one.id))


def _delete(draft: Draft, request: _Request) -> Draft:
    gone = request.label(draft).id
    return replace(draft, labels={id_: v for id_, v in draft.labels.items() if id_ != gone})


def _add_class(draft: Draft, request: _Request) -> Draft:
    return with_class(draft, request.values.get("name"), request.values.get("colour"))[0]


def _edit_class(draft: Draft, request: _Request) -> Draft:
    one = request.of_class(draft, "id")
    if (name := request.values.get("name")) is not None:
        one = replace(one, name=_free_name(draft, name, one.id))
    if (colour := request.values.get("colour")) is not None:
        one = replace(one, colour=_colour(colour))
    return replace(draft, classes={**draft.classes, one.id: one})


def _merge_class(draft: Draft, request: _Request) -> Draft:
    gone, into = request.of_class(draft, "id"), request.of_class(draft, "into")
    if gone.id == into.id:
        raise DataError(f"{gone.name!r} cannot be merged into itself; choose another class")
    labels = {
        id_: replace(one, class_id=into.id) if one.class_id == gone.id else one
        for id_, one in draft.labels.items()
    }
    return _without_class(replace(draft, labels=labels), gone)


def _delete_class(draft: Draft, request: _Request) -> Draft:
    gone = request.of_class(draft, "id")
    count = sum(one.class_id == gone.id for one in draft.labels.values())
    if count:
        raise DataError(f"{gone.name!r} has {count} labels; merge it into another class")
    return _without_class(draft, gone)


_OPERATIONS: Mapping[str, Callable[[Draft, _Request], Draft]] = {
    "add": _add,
    "move": _move,
    "reclass": _reclass,
    "delete": _delete,
    "add_class": _add_class,
    "edit_class": _edit_class,
    "merge_class": _merge_class,
    "delete_class": _delete_class,
}


def _put(draft: Draft, label: PlacedLabel) -> Draft:
    return replace(draft, labels={**draft.labels, label.id: label})


def _without_class(draft: Draft, gone: LabelClass) -> Draft:
    return replace(draft, classes={id_: c for id_, c in draft.classes.items() if id_ != gone.id})


def _free_name(draft: Draft, value: object, own: int | None) -> str:
    name = checked_name(value)
    there = draft.named(name)
    if there is not None and there.id != own:
        raise DataError(f"a class {there.name!r} is there already; choose another name")
    return name


def _colour(value: object) -> str:
    if not isinstance(value, str) or not _COLOUR.fullmatch(value):
        raise DataError(f"a colour {str(value)[:40]!r}; allowed: #rrggbb, such as #1f6fc4")
    return value.lower()


def _new_colour(draft: Draft, names: Sequence[str], name: str) -> str:
    """A colour by meaning that no other class has."""
    for spare in range(len(draft.classes) + 1):
        colour = class_colours([*names, *[name] * (spare + 1)])[-1]
        if colour not in draft.colours:
            return colour
    return colour


def _differing(before: Mapping[int, Any], after: Mapping[int, Any]) -> dict[int, tuple[Any, Any]]:
    ids = [id_ for id_ in before if id_ not in after]
    ids += [id_ for id_, one in after.items() if before.get(id_) is not one]
    pairs = {id_: (before.get(id_), after.get(id_)) for id_ in ids}
    return {id_: (old, new) for id_, (old, new) in pairs.items() if old != new}


def _with(
    entries: Mapping[int, Any], pairs: Mapping[int, tuple[Any | None, Any | None]]
) -> dict[int, Any]:
    result = dict(entries)
    for id_, (_, after) in pairs.items():
        result.pop(id_, None)
        if after is not None:
            result[id_] = after
    return result


def _label_json(label: PlacedLabel | None) -> dict[str, Any] | None:
    if label is None:
        return None
    return {"class": label.class_id, "geometry": geojson_of(label.geometry)}


def _label_from(id_: int, value: Mapping[str, Any] | None) -> PlacedLabel | None:
    if value is None:
        return None
    geometry = value["geometry"]
    coordinates = geometry["coordinates"]
    kind = shapely.Point if geometry["type"] == "Point" else _polygon_from
    return PlacedLabel(int(id_), int(value["class"]), kind(coordinates))


def _polygon_from(coordinates: Sequence[Any]) -> shapely.Polygon:
    return shapely.Polygon(coordinates[0], coordinates[1:])


def _class_json(one: LabelClass | None) -> dict[str, str] | None:
    return None if one is None else {"name": one.name, "colour": one.colour}


def _class_from(id_: int, value: Mapping[str, str] | None) -> LabelClass | None:
    if value is None:
        return None
    return LabelClass(int(id_), str(value["name"]), str(value["colour"]))
