"""The chapters' notebooks: made from the recipes, run from top to bottom, with sliders."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from geotl.errors import SettingError
from geotl.experiments.recipe import lectures
from geotl.lecture import notebook
from geotl.lecture.recipes import PARTS, load_lecture

nbformat = pytest.importorskip("nbformat", reason="notebooks need the extra `practical`")
pytest.importorskip("IPython", reason="notebooks need the extra `practical`")
pytest.importorskip("ipywidgets", reason="sliders need the extra `practical`")

HERE = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
TINY = "seeds=1 epochs=1 shots=2 test_tiles=90 steps=3 repeats=1"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_notebooks", HERE / "make_notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[object]:
    """What IPython would show."""
    seen: list[object] = []
    monkeypatch.setenv("GEOTL_CACHE", str(tmp_path))
    for place in ("IPython.display.display", "ipywidgets.widgets.interaction.display"):
        monkeypatch.setattr(place, lambda *objects: seen.extend(objects))
    return seen


@pytest.mark.parametrize("part", PARTS)
def test_a_chapter_is_what_its_recipes_make(part: str, maker: ModuleType) -> None:
    stored = nbformat.read(HERE / f"{part}.ipynb", as_version=4)
    assert stored == nbformat.from_dict(maker.chapter(part))


def test_every_recipe_is_played_in_one_chapter(maker: ModuleType) -> None:
    code = [cell.source for part in PARTS for cell in maker.chapter(part).cells]
    played = [text for text in code if text.startswith("play(")]
    assert sorted(played) == sorted(f'play("{name}")' for name in lectures())


@pytest.fixture
def shell() -> Iterator[Any]:
    """IPython in this process: a kernel behind sockets stalled now and then."""
    from IPython.core.interactiveshell import InteractiveShell

    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


@pytest.mark.parametrize("part", PARTS)
def test_a_chapter_runs_to_its_end(
    part: str, maker: ModuleType, shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from IPython.utils.capture import capture_output

    monkeypatch.setenv(notebook.SMALL, TINY)
    code = [cell.source for cell in maker.chapter(part).cells if cell.cell_type == "code"]
    assert sum(source.startswith("play(") for source in code) >= 5
    for source in code:
        with capture_output() as shown:
            shell.run_cell(source).raise_error()
        kinds = {kind for output in shown.outputs for kind in output.data}
        if source.startswith("play("):
            assert {"image/png", "text/markdown"} <= kinds, source


def test_a_slider_stays_inside_the_limits_of_its_key() -> None:
    _, recipe, _ = load_lecture("dropout_masks")
    bounds = notebook.slider_of(recipe.model_copy(update={"play": "p=0.5"}))
    assert bounds is not None
    assert (bounds.key, bounds.value, bounds.whole) == ("p", 0.5, False)
    assert bounds.ends == (0.125, 0.999)
    slider = bounds.slider()
    assert (round(10**slider.min, 3), round(10**slider.max, 3)) == bounds.ends
    for text in ("backbone=vgg16", "nothing=3", "p=0"):
        assert notebook.slider_of(recipe.model_copy(update={"play": text})) is None


def test_a_slider_moves_a_number_of_a_section() -> None:
    _, recipe, _ = load_lecture("augment_noise")
    bounds = notebook.slider_of(recipe.model_copy(update={"play": "shift.noise=8"}))
    assert bounds is not None
    assert (bounds.key, bounds.value, bounds.ends) == ("shift.noise", 8.0, (2.0, 20))
    for text in ("shift.nothing=3", "shift.noise.more=3", "shots.noise=3"):
        assert notebook.slider_of(recipe.model_copy(update={"play": text})) is None


def test_moving_the_slider_runs_again_with_its_number(
    displayed: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    from IPython.display import Image, Markdown

    _, recipe, _ = load_lecture("dropout_masks")
    offered = recipe.model_copy(update={"play": "passes=40"})
    changed = []
    monkeypatch.setattr(notebook, "load_lecture", lambda *_: ("dropout_masks", offered, None))
    show = notebook.show

    def noted(name: str, folder: Path, numbers: list[str], **more: object) -> dict[str, object]:
        changed.append(numbers)
        return show(name, folder, numbers, **more)

    monkeypatch.setattr(notebook, "show", noted)
    notebook.play("dropout_masks")
    slider = next(one for one in displayed if hasattr(one, "children")).children[0]
    slider.value = 60
    assert changed == [["passes=40"], ["passes=60"]]
    assert sum(isinstance(one, Image) for one in displayed) >= 1
    assert sum(isinstance(one, Markdown) for one in displayed) >= 1


def test_without_ipywidgets_it_is_shown_once(
    displayed: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ipywidgets" else find(name)
    )
    notebook.play("dropout_masks", passes=30)
    picture, text = displayed
    assert picture.data[:4] == b"\x89PNG"
    assert "✔" in text.data


def test_without_ipython_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SettingError, match=r"pip install 'geotl\[practical\]'"):
        notebook.play("dropout_masks")
