"""The keys of a recipe as people write them, beside the names under which they are stored.

Records, checksums and Python use the stored names, which never change, so that models and run
folders of every version stay comparable. The stored names were once written in recipes too; they
still work there, for one release, with a warning.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

Keys = tuple[str | int, ...]

WRITTEN: Mapping[str, str] = {  # by stored name
    "split.draws": "split.repeats",
    "split.folds": "split.inner_folds",
    "labels.unlabelled": "labels.unlabelled_windows",
    "labels.step_px": "labels.stride_px",
    "model.fresh": "model.allow_random",
    "model.cut_after": "model.truncate_after",
    "model.stages": "model.feature_stages",
    "model.hold_batchnorm": "model.freeze_batchnorm",
    "freeze_until": "model.freeze_until",
    "probe.unlabelled": "probe.semi_supervised",
}
WRITTEN_VALUES: Mapping[str, Mapping[str, str]] = {  # by stored name of the key, then of the value
    "model.adabn": {"training": "train", "transductive": "train_and_test"}
}
STORED: Mapping[str, str] = {new: old for old, new in WRITTEN.items()}
STORED_VALUES = {
    key: {new: old for old, new in words.items()} for key, words in WRITTEN_VALUES.items()
}


def written_keys(keys: Keys) -> Keys:
    """The path of a key as it is written in a recipe.

    >>> written_keys(("split", "draws")), written_keys(("model", "fresh", 0))
    (('split', 'repeats'), ('model', 'allow_random', 0))
    """
    return _renamed_keys(keys, WRITTEN)


def written_name(key: str) -> str:
    """The dotted name of a key as it is written in a recipe.

    >>> written_name("split.folds"), written_name("seed")
    ('split.inner_folds', 'seed')
    """
    return WRITTEN.get(key, key)


def stored_keys(keys: Keys) -> Keys:
    """The path under which a key is stored.

    >>> stored_keys(("model", "freeze_until")), stored_keys(("seed",))
    (('freeze_until',), ('seed',))
    """
    return _renamed_keys(keys, STORED)


def _renamed_keys(keys: Keys, names: Mapping[str, str]) -> Keys:
    for length in range(1, min(len(keys), 2) + 1):
        new = names.get(_dotted(keys[:length]))
        if new is not None:
            return (*new.split("."), *keys[length:])
    return keys


def old_spelling(keys: Keys, value: object) -> str | None:
    """What to write in place of a key or value of an earlier version; None for today's.

    >>> old_spelling(("split", "draws"), 3)
    'split.draws is now split.repeats'
    >>> old_spelling(("model", "adabn"), "training")
    'model.adabn=training is now model.adabn=train'
    """
    key = _dotted(keys)
    if key in WRITTEN:
        return f"{key} is now {WRITTEN[key]}"
    word = WRITTEN_VALUES.get(key, {}).get(value) if isinstance(value, str) else None
    return None if word is None else f"{key}={value} is now {key}={word}"


def stored_value(keys: Keys, value: Any) -> Any:
    """The stored form of the value of a key, which is given by its stored name."""
    return _renamed_value(keys, value, STORED_VALUES)


def written_value(keys: Keys, value: Any) -> Any:
    """The value of a key, which is given by its stored name, as it is written."""
    return _renamed_value(keys, value, WRITTEN_VALUES)


def _renamed_value(keys: Keys, value: Any, words: Mapping[str, Mapping[str, str]]) -> Any:
    known = words.get(_dotted(keys), {})
    return known.get(value, value) if isinstance(value, str) else value


def stored(stated: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    """What a recipe states, by stored names.

    Args:
        stated: keys and values of a recipe, written as today or as in earlier versions.

    Returns:
        The values; what to write in place of each old spelling; and a fault for each key that
        stands there under both of its names.

    >>> stored({"split": {"repeats": 3}, "model": {"fresh": ["fc"]}})
    ({'split': {'draws': 3}, 'model': {'fresh': ['fc']}},
     ['model.fresh is now model.allow_random'], [])
    """
    values = copy.deepcopy(dict(stated))
    here = dict(_pairs(values))
    old = [text for keys, value in here.items() if (text := old_spelling(keys, value))]
    faults = []
    for keys, value in here.items():
        name = stored_keys(keys)
        if name == keys:
            _set(values, keys, stored_value(keys, value))
            continue
        del values[str(keys[0])][keys[1]]
        if name in here:
            faults.append(f"{_dotted(keys)}: given as {_dotted(name)} too, its old name; keep one")
        else:
            _set(values, name, stored_value(name, value))
    return values, old, faults


def written(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a recipe, by stored names, as they are written.

    >>> written({"model": {"adabn": "training", "fresh": []}, "freeze_until": None})
    {'model': {'adabn': 'train', 'allow_random': [], 'freeze_until': None}}
    """
    shown: dict[str, Any] = {}
    for keys, value in _pairs(values):
        if len(keys) == 1 and isinstance(value, Mapping):
            shown.setdefault(str(keys[0]), {})
        else:
            _set(shown, written_keys(keys), written_value(keys, value))
    return shown


def _pairs(values: Mapping[str, Any]) -> Iterator[tuple[Keys, Any]]:
    """(path, value) of every key, and of every key of a section."""
    for key, value in values.items():
        yield (key,), value
        if isinstance(value, Mapping):
            yield from (((key, below), one) for below, one in value.items())


def _set(values: dict[str, Any], keys: Keys, value: Any) -> None:
    """Put a value at a path of one or two keys."""
    at: Any = values if len(keys) == 1 else values.setdefault(str(keys[0]), {})
    at[keys[-1]] = value


def _dotted(keys: Keys) -> str:
    return ".".join(map(str, keys))
