"""Words that confuse readers stay out of messages, docstrings, help and documentation.

The list holds the worst of the old wording; `word -> use instead` stands in WORDS. Single words
such as "judged" that are keys of files on disk are not sentences and are not tested: a string
counts as text when it has a space.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from geotl.cli.main import command_parser

ROOT = Path(__file__).resolve().parents[1]

WORDS = {
    r"told": "stated, given, reported, or the noun",
    r"learnt": "trained on, training tiles",
    r"anew": "again",
    r"judg(?:e|es|ed|ing|ement|ements|ment)": "evaluate, test; test tiles",
    r"rightly": "correct",
    r"hangs?\s+on": "depends on",
    r"so\s+manieth": "every n-th",
    r"by\s+heart": "overfit on purpose",
    r"set(?:s|ting)?\s+aside": "excluded",
    r"cut\s+short": "truncated, interrupted",
    r"passports?": "metadata",
    r"companions?": "training samples",
    r"chances": "probabilities",
    r"(?:some|any|no)body": "the noun",
    r"whom": "the noun",
    r"looker": "predictor",
    r"coldest|hottest": "minimum, maximum temperature",
    r"wholeness": "integrity",
    r"leave it away|left away": "leave it out",
    r"settled": "resolved",
}
BAD = re.compile(rf"\b(?:{'|'.join(WORDS)})\b", re.IGNORECASE)

# (file, text that holds the word) -> why it stays: names of options and formats on disk.
ALLOWED: dict[tuple[str, str], str] = {}

# Files that are not cleaned yet; a file that is clean must be taken off the list.
UNCLEAN = frozenset(
    {
        "geotl/experiments/report.py",
        "geotl/experiments/sections.py",
        "geotl/export/model_card.py",
        "geotl/lecture/run.py",
        "geotl/mapping/many_scenes.py",
        "geotl/mapping/page.py",
        "geotl/reporting/html.py",
        "geotl/studies/diagnosis_report.py",
        "geotl/studies/study_report.py",
    }
)
UNCLEAN_HELP: frozenset[str] = frozenset()


def _prose(text: str) -> str:
    """Text without doctests, code blocks, names of arguments and names in backticks."""
    text = re.sub(r"(?ms)^```.*?^```", "", text)
    text = re.sub(r"(?m)^ {4,}[\w, *]+: ", "", text)
    text = re.sub(r"(?m)^\s*(?:>>>|\.\.\.) .*$", "", text)
    return re.sub(r"`[^`\n]*`", "", text)


def _texts(source: str) -> Iterator[str]:
    """String literals of Python code that are sentences: docstrings and messages, with a space."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.value


def _hits(file: Path) -> list[str]:
    source = file.read_text(encoding="utf-8")
    name = file.relative_to(ROOT).as_posix()
    texts = _texts(source) if file.suffix == ".py" else [re.sub(r"(?m)^    .*$", "", source)]
    return [
        match[0].lower()
        for text in texts
        if (name, text) not in ALLOWED
        for match in BAD.finditer(_prose(text))
    ]


def _files() -> list[Path]:
    docs = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [*sorted((ROOT / "geotl").rglob("*.py")), *docs]


def _helps(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Name and help of a command and of all commands below it."""
    yield parser.prog, parser.format_help()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in dict.fromkeys(action.choices.values()):
                yield from _helps(command)


def test_messages_docstrings_and_docs_use_the_words_of_the_field():
    faults = {}
    for file in _files():
        hits, name = _hits(file), file.relative_to(ROOT).as_posix()
        if hits and name not in UNCLEAN:
            faults[name] = sorted(set(hits))
    assert not faults, f"use the words of WORDS instead: {faults}"


def test_help_uses_the_words_of_the_field():
    faults = {
        name: sorted({match[0].lower() for match in BAD.finditer(_prose(text))})
        for name, text in _helps(command_parser())
    }
    faults = {name: hits for name, hits in faults.items() if hits and name not in UNCLEAN_HELP}
    assert not faults, f"use the words of WORDS instead: {faults}"


@pytest.mark.parametrize("name", sorted(UNCLEAN))
def test_files_on_the_list_are_not_clean_yet(name):
    assert _hits(ROOT / name), f"{name} is clean: take it off UNCLEAN"


def test_commands_on_the_list_are_not_clean_yet():
    helps = dict(_helps(command_parser()))
    clean = [name for name in sorted(UNCLEAN_HELP) if not BAD.search(_prose(helps.get(name, "")))]
    assert not clean, f"clean, take them off UNCLEAN_HELP: {clean}"


@pytest.mark.parametrize(("name", "text"), sorted(ALLOWED))
def test_allowed_texts_exist(name, text):
    source = (ROOT / name).read_text(encoding="utf-8")
    assert text in (_texts(source) if name.endswith(".py") else source)


@pytest.mark.parametrize(
    "text",
    [
        "41 of 60 tiles named rightly",
        "306 judged tiles",
        "measured anew",
        "they hang on the draw",
        "12 tiles were learnt from",
        "tiles set\naside",
        "every so manieth pixel",
    ],
)
def test_the_list_finds_the_old_words(text):
    assert BAD.search(_prose(text))


def test_code_and_keys_are_not_prose():
    assert not BAD.search(_prose("the key `judged` of metrics.json\n    >>> told = 1\n"))
    assert list(_texts('x = {"judged": 1}\ny = "a b"')) == ["a b"]
