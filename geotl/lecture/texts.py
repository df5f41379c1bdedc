"""Texts of the lecture in French and in English, and how French writes its numbers."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from geotl.training.settings import Section

Text = Annotated[str, Field(min_length=1)]
Language = Literal["fr", "en"]
LANGUAGES: tuple[Language, ...] = ("fr", "en")
Theory = Literal["holds", "wrong", "open"]
THEORIES: tuple[Theory, ...] = ("holds", "wrong", "open")


class Both(Section):
    """A text in both languages.

    >>> Both(fr="perte 0.25", en="loss 0.25").read("fr")
    'perte 0,25'
    """

    fr: Text = Field(description="in French")
    en: Text = Field(description="in English")

    def read(self, language: Language) -> str:
        """The text of one language; French numbers get their decimal comma."""
        return french_numbers(self.fr) if language == "fr" else self.en


class Claim(Both):
    """A claim of the lecture, and what theory says of it."""

    theory: Theory = Field(
        "holds",
        description="holds: the effect must show; wrong: the slide has a mistake; open: it depends "
        "on data and network",
    )
    reason: Both | None = Field(None, description="why a claim is wrong or open")

    @model_validator(mode="after")
    def _reasoned(self) -> Claim:
        if self.theory != "holds" and self.reason is None:
            raise ValueError(f"theory {self.theory} needs a reason")
        return self


def written(text: str | Both, language: Language) -> str:
    """A text of one language; a plain string is a name, a formula or a number of both."""
    if isinstance(text, Both):
        return text.read(language)
    return french_numbers(text) if language == "fr" else text


def french_numbers(text: str) -> str:
    """Decimal points between digits as commas, and a space before a per cent sign.

    >>> french_numbers("1e-5 et 0.600 à 1.5 (20%)").replace(chr(0xA0), " ")
    '1e-5 et 0,600 à 1,5 (20 %)'
    """
    return re.sub(r"(?<=\d)%", "\u00a0%", re.sub(r"(?<=\d)\.(?=\d)", ",", text))


def listed(*texts: tuple[str, str]) -> Both:
    """Numbers in French and English after one another; French parts them from its commas.

    >>> listed(("0.1", "0.1"), ("0.2", "0.2")).read("fr"), listed(("1", "1"), ("2", "2")).en
    ('0,1 ; 0,2', '1, 2')
    """
    french, english = zip(*texts, strict=True)
    return Both(fr=" ; ".join(french), en=", ".join(english))


def grouped(count: float) -> str:
    """A whole number with the thin spaces of French.

    >>> grouped(61706).replace(chr(0x202F), " ")
    '61 706'
    """
    return f"{count:,.0f}".replace(",", "\u202f")
