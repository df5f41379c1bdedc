"""A finding on labelled tiles: what is the matter, how grave it is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from geotl.language import msg

Gravity = Literal["wrong", "doubtful", "worth knowing"]
GRAVITIES: tuple[Gravity, ...] = ("wrong", "doubtful", "worth knowing")
WORDS = {
    "wrong": msg("wrong"),
    "doubtful": msg("doubtful"),
    "worth knowing": msg("worth knowing"),
}


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

    @property
    def title(self) -> str:
        """How serious it is, and its kind."""
        return msg("{gravity}: {kind}", gravity=WORDS[self.gravity], kind=self.kind)


def by_gravity(findings: list[Finding]) -> list[Finding]:
    """Findings, the most serious first.

    >>> result = [Finding("doubtful", "a", "", ""), Finding("wrong", "b", "", "")]
    >>> [one.kind for one in by_gravity(result)]
    ['b', 'a']
    """
    return sorted(findings, key=lambda one: GRAVITIES.index(one.gravity))
