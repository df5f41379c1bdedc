"""Every recipe of the lecture: listed, in two languages, run small, answering its own claims."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from geotl.cli.main import main
from geotl.errors import RecipeError
from geotl.experiments.recipe import available, lectures, load, titles
from geotl.lecture.recipes import NUMBERS, PARTS, LectureRecipe, load_lecture
from geotl.lecture.run import DEMONSTRATIONS, STATUSES, figure_name, show
from geotl.lecture.texts import LANGUAGES

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "recipes" / "lecture").rglob("*.yaml"))
NAMES = [path.stem for path in FILES]

TILES = ["shots=2", "test_tiles=18", "seeds=2"]
SMALL = [*TILES, "epochs=2", "backbone=lenet5", "input_px=32"]
SHALLOW = ["shots=2", "test_tiles=90", "seeds=2", "width=8", "steps=40"]
RESNET = [
    *TILES,
    "epochs=1",
    "cut_after=layer1",
    "input_px=16",
]
TINY = {
    "three_fits": SHALLOW,
    "capacity_check": ["tiles=16", "steps=60", "trap_steps=2"],
    "width_sweep": [*SHALLOW, "widths=[1, 8]"],
    "two_stages": SHALLOW,
    "more_labels": [*TILES[1:], "sizes=[2, 5]"],
    "early_stopping": [*SMALL, "test_tiles=90", "patience=1"],
    "standardisation": ["shots=2"],
    "batchnorm_derivation": ["shots=2", "tiles=8"],
    "batchnorm_training": [*TILES, "epochs=1", "cut_after=block1", "input_px=16"],
    "augmentation": [*SMALL, "cut_after=null", "epochs=1"],
    "noise_for_blur": [*SMALL, "cut_after=null", "epochs=1"],
    "label_smoothing": [*SMALL, "cut_after=null", "epochs=1"],
    "mixup": [*SMALL, "cut_after=null", "epochs=1"],
    "dropout_masks": ["passes=50"],
    "dropout_effect": SHALLOW,
    "decay_gradient": ["shots=2"],
    "weight_histograms": [*SHALLOW, "penalties=[0, 0.1]"],
    "lambda_sweep": [*SHALLOW, "penalties=[0, 0.1]"],
    "transfer_or_random": RESNET,
    "search_space": RESNET,
    "freezing_depth": [*RESNET, "seeds=1"],
    "first_kernels": RESNET,
    "stage_probes": RESNET,
    "bottleneck": ["repeats=2"],
    "lenet5": ["shots=1"],
    "parallel_filters": ["shots=1"],
    "plain_or_residual": [
        *TILES,
        "epochs=1",
        "backbone=resnet18",
        "cut_after=layer1",
        "input_px=16",
    ],
}
FIRST = {load_lecture(name)[1].demonstration: name for name in reversed(NAMES)}


@pytest.fixture(scope="module", autouse=True)
def one_cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOTL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def test_all_files_are_listed_apart_from_those_that_are_run():
    assert lectures() == dict(zip(NAMES, FILES, strict=True))
    assert len(NAMES) >= 37
    assert not [name for name in available() if name.startswith("lecture")]
    assert not set(titles()) & set(NAMES)


@pytest.mark.parametrize(("name", "path"), list(zip(NAMES, FILES, strict=True)), ids=NAMES)
def test_it_has_titles_and_claims_in_both_languages_and_its_command(name, path):
    _, recipe, _ = load_lecture(name)
    assert recipe.title.fr
    assert recipe.title.en
    assert len(recipe.title.en) <= 90
    for claim in recipe.claims.values():
        assert claim.fr != claim.en
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert shlex.split(first) == ["#", "geotl", "lecture", name]


def test_every_demonstration_has_numbers_and_a_recipe_and_every_part_some():
    assert NUMBERS.keys() == DEMONSTRATIONS.keys() == FIRST.keys()
    assert {load_lecture(name)[1].part for name in NAMES} == set(PARTS)


@pytest.mark.parametrize("name", list(FIRST.values()))
def test_it_runs_small_and_answers_every_claim(name, tmp_path, capsys):
    _, recipe, _ = load_lecture(name)
    told = show(name, tmp_path, TINY.get(recipe.demonstration, []))
    assert [claim["key"] for claim in told["claims"]] == list(recipe.claims)
    assert json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8")) == told
    for language in LANGUAGES:
        assert (tmp_path / figure_name(name, language)).read_bytes()[:4] == b"\x89PNG"
    printed = capsys.readouterr().out
    for claim in told["claims"]:
        assert f"{STATUSES[claim['status']].en}: {claim['measured']['en']}" in printed
    assert recipe.title.fr in printed
    assert recipe.title.en in printed


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(FIRST.values())))
def test_the_others_make_the_same_claims_as_the_one_that_ran(name):
    """So that a demonstration answers them; their numbers were checked on loading."""
    recipe = load_lecture(name)[1]
    assert recipe.claims.keys() == load_lecture(FIRST[recipe.demonstration])[1].claims.keys()


def test_geotl_run_points_to_the_command_for_a_demonstration():
    with pytest.raises(RecipeError, match="geotl lecture dropout_masks runs it"):
        load("lecture/dropout_masks")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["dropout_mask"], "did you mean 'dropout_masks'?"),
        (["dropout_masks", "P=0.5"], "no such key; "),
        (["dropout_masks", "p=1.5"], "p: given 1.5"),
        (["dropout_masks", "p"], "key=value"),
        (["augment_noise", "augment.noise=-2"], "augment"),
        (["nowhere.yaml"], "no such file"),
        ([], "--list shows the names"),
        (["dropout_masks", "--all"], "give one of"),
    ],
)
def test_faults_are_one_line_and_end_with_2(args, told, capsys):
    assert main(["lecture", *args]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert told in said


def test_the_list_groups_names_by_part(capsys):
    assert main(["lecture", "--list"]) == 0
    said = capsys.readouterr().out
    for name in NAMES:
        assert f"  {name} " in said
    assert said.index("Régularisation implicite") < said.index("early_stopping")
    assert said.index("early_stopping") < said.index("Régularisation explicite")


def test_a_recipe_with_faults_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    text = FILES[0].read_text(encoding="utf-8").replace("demonstration: ", "demonstration: x")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"mine\.yaml: demonstration: given 'x"):
        load_lecture(path)
    path.write_text("part: fitting\ntitel: {}", encoding="utf-8")
    with pytest.raises(RecipeError, match="did you mean 'title'"):
        load_lecture(path)


def test_the_recipe_model_is_frozen():
    recipe = load_lecture("dropout_masks")[1]
    assert isinstance(recipe, LectureRecipe)
    with pytest.raises(ValueError, match="frozen"):
        recipe.part = "fitting"
