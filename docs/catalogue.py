"""Bring the French catalogue up to date: python docs/catalogue.py.

The messages of the sources (`msg`, `nmsg`, and those of the templates) are taken by Babel into
geotl.po, beside titles and notes of the recipes that come with geotl; French that is there stays,
new messages have none yet and are printed. geotl.mo, which geotl reads, is compiled from it. A test
compares all three.
"""

from __future__ import annotations

from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from geotl.experiments.recipe import load, shipped
from geotl.language import RECIPE

PACKAGE = Path(__file__).resolve().parents[1] / "geotl"
FRENCH = PACKAGE / "locale" / "fr" / "LC_MESSAGES" / "geotl.po"
KEYWORDS = {"msg": None, "nmsg": (1, 2), "_": None, "gettext": None, "ngettext": (1, 2)}


def messages(package: Path = PACKAGE) -> Catalog:
    """Every message of the sources."""
    found = Catalog()
    for path in sorted(package.rglob("*.py")):
        if path.stem == "language" or "geotl.language import" in path.read_text(encoding="utf-8"):
            _take(found, "python", path)
    for path in sorted(package.rglob("templates/*.*")):
        _take(found, "jinja2", path)
    for recipe in map(load, shipped()):
        for text in filter(None, (recipe.title, recipe.note)):
            found.add(text, context=RECIPE)
    return found


def _take(found: Catalog, method: str, path: Path) -> None:
    for _, message, _, _ in extract_from_file(method, path, keywords=KEYWORDS):
        found.add(message)


def read(path: Path = FRENCH) -> Catalog:
    """The catalogue as it is."""
    with path.open("rb") as stream:
        return read_po(stream)


def main() -> None:
    """Write geotl.po and geotl.mo; print what has no French."""
    catalogue = read()
    catalogue.update(messages(), no_fuzzy_matching=True)
    for one in catalogue:  # a percent sign in a sentence is no format of Python
        one.flags.clear()
    with FRENCH.open("wb") as stream:
        write_po(stream, catalogue, width=100, sort_output=True, ignore_obsolete=True)
    with FRENCH.with_suffix(".mo").open("wb") as stream:
        write_mo(stream, catalogue)
    for one in catalogue:
        given = (one.string,) if isinstance(one.string, str) else one.string or ("",)
        if one.id and not all(given):
            print(f"no French: {one.id!r}")


if __name__ == "__main__":
    main()
