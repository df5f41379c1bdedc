"""The order of the packages: each imports only from those below it; libraries have their place."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "geotl"

ORDER = (  # bottom up
    "io",
    "imagery",
    "data",
    "evaluation",
    "reporting",
    "models",
    "training",
    "experiments",
    "studies",
    "inference",
    "mapping",
    "export",
    "lecture",
    "synthetic",
    "labelling",
    "cli",
)
LEARN = {"training", "experiments", "studies", "lecture", "synthetic"}
USE = {"inference", "mapping", "export"}
WINGS = {"lecture", "synthetic", "labelling"}


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}
PLACED = [name for name in FILES if name.split(".")[1:2] and name.split(".")[1] in ORDER]


@functools.cache
def imports(name: str, *, lazy: bool = True) -> frozenset[str]:
    """Dotted names that a module imports, inside functions too unless `lazy` is False."""
    tree = ast.parse(FILES[name].read_text())
    found: set[str] = set()
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def own(name: str) -> set[str]:
    return {i for i in imports(name) if i in FILES and i not in {name, "geotl"}}


def package(name: str) -> str:
    """The package of a module; for one at the root its own name."""
    return [*name.split("."), ""][1]


def test_no_module_imports_in_a_circle() -> None:
    left = {name: own(name) for name in FILES}
    while left:
        free = [name for name, needs in left.items() if not needs & left.keys()]
        assert free, f"a circle among {sorted(left)}"
        for name in free:
            del left[name]


def is_allowed(here: str, there: str) -> bool:
    """Whether a module of the package `here` may import from the package `there`."""
    upwards = ORDER.index(there) > ORDER.index(here)
    across = (here in LEARN and there in USE) or (here in USE and there in LEARN)
    wing = there in WINGS and here not in {there, "cli"}
    return not (upwards or across or wing)


def test_a_package_imports_only_from_those_below_it() -> None:
    pairs = [(name, other) for name in PLACED for other in own(name) if package(other) in ORDER]
    assert len(pairs) > 500
    assert not [pair for pair in pairs if not is_allowed(*map(package, pair))]


def test_what_stands_at_the_root_keeps_its_place() -> None:
    """Types, errors and console lie below all packages, the faces of a model above them."""
    base = {"arrays", "console", "errors", "language", "_version"}
    for name in base:
        assert {package(other) for other in own(f"geotl.{name}")} <= base, name
    assert not {package(other) for other in own("geotl.api")} & (LEARN | {"export", "cli"})
    assert not {package(other) for other in own("geotl.hub")} & (LEARN | {"cli"})


@pytest.mark.parametrize(
    ("here", "there"),
    [("io", "data"), ("training", "mapping"), ("export", "experiments"), ("synthetic", "lecture")],
)
def test_imports_against_the_order_are_seen(here: str, there: str) -> None:
    assert not is_allowed(here, there)
    assert is_allowed("cli", there)


def test_files_of_tests_have_names_of_their_own() -> None:
    """pytest imports them by these names; two of one name cannot be collected together."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert not {name for name in names if names.count(name) > 1}


def test_every_package_has_its_place() -> None:
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} == {*ORDER}


@pytest.mark.parametrize("name", ORDER)
def test_a_package_begins_with_nothing_but_what_it_is(name: str) -> None:
    body = ast.parse((PACKAGE / name / "__init__.py").read_text()).body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)


@pytest.mark.parametrize(
    ("library", "packages"),
    [
        ("rasterio", {"io", "data", "mapping"}),
        ("kornia", {"training"}),
        ("torchvision.models", {"models"}),
        ("torchgeo", {"data", "models"}),
        ("timm", {"models"}),
        ("lightning", {"training"}),
        ("numba", {"compiled"}),
        ("segmentation_models_pytorch", {"models"}),
        ("jinja2", {"reporting"}),
        ("matplotlib", {"reporting", "mapping", "studies", "lecture", "synthetic"}),
        ("onnx", {"inference", "export"}),
        ("onnxruntime", {"inference", "export"}),
        ("openvino", {"inference"}),
        ("huggingface_hub", {"hub", "models"}),
        ("distributed", {"mapping"}),
        ("geopandas", {"io"}),
        ("pyogrio", {"io"}),
        ("pyproj", {"io", "imagery", "data"}),
        ("pydantic", {"training", "experiments", "lecture"}),
        ("pydantic_core", {"io"}),
        ("exactextract", {"data"}),
        ("rich", {"console"}),
        ("PIL", {"labelling"}),
        ("fastapi", {"labelling"}),
        ("uvicorn", {"labelling"}),
    ],
)
def test_a_library_has_its_packages(library: str, packages: set[str]) -> None:
    users = {
        package(name)
        for name in FILES
        if any(i == library or i.startswith(f"{library}.") for i in imports(name))
    }
    assert users == packages


