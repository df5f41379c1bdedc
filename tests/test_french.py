"""French for readers: a complete catalogue, and pages and figures in which nothing is English."""

from __future__ import annotations

import dataclasses
import gettext
import json
import runpy
import string
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from helpers import labelled_scenes
from helpers.finished_maps import made_facts, made_look
from helpers.french import not_french, read, strict_french
from helpers.runs import SMALL, made_tiles

from geotl.cli.main import main
from geotl.experiments.recipe import Recipe, load, shipped, shown_title
from geotl.language import LOCALE, language, msg, nmsg, of_recipe, stored, translated
from geotl.mapping.cartography import map_figure
from geotl.mapping.page import map_html

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "few_trees")
ROOT = Path(__file__).resolve().parents[1]
FRENCH = LOCALE / "fr" / "LC_MESSAGES" / "geotl.po"


CATALOGUE = runpy.run_path(str(ROOT / "docs" / "catalogue.py"))


@pytest.fixture(scope="module")
def sources() -> Catalog:
    """Every message of the sources, by Babel."""
    return CATALOGUE["messages"]()


@pytest.fixture(scope="module")
def french() -> Catalog:
    return CATALOGUE["read"]()


def ids(catalogue: Catalog) -> set[str | tuple[str, str]]:
    return {one.id for one in catalogue if one.id}


def test_every_message_of_the_sources_has_its_french(sources: Catalog, french: Catalog) -> None:
    assert len(ids(sources)) > 900
    assert ids(sources) == ids(french), "bring the catalogue up to date: CONTRIBUTING.md"
    assert not [one.id for one in french if one.fuzzy]


def places(template: str) -> set[str]:
    """The named places of a template, those of Jinja2 too."""
    named = {name for _, name, _, _ in string.Formatter().parse(template) if name}
    return named | {part.partition(")")[0] for part in template.split("%(")[1:]}


def test_every_translation_has_the_places_of_its_message(french: Catalog) -> None:
    for one in french:
        if one.id:
            several = one.id if isinstance(one.id, tuple) else (one.id,)
            given = one.string if isinstance(one.string, tuple) else (one.string,)
            assert len(several) == len(given)
            assert all(text.strip() for text in given), one.id
            wanted = {place for text in several for place in places(text)}
            assert {place for text in given for place in places(text)} == wanted, one.id


def test_the_compiled_catalogue_is_that_of_the_text(french: Catalog) -> None:
    with FRENCH.with_suffix(".mo").open("rb") as stream:
        compiled = gettext.GNUTranslations(stream)
    for one in french:
        if isinstance(one.id, tuple):
            assert [compiled.ngettext(*one.id, n) for n in (1, 2)] == list(one.string)
        elif one.context:
            assert compiled.pgettext(one.context, one.id) == one.string
        elif one.id:
            assert compiled.gettext(one.id) == one.string


def test_messages_are_english_until_a_page_sets_them() -> None:
    share = msg("{share:.1f} % of {tested} are classified correctly.", share=85.04, tested="x")
    with language("fr"):
        assert json.dumps({share: f"{share}"}) == json.dumps({str.__str__(share): share})
        assert translated(share) == "85,0\u00a0% des x sont classées correctement."
        assert translated(nmsg("{n} tile", "{n} tiles", 1200)) == "1200 tuiles"
        assert translated("Overall accuracy") == "Overall accuracy"
    assert translated(share) == "85.0 % of x are classified correctly."


def test_texts_of_files_are_found_again() -> None:
    with language("fr"):
        line = translated(stored("overall accuracy 0.886 [0.845, 0.917], 5 folds together"))
        assert line == "exactitude globale 0,886 [0,845\u00a0; 0,917], 5 plis ensemble"
        assert translated(stored("2026-11-25T04:00:00")) == "25/11/2026 04:00:00"
        assert translated(stored("Sand dunes of 1900")) == "Sand dunes of 1900"


@pytest.mark.parametrize(
    "given", ["python 3.11.7, map_confidence.tif", "0.1.0", "scene.tif", "red, on"]
)
def test_what_is_no_text_of_geotl_stays_as_it_is(given: str) -> None:
    with language("fr"):
        assert translated(stored(given)) == given


