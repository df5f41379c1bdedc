"""The French pages of the docs say what the English ones say: the same parts, code and figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.fr.md", *sorted((ROOT / "docs").rglob("*.fr.md")))
]
ENGLISH = re.compile(r"\b(?:the|and|with|which|of|is|are)\b", re.IGNORECASE)


def english(page: str) -> str:
    return (ROOT / page.replace(".fr.md", ".md")).read_text(encoding="utf-8")


def french(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def headings(text: str) -> list[int]:
    return [len(line) - len(line.lstrip("#")) for line in prose(text) if line.startswith("#")]


def code(text: str) -> list[str]:
    """Lines of code, without their comments and what stands before these."""
    lines = [line for line in text.splitlines() if line.startswith("    ")]
    return [re.sub(r"\s+# .*", "", line) for line in lines]


def prose(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("    ")]


def quoted(text: str) -> list[str]:
    """Code inside sentences, in order."""
    return re.findall(r"`[^`]+`", "\n".join(prose(text)))


def links(text: str) -> list[str]:
    """Where links and pictures lead, whatever the language of the page."""
    return sorted(link.replace(".fr.md", ".md") for link in re.findall(r"\]\(([^)]+)\)", text))


def tables(text: str) -> list[list[int]]:
    """Cells of each row of each table, and 0 between tables."""
    return [line.count(" | ") + 1 if line.startswith("|") else 0 for line in prose(text)]


def figures(text: str, *, french: bool) -> list[str]:
    """Every number of the prose, with a point for decimals and nothing between thousands."""
    words = re.sub(r"`[^`]*`|\]\([^)]*\)", " ", "\n".join(prose(text)))
    thousands = "\u202f" if french else ","
    words = re.sub(rf"(?<=\d){thousands}(?=\d{{3}}\b)", "", words)
    if french:
        words = re.sub(r"(?<=\d),(?=\d)", ".", words)
    return sorted(re.findall(r"\d+(?:\.\d+)?|(?<!\d)\.\d+", words))


def sections(text: str) -> list[str]:
    """The parts of a page under its headings of the second degree."""
    return re.split(r"(?m)^## ", text)


def test_there_are_pages() -> None:
    folders = ("", "docs/practical/", "docs/notebooks/")
    assert {f"{folder}README.fr.md" for folder in folders} | {"docs/LECTURE.fr.md"} <= {*PAGES}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_the_parts_of_the_english_one(page: str) -> None:
    there, here = english(page), french(page)
    assert headings(here) == headings(there)
    assert code(here) == code(there)
    assert links(here) == links(there)
    for mine, other in zip(sections(here), sections(there), strict=True):
        name = mine.partition("\n")[0]
        assert [n for n in tables(mine) if n] == [n for n in tables(other) if n], name
        assert sorted(quoted(mine)) == sorted(quoted(other)), name
        assert figures(mine, french=True) == figures(other, french=False), name


@pytest.mark.parametrize("page", PAGES)
def test_a_link_leads_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)#:]+)", french(page)):
        assert ((ROOT / page).parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES)
def test_no_sentence_is_english(page: str) -> None:
    text = re.sub(r"`[^`]*`|« [^»]* »|\]\([^)]*\)", " ", "\n".join(prose(french(page))))
    assert ENGLISH.findall(text) == []


@pytest.mark.parametrize("page", PAGES)
def test_no_comment_of_code_is_english(page: str) -> None:
    comments = re.findall(r"(?m)^    .*?\s# (.*)$", french(page))
    known = {*re.findall(r"(?m)^    .*?\s# (.*)$", english(page))}
    assert not known & {*comments}


def test_what_differs_is_seen() -> None:
    thousands = figures("1\u202f024 de 2,5, .3 et 0,623", french=True)
    assert thousands == figures("1,024 of 2.5, .3 and 0.623", french=False)
    assert figures("0.623", french=False) != figures("0,632", french=True)
    assert ENGLISH.findall("Le cours and more") == ["and"]
    assert (
        code("    make demo    # les tuiles") == code("    make demo  # tiles") == ["    make demo"]
    )
