"""A project: its labels now, its journal, and the files that follow them.

What a page changes is in the journal, on the disk, before it counts. labels.gpkg and classes.json
follow within a second and can be made from the journal at any time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from geotl.console import Log
from geotl.errors import DataError, GeoTLError, OutputError
from geotl.io.files import scratch_folder, sha256_of, whole_file, write_text
from geotl.io.raster import Grid
from geotl.io.vector import LabelLayer, label_layers
from geotl.labelling.changes import Draft, changed, difference
from geotl.labelling.history import ChangeHistory, HistoryEntry, Journal, Kind, Written, history_of
from geotl.labelling.import_labels import Imported, imported, replaced, with_classes
from geotl.labelling.label_set import (
    LabelSet,
    classes_text,
    other_fields,
    package_of,
    rows_in,
    rows_of,
    sha256_of_bytes,
)
from geotl.labelling.workers import Saver

LABELS, CLASSES, HISTORY = "labels.gpkg", "classes.json", "history.jsonl"
OUTSIDE = "labels_outside.gpkg"  # what another program wrote and could not be taken whole
_OF_COMMANDS = "choose one with labels.layer in a recipe, or --layer of a command"
SUFFIXES = (".gpkg", ".geojson", ".json", ".csv")  # of files that a page may import


class StaleError(GeoTLError, ValueError):
    """A change of labels that are no longer the newest."""


@dataclass(frozen=True)
class Snapshot:
    """A project at one moment.

    Attributes:
        labels: classes and labels.
        undo: whether there is a change to undo.
        redo: whether there is one to make again.
    """

    labels: LabelSet
    undo: bool
    redo: bool


class Project:
    """The labels of a folder that this process alone has open; any thread may call it."""

    mode: ClassVar[str] = "label"  # what the page shows: "sample" where points are given classes

    def __init__(self, folder: Path, grid: Grid, log: Log) -> None:
        """Read the journal, and take what another program wrote into labels.gpkg since.

        Args:
            folder: of the project, which this process has locked.
            grid: of the scene.
            log: takes a line on what another program changed.

        Raises:
            DataError: a file of the project is damaged.
            OutputError: the folder cannot be written.
        """
        self.folder, self.grid, self._log = folder, grid, log
        self.on_change: Callable[[LabelSet], None] = _ignored
        self.on_problem: Callable[[str], None] = log
        self._lock = threading.RLock()
        self._journal = Journal(folder / HISTORY)
        self._history = _history(self._journal)
        self._saved: tuple[int, str | None] = (-1, self._digest())  # revision, content on the disk
        self._take_outside()
        package_of(LabelSet(), grid)  # loads what writing needs: the first click is written soon
        self._save()
        self._saver = Saver(self._save, self._tell_problem)

    @property
    def path(self) -> Path:
        """The file labels.gpkg."""
        return self.folder / LABELS

    def snapshot(self) -> Snapshot:
        """The labels now."""
        with self._lock:
            history = self._history
            return Snapshot(history.labels, bool(history.done), bool(history.undone))

    def change(self, changes: object, revision: int) -> Snapshot:
        """Make the page's changes, all or none.

        Args:
            changes: as `changes.changed` takes them.
            revision: of the labels that the page shows.

        Raises:
            StaleError: the labels have changed since.
            DataError: a change that cannot be made.
            OutputError: the disk is full; nothing was changed.
        """
        width, height = self.grid.width, self.grid.height
        return self._edit("change", revision, lambda now: changed(now, changes, width, height))

    def undo(self, revision: int) -> Snapshot:
        """Take the last change back; errors as of `change`."""
        with self._lock:
            self._check(revision)
            return self._entered(self._history.undo_entry(), "there is nothing to undo")

    def redo(self, revision: int) -> Snapshot:
        """Make the change again that was undone last; errors as of `change`."""
        with self._lock:
            self._check(revision)
            return self._entered(self._history.redo_entry(), "there is nothing to make again")

    def add_classes(self, given: list[tuple[str, str | None]]) -> None:
        """Add classes by name and colour, unless they are there already; errors as of `change`."""
        self._edit("change", None, lambda now: with_classes(now, given))

    def import_file(
        self, path: Path, *, field: str, layer: str | None, revision: int | None = None
    ) -> Imported:
        """Add the labels of a file, as one change that can be undone.

        Args:
            path: GeoPackage, GeoJSON, CSV or another format that `read_labels` reads.
            field: with the class.
            layer: of the file, None where it has one.
            revision: of the labels that the page shows, None for any.

        Raises:
            StaleError: the labels have changed since.
            DataError: nothing in the file can be used.
            OutputError: the disk is full; nothing was changed.
        """
        with self._lock:
            self._check(revision)
            now, draft = self._history.labels.revision, self._history.draft
        reading = imported(draft, path, self.grid, field=field, layer=layer)
        self._edit("import", now, lambda _: reading.draft)
        return reading

    def import_bytes(
        self, content: bytes, name: str, *, field: str, layer: str | None, revision: int
    ) -> Imported:
        """`import_file` of a file that a page sent, by its name there; it is not kept."""
        with self._received(content, name) as path:
            return self.import_file(path, field=field, layer=layer, revision=revision)

    def layers_in(self, content: bytes, name: str) -> tuple[LabelLayer, ...]:
        """The layers of a file that a page sent, and the fields that may hold their classes.

        Raises:
            DataError: the file cannot be read.
            OutputError: the disk is full.
        """
        with self._received(content, name) as path:
            return label_layers(path)

    @contextlib.contextmanager
    def _received(self, content: bytes, name: str) -> Iterator[Path]:
        """A file that a page sent, until it was read; errors have its name there."""
        suffix = Path(name).suffix.lower()
        if suffix not in SUFFIXES:
            raise DataError(f"{name[:80]!r}: allowed: files ending in {', '.join(SUFFIXES)}")
        with scratch_folder(self.folder / "import") as folder:
            path = folder / f"labels{suffix}"
            try:
                path.write_bytes(content)
            except OSError as error:
                raise OutputError(f"{path.parent}: {error.strerror}; free some space") from error
            try:
                yield path
            except DataError as error:
                words = str(error).replace(_OF_COMMANDS, "name one of them")
                raise DataError(words.replace(str(path), name[:80])) from error

    def flush(self) -> None:
        """Write labels.gpkg and classes.json now.

        Raises:
            OutputError: they cannot be written.
        """
        self._saver.flush()

    def close(self) -> None:
        """Write what is due, and close the journal."""
        self._saver.close()
        try:
            self.flush()
        except OutputError as error:
            self._log(f"{error}; the next start writes it from {HISTORY}")
        finally:
            self._journal.close()

    def _check(self, revision: int | None) -> None:
        if revision is not None and revision != self._history.labels.revision:
            raise StaleError("the labels have changed since in another tab; look, and try again")

    def _edit(self, kind: Kind, revision: int | None, edit: Callable[[Draft], Draft]) -> Snapshot:
        with self._lock:
            self._check(revision)
            made = difference(self._history.labels, edit(self._history.draft))
            return self._entered(self._history.next_entry(kind, made) if made else None)

    def _entered(self, entry: HistoryEntry | None, otherwise: str = "") -> Snapshot:
        """Go on by an entry; without one everything stays, unless that is an error."""
        if entry is None and otherwise:
            raise DataError(otherwise)
        if entry is not None:
            self._journal.add(entry)
            self._history.take(entry)
            self._saver.wake()
            self.on_change(self._history.labels)
        return self.snapshot()

    def _take_outside(self) -> None:
        """Take labels.gpkg for the newest state if another program changed it."""
        on_disk = self._saved[1]
        if on_disk is None or self._is_own(on_disk):
            return
        _check_closed(self.path)
        reading = replaced(self._history.draft, self.path, self.grid)
        if reading.rejected or other_fields(self.path):
            self._keep_outside()
        made = difference(self._history.labels, reading.draft)
        if made:
            entry = self._history.next_entry("outside", made)
            self._journal.add(entry)
            self._history.take(entry)
            self._log(f"{self.path}: changed by another program since; taken, and can be undone")
        for line in reading.rejected:
            self._log(f"{self.path}: {line}")

    def _is_own(self, on_disk: str) -> bool:
        """Whether labels.gpkg has what it was given, perhaps in other bytes."""
        written = self._journal.written
        if written is not None and on_disk in (written.sha256, written.before):
            if on_disk == written.sha256:
                self._saved = written.revision, on_disk
            return True
        rows = rows_in(self.path)
        known = [] if written is None else [_labels_at(self._journal, written.revision)]
        return any(rows == rows_of(one, self.grid) for one in (self._history.labels, *known))

    def _save(self) -> None:
        labels = self.snapshot().labels
        if self._saved[0] == labels.revision and self.path.exists():
            return
        content = package_of(labels, self.grid)
        _check_closed(self.path)
        before, after = self._digest(), sha256_of_bytes(content)
        if before is not None and before != self._saved[1]:
            self._keep_outside()
        with self._lock:
            self._journal.add_written(Written(labels.revision, after, before))
        with whole_file(self.path) as part:
            part.write_bytes(content)
        self._saved = (-1, after)
        write_text(self.folder / CLASSES, classes_text(labels))
        self._saved = (labels.revision, after)

    def _tell_problem(self, line: str) -> None:
        self.on_problem(line)

    def _keep_outside(self) -> None:
        """Copy what another program wrote, before it is replaced."""
        with whole_file(self.folder / OUTSIDE) as part:
            part.write_bytes(self.path.read_bytes())
        self._log(f"{self.path}: another program changed it; its file is kept as {OUTSIDE}")

    def _digest(self) -> str | None:
        return sha256_of(self.path) if self.path.exists() else None


def _history(journal: Journal) -> ChangeHistory:
    try:
        return history_of(journal.entries)
    except (ValueError, IndexError, KeyError) as error:
        raise DataError(
            f"{journal.path}: its changes do not follow each other ({error}); move the file to "
            "another folder, and the project goes on from labels.gpkg"
        ) from error


def _labels_at(journal: Journal, revision: int) -> LabelSet:
    return history_of(journal.entries[:revision]).labels


def _check_closed(path: Path) -> None:
    """Make sure that no other program is about to write a GeoPackage.

    Raises:
        OutputError: one has changes that are not in the file yet.
    """
    pending = path.with_name(f"{path.name}-wal")
    if pending.exists() and pending.stat().st_size:
        raise OutputError(
            f"{path}: another program, such as QGIS, has it open and changed it; close it there "
            f"(labels placed in the page are kept in {HISTORY})"
        )


def _ignored(_labels: LabelSet) -> None:
    """Take labels that nothing follows yet."""
