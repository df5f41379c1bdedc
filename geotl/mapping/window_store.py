"""Predictions of windows, stored on disk until the map is drawn, so that a killed run goes on.

Probabilities are kept as whole numbers of 1/65535. The arrays' space is taken before anything is
computed: a full disk fails then, not in the middle.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Bools, Float32s, Int64s, UInt16s
from geotl.console import complain
from geotl.errors import OutputError
from geotl.io.files import put_away, whole_folder
from geotl.io.records import read_record, write_record

FULL = 65535
_UNBORN = re.compile(r"\.sweep-\w+\.json")  # all that a kill at the start of earlier versions left
_NOTE, _KIND = "sweep.json", "geotl_sweep"
_ALWAYS = ("probabilities", "index", "seen", "cover", "done", "partial")
_LATER = {"impossible", "checks"}  # arrays that sheets of earlier versions lack


@dataclass(frozen=True)
class Sheet:
    """Arrays on disk over R x Q windows, H x W cells and B blocks.

    Attributes:
        folder: where they lie.
        note: what was noted when the sweep began.
        probabilities: [R,Q,K], in 1/65535.
        index: dissimilarity [R,Q].
        seen: windows that count [R,Q].
        cover: valid pixels of each cell [H,W].
        done: blocks finished [B].
        partial: windows of each block that count although a pixel lacks some bands [B].
        picture: some bands of a regular sample of pixels [b,h,w], None where none is kept.
        shown: which of these are valid [h,w].
        guide: of the filter that smooths probabilities [R,Q], 0 where a window has none to offer;
            None where nothing is smoothed.
        impossible: values of each block that the sensor cannot have measured, declared nowhere
            [B]; None in a sheet that an earlier version began.
        checks: CRC-32 of each finished block [B]; None in a sheet that an earlier version began.
    """

    folder: Path
    note: Mapping[str, Any]
    probabilities: NDArray[np.uint16]
    index: Float32s
    seen: Bools
    cover: NDArray[np.unsignedinteger[Any]]
    done: Bools
    partial: Int64s
    picture: NDArray[Any] | None = None
    shown: Bools | None = None
    guide: UInt16s | None = None
    impossible: Int64s | None = None
    checks: NDArray[np.uint32] | None = None

    def keep(self) -> None:
        """Bring to disk what has been written, and out of this process's memory."""
        for array in self._arrays:
            array.flush()
        self.forget()

    def forget(self) -> None:
        """Release the memory of what was read or written; the files keep it."""
        for array in self._arrays:
            if isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                array.base.madvise(mmap.MADV_DONTNEED)

    @property
    def _arrays(self) -> list[np.memmap[Any, Any]]:
        """Those that lie on disk."""
        stored = self.probabilities, self.index, self.seen, self.cover, self.done
        later = self.impossible, self.checks
        every = (*stored, self.partial, self.picture, self.shown, self.guide, *later)
        return [array for array in every if isinstance(array, np.memmap)]


