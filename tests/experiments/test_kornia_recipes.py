"""Kornia's augmentations in recipes: read back equal, faults on one line, imported if named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from geotl.errors import RecipeError
from geotl.experiments.named import check_names
from geotl.experiments.recipe import load, schema, written_text
from geotl.io import yaml

TEXT = """
augment:
  kornia:
    - {RandomElasticTransform: {alpha: [1, 1]}}
    - RandomErasing
"""
KORNIA = "augment.kornia=[{RandomPerspective: {distortion_scale: 0.3}}]"


def test_kornias_augmentations_read_back_equal_and_their_faults_come_together(
    tmp_path: Path,
) -> None:
    path, again = tmp_path / "mine.yaml", tmp_path / "again.yaml"
    path.write_text(TEXT)
    recipe = load(path)
    steps = ({"RandomElasticTransform": {"alpha": [1, 1]}}, {"RandomErasing": {}})
    assert recipe.augment.kornia == steps
    again.write_text(written_text(recipe))
    assert load(again).augment == recipe.augment
    jsonschema.validate(yaml.parse(written_text(recipe))[0], schema())
    override = "augment.kornia=[RandomErasin, {RandomShear: {sheer: 3}}, {RandomInvert: {p: 0.5}}]"
    with pytest.raises(RecipeError) as error:
        load(path, [override])
    first, second = str(error.value).splitlines()
    assert first.startswith("command line: augment.kornia.0: RandomErasin: no augmentation of")
    assert "augment.kornia.1: RandomShear: sheer: no such argument; did you mean" in second


def test_kornias_augmentations_are_tried_on_the_recipes_number_of_bands() -> None:
    ten = "data.bands=B02,B03,B04,B05,B06,B07,B08,B8A,B11,B12"
    hue = "augment.kornia=[{RandomHue: {hue: [-0.1, 0.1]}}]"
    given = ["data.sensor=sentinel2_l2a", hue]
    check_names(load(None, [*given, "data.bands=B04,B03,B02"]))
    says = "^augment.kornia: RandomHue: wants 3 bands, taken as red, green and blue; the tiles have"
    with pytest.raises(RecipeError, match=f"{says} 10"):
        check_names(load(None, [*given, ten]))


@pytest.mark.parametrize(("key", "loaded"), [("augment.noise=0.1", False), (KORNIA, True)])
def test_kornia_is_imported_for_recipes_that_name_one_of_its_augmentations(
    key: str, loaded: bool
) -> None:
    code = (
        "import sys; from geotl.experiments.recipe import load; "
        "from geotl.experiments.named import check_names; "
        "check_names(load(None, sys.argv[1:])); print('kornia' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, key], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(loaded)