def test_a_maps_names_and_versions_stay_and_its_members_are_named() -> None:
    look = made_look()
    files = ("map.tif", "map_confidence.tif", "scene.tif")
    facts = made_facts(look, ["a", "b", "c", "d"], files=files)
    tags = {
        "GEOTL_SCENE": "scene.tif",
        "GEOTL_TRAINED_WITH": "python 3.11.7, torchvision 0.29.2",
        "GEOTL_MEMBERS": "discriminant_wide 0.53, forest_bands_wide 0.47",
    }
    facts = dataclasses.replace(facts, tags=facts.tags | tags)
    with language("fr"):
        text = read(map_html(look, facts, b""))
    for words in (*tags.values(), ", ".join(files), "0.1.0"):
        assert (words in text) == (words != tags["GEOTL_MEMBERS"]), words
    assert "discriminant, fenêtres 0,53 ; forêt, bandes + fenêtres 0,47" in text


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small tiles, a scene with labels, and an empty recipe."""
    root = tmp_path_factory.mktemp("french")
    made_tiles(root / "tuiles")
    (root / "scene").mkdir()
    labelled_scenes.made_scene(root / "scene")
    (root / "small.yaml").write_text("title: petit\n")
    return root


def over(made: Path) -> list[str]:
    return [f"data.scenes={made}/scene/scene.tif", f"labels.path={made}/scene/labels.gpkg"]


def tiles(made: Path) -> list[str]:
    return [f"data.root={made}/tuiles", *SMALL]


def checked(made: Path, command: str, page: str, *words: object) -> str:
    """A command's page, in which nothing is English, nor in its figures."""
    out = made / f"{command}-{len(list(made.iterdir()))}"
    with strict_french() as texts:
        assert main([command, *map(str, words), "-o", str(out), "--lang", "fr", "-q"]) == 0
    text = (out / page).read_text(encoding="utf-8")
    assert '<html lang="fr">' in text
    assert not_french(read(text)) == []
    assert not_french("\n".join(texts)) == []
    return read(text)


@pytest.fixture(scope="module")
def run_of_tiles(made: Path) -> tuple[Path, str]:
    """A run's model, and the words of its report."""
    text = checked(made, "run", "report.html", made / "small.yaml", *tiles(made))
    (model,) = made.glob("run-*/model.safetensors")
    return model, text


def test_a_run_of_tiles_is_in_french(run_of_tiles: tuple[Path, str]) -> None:
    _, text = run_of_tiles
    assert "Exactitude globale" in text
    assert "tuiles de test sont classées correctement" in text
    assert "0,8" in text


def test_titles_and_notes_of_shipped_recipes_are_in_french() -> None:
    with language("fr"):
        for name in shipped():
            recipe = load(name)
            assert translated(shown_title(recipe)) != recipe.title
            assert not_french(translated(shown_title(recipe))) == []
            assert not_french(translated(of_recipe(recipe.note))) == []
        assert translated(shown_title(Recipe(title="Classes"))) == "Classes"
        assert translated(shown_title(Recipe(name="classes"))) == "classes"
    assert shown_title(load("sample_pixels")) == load("sample_pixels").title


def test_a_training_in_repeats_is_in_french(made: Path) -> None:
    more = ["strategy=scratch", "split.repeats=2", "model.dropout=0.2", "evaluate.target=0.9"]
    text = checked(made, "run", "report.html", made / "small.yaml", *tiles(made), *more)
    assert "moyennes de 2 tirages" in text


def test_a_run_of_chips_in_blocks_is_in_french(made: Path) -> None:
    more = [*labelled_scenes.SMALL, f"labels.chip_px={labelled_scenes.PX}", "split.kfold=2"]
    more += ["split.method=blocks", "split.block_m=400", "labels.purity=1"]
    text = checked(made, "run", "report.html", made / "small.yaml", *over(made), *more)
    assert "2 plis par blocs" in text
    assert "Étiquettes qui n'ont pas donné d'imagette" in text


