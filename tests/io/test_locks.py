"""An output has one writer; the second one says who it is, and takes over from a dead one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from helpers.full_disk import full_disk
from helpers.processes import WAIT_S, kill_when, python

from geotl.errors import OutputError
from geotl.io.locks import lock_path, locked, output_lock
from geotl.io.owners import this_owner

HOLD = """
import sys, time
from pathlib import Path
from geotl.io.locks import output_lock
with output_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def take(out: Path) -> None:
    with output_lock(out):
        pass


def test_a_second_writer_is_told_the_first_and_takes_over_when_it_is_dead(tmp_path):
    out = tmp_path / "map.tif"
    child = python(["-c", HOLD, str(out), str(WAIT_S)])
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(OutputError, match=f"process {child.pid} on .* writing it") as told:
        take(out)
    assert "\n" not in str(told.value)
    kill_when(child, lambda: True)
    assert lock_path(out).exists()
    with output_lock(out):
        assert json.loads(lock_path(out).read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_a_lock_of_another_machine_is_not_taken(tmp_path):
    """Whether that process lives cannot be known here."""
    record = {"host": "0" * 8, "pid": 1, "begun": 1, "machine": "elsewhere", "since": "noon"}
    lock_path(tmp_path / "run").write_text(json.dumps(record))
    with pytest.raises(OutputError, match=r"on elsewhere .* since noon.*delete .*run\.lock"):
        take(tmp_path / "run")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}'])
def test_a_lock_that_says_nothing_is_taken(tmp_path, text):
    lock_path(tmp_path / "run").write_text(text)
    with output_lock(tmp_path / "run"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_process_of_the_same_number_that_began_later_is_another(tmp_path):
    me = this_owner()
    record = {"host": me.host, "pid": me.pid, "begun": me.begun - 1, "machine": "m", "since": "s"}
    lock_path(tmp_path / "run").write_text(json.dumps(record))
    with output_lock(tmp_path / "run"):
        pass


def test_a_full_disk_leaves_no_lock(tmp_path):
    with full_disk(10), pytest.raises(OutputError, match="cannot be written into"):
        take(tmp_path / "a" / "run")
    with output_lock(tmp_path / "a" / "run"):
        pass
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_folder_that_cannot_be_written_beside_is_locked_inside(tmp_path, monkeypatch):
    out = tmp_path / "run"
    out.mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)
    with output_lock(out):
        assert [p.name for p in out.iterdir()] == [".run.lock"]


def test_a_decorated_function_holds_the_lock_of_its_output(tmp_path):
    @locked
    def write(number: int, out: str) -> list[str]:
        return [p.name for p in tmp_path.iterdir()] * number

    assert write(1, str(tmp_path / "a")) == [".a.lock"]
    assert write(1, out=str(tmp_path / "b")) == [".b.lock"]
