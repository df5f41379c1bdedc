"""A seeded part of kills and full disks of whole commands; `make kills` and `make disks` go on."""

from __future__ import annotations

from pathlib import Path

from faults.kills import Count, left_alone, other_file_system, replaced
from helpers.processes import WAIT_S, python

CHEAP = ("run, finetune", "map, pixels", "predict")


def test_disturbed_commands_made_again_give_the_same_and_leave_nothing() -> None:
    words = ["-W", "ignore", str(Path(__file__).with_name("kills.py")), "--seed", "1"]
    child = python([*words, "--kills", "3", "--disks", "3", "--only", *CHEAP])
    told, error = child.communicate(timeout=2 * WAIT_S)
    assert (child.returncode, error) == (0, ""), told
    totals = [line for line in told.splitlines() if line.startswith("all")]
    assert len(totals) == 2
    for total in totals:
        trials, *faults = (int(word) for word in total.split()[1:])
        assert trials >= 3
        assert faults == [0] * 4


def test_a_trial_is_counted_by_what_went_wrong() -> None:
    count = Count()
    count.take(2, {})
    count.take(1, {"broken": "exit code 1", "litter": "out/.a.lock"})
    assert (count.trials, count.broken, count.litter, count.different) == (3, 1, 1, 0)
    assert count.faults == ["broken: exit code 1", "litter: out/.a.lock"]


def test_what_is_there_whole_is_replaced_or_left_alone() -> None:
    assert (replaced(True), replaced(False)) == (("--overwrite",), ())
    assert (left_alone(True), left_alone(False)) == (None, ())


def test_another_file_system_is_another(tmp_path: Path) -> None:
    other = other_file_system(tmp_path)
    assert other is None or other.stat().st_dev != tmp_path.stat().st_dev
