"""Colours of land-cover classes by what their names mean: water blue, forest green, built-up red.

A name is understood by the words in it, English or French, as the legends of CORINE Land Cover
2018, ESA WorldCover 2021, Dynamic World and EuroSAT use them. Several classes of one meaning get
shades of it; names that mean nothing here get colours that lie near no meaning's.
"""

from __future__ import annotations

import colorsys
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from geotl.reporting.rendering import default_colours

NEAR = 30.0  # in CIELAB: closer to a meaning's colour, a free colour would be taken for it
FREE = (  # pinks, purples and violets, which no land cover is shown in
    *("#cc79a7", "#7b3fa0", "#f06fd0", "#785a69", "#41288a", "#c63997", "#e0b0ff", "#9b5de5"),
)
WHOLE_WORD = 4  # letters up to which a word must stand whole, or "mer" would be in "merged"


@dataclass(frozen=True)
class Meaning:
    """A kind of land cover.

    Attributes:
        shades: #rrggbb, of the first class of this meaning, of the second, and so on.
        words: that stand for it, plain letters in lower case; of five letters or more, also
            the beginnings of words.
    """

    shades: tuple[str, ...]
    words: tuple[str, ...]


# The first meaning of which a word is found is taken: the narrower before the wider.
MEANINGS: dict[str, Meaning] = {
    "snow": Meaning(
        ("#f2f7fb", "#d5e8f2"),
        ("snow", "ice", "glacier", "perpetual snow", "neige", "glace", "neve"),
    ),
    "wetland": Meaning(
        ("#1f9e8f", "#7cc7b5", "#0b6f66"),
        (
            *("wetland", "marsh", "swamp", "bog", "peat", "fen", "mangrove", "reed", "flooded"),
            *("intertidal", "saline", "salt marsh", "tidal", "marais", "tourbiere", "roseliere"),
            *("zone humide", "milieu humide", "mare", "vasiere"),
        ),
    ),
    "orchard": Meaning(
        ("#c9a227", "#a67c1a", "#e0c36a"),
        (
            *("orchard", "vineyard", "vine", "fruit", "olive", "permanent crop", "berry", "palm"),
            *("agro forestry", "agroforestry", "plantation", "verger", "vigne", "olivier"),
        ),
    ),
    "crops": Meaning(
        ("#f2d74e", "#f7e9a0", "#d9b72b"),
        (
            *("crop", "cropland", "arable", "agricultur", "cultivat", "field", "rice", "wheat"),
            *(
                "maize",
                "corn",
                "barley",
                "farm",
                "farmland",
                "irrigated",
                "annual crop",
                "culture",
                "champ",
            ),
            *("labour", "terre arable", "ble", "mais", "riz", "colza", "orge"),
        ),
    ),
    "grass": Meaning(
        ("#a5d46a", "#cdea9f", "#7fb548"),
        (
            *("grass", "pasture", "meadow", "herbaceous", "lawn", "savanna", "steppe"),
            *(
                "green urban",
                "sport",
                "leisure",
                "golf",
                "prairie",
                "paturage",
                "paturin",
                "pelouse",
            ),
            *("herbe", "herbace", "alpage"),
        ),
    ),
    "shrub": Meaning(
        ("#8a9a3b", "#b4b86a", "#66752a"),
        (
            *("shrub", "scrub", "heath", "moor", "bush", "sclerophyll", "chaparral", "moss"),
            *("lichen", "maquis", "garrigue", "lande", "broussaille", "arbuste", "fourre"),
        ),
    ),
    "forest": Meaning(
        ("#1b6b2f", "#55a868", "#0d4a1d", "#8cc99a"),
        (
            *("forest", "wood", "tree", "conifer", "broadleaf", "broad leaved", "deciduous"),
            *(
                "evergreen",
                "woodland",
                "pine",
                "spruce",
                "oak",
                "beech",
                "larch",
                "fir",
                "foret",
                "bois",
                "arbre",
                "feuillu",
                "resineux",
                "sapin",
                "pin",
                "pinede",
            ),
            *("chene", "hetre", "epicea", "meleze"),
        ),
    ),
    "water": Meaning(
        ("#1f6fc4", "#5ea4e0", "#0f4a8a", "#9ccbee"),
        (
            *("water", "river", "lake", "sea", "ocean", "stream", "pond", "reservoir", "canal"),
            *("lagoon", "estuar", "eau", "riviere", "fleuve", "lac", "mer", "etang", "lagune"),
            *("ruisseau", "cours d eau", "plan d eau", "bassin"),
        ),
    ),
    "built": Meaning(
        ("#d63a2f", "#8e1b3f", "#ef8277", "#a8201a", "#f2b0a5"),
        (
            *("built", "urban", "residential", "industr", "commercial", "building", "city"),
            *("town", "settlement", "impervious", "artificial", "road", "highway", "rail"),
            *(
                "airport",
                "runway",
                "parking",
                "port",
                "harbo",
                "construction",
                "house",
                "housing",
                "roof",
            ),
            *("freeway", "overpass", "mobile home", "storage tank", "bati", "ville", "urbain"),
            *("residentiel", "route", "toit", "maison", "batiment", "zone industrielle"),
        ),
    ),
    "bare": Meaning(
        ("#a5734a", "#c9a27e", "#7a5230"),
        (
            *("bare", "barren", "soil", "rock", "sand", "desert", "beach", "dune", "quarry"),
            *("mine", "extraction", "dump", "sparse", "burnt", "gravel", "sol nu", "sols nus"),
            *("roche", "sable", "plage", "carriere", "brule"),
        ),
    ),
}


