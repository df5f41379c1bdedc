"""Every change of a project, undone ones too: the labels at any revision, and history.jsonl.

The file has a line for each change, on the disk before the change counts. A line is whole or not
there: one that a kill tore apart stands at the end, has no end of line or is no JSON, and is
dropped when the file is opened again. Lines of another sort say which content labels.gpkg was
given, so that a later session sees whether another program changed it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from geotl.errors import DataError, OutputError
from geotl.io.files import sync
from geotl.labelling.changes import (
    Draft,
    Edit,
    applied,
    draft_of,
    edit_from_json,
    edit_to_json,
)
from geotl.labelling.label_set import LabelSet

_WRITTEN = "written"  # key of the lines on labels.gpkg
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


@dataclass(frozen=True)
class Written:
    """What labels.gpkg was given.

    Attributes:
        revision: of the labels in it.
        sha256: of its content.
        before: of the content that it replaced, None where there was no file.
    """

    revision: int
    sha256: str
    before: str | None


class Journal:
    """The open file, to which lines are added."""

    def __init__(self, path: Path) -> None:
        """Open or make the file, and drop a torn line at its end.

        Raises:
            OutputError: it cannot be written.
            DataError: it is damaged before its end.
        """
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        try:
            self._handle = os.open(path, flags, 0o644)
            lines, self._size = _whole_lines(path)
            os.ftruncate(self._handle, self._size)
            sync(path.parent)
        except OSError as error:
            raise _unwritten(path, error) from error
        self.entries, self.written = _parsed(path, lines)

    def add(self, entry: HistoryEntry) -> None:
        """Bring an entry to the disk.

        Raises:
            OutputError: it could not be written; the file is as it was.
        """
        self._append(entry.to_json())

    def add_written(self, written: Written) -> None:
        """Note what labels.gpkg is about to be given.

        Raises:
            OutputError: it could not be written; the file is as it was.
        """
        self._append({_WRITTEN: [written.revision, written.sha256, written.before]})
        self.written = written

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    def _append(self, value: Mapping[str, Any]) -> None:
        line = (json.dumps(value, separators=(",", ":"), allow_nan=False) + "\n").encode()
        try:
            os.ftruncate(self._handle, self._size)  # what an earlier failure may have left
            left = memoryview(line)
            while left:
                left = left[os.write(self._handle, left) :]
            os.fsync(self._handle)
        except OSError as error:
            with contextlib.suppress(OSError):  # the torn line is dropped at the next opening
                os.ftruncate(self._handle, self._size)
            raise _unwritten(self.path, error) from error
        self._size += len(line)


def _whole_lines(path: Path) -> tuple[list[bytes], int]:
    """Lines of the file but a torn one at the end, and how many bytes they take."""
    content = path.read_bytes()
    content = content[: content.rfind(b"\n") + 1]
    lines = content.splitlines(keepends=True)
    if lines and not _is_json(lines[-1]):
        lines.pop()
    return lines, sum(map(len, lines))


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _parsed(path: Path, lines: Sequence[bytes]) -> tuple[list[HistoryEntry], Written | None]:
    entries: list[HistoryEntry] = []
    written: Written | None = None
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
            if _WRITTEN in value:
                written = Written(*value[_WRITTEN])
            else:
                entries.append(entry_from_json(value))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(
                f"{path}: line {number} is damaged; move the file to another folder, and the "
                "project goes on from labels.gpkg, without what could be undone"
            ) from error
    return entries, written


def _unwritten(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path}: could not be written ({error.strerror or error}); free some space; the change "
        "was not made, and all before it are kept"
    )
