"""Every change of a project, undone ones too, and the labels at any of its revisions; no files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from geotl.labelling.changes import (
    Draft,
    Edit,
    applied,
    draft_of,
    edit_from_json,
    edit_to_json,
)
from geotl.labelling.label_set import LabelSet

Kind = Literal["change", "import", "outside", "undo", "redo"]


@dataclass(frozen=True)
class HistoryEntry:
    """What led to a revision.

    Attributes:
        revision: number of the revision.
        kind: `outside` where another program changed labels.gpkg.
        edit: what differs from the revision before.
    """

    revision: int
    kind: Kind
    edit: Edit

    def to_json(self) -> dict[str, Any]:
        """As values that JSON knows; `entry_from_json` reads it."""
        return {"revision": self.revision, "kind": self.kind, **edit_to_json(self.edit)}


def entry_from_json(value: Mapping[str, Any]) -> HistoryEntry:
    """The entry of a journal's line.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    kind = value["kind"]
    if kind not in ("change", "import", "outside", "undo", "redo"):
        raise ValueError(f"kind {kind!r}")
    return HistoryEntry(int(value["revision"]), kind, edit_from_json(value))


@dataclass
class ChangeHistory:
    """The labels now, and the edits that can be undone and made again."""

    labels: LabelSet = field(default_factory=LabelSet)
    last_label: int = 0
    last_class: int = 0
    done: list[Edit] = field(default_factory=list)
    undone: list[Edit] = field(default_factory=list)

    @property
    def draft(self) -> Draft:
        """The labels, ready for changes."""
        return draft_of(self.labels, self.last_label, self.last_class)

    def next_entry(self, kind: Kind, edit: Edit) -> HistoryEntry:
        """An edit as the entry that follows."""
        return HistoryEntry(self.labels.revision + 1, kind, edit)

    def undo_entry(self) -> HistoryEntry | None:
        """The entry that takes the last edit back; None where there is none."""
        return self.next_entry("undo", self.done[-1].inverse) if self.done else None

    def redo_entry(self) -> HistoryEntry | None:
        """The entry that makes the edit again that was undone last; None where there is none."""
        return self.next_entry("redo", self.undone[-1]) if self.undone else None

    def take(self, entry: HistoryEntry) -> None:
        """Go on to the revision of an entry."""
        self.labels = applied(self.labels, entry.edit, entry.revision)
        self.last_label = max([self.last_label, *entry.edit.labels])
        self.last_class = max([self.last_class, *entry.edit.classes])
        if entry.kind == "undo":
            self.undone.append(self.done.pop())
        elif entry.kind == "redo":
            self.done.append(self.undone.pop())
        else:
            self.done.append(entry.edit)
            self.undone.clear()


def history_of(entries: Iterable[HistoryEntry]) -> ChangeHistory:
    """The history that entries lead to, from no labels on.

    Raises:
        ValueError, IndexError: an entry does not follow the one before.
    """
    history = ChangeHistory()
    for entry in _in_order(entries):
        history.take(entry)
    return history


def _in_order(entries: Iterable[HistoryEntry]) -> Iterator[HistoryEntry]:
    for revision, entry in enumerate(entries, 1):
        if entry.revision != revision:
            raise ValueError(f"revision {entry.revision} where {revision} follows")
        yield entry
