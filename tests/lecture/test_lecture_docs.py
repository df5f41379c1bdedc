"""docs/LECTURE.md names recipes, commands and tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

from geotl.experiments.recipe import available, lectures

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "LECTURE.md").read_text(encoding="utf-8")


def test_every_recipe_of_the_lecture_has_a_row_and_every_one_named_is_there() -> None:
    named = set(re.findall(r"geotl lecture ([a-z0-9_]+)", TEXT))
    assert named == set(lectures())


def test_every_test_named_is_there() -> None:
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    }
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    assert len(named) > 30
    assert named <= there


def test_every_recipe_that_is_run_is_there() -> None:
    named = set(re.findall(r"geotl run ([a-z0-9_]+)", TEXT))
    assert named
    assert named <= set(available())


def test_every_row_has_as_many_cells_as_its_head() -> None:
    for table in re.findall(r"(?:^\|.*\n)+", TEXT, flags=re.MULTILINE):
        widths = {row.count("|") for row in table.splitlines()}
        assert len(widths) == 1, table
