"""The language of pages and figures: English in the sources, other languages by gettext.

A sentence for readers is a `Message`: its text is English, and it keeps the template and the values
that it was made of. So JSON, tables on disk and the console stay English, whatever language a
page is in, and a page translates at its edge: `translated` looks the template up in the catalogue
`geotl/locale/LANGUAGE/LC_MESSAGES/geotl.po` (compiled beside it) and puts the values in, numbers
as readers of that language write them. Templates are whole sentences with named places.
"""

from __future__ import annotations

import gettext
import os
import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from geotl.errors import DataError

Language = Literal["en", "fr"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
SOURCE: Language = "en"
VARIABLE = "GEOTL_LANG"
DOMAIN, LOCALE = "geotl", Path(__file__).parent / "locale"
RECIPE = "recipe"  # the context of titles and notes in the catalogue
NARROW, SPACE = "\u202f", "\u00a0"  # no line breaks there
_spoken: ContextVar[Language | None] = ContextVar("language", default=None)


class Message(str):
    """A text in English that can be set in other languages.

    Attributes:
        template: the sentence with named places; of a plural both forms.
        values: of the places; of a plural `n` too.
    """

    template: tuple[str, ...] = ()
    values: Mapping[str, Any]

    def __str__(self) -> str:
        """The message itself: matplotlib and others ask for it before they store a text."""
        return self

    def inside(self, catalogue: gettext.NullTranslations) -> str:
        """The text by a catalogue."""
        if len(self.template) == 1:
            pattern = catalogue.gettext(self.template[0])
        else:
            one, many = self.template
            pattern = catalogue.ngettext(one, many, self.values["n"])
        return _LOCAL.vformat(spaced(pattern), (), self.values)


class _Joined(Message):
    """Parts one after the other; `template` is the text between them."""

    def inside(self, catalogue: gettext.NullTranslations) -> str:
        between = self.template[0]
        if between == SEMICOLON:
            between = catalogue.gettext(between)
        return spaced(between).join(map(translated, self.values["parts"]))


class _Changed(Message):
    """A message whose first letter was changed; `template` is the name of the change."""

    def inside(self, catalogue: gettext.NullTranslations) -> str:
        return _CHANGES[self.template[0]](translated(self.values["text"]))


class _Number(Message):
    """A number as it is written in English."""

    def inside(self, catalogue: gettext.NullTranslations) -> str:
        return local_number(self.template[0])


class _Stored(Message):
    """A text that was read from a file, where its template and values are not kept."""

    def inside(self, catalogue: gettext.NullTranslations) -> str:
        text = str.__str__(self)
        if re.fullmatch(_NUMBER, text):
            return local_number(text)
        if match := re.fullmatch(_DAY, text):
            year, month, day, rest = match.groups()
            return f"{day}/{month}/{year}{rest.replace('T', ' ')}"
        found = _explained(text)
        return text if found is None else translated(found[1])


class _OfRecipe(Message):
    """A title or note of a recipe, which the catalogue has in a context of its own."""

    def inside(self, catalogue: gettext.NullTranslations) -> str:
        text = str.__str__(self)
        found = catalogue.pgettext(RECIPE, text)
        return text if found == text else spaced(found)


class _Local(string.Formatter):
    """Puts values into a template as readers of the language write them."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, Message):  # of a stored text numbers are texts too
            return translated(value)
        if not isinstance(value, int | float) and not hasattr(value, "dtype"):
            return translated(format(value, format_spec) if format_spec else str(value))
        return local_number(format(value, format_spec))


_LOCAL = _Local()


def msg(template: str, /, **values: Any) -> str:
    """A message from a whole sentence with named places.

    >>> msg("{share:.1f} % of {tested} are correct", share=85.04, tested="40 tiles")
    '85.0 % of 40 tiles are correct'
    """
    return _made(Message, template.format(**values), (template,), values)


def nmsg(one: str, many: str, n: int, /, **values: Any) -> str:
    """A message that counts: the form for one, that for several; `{n}` is the count.

    >>> nmsg("{n} tile", "{n} tiles", 1), nmsg("{n} tile", "{n} tiles", 12)
    ('1 tile', '12 tiles')
    """
    given = {"n": n} | values
    return _made(Message, (one if n == 1 else many).format(**given), (one, many), given)


def joined(parts: Sequence[str], between: str = ", ") -> str:
    """Texts one after the other.

    >>> joined(["a", msg("b")], "; ")
    'a; b'
    """
    return _made(_Joined, between.join(parts), (between,), {"parts": tuple(parts)})


def listed(parts: Sequence[str]) -> str:
    """Names as a sentence lists them.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    if len(parts) < 2:
        return "".join(parts) if not parts else parts[0]
    return msg("{first} and {last}", first=joined(parts[:-1]), last=parts[-1])


def numeral(value: float | str, spec: str = "") -> str:
    """A number that stands alone.

    >>> numeral(0.5, ".2f")
    '0.50'
    """
    text = format(value, spec)
    return _made(_Number, text, (text,), {})


def stored(text: str) -> str:
    """A text that geotl wrote into a file in English, of a tag or of metrics.json, as a message.

    Its template is looked for among those of the catalogue when the page is set; a text that none
    gives stays as it is. Numbers and days are set as the page's readers write them.
    """
    return _made(_Stored, text, (), {})


def of_recipe(text: str) -> str:
    """A recipe's title or note: of a recipe that comes with geotl in the page's language.

    Any other text stays as it is, whatever messages there are.

    >>> with language("fr"):
    ...     translated(of_recipe("Classes")), translated(of_recipe("Overall accuracy"))
    ('Classes', 'Overall accuracy')
    """
    return _made(_OfRecipe, text, (text,), {})


def capital(text: str) -> str:
    """A text with a capital letter first.

    >>> capital("overall accuracy 0.850")
    'Overall accuracy 0.850'
    """
    return _changed(text, "capital")


def small(text: str) -> str:
    """A text with a small letter first.

    >>> small("This network")
    'this network'
    """
    return _changed(text, "small")


def sentence(text: str) -> str:
    """A sentence with its capital letter and full stop.

    >>> sentence("labels are few"), sentence("A label is there.")
    ('Labels are few.', 'A label is there.')
    """
    return _changed(text, "sentence")


_CHANGES: Mapping[str, Callable[[str], str]] = {
    "capital": lambda text: text[:1].upper() + text[1:],
    "small": lambda text: text[:1].lower() + text[1:],
    "sentence": lambda text: f"{text.strip()[:1].upper()}{text.strip()[1:].removesuffix('.')}.",
}


def _changed(text: str, change: str) -> str:
    new = _CHANGES[change](str.__str__(text))
    if not isinstance(text, Message):
        return new
    return _made(_Changed, new, (change,), {"text": text})


def _made(
    kind: type[Message], text: str, template: tuple[str, ...], values: Mapping[str, Any]
) -> Message:
    made = kind(text)
    made.template, made.values = template, values
    return made


def current() -> Language:
    """The language that pages and figures are in: that of `language`, else of GEOTL_LANG."""
    return _spoken.get() or stated_language()


@contextmanager
def language(name: Language) -> Iterator[None]:
    """Set pages and figures in a language.

    >>> with language("fr"):
    ...     print(translated(msg("Overall accuracy")), local_number("234.5"))
    Exactitude globale 234,5
    """
    token = _spoken.set(name)
    try:
        yield
    finally:
        _spoken.reset(token)


def stated_language() -> Language:
    """The language that the environment states in GEOTL_LANG, else English.

    A locale such as LANG is not asked: it describes the machine, not the readers of a page.

    Raises:
        DataError: another language than those of LANGUAGES.
    """
    given = os.environ.get(VARIABLE) or SOURCE
    for name in LANGUAGES:
        if given == name:
            return name
    raise DataError(f"{VARIABLE}: given {given!r}; allowed: {', '.join(LANGUAGES)}")


@cache
def catalogue(name: Language) -> gettext.NullTranslations:
    """The messages of a language."""
    if name == SOURCE:
        return gettext.NullTranslations()
    return gettext.translation(DOMAIN, LOCALE, [name])


def translated(text: str) -> str:
    """A text as the page shows it: a message in the page's language, any other text as it is.

    >>> with language("fr"):
    ...     translated("Overall accuracy")  # the name of a class, of a file: given, not ours
    'Overall accuracy'
    """
    if not isinstance(text, Message):
        return text
    name = current()
    return str.__str__(text) if name == SOURCE else text.inside(catalogue(name))


@cache
def _explained(text: str) -> tuple[int, str] | None:
    """How many signs of a text templates and numbers account for, and the message; None if none."""
    if re.fullmatch(_NUMBER, text):
        return len(text), numeral(text)
    best: tuple[int, str] | None = None
    for template, literal, patterns in _patterns():
        if best is not None and best[0] >= len(text):
            break
        for match in filter(None, (pattern.fullmatch(text) for pattern in patterns)):
            parts = {name: _explained_part(part) for name, part in match.groupdict().items()}
            score = literal + sum(count for count, _ in parts.values())
            if best is None or score > best[0]:
                values = {name: value for name, (_, value) in parts.items()}
                best = score, _made(Message, text, (template,), values)
    return best


def _explained_part(part: str) -> tuple[int, str]:
    """The same of a part of a text: a short word there, such as "on", may be a name that is given.

    Templates of one such word are only whole texts.
    """
    short = len(part) <= _SHORT and part.isalpha()
    return (None if short else _explained(part)) or (0, part)


@cache
def _patterns() -> list[tuple[str, int, tuple[re.Pattern[str], ...]]]:
    """Every template, how much of it stands beside values, and what finds it in a text.

    One of values alone is left out: any text could be made of it.
    """
    keys = catalogue("fr")._catalog  # type: ignore[attr-defined]
    templates = {key[0] if isinstance(key, tuple) else key for key in keys} - {""}
    found = [
        (one, literal, (_pattern(one, ".+?"), _pattern(one, ".+")))
        for one in templates
        if (literal := _literal(one))
    ]
    return sorted(found, key=lambda each: (-each[1], each[0]))


def _literal(template: str) -> int:
    return sum(len(literal) for literal, *_ in string.Formatter().parse(template))


def _pattern(template: str, value: str) -> re.Pattern[str]:
    """What finds a template in a text, its values as short or as long as they can be."""
    parts, names = [], set[str]()
    for literal, name, spec, _ in string.Formatter().parse(template):
        parts.append(re.escape(literal))
        if name:
            group = f"(?P={name})" if name in names else f"(?P<{name}>{_NUMBER if spec else value})"
            parts.append(group)
            names.add(name)
    return re.compile("".join(parts), re.DOTALL)


_DAY = r"(\d{4})-(\d\d)-(\d\d)((?:T.*)?)"
_SHORT = 3  # letters
_NUMBER = r"[+−-]?[\d,]*\.?\d+(?:e[+-]?\d+)?%?"


def local_number(text: str) -> str:
    """The text of a number, in English, as readers of the language write it.

    >>> local_number("1,234.5")
    '1,234.5'
    """
    if current() == SOURCE:
        return text
    text = text.replace(",", NARROW).replace(".", ",")
    return re.sub(" ?%", f"{NARROW}%", text)


def spaced(text: str) -> str:
    """French signs of two parts, with a space before them that no line ends at.

    >>> spaced("« 95 % » : oui ?").replace(SPACE, "_")
    '«_95_%_»_: oui_?'
    """
    return re.sub(r" ([;:?!%»°])|(?<=«) ", lambda found: f"{SPACE}{found[1] or ''}", text)


SEMICOLON = msg("; ")  # between parts; stated here so that it is among the extracted messages
