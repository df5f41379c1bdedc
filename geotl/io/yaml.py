"""YAML as recipes write it: safe, without duplicate keys, and with numbers that are numbers.

PyYAML follows YAML 1.1, where `1e-3` is text, `010` is eight, `12:30` is 750 and a date is an
object. Here numbers are read as in YAML 1.2's core schema and the others stay text; the words
yes, no, on and off stay booleans, because people write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

MOST_NODES, MOST_TEXT = 100_000, 4 << 20  # no recipe comes near
_REPLACED = ("int", "float", "timestamp", "value")


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    kept = {
        first: [(tag, pattern) for tag, pattern in rules if tag.rpartition(":")[2] not in _REPLACED]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    number = r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?"
    special = r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    for tag, pattern in (
        ("int", r"^[-+]?(0|[1-9][0-9]*)$"),
        ("float", rf"^({number}|{special})$"),
    ):
        for first in "-+.0123456789":
            rule = (f"tag:yaml.org,2002:{tag}", re.compile(pattern))
            kept.setdefault(first, []).append(rule)
    return kept


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _resolvers()


class _Dumper(yaml.SafeDumper):
    # The same rules as for reading, so that text which looks like a number is quoted.
    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


_Dumper.add_representer(
    list,
    lambda dumper, items: dumper.represent_sequence(
        "tag:yaml.org,2002:seq", items, flow_style=True
    ),
)
_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str",
        text,
        # PyYAML folds some line separators into blanks in any other style.
        style=None if text.isprintable() else '"',
    ),
)


def parse(text: str) -> tuple[Any, list[str]]:
    r"""The value a YAML document states, and a line for each fault in it.

    >>> parse("lr: 1e-3")
    ({'lr': 0.001}, [])
    >>> parse("a: 1\nb: {c: 2, c: 3}")
    ({'a': 1, 'b': {'c': 3}}, ['line 2: key b.c is given twice; keep one'])
    >>> parse("a: [1")[1]
    ["line 1: not valid YAML (expected ',' or ']', but got '<stream end>')"]
    """
    if len(text) > MOST_TEXT:
        return None, [f"not read: more than {MOST_TEXT:,} characters"]
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, []
        if _expanded(node, {}) > MOST_NODES:
            return None, [f"not read: with its aliases more than {MOST_NODES:,} values"]
        return loader.construct_document(node), list(_twice(node, (), set()))
    except yaml.MarkedYAMLError as error:
        line = 1 + (error.problem_mark.line if error.problem_mark else 0)
        return None, [f"line {line}: not valid YAML ({error.problem or error.context})"]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return None, [f"not valid YAML ({' '.join(str(error).split())})"]


def _expanded(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for, those behind aliases counted wherever they are named."""
    if id(node) not in known:
        known[id(node)] = 1  # while it is counted: an alias may stand inside what it names
        inside: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inside = node.value
        elif isinstance(node, yaml.MappingNode):
            inside = [each for pair in node.value for each in pair]
        known[id(node)] = 1 + sum(_expanded(each, known) for each in inside)
    return known[id(node)]


def _twice(node: yaml.Node, path: tuple[str, ...], seen: set[int]) -> Iterator[str]:
    """A fault for each key that a mapping, at any depth, states more than once."""
    if id(node) in seen:  # an anchor's node stands in several places
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _twice(item, (*path, str(number)), seen)
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            word = str(key.value)
            here = (*path, word)
            if word in keys:
                line = key.start_mark.line + 1
                yield f"line {line}: key {'.'.join(here)} is given twice; keep one"
            keys.add(word)
            yield from _twice(value, here, seen)


def write(value: Any) -> str:
    """YAML of plain values: sections as blocks, lists on one line, keys in their order.

    >>> print(write({"b": [1, 2], "a": "1e-3"}), end="")
    b: [1, 2]
    a: '1e-3'
    """
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
