"""Files and folders appear whole; what a dead process left goes, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.processes import WAIT_S, kill_when, python

from geotl.io import files
from geotl.io.files import cache_folder, put_away, scratch_folder, whole_file, whole_folder
from geotl.io.owners import Owner, clean, private_prefix, this_owner

WRITE = """
import sys, time
from pathlib import Path
from geotl.io.files import scratch_folder, whole_file, whole_folder
place = Path(sys.argv[1])
with whole_file(place / "a.txt") as a, whole_folder(place / "b") as b, scratch_folder(place / "c"):
    a.write_text("half")
    (b / "half").write_text("half")
    print("begun", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def test_what_a_dead_process_left_is_cleaned_and_what_a_living_one_writes_is_not(tmp_path):
    (tmp_path / ".mine.geotl-part").write_text("kept")
    children = [python(["-c", WRITE, str(tmp_path), str(WAIT_S)]) for _ in range(2)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
    assert len(list(tmp_path.iterdir())) == 7
    kill_when(children[0], lambda: True)
    clean(tmp_path)
    left = [p.name for p in tmp_path.iterdir()]
    assert len(left) == 4
    assert ".mine.geotl-part" in left
    assert sum(f"-{children[1].pid}-" in name for name in left) == 3
    kill_when(children[1], lambda: True)
    with whole_file(tmp_path / "z.txt") as part:
        part.write_text("whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".mine.geotl-part", "z.txt"]


def dead(name: str, kind: str) -> str:
    """A private name of this process's number in an earlier life."""
    me = this_owner()
    return f".{name}.geotl-{kind}-{Owner(me.host, me.pid, me.begun - 1)}-abc"


def test_what_was_moved_aside_goes_back_where_nothing_took_its_place(tmp_path):
    for name in ("lost", "replaced"):
        (tmp_path / dead(name, "old")).mkdir()
        (tmp_path / dead(name, "old") / "f").write_text("old")
    (tmp_path / "replaced").mkdir()
    clean(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lost", "replaced"]
    assert (tmp_path / "lost" / "f").read_text() == "old"


def test_another_machines_files_are_left(tmp_path):
    other = tmp_path / f".a.geotl-part-{Owner('0' * 8, 1, 1)}-abc"
    other.write_text("of a machine that shares the disk")
    clean(tmp_path)
    assert other.exists()


def test_content_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    events: list[str] = []
    fsync, replace, rename = os.fsync, Path.replace, Path.rename
    monkeypatch.setattr(os, "fsync", lambda h: (events.append("fsync"), fsync(h))[1])
    monkeypatch.setattr(Path, "replace", lambda p, t: (events.append("rename"), replace(p, t))[1])
    monkeypatch.setattr(Path, "rename", lambda p, t: (events.append("rename"), rename(p, t))[1])
    with whole_file(tmp_path / "a") as part:
        part.write_text("x")
    assert events == ["fsync", "rename", "fsync"]
    events.clear()
    with whole_folder(tmp_path / "b") as part, whole_file(part / "c") as inner:
        inner.write_text("x")
    assert events == ["rename", "fsync", "fsync", "rename", "fsync"]


def test_a_folder_that_is_put_away_is_never_half_there(tmp_path, monkeypatch):
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "x").write_text("x")
    monkeypatch.setattr(files, "remove", lambda _: None)  # killed before
    put_away(folder)
    assert not folder.exists()
    assert [p.name[:14] for p in tmp_path.iterdir()] == [private_prefix(folder)[:14]]


def test_a_scratch_folder_lies_beside_the_output_and_goes(tmp_path):
    def fail() -> None:
        with scratch_folder(tmp_path / "out") as scratch:
            assert scratch.parent == tmp_path
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("earlier", [True, False])
def test_the_cache_of_earlier_versions_is_still_found(tmp_path, monkeypatch, earlier):
    """On macOS and Windows too, where caches go elsewhere now."""
    for name in ("GEOTL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: Path("/system/geotl"))
    old = tmp_path / ".cache" / "geotl"
    if earlier:
        old.mkdir(parents=True)
    assert cache_folder() == (old if earlier else Path("/system/geotl"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "geotl"
    monkeypatch.setenv("GEOTL_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