def test_the_command_line_starts_without_heavy_imports() -> None:
    words = "import sys, geotl.cli.main; print(*sys.modules)"
    run = functools.partial(subprocess.run, capture_output=True, text=True, check=True)
    loaded = set(run([sys.executable, "-c", words], cwd=ROOT).stdout.split())
    assert not loaded & {"torch", "rasterio", "lightning", "geopandas", "numpy", "pydantic"}


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["predict", "absent.safetensors", "a.tif", "-o", "a.csv"], "no such model file"),
        (["map", "absent.onnx", "a.tif", "-o", "b.tif"], "no such file; export one"),
        (["evaluate", "README.md", "tiles", "--sensor", "sentinel"], "did you mean"),
    ],
)
def test_a_missing_model_or_sensor_is_refused_without_heavy_imports(
    command: list[str], says: str
) -> None:
    """Red before: 5 s of imports of torch came first."""
    words = f"import sys; from geotl.cli.main import main; print(main({command}), *sys.modules)"
    run = functools.partial(subprocess.run, capture_output=True, text=True, check=True)
    done = run([sys.executable, "-c", words], cwd=ROOT)
    code, *loaded = done.stdout.split()
    assert code == "2"
    assert says in done.stderr
    assert not {*loaded} & {"torch", "rasterio", "lightning", "geopandas"}


def test_a_recipe_is_read_without_torch() -> None:
    words = "import sys, geotl.experiments.recipe; print(*sys.modules)"
    run = functools.partial(subprocess.run, capture_output=True, text=True, check=True)
    loaded = set(run([sys.executable, "-c", words], cwd=ROOT).stdout.split())
    assert "geotl.training.settings" in loaded
    assert not loaded & {"torch", "rasterio", "lightning", "geopandas", "numpy"}


def test_a_recipes_names_are_checked_without_torch() -> None:
    """Red before: `geotl recipe check` imported torch for the names of the backbones, 5 s."""
    words = (
        "import sys; from geotl.cli.main import main; "
        "main(['recipe', 'check', 'sample_pixels']); print(*sys.modules)"
    )
    run = functools.partial(subprocess.run, capture_output=True, text=True, check=True)
    loaded = set(run([sys.executable, "-c", words], cwd=ROOT).stdout.split())
    assert {"geotl.experiments.named", "geotl.models.backbone_names"} <= loaded
    assert not loaded & {"torch", "rasterio", "lightning", "geopandas"}


def test_a_map_begins_without_what_it_does_not_need() -> None:
    """In a process of its own; each of these takes a part of a second and none is always used."""
    late = {"matplotlib", "kornia", "geopandas", "pandas", "pyogrio", "scipy.stats", "lightning"}
    late |= {"segmentation_models_pytorch", "timm"}
    words = "import sys, geotl.mapping.run, geotl.mapping.jobs; print(*sys.modules)"
    run = functools.partial(subprocess.run, capture_output=True, text=True, check=True)
    loaded = set(run([sys.executable, "-c", words], cwd=ROOT).stdout.split())
    assert "geotl.mapping.plan" in loaded
    assert not loaded & late


def test_a_page_for_labels_is_there_before_torch() -> None:
    """The model's imports, 8 s, come in a thread while the scene is looked at."""
    words = "import sys, geotl.labelling.session; print(*sys.modules)"
    run = functools.partial(subprocess.run, capture_output=True, text=True, check=True)
    loaded = set(run([sys.executable, "-c", words], cwd=ROOT).stdout.split())
    assert "geotl.labelling.server" in loaded
    assert not loaded & {"torch", "sklearn", "scipy", "matplotlib", "geopandas", "pandas"}


@pytest.mark.parametrize(
    "library",
    [
        "torchgeo",
        "timm",
        "xarray",
        "rioxarray",
        "distributed",
        "onnx",
        "openvino",
    ],
)
def test_what_is_an_extra_is_only_imported_where_it_is_used(library: str) -> None:
    users = {n for n in FILES if any(i.startswith(library) for i in imports(n, lazy=False))}
    assert not users


def test_a_module_has_at_most_500_lines() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in FILES.items()}
    assert not {name: length for name, length in lengths.items() if length > 500}
