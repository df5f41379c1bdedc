"""Recipes: from YAML and `a.b=c` overrides to checked settings, and back.

A YAML file states only what differs from the defaults. All faults are found and reported
together, one a line: the key, what was given, what is allowed, the nearest key.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import geotl
from geotl.console import Log, warn_once
from geotl.errors import RecipeError, nearest
from geotl.experiments.recipe_keys import (
    Node,
    allowed,
    is_section,
    leaves,
    node_at,
    plain_node,
    recipe_schema,
    reference,
)
from geotl.experiments.rules import SPATIAL
from geotl.experiments.schema import Recipe, contradictions, shown
from geotl.experiments.sections import SENSOR_KINDS
from geotl.experiments.spellings import (
    Keys,
    old_spelling,
    stored,
    stored_keys,
    stored_value,
    written,
    written_keys,
)
from geotl.io import yaml
from geotl.io.files import given_path
from geotl.language import of_recipe
from geotl.training.kornia_keys import stated_fault

__all__ = [
    "Recipe",
    "available",
    "dump",
    "lectures",
    "load",
    "reference",
    "resolve_root",
    "resolve_sample",
    "resolve_weights",
    "schema",
    "shipped",
    "shown_title",
    "titles",
    "written_text",
]

CHIP_KEYS = {  # stated with scenes, they mean that chips are classified
    "labels.chip_px",
    "labels.purity",
    "labels.per_polygon",
    "labels.min_valid",
    "labels.step_px",
    "labels.unlabelled",
    "model.input_px",
    "probe.head",
    "probe.views",
}
CHIP_STRATEGIES = ("probe", "probe_then_finetune", "full", "scratch")
LECTURE = "lecture/"  # the folder of recipes of another kind: demonstrations, not runs


def load(
    source: str | Path | None, overrides: Sequence[str] = (), *, warn: Log = warn_once
) -> Recipe:
    """The recipe in a file, of a shipped name, or (None) of defaults; overrides `split.shots=10`.

    Args:
        source: file or name.
        overrides: `key=value`, each stronger than the file.
        warn: takes a line for each key that is written as in earlier versions.

    Raises:
        RecipeError: with every fault found, one a line.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "mine.yaml"
    >>> _ = path.write_text("split: {shots: 5}")
    >>> recipe = load(path, ["train.lr=1e-4"])
    >>> recipe.name, recipe.split.method, recipe.train.lr
    ('mine', 'shots', 0.0001)
    """
    path, faults = _locate(str(source)) if source is not None else (None, [])
    as_read, found = _read(path) if path else ({}, [])
    stated, old, twice = stored(as_read)
    given, wrong = _overrides(overrides)
    label = str(path or source or "run")
    faults += [f"{label}: {fault}" for fault in found + twice]
    faults += [f"command line: {fault}" for fault in wrong]
    for text in [*old, *_old_overrides(overrides)]:
        warn(f"recipe: {text}; the old spelling works until the next release")
    _imply(stated, given, Path(label).stem)
    recipe, found_in_values = _check(_with_overrides(stated, given))
    for keys, fault in found_in_values:
        overridden = any(keys[: len(path)] == path[: len(keys)] for path in given)
        faults.append(f"{'command line' if overridden else label}: {fault}")
    if recipe is None or faults:
        raise RecipeError("\n".join(faults))
    return recipe


def dump(recipe: Recipe) -> str:
    """The whole recipe as YAML, by stored names: for records and checksums, which never change.

    `load` reads it back equal.
    """
    return yaml.write(recipe.model_dump(mode="json"))


def written_text(recipe: Recipe) -> str:
    """The whole recipe as YAML, every default given, as people write it; `load` reads it back."""
    return yaml.write(written(recipe.model_dump(mode="json")))


def schema() -> dict[str, Any]:
    """The JSON Schema of a recipe (draft 2020-12), with which editors complete keys."""
    return copy.deepcopy(recipe_schema())


def shipped() -> dict[str, Path]:
    """Name and file of every recipe that comes with geotl, but for the lecture's."""
    return _runnable(_recipes_in(_shipped_folder("recipes")))


def available() -> dict[str, Path]:
    """Name and file of every recipe found by name: those in ./recipes, then the shipped."""
    return shipped() | _runnable(_recipes_in(Path("recipes")))


