"""One French word for one thing: the table of docs/GLOSSARY.md is true of every French text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from babel.messages.pofile import read_po

ROOT = Path(__file__).resolve().parents[1]
CATALOGUE = ROOT / "geotl" / "locale" / "fr" / "LC_MESSAGES" / "geotl.po"
PAGES = (ROOT / "README.fr.md", *sorted((ROOT / "docs").rglob("*.fr.md")))
_NAMES = (  # of commands, files, keys and tests, and what is quoted from a slide
    r"`[^`]*`|\{[^}]*\}|« [^»]* »|\]\([^)]*\)|\S*/\S*|--[\w-]+",
    r"\bgeotl [a-z]+(?: [\w./-]+\.\w+)?|\w+=\S*|\w+(?:[._]\w+)+",
)


def words() -> list[tuple[str, str, list[str]]]:
    """English, French, and words that are not used."""
    text = (ROOT / "docs" / "GLOSSARY.md").read_text(encoding="utf-8")
    _, _, table = text.partition("| English | French | not |\n")
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[1:]]
    return [
        (english, french, [] if avoided == "–" else avoided.split(", "))
        for english, french, avoided in rows
    ]


def pattern(word: str) -> str:
    ending = r"\w*" if word.endswith("*") else ""
    return rf"(?<![\w-]){re.escape(word.removesuffix('*'))}{ending}(?![\w-])"


AVOIDED = "|".join(pattern(word) for *_, several in words() for word in several)


def avoided(text: str) -> list[str]:
    """Words in a text that French does not use here; alone in brackets they are a slide's."""
    for names in _NAMES:
        text = re.sub(names, " ", text)
    text = re.sub(rf"\((?:{AVOIDED})\)", " ", text.replace("’", "'"), flags=re.IGNORECASE)
    return re.findall(AVOIDED, text, flags=re.IGNORECASE)