@dataclass(frozen=True)
class SheetLayout:
    """What a sheet has room for.

    Attributes:
        windows: rows and columns of windows.
        cells: rows and columns of the map.
        classes: how many.
        posting: side of a cell in pixels.
        blocks: how many.
        picture: shape [b,h,w] and type of the picture; None for none.
        guide: whether a filter's guide is kept.
    """

    windows: tuple[int, int]
    cells: tuple[int, int]
    classes: int
    posting: int
    blocks: int
    picture: tuple[tuple[int, int, int], np.dtype[Any]] | None = None
    guide: bool = False

    @property
    def arrays(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shape and type of each array of the sheet, by name."""
        arrays: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
            "probabilities": ((*self.windows, self.classes), np.dtype(np.uint16)),
            "index": (self.windows, np.dtype(np.float32)),
            "seen": (self.windows, np.dtype(bool)),
            "cover": (self.cells, np.min_scalar_type(self.posting**2)),
            "done": ((self.blocks,), np.dtype(bool)),
            "partial": ((self.blocks,), np.dtype(np.int64)),
            "impossible": ((self.blocks,), np.dtype(np.int64)),
            "checks": ((self.blocks,), np.dtype(np.uint32)),
        }
        if self.picture is not None:
            arrays["picture"] = self.picture
            arrays["shown"] = self.picture[0][1:], np.dtype(bool)
        if self.guide:
            arrays["guide"] = self.windows, np.dtype(np.uint16)
        return arrays


def open_sheet(folder: Path, key: str, note: Mapping[str, Any], layout: SheetLayout) -> Sheet:
    """Go on with the sheet in a folder if it has this key, else begin a new one.

    A sheet that lacks an array, or whose note is damaged, is begun again, with a line.

    Args:
        folder: of the sheet alone; one that geotl did not write is an error.
        key: identifies everything the sheet depends on.
        note: kept with a new sheet; a sheet gone on with keeps its first one.
        layout: what a sheet has room for.

    Raises:
        OutputError: a foreign folder, or a disk that is full.
    """
    shapes = layout.arrays
    header = _held(folder)
    lacking = {name for name in shapes if not (folder / f"{name}.bin").is_file()}
    if header is None or header["key"] != key or not lacking <= _LATER:
        if _names(folder) and (header is None or header["key"] == key):
            complain(f"{folder}: is damaged; the map starts again")
        header, lacking = {"kind": _KIND, "key": key, "note": dict(note)}, set()
        _begin(folder, header, shapes)
    arrays = {
        name: np.memmap(folder / f"{name}.bin", dtype, "r+", shape=shape)
        for name, (shape, dtype) in shapes.items()
        if name not in lacking
    }
    return Sheet(folder, header["note"], **arrays)


def note_of(folder: Path, key: str) -> Mapping[str, Any] | None:
    """The note of a sheet of this key that was begun and not finished, None if there is none.

    Raises:
        OutputError: a folder with other things in it.
    """
    header = _held(folder)
    return None if header is None or header["key"] != key else dict(header["note"])


def drop(folder: Path) -> None:
    """Take a sheet away."""
    if _held(folder) is not None or _names(folder):
        put_away(folder)


def _held(folder: Path) -> dict[str, Any] | None:
    """What is noted of the sheet in a folder, None if there is none yet or it is damaged.

    Raises:
        OutputError: a folder with other things in it.
    """
    names = _names(folder)
    note = read_record(folder / _NOTE) if names else None
    if note is not None and note.keys() == {"kind", "key", "note"} and note["kind"] == _KIND:
        return note
    if names and not {_NOTE, *(f"{name}.bin" for name in _ALWAYS)} <= names:
        raise OutputError(f"{folder}: not written by geotl; move it away or choose another output")
    return None


def _names(folder: Path) -> set[str]:
    """What lies in a sheet's folder."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return {name for name in names if not _UNBORN.fullmatch(name)}


def _take_space(stream: BinaryIO, size: int) -> None:
    """Make a file of zeros; an OSError on a full disk, where a memory map kills."""
    if hasattr(os, "posix_fallocate"):  # takes the space without writing it
        os.posix_fallocate(stream.fileno(), 0, size)
    else:
        while size:
            size -= stream.write(bytes(min(size, 1 << 20)))


def _begin(
    folder: Path,
    note: Mapping[str, Any],
    shapes: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]],
) -> None:
    """An empty sheet with its space on the disk reserved; a kill leaves all of it or none."""
    drop(folder)
    with whole_folder(folder) as part:
        write_record(part / _NOTE, note)
        try:
            for name, (shape, dtype) in shapes.items():
                with (part / f"{name}.bin").open("wb") as stream:
                    _take_space(stream, max(int(np.prod(shape)) * dtype.itemsize, 1))
        except OSError as error:
            raise OutputError(
                f"{folder}: no room for what is kept while mapping ({error.strerror}); free some "
                "space or write elsewhere"
            ) from error