def lectures() -> dict[str, Path]:
    """Name and file of every recipe of the lecture, which `geotl lecture` reads."""
    return _recipes_in(_shipped_folder("recipes") / LECTURE.rstrip("/"))


def _runnable(found: Mapping[str, Path]) -> dict[str, Path]:
    return {name: path for name, path in found.items() if not name.startswith(LECTURE)}


def titles() -> dict[str, str]:
    """Name and title of every recipe found by name; for a damaged one, what is wrong."""
    found: dict[str, str] = {}
    for name, path in sorted(available().items()):
        stated, faults = _read(path)
        found[name] = f"({faults[0]})" if faults else str(stated.get("title", ""))
    return found


def shown_title(recipe: Recipe) -> str:
    """A recipe's title, else its name; a title that comes with geotl in the page's language."""
    return of_recipe(recipe.title) or recipe.name


def resolve_root(text: str | None) -> Path:
    """The folder that `data.root` means: a path, `~` expanded, or `sample:NAME`.

    Raises:
        RecipeError: none is given, or there are no sample tiles of that name.

    >>> resolve_root("tiles").as_posix()
    'tiles'
    """
    if text is None:
        raise RecipeError("data.root: not given; name the folder of tiles: data.root=FOLDER")
    return resolve_sample("data.root", text, folders=True)


def resolve_sample(key: str, text: str, *, folders: bool = False) -> Path:
    """The path that a key's text means, `~` expanded, or `sample:NAME` among the samples.

    Raises:
        RecipeError: there is no sample of that name.
    """
    if not text.startswith("sample:"):
        return given_path(text)
    folder, name = _shipped_folder("sample_tiles"), text.removeprefix("sample:")
    inside = folder.iterdir() if folder.is_dir() else ()
    names = sorted(p.name for p in inside if p.is_dir() == folders and p.suffix != ".py")
    if name not in names:
        kind = "sample tiles" if folders else "sample"
        raise RecipeError(f"{key}: given {text}; no such {kind}; {nearest(name, names)}")
    return folder / name


def resolve_weights(text: str) -> str:
    """What `model.weights` means, with a leading `~` expanded."""
    return str(given_path(text)) if text.startswith("~") else text


def _shipped_folder(name: str) -> Path:
    """A folder beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(geotl.__file__).resolve().parent
    inside, beside = package / name, package.parent / name
    is_checkout = (package.parent / "pyproject.toml").is_file()
    return beside if is_checkout and beside.is_dir() else inside


def _recipes_in(folder: Path) -> dict[str, Path]:
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for path in sorted(folder.rglob("*.yaml"))
    }


def _locate(source: str) -> tuple[Path | None, list[str]]:
    path = given_path(source)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path, []
    if source not in available() and path.is_dir():
        return None, [
            f"{source}: a folder; give the recipe's file in it (its name ends with .yaml)"
        ]
    if path.suffix in (".yaml", ".yml"):
        return None, [f"{source}: no such file; give a recipe's file or name (geotl recipe list)"]
    known = available()
    if source in known:
        return known[source], []
    if source.removeprefix(LECTURE) in lectures():
        name = source.removeprefix(LECTURE)
        return None, [f"{source}: a demonstration of the lecture; geotl lecture {name} runs it"]
    hint = nearest(source, known) if known else "none are there"
    return None, [f"{source}: no recipe of that name; {hint} (a file's name ends with .yaml)"]


def _read(path: Path) -> tuple[dict[str, Any], list[str]]:
    """What a file states, and the faults that keep it from being read."""
    try:
        stated, faults = yaml.parse(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        return {}, ["not UTF-8 text; a recipe is a YAML file"]
    except OSError as error:
        return {}, [f"cannot be read ({error.strerror})"]
    if stated is None:
        return {}, faults
    if not isinstance(stated, dict):
        return {}, [*faults, f"given {shown(stated)}; allowed: keys with values, such as seed: 1"]
    # A section's bare heading, with every key below it commented out, states nothing.
    empty = [key for key, value in stated.items() if value is None and is_section(key)]
    return {key: value for key, value in stated.items() if key not in empty}, faults


def _overrides(texts: Sequence[str]) -> tuple[dict[tuple[str, ...], Any], list[str]]:
    """Key path to value of every override, and the faults among them."""
    given: dict[tuple[str, ...], Any] = {}
    faults: list[str] = []
    for text in texts:
        key, equals, value = text.partition("=")
        keys = stored_keys(tuple(key.strip().split(".")))
        node = node_at(written_keys(keys))
        if not equals:
            faults.append(f"{shown(text)}: no '='; allowed: key=value, such as split.shots=10")
        elif node is None:
            faults.append(_unknown(keys, value))
        else:
            read, found = _override_value(value, node)
            given[tuple(map(str, keys))] = stored_value(keys, read)
            faults += [f"{key.strip()}: {fault}" for fault in found]
    return given, faults


def _old_overrides(texts: Sequence[str]) -> list[str]:
    """What to write in place of each override of an earlier version."""
    pairs = (text.partition("=") for text in texts)
    found = (old_spelling(tuple(key.strip().split(".")), value) for key, _, value in pairs)
    return [text for text in found if text]


def _override_value(text: str, node: Node) -> tuple[Any, list[str]]:
    """The value that an override's text means for a key of this kind."""
    inner, nullable = plain_node(node)
    kind = inner.get("type")
    if text in ("null", "~") or (text == "" and nullable):
        return None, []
    if kind == "string":  # text is taken as it is: yes, 010 and #00ff00 need no quotes
        return text, []
    if kind == "array" and not text.lstrip().startswith("["):
        text = f"[{text}]"
    return yaml.parse(text)


