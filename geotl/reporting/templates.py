"""Pages and other texts from the templates that packages carry in `assets/templates`.

Jinja2 escapes every value that a template shows. Only geotl's own style sheets and scripts are
marked as safe, because they are files of the package and hold nothing that a user gave. A
missing value is an error, not an empty place.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import re
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from geotl.io.files import asset
from geotl.language import (
    capital,
    catalogue,
    current,
    numeral,
    sentence,
    translated,
)

HOME = "geotl.reporting"  # whose templates every package can extend
Cell = str | int | float | None


@functools.cache
def environment(package: str = HOME, *, autoescape: bool = True) -> Environment:
    """The templates of a package, and those of the pages' common look.

    Args:
        package: dotted name; its templates lie in its folder `assets/templates`.
        autoescape: False for texts that are not HTML.
    """
    packages = dict.fromkeys([package, HOME])
    created = Environment(
        loader=ChoiceLoader([PackageLoader(one, "assets/templates") for one in packages]),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        extensions=["jinja2.ext.i18n"],
        finalize=lambda value: translated(value) if isinstance(value, str) else value,
    )
    created.install_gettext_callables(  # type: ignore[attr-defined]
        lambda text: catalogue(current()).gettext(text),
        lambda one, many, n: catalogue(current()).ngettext(one, many, n),
        newstyle=True,
    )
    created.filters |= {
        "capital": capital,
        "cell": shown,
        "local": lambda value, spec="": numeral(value, spec),
        "data_url": data_url,
        "kind": lambda block: "str" if isinstance(block, str) else type(block).__name__.lower(),
        "sentence": sentence,
        "spoken": translated,
    }
    created.tests["colour"] = is_colour
    created.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return created


def render(template: str, package: str = HOME, **values: Any) -> str:
    """A page of HTML, with the common style and without a script unless they are given.

    Args:
        template: its file name.
        package: that holds it.
        values: that the template shows, all of them escaped; `style` and `script` are those of
            the functions below.

    Raises:
        jinja2.UndefinedError: a value that the template shows is missing.

    >>> from geotl.reporting.html import ReportContent
    >>> page = render("page.html", content=ReportContent("<b>", "{{ 7 * 7 }}"), sections=())
    >>> "<h1>&lt;b&gt;</h1>" in page, "{{ 7 * 7 }}" in page
    (True, True)
    """
    given = {"style": style(), "script": "", "language": current()} | values
    given["policy"] = policy(given["script"])
    return environment(package).get_template(template).render(given)


def style(*sheets: tuple[str, str]) -> Markup:
    """The common style sheet, and others after it, each given by package and file name."""
    return _own((HOME, "report.css"), *sheets)


def script(package: str, name: str) -> Markup:
    """A script of a package: the only one that the page's policy lets run; see `policy`."""
    return _own((package, name))


def _own(*files: tuple[str, str]) -> Markup:
    """Files of geotl itself, not escaped: they are code, and hold no value that was given."""
    return Markup("").join(Markup(asset(*one)) for one in files)


def policy(script: str = "") -> str:
    """What a page may load: pictures inside it, its styles and one script, by its SHA-256.

    >>> policy()
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    """
    rules = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    if not script:
        return rules
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return f"{rules}; script-src 'sha256-{digest}'"


def data_url(content: bytes, kind: str = "png") -> str:
    """A picture as the address of itself, so that a page carries it inside."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def is_colour(text: object) -> bool:
    """Whether a text is #rrggbb, which may stand in a style.

    >>> is_colour("#0072b2"), is_colour("red;background:url(x)")
    (True, False)
    """
    return isinstance(text, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", text) is not None


def shown(value: Cell) -> str:
    """A cell's text: three decimals for floats, a dash for what is undefined.

    >>> shown(0.12345), shown(1234), shown(float("nan")), shown("wood")
    ('0.123', '1,234', '–', 'wood')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, float):
        return numeral(value, ".3f")
    return numeral(value, ",") if isinstance(value, int) else value