def class_colours(names: Sequence[str]) -> tuple[str, ...]:
    """A colour #rrggbb for each class, all different.

    Where no name tells a meaning, they are the palette's, which are easiest to tell apart.

    >>> class_colours(["Rivière", "coniferous forest", "broadleaf forest", "zone 51"])
    ('#1f6fc4', '#1b6b2f', '#55a868', '#cc79a7')
    """
    meanings = [meaning_of(name) for name in names]
    if not any(meanings):
        return default_colours(len(names))
    free, count, found = _free_colours(), Counter[str](), list[str]()
    for meaning in meanings:
        shades = free if meaning is None else _shades(meaning, count[meaning])
        if meaning is not None:
            count[meaning] += 1
        found.append(next(shade for shade in shades if shade not in found))
    return tuple(found)


def meaning_of(name: str) -> str | None:
    """The kind of land cover that a class's name stands for, None where no word tells it.

    >>> meaning_of("AnnualCrop"), meaning_of("SeaLake"), meaning_of("Surfaces en eau")
    ('crops', 'water', 'water')
    """
    text = _plain(name)
    for meaning, one in MEANINGS.items():
        if any(re.search(_pattern(word), text) for word in one.words):
            return meaning
    return None


def _pattern(word: str) -> str:
    return rf"\b{word}" if len(word) > WHOLE_WORD else rf"\b{word}[sx]?\b"


def _plain(name: str) -> str:
    """A name in lower case without accents, words of one spelling apart (SeaLake, sea_lake)."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    letters = unicodedata.normalize("NFKD", apart).encode("ascii", "ignore").decode()
    return " ".join(re.findall(r"[a-z0-9]+", letters.lower()))


def _shades(meaning: str, first: int) -> Iterator[str]:
    """Shades of a meaning from a number on; beyond the table's, lighter and darker ones."""
    shades = MEANINGS[meaning].shades
    yield from shades[first:]
    hue, light, vivid = colorsys.rgb_to_hls(*(x / 255 for x in _rgb(shades[0])))
    for step in itertools.count(1):
        other = 0.25 + 0.6 * (step * 0.618034 % 1.0)
        red, green, blue = colorsys.hls_to_rgb(hue, other if other != light else 0.5, vivid)
        yield _written(red, green, blue)


def _free_colours() -> Iterator[str]:
    """Colours that lie near no meaning's: those of FREE, then further ones at golden steps."""
    taken = np.array([_lab(shade) for one in MEANINGS.values() for shade in one.shades])
    golden = (
        _written(*colorsys.hls_to_rgb(step * 0.618034 % 1.0, (0.35, 0.5, 0.65)[step % 3], 0.55))
        for step in itertools.count()
    )
    for colour in itertools.chain(FREE, golden):
        if np.linalg.norm(taken - _lab(colour), axis=1).min() > NEAR:
            yield colour


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def _written(red: float, green: float, blue: float) -> str:
    return "#" + "".join(f"{round(255 * x):02x}" for x in (red, green, blue))


def _lab(colour: str) -> np.ndarray:
    """CIELAB (D65) of an sRGB colour (IEC 61966-2-1)."""
    share = np.array(_rgb(colour)) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.array(matrix) @ linear / [0.9505, 1.0, 1.089]
    f = [t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
