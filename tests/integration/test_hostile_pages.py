"""Names of classes, files and recipes that look like HTML or a template stay text on every page."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.finished_maps import made_facts, made_look
from helpers.noted_model import noted_model
from helpers.pages import Page
from helpers.runs import SMALL
from helpers.tiles import write_tile

from geotl.cli.main import main
from geotl.export.model_card import CardFacts, model_card
from geotl.lecture.run import figure_name, page_of
from geotl.mapping.cartography import map_figure
from geotl.mapping.page import map_html
from geotl.models.model_file import load
from geotl.reporting.figures import confusion_figure

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered")

NAME = "<script>alert(1)<script>{{ 7 * 7 }}\"'&amp;{% raw %}"  # without a slash: a folder too
HTML = "<img src=x onerror=alert(1)>{{ 7 * 7 }}</script>"
BANDS = ["B02", "B03", "B04", "B08"]


def is_harmless(text: str, own_scripts: int = 0) -> Page:
    """The page, parsed: nothing of the names became a tag, an attribute or a value of a sum."""
    page = Page(text)
    assert len(page.all("script")) == own_scripts
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert all(str(image["src"]).startswith("data:") for image in page.all("img"))
    assert "49\"'" not in page.text
    assert "49</script>" not in page.text
    policies = [m["content"] for m in page.all("meta") if m.get("http-equiv")]
    assert policies
    assert str(policies[0]).startswith("default-src 'none'; img-src data:")
    return page


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, random = tmp_path_factory.mktemp("tiles"), np.random.default_rng(5)
    for k, name in enumerate([NAME, "field", "wood"]):
        for i in range(10):
            level = np.array([700, 900, 800 + 300 * k, 2500 - 900 * k])[:, None, None]
            tile = (level + random.normal(0, 60 + 120 * k, (4, 32, 32))).clip(1).astype(np.uint16)
            write_tile(root / name / f"{NAME}{i:02d}.tif", tile, names=BANDS)
    return root


def test_a_run_its_report_and_its_diagnosis(tiles: Path, tmp_path: Path) -> None:
    recipe, out = tmp_path / "small.yaml", tmp_path / "run"
    recipe.write_text(f"title: {json.dumps(HTML)}\nnote: {json.dumps(HTML)}\n")
    given = [str(recipe), f"data.root={tiles}", *SMALL, "strategy=probe"]
    assert main(["run", *given, "--out", str(out), "-q"]) == 0
    page = is_harmless((out / "report.html").read_text(encoding="utf-8"))
    assert page.text.count(NAME) >= 1
    assert HTML in page.text


def test_a_check(tiles: Path, tmp_path: Path) -> None:
    given = ["check", str(tiles), "--sensor", "sentinel2_l2a", f"data.bands=[{','.join(BANDS)}]"]
    main([*given, "-q", "-o", str(tmp_path / "out")])
    page = is_harmless((tmp_path / "out" / "check.html").read_text(encoding="utf-8"))
    assert NAME in page.text


def test_a_map() -> None:
    look = made_look(picture=True)
    facts = dataclasses.replace(
        made_facts(look, [NAME, HTML, "class 2", "class 3"]), scene=HTML, files=(NAME, HTML)
    )
    facts = dataclasses.replace(facts, tags=dict(facts.tags, GEOTL_RECIPE=HTML, GEOTL_SCENE=NAME))
    page = is_harmless(map_html(look, facts, map_figure(look, facts)), own_scripts=2)
    assert page.text.count(NAME) >= 2
    assert page.text.count(HTML) >= 4


def test_a_map_whose_colours_are_no_colours_has_no_swatches() -> None:
    look = made_look()
    facts = made_facts(look)
    sheet = map_figure(look, facts)
    named = dataclasses.replace(facts, colours=("#0072b2", "red;background:url(x)", "x", '"'))
    with pytest.raises(ValueError, match="invalid literal"):
        map_html(look, named, sheet)


def test_the_lecture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(confusion_figure([[3, 1], [0, 4]], ["a", "b"]))
    one = {
        "name": NAME,
        "part": "explicit",
        "title": {"fr": HTML, "en": NAME},
        "design": {"fr": HTML, "en": NAME},
        "claims": [
            {
                "key": NAME,
                "fr": HTML,
                "en": NAME,
                "theory": "open",
                "reason": {"fr": HTML, "en": NAME},
                "held": False,
                "status": "open",
                "measured": {"fr": HTML, "en": NAME},
            }
        ],
        "note": {"fr": NAME, "en": HTML},
        "play": HTML,
    }
    pictures = {figure_name(NAME, language): tmp_path / "a.png" for language in ("fr", "en")}
    page = is_harmless(page_of([one], pictures))
    assert page.text.count(HTML) >= 4
    assert page.text.count(NAME) >= 4
    assert "Not seen here" in page.text


def test_a_model_card(tmp_path: Path) -> None:
    made = load(noted_model(tmp_path / "m.safetensors", recipe=f"title: {json.dumps(HTML)}\n"))
    contract = dataclasses.replace(made.contract, classes=("a|b", NAME, HTML))
    facts = CardFacts("CC-BY-4.0", HTML, None, 10.0, [(NAME, 1, "ab" * 32, HTML)], (NAME, 0.5))
    text = model_card(dataclasses.replace(made, contract=contract), facts)
    body = text.split("---\n", 2)[2]
    plain = "".join(part for n, part in enumerate(body.split("```")) if n % 2 == 0)
    assert "<script" not in plain
    assert "<img" not in plain
    assert "{{ 7 * 7 }}" in plain
    assert "| a\\|b | `" in plain
