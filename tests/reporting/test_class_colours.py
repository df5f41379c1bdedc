"""Colours by meaning: the legends that labs use, both languages, shades, and free colours."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from geotl.reporting.class_colours import (
    MEANINGS,
    NEAR,
    _free_colours,
    _lab,
    class_colours,
    meaning_of,
)
from geotl.reporting.rendering import default_colours

LEGENDS = {  # CORINE Land Cover 2018, WorldCover 2021, Dynamic World, EuroSAT
    "built": "Continuous urban fabric;Discontinuous urban fabric;Port areas;Airports;"
    "Industrial or commercial units;Road and rail networks and associated land;"
    "Construction sites;Built-up;built;Highway;Residential",
    "bare": "Mineral extraction sites;Dump sites;Beaches, dunes, sands;Bare rocks;"
    "Sparsely vegetated areas;Burnt areas;Bare / sparse vegetation;bare",
    "crops": "Non-irrigated arable land;Permanently irrigated land;Rice fields;Cropland;crops;"
    "Complex cultivation patterns;AnnualCrop",
    "orchard": "Vineyards;Fruit trees and berry plantations;Olive groves;PermanentCrop",
    "grass": "Pastures;Natural grasslands;Green urban areas;Grassland;grass;HerbaceousVegetation",
    "shrub": "Moors and heathland;Sclerophyllous vegetation;Transitional woodland-shrub;"
    "Shrubland;shrub_and_scrub",
    "forest": "Broad-leaved forest;Coniferous forest;Mixed forest;Tree cover;trees;Forest",
    "snow": "Glaciers and perpetual snow;Snow and ice;snow_and_ice",
    "wetland": "Inland marshes;Peat bogs;Salt marshes;Intertidal flats;Herbaceous wetland;"
    "Mangroves;flooded_vegetation",
    "water": "Water courses;Water bodies;Coastal lagoons;Estuaries;Sea and ocean;SeaLake;"
    "Permanent water bodies;water;River",
}
FRENCH = {
    "forêt de feuillus": "forest",
    "Prairies": "grass",
    "champs de blé": "crops",
    "bâti dense": "built",
    "sol nu": "bare",
    "marais": "wetland",
    "surfaces en eau": "water",
    "vignes": "orchard",
    "lande": "shrub",
    "neige": "snow",
}


@pytest.mark.parametrize("meaning", LEGENDS)
def test_the_legends_that_labs_use_are_understood(meaning: str) -> None:
    names = LEGENDS[meaning].split(";")
    assert {name: meaning_of(name) for name in names} == dict.fromkeys(names, meaning)


def test_french_names_are_understood() -> None:
    assert {name: meaning_of(name) for name in FRENCH} == FRENCH


@pytest.mark.parametrize("name", ["class 3", "merged", "spine", "tennis court", "Ägypten", ""])
def test_other_names_mean_nothing(name: str) -> None:
    assert meaning_of(name) is None


def test_every_class_has_a_colour_of_its_own_near_its_meaning() -> None:
    names = [f"forest {i}" for i in range(9)] + [f"zone {i}" for i in range(40)] + ["lake", "river"]
    colours = class_colours(names)
    assert len(set(colours)) == len(names)
    assert colours[0] == MEANINGS["forest"].shades[0]
    assert colours[-2:] == MEANINGS["water"].shades[:2]
    assert class_colours(names[:12]) == colours[:12]


def test_two_classes_of_one_meaning_are_told_apart() -> None:
    """Red before for forest and built-up, 14 apart in CIELAB. Snow is pale by nature."""
    for name in set(MEANINGS) - {"snow"}:
        first, second = (_lab(shade) for shade in MEANINGS[name].shades[:2])
        assert np.linalg.norm(first - second) > 15, name


def test_free_colours_lie_near_no_meaning() -> None:
    taken = np.array([_lab(shade) for one in MEANINGS.values() for shade in one.shades])
    for colour in itertools.islice(_free_colours(), 20):
        assert np.linalg.norm(taken - _lab(colour), axis=1).min() > NEAR


def test_colours_in_lab_are_those_of_the_standard() -> None:
    np.testing.assert_allclose(_lab("#ffffff"), [100, 0, 0], atol=0.1)
    np.testing.assert_allclose(_lab("#ff0000"), [53.24, 80.09, 67.20], atol=0.1)


def test_names_without_any_meaning_get_the_palette() -> None:
    assert class_colours(["a", "b", "c"]) == default_colours(3)