def _imply(stated: dict[str, Any], given: dict[tuple[str, ...], Any], stem: str) -> None:
    """Fill in what other keys imply; where file and override differ, the later word holds."""
    stated.setdefault("name", re.sub("[^a-z0-9_-]+", "-", stem.lower()).strip("-_")[:64] or "run")
    _imply_pixels(stated, given)
    _imply_base(stated, given)
    split = stated.get("split")
    if isinstance(split, dict) and split.get("shots") is not None:
        split.setdefault("method", "shots")
    _imply_split(split if isinstance(split, dict) else {}, given)
    data = stated.get("data")
    if isinstance(data, dict) and data.get("custom_sensor") is not None:
        data.setdefault("sensor", "custom")


def _imply_base(stated: dict[str, Any], given: dict[tuple[str, ...], Any]) -> None:
    """Let data.sensor.scale and its like on the command line change a sensor given by name."""
    key = ("data", "sensor")
    if not any(keys[:2] == key and len(keys) > 2 for keys in given):
        return
    data = stated.setdefault("data", {})
    if isinstance(data, dict):
        named = given.pop(key, data.get("sensor"))
        data["sensor"] = {"base": named} if isinstance(named, str) else named or {}


def _imply_pixels(stated: dict[str, Any], given: dict[tuple[str, ...], Any]) -> None:
    """Resolve task auto; pixels are tested in five folds of blocks, or as the recipe says."""
    task = given.get(("task",), stated.get("task", "auto"))
    if task == "auto":
        given.pop(("task",), None)
        task = stated["task"] = _task_of(_with_overrides(stated, given))
    split = stated.setdefault("split", {}) if task == "pixels" else None
    if isinstance(split, dict):
        method = given.get(("split", "method"), split.setdefault("method", "blocks"))
        if method in ("blocks", "group"):
            split.setdefault("kfold", 5)


def _task_of(values: Mapping[str, Any]) -> str:
    """What keys say of the task: scenes give pixels, unless a key is stated that only chips take.

    >>> _task_of({"data": {"scenes": ["a.tif"]}}), _task_of({"data": {"root": "tiles"}})
    ('pixels', 'tiles')
    >>> _task_of({"data": {"scenes": ["a.tif"]}, "labels": {"chip_px": 16}})
    'tiles'
    """
    sections = {key: part for key, part in values.items() if isinstance(part, dict)}
    stated = {f"{section}.{key}" for section, part in sections.items() for key in part}
    of_chips = stated & CHIP_KEYS or values.get("strategy", "auto") in CHIP_STRATEGIES
    return "pixels" if "data.scenes" in stated and not of_chips else "tiles"


