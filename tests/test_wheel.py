"""An installed wheel finds its recipes and sample tiles without the source tree."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.tiles import ROOT

pytest.importorskip("build", reason="building a wheel needs build")

LOADS = """
import geotl
from geotl.data.tile_array import fingerprint
from geotl.experiments.recipe import load, resolve_root
from geotl.imagery.sensors import get_sensor
from geotl.data.read_tile import load_images
from geotl.data.tiles import index_folder

recipe = load("sample_target")
root = resolve_root(recipe.data.root)
index = index_folder(root)
sensor = get_sensor(recipe.data.sensor)
paths = [tile.path for tile in index.tiles]
first = next(load_images(paths, sensor, recipe.data.bands, None, tile_px=64))
print(geotl.__file__, root, len(index), len(fingerprint(index, sensor)), first[0].shape, sep="\\n")
"""


def ran(command: list[str], **options) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def builds_here() -> bool:
    """Whether the setuptools at hand reads our pyproject.toml; else build fetches one."""
    try:
        return int(importlib.metadata.version("setuptools").partition(".")[0]) >= 77
    except importlib.metadata.PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder that holds the installed wheel and nothing else, far from the source tree."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    wanted = ("geotl", "recipes", "sample_tiles", "pyproject.toml", "README.md", "LICENSE")
    for name in wanted:  # a copy: building leaves its traces beside the sources
        one = ROOT / name
        shutil.copytree(one, source / name) if one.is_dir() else shutil.copy(one, source)
    isolation = ["--no-isolation"] if builds_here() else []
    ran([sys.executable, "-m", "build", "--wheel", *isolation, "-o", str(place), str(source)])
    wheel = next(place.glob("*.whl"))
    target = place / "site"
    ran(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--target",
            str(target),
            "--no-index",
            str(wheel),
        ]
    )
    shutil.rmtree(source)
    return target


def alone(installed: Path, *arguments: str) -> str:
    """Run Python with the wheel and the dependencies alone.

    -S keeps out every .pth file, the one that leads an editable install to its sources too.
    """
    places = [p for p in sys.path if Path(p).name == "site-packages"]
    path = os.pathsep.join([str(installed), *places])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return ran([sys.executable, "-S", *arguments], cwd=installed.parent, env=environment)


def test_the_wheel_brings_its_recipes_and_sample_tiles(installed):
    listed = alone(installed, "-m", "geotl", "recipe", "list").splitlines()
    shipped = {
        p.relative_to(ROOT / "recipes").with_suffix("").as_posix()
        for p in (ROOT / "recipes").rglob("*.yaml")
    }
    lecture = {name.removeprefix("lecture/") for name in shipped if name.startswith("lecture/")}
    assert {line.split()[0] for line in listed} == {n for n in shipped if "/" not in n}
    shown = alone(installed, "-m", "geotl", "lecture", "--list").splitlines()
    assert {line.split()[0] for line in shown if line.startswith("  ")} == lecture
    told = alone(installed, "-c", LOADS).splitlines()
    assert told[0] == str(installed / "geotl" / "__init__.py")
    assert Path(told[1]) == installed / "geotl" / "sample_tiles" / "target"
    assert int(told[2]) == len(list((ROOT / "sample_tiles" / "target").rglob("*.tif")))
    assert told[4] == "(10, 64, 64)"


def test_the_wheel_brings_every_module_and_asset(installed):
    """Each package and each folder of assets is named in pyproject.toml."""
    source = ROOT / "geotl"
    wanted = {p.relative_to(source) for p in source.rglob("*.py")}
    assets = [path for path in source.rglob("assets/**/*") if path.is_file()]
    wanted |= {p.relative_to(source) for p in assets if p.parent.name != "bundle"}  # makes ol.js
    assert {".js", ".html", ".jinja", ".vrt"} <= {path.suffix for path in wanted}
    assert not {path for path in wanted if not (installed / "geotl" / path).is_file()}
    style = "from geotl.reporting.templates import style; print(len(style()) > 1000)"
    assert alone(installed, "-c", style).strip() == "True"


def test_without_the_wheel_there_is_no_geotl(installed):
    """The test above would otherwise say nothing: the sources are not to be found."""
    with pytest.raises(AssertionError, match="No module named 'geotl'"):
        alone(installed.parent / "nothing", "-c", "import geotl")


def test_beside_a_clone_of_the_same_name_it_is_still_found(tmp_path: Path) -> None:
    (tmp_path / "geotl").mkdir()  # as a clone is called, whose package lies a folder deeper
    code = "import geotl; print(geotl.load.__name__)"
    assert ran([sys.executable, "-c", code], cwd=tmp_path).strip() == "load"
