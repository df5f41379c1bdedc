"""Keys of a recipe under the names that they had before: they work, and warn with one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from helpers.runs import made_tiles, run

from geotl.console import warn_once
from geotl.errors import RecipeError
from geotl.experiments.recipe import Recipe, dump, load, reference, schema, written_text
from geotl.experiments.spellings import WRITTEN

PAIRS = [  # as before, as today, what is set
    ("split.draws", "split.repeats", "3"),
    ("split.folds", "split.inner_folds", "4"),
    ("labels.unlabelled", "labels.unlabelled_windows", "9"),
    ("labels.step_px", "labels.stride_px", "8"),
    ("model.fresh", "model.allow_random", "[layer4]"),
    ("model.cut_after", "model.truncate_after", "layer3"),
    ("model.stages", "model.feature_stages", "[layer2, layer3]"),
    ("model.hold_batchnorm", "model.freeze_batchnorm", "true"),
    ("freeze_until", "model.freeze_until", "layer1"),
    ("probe.unlabelled", "probe.semi_supervised", "soft_labels"),
]
VALUES = [("training", "train"), ("transductive", "train_and_test")]
NEEDED = {  # without which a key contradicts the defaults
    "labels.unlabelled": [
        "data.scenes=a.tif",
        "labels.path=b.gpkg",
        "task=tiles",
        "probe.semi_supervised=soft_labels",
    ],
    "freeze_until": ["strategy=finetune"],
}


def stating(folder: Path, key: str, value: str) -> Path:
    """A recipe that states one key, in YAML."""
    path = folder / "mine.yaml"
    section, _, name = key.rpartition(".")
    path.write_text(f"{section}: {{{name}: {value}}}\n" if section else f"{name}: {value}\n")
    return path


def test_every_key_of_the_table_is_tried() -> None:
    assert {old: new for old, new, _ in PAIRS} == WRITTEN


@pytest.mark.parametrize(("old", "new", "value"), PAIRS)
def test_an_old_key_works_and_warns(tmp_path: Path, old: str, new: str, value: str) -> None:
    more = NEEDED.get(old, [])
    today, lines = load(stating(tmp_path, new, value), more, warn=pytest.fail), list[str]()
    earlier = load(stating(tmp_path, old, value), more, warn=lines.append)
    assert earlier == today != load(None, ["name=mine", *more])
    assert len(lines) == 1
    assert f"{old} is now {new}" in lines[0]
    assert "\n" not in lines[0]


@pytest.mark.parametrize(("old", "new", "value"), PAIRS)
def test_an_old_key_of_the_command_line_works_and_warns(old: str, new: str, value: str) -> None:
    more, lines = NEEDED.get(old, []), list[str]()
    today = load(None, [*more, f"{new}={value}"], warn=pytest.fail)
    assert load(None, [*more, f"{old}={value}"], warn=lines.append) == today
    assert len(lines) == 1
    assert f"{old} is now {new}" in lines[0]


@pytest.mark.parametrize(("old", "new"), VALUES)
def test_an_old_value_works_and_warns(tmp_path: Path, old: str, new: str) -> None:
    more, lines = ["model.weights=w.pth"], list[str]()
    today = load(None, [*more, f"model.adabn={new}", "name=mine"], warn=pytest.fail)
    assert load(stating(tmp_path, "model.adabn", old), more, warn=lines.append) == today
    assert load(None, [*more, f"model.adabn={old}", "name=mine"], warn=lines.append) == today
    assert lines == [lines[0]] * 2
    assert f"model.adabn={old} is now model.adabn={new}" in lines[0]


def test_the_warning_comes_once_on_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warn_once.cache_clear()
    for _ in range(2):
        load(stating(tmp_path, "split.draws", "2"))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("geotl: recipe: split.draws is now split.repeats; ")


def test_a_key_under_both_names_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("split: {draws: 2, repeats: 3}\nfreeze_until: a\nmodel: {freeze_until: b}\n")
    with pytest.raises(RecipeError) as fault:
        load(path, warn=lambda _: None)
    assert f"{path}: split.repeats: given as split.draws too, its old name; keep one" in str(
        fault.value
    )
    assert "model.freeze_until: given as freeze_until too" in str(fault.value)


def test_faults_name_keys_as_they_are_written_today() -> None:
    for text, fault in {
        "split.draws=0": "split.draws: given 0",  # as it was typed
        "model.adabn=both": "model.adabn: given both; allowed: one of none, train, train_and_test",
        "model.adabn=train_and_test": "model.adabn: given train_and_test with model.weights none",
        "split.repeat=3": "did you mean 'split.repeats'?",
    }.items():
        with pytest.raises(RecipeError) as raised:
            load(None, [text], warn=lambda _: None)
        expected = fault.replace("split.draws", "split.repeats")
        assert expected in str(raised.value), text


def test_schema_reference_and_shown_recipes_have_todays_names_alone() -> None:
    text = written_text(Recipe()) + reference()
    known = schema()["$defs"]
    for old, new, _ in PAIRS:
        assert f"`{new}`" in text
        assert f"`{old}`" not in text
        section, _, name = new.rpartition(".")
        assert name in known[section.capitalize()]["properties"]
    shown = yaml.safe_load(written_text(Recipe()))
    assert shown["split"]["repeats"] == 1
    assert "draws" not in shown["split"]
    assert shown["model"]["freeze_until"] is None
    assert "freeze_until" not in shown


def test_a_written_recipe_is_read_back_equal_and_without_a_warning(tmp_path: Path) -> None:
    recipe = load(None, ["name=mine", "split.repeats=3", "model.weights=w.pth"])
    recipe = load(None, ["name=mine", "model.weights=w.pth", "model.adabn=train_and_test"])
    path = tmp_path / "mine.yaml"
    path.write_text(written_text(recipe))
    assert load(path, warn=pytest.fail) == recipe


def test_the_record_of_a_recipe_keeps_its_names() -> None:
    """Checksums, model files and studies hold this text: a new spelling must not change it."""
    recipe = load(None, ["split.repeats=3", "model.truncate_after=layer3", "model.weights=w.pth"])
    record = yaml.safe_load(dump(recipe))
    assert record["split"]["draws"] == 3
    assert record["split"]["folds"] == 5
    assert record["model"]["cut_after"] == "layer3"
    assert record["freeze_until"] is None
    assert record["probe"]["unlabelled"] == "none"


def test_a_run_begun_with_old_names_is_finished_alike_and_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recipe.yaml of a run of an earlier version states the old names."""
    tiles, out = made_tiles(tmp_path / "tiles", 6), tmp_path / "run"
    assert run(tiles, out, "strategy=probe", "split.folds=2") == 0
    stated = (out / "recipe.yaml").read_text()
    assert "inner_folds: 2" in stated
    assert "cut_after" not in stated
    earlier = load(out / "recipe.yaml")
    (out / "recipe.yaml").write_text(dump(earlier))
    model = (out / "model.safetensors").read_bytes()
    warn_once.cache_clear()
    capsys.readouterr()
    again = ("strategy=probe", "split.inner_folds=2")
    assert run(tiles, out, *again, options=("--resume",)) == 0
    assert "already finished" in capsys.readouterr().out
    assert run(tiles, out, *again) == 2
    assert "this run is already finished" in capsys.readouterr().err
    assert (out / "model.safetensors").read_bytes() == model