def test_a_run_of_pixels_is_in_french(made: Path) -> None:
    more = [*over(made), *labelled_scenes.PIXELS, f"title={load('sample_pixels').title}"]
    text = checked(made, "run", "report.html", made / "small.yaml", *more)
    assert "discriminant, bandes" in text
    assert "Une classe pour chaque pixel de la scène d'exemple" in text


def test_diagnoses_are_in_french(made: Path) -> None:
    words = ["--quick", "--curve", "--target", "0.9"]
    text = checked(made, "diagnose", "diagnosis.html", made / "small.yaml", *tiles(made), *words)
    assert "étiquettes par classe" in text
    more = [*over(made), *labelled_scenes.PIXELS, "--target", "1e-3"]
    text = checked(made, "diagnose", "diagnosis.html", made / "small.yaml", *more)
    assert "Bien ajusté" in text
    (out,) = (one.parent.parent for one in made.glob("diagnose-*/folds/1-*.json"))
    again = ["diagnose", str(made / "small.yaml"), *more, "-o", str(out), "--lang", "fr", "-q"]
    assert main(again) == 0  # from the records of its folds
    kept = read((out / "diagnosis.html").read_text(encoding="utf-8"))
    for words in (text, kept):
        assert "discriminant, fenêtres" in words
        assert [name for name in ("fused", "discriminant, wide") if name in words] == []


def test_a_study_is_in_french(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = made / "etude"
    more = ["--only", "dropout", "views", "--seeds", "3", "--lang", "fr", "-o", str(out)]
    with strict_french() as texts:
        assert main(["study", str(made / "small.yaml"), *tiles(made), *more]) == 0
    _, _, printed = capsys.readouterr().out.partition(" étiquettes\u00a0:")
    text = (out / "study.md").read_text(encoding="utf-8")
    assert "| views 8 |" in text
    assert "recommandation\u00a0: la recette telle quelle" in printed
    for words in (text, printed, "\n".join(texts)):
        assert not_french(words) == []
    assert json.loads((out / "study.json").read_text(encoding="utf-8"))["recommended"]


def test_a_check_is_in_french(made: Path) -> None:
    more = tiles(made)[:3]
    text = checked(made, "check", "check.html", made / "small.yaml", *more)
    assert "À réparer d'abord" in text


def test_a_test_of_a_model_is_in_french(made: Path, run_of_tiles: tuple[Path, str]) -> None:
    text = checked(made, "evaluate", "report.html", run_of_tiles[0], made / "tuiles")
    assert "12 des 36 tuiles sont des tuiles d'entraînement" in text


def test_the_page_and_the_figure_of_a_map_are_in_french() -> None:
    look = made_look(picture=True)
    for more in (
        {},
        {"outside": 0.1, "forced": True, "metrics": {}, "trained_on": ("2021-01-01",)},
        {"outside": None, "trained_on": ("2022-01-01", "2022-02-01", "2022-03-01", "2022-04-01")},
    ):
        with strict_french() as texts:
            facts = made_facts(look, ["a", "b", "c", "d"], **more)
            page = map_html(look, facts, map_figure(look, facts))
        assert not_french(read(page)) == []
        assert not_french("\n".join(texts)) == []
        assert "25/11/2026" in page


def test_the_language_is_stated_never_guessed(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from geotl.language import stated_language

    monkeypatch.setenv("LANG", "fr_FR.UTF-8")
    assert stated_language() == "en"
    monkeypatch.setenv("GEOTL_LANG", "fr")
    assert stated_language() == "fr"
    monkeypatch.setenv("GEOTL_LANG", "de")
    assert main(["check", "tiles"]) == 2
    assert "GEOTL_LANG: given 'de'; allowed: en, fr" in capsys.readouterr().err


def test_what_is_not_french_is_seen() -> None:
    assert not_french("The accuracy is 0.9") == ["The", "accuracy", "is"]
    assert not_french("Testez la carte : geotl sample, puis geotl accuracy") == []
    assert "What to do next?" in not_french("Quoi. What to do next?")
