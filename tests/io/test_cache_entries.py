"""An entry of the cache is what was written, or it is made again; two makers leave one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from geotl.io import cache_entries
from geotl.io.cache_entries import CHECKSUMS, fault_of, kept, read_checked, write_checked


def make(part: Path) -> None:
    (part / "a.bin").write_bytes(bytes(range(256)) * 8)
    (part / "note.json").write_text('{"n": 1}')


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a bit": lambda e: flip(e / "a.bin", 700),
    "the end": lambda e: os.truncate(e / "a.bin", 100),
    "longer": lambda e: (e / "a.bin").write_bytes((e / "a.bin").read_bytes() + b"x"),
    "gone": lambda e: (e / "a.bin").unlink(),
    "a note": lambda e: (e / "note.json").write_text('{"n": 2}'),
    "half a list": lambda e: os.truncate(e / CHECKSUMS, 40),
    "a bit of the list": lambda e: flip(e / CHECKSUMS, 120),
    "no list": lambda e: (e / CHECKSUMS).unlink(),
    "a file in its place": lambda e: (shutil.rmtree(e), e.write_text("x")),
    "no file but a folder": lambda e: ((e / "a.bin").unlink(), (e / "a.bin").mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_made_again_with_a_line(tmp_path, damage):
    entry, lines, made = tmp_path / "e", [], []

    def counted(part: Path) -> None:
        made.append(part)
        make(part)

    kept(entry, counted, log=lines.append)
    kept(entry, counted, log=lines.append)
    assert (len(made), lines) == (1, [])
    DAMAGE[damage](entry)
    kept(entry, counted, log=lines.append)
    assert fault_of(entry, full=True) is None
    assert (len(made), len(lines)) == (2, 1)
    assert lines[0].startswith(str(entry))
    assert lines[0].endswith("it is made again")
    assert [p.name for p in tmp_path.iterdir()] == ["e"]


def test_the_later_of_two_makers_takes_what_the_earlier_made(tmp_path):
    entry = tmp_path / "e"

    def slow(part: Path) -> None:
        kept(entry, make)  # another run finishes in the meantime
        (part / "a.bin").write_bytes(b"the loser's")

    kept(entry, slow)
    assert len((entry / "a.bin").read_bytes()) == 2048
    assert [p.name for p in tmp_path.iterdir()] == ["e"]


def test_a_cache_that_may_only_be_read_is_read(tmp_path, monkeypatch):
    def denied(*_: object) -> None:
        raise PermissionError

    entry = kept(tmp_path / "e", make)
    monkeypatch.setattr(os, "utime", denied)
    assert kept(entry, lambda _: pytest.fail("made again")) == entry


def test_a_maker_that_fails_leaves_nothing(tmp_path):
    def fail(part: Path) -> None:
        make(part)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept(tmp_path / "e", fail)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("at", "opened", "full"), [(0, False, False), (70_000, True, False)])
def test_of_a_large_file_a_sample_is_read_and_all_on_request(
    tmp_path, monkeypatch, at, opened, full
):
    monkeypatch.setattr(cache_entries, "FULL_BYTES", 1000)
    monkeypatch.setattr(cache_entries, "_PIECE_BYTES", 100)
    kept(tmp_path / "e", lambda part: (part / "a.bin").write_bytes(bytes(1 << 20)) and None)
    flip(tmp_path / "e" / "a.bin", at)
    assert (fault_of(tmp_path / "e") is None) is opened
    assert (fault_of(tmp_path / "e", full=True) is None) is full


def test_of_many_files_all_sizes_and_a_sample_of_contents_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_entries, "FULL_BYTES", 1000)
    monkeypatch.setattr(cache_entries, "_PIECES", 4)

    def many(part: Path) -> None:
        (part / "tiles").mkdir()
        for number in range(40):
            (part / "tiles" / f"{number:02d}.tif").write_bytes(bytes(100))

    entry = kept(tmp_path / "e", many)
    flip(entry / "tiles" / "05.tif", 3)
    assert fault_of(entry) is None
    assert fault_of(entry, full=True) == "tiles/05.tif is damaged"
    os.truncate(entry / "tiles" / "07.tif", 99)
    assert fault_of(entry) == "tiles/07.tif has 99 bytes where 100 were written"


def test_a_small_value_is_read_only_as_it_was_written(tmp_path):
    path = tmp_path / "v.json"
    write_checked(path, {"gain": 1.5})
    assert read_checked(path) == {"gain": 1.5}
    for text in ("", "[1]", '{"value": 2}', path.read_text().replace("1.5", "2.5"), "\0\0"):
        path.write_text(text)
        assert read_checked(path) is None
    path.write_bytes(b"\xff\xfe\x00")
    assert read_checked(path) is None
    assert json.dumps(read_checked(tmp_path / "none.json")) == "null"
