"""README is short, shows pictures, and points to pages that are there; each answers a question."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LINKS = re.findall(r"\]\(([^)#:]+)\)", README)
NOT_FOR_USERS = {"ARCHITECTURE.md"}


def test_it_takes_three_screens() -> None:
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("link", LINKS)
def test_a_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_its_pictures_are_small() -> None:
    pictures = [ROOT / link for link in LINKS if link.startswith("docs/images/")]
    assert {path.suffix for path in pictures} == {".jpg", ".png"}
    assert sum(path.stat().st_size for path in pictures) < 400_000


def test_every_page_answers_a_question_in_it() -> None:
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert not pages - {Path(link).name for link in LINKS} - NOT_FOR_USERS


def test_its_first_screen_says_what_how_long_how_accurate_and_how_sure() -> None:
    first = "\n".join(README.splitlines()[:30])
    for words in ("**In how long**", "**How accurate**", "**How sure**", "make demo", "map.jpg"):
        assert words in first
