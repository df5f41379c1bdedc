"""Modules import only downwards; special libraries have one place each."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "geotl"
MODULES = sorted(p.stem for p in PACKAGE.glob("*.py") if not p.stem.startswith("__"))


@functools.cache
def imports(name: str, *, lazy: bool = True) -> frozenset[str]:
    """Dotted names that a module imports, inside functions too unless told otherwise."""
    tree = ast.parse((PACKAGE / f"{name}.py").read_text())
    nodes = ast.walk(tree) if lazy else tree.body
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def own(name: str) -> set[str]:
    return {m for m in MODULES if m != name and f"geotl.{m}" in imports(name)}


def test_no_module_imports_in_a_circle() -> None:
    left = {name: own(name) for name in MODULES}
    while left:
        free = [name for name, needs in left.items() if not needs & left.keys()]
        assert free, f"a circle among {sorted(left)}"
        for name in free:
            del left[name]


@pytest.mark.parametrize(
    ("library", "place"),
    [("rasterio", {"raster", "rasterpixels", "rasterwindows", "classrasters", "mapfiles",
                   "mappolygons"}),
     ("kornia", {"augment", "disturbances"}),
     ("torchvision.models", {"families", "published"}),
     ("torchgeo", {"datasets", "published"}), ("torchgeo.datasets", {"datasets"}),
     ("lightning", {"callbacks", "engine", "training"}),
     ("matplotlib", {"cartography", "checkfigures", "curvefigures", "diagnosisfigures",
                     "explainfigures", "figures", "lecturefigures", "mapfigures",
                     "studyfigures", "syntheticfigures"}),
     ("onnx", {"onnxfiles"}), ("onnxruntime", {"onnxfiles", "quantising"}),
     ("openvino", {"engines"}), ("huggingface_hub", {"hubmodel"}),
     ("distributed", {"manyscenes"}), ("dask", set()),
     ("geopandas", {"vectors"}), ("pyogrio", {"vectors"}),
     ("pyproj", {"groundareas", "positions", "resampling", "vectors"})],
)  # fmt: skip
def test_a_library_has_one_place(library: str, place: set[str]) -> None:
    users = {
        n for n in MODULES if any(i == library or i.startswith(f"{library}.") for i in imports(n))
    }
    assert users == place


def test_only_the_pipeline_and_the_cli_know_the_recipe() -> None:
    users = {n for n in MODULES if own(n) & {"recipe", "settings", "learning"}}
    parts = {"pipeline", "preparing", "drawing", "comparing", "keeping", "presets", "previewing"}
    parts |= {"curves", "surveying", "labelling", "judging", "diagnosis", "diagnosisparts"}
    parts |= {"study", "studyadvice", "studyfits", "studyfound", "studygan", "studyrace"}
    parts |= {"studyreport", "studytrials", "lecturerecipes", "lecturetiles", "lecturing"}
    parts |= {"generation", "generationparts"}
    commands = {"cli", "cli_check", "cli_curves", "cli_diagnose", "cli_generate", "cli_lecture"}
    assert users <= parts | commands | {"cli_study", "recipe", "settings"}


def test_the_command_line_starts_without_heavy_imports() -> None:
    heavy = {"torch", "geotl.pipeline", "geotl.api", "rasterio", "lightning", "geopandas"}
    for name in (module for module in MODULES if module.startswith("cli")):
        late = {"geotl.curves", "geotl.diagnosis", "geotl.generation", "geotl.study"}
        assert not imports(name, lazy=False) & (heavy | late)


def test_a_map_begins_without_what_it_does_not_need() -> None:
    """In a process of its own; each of these takes a part of a second and none is always used."""
    late = {"matplotlib", "kornia", "geopandas", "pandas", "pyogrio", "scipy.stats", "lightning"}
    words = "import sys, geotl.mapmaking, geotl.scenejobs; print(*sys.modules)"
    run = functools.partial(subprocess.run, capture_output=True, text=True, check=True)
    found = run([sys.executable, "-c", words], cwd=PACKAGE.parent)
    loaded = set(found.stdout.split())
    assert "geotl.mapplanning" in loaded
    assert not loaded & late


@pytest.mark.parametrize(
    "library", ["torchgeo", "xarray", "rioxarray", "distributed", "onnx", "openvino"]
)
def test_what_is_an_extra_is_only_imported_where_it_is_used(library: str) -> None:
    users = {n for n in MODULES if any(i.startswith(library) for i in imports(n, lazy=False))}
    assert not users


def test_modules_stay_short() -> None:
    long = {
        n: c for n in MODULES if (c := len((PACKAGE / f"{n}.py").read_text().splitlines())) > 450
    }
    assert not long
