"""What the JSON Schema of a recipe says of its keys: their place, what they allow, all of them."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from geotl.experiments.schema import json_schema, shown
from geotl.experiments.spellings import Keys

Node = Mapping[str, Any]


@functools.cache
def recipe_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, which is not to be changed."""
    draft = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": draft, **json_schema()}


def reference() -> str:
    """The table of all keys in Markdown, as it stands in docs/RECIPES.md."""
    lines = [
        "# The keys of a recipe",
        "",
        "A recipe states only what differs from these defaults. On the command line each key is",
        "set as `key=value`, such as `split.shots=10`; a list as `data.bands=B02,B03,B04`.",
        "This page is what `geotl.experiments.recipe.reference()` returns; a test compares them.",
        "",
        "| key | default | unit | allowed | meaning |",
        "|---|---|---|---|---|",
    ]
    for key, node in leaves(recipe_schema(), ""):
        meaning, unit = _split_unit(node.get("description", ""))
        default = f"`{shown(node['default'])}`" if node.get("default", "") != "" else "–"
        lines.append(f"| `{key}` | {default} | {unit or '–'} | {allowed(node)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _split_unit(description: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.*) \[(.+)\]", description)
    return (match[1], match[2]) if match else (description, "")


def is_section(key: object) -> bool:
    """Whether a key of a recipe holds further keys."""
    node = recipe_schema()["properties"].get(key, {})
    return "$ref" in node


def node_at(keys: Keys) -> Node | None:
    """The schema of the key at this path; None if there is no such key."""
    node: Node = recipe_schema()
    for key in keys:
        inner, _ = plain_node(node)
        if isinstance(key, int):
            each = inner.get("prefixItems", [])
            child = each[key] if key < len(each) else inner.get("items")
        else:
            child = inner.get("properties", {}).get(key, inner.get("additionalProperties"))
        if not isinstance(child, dict):
            return None
        node = child
    return node


def plain_node(node: Node) -> tuple[Node, bool]:
    """A schema node with references followed, and whether null is allowed beside it."""
    choices = node.get("anyOf", [node])
    inner = next((choice for choice in choices if choice.get("type") != "null"), node)
    if "$ref" in inner:
        inner = recipe_schema()["$defs"][inner["$ref"].rpartition("/")[2]]
    return inner, len(choices) > 1


def leaves(node: Node, prefix: str) -> Iterator[tuple[str, Node]]:
    """(dotted key, schema) of every key that is no section, those of list items as `[]`."""
    for key, child in plain_node(node)[0].get("properties", {}).items():
        name = f"{prefix}{key}"
        inner, nullable = plain_node(child)
        if "properties" not in inner or nullable:
            yield name, child
        yield from leaves(child, f"{name}.")
        if "items" in inner:
            yield from leaves(inner["items"], f"{name}[].")


def allowed(node: Node) -> str:
    """What a key may hold, in words."""
    choices = node.get("anyOf", [node])
    kinds = [_kind(plain_node(choice)[0]) for choice in choices if choice.get("type") != "null"]
    nullable = len(kinds) < len(choices)
    several = len(kinds) > 1 or "," in kinds[0]
    return ", or ".join(kinds) + (", or null" if several else " or null") * nullable


def _kind(node: Node) -> str:
    if "enum" in node:
        words = (str(v).lower() if isinstance(v, bool) else str(v) for v in node["enum"])
        return "one of " + ", ".join(words)
    if "prefixItems" in node:
        each = [allowed(item) for item in node["prefixItems"]]
        return f"a list of {len(each)}: " + ", ".join(each)
    if node.get("type") == "array":
        least = f", {node['minItems']} or more" if "minItems" in node else ""
        return f"a list, each {allowed(node['items'])}{least}"
    if node.get("type") == "object":
        values = node.get("additionalProperties")
        return f"keys with {allowed(values)}" if isinstance(values, dict) else "keys with values"
    names = {"integer": "an integer", "number": "a number", "boolean": "true or false"}
    bounds = {
        "minLength": "not empty",
        "minimum": "at least {}",
        "exclusiveMinimum": "above {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "below {}",
        "pattern": "matching {}",
    }
    limits = [words.format(node[key]) for key, words in bounds.items() if key in node]
    return ", ".join([names.get(node.get("type", ""), "text"), *limits])
