"""Text without the folders of the machine it was written on: of every path, its last name alone.

What is published says what a model was made from, not where a lab keeps its files.
"""

from __future__ import annotations

import re
from typing import Any

from geotl.io.yaml import parse, write

_HOME, _DRIVE, _SHARE = (
    r"(?<![\w.])~[\w.-]*[/\\]",
    r"(?<!\w)[A-Za-z]:[/\\](?!/)",
    r"(?<![\w./\\])\\{2}",
)
_FILE, _ROOT = r"file:/{3}", r"(?<![\w./\\])/(?!/)"
_START = f"(?:{_FILE}|{_HOME}|{_DRIVE}|{_SHARE}|{_ROOT})"
_STEP = r"[^\s/\\'\"<>|:;,()\[\]{}]+"
_INSIDE = re.compile(rf"{_START}(?:{_STEP}[/\\]+)+({_STEP})?")
_WHOLE = re.compile(rf"{_START}[^\n:]*")


def without_folders(text: str) -> str:
    r"""A text whose absolute paths are cut to their last name; addresses of the web stay.

    A path that is the whole text may hold blanks; one inside a sentence ends at the first.

    >>> without_folders("/srv/lab data/weights/resnet18.pth")
    'resnet18.pth'
    >>> without_folders("first convolution of /home/ann/w.pth, https://x.org/a/b, 1/2, ../data")
    'first convolution of w.pth, https://x.org/a/b, 1/2, ../data'
    >>> without_folders("torchgeo:EuroSAT:/home/ann/eurosat/"), without_folders(r"C:\Lab\m.pth")
    ('torchgeo:EuroSAT:eurosat', 'm.pth')
    """
    if _WHOLE.fullmatch(text) and re.search(r"[/\\]", text[1:]):
        return re.split(r"[/\\]", text.rstrip("/\\"))[-1]
    return _INSIDE.sub(_last, text)


def _last(found: re.Match[str]) -> str:
    return re.split(r"[/\\]", found.group().rstrip("/\\"))[-1]


def shareable(value: Any) -> Any:
    """Plain values (as JSON or YAML hold them) with `without_folders` of every text in them.

    >>> shareable({"data": {"root": "/srv/tiles", "draws": 2}, "scenes": ["/a/b/c.tif"]})
    {'data': {'root': 'tiles', 'draws': 2}, 'scenes': ['c.tif']}
    """
    if isinstance(value, str):
        return without_folders(value)
    if isinstance(value, dict):
        return {key: shareable(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [shareable(held) for held in value]
    return value


def shareable_recipe(text: str) -> str:
    r"""A recipe's YAML with every path cut to its last name.

    >>> print(shareable_recipe("data:\n  root: /srv/tiles\n"), end="")
    data:
      root: tiles
    """
    told, faults = parse(text)
    return without_folders(text) if faults or told is None else write(shareable(told))
