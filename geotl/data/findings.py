"""A finding on labelled tiles: what is the matter, how grave it is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Gravity = Literal["wrong", "doubtful", "worth knowing"]
GRAVITIES: tuple[Gravity, ...] = ("wrong", "doubtful", "worth knowing")


@dataclass(frozen=True)
class Finding:
    """A finding of a check.

    Attributes:
        gravity: wrong (results will mislead), doubtful (check it first), or worth knowing.
        kind: a word for programs, such as "label conflict".
        said: the finding as text.
        remedy: what the user can do.
        tiles: names of the tiles concerned, if it concerns some.
    """

    gravity: Gravity
    kind: str
    said: str
    remedy: str
    tiles: tuple[str, ...] = ()


def many(number: int, what: str, one: str = "", several: str = "") -> str:
    """A number of things, with a verb that agrees.

    >>> many(1, "tile", "has", "have"), many(3, "tile", "has", "have"), many(2, "pair")
    ('1 tile has', '3 tiles have', '2 pairs')
    """
    text = f"{number} {what}" if number == 1 else f"{number} {what}s"
    return " ".join(word for word in (text, one if number == 1 else several) if word)


def by_gravity(findings: list[Finding]) -> list[Finding]:
    """Findings, the most serious first.

    >>> result = [Finding("doubtful", "a", "", ""), Finding("wrong", "b", "", "")]
    >>> [one.kind for one in by_gravity(result)]
    ['b', 'a']
    """
    return sorted(findings, key=lambda one: GRAVITIES.index(one.gravity))
