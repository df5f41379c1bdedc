"""Every recipe that is shipped, wherever below recipes/ it stands."""

import shlex
from pathlib import Path

import jsonschema
import pytest

from geotl.experiments.recipe import Recipe, load, schema, shipped
from geotl.imagery.sensors import get_sensor
from geotl.io import yaml

ROOT = Path(__file__).resolve().parents[2]
ALL = sorted((ROOT / "recipes").rglob("*.yaml"))
LECTURE = ROOT / "recipes" / "lecture"  # of another kind: tests/recipes/test_lecture_recipes.py
FILES = [path for path in ALL if not path.is_relative_to(LECTURE)]
NAMES = [path.relative_to(ROOT / "recipes").with_suffix("").as_posix() for path in FILES]


def leaves(value, prefix=""):
    """(dotted key, value) of everything a recipe states."""
    for key, below in value.items():
        if isinstance(below, dict):
            yield from leaves(below, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", below


def test_all_files_are_shipped_under_their_names():
    assert shipped() == dict(zip(NAMES, FILES, strict=True))
    assert {"eurosat_rgb", "ucmerced", "sample_source", "sample_target"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_loads_with_a_title_and_the_name_of_its_file(name):
    recipe = load(name)
    assert recipe.name == name.rpartition("/")[2]
    assert recipe.title
    assert len(recipe.title) <= 100


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_its_first_line_is_the_command_that_runs_it(path):
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# geotl run ")
    name, *overrides = shlex.split(first.removeprefix("# geotl run "))
    data = load(name, overrides).data
    assert data.root is not None or data.scenes
    assert shipped()[name] == path


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_it_states_only_what_differs_and_fits_the_schema(path):
    stated, faults = yaml.parse(path.read_text(encoding="utf-8"))
    assert faults == []
    jsonschema.validate(stated, schema())
    defaults = dict(leaves(Recipe().model_dump(mode="json")))
    assert [key for key, value in leaves(stated) if defaults.get(key) == value] == []


@pytest.mark.parametrize("name", NAMES)
def test_its_sensor_has_its_bands(name):
    data = load(name).data
    if data.custom_sensor is None:
        sensor = get_sensor(data.sensor)
        assert sensor.canonical(data.bands or sensor.names)