def french_of(value: Any) -> Iterator[str]:
    """The French of a recipe's texts."""
    if isinstance(value, dict):
        for key, inside in value.items():
            yield from [inside] if key == "fr" else french_of(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from french_of(inside)


def french_in_code(path: Path) -> Iterator[str]:
    """What a module gives as `fr`; values are left out of f-strings."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "fr":
            yield literal(node.value)


def french_cells(text: str) -> str:
    """A notebook's script without code and without English, which is in italics."""
    text = "\n".join(re.findall(r"(?m)^# (?!%%)(.*)$", text.partition("# %% [markdown]")[2]))
    return re.sub(r"(?<!\*)\*[^*]+\*(?!\*)", " ", text)


def both_in_code(path: Path) -> Iterator[tuple[str, str]]:
    """What a module gives as `en` and `fr` in one call."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            given = {one.arg: literal(one.value) for one in node.keywords}
            if {"en", "fr"} <= given.keys():
                yield given["en"], given["fr"]


def literal(node: ast.AST) -> str:
    """The text of an expression, values of f-strings left out."""
    parts = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant)]
    return " ".join(part for part in parts if isinstance(part, str))


def both_of(value: Any) -> Iterator[tuple[str, str]]:
    """The English and French of a recipe's texts."""
    if isinstance(value, dict):
        if {"en", "fr"} <= value.keys():
            yield value["en"], value["fr"]
        value = list(value.values())
    if isinstance(value, list):
        for inside in value:
            yield from both_of(inside)


def pairs() -> Iterator[tuple[str, str]]:
    """English texts and their French: of the catalogue, the recipes and the lecture's code."""
    with CATALOGUE.open("rb") as stream:
        for one in read_po(stream):
            if one.id and isinstance(one.id, str):
                yield one.id, str(one.string)
    for path in sorted((ROOT / "recipes" / "lecture").glob("*.yaml")):
        yield from both_of(yaml.safe_load(path.read_text(encoding="utf-8")))
    for path in sorted((ROOT / "geotl" / "lecture").glob("*.py")):
        yield from both_in_code(path)


def texts() -> Iterator[tuple[str, str]]:
    """Every French text, and where it stands."""
    with CATALOGUE.open("rb") as stream:
        for one in read_po(stream):
            several = one.string if isinstance(one.string, tuple) else (one.string,)
            yield from (("catalogue", text) for text in several if one.id)
    for path in sorted((ROOT / "recipes" / "lecture").glob("*.yaml")):
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
        yield from ((path.name, text) for text in french_of(recipe))
    for path in sorted((ROOT / "geotl" / "lecture").glob("*.py")):
        yield from ((path.name, text) for text in french_in_code(path))
    for path in (ROOT / "geotl" / "lecture" / "assets" / "templates").glob("*.html"):
        french = re.findall(r'"fr": ((?:"[^"]*"| ~ [\w.]+ ~ )+)', path.read_text(encoding="utf-8"))
        yield from ((path.name, text) for text in french)
    for path in PAGES:
        lines = path.read_text(encoding="utf-8").splitlines()
        prose = [line for line in lines if not line.startswith("    ")]
        yield path.relative_to(ROOT).as_posix(), " ".join(prose)
    script = ROOT / "docs" / "practical" / "practical.py"
    yield script.name, french_cells(script.read_text(encoding="utf-8"))


def test_french_uses_the_words_of_the_table() -> None:
    found = [(where, word) for where, text in texts() for word in avoided(text)]
    assert found == []


def test_every_kind_of_text_is_read() -> None:
    where = {name for name, _ in texts()}
    assert where >= {"catalogue", "early_stopping.yaml", "fitting.py", "lecture.html"}
    assert where >= {"README.fr.md", "docs/LECTURE.fr.md", "practical.py"}


@pytest.mark.parametrize("row", words(), ids=lambda row: row[0])
def test_a_word_is_used_and_not_avoided(row: tuple[str, str, list[str]]) -> None:
    english, french, _ = row
    first = french.split(", ")[0].partition(" (")[0]
    assert avoided(french) == []
    assert any(first.lower() in text.lower() for _, text in texts()), english


@pytest.mark.parametrize(
    ("english", "french"),
    [
        ("weight decay", "décroissance"),
        ("early stopping", "arrêt précoce"),
        ("batch norm", "normalisation par lots"),
        ("overfit", "surappren"),
        ("underfit", "sous-appren"),
        ("frozen|freez", "g[eè]l"),
        ("learning rate", "taux"),
        ("pretrain", "préentraîn"),
        (r"\bsds?\b|standard deviation", "écarts?-types?"),
        (r"\bfeatures?\b", "caractéristique"),
        (r"\bkernels?\b", "filtre"),
        (r"\bstages?\b", "étage|étape"),
        (r"\bepochs?\b", "époque"),
        (r"\bbatch(?:es)?\b", r"\blots?\b"),
        (r"\bseeds?\b", "graine"),
        (r"\blabels?\b", "étiquet"),
        (r"\bchips?\b", "imagette"),
        (r"\bheads?\b", r"\btêtes?\b"),
        (r"\bprobes?\b", r"\bsondes?\b"),
        ("shortcut", "raccourci"),
        ("threshold", "seuil"),
    ],
)
def test_a_word_is_the_same_wherever_it_is_translated(english: str, french: str) -> None:
    names = "|".join((*_NAMES, r"%\(\w+\)s"))
    found = [(re.sub(names, " ", one), re.sub(names, " ", two)) for one, two in pairs()]
    found = [(one, two) for one, two in found if re.search(english, one, re.IGNORECASE)]
    assert len(found) > 1
    assert [one for one, two in found if not re.search(french, two, re.IGNORECASE)] == []


def test_what_is_avoided_is_seen() -> None:
    assert avoided("La Dégradation des poids, des noyaux") == ["Dégradation", "noyaux"]
    assert avoided("Arrêt précoce (early stopping)") == []
    assert avoided("Early stopping, `dataset`, train.weight_decay") == ["Early stopping"]
    assert avoided("normalisation par lots") == [] != avoided("normalisation par lot,")
