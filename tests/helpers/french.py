"""French pages and figures, and what is not French in them."""

from __future__ import annotations

import gettext
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any, BinaryIO

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from geotl import language

_UNREAD = frozenset({"style", "script", "code", "pre", "details"})  # details list files
_WORDS = (
    "the of and is are was were has have be been with to by from at that this these which what "
    "where when whose their its than then there not only more most fewer than other same each "
    "every all both no one two first last out up over under about into between without within "
    "tile tiles label labels classified accuracy training tested testing network fold folds "
    "draw draws held correct truth predicted mapped unknown share class area areas weight weights "
    "step steps loss learning rate found used given stated missing few "
    "fitted overfitting underfitting report check map diagnosis evaluation band bands"
)
ENGLISH = frozenset(_WORDS.split())
_PLAIN = (  # commands, settings, names of files and members, and what a user named
    r"geotl [a-z]+(?: [\w./-]+\.\w+)?",
    r"[\w.]+=\S*",
    r"--[\w-]+",
    r"\b(?:[a-z]+\.)+[a-z_]+",
    r"\S*/\S*",
    r"\b\w+_\w+",
    r"\bfield\b|\btown\b|\bwater\b|\bscene\b",
)


class _Words(HTMLParser):
    """What a reader reads of a page, code and styles left out."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img", "br", "link", "hr", "input"}:
            self.open.append(tag)
        self.words += [value or "" for name, value in attrs if name in {"alt", "aria-label"}]

    def handle_endtag(self, tag: str) -> None:
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not _UNREAD & {*self.open}:
            self.words.append(data)


def read(page: str) -> str:
    """The words of a page."""
    reader = _Words()
    reader.feed(page)
    return "\n".join(" ".join(text.split()) for text in reader.words if text.strip())


def not_french(text: str) -> list[str]:
    """English words and whole English messages in a text."""
    for plain in _PLAIN:
        text = re.sub(plain, " ", text)
    words = {word for word in re.findall(r"[A-Za-zÀ-ÿ']+", text) if word.lower() in ENGLISH}
    messages = [one for one in _messages() if one in text]
    return sorted(words) + messages


def _messages() -> Iterator[str]:
    """English messages of several words that French does not share."""
    for key, french in language.catalogue("fr")._catalog.items():
        one = key[0] if isinstance(key, tuple) else key
        if " " in one and len(one) > 12 and "{" not in one and one != french:
            yield one


class _Strict(gettext.NullTranslations):
    """Fails for a message that the catalogue lacks."""

    def gettext(self, message: str) -> str:
        raise LookupError(f"no French for {message!r}")

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        raise LookupError(f"no French for {msgid1!r}")


@contextmanager
def strict_french() -> Iterator[list[str]]:
    """Pages in French, where a message without a translation is an error.

    Yields a list that the texts of all figures go to; of each one pixel is drawn.
    """
    texts: list[str] = []
    pixel = io.BytesIO()
    Figure(figsize=(1, 1), dpi=1).savefig(pixel, format="png")

    def savefig(figure: Figure, stream: BinaryIO, **_: Any) -> None:
        figure.draw_without_rendering()
        shown = (text for text in figure.findobj(Text) if text.get_visible())
        texts.extend(text.get_text() for text in shown)
        stream.write(pixel.getvalue())

    language.catalogue.cache_clear()
    language.catalogue("fr").add_fallback(_Strict())
    with pytest.MonkeyPatch.context() as patch, language.language("fr"):
        patch.setattr(Figure, "savefig", savefig)
        patch.setenv("GEOTL_LANG", "fr")
        yield texts
    language.catalogue.cache_clear()