def _imply_split(stated: Mapping[str, Any], given: dict[tuple[str, ...], Any]) -> None:
    """What overrides of the split imply: shots never make a spatial split a random one."""
    shots, method, draws, kfold = (
        ("split", name) for name in ("shots", "method", "draws", "kfold")
    )
    if given.get(shots) is not None:
        if stated.get("method") not in SPATIAL:
            given.setdefault(method, "shots")
    elif given.get(method, "shots") != "shots":
        given.setdefault(shots, None)
    if given.get(method, "blocks") != "blocks":
        given.setdefault(("split", "block_m"), None)
    if given.get(method, "blocks") not in SPATIAL:
        given.setdefault(kfold, None)
        given.setdefault(("split", "buffer_m"), 0.0)
    if given.get(kfold) is not None:
        given.setdefault(draws, 1)


def _with_overrides(stated: Mapping[str, Any], given: Mapping[tuple[str, ...], Any]) -> Any:
    """What the file states with the overrides laid over it; the file's own values are copied."""
    merged = copy.deepcopy(dict(stated))
    for keys, value in given.items():
        at: Any = merged
        for key in keys[:-1]:
            at = at.setdefault(key, {}) if isinstance(at, dict) else at
        if isinstance(at, dict):  # otherwise the file's own fault there is reported
            at[keys[-1]] = value
    return merged


def _check(values: dict[str, Any]) -> tuple[Recipe | None, list[tuple[Keys, str]]]:
    """The recipe, or every fault in the values with the path of its key."""
    recipe: Recipe | None = None
    faults: list[tuple[Keys, str]] = []
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        entries = [
            (tuple(key for key in entry["loc"] if key not in SENSOR_KINDS), entry)
            for entry in error.errors(include_url=False)
        ]
        for keys, entry in entries:
            # What holds another fault (a list its items', the root the contradictions) repeats it.
            holds = any(keys == other[: len(keys)] != other for other, _ in entries)
            if keys and not holds:
                faults.append((keys, _fault(entry, keys)))
    whole = _overlaid(Recipe().model_dump(), values)
    faulty = {keys for keys, _ in faults}
    for key, text in contradictions(whole, faulty):
        faults.append((stored_keys(tuple(key.split("."))), f"{key}: {text}"))
    return recipe, faults


def _overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        key: _overlaid(below[key], value)
        for key, value in above.items()
        if isinstance(value, dict) and isinstance(below.get(key), dict)
    }
    return {**below, **above, **both}


def _fault(entry: Mapping[str, Any], keys: Keys) -> str:
    """One line: the key, what was given, what is allowed, the nearest word."""
    kind, given, keys = entry["type"], entry["input"], written_keys(keys)
    name = _dotted(keys)
    if text := stated_fault(entry):
        return f"{name}: {text}"
    if keys[-1] == "[key]" or kind == "invalid_key":
        name = name.removesuffix(".[key]")
        return f"{name}: given as a key; allowed: text (put it in quotes)"
    if kind == "extra_forbidden":
        return _unknown(keys, given)
    node = node_at(keys) or {}
    if kind == "missing":
        return f"{name}: missing; allowed: {allowed(node)}"
    words = [str(word) for word in plain_node(node)[0].get("enum", ())]
    close = difflib.get_close_matches(str(given), words, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{name}: given {shown(given)}; allowed: {allowed(node)}{hint}"


def _dotted(keys: Keys) -> str:
    return ".".join(map(shown, keys))


def _unknown(keys: Keys, given: object) -> str:
    """The fault of a key that does not exist, with the nearest one that does."""
    keys = written_keys(keys)
    wrong = next(n for n in range(1, len(keys) + 1) if node_at(keys[:n]) is None)
    parent = _dotted(keys[: wrong - 1])
    within = plain_node(node_at(keys[: wrong - 1]) or {})[0].get("properties", {})
    siblings = {str(key): f"{parent}.{key}" if parent else str(key) for key in within}
    elsewhere = {key.rpartition(".")[2]: key for key, _ in leaves(recipe_schema(), "")}
    word = str(keys[wrong - 1])
    for names in (siblings, elsewhere):
        close = difflib.get_close_matches(word, names, n=1)
        if close:
            hint = f"did you mean {names[close[0]]!r}?"
            break
    else:
        hint = "allowed: " + (", ".join(siblings.values()) or f"{parent} holds no further keys")
    return f"{_dotted(keys)}: given {shown(given)}, but there is no such key; {hint}"
