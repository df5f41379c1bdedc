"""Every recipe key and every column that a message can ask for stands in the docs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = "data labels split pixels decoder model probe train augment evaluate".split()  # noqa: SIM905
KEY = re.compile(rf"\b(?:{'|'.join(SECTIONS)})\.[a-z][a-z_]*\d*")
COLUMN = re.compile(r"columns? '?([a-z_]+)'?(?: and ([a-z_]+))?")
FILES = {"gpkg", "csv", "tif", "safetensors", "onnx", "pth", "yaml", "json", "html", "png"}
CODE = {"model.predict"}  # in the model card's example
NO_COLUMNS = {"what", "of", "names", "is", "in", "that", "for", "or", "with", "among", "the"}
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def strings(path: Path) -> Iterator[str]:
    """Text in a module's strings that is no docstring; in f-strings what stands beside values."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    own = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and " " in text and id(node) not in own:
            yield text


MESSAGES = [
    (path.relative_to(ROOT).as_posix(), text)
    for path in sorted((ROOT / "geotl").rglob("*.py"))
    for text in strings(path)
]


@pytest.fixture(scope="module")
def keys() -> set[str]:
    table = (ROOT / "docs" / "RECIPES.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `([a-z0-9_.\[\]]+)`", table, re.MULTILINE))


def test_every_key_in_a_message_is_a_key_of_the_reference(keys) -> None:
    asked = {(path, found) for path, text in MESSAGES for found in KEY.findall(text)}
    assert len(asked) > 100
    assert not {
        (path, found)
        for path, found in asked
        if found not in keys | CODE and found.partition(".")[2] not in FILES
    }


def test_every_column_in_a_message_is_in_the_docs() -> None:
    """Red before: a manifest's crs was asked for and stood nowhere."""
    text = "".join(path.read_text(encoding="utf-8") for path in DOCS)
    asked = {
        (path, word)
        for path, message in MESSAGES
        for pair in COLUMN.findall(message)
        for word in pair
        if word and word not in NO_COLUMNS
    }
    assert {"crs", "label", "path"} <= {word for _, word in asked}
    assert not {(path, word) for path, word in asked if f"`{word}`" not in text}


def test_the_columns_of_a_manifest_are_in_the_docs() -> None:
    text = (ROOT / "docs" / "TILES.md").read_text(encoding="utf-8")
    manifest = text[text.index("## Manifests") :].partition("\n## ")[0]
    for column in ("path", "label", "split", "group", "x", "y", "crs", "synthetic"):
        assert f"`{column}`" in manifest, column
