"""Options under the names that they had before: each works for one release, with a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_OUTPUT = {"--out": "--output"}
_STRIDE = {"--step": "--stride-px"}
_VALUES = {"--force": "--skip-value-check"}
_TEST_TILES = {"--judged": "--test-tiles"}
_REPEATS = {"--draws": "--repeats"}

OLD_OPTIONS: Mapping[str, Mapping[str, str]] = {  # by command: the old name, and today's
    "run": _OUTPUT,
    "curve": _OUTPUT | _REPEATS,
    "diagnose": _OUTPUT | _TEST_TILES,
    "study": _OUTPUT,
    "generate": _OUTPUT | _TEST_TILES | _REPEATS,
    "lecture": _OUTPUT,
    "augment": {"--preview": "--output"},
    "chips": _OUTPUT | {"--step-px": "--stride-px", "--map": "--rename"},
    "suggest": _STRIDE | {"--outside": "--ignore-applicability"},
    "sample": {"--minimum": "--min-per-class"},
    "predict": _VALUES,
    "evaluate": _VALUES | {"--all": "--include-training"},
    "map": _OUTPUT | _STRIDE | _VALUES | {"--posting": "--resolution-px"},
    "export": _OUTPUT | _STRIDE,
}


def with_new_options(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """A command line with today's options, and the new name of every old one in it.

    Args:
        words: what follows `geotl`; the first is the command.

    >>> with_new_options(["map", "m.safetensors", "s.tif", "--out=map.tif", "--step", "8"])
    (['map', 'm.safetensors', 's.tif', '--output=map.tif', '--stride-px', '8'],
     {'--out': '--output', '--step': '--stride-px'})
    """
    known = OLD_OPTIONS.get(words[0], {}) if words else {}
    end = words.index("--") if "--" in words else len(words)
    given: dict[str, str] = {}
    new: list[str] = []
    for word in words[:end]:
        option, equals, value = word.partition("=")
        new.append(known.get(option, option) + equals + value)
        if option in known:
            given[option] = known[option]
    return [*new, *words[end:]], given
