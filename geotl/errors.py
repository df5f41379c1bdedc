"""The errors geotl raises: one root, each also the builtin a caller would expect.

A message says what was given, what is allowed and what to change, on one line.
The command line prints it and ends with exit code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class GeoTLError(Exception):
    """The root of every error geotl raises on purpose."""


class RecipeError(GeoTLError, ValueError):
    """A recipe that does not fit the schema; holds every fault found, one a line."""


class DataError(GeoTLError, ValueError):
    """Imagery or labels that cannot be used as they are."""


class BandError(DataError):
    """Bands that are missing, unknown or not named."""


class MissingBandError(BandError):
    """Bands that are not there.

    Attributes:
        bands: their names.
        place: the file or folder without them, None if not known.
    """

    def __init__(self, message: str, bands: Sequence[str] = (), place: Path | None = None) -> None:
        """Say so, and keep what the message is made of."""
        super().__init__(message)
        self.bands, self.place = tuple(bands), place


class OutsideError(DataError):
    """An area of interest that does not meet a scene."""


class WeightsError(GeoTLError, ValueError):
    """A weight file that does not fit the network it was given for."""


class SettingError(GeoTLError, ValueError):
    """Options of a command that do not go together."""


class ModelError(GeoTLError, ValueError):
    """A model file that is damaged, foreign, or of an unknown format version."""


class OutputError(GeoTLError, OSError):
    """Output that could not be written, or that would overwrite something."""


class UnfinishedError(GeoTLError):
    """Work of which a part failed; what was finished is there (exit code 1)."""


@contextmanager
def needed_by_model(given: str, sensor: str) -> Iterator[None]:
    """Tell of bands missing from what a model is given, with bands that no setting changes.

    Args:
        given: what is to have them, such as a scene.
        sensor: name of the one that they were looked for under.

    Raises:
        BandError: in place of a `MissingBandError`.
    """
    try:
        yield
    except MissingBandError as error:
        names, them = ", ".join(error.bands), "it" if len(error.bands) == 1 else "them"
        has = "have" if given == "tiles" else "has"
        raise BandError(
            f"{error.place or given}: no band {names}, which this model needs; give {given} that "
            f"{has} {them}, or name the sensor with --sensor (now {sensor})"
        ) from error


def nearest(name: str, allowed: Iterable[str], more: str = "") -> str:
    """Name the closest allowed word, as the tail of an error message; `more` stands behind it.

    >>> nearest("resnet81", ["resnet18", "vgg16"])
    "did you mean 'resnet18'?"
    >>> nearest("zzz", ["a", "b"])
    'allowed: a, b'
    >>> nearest("aa", ["aaa"], "or take b"), nearest("z", ["a"], "or take b")
    ("did you mean 'aaa'? or take b", 'allowed: a; or take b')
    """
    names = list(allowed)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?{more and ' ' + more}"
    return "allowed: " + ", ".join(names) + (more and f"; {more}")
