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
    code_blocks = r"(?m)^    .*$" if file.suffix == ".md" else r"{#.*?#}"
    texts = _texts(source) if file.suffix == ".py" else [re.sub(code_blocks, "", source)]
    return [match[0].lower() for text in texts for match in BAD.finditer(_prose(text))]


def _files() -> list[Path]:
    single = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile")]
    folders = {"geotl": ("*.py", "templates/*"), "docs": ("*.md", "*.py"), "recipes": ("*.yaml",)}
    folders |= dict.fromkeys(("benchmarks", "sample_tiles"), ("*.py",))
    several = ((ROOT / folder).rglob(kind) for folder, kinds in folders.items() for kind in kinds)
    return single + sorted(path for paths in several for path in paths)


def _helps(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Name and help of a command and of all commands below it."""
    yield parser.prog, parser.format_help()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in dict.fromkeys(action.choices.values()):
                yield from _helps(command)


def test_messages_docstrings_and_docs_use_the_words_of_the_field():
    hits = {file.relative_to(ROOT).as_posix(): sorted(set(_hits(file))) for file in _files()}
    faults = {name: words for name, words in hits.items() if words}
    assert not faults, f"use the words of WORDS instead: {faults}"


def test_help_uses_the_words_of_the_field():
    faults = {
        name: sorted({match[0].lower() for match in BAD.finditer(_prose(text))})
        for name, text in _helps(command_parser())
    }
    faults = {name: hits for name, hits in faults.items() if hits}
    assert not faults, f"use the words of WORDS instead: {faults}"


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


def test_help_prints_percent_signs_once():
    """Red before: "with 95 %% intervals" in the help of accuracy, which no parser expands."""
    shown = dict(_helps(command_parser()))
    assert len(shown) > 20
    assert not [prog for prog, text in shown.items() if re.search(r"%%|%\(", text)]
